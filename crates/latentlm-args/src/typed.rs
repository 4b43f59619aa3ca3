//! Command lines that are wrong, told in a line that is safe to print.

use std::ffi::OsString;

use clap::Parser;
use latentlm_keys::escaped;

/// Parses a command line as [`Parser::parse_from`] does: help and errors end the process. What an error repeats of
/// the words has its control characters escaped; they could clear the terminal or hide a part of the message.
pub fn parse_typed<P: Parser>(words: impl IntoIterator<Item = OsString>) -> P {
    let words: Vec<OsString> = words.into_iter().collect();
    P::try_parse_from(&words).unwrap_or_else(|error| printable_error::<P>(error, &words).exit())
}

/// The error about the words as they are printed. Escaped words are as wrong: no argument that refuses a control
/// character takes a backslash.
fn printable_error<P: Parser>(error: clap::Error, words: &[OsString]) -> clap::Error {
    let words = words.iter().map(|word| escaped(&word.to_string_lossy()));
    P::try_parse_from(words).err().unwrap_or(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Parser)]
    struct Typed {
        #[arg(long)]
        steps: Option<usize>,
        #[arg(long, value_parser = crate::positive)]
        rate: Option<f64>,
        name: Option<String>,
    }

    fn told(words: &[&str]) -> String {
        let words: Vec<OsString> = words.iter().map(OsString::from).collect();
        let error = Typed::try_parse_from(&words).unwrap_err();
        printable_error::<Typed>(error, &words).to_string()
    }

    #[test]
    fn errors_repeat_no_control_characters() {
        let clear = "\u{1b}[2J\r\u{7}";
        let value = format!("3{clear}");
        let option = format!("--{clear}");
        for words in [
            &["typed", "--steps", &value][..],
            &["typed", "--rate", &value],
            &["typed", &option],
            &["typed", "name", &value],
        ] {
            let told = told(words);
            let is_safe = |c: char| !c.is_control() || c == '\n';
            assert!(told.chars().all(is_safe), "{told:?}");
            assert!(told.contains("\\u{1b}[2J\\r\\u{7}"), "{told:?}");
        }
    }

    #[test]
    fn words_that_are_right_stay_as_they_were_typed() {
        let words = ["typed", "a\tb", "--steps", "3"].map(OsString::from);
        let typed: Typed = parse_typed(words);
        assert_eq!(typed.name.as_deref(), Some("a\tb"));
        assert_eq!((typed.steps, typed.rate), (Some(3), None));
    }

    #[test]
    fn an_error_that_escaping_would_mend_is_told_as_it_is() {
        let error = Typed::try_parse_from(["typed", "--steps", "x"]).unwrap_err();
        let kind = error.kind();
        let right = ["typed"].map(OsString::from);
        assert_eq!(printable_error::<Typed>(error, &right).kind(), kind);
    }
}
