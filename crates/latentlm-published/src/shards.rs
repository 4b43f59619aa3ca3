//! Files of a checkpoint: which there are, and whether each is whole. Of weights only headers are read.

use std::collections::BTreeSet;
use std::fmt::{self, Display, Formatter};
use std::fs::{self, File};
use std::io::{ErrorKind, Read, Seek, SeekFrom};
use std::path::{Component, Path, PathBuf};

use latentlm_core::bounds::{LENGTH_BYTES, MOST_HEADER_BYTES, MOST_HEADER_VALUES, check_values};
use latentlm_core::bundle::io_error;
use latentlm_core::disk::text_within;
use serde_json::{Map, Value};

use super::error::{PretrainedError, damaged, json_error, too_large};

/// A single file of weights.
const SINGLE: &str = "model.safetensors";
/// The list of shards, and which tensor is in which.
const INDEX: &str = "model.safetensors.index.json";
/// Bytes of a file that tell a Git LFS pointer; one has fewer than 1024 in all.
pub(crate) const POINTER_BYTES: u64 = 1024;
/// How a Git LFS pointer begins.
const POINTER: &[u8] = b"version https://git-lfs";
/// Largest size of a JSON file in bytes.
const MOST_JSON_BYTES: u64 = 32 << 20;
/// Most values in it: in memory a value is many times larger than its text. An index has two for each tensor.
const MOST_JSON_VALUES: usize = 500_000;
/// Most values in a vocabulary. Qwen2.5's have less than a million.
const MOST_VOCABULARY_VALUES: usize = 2_500_000;

/// The files of a checkpoint: `path` itself, or in the folder `path` either `model.safetensors` or
/// the shards of `model.safetensors.index.json`.
pub(crate) fn files(path: &Path) -> Result<Vec<PathBuf>, PretrainedError> {
    if !path.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let single = path.join(SINGLE);
    let index = path.join(INDEX);
    if single.exists() || !index.exists() {
        return Ok(vec![single]);
    }
    let json = read_json(&index)?;
    let map = json["weight_map"].as_object();
    let map = map.ok_or_else(|| json_error(&index, "has no `weight_map`"))?;
    let shards: BTreeSet<&str> = map.values().filter_map(|shard| shard.as_str()).collect();
    let mut files = Vec::with_capacity(shards.len());
    for shard in shards {
        if !is_inside(shard) {
            let reason = format!(
                "names the shard `{}` outside of its folder: put it, or a link to it, into the folder, and name that",
                shard.escape_debug()
            );
            return Err(json_error(&index, reason));
        }
        files.push(path.join(shard));
    }
    Ok(files)
}

/// Whether a name of a shard leads to a file of the folder or of a folder in it. A link there may lead
/// anywhere, as in the hub's cache.
fn is_inside(shard: &str) -> bool {
    // Backslashes part folders on Windows alone; names of shards have none anywhere.
    let mut parts = Path::new(shard).components();
    !shard.is_empty()
        && !shard.contains(['\\', ':'])
        && parts.all(|part| matches!(part, Component::Normal(_) | Component::CurDir))
}

/// Size of a checkpoint and names of its tensors, from the headers of its whole files.
#[derive(Debug, Default)]
pub(crate) struct Contents {
    /// Bytes of all files; 0 for a GGUF file, whose numbers have no fixed size.
    pub(crate) bytes: u64,
    names: BTreeSet<String>,
}

impl Contents {
    /// Contents of a GGUF file, which has tensors of these names.
    pub(crate) fn of_names(names: Vec<String>) -> Self {
        Self {
            bytes: 0,
            names: names.into_iter().collect(),
        }
    }

    /// Whether a tensor's name has this part.
    pub(crate) fn has(&self, part: &str) -> bool {
        self.names.iter().any(|name| name.contains(part))
    }
}

