//! A machine for the few opcodes of `pickle` that a saved voice needs. It knows a handful of names, which only
//! tell what kind a value is; it calls nothing.
//!
//! Values lie in one list and name each other by their places. So a value that is used a thousand times is
//! stored once, and each byte of the pickle adds at most one value: memory is bounded by the file.

use std::collections::BTreeMap;

use burn::tensor::DType;

/// Bytes of a pickle at most; published ones have about 20,000.
const MOST_BYTES: usize = 1 << 20;
/// Axes of a tensor at most.
const MOST_AXES: usize = 4;
const CUT: &str = "its pickle is cut short";
const ODD: &str = "its pickle is none that torch.save writes";

/// A place in [`Pickle::values`].
pub(super) type Place = usize;

/// What a pickle holds.
#[derive(Debug)]
pub(super) struct Pickle {
    values: Vec<Value>,
    root: Place,
}

/// A value of a pickle.
#[derive(Debug)]
pub(super) enum Value {
    /// `None`, a boolean or a fraction: nothing of a voice depends on it.
    Nothing,
    /// A whole number.
    Whole(i64),
    /// A text.
    Text(String),
    /// A tuple.
    Tuple(Vec<Place>),
    /// A list.
    List(Vec<Place>),
    /// A dictionary, or an object with its fields.
    Fields {
        /// Keys and values.
        pairs: Vec<(Place, Place)>,
        /// Dictionary of an object's fields that were set afterwards.
        state: Option<Place>,
    },
    /// A known name.
    Known(Known),
    /// Numbers in a file of the archive.
    Storage {
        /// Place of the file's name.
        key: Place,
        /// Their type.
        dtype: DType,
    },
    /// A part of a storage as a tensor.
    Tensor(StoredTensor),
}

/// Where a tensor lies in a storage.
#[derive(Debug, Clone)]
pub(super) struct StoredTensor {
    /// Place of the storage.
    pub(super) storage: Place,
    /// First number of it.
    pub(super) offset: usize,
    /// Length of each axis.
    pub(super) shape: Vec<usize>,
    /// Numbers from one to the next along each axis.
    pub(super) strides: Vec<usize>,
}

/// The names that are known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Known {
    /// `collections.OrderedDict`.
    OrderedDict,
    /// `torch._utils._rebuild_tensor_v2`.
    RebuildTensor,
    /// `torch.FloatStorage` and its kind.
    Storage(DType),
    /// `transformers.cache_utils.DynamicCache`.
    Cache,
    /// `transformers.modeling_outputs.BaseModelOutputWithPast`.
    Output,
}

impl Known {
    fn of(module: &str, name: &str) -> Option<Self> {
        Some(match (module, name) {
            ("collections", "OrderedDict") => Self::OrderedDict,
            ("torch._utils", "_rebuild_tensor_v2") => Self::RebuildTensor,
            ("torch", "FloatStorage") => Self::Storage(DType::F32),
            ("torch", "BFloat16Storage") => Self::Storage(DType::BF16),
            ("torch", "HalfStorage") => Self::Storage(DType::F16),
            ("transformers.cache_utils", "DynamicCache") => Self::Cache,
            ("transformers.modeling_outputs", "BaseModelOutputWithPast") => Self::Output,
            _ => return None,
        })
    }
}

impl Pickle {
    /// Runs a pickle to its end.
    ///
    /// # Errors
    /// With what is wrong: an unknown name or opcode, or an end that comes too early.
    pub(super) fn read(bytes: &[u8]) -> Result<Self, String> {
        if bytes.len() > MOST_BYTES {
            return Err(format!(
                "its pickle has {} bytes; a voice's has {MOST_BYTES} at most",
                bytes.len()
            ));
        }
        let mut machine = Machine {
            bytes,
            values: Vec::new(),
            stack: Vec::new(),
            marks: Vec::new(),
            memo: BTreeMap::new(),
        };
        let root = machine.run()?;
        Ok(Self {
            values: machine.values,
            root,
        })
    }

    /// The value that the pickle stands for.
    pub(super) fn root(&self) -> Place {
        self.root
    }

    /// The value at a place.
    pub(super) fn value(&self, place: Place) -> &Value {
        &self.values[place]
    }

    /// The value of a field or key, the last if there are several.
    pub(super) fn field(&self, object: Place, name: &str) -> Option<Place> {
        let Value::Fields { pairs, state } = self.value(object) else {
            return None;
        };
        let own = state.and_then(|state| match self.value(state) {
            Value::Fields { pairs, .. } => self.pair(pairs, name),
            _ => None,
        });
        own.or_else(|| self.pair(pairs, name))
    }

    fn pair(&self, pairs: &[(Place, Place)], name: &str) -> Option<Place> {
        let mut pairs = pairs.iter().rev();
        let (_, value) = pairs.find(|(key, _)| self.text(*key) == Some(name))?;
        Some(*value)
    }

    /// The values of a list or tuple.
    pub(super) fn items(&self, list: Place) -> Option<&[Place]> {
        match self.value(list) {
            Value::List(items) | Value::Tuple(items) => Some(items),
            _ => None,
        }
    }

