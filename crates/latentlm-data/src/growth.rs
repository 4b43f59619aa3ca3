//! How long the parts of somebody's `tokenizer.json` may make a text. A file of a few hundred bytes
//! can ask for thirty doublings: what it makes of a text is followed step by step, and the next step
//! is not taken where it might need too much.

use serde::Deserialize;
use serde_json::Value;
use tokenizers::{
    Decoder, DecoderWrapper, NormalizedString, Normalizer, NormalizerWrapper, OffsetReferential,
    OffsetType, PreTokenizedString, PreTokenizer, PreTokenizerWrapper, Tokenizer,
};

/// Bytes that a character takes at most.
const CHARACTER_BYTES: usize = 4;
/// Parts of a template that puts a text between other tokens: published ones have two or three.
const TEMPLATE_PARTS: usize = 64;

/// The parts of a `tokenizer.json` that are applied to its own tokens while it is read.
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
    /// Whether the library may read the file: its added tokens are normalised then.
    pub(crate) fn check(&self, most: usize) -> Result<(), String> {
        let parts = template_parts(&self.post_processor);
        if parts > TEMPLATE_PARTS {
            return Err(format!(
                "its template has {parts} parts, {TEMPLATE_PARTS} are read"
            ));
        }
        // What is no normalizer is told by the library.
        let normalizer: Result<NormalizerWrapper, _> =
            serde_json::from_value(self.normalizer.clone());
        let Ok(normalizer) = normalizer else {
            return Ok(());
        };
        for token in &self.added_tokens {
            normalise(&normalizer, token.content.as_str().into(), most)?;
        }
        Ok(())
    }
}

/// Entries of all lists called `single` in a post-processor.
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
    format!("the tokenizer makes more than {most} bytes of the text: cut the text")
}

/// Whether a text, with everything that the tokenizer does to it before it looks for tokens, stays
/// within `most` bytes.
pub(crate) fn check_text(tokenizer: &Tokenizer, text: &str, most: usize) -> Result<(), String> {
    if text.len() > most {
        return Err(too_long(most));
    }
    let (normalizer, splitter) = (tokenizer.get_normalizer(), tokenizer.get_pre_tokenizer());
    // One step that makes at most a few bytes of one needs no second look.
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

/// A text after a normalizer.
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

/// Bytes that a single step makes of a text at most.
fn largest(step: &NormalizerWrapper, text: &str, most: usize) -> Result<usize, String> {
    let places = text.len().saturating_add(1);
    Ok(match step {
        // It may match at every place, and leave what stands there.
        NormalizerWrapper::Replace(replace) => {
            places.saturating_mul(replace.content.len().saturating_add(1))
        }
        // Once for every part of the text between added tokens.
        NormalizerWrapper::Prepend(prepend) => places
            .saturating_mul(prepend.prepend.len())
            .saturating_add(text.len()),
        // A table: what it makes of a character stands in it and nowhere else.
        NormalizerWrapper::Precompiled(_) => {
            let (mut bytes, mut piece) = (0, String::new());
            for c in text.chars() {
                // Marks are looked up together with the letter before them.
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
        // The rest make a few bytes of one at most, which is seen afterwards.
        _ => text.len(),
    })
}

fn piece_bytes(step: &NormalizerWrapper, piece: &str) -> Result<usize, String> {
    let mut piece = NormalizedString::from(piece);
    step.normalize(&mut piece)
        .map_err(|error| error.to_string())?;
    Ok(piece.len())
}

/// Splits a text step by step.
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

/// Whether the text of tokens stays within `most` bytes.
pub(crate) fn check_tokens(
    tokenizer: &Tokenizer,
    tokens: &[u32],
    most: usize,
) -> Result<(), String> {
    let (mut bytes, mut pieces) = (0_usize, Vec::new());
    let steps: &[DecoderWrapper] = match tokenizer.get_decoder() {
        Some(DecoderWrapper::Sequence(steps)) => steps.get_decoders(),
        Some(step) if matches!(step, DecoderWrapper::Replace(_)) => std::slice::from_ref(step),
        // Every other step makes a text shorter, or a little longer.
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

/// Takes the steps of a decoder one by one.
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
