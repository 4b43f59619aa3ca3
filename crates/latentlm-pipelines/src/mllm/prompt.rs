//! What a user writes: text, pictures within it, and a picture to be drawn.

use std::path::PathBuf;

use crate::error::{PipelineError, Result};

const OPEN: &str = "<image>";
const CLOSE: &str = "</image>";
/// Start of a mark; in text it means the mark is not closed.
const BEGUN: &str = "<image";

/// A piece of a prompt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PromptPiece {
    /// Text.
    Text(String),
    /// A picture's file.
    Picture(PathBuf),
    /// A picture is to be drawn; only at the end.
    Draw,
}

impl PromptPiece {
    /// Reads `text <image>file.png</image> text <image>`: a picture between the two marks is read, a
    /// mark at the end asks for one.
    ///
    /// # Errors
    /// If a mark is unclosed, was never opened, or names no file.
    pub fn parse(prompt: &str) -> Result<Vec<Self>> {
        let mut pieces = Vec::new();
        let mut rest = prompt;
        while let Some((text, behind)) = rest.split_once(OPEN) {
            push_text(&mut pieces, text)?;
            if behind.trim().is_empty() {
                pieces.push(Self::Draw);
                return Ok(pieces);
            }
            let Some((file, behind)) = behind.split_once(CLOSE) else {
                return fail(format!(
                    "`{OPEN}` is unclosed before `{}`: write `{OPEN}file.png{CLOSE}` for a picture \
                     to be read, or `{OPEN}` at the very end for one to be drawn",
                    behind.trim()
                ));
            };
            if file.trim().is_empty() {
                return fail(format!("`{OPEN}{CLOSE}` names no file"));
            }
            pieces.push(Self::Picture(file.trim().into()));
            rest = behind;
        }
        push_text(&mut pieces, rest)?;
        Ok(pieces)
    }
}

fn fail<T>(reason: String) -> Result<T> {
    Err(PipelineError::Request(reason))
}

fn push_text(pieces: &mut Vec<PromptPiece>, text: &str) -> Result<()> {
    if text.contains(CLOSE) {
        return fail(format!("`{CLOSE}` has no `{OPEN}` before it"));
    }
    if text.contains(BEGUN) {
        return fail(format!("`{BEGUN}` lacks its `>`: write `{OPEN}`"));
    }
    if !text.trim().is_empty() {
        pieces.push(PromptPiece::Text(text.trim().into()));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pictures_are_read_and_asked_for() {
        let text = |text: &str| PromptPiece::Text(text.into());
        let file = || PromptPiece::Picture("a b.png".into());
        for (prompt, pieces) in [
            ("", vec![]),
            ("hello", vec![text("hello")]),
            (
                "a red heart <image>",
                vec![text("a red heart"), PromptPiece::Draw],
            ),
            ("<image> a b.png</image>", vec![file()]),
            (
                "see <image>a b.png</image> and draw <image> ",
                vec![text("see"), file(), text("and draw"), PromptPiece::Draw],
            ),
        ] {
            assert_eq!(PromptPiece::parse(prompt).unwrap(), pieces, "{prompt}");
        }
    }

    #[test]
    fn wrong_marks_are_named() {
        for (prompt, part) in [
            ("a <image> heart", "unclosed before `heart`"),
            ("a </image> heart", "has no `<image>`"),
            ("a <image></image>", "names no file"),
            ("a heart <image", "lacks its `>`"),
        ] {
            let error = PromptPiece::parse(prompt).unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        }
    }
}
