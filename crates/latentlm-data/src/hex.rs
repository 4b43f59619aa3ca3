//! Hashes as text.

use std::fmt::Write as _;

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
