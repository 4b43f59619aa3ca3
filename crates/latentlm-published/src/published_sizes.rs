//! Sizes of the published models: their configuration and the list of their tensors, with the names of the
//! original repository.

use latentlm_backbone::{BackboneConfig, RopeLayout};
use latentlm_vibevoice::SpeechTokens;
use serde_json::{Value, json};

use super::family::Member;
use super::naming::below;
use super::original::{FFN_EXPANSION, FREQUENCIES, KERNEL_SIZE};
use super::store::StoredDType;

/// Tokens of Qwen2.5's vocabulary that have to do with speech.
const QWEN_TOKENS: SpeechTokens = SpeechTokens {
    start: 151_652,
    stop: 151_653,
    audio: 151_654,
    end: 151_643,
};

/// Sizes of a published model.
#[derive(Debug, Clone, PartialEq)]
pub struct RandomSizes {
    /// Which model has them.
    pub member: Member,
    /// Width of the language model and the head.
    pub width: usize,
    /// Blocks of the language model.
    pub depth: usize,
    /// How many of these blocks are the speech model of [`Member::Realtime`]; they come last.
    pub upper_depth: usize,
    /// Query heads.
    pub heads: usize,
    /// Key/value heads.
    pub kv_heads: usize,
    /// Feed-forward width of the language model.
    pub inner: usize,
    /// Size of the vocabulary.
    pub vocabulary: usize,
    /// Whether the softmax head is the embedding's table.
    pub tied: bool,
    /// Positions that the model reads.
    pub context: usize,
    /// Layers of the head.
    pub head_layers: usize,
    /// Feed-forward width of the head over its width.
    pub head_ratio: f64,
    /// Channels of the codecs at the finest resolution.
    pub filters: usize,
    /// Ratios of the codecs, fine to coarse.
    pub ratios: Vec<usize>,
    /// Layers of the codecs' encoders at each resolution, fine to coarse.
    pub depths: Vec<usize>,
    /// Numbers of an acoustic latent.
    pub acoustic_dim: usize,
    /// Numbers of a semantic latent.
    pub semantic_dim: usize,
    /// Ids of tokens.
    pub tokens: SpeechTokens,
}

impl RandomSizes {
    /// VibeVoice-1.5B.
    pub fn speech_1_5b() -> Self {
        Self {
            member: Member::Speech,
            width: 1536,
            depth: 28,
            upper_depth: 0,
            heads: 12,
            kv_heads: 2,
            inner: 8960,
            vocabulary: 151_936,
            tied: true,
            context: 65_536,
            head_layers: 4,
            head_ratio: 3.0,
            filters: 32,
            ratios: vec![2, 2, 4, 5, 5, 8],
            depths: vec![3, 3, 3, 3, 3, 3, 8],
            acoustic_dim: 64,
            semantic_dim: 128,
            tokens: QWEN_TOKENS,
        }
    }

    /// VibeVoice-7B.
    pub fn speech_7b() -> Self {
        Self {
            width: 3584,
            heads: 28,
            kv_heads: 4,
            inner: 18_944,
            vocabulary: 152_064,
            tied: false,
            context: 32_768,
            ..Self::speech_1_5b()
        }
    }

    /// VibeVoice-Realtime-0.5B.
    pub fn realtime() -> Self {
        Self {
            member: Member::Realtime,
            width: 896,
            depth: 24,
            upper_depth: 20,
            heads: 14,
            inner: 4864,
            context: 8192,
            ..Self::speech_1_5b()
        }
    }

    /// VibeVoice-ASR-7B.
    pub fn recognition() -> Self {
        Self {
            member: Member::Recognition,
            context: 131_072,
            ..Self::speech_7b()
        }
    }

    /// The language model's blocks with the norm behind them, both parts of [`Member::Realtime`] as one.
    pub fn backbone(&self) -> BackboneConfig {
        BackboneConfig::new(self.width, self.depth, self.heads)
            .with_kv_heads(self.kv_heads)
            .with_mlp_width(self.inner)
            .with_norm_weight(true)
            .with_qkv_bias(true)
            .with_rope_layout(RopeLayout::HalfSplit)
            .with_rope_theta(1e6)
            .with_condition_layer(false)
    }

