//! Tokenizers: text to tokens and back, with Hugging Face's `tokenizers`.

use std::io::Read;
use std::path::Path;

use latentlm_media::{MEGABYTE, caught, open_regular};
use serde::{Deserialize, Serialize};
use tokenizers::decoders::fuse::Fuse;
use tokenizers::models::bpe::{BPE, BpeTrainerBuilder, Vocab};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::{AddedToken, ModelWrapper, Tokenizer, TokenizerBuilder};

use crate::error::{DataError, io_error};
use crate::growth::{self, Parts};
use crate::normal::normal_text;

/// Token for characters outside the vocabulary.
const UNKNOWN: &str = "<unk>";
/// Names of that token in published vocabularies.
const UNKNOWNS: [&str; 2] = [UNKNOWN, "[UNK]"];

/// Largest number of values in a megabyte of a `tokenizer.json`: five million in 64.
const VALUES_A_MEGABYTE: usize = 78_125;
/// Token ids below which all are, and bytes of a text, for each megabyte of it: four million and 16 MiB in 64.
const TOKENS_A_MEGABYTE: usize = 1 << 16;
const TEXT_A_MEGABYTE: usize = 1 << 18;

/// How a vocabulary is learned from a corpus.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TokenizerKind {
    /// Byte pair encoding on bytes: any text can be encoded.
    ByteLevelBpe,
    /// One token for each character of the corpus.
    Characters,
}

/// Limits for vocabularies and texts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TextLimits {
    /// Largest size of a `tokenizer.json` in bytes.
    pub file_bytes: u64,
    /// Largest number of values in it: in memory a value is many times larger than its text. A token takes two, a
    /// merge at most four; an object takes eight besides its entries.
    pub values: usize,
    /// Upper bound of all token ids (exclusive).
    pub vocabulary: usize,
    /// Largest size of a text in bytes, also after each normalization step of the tokenizer.
    pub text_bytes: usize,
}

impl Default for TextLimits {
    /// More than any published tokenizer needs: 64 MiB with room for a million tokens and 750,000 merges, texts of
    /// 16 MiB.
    fn default() -> Self {
        Self::of_megabytes(Self::default_megabytes())
    }
}

impl TextLimits {
    /// Limits for files of at most `megabytes` megabytes, with values in proportion. Tokens and texts are in proportion
    /// too, but never less than by default: a small file may have them as well.
    pub fn of_megabytes(megabytes: u64) -> Self {
        let usual = megabytes.max(Self::default_megabytes()) as usize;
        Self {
            file_bytes: megabytes.saturating_mul(MEGABYTE),
            values: (megabytes as usize).saturating_mul(VALUES_A_MEGABYTE),
            vocabulary: usual.saturating_mul(TOKENS_A_MEGABYTE),
            text_bytes: usual.saturating_mul(TEXT_A_MEGABYTE),
        }
    }

    /// Largest size of a `tokenizer.json` in megabytes where a recipe does not say it.
    pub fn default_megabytes() -> u64 {
        64
    }
}

/// A tokenizer with its vocabulary. Texts are normalized ([`normal_text`]) before training and before
/// encoding.
#[derive(Debug, Clone)]
pub struct TextTokenizer {
    inner: Tokenizer,
    vocabulary: usize,
    limits: TextLimits,
}

impl TextTokenizer {
    fn of(inner: Tokenizer, limits: TextLimits) -> Self {
        // Published vocabularies may have gaps in their ids. The number of tokens would then be too small,
        // and the special tokens that are appended behind would collide with existing ids.
        let largest = inner.get_vocab(true).into_values().max();
        Self {
            vocabulary: largest.map_or(0, |id| (id as usize).saturating_add(1)),
            inner,
            limits,
        }
    }

