//! Which token of the text each latent says.

use latentlm::core::sequence::ControlTokens;
use latentlm_data::TextTokenizer;
use latentlm_data::speech::SpokenWord;

use crate::error::TrainError;

/// What latents say that say no word: that another comes.
pub(crate) fn silence(tokenizer: &TextTokenizer) -> u32 {
    ControlTokens::after(tokenizer.vocabulary()).more
}

/// The token that each of `frames` latents of `hop` samples says. The pause before a word belongs to
/// it: there the model has to choose it. A word's first latent says `silence`: that tells how long the
/// word has been said, and one "two" from the next. A word of several tokens is shared out evenly among
/// them, and behind the last word `silence` is said.
///
/// # Errors
/// If a word can't be encoded.
pub(crate) fn said(
    words: &[SpokenWord],
    frames: usize,
    hop: usize,
    tokenizer: &TextTokenizer,
    silence: u32,
) -> Result<Vec<u32>, TrainError> {
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
}
