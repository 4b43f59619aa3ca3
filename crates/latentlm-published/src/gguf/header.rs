//! The header of a GGUF file: metadata, and where each tensor's numbers lie. Counts and lengths in it are compared with
//! the size of the file before memory is taken.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;

use super::blocks::Packing;

/// How a GGUF file begins.
pub(super) const MAGIC: [u8; 4] = *b"GGUF";
/// Largest header that is read. Half of it would be a vocabulary of a million tokens.
const MOST_HEADER_BYTES: u64 = 64 << 20;
/// Largest number of tensors, and of keys.
const MOST_ENTRIES: u64 = 1 << 16;
/// Largest number of items in a list.
const MOST_ITEMS: u64 = 1 << 22;
/// Largest number of axes of a tensor.
const MOST_AXES: u32 = 4;
/// Tensors begin at multiples of this number of bytes, unless the metadata has another.
const ALIGNMENT: u64 = 32;
const MOST_ALIGNMENT: u64 = 1 << 20;

const CUT: &str = "is cut or damaged: its header does not end within the file";

/// A value of the metadata.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Value {
    Integer(i64),
    Float(f64),
    Truth(bool),
    Text(String),
    Integers(Vec<i64>),
    Texts(Vec<String>),
    /// Values that none of our models has: other lists, and whole numbers beyond 63 bits.
    Other,
}

/// Types of values, by their numbers in a file.
mod kind {
    pub(super) const U8: u32 = 0;
    pub(super) const I8: u32 = 1;
    pub(super) const U16: u32 = 2;
    pub(super) const I16: u32 = 3;
    pub(super) const U32: u32 = 4;
    pub(super) const I32: u32 = 5;
    pub(super) const F32: u32 = 6;
    pub(super) const BOOL: u32 = 7;
    pub(super) const TEXT: u32 = 8;
    pub(super) const LIST: u32 = 9;
    pub(super) const U64: u32 = 10;
    pub(super) const I64: u32 = 11;
    pub(super) const F64: u32 = 12;
}

/// Where a tensor's numbers lie.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct TensorInfo {
    pub(super) name: String,
    /// Rows first, as PyTorch has it.
    pub(super) shape: Vec<usize>,
    pub(super) packing: Packing,
    /// Bytes of the file in front of the numbers.
    pub(super) start: u64,
    pub(super) bytes: usize,
    /// Numbers of the tensor.
    pub(super) numbers: u64,
}

/// The part of a file before the numbers.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Header {
    pub(super) metadata: BTreeMap<String, Value>,
    pub(super) tensors: Vec<TensorInfo>,
}

impl Header {
    /// Reads the header of a file of `file_bytes` bytes.
    ///
    /// # Errors
    /// With what is wrong with the file.
    pub(super) fn read(reader: &mut dyn Read, file_bytes: u64) -> Result<Self, String> {
        let mut source = Source {
            reader,
            left: file_bytes.min(MOST_HEADER_BYTES),
            taken: 0,
        };
        if source.array::<4>()? != MAGIC {
            return Err("is no GGUF file".into());
        }
        let version = source.u32()?;
        if matches!(version.swap_bytes(), 2 | 3) {
            return Err("has its numbers in big-endian order, which can't be read".into());
        }
        if !matches!(version, 2 | 3) {
            return Err(format!(
                "is of version {version} of GGUF; versions 2 and 3 can be read"
            ));
        }
        let (tensors, keys) = (source.u64()?, source.u64()?);
        for (count, what) in [(tensors, "tensors"), (keys, "keys")] {
            if count > MOST_ENTRIES {
                return Err(format!(
                    "tells of {count} {what}; at most {MOST_ENTRIES} can be read"
                ));
            }
        }
        let mut metadata = BTreeMap::new();
        for _ in 0..keys {
            let key = source.text()?;
            let kind = source.u32()?;
            let value = source.value(kind)?;
            if metadata.contains_key(&key) {
                return Err(format!("has `{}` twice", key.escape_debug()));
            }
            metadata.insert(key, value);
        }
        let alignment = alignment(&metadata)?;
        let mut claims = Vec::new();
        for _ in 0..tensors {
            claims.push(Claim::read(&mut source)?);
        }
        let data_start = source.taken.next_multiple_of(alignment);
        let tensors = placed(claims, data_start, alignment, file_bytes)?;
        Ok(Self { metadata, tensors })
    }
}

