//! Text to tokens and back, by Hugging Face's `tokenizers`.

use std::path::Path;

use serde::{Deserialize, Serialize};
use tokenizers::decoders::fuse::Fuse;
use tokenizers::models::bpe::{BPE, BpeTrainerBuilder, Vocab};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::{AddedToken, ModelWrapper, Tokenizer, TokenizerBuilder};

use crate::error::DataError;

/// What stands for what a vocabulary lacks.
const UNKNOWN: &str = "<unk>";
/// What does so in vocabularies of others.
const UNKNOWNS: [&str; 2] = [UNKNOWN, "[UNK]"];

/// How a vocabulary is made of a corpus.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TokenizerKind {
    /// Pairs of bytes that are frequent become tokens: nothing is ever outside the vocabulary.
    ByteLevelBpe,
    /// One token a character of the corpus.
    Characters,
}

/// A vocabulary.
#[derive(Debug, Clone)]
pub struct TextTokenizer {
    inner: Tokenizer,
    vocabulary: usize,
}

impl TextTokenizer {
    fn of(inner: Tokenizer) -> Self {
        // In a vocabulary of others numbers may be missing: counting its tokens would give some of them
        // to the control tokens that come behind.
        let largest = inner.get_vocab(true).into_values().max();
        Self {
            vocabulary: largest.map_or(0, |id| id as usize + 1),
            inner,
        }
    }

    /// Makes a vocabulary of at most `vocabulary` tokens of texts.
    ///
    /// # Errors
    /// If the texts make no vocabulary (there are none).
    pub fn train(
        kind: TokenizerKind,
        texts: &[String],
        vocabulary: usize,
    ) -> Result<Self, DataError> {
        let failed = |error: tokenizers::Error| DataError::Text {
            reason: format!("cannot make a vocabulary: {error}"),
        };
        if texts.iter().all(|text| text.trim().is_empty()) {
            return Err(DataError::Text {
                reason: "cannot make a vocabulary: there are no texts".into(),
            });
        }
        let inner = match kind {
            TokenizerKind::ByteLevelBpe => byte_level_bpe(texts, vocabulary),
            TokenizerKind::Characters => characters(texts),
        };
        Ok(Self::of(inner.map_err(failed)?))
    }

    /// Reads a `tokenizer.json`.
    ///
    /// # Errors
    /// If the file can't be read or is no tokenizer.
    pub fn read(path: &Path) -> Result<Self, DataError> {
        let inner = Tokenizer::from_file(path)
            .map_err(|error| DataError::malformed(path, format!("is no tokenizer: {error}")))?;
        Ok(Self::of(inner))
    }

    /// The vocabulary as the text of a `tokenizer.json`.
    ///
    /// # Errors
    /// If the tokenizer has a part that has no such form.
    pub fn to_json(&self) -> Result<String, DataError> {
        self.inner
            .to_string(false)
            .map_err(|error| DataError::Text {
                reason: format!("cannot write the vocabulary: {error}"),
            })
    }

    /// `V`: every token is below it.
    pub fn vocabulary(&self) -> usize {
        self.vocabulary
    }

    /// Tokens of a text, at least one.
    ///
    /// # Errors
    /// If it is empty, has characters that the vocabulary lacks, or nothing that it has.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>, DataError> {
        let text = text.trim();
        if text.is_empty() {
            return Err(DataError::Text {
                reason: "the text is empty".into(),
            });
        }
        let encoding = self
            .inner
            .encode(text, false)
            .map_err(|error| DataError::Text {
                reason: format!("cannot encode the text: {error}"),
            })?;
        if encoding.get_ids().is_empty() {
            return Err(DataError::Text {
                reason: format!("nothing of `{text}` is in the vocabulary"),
            });
        }
        let unknown = UNKNOWNS.map(|name| self.inner.token_to_id(name));
        let mut tokens = encoding.get_ids().iter().zip(encoding.get_offsets());
        if let Some((_, &(start, end))) = tokens.find(|(id, _)| unknown.contains(&Some(**id))) {
            return Err(DataError::Text {
                reason: format!(
                    "`{}` is outside the vocabulary; train with another text.tokenizer",
                    text.get(start..end).unwrap_or_default()
                ),
            });
        }
        Ok(encoding.get_ids().to_vec())
    }

    /// The text of tokens.
    ///
    /// # Errors
    /// If there is no such token.
    pub fn decode(&self, tokens: &[u32]) -> Result<String, DataError> {
        let text = self.inner.decode(tokens, true);
        let text = text.map_err(|error| DataError::Text {
            reason: format!("cannot decode tokens: {error}"),
        })?;
        Ok(text.trim_start().to_owned())
    }
}

