//! Which model a published folder or GGUF file holds, and in whose format: told by its `config.json` or metadata,
//! before a weight is read.

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::error::{PretrainedError, json_error};
use super::family::{Dialect, Member, Published};
use super::gguf;
use super::quantized;
use super::shards::{files, read_json};

/// The file that describes a published model.
pub(crate) const CONFIG: &str = "config.json";
/// The file that describes an adapter.
const ADAPTER: &str = "adapter_config.json";
/// The vocabulary.
const TOKENIZER: &str = "tokenizer.json";
/// The vocabulary beside a GGUF file.
const GGUF_TOKENIZER: &str = "tokenizer.gguf";

impl Published {
    /// Reads `folder/config.json`; no file of weights is opened. In the place of a folder there may be a GGUF file, of
    /// which the metadata are read.
    ///
    /// # Errors
    /// If it can't be read, or if the folder holds what this crate does not have: another model, quantized
    /// weights, or an adapter without its base.
    pub fn read(folder: &Path) -> Result<Self, PretrainedError> {
        if folder.is_file() {
            return gguf::published(folder);
        }
        refuse_adapter(folder)?;
        let path = folder.join(CONFIG);
        let mut config = read_json(&path)?;
        let refuse = |reason| {
            let path = path.clone();
            Err(PretrainedError::Unsupported { path, reason })
        };
        // Taken out, so that a model that is written again does not say so.
        let keys = config.as_object_mut();
        let quantization = keys.and_then(|keys| keys.remove(quantized::KEY));
        let quantization = quantization.filter(|quantization| !quantization.is_null());
        if let Some(reason) = quantization.as_ref().and_then(quantized::refused) {
            return refuse(reason);
        }
        let dialect = if config.get("decoder_config").is_some() {
            Dialect::Original
        } else {
            Dialect::Transformers
        };
        match member(&config) {
            Ok(member) => Ok(Self {
                member,
                dialect,
                config,
                quantized: quantization.is_some(),
                path,
            }),
            Err(reason) => refuse(reason),
        }
    }

    /// Returns itself if it describes the wanted model.
    ///
    /// # Errors
    /// If it describes another one.
    pub(crate) fn expect(self, wanted: Member) -> Result<Self, PretrainedError> {
        if self.member == wanted {
            return Ok(self);
        }
        let reason = format!("describes {}; wanted is {wanted}", self.member);
        Err(PretrainedError::Unsupported {
            path: self.path,
            reason,
        })
    }
}

/// The model that a configuration describes, or why there is none. Several models share a `model_type`, so
/// `architectures` counts; it may be missing in a configuration that was written by hand.
fn member(config: &Value) -> Result<Member, String> {
    let unknown = |what: &str, name: &str| {
        Err(format!(
            "{what} `{name}` is no model of VibeVoice that is supported"
        ))
    };
    if let Some(name) = config["architectures"][0].as_str() {
        return match name {
            "VibeVoiceForConditionalGeneration" | "VibeVoiceForConditionalGenerationInference" => {
                Ok(Member::Speech)
            }
            "VibeVoiceStreamingForConditionalGeneration"
            | "VibeVoiceStreamingForConditionalGenerationInference" => Ok(Member::Realtime),
            "VibeVoiceForASRTraining" | "VibeVoiceAsrForConditionalGeneration" => {
                Ok(Member::Recognition)
            }
            "VibeVoiceForASRStreamingTraining" => Err(format!(
                "architecture `{name}` is VibeVoice-ASR-Streaming, which is not supported; VibeVoice-ASR is"
            )),
            _ => unknown("architecture", name),
        };
    }
    match config["model_type"].as_str() {
        None | Some("vibevoice") => Ok(Member::Speech),
        Some("vibevoice_streaming") => Ok(Member::Realtime),
        Some("vibevoice_asr") => Ok(Member::Recognition),
        Some(name) => unknown("model_type", name),
    }
}

/// Refuses a folder that has an adapter and no weights of a model.
fn refuse_adapter(folder: &Path) -> Result<(), PretrainedError> {
    let path = folder.join(ADAPTER);
    if !path.exists() {
        return Ok(());
    }
    let has_model = folder.join(CONFIG).exists() && files(folder)?.iter().any(|file| file.exists());
    if has_model {
        return Ok(());
    }
    let config = read_json(&path)?;
    let base = config["base_model_name_or_path"].as_str();
    let reason = format!(
        "the folder holds an adapter of {} and no model: merge the adapter into that model, and take the \
         folder that this makes",
        base.unwrap_or("another model")
    );
    Err(PretrainedError::Unsupported { path, reason })
}

/// The vocabulary of a published model: `given`, else `tokenizer.json` in its folder, else `tokenizer.gguf` or
/// `tokenizer.json` beside its GGUF file.
///
/// # Errors
/// If there is none. The message names the model whose file it is.
pub fn find_tokenizer(folder: &Path, given: Option<&Path>) -> Result<PathBuf, PretrainedError> {
    let path = match given {
        Some(path) => path.to_owned(),
        None if folder.is_file() => {
            let path = folder.with_file_name(GGUF_TOKENIZER);
            if path.exists() {
                path
            } else {
                folder.with_file_name(TOKENIZER)
            }
        }
        None => folder.join(TOKENIZER),
    };
    if path.exists() {
        return Ok(path);
    }
    let preprocessor = read_json(&folder.join("preprocessor_config.json")).unwrap_or_default();
    let model = preprocessor["language_model_pretrained_name"].as_str();
    let model = model.unwrap_or("its language model (Qwen/Qwen2.5-1.5B for VibeVoice-1.5B)");
    Err(PretrainedError::NoTokenizer {
        path,
        model: model.to_owned(),
    })
}

