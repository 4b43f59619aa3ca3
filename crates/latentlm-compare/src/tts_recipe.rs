//! The recipe of the comparison on speech. Every key stands in `configs/compare/tts.toml`, with its meaning beside it.

use std::collections::BTreeMap;

use burn::config::Config;
use latentlm::backbone::BackboneConfig;
use latentlm::codec_audio::{CodecConfig, CodecLossConfig};
use latentlm_baselines::{CodeLmConfig, CodeOptions, DenoiserSizes};
use latentlm_pipelines::{
    CodecTables, PipelineError, Recipe, SpeechRecipe, TokenWeights, checked_within, declare_recipe,
};
use latentlm_train::{LmPlan, LmRecipe};
use serde::{Deserialize, Serialize};

use super::recipe::{check_precision, key_table, wrong};

/// A comparison on speech: LatentLM at several rates of latents, and a codec language model with groups of several
/// sizes. The folder of a rival's run has such a recipe too, with the size of its groups in `rival.group`.
#[derive(Config, Debug, PartialEq)]
pub struct CompareTtsRecipe {
    /// Frames of the codec's tower that LatentLM reads as one latent, for each of its models.
    pub frames_per_latent: Vec<usize>,
    /// Numbers of a latent for each of its frames: all models have as many numbers a second.
    pub numbers_per_frame: usize,
    /// Codes of a group, for each of the rivals.
    pub groups: Vec<usize>,
    /// How quality is measured.
    pub evaluate: EvaluateTtsConfig,
    /// The codec language model.
    pub rival: CodeSpeechConfig,
    /// Seed, data, the codec's tower, LatentLM, and the steps of all models.
    pub speech: SpeechRecipe,
}

/// How the models of speech are measured. Runs of older versions lack the later keys.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EvaluateTtsConfig {
    /// Utterances of each kind.
    pub samples: usize,
    /// Largest difference between a model's and the first LatentLM's number of parameters, as a fraction of the latter.
    pub parameter_tolerance: f64,
    /// Texts on which models stumble; 0 for none.
    #[serde(default)]
    pub hard_texts: usize,
    /// Corpus of voices that training never heard; empty for none.
    #[serde(default)]
    pub held_out_voices: String,
}

/// The rival of LatentLM on speech.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CodeSpeechConfig {
    /// Codebooks of its codec.
    pub codebooks: usize,
    /// Entries of each codebook.
    pub entries: usize,
    /// Numbers of a frame that is quantized.
    pub latent_dim: usize,
    /// Codes of the first codebook in a position; the comparison sets it from its list.
    pub group: usize,
    /// Whether it learns which token of text each code says, if LatentLM learns that of its latents. Runs of older
    /// versions lack it.
    #[serde(default)]
    pub aligned: bool,
    /// Width of the network of the first codebook.
    pub width: usize,
    /// Its blocks.
    pub depth: usize,
    /// Its query heads.
    pub heads: usize,
    /// Its key/value heads; 0 stands for as many as query heads.
    pub kv_heads: usize,
    /// Its feed-forward ratio.
    pub mlp_ratio: f64,
    /// Width of the network of the other codebooks.
    pub parallel_width: usize,
    /// Its blocks.
    pub parallel_depth: usize,
    /// Its query heads.
    pub parallel_heads: usize,
    /// Its key/value heads; 0 stands for as many as query heads.
    pub parallel_kv_heads: usize,
    /// Its feed-forward ratio.
    pub parallel_mlp_ratio: f64,
    /// How codes are drawn.
    #[serde(flatten)]
    pub drawing: CodeOptions,
}

declare_recipe! {
    /// The file `configs/compare/tts.toml`.
    CompareTtsRecipe {
        command: "compare tts",
        keys: "latentlm-compare/tts" in key_table,
        parts: BTreeMap::from([(
            "speech",
            CodecTables::<CodecConfig, CodecLossConfig>::preset("compare/tts"),
        )]),
        seed: speech.seed,
        check: CompareTtsRecipe::check,
    }
}

