//! Lines about files that were written.

use std::path::Path;

use latentlm::core::disk::is_stream;
use latentlm_args::{escaped, say, tell};

/// Prints a line about a written file: on standard output, or on standard error if the file is a stream, which may
/// be standard output itself.
pub fn show(file: &Path, line: &str) {
    // A line break in the file's name would begin another line.
    let line = escaped(line);
    if is_stream(file) {
        tell!("{line}");
    } else {
        say!("{line}");
    }
}
