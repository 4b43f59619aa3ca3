//! A vocabulary as vibevoice.cpp's converter writes it, as the `tokenizer.json` that it was made from.

use std::path::Path;

use serde_json::{Map, Value as Json, json};

use super::header::Value;
use super::{Gguf, is_gguf};
use crate::error::PretrainedError;
use crate::shards::read_vocabulary;

/// The `general.architecture` of a vocabulary.
const TOKENIZER: &str = "vibevoice-tokenizer";
/// The only kind of vocabulary: byte pairs, as Qwen2 has them.
const KIND: &str = "qwen2-bbpe";
/// Type of special tokens. Tokens of the vocabulary itself have 0, all other added ones another number.
const SPECIAL: i64 = 1;

/// The `tokenizer.json` of a vocabulary in a GGUF file; `None` if the file is no GGUF file.
///
/// # Errors
/// If the file can't be read, or is no vocabulary that vibevoice.cpp writes.
pub fn gguf_tokenizer(path: &Path) -> Result<Option<String>, PretrainedError> {
    if !is_gguf(path) {
        return Ok(None);
    }
    Ok(Some(of_gguf(path)?.to_string()))
}

/// A vocabulary in either format, as a `tokenizer.json`.
///
/// # Errors
/// If it can't be read.
pub(crate) fn read_tokenizer(path: &Path) -> Result<Json, PretrainedError> {
    if is_gguf(path) {
        of_gguf(path)
    } else {
        read_vocabulary(path)
    }
}

fn of_gguf(path: &Path) -> Result<Json, PretrainedError> {
    let file = Gguf::open(path, TOKENIZER)?;
    let kind = file.text("tokenizer.model")?;
    if kind != KIND {
        return Err(file.wrong(format!(
            "holds a vocabulary `{}`; only `{KIND}` is supported",
            kind.escape_debug()
        )));
    }
    let pattern = file.text("tokenizer.pretokenizer_regex")?;
    let tokens = file.texts("tokenizer.tokens")?;
    let types = match file.value("tokenizer.token_type") {
        Some(Value::Integers(types)) if types.len() == tokens.len() => types,
        _ => return Err(file.wrong("lacks a `tokenizer.token_type` for each of its tokens")),
    };
    let (mut vocabulary, mut added) = (Map::new(), Vec::new());
    for (id, (token, kind)) in tokens.iter().zip(types).enumerate() {
        if token.is_empty() {
            // A gap in the ids.
            continue;
        }
        if *kind == 0 {
            vocabulary.insert(token.clone(), json!(id));
        } else {
            added.push(json!({
                "id": id, "content": token, "single_word": false, "lstrip": false, "rstrip": false,
                "normalized": false, "special": *kind == SPECIAL,
            }));
        }
    }
    let mut merges = Vec::new();
    for merge in file.texts("tokenizer.merges")? {
        let Some((first, second)) = merge.split_once(' ') else {
            let merge = merge.escape_debug();
            return Err(file.wrong(format!("has a merge `{merge}`, which is no pair")));
        };
        merges.push(json!([first, second]));
    }
    let bytes = json!({
        "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": false, "use_regex": false,
    });
    let split = json!({
        "type": "Split", "pattern": { "Regex": pattern }, "behavior": "Isolated", "invert": false,
    });
    Ok(json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": added,
        // Qwen2's, of which the file does not tell.
        "normalizer": { "type": "NFC" },
        "pre_tokenizer": { "type": "Sequence", "pretokenizers": [split, bytes] },
        "post_processor": null,
        "decoder": bytes,
        "model": {
            "type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": "",
            "end_of_word_suffix": "", "fuse_unk": false, "byte_fallback": false, "ignore_merges": false,
            "vocab": vocabulary, "merges": merges,
        },
    }))
}
