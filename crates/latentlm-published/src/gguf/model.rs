//! A model's metadata as a `config.json` of the original repository. What the metadata lack is in the shapes of tensors,
//! or is what all published models have.

use std::path::Path;

use serde_json::{Value as Json, json};

use super::header::Value;
use super::{Gguf, MODEL};
use crate::error::PretrainedError;
use crate::family::{Dialect, Member, Published};

/// Noise scale of the acoustic encoder of all published models.
const FIX_STD: f64 = 0.5;
/// Epsilon of norms in the codecs and the diffusion head of all published models.
const EPSILON: f64 = 1e-5;

/// Which model a file holds.
///
/// # Errors
/// If it can't be read, or holds none that is supported.
pub(crate) fn published(path: &Path) -> Result<Published, PretrainedError> {
    let file = Gguf::open(path, MODEL)?;
    let (member, config) = config(&file)?;
    Ok(Published {
        member,
        dialect: Dialect::Original,
        config,
        quantized: file.has_blocks(),
        path: path.to_owned(),
    })
}

/// The model and its configuration in the original's format.
pub(super) fn config(file: &Gguf) -> Result<(Member, Json), PretrainedError> {
    let variant = file.text("vibevoice.variant")?;
    let (member, architecture) = match variant {
        "1.5b" => (Member::Speech, "VibeVoiceForConditionalGeneration"),
        "realtime-0.5b" => (
            Member::Realtime,
            "VibeVoiceStreamingForConditionalGenerationInference",
        ),
        "asr-7b" => (Member::Recognition, "VibeVoiceForASRTraining"),
        other => {
            return Err(file.wrong(format!(
                "holds the variant `{}`; `1.5b`, `realtime-0.5b` and `asr-7b` are supported",
                other.escape_debug()
            )));
        }
    };
    let mut config = json!({
        "architectures": [architecture],
        "acoustic_tokenizer_config": file.acoustic()?,
        "decoder_config": file.language_model()?,
    });
    if member != Member::Recognition {
        config["diffusion_head_config"] = file.diffusion_head()?;
    }
    if member == Member::Realtime {
        let upper = file.size("vibevoice.n_layers_tlm")?;
        config["tts_backbone_num_hidden_layers"] = json!(upper);
    } else {
        config["semantic_tokenizer_config"] = file.semantic()?;
    }
    Ok((member, config))
}

impl Gguf {
    /// Whether a tensor is in blocks.
    fn has_blocks(&self) -> bool {
        let mut tensors = self.header.tensors.iter();
        tensors.any(|info| info.packing.group_bits().is_some())
    }

    /// A whole number.
    fn size(&self, key: &str) -> Result<usize, PretrainedError> {
        match self.value(key) {
            Some(Value::Integer(size)) => usize::try_from(*size)
                .map_err(|_| self.wrong(format!("has a `{key}` of {size}, which is no size"))),
            _ => Err(self.lacks(key)),
        }
    }

    fn number(&self, key: &str) -> Result<f64, PretrainedError> {
        match self.value(key) {
            Some(Value::Float(number)) => Ok(*number),
            _ => Err(self.lacks(key)),
        }
    }

    fn sizes(&self, key: &str) -> Result<&[i64], PretrainedError> {
        match self.value(key) {
            Some(Value::Integers(sizes)) => Ok(sizes),
            _ => Err(self.lacks(key)),
        }
    }

    /// The size of an axis of a tensor, counted from the last.
    fn axis(&self, name: &str, from_last: usize) -> Result<usize, PretrainedError> {
        let tensor = self.tensor(name).ok_or_else(|| self.lacks(name))?;
        let size = tensor.shape.iter().rev().nth(from_last);
        // ggml leaves out axes of one in front of the others.
        Ok(size.copied().unwrap_or(1))
    }

    fn language_model(&self) -> Result<Json, PretrainedError> {
        let depth = self.size("vibevoice.n_layers_lm")?;
        let upper = self.size("vibevoice.n_layers_tlm")?;
        Ok(json!({
            "model_type": "qwen2",
            "hidden_size": self.size("vibevoice.hidden")?,
            "intermediate_size": self.axis("lm.blk.0.ffn_gate.weight", 1)?,
            "num_attention_heads": self.size("vibevoice.n_heads")?,
            "num_key_value_heads": self.size("vibevoice.n_kv_heads")?,
            "num_hidden_layers": depth.saturating_add(upper),
            "vocab_size": self.size("vibevoice.vocab_size")?,
            "rms_norm_eps": self.number("vibevoice.rms_norm_eps")?,
            "rope_theta": self.number("vibevoice.rope_theta")?,
            // The converter writes a tied table twice, and the quantizer only one of them anew.
            "tie_word_embeddings": self.tensor("lm_head.weight").is_none(),
        }))
    }

    fn acoustic(&self) -> Result<Json, PretrainedError> {
        let key = |name: &str| format!("vibevoice.acoustic.{name}");
        let mut codec = codec();
        codec["vae_dim"] = json!(self.size(&key("vae_dim"))?);
        codec["fix_std"] = json!(FIX_STD);
        if let Ok(epsilon) = self.number(&key("eps")) {
            codec["layernorm_eps"] = json!(epsilon);
        }
        codec["encoder_ratios"] = json!(self.sizes(&key("encoder_ratios"))?);
        codec["encoder_depths"] = json!(self.sizes(&key("encoder_depths"))?);
        codec["decoder_depths"] = json!(self.sizes(&key("decoder_depths"))?);
        let (encoder, decoder) = ("at.enc.stem.weight", "at.dec.head.weight");
        let of_encoder = self.tensor(encoder).map(|_| self.axis(encoder, 2));
        let of_decoder = self.tensor(decoder).map(|_| self.axis(decoder, 1));
        let filters = of_encoder.transpose()?.or(of_decoder.transpose()?);
        codec["encoder_n_filters"] = json!(filters.ok_or_else(|| self.lacks(encoder))?);
        Ok(codec)
    }

    fn semantic(&self) -> Result<Json, PretrainedError> {
        let key = |name: &str| format!("vibevoice.semantic.{name}");
        let mut codec = codec();
        codec["vae_dim"] = json!(self.size(&key("vae_dim"))?);
        codec["encoder_ratios"] = json!(self.sizes(&key("encoder_ratios"))?);
        codec["encoder_depths"] = json!(self.sizes(&key("encoder_depths"))?);
        codec["encoder_n_filters"] = json!(self.axis("st.enc.stem.weight", 2)?);
        Ok(codec)
    }

    fn diffusion_head(&self) -> Result<Json, PretrainedError> {
        let (width, layers) = (
            self.size("vibevoice.hidden")?,
            self.size("vibevoice.diffusion.head_layers")?,
        );
        let ratio = if layers == 0 {
            self.number("vibevoice.diffusion.ffn_ratio")?
        } else {
            // The metadata's float32 may be a little too small. A half more, which is cut off again, is safe.
            let inner = self.axis("dh.layer_0.ffn_gate", 1)?;
            (inner as f64 + 0.5) / width.max(1) as f64
        };
        Ok(json!({
            "hidden_size": width,
            "latent_size": self.size("vibevoice.diffusion.latent")?,
            "head_layers": layers,
            "head_ffn_ratio": ratio,
            "rms_norm_eps": EPSILON,
        }))
    }
}

/// Keys that are equal in all published codecs.
fn codec() -> Json {
    json!({ "channels": 1, "layernorm_eps": EPSILON, "layer_scale_init_value": 1e-6 })
}
