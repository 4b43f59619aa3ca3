//! Programs that tests write and run, in the place of synthesizers.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

/// Writes a program, by a process of its own. Until they run, programs that other tests are starting have all files open
/// that this process has, and a file that is open for writing can't be run.
pub(crate) fn write_program(path: &Path, script: &str) {
    let mut shell = Command::new("sh")
        .args(["-c", r#"cat > "$0" && chmod 755 "$0""#])
        .arg(path)
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = shell.stdin.take().unwrap();
    input.write_all(script.as_bytes()).unwrap();
    drop(input);
    assert!(shell.wait().unwrap().success());
}
