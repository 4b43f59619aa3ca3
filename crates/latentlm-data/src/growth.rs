//! Bounds the memory that an untrusted `tokenizer.json` can use. A file of a few hundred bytes can ask
//! for thirty doublings of a text. So each step of the tokenizer is run on its own, and only if its output
//! is sure to stay within the limit.

use latentlm_core::bounds::check_values;
use serde::Deserialize;
use serde_json::Value;
use tokenizers::{
    Decoder, DecoderWrapper, NormalizedString, Normalizer, NormalizerWrapper, OffsetReferential,
    OffsetType, PreTokenizedString, PreTokenizer, PreTokenizerWrapper, Tokenizer,
};

/// Largest size of a UTF-8 character in bytes.
const CHARACTER_BYTES: usize = 4;
/// The end of errors about too large a file, vocabulary or text: the key that allows more.
pub(crate) const MORE: &str = "text.max_tokenizer_mb of a recipe allows more";
/// Largest number of parts of a post-processing template. Published templates have two or three.
const TEMPLATE_PARTS: usize = 64;

/// Checks that a `tokenizer.json` has at most `most` values, as [`check_values`] counts them.
pub(crate) fn check_size(json: &[u8], most: usize) -> Result<(), String> {
    check_values(json, most).map_err(|error| format!("{error}; {MORE}"))
}

/// The parts of a `tokenizer.json` that the library runs on the file's own tokens while it loads it.
#[derive(Debug, Deserialize)]
pub(crate) struct Parts {
    #[serde(default)]
    added_tokens: Vec<Added>,
    #[serde(default)]
    normalizer: Value,
    #[serde(default)]
    post_processor: Value,
}

#[derive(Debug, Deserialize)]
struct Added {
    #[serde(default)]
    content: String,
}

impl Parts {
    /// Checks that loading the file is safe: the library normalizes all added tokens then.
    pub(crate) fn check(self, most: usize) -> Result<(), String> {
        let parts = template_parts(&self.post_processor);
        if parts > TEMPLATE_PARTS {
            return Err(format!(
                "its template has {parts} parts, {TEMPLATE_PARTS} are read"
            ));
        }
        // An invalid normalizer is reported by the library itself.
        let normalizer: Result<NormalizerWrapper, _> = serde_json::from_value(self.normalizer);
        let Ok(normalizer) = normalizer else {
            return Ok(());
        };
        for token in &self.added_tokens {
            normalise(&normalizer, token.content.as_str().into(), most)?;
        }
        Ok(())
    }
}

/// Number of entries in all lists named `single` in a post-processor.
fn template_parts(value: &Value) -> usize {
    match value {
        Value::Array(list) => list.iter().map(template_parts).sum(),
        Value::Object(map) => map
            .iter()
            .map(|(key, value)| match value.as_array() {
                Some(parts) if key == "single" => parts.len(),
                _ => template_parts(value),
            })
            .sum(),
        _ => 0,
    }
}

fn too_long(most: usize) -> String {
    format!("the tokenizer makes more than {most} bytes of the text: cut the text; {MORE}")
}

/// Checks that a text stays within `most` bytes through normalization and pre-tokenization.
pub(crate) fn check_text(tokenizer: &Tokenizer, text: &str, most: usize) -> Result<(), String> {
    if text.len() > most {
        return Err(too_long(most));
    }
    let (normalizer, splitter) = (tokenizer.get_normalizer(), tokenizer.get_pre_tokenizer());
    // A single pre-tokenizer grows a text by a small factor only and needs no check.
    let splits = matches!(splitter, Some(PreTokenizerWrapper::Sequence(_)));
    if normalizer.is_none() && !splits {
        return Ok(());
    }
    let text = NormalizedString::from(text);
    let text = match normalizer {
        Some(normalizer) => normalise(normalizer, text, most)?,
        None => text,
    };
    match splitter {
        Some(splitter) if splits => split(splitter, &mut text.into(), most),
        _ => Ok(()),
    }
}

/// Normalizes a text step by step, within `most` bytes.
fn normalise(
    normalizer: &NormalizerWrapper,
    mut text: NormalizedString,
    most: usize,
) -> Result<NormalizedString, String> {
    if let NormalizerWrapper::Sequence(steps) = normalizer {
        let steps: &[NormalizerWrapper] = steps.as_ref();
        for step in steps {
            text = normalise(step, text, most)?;
        }
        return Ok(text);
    }
    if largest(normalizer, text.get(), most)? > most {
        return Err(too_long(most));
    }
    normalizer
        .normalize(&mut text)
        .map_err(|error| error.to_string())?;
    if text.len() > most {
        Err(too_long(most))
    } else {
        Ok(text)
    }
}