/// Reads the headers of all files of a checkpoint.
///
/// # Errors
/// If a file can't be read, is missing, empty, cut or only a pointer to one.
pub(crate) fn contents(path: &Path) -> Result<Contents, PretrainedError> {
    let mut contents = Contents::default();
    let mut faults: Vec<(PathBuf, Fault)> = Vec::new();
    let mut data_bytes = 0_u64;
    for file in files(path)? {
        match look(&file)? {
            Look::Whole(shard) => {
                contents.bytes = contents.bytes.saturating_add(shard.bytes);
                data_bytes = data_bytes.saturating_add(shard.data_bytes);
                contents.names.extend(shard.names);
            }
            Look::Fault(fault) => faults.push((file, fault)),
        }
    }
    let single = faults.len() == 1;
    let Some((file, mut fault)) = faults.into_iter().next() else {
        return Ok(contents);
    };
    if fault.wanted.is_none() && single {
        // All tensors but those that are there.
        let missing = total_bytes(path).and_then(|total| total.checked_sub(data_bytes));
        fault.wanted = missing.filter(|bytes| *bytes > 0).map(Wanted::AtLeast);
    }
    Err(PretrainedError::Incomplete {
        path: file,
        reason: fault.to_string(),
    })
}

/// A JSON file of a checkpoint.
///
/// # Errors
/// If it can't be read, is too large, is no JSON, or only a Git LFS pointer to it.
pub(crate) fn read_json(path: &Path) -> Result<Value, PretrainedError> {
    read_values(path, MOST_JSON_VALUES)
}

/// A `tokenizer.json` of a checkpoint.
///
/// # Errors
/// As [`read_json`].
pub(crate) fn read_vocabulary(path: &Path) -> Result<Value, PretrainedError> {
    read_values(path, MOST_VOCABULARY_VALUES)
}

/// A JSON file of at most `most` values.
fn read_values(path: &Path, most: usize) -> Result<Value, PretrainedError> {
    let text = File::open(path).and_then(|file| text_within(file, MOST_JSON_BYTES));
    let text = text.map_err(io_error("read", path))?;
    if let Some(fault) = pointer(text.as_bytes(), text.len() as u64) {
        return Err(PretrainedError::Incomplete {
            path: path.to_owned(),
            reason: fault.to_string(),
        });
    }
    check_values(text.as_bytes(), most).map_err(|error| json_error(path, error))?;
    serde_json::from_str(&text).map_err(|error| json_error(path, error))
}

/// Bytes of all tensors, by the index.
fn total_bytes(path: &Path) -> Option<u64> {
    let json = read_json(&path.join(INDEX)).ok()?;
    json["metadata"]["total_size"].as_u64()
}

enum Look {
    Whole(Shard),
    Fault(Fault),
}

/// The header of a whole file. If a file has no header, only its size is known: its reader says what is wrong with
/// it.
#[derive(Default)]
struct Shard {
    bytes: u64,
    data_bytes: u64,
    names: Vec<String>,
}

/// Why a file is not whole.
pub(crate) struct Fault {
    what: String,
    there: u64,
    wanted: Option<Wanted>,
}

enum Wanted {
    Exactly(u64),
    AtLeast(u64),
}

impl Display for Fault {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} bytes are there", self.what, self.there)?;
        match self.wanted {
            Some(Wanted::Exactly(bytes)) => write!(f, ", {bytes} are wanted")?,
            Some(Wanted::AtLeast(bytes)) => write!(f, ", at least {bytes} are wanted")?,
            None => {}
        }
        f.write_str("; fetch it again")
    }
}

/// Looks at one file.
///
/// # Errors
/// If it can't be read, or its header has too many values.
fn look(path: &Path) -> Result<Look, PretrainedError> {
    let fault = |what: &str, there, wanted| {
        let what = what.to_owned();
        Ok(Look::Fault(Fault {
            what,
            there,
            wanted,
        }))
    };
    let mut file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => {
            return fault(&missing(path), 0, None);
        }
        Err(source) => return Err(io_error("read", path)(source).into()),
    };
    let bytes = file.metadata().map_err(io_error("read", path))?.len();
    let mut start = Vec::new();
    let read = file.by_ref().take(POINTER_BYTES).read_to_end(&mut start);
    read.map_err(io_error("read", path))?;
    if start.is_empty() {
        return fault("is empty", 0, None);
    }
    if let Some(pointer) = pointer(&start, bytes) {
        return Ok(Look::Fault(pointer));
    }
    let Some(length) = start.first_chunk::<8>() else {
        return fault("is cut", bytes, None);
    };
    let header_bytes = u64::from_le_bytes(*length);
    if header_bytes > MOST_HEADER_BYTES || start.get(8).is_some_and(|first| *first != b'{') {
        return Ok(Look::without_header(bytes));
    }
    let data_start = LENGTH_BYTES + header_bytes;
    if data_start > bytes {
        return fault("is cut", bytes, Some(Wanted::AtLeast(data_start)));
    }
    let mut header = Vec::new();
    let read = file.seek(SeekFrom::Start(LENGTH_BYTES)).and_then(|_| {
        let mut rest = file.by_ref().take(header_bytes);
        rest.read_to_end(&mut header)
    });
    read.map_err(io_error("read", path))?;
    check_values(&header, MOST_HEADER_VALUES).map_err(|error| damaged(path, too_large(error)))?;
    Ok(Look::of_header(&header, data_start, bytes))
}