    /// `config.json` in the original's format.
    pub(crate) fn config(&self, dtype: StoredDType) -> Value {
        let ratios: Vec<usize> = self.ratios.iter().copied().rev().collect();
        let depths: Vec<String> = self.depths.iter().map(usize::to_string).collect();
        let depths = depths.join("-");
        let codec = |model_type: &str, dim: usize, fix_std: f64, distribution: &str| {
            json!({
                "model_type": model_type, "channels": 1, "corpus_normalize": 0.0, "causal": true,
                "vae_dim": dim, "fix_std": fix_std, "std_dist_type": distribution,
                "conv_norm": "none", "pad_mode": "constant", "layernorm_eps": 1e-5,
                "disable_last_norm": true, "layernorm": "RMSNorm",
                "layernorm_elementwise_affine": true, "conv_bias": true,
                "layer_scale_init_value": 1e-6, "weight_init_value": 0.01,
                "mixer_layer": "depthwise_conv", "encoder_n_filters": self.filters,
                "encoder_ratios": ratios, "encoder_depths": depths,
            })
        };
        let mut acoustic = codec(
            "vibevoice_acoustic_tokenizer",
            self.acoustic_dim,
            0.5,
            "gaussian",
        );
        acoustic["decoder_n_filters"] = json!(self.filters);
        acoustic["decoder_ratios"] = json!(ratios);
        acoustic["decoder_depths"] = Value::Null;
        let semantic = codec(
            "vibevoice_semantic_tokenizer",
            self.semantic_dim,
            0.0,
            "none",
        );
        let (architecture, model_type) = match self.member {
            Member::Speech => ("VibeVoiceForConditionalGeneration", "vibevoice"),
            Member::Realtime => (
                "VibeVoiceStreamingForConditionalGenerationInference",
                "vibevoice_streaming",
            ),
            Member::Recognition => ("VibeVoiceForASRTraining", "vibevoice"),
        };
        let mut config = json!({
            "architectures": [architecture],
            "model_type": model_type,
            "acoustic_vae_dim": self.acoustic_dim,
            "acoustic_tokenizer_config": acoustic,
            "decoder_config": {
                "model_type": "qwen2", "hidden_act": "silu", "rope_theta": 1e6, "rope_scaling": null,
                "sliding_window": null, "use_sliding_window": false, "torch_dtype": dtype.name(),
                "hidden_size": self.width, "intermediate_size": self.inner,
                "num_attention_heads": self.heads, "num_key_value_heads": self.kv_heads,
                "num_hidden_layers": self.depth, "vocab_size": self.vocabulary,
                "rms_norm_eps": 1e-6, "tie_word_embeddings": self.tied,
                "max_position_embeddings": self.context,
            },
            "diffusion_head_config": {
                "model_type": "vibevoice_diffusion_head", "hidden_size": self.width,
                "head_layers": self.head_layers, "head_ffn_ratio": self.head_ratio,
                "rms_norm_eps": 1e-5, "latent_size": self.acoustic_dim, "speech_vae_dim": null,
                "prediction_type": "v_prediction", "diffusion_type": "ddpm",
                "ddpm_num_steps": 1000, "ddpm_num_inference_steps": 20,
                "ddpm_beta_schedule": "cosine", "ddpm_batch_mul": 4,
            },
            "torch_dtype": dtype.name(),
        });
        if self.member == Member::Realtime {
            config["tts_backbone_num_hidden_layers"] = json!(self.upper_depth);
        } else {
            config["semantic_vae_dim"] = json!(self.semantic_dim);
            config["semantic_tokenizer_config"] = semantic;
        }
        config
    }