    /// A text.
    pub(super) fn text(&self, place: Place) -> Option<&str> {
        match self.value(place) {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }
}

struct Machine<'a> {
    /// What is still to be read.
    bytes: &'a [u8],
    values: Vec<Value>,
    stack: Vec<Place>,
    /// Heights of the stack at marks.
    marks: Vec<usize>,
    memo: BTreeMap<u32, Place>,
}

impl<'a> Machine<'a> {
    fn run(&mut self) -> Result<Place, String> {
        loop {
            let [opcode] = self.take()?;
            match opcode {
                b'.' => return self.pop(),
                // The version, and lengths of frames.
                0x80 => {
                    self.take::<1>()?;
                }
                0x95 => {
                    self.take::<8>()?;
                }
                b'(' => self.marks.push(self.stack.len()),
                b'q' => {
                    let [index] = self.take()?;
                    self.remember(u32::from(index))?;
                }
                b'r' => {
                    let index = u32::from_le_bytes(self.take()?);
                    self.remember(index)?;
                }
                0x94 => self.remember(self.memo.len() as u32)?,
                b'h' => {
                    let [index] = self.take()?;
                    self.recall(u32::from(index))?;
                }
                b'j' => {
                    let index = u32::from_le_bytes(self.take()?);
                    self.recall(index)?;
                }
                b'a' | b'e' | b's' | b'u' | b'b' => self.change(opcode)?,
                _ => {
                    let value = self.make(opcode)?;
                    self.push(value);
                }
            }
        }
    }

    /// The value that an opcode makes.
    fn make(&mut self, opcode: u8) -> Result<Value, String> {
        Ok(match opcode {
            b'N' | 0x88 | 0x89 => Value::Nothing,
            b'G' => {
                self.take::<8>()?;
                Value::Nothing
            }
            b'K' => Value::Whole(i64::from(u8::from_le_bytes(self.take()?))),
            b'M' => Value::Whole(i64::from(u16::from_le_bytes(self.take()?))),
            b'J' => Value::Whole(i64::from(i32::from_le_bytes(self.take()?))),
            0x8a => Value::Whole(self.long()?),
            b'X' => {
                let length = u32::from_le_bytes(self.take()?);
                self.text(length as usize)?
            }
            0x8c => {
                let [length] = self.take()?;
                self.text(usize::from(length))?
            }
            b'}' => object(),
            b']' => Value::List(Vec::new()),
            b')' => Value::Tuple(Vec::new()),
            b't' => Value::Tuple(self.since_mark()?),
            0x85 => Value::Tuple(self.last(1)?),
            0x86 => Value::Tuple(self.last(2)?),
            0x87 => Value::Tuple(self.last(3)?),
            b'c' => {
                let (module, name) = (self.line()?, self.line()?);
                known(&module, &name)?
            }
            0x93 => self.named()?,
            b'Q' => self.storage()?,
            b'R' | 0x81 => self.called()?,
            other => {
                return Err(format!(
                    "its pickle has the opcode {other:#04x}, which {UNREAD}"
                ));
            }
        })
    }

    /// Puts values into a list or dictionary, or gives an object its fields.
    fn change(&mut self, opcode: u8) -> Result<(), String> {
        let items = match opcode {
            b'a' | b'b' => self.last(1)?,
            b's' => self.last(2)?,
            _ => self.since_mark()?,
        };
        let target = *self.stack.last().ok_or(ODD)?;
        match (opcode, &mut self.values[target]) {
            (b'a' | b'e', Value::List(list)) => list.extend(items),
            (b's' | b'u', Value::Fields { pairs, .. }) if items.len().is_multiple_of(2) => {
                pairs.extend(items.chunks_exact(2).map(|pair| (pair[0], pair[1])));
            }
            (b'b', Value::Fields { state, .. }) => *state = Some(items[0]),
            _ => return Err(ODD.into()),
        }
        Ok(())
    }

    /// What a name and its arguments stand for. Nothing is called.
    fn called(&mut self) -> Result<Value, String> {
        let pair = self.last(2)?;
        let (Value::Known(name), Value::Tuple(arguments)) =
            (&self.values[pair[0]], &self.values[pair[1]])
        else {
            return Err(ODD.into());
        };
        match name {
            Known::OrderedDict | Known::Cache if arguments.is_empty() => Ok(object()),
            // Its fields follow by their names.
            Known::Output => Ok(object()),
            Known::RebuildTensor => self.tensor(arguments).map(Value::Tensor),
            _ => Err(ODD.into()),
        }
    }

    /// A tensor of a storage, an offset, a shape and strides; what follows is of training.
    fn tensor(&self, arguments: &[Place]) -> Result<StoredTensor, String> {
        let &[storage, offset, shape, strides, ..] = arguments else {
            return Err(ODD.into());
        };
        let (shape, strides) = (self.sizes(shape)?, self.sizes(strides)?);
        let is_storage = matches!(self.values[storage], Value::Storage { .. });
        if !is_storage || shape.len() != strides.len() {
            return Err(ODD.into());
        }
        Ok(StoredTensor {
            storage,
            offset: self.size(offset)?,
            shape,
            strides,
        })
    }