/// The multiple of bytes at which tensors begin.
fn alignment(metadata: &BTreeMap<String, Value>) -> Result<u64, String> {
    let bytes = match metadata.get("general.alignment") {
        None => return Ok(ALIGNMENT),
        Some(Value::Integer(bytes)) => u64::try_from(*bytes).unwrap_or(0),
        Some(_) => 0,
    };
    if bytes.is_power_of_two() && bytes <= MOST_ALIGNMENT {
        return Ok(bytes);
    }
    Err(format!(
        "has a general.alignment that is no power of two up to {MOST_ALIGNMENT}"
    ))
}

/// An entry of the header: a tensor that the file claims to have.
struct Claim {
    name: String,
    /// The axis whose numbers are neighbours comes first.
    axes: Vec<u64>,
    packing: Packing,
    /// Bytes behind the header.
    offset: u64,
}

impl Claim {
    fn read(source: &mut Source<'_>) -> Result<Self, String> {
        let name = source.text()?;
        let shown = name.escape_debug();
        let count = source.u32()?;
        if count > MOST_AXES {
            return Err(format!(
                "has `{shown}` of {count} axes; at most {MOST_AXES} can be read"
            ));
        }
        let mut axes = Vec::new();
        for _ in 0..count {
            axes.push(source.u64()?);
        }
        let packing = Packing::of(source.u32()?);
        let packing = packing.map_err(|what| format!("has `{shown}` as {what}"))?;
        let offset = source.u64()?;
        Ok(Self {
            name,
            axes,
            packing,
            offset,
        })
    }

    /// Its place in a file whose numbers begin at `data_start`.
    fn placed(self, data_start: u64, alignment: u64) -> Result<TensorInfo, String> {
        let shown = self.name.escape_debug();
        let damaged = |why: &str| Err(format!("is damaged: its tensor `{shown}` {why}"));
        let mut numbers = 1_u64;
        let mut shape = Vec::with_capacity(self.axes.len());
        for axis in self.axes.iter().rev() {
            let (Some(product), Ok(size)) = (numbers.checked_mul(*axis), usize::try_from(*axis))
            else {
                return damaged("is larger than any file");
            };
            numbers = product;
            shape.push(size);
        }
        if numbers == 0 {
            return damaged("has no numbers");
        }
        let block = self.packing.block_numbers() as u64;
        if !self.axes.first().unwrap_or(&1).is_multiple_of(block) {
            return damaged(&format!("has rows that are no whole blocks of {block}"));
        }
        let bytes = (numbers / block).checked_mul(self.packing.block_bytes() as u64);
        let bytes = bytes.and_then(|bytes| usize::try_from(bytes).ok());
        let (Some(bytes), Some(start)) = (bytes, data_start.checked_add(self.offset)) else {
            return damaged("is larger than any file");
        };
        if !self.offset.is_multiple_of(alignment) {
            return damaged(&format!(
                "does not begin at a multiple of {alignment} bytes"
            ));
        }
        Ok(TensorInfo {
            name: self.name,
            shape,
            packing: self.packing,
            start,
            bytes,
            numbers,
        })
    }
}

/// The places of all tensors, in the order of the file. None overlaps another, so that all together they have no more
/// numbers than the file has room for.
fn placed(
    claims: Vec<Claim>,
    data_start: u64,
    alignment: u64,
    file_bytes: u64,
) -> Result<Vec<TensorInfo>, String> {
    let mut names = BTreeSet::new();
    let mut tensors = Vec::with_capacity(claims.len());
    for claim in claims {
        if !names.insert(claim.name.clone()) {
            return Err(format!("has `{}` twice", claim.name.escape_debug()));
        }
        tensors.push(claim.placed(data_start, alignment)?);
    }
    tensors.sort_by_key(|tensor| tensor.start);
    let mut end = data_start;
    for tensor in &tensors {
        if tensor.start < end {
            return Err(format!(
                "is damaged: its tensor `{}` overlaps another",
                tensor.name.escape_debug()
            ));
        }
        end = tensor.start.saturating_add(tensor.bytes as u64);
    }
    if !tensors.is_empty() && end > file_bytes {
        return Err(format!(
            "is cut: {file_bytes} bytes are there, {end} are wanted; fetch it again"
        ));
    }
    Ok(tensors)
}

