//! Which token of the text is spoken in each latent.

use latentlm::RandomStream;
use latentlm::sequence::{ControlTokens, Document, UNTOLD};
use latentlm_data::speech::SpokenWord;
use latentlm_data::{DataError, TextTokenizer};
use latentlm_pipelines::{SpeechData, SpeechRecipe};

/// Text and speech of an utterance as tokens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spoken {
    /// Its text.
    pub tokens: Vec<u32>,
    /// Number of its latents.
    pub frames: usize,
    /// The token that each latent says, or [`UNTOLD`]; empty if that is not known.
    pub said: Vec<u32>,
}

impl Spoken {
    /// An utterance of `frames` latents of `hop` samples each. Where its words are known, it has the token
    /// that each latent says.
    ///
    /// # Errors
    /// If its text or one of the words can't be encoded.
    pub fn of(
        text: &str,
        words: Option<&[SpokenWord]>,
        frames: usize,
        hop: usize,
        tokenizer: &TextTokenizer,
    ) -> Result<Self, DataError> {
        // A latent in which no word is spoken says that another latent comes.
        let silence = ControlTokens::after(tokenizer.vocabulary()).more;
        let said = match words {
            Some(words) => said(words, frames, hop, tokenizer, silence)?,
            None => Vec::new(),
        };
        Ok(Self {
            tokens: tokenizer.encode(text)?,
            frames,
            said,
        })
    }

    /// Its document.
    pub fn document(self) -> Document {
        Document::of_speech(self.tokens, self.frames, self.said)
    }

    /// This utterance as one whose words nobody tells, as when speaking begins behind a recording.
    pub fn untold(self) -> Self {
        Self {
            said: vec![UNTOLD; self.frames],
            ..self
        }
    }

    /// This utterance and another one behind it, as speech behind a voice prompt is read. If only one of them
    /// knows what its latents say, those of the other say `silence`.
    pub fn then(mut self, next: Self, silence: u32) -> Self {
        let known = !(self.said.is_empty() && next.said.is_empty());
        let frames = self.frames + next.frames;
        if known {
            self.said.resize(self.frames, silence);
            self.said.extend(next.said);
            self.said.resize(frames, silence);
        }
        self.tokens.extend(next.tokens);
        Self { frames, ..self }
    }
}

/// Text and words of an utterance as it is trained: a share `text.without_full_stop` of the texts lacks its full stop.
pub fn trained_text(
    data: &SpeechData,
    recipe: &SpeechRecipe,
    index: usize,
) -> (String, Option<Vec<SpokenWord>>) {
    let (mut text, words) = data.text(index);
    let mut random = RandomStream::for_step(recipe.seed, "full-stops", index as u64);
    if random.chance(recipe.text.without_full_stop) {
        text = without_full_stop(&text).to_owned();
    }
    (text, words)
}

/// The text without the full stop at its end, if it has one.
fn without_full_stop(text: &str) -> &str {
    let bare = text.trim_end().strip_suffix(['.', '\u{3002}']);
    match bare.map(str::trim_end) {
        // Three dots are no full stop.
        Some(bare) if !bare.is_empty() && !bare.ends_with('.') => bare,
        _ => text,
    }
}

/// An utterance without its text and without the tokens that its latents say: guidance needs that.
pub fn without_text(document: &Document) -> Document {
    Document::of_speech(Vec::new(), document.frames(0), Vec::new())
}

/// The token that each of `frames` latents of `hop` samples says. The pause before a word belongs to the
/// word: there the model has to choose it. A word's first latent says `silence`. That tells how long the
/// word has been spoken, and tells one "two" from the next. A word of several tokens is divided evenly among
/// them. Behind the last word latents say `silence`.
///
/// # Errors
/// If a word can't be encoded, or gives no token.
fn said(
    words: &[SpokenWord],
    frames: usize,
    hop: usize,
    tokenizer: &TextTokenizer,
    silence: u32,
) -> Result<Vec<u32>, DataError> {
    let mut said = Vec::with_capacity(frames);
    for word in words {
        let tokens = tokenizer.encode(&word.text)?;
        let first = said.len();
        // The latent in which a word ends still says it.
        let end = word.end.div_ceil(hop).min(frames);
        let own = end.saturating_sub(first);
        said.extend((0..own).map(|frame| match frame {
            0 if own > 1 => silence,
            _ => tokens[frame * tokens.len() / own],
        }));
    }
    said.resize(frames, silence);
    Ok(said)
}

