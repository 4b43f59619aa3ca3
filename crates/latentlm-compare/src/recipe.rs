//! What a comparison of rivals is made of. Every key stands in the files under `configs/compare`, with
//! its meaning beside it.

use std::sync::LazyLock;

use burn::config::Config;
use latentlm::SampleOptions;
use latentlm::backbone::BackboneConfig;
use latentlm::codec_image::{CodecConfig, CodecLossConfig};
use latentlm::core::{LatentCodecConfig, Precision};
use latentlm_baselines::{
    BaselineError, DenoiserSizes, DitConfig, TokenOptions, TransfusionConfig, VqCodecConfig,
    VqLmConfig,
};
use latentlm_keys::Keys;
use latentlm_pipelines::{CodecTables, ImageRecipe, PipelineError, Recipe, recipe_keys};
use serde::Serialize;

/// A comparison: data, codec, budget and LatentLM itself as an image recipe, and its rivals.
#[derive(Config, Debug, PartialEq)]
pub struct CompareRecipe {
    /// Seed, data, codec, LatentLM, and the steps and batches that all have.
    pub image: ImageRecipe,
    /// How quality is measured on the way.
    pub evaluate: EvaluateConfig,
    /// DiT.
    pub dit: DenoiserRecipe,
    /// Transfusion.
    pub transfusion: DenoiserRecipe,
    /// The vector-quantized codec and its language model.
    pub vq: VqRecipe,
}

/// How quality is measured, every `image.lm_train.sample_every` steps.
#[derive(Config, Debug, PartialEq)]
pub struct EvaluateConfig {
    /// Pictures drawn for each measurement.
    pub samples: usize,
    /// Largest difference of a rival's number of parameters to LatentLM's, as a share of that.
    pub parameter_tolerance: f64,
}

/// A rival that denoises whole images. What it predicts, its schedule and solver are LatentLM's.
#[derive(Config, Debug, PartialEq)]
pub struct DenoiserRecipe {
    /// Width.
    pub width: usize,
    /// Blocks.
    pub depth: usize,
    /// Query heads.
    pub heads: usize,
    /// Key/value heads; 0 stands for as many as query heads.
    pub kv_heads: usize,
    /// Feed-forward ratio.
    pub mlp_ratio: f64,
    /// Draws of noise and timestep an image and step.
    pub batch_mul: usize,
    /// Classifier-free guidance.
    pub guidance_scale: f64,
}

/// The vector-quantized rival.
#[derive(Config, Debug, PartialEq)]
pub struct VqRecipe {
    /// Entries of the codebook.
    pub codes: usize,
    /// Weight of the loss that moves the codebook.
    pub codebook_weight: f64,
    /// Weight of the loss that moves the encoder to the codebook.
    pub commitment_weight: f64,
    /// Steps between restarts of unused codes.
    pub restart_every: u64,
    /// Width of the language model.
    pub width: usize,
    /// Blocks.
    pub depth: usize,
    /// Query heads.
    pub heads: usize,
    /// Key/value heads; 0 stands for as many as query heads.
    pub kv_heads: usize,
    /// Feed-forward ratio.
    pub mlp_ratio: f64,
    /// Scores are divided by it.
    pub temperature: f64,
    /// The likeliest codes that are drawn from; 0 for all.
    pub top_k: usize,
    /// Classifier-free guidance of the scores.
    pub guidance_scale: f64,
}

static KEYS: LazyLock<Keys> = LazyLock::new(|| recipe_keys("latentlm-compare/image", key_table));

/// A table of keys of this crate or of what it includes.
pub(crate) fn key_table(name: &str) -> Option<&'static str> {
    match name {
        "latentlm-compare/image" => Some(include_str!("../keys/image.toml")),
        "latentlm-compare/mllm" => Some(include_str!("../keys/mllm.toml")),
        "latentlm-compare/sigma" => Some(include_str!("../keys/sigma.toml")),
        "latentlm-compare/shared" => Some(include_str!("../keys/shared.toml")),
        "latentlm-compare/denoiser" => Some(include_str!("../keys/denoiser.toml")),
        other => latentlm_pipelines::key_table(other),
    }
}