    /// Learns a vocabulary of at most `vocabulary` tokens from texts.
    ///
    /// # Errors
    /// If there is no text.
    pub fn train(
        kind: TokenizerKind,
        texts: &[String],
        vocabulary: usize,
    ) -> Result<Self, DataError> {
        let failed = |error: String| DataError::Text {
            reason: format!("cannot make a vocabulary: {error}"),
        };
        let texts: Vec<String> = texts.iter().map(|text| normal_text(text)).collect();
        if texts.iter().all(String::is_empty) {
            return Err(failed("there are no texts".into()));
        }
        let made = caught("the library", || match kind {
            TokenizerKind::ByteLevelBpe => byte_level_bpe(&texts, vocabulary),
            TokenizerKind::Characters => characters(&texts),
        });
        let inner = made
            .and_then(|made| made.map_err(|error| error.to_string()))
            .map_err(failed)?;
        Ok(Self::of(inner, TextLimits::default()))
    }

    /// Reads a `tokenizer.json` within the default [`TextLimits`].
    ///
    /// # Errors
    /// If the file can't be read, is not a tokenizer or exceeds the limits.
    pub fn read(path: &Path) -> Result<Self, DataError> {
        Self::read_within(path, TextLimits::default())
    }

    /// Reads a `tokenizer.json` within the given limits. Its settings for truncation and padding are
    /// ignored: texts must not be truncated silently.
    ///
    /// # Errors
    /// If the file can't be read, is not a tokenizer or exceeds the limits.
    pub fn read_within(path: &Path, limits: TextLimits) -> Result<Self, DataError> {
        let most = limits.file_bytes;
        let file = open_regular(path).map_err(io_error("read", path))?;
        let mut bytes = Vec::new();
        file.take(most.saturating_add(1))
            .read_to_end(&mut bytes)
            .map_err(io_error("read", path))?;
        Self::from_bytes_within(&bytes, path, limits)
    }

    /// Reads the bytes of a `tokenizer.json`; errors call them `name`. They are in memory already, so their number is
    /// not limited.
    ///
    /// # Errors
    /// If they are no tokenizer or ask for too much.
    pub fn from_bytes(bytes: &[u8], name: &Path) -> Result<Self, DataError> {
        Self::from_bytes_allowed(bytes, name, TextLimits::default_megabytes())
    }

    /// Reads the bytes of a `tokenizer.json` that training saved, as [`from_bytes`](Self::from_bytes), with the limits
    /// for `megabytes`, which its recipe allowed.
    ///
    /// # Errors
    /// If they are no tokenizer or ask for too much.
    pub fn from_bytes_allowed(
        bytes: &[u8],
        name: &Path,
        megabytes: u64,
    ) -> Result<Self, DataError> {
        let own = (bytes.len() as u64).div_ceil(MEGABYTE);
        let most = own.max(megabytes).max(TextLimits::default_megabytes());
        Self::from_bytes_within(bytes, name, TextLimits::of_megabytes(most))
    }

    fn from_bytes_within(bytes: &[u8], path: &Path, limits: TextLimits) -> Result<Self, DataError> {
        let most = limits.file_bytes;
        if bytes.len() as u64 > most {
            let reason = format!(
                "is larger than {most} bytes, the most that a tokenizer may have; {}",
                growth::MORE
            );
            return Err(DataError::malformed(path, reason));
        }
        let none = |error: String| DataError::malformed(path, format!("is no tokenizer: {error}"));
        let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
        let read = caught("its decoder", || parse(bytes, limits)).and_then(|read| read);
        let tokenizer = read.map_err(none)?;
        if tokenizer.vocabulary > limits.vocabulary {
            let reason = format!(
                "numbers its tokens up to {}; below {} can be used; {}",
                tokenizer.vocabulary - 1,
                limits.vocabulary,
                growth::MORE
            );
            return Err(DataError::malformed(path, reason));
        }
        Ok(tokenizer)
    }