    /// All tensors with the original's names.
    pub(crate) fn tensors(&self) -> Vec<(String, Vec<usize>)> {
        let mut list = List::default();
        let acoustic = "model.acoustic_tokenizer";
        if self.member != Member::Realtime {
            list.encoder(&below(acoustic, "encoder"), self, self.acoustic_dim);
            list.encoder("model.semantic_tokenizer.encoder", self, self.semantic_dim);
            list.connector("model.semantic_connector", self.semantic_dim, self.width);
        }
        list.decoder(&below(acoustic, "decoder"), self);
        list.connector("model.acoustic_connector", self.acoustic_dim, self.width);
        let lower = "model.language_model";
        list.weight(
            &below(lower, "embed_tokens"),
            vec![self.vocabulary, self.width],
        );
        list.blocks(lower, self, self.depth - self.upper_depth);
        if self.member == Member::Realtime {
            let upper = "model.tts_language_model";
            list.blocks(upper, self, self.upper_depth);
            list.weight(&below(upper, "norm"), vec![self.width]);
            list.weight("model.tts_input_types", vec![2, self.width]);
            list.linear("tts_eos_classifier.fc1", self.width, self.width);
            list.linear("tts_eos_classifier.fc2", self.width, 1);
        } else {
            list.weight(&below(lower, "norm"), vec![self.width]);
            if !self.tied {
                list.weight("lm_head", vec![self.vocabulary, self.width]);
            }
        }
        if self.member != Member::Recognition {
            list.head("model.prediction_head", self);
            for factor in ["model.speech_scaling_factor", "model.speech_bias_factor"] {
                list.0.push((factor.to_owned(), Vec::new()));
            }
        }
        list.0
    }
}

/// Names and shapes of tensors. Shapes of linear layers are `[out, in]`.
#[derive(Default)]
struct List(Vec<(String, Vec<usize>)>);

impl List {
    fn weight(&mut self, name: &str, shape: Vec<usize>) {
        self.0.push((below(name, "weight"), shape));
    }

    fn bias(&mut self, name: &str, width: usize) {
        self.0.push((below(name, "bias"), vec![width]));
    }

    /// A linear layer with its bias.
    fn linear(&mut self, name: &str, input: usize, output: usize) {
        self.weight(name, vec![output, input]);
        self.bias(name, output);
    }

    fn connector(&mut self, name: &str, dim: usize, width: usize) {
        self.linear(&below(name, "fc1"), dim, width);
        self.weight(&below(name, "norm"), vec![width]);
        self.linear(&below(name, "fc2"), width, width);
    }

    fn encoder(&mut self, name: &str, sizes: &RandomSizes, dim: usize) {
        let coarsest = sizes.ratios.len();
        let width_at = |stage: usize| sizes.filters << stage;
        let stem = below(name, "downsample_layers.0.0.conv.conv");
        self.weight(&stem, vec![width_at(0), 1, KERNEL_SIZE]);
        self.bias(&stem, width_at(0));
        for (stage, ratio) in sizes.ratios.iter().enumerate() {
            let conv = format!("{name}.downsample_layers.{}.0.conv.conv", stage + 1);
            let (fine, coarse) = (width_at(stage), width_at(stage + 1));
            self.weight(&conv, vec![coarse, fine, 2 * ratio]);
            self.bias(&conv, coarse);
        }
        for (stage, depth) in sizes.depths.iter().enumerate() {
            self.codec_layers(&format!("{name}.stages.{stage}"), *depth, width_at(stage));
        }
        let last = below(name, "head.conv.conv");
        self.weight(&last, vec![dim, width_at(coarsest), KERNEL_SIZE]);
        self.bias(&last, dim);
    }

