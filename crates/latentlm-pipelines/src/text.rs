//! Tokens of text.

use std::path::Path;

use latentlm_data::{TextLimits, TextTokenizer, TokenizerKind};
use serde::{Deserialize, Serialize};

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

/// How text becomes tokens: keys of the table `[text]` of a recipe.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TokenizerConfig {
    /// How a vocabulary is made.
    #[serde(rename = "tokenizer")]
    pub kind: TokenizerKind,
    /// Largest number of tokens.
    pub vocabulary: usize,
    /// A `tokenizer.json` to be used instead; empty for none.
    pub path: String,
    /// Largest size in megabytes of that file. Checkpoints of older versions lack it.
    #[serde(default = "TextLimits::default_megabytes")]
    pub max_tokenizer_mb: u64,
}

impl TokenizerConfig {
    /// The tokenizer of the file; `None` if there is none.
    ///
    /// # Errors
    /// If the file can't be read, is too large or is no tokenizer.
    pub fn read(&self) -> Result<Option<TextTokenizer>> {
        if self.path.is_empty() {
            return Ok(None);
        }
        let limits = TextLimits::of_megabytes(self.max_tokenizer_mb);
        let read = TextTokenizer::read_within(Path::new(&self.path), limits)?;
        Ok(Some(read))
    }

    /// The tokenizer of the file, or one that is trained on texts.
    pub(crate) fn read_or_train(
        &self,
        texts: impl FnOnce() -> Vec<String>,
    ) -> Result<TextTokenizer> {
        match self.read()? {
            Some(read) => Ok(read),
            None => Ok(TextTokenizer::train(self.kind, &texts(), self.vocabulary)?),
        }
    }
}