impl Look {
    fn without_header(bytes: u64) -> Self {
        Self::Whole(Shard {
            bytes,
            ..Shard::default()
        })
    }

    /// By the header of a file of `bytes` bytes, whose tensors begin at `data_start`.
    fn of_header(header: &[u8], data_start: u64, bytes: u64) -> Self {
        let Ok(tensors) = serde_json::from_slice::<Map<String, Value>>(header) else {
            return Self::without_header(bytes);
        };
        let ends = tensors.values();
        let ends = ends.filter_map(|tensor| tensor["data_offsets"][1].as_u64());
        let data_bytes = ends.max().unwrap_or(0);
        let wanted = data_start.saturating_add(data_bytes);
        if bytes < wanted {
            return Self::Fault(Fault {
                what: "is cut".to_owned(),
                there: bytes,
                wanted: Some(Wanted::Exactly(wanted)),
            });
        }
        Self::Whole(Shard {
            bytes,
            data_bytes,
            names: tensors.into_iter().map(|(name, _)| name).collect(),
        })
    }
}

/// The fault of a file of `bytes` bytes that is only a Git LFS pointer to the file; `start` is how it begins.
pub(crate) fn pointer(start: &[u8], bytes: u64) -> Option<Fault> {
    start.starts_with(POINTER).then(|| Fault {
        what: "is a Git LFS pointer and not the file itself".to_owned(),
        there: bytes,
        wanted: pointed_bytes(start).map(Wanted::Exactly),
    })
}

/// Message for a file that is missing, perhaps because a link leads nowhere.
fn missing(path: &Path) -> String {
    match fs::read_link(path) {
        Ok(target) => format!("is a link to {}, which is missing", target.display()),
        Err(_) => "is missing".to_owned(),
    }
}

/// The size that a Git LFS pointer tells.
fn pointed_bytes(pointer: &[u8]) -> Option<u64> {
    let text = String::from_utf8_lossy(pointer);
    let size = text.lines().find_map(|line| line.strip_prefix("size "))?;
    size.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A list of objects, each of ten values with its comma, and eleven others.
    fn objects(count: usize) -> String {
        format!("{{\"x\": [{}0]}}", "{\"\":0},".repeat(count))
    }

    /// Parsed, they would take many times the memory of their text.
    #[test]
    fn what_asks_for_too_much_memory_is_refused_before_it_is_parsed() {
        let dir = tempfile::tempdir().unwrap();
        let [config, index] = ["config.json", INDEX].map(|name| dir.path().join(name));
        fs::write(&config, objects(50_000)).unwrap();
        let message = read_json(&config).unwrap_err().to_string();
        assert!(
            message.contains("config.json: has 500011 values"),
            "{message}"
        );
        assert!(read_vocabulary(&config).unwrap()["x"].is_array());
        fs::write(&config, objects(49_998)).unwrap();
        assert!(read_json(&config).unwrap()["x"].is_array());
        fs::write(&index, objects(50_000)).unwrap();
        let message = files(dir.path()).unwrap_err().to_string();
        assert!(
            message.contains("index.json: has 500011 values"),
            "{message}"
        );

        let tensor = "\"t\":{\"dtype\":\"U8\",\"shape\":[],\"data_offsets\":[0,0]},";
        let header = format!("{{{}\"u\":0}}", tensor.repeat(110_000));
        let length = (header.len() as u64).to_le_bytes();
        let weights = [length.as_slice(), header.as_bytes()].concat();
        fs::write(dir.path().join(SINGLE), weights).unwrap();
        let message = contents(dir.path()).unwrap_err().to_string();
        let part = "model.safetensors is damaged or no safetensors file";
        assert!(message.contains(part), "{message}");
        let part = "its header has 2200009 values";
        assert!(message.contains(part), "{message}");
    }
}