    fn decoder(&mut self, name: &str, sizes: &RandomSizes) {
        let coarsest = sizes.ratios.len();
        let width_at = |stage: usize| sizes.filters << (coarsest - stage);
        let stem = below(name, "upsample_layers.0.0.conv.conv");
        let shape = vec![width_at(0), sizes.acoustic_dim, KERNEL_SIZE];
        self.weight(&stem, shape);
        self.bias(&stem, width_at(0));
        for (stage, ratio) in sizes.ratios.iter().rev().enumerate() {
            let conv = format!("{name}.upsample_layers.{}.0.convtr.convtr", stage + 1);
            let (coarse, fine) = (width_at(stage), width_at(stage + 1));
            // Transposed convolutions have their inputs first.
            self.weight(&conv, vec![coarse, fine, 2 * ratio]);
            self.bias(&conv, fine);
        }
        for (stage, depth) in sizes.depths.iter().rev().enumerate() {
            self.codec_layers(&format!("{name}.stages.{stage}"), *depth, width_at(stage));
        }
        let last = below(name, "head.conv.conv");
        self.weight(&last, vec![1, width_at(coarsest), KERNEL_SIZE]);
        self.bias(&last, 1);
    }

    /// Layers of one resolution of a codec.
    fn codec_layers(&mut self, name: &str, depth: usize, width: usize) {
        for layer in 0..depth {
            let layer = format!("{name}.{layer}");
            for norm in ["norm", "ffn_norm"] {
                self.weight(&below(&layer, norm), vec![width]);
            }
            for scale in ["gamma", "ffn_gamma"] {
                self.0.push((below(&layer, scale), vec![width]));
            }
            let mixer = below(&layer, "mixer.conv.conv.conv");
            self.weight(&mixer, vec![width, 1, KERNEL_SIZE]);
            self.bias(&mixer, width);
            let inner = FFN_EXPANSION * width;
            self.linear(&below(&layer, "ffn.linear1"), width, inner);
            self.linear(&below(&layer, "ffn.linear2"), inner, width);
        }
    }

    /// Blocks of a language model.
    fn blocks(&mut self, name: &str, sizes: &RandomSizes, depth: usize) {
        let (width, inner) = (sizes.width, sizes.inner);
        let kv_rows = width / sizes.heads * sizes.kv_heads;
        for block in 0..depth {
            let block = format!("{name}.layers.{block}");
            for norm in ["input_layernorm", "post_attention_layernorm"] {
                self.weight(&below(&block, norm), vec![width]);
            }
            for (part, rows) in [("q", width), ("k", kv_rows), ("v", kv_rows)] {
                self.linear(&format!("{block}.self_attn.{part}_proj"), width, rows);
            }
            self.weight(&below(&block, "self_attn.o_proj"), vec![width, width]);
            self.swiglu(&below(&block, "mlp"), width, inner);
        }
    }

    fn swiglu(&mut self, name: &str, width: usize, inner: usize) {
        self.weight(&below(name, "gate_proj"), vec![inner, width]);
        self.weight(&below(name, "up_proj"), vec![inner, width]);
        self.weight(&below(name, "down_proj"), vec![width, inner]);
    }

