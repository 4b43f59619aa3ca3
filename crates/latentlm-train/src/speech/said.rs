//! Which token of the text is spoken in each latent.

use latentlm::sequence::{ControlTokens, Document};
use latentlm_data::speech::SpokenWord;
use latentlm_data::{DataError, TextTokenizer};

/// The document of an utterance of `frames` latents of `hop` samples each. Where its words are known, it has
/// the token that each latent says.
///
/// # Errors
/// If its text or one of the words can't be encoded.
pub fn document(
    text: &str,
    words: Option<&[SpokenWord]>,
    frames: usize,
    hop: usize,
    tokenizer: &TextTokenizer,
) -> Result<Document, DataError> {
    // A latent in which no word is spoken says that another latent comes.
    let silence = ControlTokens::after(tokenizer.vocabulary()).more;
    let said = match words {
        Some(words) => said(words, frames, hop, tokenizer, silence)?,
        None => Vec::new(),
    };
    Ok(Document::of_speech(tokenizer.encode(text)?, frames, said))
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
        let whole = |text, words| document(text, words, 3, 40, &tokenizer);
        assert!(whole("abc", Some(&words[..])).is_err());
        let silent = whole("abc", None).unwrap();
        assert_eq!(silent, Document::of_speech(vec![0], 3, Vec::new()));
    }
}
