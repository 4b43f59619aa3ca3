//! What a comparison of rivals is made of. Every key stands in the files under `configs/compare`, with
//! its meaning beside it.

use std::path::{Path, PathBuf};

use burn::config::Config;
use latentlm::SampleOptions;
use latentlm::backbone::BackboneConfig;
use latentlm::core::recipe;
use latentlm::core::{LatentCodecConfig, Precision};
use latentlm_baselines::{
    BaselineError, DenoiserSizes, DitConfig, TokenOptions, TransfusionConfig, VqCodecConfig,
    VqLmConfig,
};
use latentlm_pipelines::{ImageRecipe, PipelineError, Recipe};

/// The files of a folder that together make a recipe, in the order in which they are laid over it.
const FILES: [&str; 4] = ["latentlm.toml", "dit.toml", "transfusion.toml", "vq.toml"];

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

impl Default for CompareRecipe {
    /// The files of `configs/compare`.
    fn default() -> Self {
        let mut image = ImageRecipe::default();
        image.lm_train.sample_every = 200;
        Self {
            image,
            evaluate: EvaluateConfig {
                samples: 500,
                parameter_tolerance: 0.05,
            },
            dit: DenoiserRecipe {
                width: 128,
                depth: 4,
                heads: 4,
                kv_heads: 0,
                mlp_ratio: 4.5,
                batch_mul: 1,
                guidance_scale: 2.0,
            },
            transfusion: DenoiserRecipe {
                width: 128,
                depth: 7,
                heads: 4,
                kv_heads: 2,
                mlp_ratio: 4.0,
                batch_mul: 1,
                guidance_scale: 2.0,
            },
            vq: VqRecipe {
                codes: 512,
                codebook_weight: 1.0,
                commitment_weight: 0.25,
                restart_every: 50,
                width: 128,
                depth: 7,
                heads: 4,
                kv_heads: 2,
                mlp_ratio: 4.0,
                temperature: 1.0,
                top_k: 0,
                guidance_scale: 1.5,
            },
        }
    }
}

impl Recipe for CompareRecipe {
    const COMMAND: &'static str = "compare image";

    fn seed(&self) -> u64 {
        self.image.seed
    }

    fn validate(&self) -> Result<(), PipelineError> {
        self.image.validate()?;
        self.dit(1).validate().map_err(wrong)?;
        self.transfusion(1).validate().map_err(wrong)?;
        self.vq_codec().validate().map_err(wrong)?;
        self.vq_lm(1).validate().map_err(wrong)?;
        let fail = |reason: &str| Err(PipelineError::config(reason));
        if self.evaluate.samples < 2 {
            return fail("evaluate.samples must be 2 or more");
        }
        if self.image.lm.precision != Precision::F32 {
            return fail("image.lm.precision must be \"f32\": rivals are compared in that");
        }
        let negative = |value: f64| value.is_nan() || value < 0.0;
        if negative(self.evaluate.parameter_tolerance) {
            return fail("evaluate.parameter_tolerance must not be negative");
        }
        if self.dit.batch_mul == 0 || self.transfusion.batch_mul == 0 {
            return fail("dit.batch_mul and transfusion.batch_mul must be positive");
        }
        if self.vq.restart_every == 0 {
            return fail("vq.restart_every must be positive");
        }
        if negative(self.vq.temperature) {
            return fail("vq.temperature must not be negative");
        }
        Ok(())
    }

    /// `file` may be a folder, whose files are laid over the default one after the other.
    fn resolve(file: Option<&Path>, overrides: &[String]) -> Result<Self, PipelineError> {
        let files: Vec<PathBuf> = match file {
            Some(folder) if folder.is_dir() => FILES.map(|name| folder.join(name)).to_vec(),
            Some(file) => vec![file.to_owned()],
            None => Vec::new(),
        };
        let mut recipe = Self::default();
        for file in files {
            recipe = recipe::resolve(&recipe, Some(&file), &[])?;
        }
        let recipe: Self = recipe::resolve(&recipe, None, overrides)?;
        recipe.validate()?;
        Ok(recipe)
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
