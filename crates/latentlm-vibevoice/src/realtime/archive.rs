//! Zip archives as `torch.save` writes them: found by their directory, stored or deflated, nothing else.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::io::Read;

use flate2::read::DeflateDecoder;

/// Bytes that a voice may have, as a file and once it is unpacked. Published ones have a few million.
pub(super) const MOST_BYTES: usize = 128 << 20;

const CUT: &str = "is cut short or damaged: its archive does not hold together";
/// Where the directory is, in the last bytes of an archive.
const END: [u8; 4] = *b"PK\x05\x06";
const END_BYTES: usize = 22;
/// Bytes of a comment behind it at most.
const MOST_COMMENT: usize = 0xffff;
/// A file in the directory.
const ENTRY: [u8; 4] = *b"PK\x01\x02";
const ENTRY_BYTES: usize = 46;
/// A file where its bytes are.
const LOCAL: [u8; 4] = *b"PK\x03\x04";
const LOCAL_BYTES: usize = 30;
/// Sizes of files that do not fit into 32 bits.
const LARGE: usize = 0xffff_ffff;

/// An archive in memory.
#[derive(Debug)]
pub(super) struct Archive<'a> {
    bytes: &'a [u8],
    entries: BTreeMap<&'a [u8], Entry>,
    /// Bytes that may still be unpacked.
    left: usize,
}

/// A file of an archive.
#[derive(Debug, Clone, Copy)]
struct Entry {
    method: usize,
    packed: usize,
    unpacked: usize,
    /// Where its local header is.
    at: usize,
}

impl<'a> Archive<'a> {
    /// Reads the directory.
    ///
    /// # Errors
    /// With what is wrong with the archive.
    pub(super) fn open(bytes: &'a [u8]) -> Result<Self, String> {
        let end = end_of(bytes).ok_or(CUT)?;
        let count = u16_at(bytes, end + 10).ok_or(CUT)?;
        let mut place = u32_at(bytes, end + 16).ok_or(CUT)?;
        if place == LARGE {
            return Err(format!("is larger than {MOST_BYTES} bytes"));
        }
        let mut entries = BTreeMap::new();
        for _ in 0..count {
            let (name, entry, next) = entry_at(bytes, place).ok_or(CUT)?;
            entries.insert(name, entry);
            place = next;
        }
        Ok(Self {
            bytes,
            entries,
            left: MOST_BYTES,
        })
    }

    /// The folder, with a slash at its end or empty, of the file that is called so.
    pub(super) fn folder_of(&self, file: &str) -> Option<String> {
        for name in self.entries.keys() {
            let name = std::str::from_utf8(name).ok()?;
            if let Some(folder) = name.strip_suffix(file)
                && (folder.is_empty() || folder.ends_with('/'))
            {
                return Some(folder.to_owned());
            }
        }
        None
    }

    /// The bytes of a file; `None` if there is none of that name.
    ///
    /// # Errors
    /// If it is damaged, packed in another way, or all files that were read are too large together.
    pub(super) fn read(&mut self, name: &str) -> Result<Option<Cow<'a, [u8]>>, String> {
        let Some(&entry) = self.entries.get(name.as_bytes()) else {
            return Ok(None);
        };
        let packed = self.packed(&entry).ok_or(CUT)?;
        match entry.method {
            0 if entry.packed == entry.unpacked => Ok(Some(Cow::Borrowed(packed))),
            8 => {
                let left = self.left.checked_sub(entry.unpacked);
                self.left = left.ok_or_else(|| format!("unpacks to over {MOST_BYTES} bytes"))?;
                let mut unpacked = Vec::new();
                // One more than it says shows whether it says too little.
                let most = entry.unpacked as u64 + 1;
                let read = DeflateDecoder::new(packed)
                    .take(most)
                    .read_to_end(&mut unpacked);
                if read.is_err() || unpacked.len() != entry.unpacked {
                    return Err(CUT.into());
                }
                Ok(Some(Cow::Owned(unpacked)))
            }
            0 => Err(CUT.into()),
            method => Err(format!(
                "is packed by method {method}; stored and deflated files can be read"
            )),
        }
    }

    /// The bytes of a file as they lie in the archive.
    fn packed(&self, entry: &Entry) -> Option<&'a [u8]> {
        if bytes_at::<4>(self.bytes, entry.at)? != LOCAL {
            return None;
        }
        let name = u16_at(self.bytes, entry.at.checked_add(26)?)?;
        let extra = u16_at(self.bytes, entry.at.checked_add(28)?)?;
        let start = entry.at.checked_add(LOCAL_BYTES + name + extra)?;
        self.bytes.get(start..start.checked_add(entry.packed)?)
    }
}

/// Where the end of the directory is: the last place that looks so.
fn end_of(bytes: &[u8]) -> Option<usize> {
    let last = bytes.len().checked_sub(END_BYTES)?;
    let first = last.saturating_sub(MOST_COMMENT);
    (first..=last)
        .rev()
        .find(|place| bytes_at::<4>(bytes, *place) == Some(END))
}

/// A file of the directory, and where the next one is.
fn entry_at(bytes: &[u8], place: usize) -> Option<(&[u8], Entry, usize)> {
    let header = bytes.get(place..place.checked_add(ENTRY_BYTES)?)?;
    if bytes_at::<4>(header, 0)? != ENTRY {
        return None;
    }
    let entry = Entry {
        method: u16_at(header, 10)?,
        packed: u32_at(header, 20)?,
        unpacked: u32_at(header, 24)?,
        at: u32_at(header, 42)?,
    };
    let (name, extra, comment) = (
        u16_at(header, 28)?,
        u16_at(header, 30)?,
        u16_at(header, 32)?,
    );
    let start = place + ENTRY_BYTES;
    let name = bytes.get(start..start.checked_add(name)?)?;
    Some((name, entry, start + name.len() + extra + comment))
}

fn bytes_at<const N: usize>(bytes: &[u8], place: usize) -> Option<[u8; N]> {
    bytes.get(place..place.checked_add(N)?)?.try_into().ok()
}

fn u16_at(bytes: &[u8], place: usize) -> Option<usize> {
    Some(usize::from(u16::from_le_bytes(bytes_at(bytes, place)?)))
}

fn u32_at(bytes: &[u8], place: usize) -> Option<usize> {
    usize::try_from(u32::from_le_bytes(bytes_at(bytes, place)?)).ok()
}