/// What the image codec says of a recipe.
pub(crate) type ImageCodec = CodecTables<CodecConfig, CodecLossConfig>;

/// The tables of a comparison that the codec's crate says.
#[derive(Serialize)]
pub(crate) struct ImageTable {
    image: ImageCodec,
}

impl ImageTable {
    pub(crate) fn preset() -> Self {
        Self {
            image: ImageCodec::preset("image/mnist"),
        }
    }
}

impl Default for CompareRecipe {
    /// The files of `configs/compare`.
    fn default() -> Self {
        KEYS.preset(&ImageTable::preset())
    }
}

impl Recipe for CompareRecipe {
    const COMMAND: &'static str = "compare image";

    fn keys() -> &'static Keys {
        &KEYS
    }

    fn seed(&self) -> u64 {
        self.image.seed
    }

    fn check_together(&self) -> Result<(), PipelineError> {
        self.image.check_together()?;
        self.dit(1).validate().map_err(wrong)?;
        self.transfusion(1).validate().map_err(wrong)?;
        self.vq_codec().validate().map_err(wrong)?;
        self.vq_lm(1).validate().map_err(wrong)?;
        if self.image.lm.precision != Precision::F32 {
            let reason = "image.lm.precision must be \"f32\": rivals are compared in that";
            return Err(PipelineError::config(reason));
        }
        Ok(())
    }
}

/// A rival's part of a recipe.
pub(crate) fn wrong(error: BaselineError) -> PipelineError {
    PipelineError::config(error.to_string())
}

impl CompareRecipe {
    fn sizes(&self, rival: &DenoiserRecipe) -> DenoiserSizes {
        DenoiserSizes {
            width: rival.width,
            depth: rival.depth,
            heads: rival.heads,
            kv_heads: rival.kv_heads,
            mlp_ratio: rival.mlp_ratio,
            prediction: self.image.lm.prediction,
            schedule: self.image.lm.schedule,
            num_train_timesteps: self.image.lm.num_train_timesteps,
        }
    }

    /// DiT for that many classes.
    pub fn dit(&self, classes: usize) -> DitConfig {
        let (tokens, dim) = (self.image.tokens(), self.image.codec.spec().dim);
        DitConfig::new(classes, tokens, dim).with_sizes(self.sizes(&self.dit))
    }

    /// Transfusion for that many classes.
    pub fn transfusion(&self, classes: usize) -> TransfusionConfig {
        let (tokens, dim) = (self.image.tokens(), self.image.codec.spec().dim);
        TransfusionConfig::new(classes, tokens, dim).with_sizes(self.sizes(&self.transfusion))
    }

    /// The vector-quantized codec: the networks of the image codec.
    pub fn vq_codec(&self) -> VqCodecConfig {
        VqCodecConfig::new(self.image.codec.clone())
            .with_codes(self.vq.codes)
            .with_codebook_weight(self.vq.codebook_weight)
            .with_commitment_weight(self.vq.commitment_weight)
    }

    /// The language model of codes for that many classes.
    pub fn vq_lm(&self, classes: usize) -> VqLmConfig {
        let vq = &self.vq;
        let backbone = BackboneConfig::new(vq.width, vq.depth, vq.heads)
            .with_kv_heads(vq.kv_heads)
            .with_mlp_ratio(vq.mlp_ratio)
            .with_condition_layer(false);
        VqLmConfig::new(classes, self.image.tokens(), vq.codes, backbone)
    }

    /// How a rival that denoises whole images draws: with LatentLM's solver and steps.
    pub(crate) fn sample_options(&self, rival: &DenoiserRecipe) -> SampleOptions {
        SampleOptions {
            guidance_scale: rival.guidance_scale,
            ..self.image.sample_options()
        }
    }

    /// How codes are drawn.
    pub(crate) fn token_options(&self) -> TokenOptions {
        TokenOptions {
            temperature: self.vq.temperature,
            top_k: self.vq.top_k,
            guidance_scale: self.vq.guidance_scale,
        }
    }
}