    /// Serializes the tokenizer to the text of a `tokenizer.json`.
    ///
    /// # Errors
    /// If a part of the tokenizer can't be serialized.
    pub fn to_json(&self) -> Result<String, DataError> {
        caught("the library", || self.inner.to_string(false))
            .and_then(|text| text.map_err(|error| error.to_string()))
            .map_err(|error| DataError::Text {
                reason: format!("cannot write the vocabulary: {error}"),
            })
    }

    /// Vocabulary size `V`: all token ids are below it.
    pub fn vocabulary(&self) -> usize {
        self.vocabulary
    }

    /// Normalizes a text and encodes it. Returns at least one token.
    ///
    /// # Errors
    /// If the text is empty, has characters outside the vocabulary, gives no tokens, or is too long.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>, DataError> {
        self.encode_exact(&normal_text(text))
    }

    /// Encodes a text exactly as it is, with the spaces and line ends around it: a part of a published model's
    /// prompt. Returns at least one token.
    ///
    /// # Errors
    /// As [`encode`](Self::encode).
    pub fn encode_exact(&self, text: &str) -> Result<Vec<u32>, DataError> {
        if text.is_empty() {
            return Err(DataError::Text {
                reason: "the text is empty".into(),
            });
        }
        let encoded = caught("the tokenizer", || {
            growth::check_text(&self.inner, text, self.limits.text_bytes)?;
            let encoding = self.inner.encode(text, false);
            encoding.map_err(|error| error.to_string())
        });
        let encoding = encoded
            .and_then(|encoding| encoding)
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

    /// The id of a token, special or not, by its name.
    pub fn id_of(&self, name: &str) -> Option<u32> {
        self.inner.token_to_id(name)
    }

    /// Decodes tokens to text.
    ///
    /// # Errors
    /// If the text would be too long or can't be decoded.
    pub fn decode(&self, tokens: &[u32]) -> Result<String, DataError> {
        Ok(self.decode_exact(tokens)?.trim_start().to_owned())
    }

    /// Decodes tokens to text, with the spaces and line ends around it. Special tokens are no text.
    ///
    /// # Errors
    /// As [`decode`](Self::decode).
    pub fn decode_exact(&self, tokens: &[u32]) -> Result<String, DataError> {
        let decoded = caught("the tokenizer", || {
            growth::check_tokens(&self.inner, tokens, self.limits.text_bytes)?;
            let text = self.inner.decode(tokens, true);
            text.map_err(|error| error.to_string())
        });
        decoded
            .and_then(|text| text)
            .map_err(|error| DataError::Text {
                reason: format!("cannot decode tokens: {error}"),
            })
    }
}

/// Parses and checks a tokenizer file. Called inside [`caught`], because the library may panic.
fn parse(bytes: &[u8], limits: TextLimits) -> Result<TextTokenizer, String> {
    growth::check_size(bytes, limits.values)?;
    let parts: Parts = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
    parts.check(limits.text_bytes)?;
    let mut inner = Tokenizer::from_bytes(bytes).map_err(|error| error.to_string())?;
    inner
        .with_truncation(None)
        .map_err(|error| error.to_string())?;
    inner.with_padding(None);
    Ok(TextTokenizer::of(inner, limits))
}

