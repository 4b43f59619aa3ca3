//! Text of tokens that come one by one.

use crate::error::DataError;
use crate::text::TextTokenizer;

/// What a decoder writes for bytes that are no character, or not yet one.
const NO_CHARACTER: char = '\u{fffd}';
/// Tokens after which a character that is not whole is taken as it is.
const MOST_TOKENS: usize = 8;

/// Decodes tokens as they come. A character of several tokens comes with the last of them.
#[derive(Debug)]
pub struct TextStream<'a> {
    tokenizer: &'a TextTokenizer,
    /// The tokens of the last text, and those whose text is still to come: what a token stands for may depend on
    /// the one before.
    tokens: Vec<u32>,
    /// Number of tokens of the last text.
    told: usize,
}

impl<'a> TextStream<'a> {
    /// A stream before its first token.
    pub fn new(tokenizer: &'a TextTokenizer) -> Self {
        Self {
            tokenizer,
            tokens: Vec::new(),
            told: 0,
        }
    }

    /// The text that a further token adds, which may be empty.
    ///
    /// # Errors
    /// If the tokens can't be decoded.
    pub fn push(&mut self, token: u32) -> Result<String, DataError> {
        self.tokens.push(token);
        let waiting = self.tokens.len() - self.told;
        self.more(waiting < MOST_TOKENS)
    }

    /// The text of tokens that are still waiting for others.
    ///
    /// # Errors
    /// If the tokens can't be decoded.
    pub fn finish(&mut self) -> Result<String, DataError> {
        self.more(false)
    }

    fn more(&mut self, may_wait: bool) -> Result<String, DataError> {
        let told = self.tokenizer.decode_exact(&self.tokens[..self.told])?;
        let all = self.tokenizer.decode_exact(&self.tokens)?;
        if may_wait && all.ends_with(NO_CHARACTER) {
            return Ok(String::new());
        }
        let text = all.get(told.len()..).unwrap_or_default().to_owned();
        self.tokens.drain(..self.told);
        self.told = self.tokens.len();
        Ok(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::TokenizerKind;

    /// One token a byte: characters of up to four tokens.
    #[test]
    fn characters_come_whole() {
        let texts = ["a b".to_owned()];
        let tokenizer = TextTokenizer::train(TokenizerKind::ByteLevelBpe, &texts, 300).unwrap();
        let text = "Gr\u{f6}\u{df}e \u{1f600}\n\n[{\"a\": 1}]  end";
        let tokens = tokenizer.encode_exact(text).unwrap();
        let mut stream = TextStream::new(&tokenizer);
        let mut all = String::new();
        for token in tokens {
            let piece = stream.push(token).unwrap();
            assert!(!piece.contains(NO_CHARACTER), "{piece}");
            all.push_str(&piece);
        }
        all.push_str(&stream.finish().unwrap());
        assert_eq!(all.trim_start(), text);
    }

    #[test]
    fn bytes_that_stay_no_character_are_told() {
        let texts = ["a b".to_owned()];
        let tokenizer = TextTokenizer::train(TokenizerKind::ByteLevelBpe, &texts, 300).unwrap();
        let tokens = tokenizer.encode_exact("\u{1f600}").unwrap();
        let broken = tokens[tokens.len() - 4];
        let mut stream = TextStream::new(&tokenizer);
        let mut all = String::new();
        for token in [broken; 20] {
            all.push_str(&stream.push(token).unwrap());
        }
        all.push_str(&stream.finish().unwrap());
        assert_eq!(
            all.chars().filter(|c| *c == NO_CHARACTER).count(),
            20,
            "{all}"
        );
        assert_eq!(stream.finish().unwrap(), "");
    }
}
