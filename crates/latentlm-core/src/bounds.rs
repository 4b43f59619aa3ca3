//! Bounds of the memory that JSON and headers of safetensors files of others take. Parsed, a text takes up to a hundred
//! times its size. So the text is looked at before a library parses it.

use std::fs::File;
use std::io::Read;
use std::path::Path;

/// Bytes of the length in front of the header of a safetensors file.
pub const LENGTH_BYTES: u64 = 8;
/// Largest header that is read, in bytes.
pub const MOST_HEADER_BYTES: u64 = 32 << 20;
/// Most values in a header. A tensor of two axes has 21: there is room for 95,000.
pub const MOST_HEADER_VALUES: usize = 2_000_000;

/// Values that a list counts as, and an object. So much memory they take, also with a single value.
const LIST: usize = 2;
const OBJECT: usize = 8;

/// A JSON text with more values than are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "has {values} values (a list counts as {}, an object as {}), more than the {most} that are read",
    LIST,
    OBJECT
)]
pub struct TooManyValues {
    /// Values of the text.
    pub values: usize,
    /// Most values that are read.
    pub most: usize,
}

/// A header of a safetensors file that is not read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    /// A header of too many bytes.
    #[error("has {bytes} bytes, more than the {} that are read", MOST_HEADER_BYTES)]
    Long {
        /// Bytes of the header.
        bytes: u64,
    },
    /// A header of too many values.
    #[error(transparent)]
    Values(#[from] TooManyValues),
}

/// Checks that a JSON text has at most `most` values, before any of them takes memory: in the types of `serde_json` about
/// 100 bytes each. A list counts as 2, an object as 8. What is no JSON is reported by its reader.
///
/// # Errors
/// If there are more values.
pub fn check_values(json: &[u8], most: usize) -> Result<(), TooManyValues> {
    let (mut values, mut in_string, mut escaped) = (0_usize, false, false);
    for byte in json {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            b',' | b':' if !in_string => values += 1,
            b'[' if !in_string => values += LIST,
            b'{' if !in_string => values += OBJECT,
            _ => {}
        }
    }
    if values > most {
        return Err(TooManyValues { values, most });
    }
    Ok(())
}

/// Checks the header of a safetensors file, before a library parses it. What has no whole header is reported by its
/// reader.
///
/// # Errors
/// If the header is longer than [`MOST_HEADER_BYTES`], or has more values than [`MOST_HEADER_VALUES`].
pub fn check_header(file: &[u8]) -> Result<(), HeaderError> {
    let Some((length, rest)) = file.split_first_chunk::<8>() else {
        return Ok(());
    };
    match within(u64::from_le_bytes(*length), rest.len() as u64)? {
        Some(length) => Ok(check_values(&rest[..length], MOST_HEADER_VALUES)?),
        None => Ok(()),
    }
}

/// [`check_header`] of a file, of which only the header is read. What can't be read is reported by its reader.
///
/// # Errors
/// As [`check_header`].
pub fn check_header_of(path: &Path) -> Result<(), HeaderError> {
    let Ok(mut file) = File::open(path) else {
        return Ok(());
    };
    let bytes = file.metadata().map_or(0, |metadata| metadata.len());
    let mut length = [0; LENGTH_BYTES as usize];
    if file.read_exact(&mut length).is_err() {
        return Ok(());
    }
    let left = bytes.saturating_sub(LENGTH_BYTES);
    let Some(length) = within(u64::from_le_bytes(length), left)? else {
        return Ok(());
    };
    let mut header = vec![0; length];
    match file.read_exact(&mut header) {
        Ok(()) => Ok(check_values(&header, MOST_HEADER_VALUES)?),
        Err(_) => Ok(()),
    }
}

/// The length of a header in a file that has `left` bytes behind the length; `None` if it is longer than the file.
fn within(bytes: u64, left: u64) -> Result<Option<usize>, HeaderError> {
    if bytes > left {
        return Ok(None);
    }
    if bytes > MOST_HEADER_BYTES {
        return Err(HeaderError::Long { bytes });
    }
    Ok(Some(bytes as usize))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Signs within strings are no values.
    #[test]
    fn values_are_counted_before_they_take_memory() {
        let list = |count: usize| format!("[{}0]", "0,".repeat(count));
        check_values(list(48).as_bytes(), 50).unwrap();
        let told = check_values(list(49).as_bytes(), 50).unwrap_err();
        assert_eq!(
            told.to_string(),
            "has 51 values (a list counts as 2, an object as 8), more than the 50 that are read"
        );
        let text = format!("[\"\\\"{}\", 1]", ",:[{".repeat(50));
        check_values(text.as_bytes(), 3).unwrap();
        let values = |text: &str| check_values(text.as_bytes(), 0).map_err(|told| told.values);
        assert_eq!(values("[[[]]]"), Err(6));
        assert_eq!(values(r#"[{"": 0}, {"": 0}]"#), Err(21));
        assert_eq!(values("7"), Ok(()));
    }

    /// As the comment of [`MOST_HEADER_VALUES`] says.
    #[test]
    fn there_is_room_for_many_tensors() {
        let tensor = r#""t":{"dtype":"F32","shape":[1,2],"data_offsets":[0,8]},"#;
        let values = check_values(tensor.as_bytes(), 0).unwrap_err().values;
        assert_eq!(values, 21);
        assert_eq!(MOST_HEADER_VALUES / values, 95_238);
    }

    fn with_length(header: &[u8]) -> Vec<u8> {
        [(header.len() as u64).to_le_bytes().as_slice(), header].concat()
    }

    #[test]
    fn headers_are_checked_before_they_are_parsed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.safetensors");
        let both = |bytes: &[u8]| {
            std::fs::write(&path, bytes).unwrap();
            let (in_memory, of_file) = (check_header(bytes), check_header_of(&path));
            assert_eq!(in_memory, of_file);
            of_file.map_err(|error| error.to_string())
        };
        assert_eq!(both(&with_length(b"{}")), Ok(()));
        let many = with_length(&b",".repeat(MOST_HEADER_VALUES + 1));
        let told = both(&many).unwrap_err();
        assert!(told.starts_with("has 2000001 values"), "{told}");
        let long = with_length(&vec![b' '; MOST_HEADER_BYTES as usize + 1]);
        let told = both(&long).unwrap_err();
        assert_eq!(
            told,
            "has 33554433 bytes, more than the 33554432 that are read"
        );
        // Their readers tell that these are cut.
        for cut in [&long[..long.len() - 1], &many[..8], &many[..7], &[]] {
            assert_eq!(both(cut), Ok(()));
        }
        assert_eq!(check_header_of(&dir.path().join("none")), Ok(()));
    }
}
