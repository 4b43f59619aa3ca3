//! Samples by name and content, as a run that goes on compares them.

use std::path::PathBuf;

/// A sample, or a file of samples, as it is on the disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sample {
    /// Its name within the dataset.
    pub name: String,
    /// What training learns besides the content: class, caption, transcript, speaker. What only newer versions learn
    /// has lines of its own behind the first.
    pub about: String,
    /// Its bytes.
    pub content: Content,
}

/// The bytes of a sample.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// A file.
    File(PathBuf),
    /// The SHA-256 of what is in memory, in hexadecimal.
    Hash(String),
}