/// The bytes of a header, no more of them than there are.
struct Source<'a> {
    reader: &'a mut dyn Read,
    left: u64,
    taken: u64,
}

impl Source<'_> {
    /// Takes `count` bytes of those that are left.
    fn take(&mut self, count: u64) -> Result<(), String> {
        self.left = self.left.checked_sub(count).ok_or(CUT)?;
        self.taken += count;
        Ok(())
    }

    fn fill(&mut self, bytes: &mut [u8]) -> Result<(), String> {
        let read = self.reader.read_exact(bytes);
        read.map_err(|error| format!("can't be read: {error}"))
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], String> {
        self.take(N as u64)?;
        let mut bytes = [0; N];
        self.fill(&mut bytes)?;
        Ok(bytes)
    }

    fn u32(&mut self) -> Result<u32, String> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    fn u64(&mut self) -> Result<u64, String> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    fn text(&mut self) -> Result<String, String> {
        let length = self.u64()?;
        // The file has these bytes: no more memory than it is large.
        self.take(length)?;
        let mut bytes = vec![0; length as usize];
        self.fill(&mut bytes)?;
        String::from_utf8(bytes).map_err(|_| "is damaged: a text in it is no UTF-8".to_owned())
    }

    /// A value of this type.
    fn value(&mut self, kind: u32) -> Result<Value, String> {
        if kind == kind::LIST {
            return self.list();
        }
        let integer = match kind {
            kind::U8 => i64::from(self.array::<1>()?[0]),
            kind::I8 => i64::from(i8::from_le_bytes(self.array()?)),
            kind::U16 => i64::from(u16::from_le_bytes(self.array()?)),
            kind::I16 => i64::from(i16::from_le_bytes(self.array()?)),
            kind::U32 => i64::from(self.u32()?),
            kind::I32 => i64::from(i32::from_le_bytes(self.array()?)),
            kind::I64 => i64::from_le_bytes(self.array()?),
            kind::U64 => {
                let integer = i64::try_from(self.u64()?);
                return Ok(integer.map_or(Value::Other, Value::Integer));
            }
            kind::F32 => return Ok(Value::Float(decimal(f32::from_le_bytes(self.array()?)))),
            kind::F64 => return Ok(Value::Float(f64::from_le_bytes(self.array()?))),
            kind::BOOL => return Ok(Value::Truth(self.array::<1>()?[0] != 0)),
            kind::TEXT => return self.text().map(Value::Text),
            other => return Err(format!("is damaged: its metadata has a type {other}")),
        };
        Ok(Value::Integer(integer))
    }

    fn list(&mut self) -> Result<Value, String> {
        let (kind, count) = (self.u32()?, self.u64()?);
        if kind == kind::LIST {
            return Err("has a list of lists in its metadata, which can't be read".into());
        }
        if count > MOST_ITEMS {
            return Err(format!(
                "has a list of {count} items; at most {MOST_ITEMS} can be read"
            ));
        }
        // Nothing is reserved by the count alone: an item is kept once it was read.
        let (mut integers, mut texts) = (Vec::new(), Vec::new());
        for _ in 0..count {
            match self.value(kind)? {
                Value::Integer(integer) => integers.push(integer),
                Value::Text(text) => texts.push(text),
                _ => {}
            }
        }
        Ok(match kind {
            kind::TEXT => Value::Texts(texts),
            kind::F32 | kind::F64 | kind::BOOL => Value::Other,
            _ if integers.len() as u64 == count => Value::Integers(integers),
            _ => Value::Other,
        })
    }
}

/// The number that the shortest decimal of a float32 stands for, as a configuration in JSON has it: 1e-6 and not
/// 9.999999974752427e-7.
fn decimal(number: f32) -> f64 {
    number
        .to_string()
        .parse()
        .unwrap_or_else(|_| f64::from(number))
}