/// The id of a token in a `tokenizer.json`.
///
/// # Errors
/// If the file can't be read or has no such token.
pub(crate) fn token_id(
    tokenizer: &Value,
    path: &Path,
    token: &str,
) -> Result<u32, PretrainedError> {
    let added = tokenizer["added_tokens"].as_array();
    let mut added = added.into_iter().flatten();
    let found = added.find(|entry| entry["content"].as_str() == Some(token));
    let id = match found {
        Some(entry) => &entry["id"],
        None => &tokenizer["model"]["vocab"][token],
    };
    let id = id.as_u64().and_then(|id| u32::try_from(id).ok());
    id.ok_or_else(|| {
        json_error(
            path,
            format!("has no token `{token}`, which the model needs"),
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(config: &Value) -> Result<Published, PretrainedError> {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(CONFIG), config.to_string()).unwrap();
        Published::read(dir.path())
    }

    /// One `model_type` stands for several models.
    #[test]
    fn the_architecture_tells_the_member() {
        for (architecture, member) in [
            ("VibeVoiceForConditionalGeneration", Member::Speech),
            ("VibeVoiceForASRTraining", Member::Recognition),
            ("VibeVoiceAsrForConditionalGeneration", Member::Recognition),
            (
                "VibeVoiceStreamingForConditionalGenerationInference",
                Member::Realtime,
            ),
        ] {
            let config = json!({ "architectures": [architecture], "model_type": "vibevoice" });
            assert_eq!(read(&config).unwrap().member, member);
        }
        for (name, member) in [
            ("vibevoice", Member::Speech),
            ("vibevoice_asr", Member::Recognition),
            ("vibevoice_streaming", Member::Realtime),
        ] {
            let config = json!({ "model_type": name, "decoder_config": {} });
            let published = read(&config).unwrap();
            assert_eq!(published.member, member);
            assert_eq!(published.dialect, Dialect::Original);
        }
    }

    #[test]
    fn other_models_are_refused_by_what_they_are() {
        for (config, part) in [
            (
                json!({ "architectures": ["VibeVoiceForASRStreamingTraining"], "model_type": "vibevoice" }),
                "VibeVoice-ASR-Streaming",
            ),
            (
                json!({ "architectures": ["LlamaForCausalLM"] }),
                "architecture `LlamaForCausalLM`",
            ),
            (json!({ "model_type": "llama" }), "model_type `llama`"),
            (
                json!({ "model_type": "vibevoice", "quantization_config": { "quant_method": "bitsandbytes" } }),
                "quantized (quantization_config, method `bitsandbytes`)",
            ),
        ] {
            let message = read(&config).unwrap_err().to_string();
            assert!(message.contains(part), "`{part}` in {message}");
            assert!(message.contains(CONFIG), "{message}");
        }
        let asr = json!({ "architectures": ["VibeVoiceForASRTraining"] });
        let refused = read(&asr).unwrap().expect(Member::Speech).unwrap_err();
        assert!(refused.to_string().contains("recognizes speech; wanted"));
    }

    #[test]
    fn an_adapter_is_no_model() {
        let dir = tempfile::tempdir().unwrap();
        let adapter = json!({ "base_model_name_or_path": "vibevoice/VibeVoice-1.5B" });
        std::fs::write(dir.path().join(ADAPTER), adapter.to_string()).unwrap();
        let message = Published::read(dir.path()).unwrap_err().to_string();
        let part = "an adapter of vibevoice/VibeVoice-1.5B and no model";
        assert!(message.contains(part), "{message}");
    }

    #[test]
    fn a_missing_vocabulary_is_named_after_its_model() {
        let dir = tempfile::tempdir().unwrap();
        let find = || find_tokenizer(dir.path(), None);
        let message = find().unwrap_err().to_string();
        assert!(message.contains("tokenizer.json is missing"), "{message}");
        let preprocessor = json!({ "language_model_pretrained_name": "Qwen/Qwen2.5-7B" });
        let path = dir.path().join("preprocessor_config.json");
        std::fs::write(path, preprocessor.to_string()).unwrap();
        let message = find().unwrap_err().to_string();
        let part = "the tokenizer.json of Qwen/Qwen2.5-7B";
        assert!(message.contains(part), "{message}");
        std::fs::write(dir.path().join(TOKENIZER), "{}").unwrap();
        assert_eq!(find().unwrap(), dir.path().join(TOKENIZER));
    }

    #[test]
    fn ids_are_those_of_the_vocabulary() {
        let tokenizer = json!({
            "added_tokens": [{ "id": 7, "content": "<a>" }, { "id": "x", "content": "<c>" }],
            "model": { "vocab": { "b": 3 } },
        });
        let id = |token| token_id(&tokenizer, Path::new("t.json"), token);
        assert_eq!((id("<a>").unwrap(), id("b").unwrap()), (7, 3));
        for token in ["<c>", "d"] {
            let message = id(token).unwrap_err().to_string();
            assert!(message.contains("has no token"), "{message}");
        }
    }
}
