//! What can be wrong with a recipe.

use std::io;
use std::path::PathBuf;

use crate::keys::{KeyError, Keys};

/// Largest number of dots in a key. Recipes nest three levels deep; the limit keeps a mistyped key from
/// becoming thousands of nested tables.
pub const MOST_DOTS: usize = 16;

/// An error in a recipe.
#[derive(Debug, thiserror::Error)]
pub enum RecipeError {
    /// The file can't be read.
    #[error("cannot read the recipe {path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
    /// The file is not TOML.
    #[error("{origin} is not valid TOML: {message}")]
    Syntax {
        /// The file.
        origin: String,
        /// The parser's message, on one line.
        message: String,
    },
    /// An unknown key, or a value that is not allowed.
    #[error("{origin}: {error}")]
    Key {
        /// File or override.
        origin: String,
        /// The error.
        error: KeyError,
    },
    /// An override that is not `key=value`.
    #[error("override `{text}` is not of the form key=value{example}")]
    NotKeyValue {
        /// The override.
        text: String,
        /// Such as `, e.g. lm_train.steps=200`, with a key of the recipe; empty where the recipe is not known.
        example: String,
    },
    /// An override with more dots in its key than any recipe has.
    #[error("override `{text}`: a key has at most {most} dots, not {dots}", most = MOST_DOTS)]
    DeepKey {
        /// The override.
        text: String,
        /// Number of dots in its key.
        dots: usize,
    },
    /// An override with invalid characters in its key.
    #[error(
        "override `{0}`: a key is words of letters, digits, `_` and `-` with dots between them"
    )]
    OddKey(String),
    /// A configuration that can't be converted from or to TOML.
    #[error("{origin}: {message}")]
    Invalid {
        /// File or overrides.
        origin: String,
        /// What is wrong.
        message: String,
    },
}

impl RecipeError {
    /// This error, with one of `keys` as an example where that helps. A comparison has the keys of a model in a table.
    pub fn with_example(mut self, keys: &Keys) -> Self {
        let mut names = keys.iter().map(|(name, _)| name);
        if let Self::NotKeyValue { example, .. } = &mut self
            && let Some(key) = names.find(|name| name.ends_with("lm_train.steps"))
        {
            *example = format!(", e.g. {key}=200");
        }
        self
    }
}