fn byte_level_bpe(texts: &[String], vocabulary: usize) -> Result<Tokenizer, tokenizers::Error> {
    let mut trainer = BpeTrainerBuilder::new()
        .vocab_size(vocabulary)
        .min_frequency(2)
        .show_progress(false)
        .initial_alphabet(ByteLevel::alphabet().into_iter().collect())
        .build();
    // A space before the first word makes it the same token as within a sentence.
    let bytes = ByteLevel::new(true, true, true);
    let mut tokenizer = TokenizerBuilder::<BPE, tokenizers::NormalizerWrapper, _, _, _>::default()
        .with_model(BPE::default())
        .with_pre_tokenizer(Some(bytes))
        .with_post_processor(Some(bytes))
        .with_decoder(Some(bytes))
        .build()?;
    tokenizer.train(&mut trainer, texts.iter())?;
    tokenizer.to_string(false)?.parse()
}

fn characters(texts: &[String]) -> Result<Tokenizer, tokenizers::Error> {
    let mut known: Vec<char> = texts.iter().flat_map(|text| text.chars()).collect();
    known.sort_unstable();
    known.dedup();
    let tokens = [UNKNOWN.to_owned()].into_iter();
    let tokens = tokens.chain(known.into_iter().map(String::from));
    let vocabulary: Vocab = tokens.zip(0..).collect();
    let model = BPE::builder()
        .vocab_and_merges(vocabulary, vec![])
        .unk_token(UNKNOWN.into())
        .build()?;
    let mut tokenizer = Tokenizer::new(ModelWrapper::BPE(model));
    tokenizer.with_decoder(Some(Fuse::new()));
    tokenizer.add_special_tokens([AddedToken::from(UNKNOWN, true)])?;
    Ok(tokenizer)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts() -> Vec<String> {
        ["three five nine", "five three", "nine nine three"]
            .map(String::from)
            .to_vec()
    }

    #[test]
    fn words_of_the_corpus_become_tokens() {
        let bpe = TextTokenizer::train(TokenizerKind::ByteLevelBpe, &texts(), 300).unwrap();
        assert_eq!(bpe.encode("five nine three").unwrap().len(), 3);
        let tokens = bpe.encode("Größe 7 3five").unwrap();
        assert_eq!(bpe.decode(&tokens).unwrap(), "Größe 7 3five");
        assert!(bpe.vocabulary() <= 300);
    }

    #[test]
    fn characters_outside_the_corpus_are_named() {
        let tokenizer = TextTokenizer::train(TokenizerKind::Characters, &texts(), 300).unwrap();
        let tokens = tokenizer.encode("five nine").unwrap();
        assert_eq!(tokens.len(), 9);
        assert_eq!(tokenizer.decode(&tokens).unwrap(), "five nine");
        let message = tokenizer.encode("five zebra").unwrap_err().to_string();
        assert!(message.contains("`z`"), "{message}");
        assert!(tokenizer.encode("  ").is_err());
        let nothing = TextTokenizer::train(TokenizerKind::Characters, &[], 10);
        assert!(nothing.is_err());
    }

    /// A `tokenizer.json` as others write it, of whole words.
    fn of_others(model: &str) -> TextTokenizer {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("tokenizer.json");
        let json = format!(
            r#"{{"version": "1.0", "truncation": null, "padding": null, "added_tokens": [],
                "normalizer": null, "pre_tokenizer": {{"type": "WhitespaceSplit"}},
                "post_processor": null, "decoder": null, "model": {model}}}"#
        );
        std::fs::write(&path, json).unwrap();
        TextTokenizer::read(&path).unwrap()
    }

    /// Three words, of which the last has the number 7: an eighth number is the first that is free.
    #[test]
    fn numbers_of_a_vocabulary_may_be_missing() {
        let words = of_others(
            r#"{"type": "WordLevel", "unk_token": "[UNK]", "vocab": {"[UNK]": 0, "one": 1, "two": 7}}"#,
        );
        assert_eq!(words.vocabulary(), 8);
        assert_eq!(words.encode("two one").unwrap(), [7, 1]);
        let message = words.encode("one three two").unwrap_err().to_string();
        assert!(message.contains("`three` is outside"), "{message}");
    }

    /// A vocabulary without a token for what it lacks leaves that out.
    #[test]
    fn a_text_of_which_nothing_is_left_is_refused() {
        let letters = of_others(r#"{"type": "BPE", "vocab": {"a": 0, "b": 1}, "merges": []}"#);
        assert_eq!(letters.encode("ab").unwrap(), [0, 1]);
        let message = letters.encode("xyz").unwrap_err().to_string();
        assert!(message.contains("nothing of `xyz`"), "{message}");
    }

    #[test]
    fn a_vocabulary_travels_as_json() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("tokenizer.json");
        for kind in [TokenizerKind::ByteLevelBpe, TokenizerKind::Characters] {
            let tokenizer = TextTokenizer::train(kind, &texts(), 300).unwrap();
            std::fs::write(&path, tokenizer.to_json().unwrap()).unwrap();
            let read = TextTokenizer::read(&path).unwrap();
            let text = "nine five";
            assert_eq!(read.encode(text).unwrap(), tokenizer.encode(text).unwrap());
            assert_eq!(read.vocabulary(), tokenizer.vocabulary());
        }
        std::fs::write(&path, "{}").unwrap();
        let message = TextTokenizer::read(&path).unwrap_err().to_string();
        assert!(message.contains("no tokenizer"), "{message}");
    }
}