    fn sizes(&self, tuple: Place) -> Result<Vec<usize>, String> {
        let Value::Tuple(items) = &self.values[tuple] else {
            return Err(ODD.into());
        };
        if items.len() > MOST_AXES {
            return Err(format!("has a tensor of over {MOST_AXES} axes"));
        }
        items.iter().map(|item| self.size(*item)).collect()
    }

    fn size(&self, place: Place) -> Result<usize, String> {
        match &self.values[place] {
            Value::Whole(number) => usize::try_from(*number).map_err(|_| ODD.to_owned()),
            _ => Err(ODD.into()),
        }
    }

    /// `('storage', type, file, device, count)`. Which device it was on does not matter.
    fn storage(&mut self) -> Result<Value, String> {
        let place = self.pop()?;
        let Value::Tuple(parts) = &self.values[place] else {
            return Err(ODD.into());
        };
        let &[word, kind, key, ..] = &parts[..] else {
            return Err(ODD.into());
        };
        let is_storage = matches!(&self.values[word], Value::Text(word) if word == "storage");
        match (&self.values[kind], &self.values[key]) {
            (Value::Known(Known::Storage(dtype)), Value::Text(_)) if is_storage => {
                Ok(Value::Storage { key, dtype: *dtype })
            }
            _ => Err(ODD.into()),
        }
    }

    /// The name whose two parts are on the stack.
    fn named(&mut self) -> Result<Value, String> {
        let pair = self.last(2)?;
        match (&self.values[pair[0]], &self.values[pair[1]]) {
            (Value::Text(module), Value::Text(name)) => known(module, name),
            _ => Err(ODD.into()),
        }
    }

    /// A whole number of up to 8 bytes.
    fn long(&mut self) -> Result<i64, String> {
        let [length] = self.take()?;
        let bytes = self.slice(usize::from(length))?;
        let mut wide = match bytes.last() {
            Some(last) if *last >= 0x80 => [0xff; 8],
            _ => [0; 8],
        };
        let place = wide.get_mut(..bytes.len()).ok_or(ODD)?;
        place.copy_from_slice(bytes);
        Ok(i64::from_le_bytes(wide))
    }

    fn text(&mut self, length: usize) -> Result<Value, String> {
        let text = std::str::from_utf8(self.slice(length)?);
        Ok(Value::Text(text.map_err(|_| ODD)?.to_owned()))
    }

    fn line(&mut self) -> Result<String, String> {
        let length = self.bytes.iter().position(|byte| *byte == b'\n');
        let line = self.slice(length.ok_or(CUT)?)?;
        let line = String::from_utf8_lossy(line).into_owned();
        self.take::<1>()?;
        Ok(line)
    }

    fn slice(&mut self, length: usize) -> Result<&'a [u8], String> {
        let (taken, rest) = self.bytes.split_at_checked(length).ok_or(CUT)?;
        self.bytes = rest;
        Ok(taken)
    }

    fn take<const N: usize>(&mut self) -> Result<[u8; N], String> {
        let (taken, rest) = self.bytes.split_first_chunk::<N>().ok_or(CUT)?;
        self.bytes = rest;
        Ok(*taken)
    }

    fn push(&mut self, value: Value) {
        self.stack.push(self.values.len());
        self.values.push(value);
    }

    fn pop(&mut self) -> Result<Place, String> {
        self.last(1).map(|last| last[0])
    }

    /// Takes `count` values from the stack, none from below the last mark.
    fn last(&mut self, count: usize) -> Result<Vec<Place>, String> {
        let floor = self.marks.last().copied().unwrap_or(0);
        let start = self.stack.len().checked_sub(count);
        let start = start.filter(|start| *start >= floor).ok_or(ODD)?;
        Ok(self.stack.split_off(start))
    }

    /// Takes all values since the last mark.
    fn since_mark(&mut self) -> Result<Vec<Place>, String> {
        let start = self.marks.pop().ok_or(ODD)?;
        Ok(self.stack.split_off(start))
    }

    fn remember(&mut self, index: u32) -> Result<(), String> {
        let place = *self.stack.last().ok_or(ODD)?;
        self.memo.insert(index, place);
        Ok(())
    }

    fn recall(&mut self, index: u32) -> Result<(), String> {
        let place = *self.memo.get(&index).ok_or(ODD)?;
        self.stack.push(place);
        Ok(())
    }
}

const UNREAD: &str = "no voice needs; nothing of it was run";
/// Letters of a foreign name in a message.
const MOST_LETTERS: usize = 60;

/// A dictionary or object without fields.
fn object() -> Value {
    Value::Fields {
        pairs: Vec::new(),
        state: None,
    }
}

fn known(module: &str, name: &str) -> Result<Value, String> {
    Known::of(module, name).map(Value::Known).ok_or_else(|| {
        let full: String = format!("{module}.{name}")
            .chars()
            .take(MOST_LETTERS)
            .collect();
        format!("asks for `{}`, which {UNREAD}", full.escape_debug())
    })
}
