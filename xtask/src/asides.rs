//! Flags of some commands that only `cargo xtask` knows. It removes them from the arguments, and replaces them
//! by arguments of the binary once everything else has been checked.

use std::ffi::OsString;

use anyhow::Result;
use latentlm_args::{Command, Compare};

use crate::{live, speech};

/// The flags removed from a command's arguments.
pub enum Aside {
    /// Nothing.
    None,
    /// `verify-reference --live`.
    Live(live::Live),
    /// Recognizers and judges for `eval-tts`, `compare tts` and `compare fast-tts`.
    Listeners(speech::Listeners),
}

impl Aside {
    /// Removes the flags that the binary does not know from a command and its arguments.
    ///
    /// # Errors
    /// If a flag lacks its value.
    pub fn take(words: &mut Vec<OsString>) -> Result<Self> {
        let names = words.iter().take(2).map(|name| name.to_string_lossy());
        let names: Vec<String> = names.map(|name| name.into_owned()).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        Ok(match names.as_slice() {
            ["verify-reference", ..] => live::take(words)?.map_or(Self::None, Self::Live),
            ["eval-tts", ..] => Self::Listeners(speech::take(words)?),
            ["compare", "tts" | "fast-tts"] => Self::Listeners(speech::take_all(words)?),
            _ => Self::None,
        })
    }

    /// Adds the arguments that the binary takes instead.
    ///
    /// # Errors
    /// If the Python packages or cases for them can't be made.
    pub fn put(self, command: &Command, words: &mut Vec<OsString>) -> Result<()> {
        match (self, command) {
            (Self::Live(live), _) => live.put(words),
            (Self::Listeners(listeners), Command::EvalTts(args)) => {
                listeners.put(&args.judges, words)
            }
            (Self::Listeners(listeners), Command::Compare(Compare::Tts(args))) => {
                listeners.put(&args.judges, words)
            }
            (Self::Listeners(listeners), Command::Compare(Compare::FastTts(args))) => {
                listeners.put(&args.judges, words)
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words<const N: usize>(words: [&str; N]) -> Vec<OsString> {
        words.map(OsString::from).to_vec()
    }

    #[test]
    fn few_commands_have_words_of_their_own() {
        let mut typed = words(["compare", "tts", "--judges", "--run", "a"]);
        assert!(matches!(Aside::take(&mut typed), Ok(Aside::Listeners(_))));
        assert_eq!(typed, ["compare", "tts", "--run", "a"]);
        let mut typed = words(["compare", "fast-tts", "--judges"]);
        assert!(matches!(Aside::take(&mut typed), Ok(Aside::Listeners(_))));
        assert_eq!(typed, ["compare", "fast-tts"]);
        let mut typed = words(["compare", "image", "--judges"]);
        assert!(matches!(Aside::take(&mut typed), Ok(Aside::None)));
        let mut typed = words(["caption", "--live", "--voices", "--python"]);
        assert!(matches!(Aside::take(&mut typed), Ok(Aside::None)));
        assert_eq!(typed.len(), 4);
        let mut typed = words(["eval-tts", "--run", "a", "--voices"]);
        assert!(matches!(Aside::take(&mut typed), Ok(Aside::Listeners(_))));
        assert_eq!(typed, ["eval-tts", "--run", "a"]);
        // A folder of cases that is there stands for the one that will be made.
        let mut typed = words(["verify-reference", "--python", "p", "--live"]);
        assert!(matches!(Aside::take(&mut typed), Ok(Aside::Live(_))));
        assert_eq!(typed, ["verify-reference", "tests/fixtures"]);
        // Without --live it is the binary that refuses --python.
        let mut typed = words(["verify-reference", "tests", "--python", "p"]);
        assert!(matches!(Aside::take(&mut typed), Ok(Aside::None)));
        assert_eq!(typed.len(), 4);
    }
}
