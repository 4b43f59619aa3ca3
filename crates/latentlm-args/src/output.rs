//! What both programs print: results on standard output, everything else on standard error.
//!
//! `println!` panics if a pipe was closed or a disk is full. [`say!`](crate::say) ends the program instead;
//! [`tell!`](crate::tell) goes on, because a closed terminal must not stop a training.

use std::fmt::Arguments;
use std::fs;
use std::io::{self, ErrorKind, Write};

use latentlm_keys::printable;

/// Linux, macOS and the BSDs answer with this error (EIO) if a terminal was closed.
const TERMINAL_CLOSED: i32 = 5;

/// Prints a line of results on standard output, with the arguments of `println!`.
///
/// Ends the program if the line can't be printed: with exit code 0 if nobody reads it, as other tools do
/// (`... | head -1`), otherwise with exit code 1 and one line on standard error.
#[macro_export]
macro_rules! say {
    ($($text:tt)*) => {
        $crate::say_line(::std::format_args!($($text)*))
    };
}

/// Prints a line on standard error, with the arguments of `eprintln!`. Does nothing if it can't be printed.
#[macro_export]
macro_rules! tell {
    ($($text:tt)*) => {
        $crate::tell_line(::std::format_args!($($text)*))
    };
}

/// The function behind [`say!`](crate::say).
pub fn say_line(line: Arguments<'_>) {
    let printed = print(&mut io::stdout().lock(), line);
    if let Err(error) = printed {
        let code = exit_code(&error);
        if code != 0 {
            tell_line(format_args!(
                "error: cannot write to standard output: {error}"
            ));
        }
        std::process::exit(code);
    }
}

/// The function behind [`tell!`](crate::tell).
pub fn tell_line(line: Arguments<'_>) {
    let _ = print(&mut io::stderr().lock(), line);
}

fn print(to: &mut impl Write, line: Arguments<'_>) -> io::Result<()> {
    writeln!(to, "{}", printable(&line.to_string()))?;
    to.flush()
}

/// Exit code after a failed print: 0 if the reader is gone.
fn exit_code(error: &io::Error) -> i32 {
    let mut gone = error.kind() == ErrorKind::BrokenPipe;
    if cfg!(unix) && error.raw_os_error() == Some(TERMINAL_CLOSED) {
        // If standard output is a file, this error means that its disk is damaged.
        gone = !fs::metadata("/dev/stdout").is_ok_and(|found| found.is_file());
    }
    i32::from(!gone)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes some bytes, then fails.
    struct Full {
        left: usize,
    }

    impl Write for Full {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            if self.left == 0 {
                return Err(ErrorKind::StorageFull.into());
            }
            let taken = bytes.len().min(self.left);
            self.left -= taken;
            Ok(taken)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_line_is_printed_whole_or_fails() {
        let mut printed = Vec::new();
        print(&mut printed, format_args!("{} of {}", 2, "3")).unwrap();
        assert_eq!(printed, b"2 of 3\n");
        let mut printed = Vec::new();
        let name = "cat\u{1b}[2J\r\u{9b}\u{7f}";
        print(&mut printed, format_args!("ä\t{name}\nb")).unwrap();
        let expected = "ä\tcat\\u{1b}[2J\\r\\u{9b}\\u{7f}\nb\n";
        assert_eq!(String::from_utf8(printed).unwrap(), expected);
        let error = print(&mut Full { left: 3 }, format_args!("four")).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::StorageFull);
    }

    #[test]
    fn a_closed_pipe_is_no_failure_and_a_full_disk_is() {
        assert_eq!(exit_code(&ErrorKind::BrokenPipe.into()), 0);
        assert_eq!(exit_code(&ErrorKind::StorageFull.into()), 1);
        assert_eq!(exit_code(&ErrorKind::PermissionDenied.into()), 1);
    }
}