    fn head(&mut self, name: &str, sizes: &RandomSizes) {
        let (width, dim) = (sizes.width, sizes.acoustic_dim);
        let inner = (width as f64 * sizes.head_ratio) as usize;
        self.weight(&below(name, "noisy_images_proj"), vec![width, dim]);
        self.weight(&below(name, "cond_proj"), vec![width, width]);
        self.weight(&below(name, "t_embedder.mlp.0"), vec![width, FREQUENCIES]);
        self.weight(&below(name, "t_embedder.mlp.2"), vec![width, width]);
        for layer in 0..sizes.head_layers {
            let layer = format!("{name}.layers.{layer}");
            self.weight(&below(&layer, "norm"), vec![width]);
            self.swiglu(&below(&layer, "ffn"), width, inner);
            let modulation = below(&layer, "adaLN_modulation.1");
            self.weight(&modulation, vec![3 * width, width]);
        }
        let last = below(name, "final_layer");
        self.weight(&below(&last, "adaLN_modulation.1"), vec![2 * width, width]);
        self.weight(&below(&last, "linear"), vec![dim, width]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::LanguageModelJson;
    use burn::module::Module;
    use burn::tensor::Device;
    use latentlm_core::CausalBackboneConfig;
    use std::collections::BTreeMap;
    use std::path::Path;

    /// Numbers of all tensors whose names begin so.
    fn count(sizes: &RandomSizes, start: &str) -> u64 {
        let tensors = sizes.tensors().into_iter();
        let own = tensors.filter(|(name, _)| name.starts_with(start));
        own.map(|(_, shape)| shape.iter().product::<usize>() as u64)
            .sum()
    }

    /// Millions of parameters, as counted in the published models.
    #[test]
    fn sizes_are_those_that_were_published() {
        let (small, large) = (RandomSizes::speech_1_5b(), RandomSizes::speech_7b());
        for (sizes, start, millions) in [
            (&small, "", 2704),
            (&small, "model.language_model.layers", 1310),
            (&small, "model.language_model.embed_tokens", 233),
            (&small, "model.prediction_head", 123),
            (&small, "model.acoustic_tokenizer.decoder", 344),
            (&small, "model.acoustic_tokenizer.encoder", 344),
            (&small, "model.semantic_tokenizer", 345),
            (&large, "", 9340),
        ] {
            let counted = (count(sizes, start) as f64 / 1e6).round();
            // The documented number of 7B has three digits.
            assert!(
                (counted - f64::from(millions)).abs() <= 5.0,
                "{start}: {counted}"
            );
        }
        let realtime = RandomSizes::realtime();
        let upper = count(&realtime, "model.tts_language_model") as f64 / 1e6;
        assert!((upper - 298.0).abs() < 1.0, "{upper}");
    }

    /// What a folder's configuration makes, and as many parameters as the list of tensors has.
    #[test]
    fn backbones_are_those_of_the_configuration() {
        for sizes in [
            RandomSizes::speech_1_5b(),
            RandomSizes::speech_7b(),
            RandomSizes::realtime(),
            RandomSizes::recognition(),
        ] {
            let json = sizes.config(StoredDType::Bfloat16)["decoder_config"].clone();
            let json: LanguageModelJson = serde_json::from_value(json).unwrap();
            let backbone = sizes.backbone();
            assert_eq!(backbone, json.backbone());
            let parts = ["language_model.layers.", "language_model.norm."];
            let mut tensors = sizes.tensors();
            tensors.retain(|(name, _)| parts.iter().any(|part| name.contains(part)));
            let counts = tensors
                .iter()
                .map(|(_, shape)| shape.iter().product::<usize>());
            let expected: usize = counts.sum();
            // Parameters are not made before they are used.
            let counted = backbone.init(&Device::default()).num_params();
            assert_eq!(counted, expected, "{}", sizes.member);
        }
    }

    /// The shapes of a reference case, which has the original's names.
    #[test]
    fn names_and_shapes_are_the_originals() {
        let sizes = RandomSizes {
            member: Member::Speech,
            width: 48,
            depth: 2,
            upper_depth: 0,
            heads: 4,
            kv_heads: 2,
            inner: 96,
            vocabulary: 316,
            tied: false,
            context: 512,
            head_layers: 2,
            head_ratio: 1.666_666_666_666_666_7,
            filters: 4,
            ratios: vec![2, 4, 5],
            depths: vec![1, 1, 1, 2],
            acoustic_dim: 8,
            semantic_dim: 12,
            tokens: QWEN_TOKENS,
        };
        let case = Path::new(env!("CARGO_MANIFEST_DIR"));
        let case = case.join("../../tests/fixtures/vibevoice-original-two");
        let mut expected = BTreeMap::new();
        for shard in ["model-00001-of-00002", "model-00002-of-00002"] {
            let bytes = std::fs::read(case.join(format!("{shard}.safetensors"))).unwrap();
            let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
            for (name, view) in file.tensors() {
                expected.insert(name, view.shape().to_vec());
            }
        }
        // Its semantic encoder has one layer less at the coarsest resolution.
        let mut listed: BTreeMap<String, Vec<usize>> = sizes.tensors().into_iter().collect();
        listed.retain(|name, _| !name.starts_with("model.semantic_tokenizer.encoder.stages.3.1."));
        assert_eq!(listed, expected);
    }
}
