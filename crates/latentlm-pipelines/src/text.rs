//! Tokens of text.

use std::path::Path;

use latentlm_data::{TextTokenizer, TokenizerKind};

use crate::checkpoint::Checkpoint;
use crate::error::Result;
use crate::known::KnownText;
use crate::pipeline::Vocabulary;

/// A tokenizer, and the characters and words of its training text if they are known.
#[derive(Debug, Clone)]
pub struct TextVocabulary {
    /// Turns text into tokens and back.
    pub tokenizer: TextTokenizer,
    /// Characters and words of the training text, where the checkpoint lists them.
    pub known: Option<KnownText>,
}

impl From<TextTokenizer> for TextVocabulary {
    fn from(tokenizer: TextTokenizer) -> Self {
        let known = None;
        Self { tokenizer, known }
    }
}

impl Vocabulary for TextVocabulary {
    fn read(checkpoint: &Checkpoint, _: &[String]) -> Result<Self> {
        let tokenizer = checkpoint.tokenizer()?;
        let known = checkpoint.text(crate::KNOWN_TEXT)?;
        let known = known.map(|json| KnownText::from_json(&json)).transpose()?;
        Ok(Self { tokenizer, known })
    }

    fn size(&self) -> usize {
        self.tokenizer.vocabulary()
    }
}

/// The tokenizer of a file, or one with at most `size` tokens that is trained on texts if `path` is
/// empty.
pub(crate) fn read_or_train(
    path: &str,
    kind: TokenizerKind,
    size: usize,
    texts: impl FnOnce() -> Vec<String>,
) -> Result<TextTokenizer> {
    Ok(if path.is_empty() {
        TextTokenizer::train(kind, &texts(), size)?
    } else {
        TextTokenizer::read(Path::new(path))?
    })
}