/// Upper bound of the size in bytes of a text after one normalization step.
fn largest(step: &NormalizerWrapper, text: &str, most: usize) -> Result<usize, String> {
    let places = text.len().saturating_add(1);
    Ok(match step {
        // The pattern may match at every position, also without removing anything.
        NormalizerWrapper::Replace(replace) => {
            places.saturating_mul(replace.content.len().saturating_add(1))
        }
        // Added once to every part of the text between added tokens.
        NormalizerWrapper::Prepend(prepend) => places
            .saturating_mul(prepend.prepend.len())
            .saturating_add(text.len()),
        // The growth depends on a table inside the normalizer: measured piece by piece.
        NormalizerWrapper::Precompiled(_) => {
            let (mut bytes, mut piece) = (0, String::new());
            for c in text.chars() {
                // Combining marks are looked up together with the letter before them.
                if c.is_ascii() || c.is_alphanumeric() {
                    bytes += piece_bytes(step, &piece)?;
                    piece.clear();
                }
                piece.push(c);
                if bytes > most {
                    return Ok(bytes);
                }
            }
            bytes + piece_bytes(step, &piece)?
        }
        // Other steps grow a text by a small factor only; the result is checked afterwards.
        _ => text.len(),
    })
}

fn piece_bytes(step: &NormalizerWrapper, piece: &str) -> Result<usize, String> {
    let mut piece = NormalizedString::from(piece);
    step.normalize(&mut piece)
        .map_err(|error| error.to_string())?;
    Ok(piece.len())
}

/// Pre-tokenizes a text step by step, within `most` bytes.
fn split(
    splitter: &PreTokenizerWrapper,
    text: &mut PreTokenizedString,
    most: usize,
) -> Result<(), String> {
    if let PreTokenizerWrapper::Sequence(steps) = splitter {
        let steps: &[PreTokenizerWrapper] = steps.as_ref();
        for step in steps {
            split(step, text, most)?;
        }
        return Ok(());
    }
    splitter
        .pre_tokenize(text)
        .map_err(|error| error.to_string())?;
    let parts = text.get_splits(OffsetReferential::Normalized, OffsetType::Byte);
    if parts.iter().map(|(part, ..)| part.len()).sum::<usize>() > most {
        Err(too_long(most))
    } else {
        Ok(())
    }
}

/// Checks that decoding tokens stays within `most` bytes.
pub(crate) fn check_tokens(
    tokenizer: &Tokenizer,
    tokens: &[u32],
    most: usize,
) -> Result<(), String> {
    let (mut bytes, mut pieces) = (0_usize, Vec::new());
    let steps: &[DecoderWrapper] = match tokenizer.get_decoder() {
        Some(DecoderWrapper::Sequence(steps)) => steps.get_decoders(),
        Some(step) if matches!(step, DecoderWrapper::Replace(_)) => std::slice::from_ref(step),
        // Any other decoder shortens a text or grows it by a small factor only.
        _ => &[],
    };
    for token in tokens {
        let piece = tokenizer.id_to_token(*token).unwrap_or_default();
        bytes = bytes.saturating_add(piece.len().max(1));
        if bytes.saturating_mul(CHARACTER_BYTES) > most {
            return Err(too_long(most));
        }
        if !steps.is_empty() {
            pieces.push(piece);
        }
    }
    decode(steps, pieces, most).map(|_| ())
}

/// Runs the steps of a decoder one by one, within `most` bytes.
fn decode(
    steps: &[DecoderWrapper],
    mut pieces: Vec<String>,
    most: usize,
) -> Result<Vec<String>, String> {
    for step in steps {
        let bytes = pieces.iter().map(String::len).sum::<usize>() + pieces.len();
        let largest = match step {
            DecoderWrapper::Replace(replace) => {
                bytes.saturating_mul(replace.content.len().saturating_add(1))
            }
            _ => bytes,
        };
        if largest > most {
            return Err(too_long(most));
        }
        pieces = match step {
            DecoderWrapper::Sequence(steps) => decode(steps.get_decoders(), pieces, most)?,
            step => step
                .decode_chain(pieces)
                .map_err(|error| error.to_string())?,
        };
    }
    Ok(pieces)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tokenizer_of_too_many_values_names_the_key() {
        let list = |count: usize| format!("[{}0]", "0,".repeat(count));
        check_size(list(48).as_bytes(), 50).unwrap();
        let told = check_size(list(49).as_bytes(), 50).unwrap_err();
        let (count, key) = told.split_once("; ").unwrap();
        assert!(count.starts_with("has 51 values"), "{told}");
        assert_eq!(key, "text.max_tokenizer_mb of a recipe allows more");
    }

    /// What is checked of a file takes no more memory while the library reads all of it.
    #[test]
    fn objects_of_a_normalizer_count_as_the_memory_that_they_take() {
        let json = format!("{{\"normalizer\": [{}0]}}", "{\"\":0},".repeat(100));
        let told = check_size(json.as_bytes(), 1000).unwrap_err();
        assert!(told.starts_with("has 1011 values"), "{told}");
    }
}
