//! Tokens of text.

use std::path::Path;

use latentlm_data::{TextLimits, TextTokenizer, TokenizerKind};

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

/// The tokenizer that the table `[text]` of a recipe asks for.
#[derive(Debug, Clone, Copy)]
pub struct WantedTokenizer<'a> {
    /// The tokenizer's file; empty if a tokenizer is trained.
    pub path: &'a str,
    /// Largest size of the file in megabytes.
    pub max_megabytes: u64,
    /// How one is trained.
    pub kind: TokenizerKind,
    /// Largest number of tokens of a trained tokenizer.
    pub size: usize,
}

impl WantedTokenizer<'_> {
    /// The tokenizer of the file; `None` if there is none.
    ///
    /// # Errors
    /// If the file can't be read, is too large or is no tokenizer.
    pub fn read(&self) -> Result<Option<TextTokenizer>> {
        if self.path.is_empty() {
            return Ok(None);
        }
        let limits = TextLimits::of_megabytes(self.max_megabytes);
        let read = TextTokenizer::read_within(Path::new(self.path), limits)?;
        Ok(Some(read))
    }

    /// The tokenizer of the file, or one that is trained on texts.
    pub(crate) fn read_or_train(
        &self,
        texts: impl FnOnce() -> Vec<String>,
    ) -> Result<TextTokenizer> {
        match self.read()? {
            Some(read) => Ok(read),
            None => Ok(TextTokenizer::train(self.kind, &texts(), self.size)?),
        }
    }
}