impl LmRecipe for CompareTtsRecipe {
    fn lm(&self) -> LmPlan<'_> {
        let tokens = TokenWeights::from(self.speech.text.loss_weight);
        let tokens = self.is_aligned().then_some(tokens);
        LmPlan::new(&self.speech.lm, &self.speech.lm_train, tokens)
    }
}

impl CompareTtsRecipe {
    fn check(&self) -> Result<(), PipelineError> {
        if self.frames_per_latent.is_empty() || self.groups.is_empty() {
            let reason = "frames_per_latent and groups must name one model each at least";
            return Err(PipelineError::config(reason));
        }
        if self.speech.sample.falling.last > 0 {
            let reason = "speech.sample.steps_last must be 0: what a second costs is counted with equal steps";
            return Err(PipelineError::config(reason));
        }
        let within = |speech: SpeechRecipe| {
            checked_within::<SpeechRecipe, _>("speech.", speech.check_together())
        };
        for frames in &self.frames_per_latent {
            within(self.latentlm(*frames))?;
        }
        within(self.codes())?;
        self.rival.drawing.validate().map_err(wrong)?;
        for group in self.groups.iter().chain([&self.rival.group]) {
            let config = self.of_group(*group).code_lm(1);
            config.validate().map_err(wrong)?;
        }
        check_precision("speech", &self.speech.lm)
    }

    /// LatentLM with `frames` frames per latent. A pack holds about as much speech at every rate.
    pub fn latentlm(&self, frames: usize) -> SpeechRecipe {
        let mut recipe = self.speech.clone();
        recipe.codec.frames_per_latent = frames;
        recipe.codec.latent_dim = frames.saturating_mul(self.numbers_per_frame);
        recipe.codec.quantizer.codebooks = 0;
        recipe.data.pack_positions = recipe.data.pack_positions.div_ceil(frames.max(1));
        recipe
    }

    /// The codec with codebooks, of the same tower.
    pub fn codes(&self) -> SpeechRecipe {
        let mut recipe = self.speech.clone();
        recipe.codec.frames_per_latent = 1;
        recipe.codec.latent_dim = self.rival.latent_dim;
        recipe.codec.quantizer.codebooks = self.rival.codebooks;
        recipe.codec.quantizer.entries = self.rival.entries;
        recipe
    }

    /// The same recipe for a rival's run with groups of this size.
    pub fn of_group(&self, group: usize) -> Self {
        let mut recipe = self.clone();
        recipe.rival.group = group;
        recipe
    }

    /// The codec language model for a vocabulary of that many tokens of text.
    pub fn code_lm(&self, text_vocabulary: usize) -> CodeLmConfig {
        let rival = &self.rival;
        let grouped = BackboneConfig::new(rival.width, rival.depth, rival.heads)
            .with_kv_heads(rival.kv_heads)
            .with_mlp_ratio(rival.mlp_ratio)
            .with_condition_layer(false);
        let parallel = DenoiserSizes::new()
            .with_width(rival.parallel_width)
            .with_depth(rival.parallel_depth)
            .with_heads(rival.parallel_heads)
            .with_kv_heads(rival.parallel_kv_heads)
            .with_mlp_ratio(rival.parallel_mlp_ratio);
        let (books, entries) = (rival.codebooks, rival.entries);
        CodeLmConfig::new(text_vocabulary, books, entries, grouped, parallel)
            .with_group(rival.group)
            .with_aligned(self.is_aligned())
    }

    /// Whether the rival learns which token of text each code says.
    pub fn is_aligned(&self) -> bool {
        self.rival.aligned && self.speech.text.aligned
    }

    /// Frames of the codec a second: codes of each codebook.
    pub fn frame_rate_hz(&self) -> f64 {
        self.codes().frame_rate_hz()
    }
}
