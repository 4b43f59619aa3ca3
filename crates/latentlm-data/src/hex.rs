//! Hashes as text.

use std::fmt::Write as _;
use std::io::{self, Read};
use std::path::Path;

use latentlm_media::open_regular;
use sha2::{Digest, Sha256};

/// A SHA-256 in hexadecimal.
pub(crate) fn hex(hash: Sha256) -> String {
    hash.finalize().iter().fold(String::new(), |mut hex, byte| {
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}

/// The SHA-256 of several texts in order, in hexadecimal.
pub(crate) fn hex_digest(texts: impl Iterator<Item = String>) -> String {
    let mut hash = Sha256::new();
    texts.for_each(|text| hash.update(text));
    hex(hash)
}

/// The SHA-256 of bytes, in hexadecimal.
pub fn sha256(bytes: &[u8]) -> String {
    hex(Sha256::new().chain_update(bytes))
}

/// The SHA-256 of a file, in hexadecimal, as `sha256sum` prints it.
///
/// # Errors
/// If it is no regular file, or can't be read.
pub fn file_sha256(path: &Path) -> io::Result<String> {
    let mut file = open_regular(path)?;
    let (mut hash, mut buffer) = (Sha256::new(), vec![0; 1 << 18]);
    loop {
        let count = file.read(&mut buffer)?;
        if count == 0 {
            return Ok(hex(hash));
        }
        hash.update(&buffer[..count]);
    }
}