#[cfg(test)]
mod tests {
    use super::*;
    use latentlm_data::TokenizerKind;

    #[test]
    fn latents_say_the_tokens_of_their_words() {
        let texts = ["ab c".to_owned()];
        let tokenizer = TextTokenizer::train(TokenizerKind::Characters, &texts, 16).unwrap();
        let token = |text: &str| tokenizer.encode(text).unwrap()[0];
        let word = |text: &str, end| SpokenWord {
            text: text.into(),
            end,
        };
        let words = [word("ab", 35), word("c", 60)];
        let [a, b, c, silence] = [token("a"), token("b"), token("c"), 99];
        let tokens = said(&words, 8, 10, &tokenizer, silence).unwrap();
        let expected = [silence, a, b, b, silence, c, silence, silence];
        assert_eq!(tokens, expected);
        let cut = said(&words, 2, 10, &tokenizer, silence).unwrap();
        assert_eq!(cut, [silence, b]);
    }

    #[test]
    fn utterances_behind_each_other_are_told_as_one() {
        let spoken = |tokens: &[u32], frames, said: &[u32]| Spoken {
            tokens: tokens.to_vec(),
            frames,
            said: said.to_vec(),
        };
        let (told, mute) = (spoken(&[1, 2], 2, &[1, 2]), spoken(&[3], 3, &[]));
        let both = told.clone().then(mute.clone(), 9);
        assert_eq!(both, spoken(&[1, 2, 3], 5, &[1, 2, 9, 9, 9]));
        let both = mute.clone().then(told, 9);
        assert_eq!(both, spoken(&[3, 1, 2], 5, &[9, 9, 9, 1, 2]));
        let both = mute.clone().then(mute.clone(), 9);
        assert_eq!(both, spoken(&[3, 3], 6, &[]));
        // Of a prompt whose words are not told nothing is learned, not even silence.
        let told = spoken(&[1, 2], 2, &[1, 2]);
        let both = told.clone().untold().then(told.clone(), 9);
        assert_eq!(both, spoken(&[1, 2, 1, 2], 4, &[UNTOLD, UNTOLD, 1, 2]));
        let both = told.untold().then(mute, 9);
        assert_eq!(both, spoken(&[1, 2, 3], 5, &[UNTOLD, UNTOLD, 9, 9, 9]));
    }

    #[test]
    fn full_stops_are_left_out() {
        for (text, expected) in [
            ("Good morning.", "Good morning"),
            ("Good morning. ", "Good morning"),
            ("Is it?", "Is it?"),
            ("Well...", "Well..."),
            (".", "."),
            ("\u{597d}\u{3002}", "\u{597d}"),
        ] {
            assert_eq!(without_full_stop(text), expected, "{text}");
        }
    }

    #[test]
    fn the_text_is_left_out_with_all_that_tells_it() {
        let told = Document::of_speech(vec![1, 2], 3, vec![1, 2, 9]);
        let mute = Document::of_speech(Vec::new(), 3, Vec::new());
        assert_eq!(without_text(&told), mute);
    }

    /// A vocabulary of others, which has a word's first letter but nothing of the next word.
    #[test]
    fn a_word_without_tokens_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("tokenizer.json");
        let json = r#"{"version": "1.0", "truncation": null, "padding": null, "added_tokens": [],
            "normalizer": null, "pre_tokenizer": null, "post_processor": null, "decoder": null,
            "model": {"type": "BPE", "vocab": {"a": 0}, "merges": []}}"#;
        std::fs::write(&path, json).unwrap();
        let tokenizer = TextTokenizer::read(&path).unwrap();
        let words = ["ab", "c"].map(|text| SpokenWord {
            text: text.into(),
            end: 100,
        });
        assert_eq!(said(&words[..1], 3, 40, &tokenizer, 9).unwrap(), [9, 0, 0]);
        let message = said(&words, 6, 10, &tokenizer, 9).unwrap_err().to_string();
        assert!(message.contains("nothing of `c`"), "{message}");
        let whole = |text, words| Spoken::of(text, words, 3, 40, &tokenizer);
        assert!(whole("abc", Some(&words[..])).is_err());
        let silent = whole("abc", None).unwrap().document();
        assert_eq!(silent, Document::of_speech(vec![0], 3, Vec::new()));
    }
}
