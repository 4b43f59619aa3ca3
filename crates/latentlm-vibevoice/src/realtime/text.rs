//! Text that arrives while it is spoken: which of it can be read already.

/// Text on its way to tokens. What is handed out never changes, whatever is pushed afterwards, and all of it
/// together is what the whole text gives at once.
///
/// Vocabularies of Qwen2.5's kind cut a text before they make tokens: a space always begins a new piece, and so
/// do the `STOPS` behind a letter. Everything up to the last such place is settled.
#[derive(Debug, Default)]
pub struct RealtimeText {
    /// Text whose tokens may still change with what follows.
    waiting: String,
    begun: bool,
}

/// Marks that begin a new piece behind a letter, and are no part of a special token.
const STOPS: [char; 13] = [
    ',', '.', ';', ':', '!', '?', '\u{3001}', '\u{3002}', '\u{ff0c}', '\u{ff1a}', '\u{ff1b}',
    '\u{ff01}', '\u{ff1f}',
];

impl RealtimeText {
    /// Takes more of the text. Returns the tokens that are settled by it. `encode` makes tokens of a text
    /// exactly as it is.
    ///
    /// # Errors
    /// If `encode` fails.
    pub fn push<E>(
        &mut self,
        text: &str,
        mut encode: impl FnMut(&str) -> Result<Vec<u32>, E>,
    ) -> Result<Vec<u32>, E> {
        // White space around the text is no part of it.
        let text = if self.begun {
            text
        } else {
            text.trim_start_matches(|c: char| c.is_whitespace() || c == '\u{feff}')
        };
        self.begun |= !text.is_empty();
        self.waiting.push_str(text);
        let settled = settled(&self.waiting);
        if settled == 0 {
            return Ok(Vec::new());
        }
        let tokens = encode(&self.waiting[..settled])?;
        self.waiting.drain(..settled);
        Ok(tokens)
    }

    /// Whether nothing but white space has come so far.
    pub fn is_blank(&self) -> bool {
        !self.begun
    }

    /// The end of the text: the tokens of what was not settled, and of the line end that the model expects.
    ///
    /// # Errors
    /// If `encode` fails.
    pub fn finish<E>(
        self,
        mut encode: impl FnMut(&str) -> Result<Vec<u32>, E>,
    ) -> Result<Vec<u32>, E> {
        encode(&format!("{}\n", self.waiting.trim_end()))
    }
}

/// Bytes of a text that stay the same pieces whatever follows.
fn settled(text: &str) -> usize {
    let words = text.trim_end().len();
    let mut last = None;
    let mut settled = 0;
    for (place, character) in text.char_indices() {
        let before = last.replace(character);
        let Some(before) = before else {
            continue;
        };
        // A space at the end may be cut off, and a mark before it is then one piece with the line end.
        let is_word_end = character == ' ' && !before.is_whitespace() && place < words;
        if is_word_end || (is_letter(before) && STOPS.contains(&character)) {
            settled = place;
        }
    }
    settled
}

/// Letters that nothing behind them changes. (Marks and letters of many scripts are made one by normalization.)
fn is_letter(character: char) -> bool {
    character.is_ascii_alphabetic()
        || matches!(character, '\u{3400}'..='\u{4dbf}' | '\u{4e00}'..='\u{9fff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A token for each character.
    fn letters(text: &str) -> Result<Vec<u32>, ()> {
        Ok(text.chars().map(u32::from).collect())
    }

    fn spelled(tokens: Vec<u32>) -> String {
        tokens.into_iter().filter_map(char::from_u32).collect()
    }

    #[test]
    fn what_can_still_change_waits() {
        let mut text = RealtimeText::default();
        let mut settled = Vec::new();
        for part in [
            " \n",
            "He",
            "llo",
            " ",
            " th",
            "ere",
            ". ",
            "\n",
            "\u{4f60}\u{597d}\u{ff0c}",
        ] {
            settled.push(spelled(text.push(part, letters).unwrap()));
        }
        assert_eq!(
            settled,
            [
                "",
                "",
                "",
                "",
                "Hello",
                "",
                "  there",
                "",
                ". \n\u{4f60}\u{597d}"
            ]
        );
        assert!(!text.is_blank());
        assert_eq!(spelled(text.finish(letters).unwrap()), "\u{ff0c}\n");
    }

    #[test]
    fn all_of_a_text_comes_however_it_is_cut() {
        let whole = "\u{feff} It's 3.5 a.m., e\u{301}t cetera ... <|im_end|> no?  \n yes!\t\n ";
        for size in 1..10 {
            let mut text = RealtimeText::default();
            let mut tokens = Vec::new();
            let characters: Vec<char> = whole.chars().collect();
            for part in characters.chunks(size) {
                let part: String = part.iter().collect();
                tokens.extend(text.push(&part, letters).unwrap());
            }
            tokens.extend(text.finish(letters).unwrap());
            let trimmed = whole.trim_start_matches('\u{feff}').trim();
            assert_eq!(spelled(tokens), format!("{trimmed}\n"), "pieces of {size}");
        }
        assert!(RealtimeText::default().is_blank());
        let nothing = RealtimeText::default().finish(letters).unwrap();
        assert_eq!(spelled(nothing), "\n");
    }
}