fn byte_level_bpe(texts: &[String], vocabulary: usize) -> Result<Tokenizer, tokenizers::Error> {
    let mut trainer = BpeTrainerBuilder::new()
        .vocab_size(vocabulary)
        .min_frequency(2)
        .show_progress(false)
        .initial_alphabet(ByteLevel::alphabet().into_iter().collect())
        .build();
    // With a space in front, the first word is the same token as inside a sentence.
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
    let mut tokens = vec![UNKNOWN.to_owned()];
    tokens.extend(known.into_iter().map(String::from));
    let vocabulary: Vocab = tokens.into_iter().zip(0..).collect();
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
    fn a_part_of_a_prompt_keeps_its_ends() {
        let texts = [" five\n".to_owned(), "a b".to_owned()];
        let tokenizer = TextTokenizer::train(TokenizerKind::Characters, &texts, 300).unwrap();
        let ids = |text: &str| tokenizer.encode(text).unwrap();
        let mut expected = ids("a b")[1..2].to_vec();
        expected.extend(ids("five"));
        expected.extend(ids("a b")[1..2].to_vec());
        assert_eq!(tokenizer.encode_exact(" five ").unwrap(), expected);
        assert!(tokenizer.encode_exact("").is_err());
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

    /// A published `tokenizer.json` around a given model.
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

    /// Three words, the last with id 7: the first free id is 8, not 3.
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

    /// A vocabulary without an unknown token drops unknown characters.
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
            let bytes = std::fs::read(&path).unwrap();
            let read = TextTokenizer::from_bytes(&bytes, &path).unwrap();
            assert_eq!(read.encode(text).unwrap(), tokenizer.encode(text).unwrap());
        }
        std::fs::write(&path, "{}").unwrap();
        let message = TextTokenizer::read(&path).unwrap_err().to_string();
        assert!(message.contains("no tokenizer"), "{message}");
        let message = TextTokenizer::from_bytes(b"{}", &path).unwrap_err();
        assert!(message.to_string().contains("no tokenizer"), "{message}");
    }

    /// Invisible differences in texts do not change the tokens, in training and in use.
    #[test]
    fn texts_are_normal_before_they_become_tokens() {
        let raw = [
            "\u{feff}cafe\u{301}  nine\r\n".to_owned(),
            "five\u{a0}five".to_owned(),
        ];
        let normal = ["caf\u{e9} nine".to_owned(), "five five".to_owned()];
        for kind in [TokenizerKind::ByteLevelBpe, TokenizerKind::Characters] {
            let of = |texts: &[String]| TextTokenizer::train(kind, texts, 300).unwrap();
            assert_eq!(of(&raw).to_json().unwrap(), of(&normal).to_json().unwrap());
            let tokenizer = of(&normal);
            let expected = tokenizer.encode("caf\u{e9} five nine").unwrap();
            for text in [
                "\u{feff}caf\u{e9} five nine",
                "cafe\u{301} five nine",
                "caf\u{e9}\u{a0}five \r\n nine\n",
            ] {
                assert_eq!(tokenizer.encode(text).unwrap(), expected, "{text:?}");
            }
            assert!(tokenizer.encode("\u{feff}\u{a0}").is_err());
        }
    }

    fn read(bytes: &[u8], limits: TextLimits) -> Result<TextTokenizer, DataError> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("tokenizer.json");
        std::fs::write(&path, bytes).unwrap();
        TextTokenizer::read_within(&path, limits)
    }

    /// Files that made the library panic, or that have a token with id 4,294,967,295.
    #[test]
    fn damaged_files_are_refused_in_one_line() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/crashes");
        for (name, part) in [
            ("tok-16c025d1", "is no tokenizer"),
            ("tok-293818c5", "is no tokenizer"),
            ("tok-e1981921", "is no tokenizer"),
            ("tok-b85c01ed", "numbers its tokens up to 4294967295"),
        ] {
            let message = TextTokenizer::read(&folder.join(name)).unwrap_err();
            let message = message.to_string();
            assert!(
                message.contains(part) && message.contains(name),
                "{message}"
            );
            assert!(!message.contains('\n'), "{message}");
        }
        // Gaps in the ids are accepted.
        let holes = TextTokenizer::read(&folder.join("tok-8b47fd8b")).unwrap();
        assert_eq!(holes.vocabulary(), 266_001);
        assert!(!holes.encode("red").unwrap().is_empty());
        let few = TextLimits {
            vocabulary: 300,
            ..TextLimits::default()
        };
        let few = TextTokenizer::read_within(&folder.join("tok-8b47fd8b"), few);
        let told = few.unwrap_err().to_string();
        let part = "below 300 can be used; text.max_tokenizer_mb of a recipe allows more";
        assert!(told.contains(part), "{told}");
    }

    /// A complete `tokenizer.json` of letters, with the given parts added.
    fn letters(parts: &str) -> String {
        format!(
            r#"{{"version": "1.0", {parts}
                "model": {{"type": "BPE", "vocab": {{"a": 0, "b": 1}}, "merges": []}}}}"#
        )
    }

    const REST: &str = r#""truncation": null, "padding": null, "added_tokens": [],"#;

    const SMALL: TextLimits = TextLimits {
        file_bytes: 1 << 20,
        values: 1 << 16,
        vocabulary: 300,
        text_bytes: 1 << 16,
    };

    #[test]
    fn a_tokenizer_grows_its_text_within_bounds() {
        let twice = r#"{"type": "Replace", "pattern": {"String": "a"}, "content": "aa"}"#;
        let times = |count: usize| vec![twice; count].join(", ");
        let normalizer = |count: usize| {
            let steps = times(count);
            letters(&format!(
                r#"{REST} "normalizer": {{"type": "Sequence", "normalizers": [{steps}]}},"#
            ))
        };
        let few = read(normalizer(3).as_bytes(), SMALL).unwrap();
        assert_eq!(
            few.encode("ab").unwrap(),
            [[0; 8].as_slice(), &[1]].concat()
        );
        // 2^40 letters.
        let many = read(normalizer(40).as_bytes(), SMALL).unwrap();
        let message = many.encode("ab").unwrap_err().to_string();
        let told = "makes more than 65536 bytes of the text: cut the text; text.max_tokenizer_mb of a recipe allows more";
        assert!(message.ends_with(told), "{message}");
        assert_eq!(many.encode("b").unwrap(), [1]);
        let bound = TextLimits {
            text_bytes: 8,
            ..TextLimits::default()
        };
        let bound = read(normalizer(3).as_bytes(), bound).unwrap();
        assert!(bound.encode("ab").is_err());

        // The file's added tokens are normalized while it is read.
        let own = r#""added_tokens": [{"id": 2, "content": "a", "single_word": false, "lstrip": false,
            "rstrip": false, "normalized": true, "special": false}],"#;
        let own = normalizer(40).replace(r#""added_tokens": [],"#, own);
        let message = read(own.as_bytes(), SMALL).unwrap_err();
        assert!(message.to_string().contains("makes more than"), "{message}");

        // Every step of this pre-tokenizer doubles a character that is not ASCII.
        let bytes = r#"{"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true,
            "use_regex": false}"#;
        let steps = [bytes; 40].join(", ");
        let splitter = letters(&format!(
            r#"{REST} "pre_tokenizer": {{"type": "Sequence", "pretokenizers": [{steps}]}},"#
        ));
        let splitter = read(splitter.as_bytes(), SMALL).unwrap();
        let message = splitter.encode("\u{e9}").unwrap_err().to_string();
        assert!(message.contains("makes more than"), "{message}");

        let decoder = letters(&format!(
            r#"{REST} "decoder": {{"type": "Sequence", "decoders": [{}]}},"#,
            times(40)
        ));
        let decoder = read(decoder.as_bytes(), SMALL).unwrap();
        let message = decoder.decode(&[0]).unwrap_err().to_string();
        assert!(message.contains("makes more than"), "{message}");
        assert_eq!(decoder.decode(&[1]).unwrap(), "b");
    }

    #[test]
    fn what_a_file_says_of_cutting_and_filling_is_left_out() {
        let cut = letters(
            r#""truncation": {"direction": "Right", "max_length": 2, "strategy": "LongestFirst",
                "stride": 0},
            "padding": {"strategy": {"Fixed": 4000000000}, "direction": "Right",
                "pad_to_multiple_of": null, "pad_id": 0, "pad_type_id": 0, "pad_token": "a"},
            "added_tokens": [],"#,
        );
        let marked = [b"\xef\xbb\xbf", cut.as_bytes()].concat();
        let tokenizer = read(&marked, TextLimits::default()).unwrap();
        assert_eq!(tokenizer.encode("abba").unwrap(), [0, 1, 1, 0]);
        let short = TextLimits {
            file_bytes: 100,
            ..TextLimits::default()
        };
        let message = read(&marked, short).unwrap_err().to_string();
        assert!(message.contains("larger than 100 bytes"), "{message}");
        assert!(message.contains("text.max_tokenizer_mb"), "{message}");
    }

    /// What a recipe allowed, its checkpoints hold.
    #[test]
    fn a_saved_tokenizer_may_have_any_size() {
        let default = TextLimits::default();
        assert_eq!((default.file_bytes, default.values), (64 << 20, 5_000_000));
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("tokenizer.json");
        let blanks = " ".repeat(64 << 20);
        std::fs::write(&path, letters(REST) + &blanks).unwrap();
        let message = TextTokenizer::read(&path).unwrap_err().to_string();
        assert!(message.contains("larger than 67108864 bytes"), "{message}");
        let larger = TextTokenizer::read_within(&path, TextLimits::of_megabytes(65)).unwrap();
        assert_eq!(larger.encode("ab").unwrap(), [0, 1]);
        let bytes = std::fs::read(&path).unwrap();
        let saved = TextTokenizer::from_bytes(&bytes, &path).unwrap();
        assert_eq!(saved.encode("ab").unwrap(), [0, 1]);
    }

    /// Id 5,000,000 is above the usual limit.
    #[test]
    fn a_recipe_allows_more_tokens_and_longer_texts() {
        let (usual, default) = (TextLimits::of_megabytes(64), TextLimits::default());
        assert_eq!(usual, default);
        assert_eq!(
            (default.vocabulary, default.text_bytes),
            (4_194_304, 16 << 20)
        );
        let of = TextLimits::of_megabytes;
        assert_eq!(
            (of(128).vocabulary, of(128).text_bytes),
            (1 << 23, 32 << 20)
        );
        assert_eq!((of(1).vocabulary, of(1).text_bytes), (1 << 22, 16 << 20));
        let far = r#"{"version": "1.0", "model": {"type": "WordLevel", "unk_token": "a", "vocab": {"a": 0, "b": 5000000}}}"#;
        let name = Path::new("tokenizer.json");
        let message = TextTokenizer::from_bytes(far.as_bytes(), name).unwrap_err();
        let told = "tokenizer.json: numbers its tokens up to 5000000; below 4194304 can be used; \
                    text.max_tokenizer_mb of a recipe allows more";
        assert_eq!(message.to_string(), told);
        let read = read(far.as_bytes(), of(128)).unwrap();
        assert_eq!(read.vocabulary(), 5_000_001);
        let saved = TextTokenizer::from_bytes_allowed(far.as_bytes(), name, 128).unwrap();
        assert_eq!(saved.encode("b").unwrap(), [5_000_000]);
    }

    #[test]
    fn templates_of_many_parts_are_refused() {
        let part = r#"{"Sequence": {"id": "A", "type_id": 0}}"#;
        let template = |parts: usize| {
            let single = vec![part; parts].join(", ");
            letters(&format!(
                r#"{REST} "post_processor": {{"type": "TemplateProcessing", "single": [{single}],
                    "pair": [{part}, {{"Sequence": {{"id": "B", "type_id": 1}}}}],
                    "special_tokens": {{}}}},"#
            ))
        };
        let one = read(template(1).as_bytes(), TextLimits::default()).unwrap();
        assert_eq!(one.encode("ab").unwrap(), [0, 1]);
        let message = read(template(65).as_bytes(), TextLimits::default()).unwrap_err();
        assert!(message.to_string().contains("has 65 parts"), "{message}");
    }
}
