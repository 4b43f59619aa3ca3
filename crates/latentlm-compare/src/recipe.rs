//! Recipes of the comparisons of LatentLM with its rivals. Every key stands in the files under
//! `configs/compare`, with its meaning beside it.

use std::collections::BTreeMap;

use burn::config::Config;
use latentlm::SampleOptions;
use latentlm::codec_image::{CodecConfig, CodecLossConfig};
use latentlm::core::{FewStep, LatentCodecConfig, Precision, Process};
use latentlm_baselines::{
    BaselineError, CodebookConfig, DenoiserConfig, DenoiserSizes, DitNetwork, ImageDenoiser,
    MllmVqLmConfig, TokenOptions, TransfusionNetwork, VqCodecConfig, VqLmConfig,
};
use latentlm_pipelines::{
    CodecTables, ImageRecipe, LmConfig, MllmRecipe, PipelineError, Recipe, checked_within,
    declare_recipe,
};
use serde::{Deserialize, Serialize};

/// A comparison on classes: data, codec, budget and LatentLM itself as an image recipe, and its rivals.
#[derive(Config, Debug, PartialEq)]
pub struct CompareRecipe {
    /// Seed, data, codec, LatentLM, and the steps and batches of all models.
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

/// A comparison on text and pictures: data, codec, budget and LatentLM itself as a recipe of both, and its
/// rivals.
#[derive(Config, Debug, PartialEq)]
pub struct CompareMllmRecipe {
    /// How quality is measured on the way.
    pub evaluate: EvaluateConfig,
    /// Transfusion.
    pub transfusion: DenoiserRecipe,
    /// The vector-quantized codec and its language model.
    pub vq: VqRecipe,
    /// Seed, data, codec, LatentLM, and the steps and packs of all models.
    pub mllm: MllmRecipe,
}

/// How quality is measured, every `lm_train.sample_every` steps.
#[derive(Config, Debug, PartialEq)]
pub struct EvaluateConfig {
    /// Pictures drawn for each measurement.
    pub samples: usize,
    /// Largest difference between a rival's and LatentLM's number of parameters, as a fraction of LatentLM's.
    pub parameter_tolerance: f64,
}

/// A rival that denoises whole images. What it predicts, its schedule and solver are LatentLM's.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DenoiserRecipe {
    /// Sizes of the Transformer.
    #[serde(flatten)]
    pub sizes: DenoiserSizes,
    /// Samples of noise and timestep per image and step.
    pub batch_mul: usize,
    /// Classifier-free guidance.
    pub guidance_scale: f64,
}

/// The vector-quantized rival.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct VqRecipe {
    /// The codebook.
    #[serde(flatten)]
    pub codebook: CodebookConfig,
    /// Steps between restarts of unused codes.
    pub restart_every: u64,
    /// Sizes of the language model.
    #[serde(flatten)]
    pub sizes: DenoiserSizes,
    /// How codes are drawn.
    #[serde(flatten)]
    pub drawing: TokenOptions,
}

/// A table of keys of this crate or of one that it includes.
pub(crate) fn key_table(name: &str) -> Option<&'static str> {
    match name {
        "latentlm-compare/image" => Some(include_str!("../keys/image.toml")),
        "latentlm-compare/mllm" => Some(include_str!("../keys/mllm.toml")),
        "latentlm-compare/tts" => Some(include_str!("../keys/tts.toml")),
        "latentlm-compare/sigma" => Some(include_str!("../keys/sigma.toml")),
        "latentlm-compare/heads" => Some(include_str!("../keys/heads.toml")),
        "latentlm-compare/latents" => Some(include_str!("../keys/latents.toml")),
        "latentlm-compare/fast_tts" => Some(include_str!("../keys/fast_tts.toml")),
        "latentlm-compare/fast_mllm" => Some(include_str!("../keys/fast_mllm.toml")),
        "latentlm-compare/students" => Some(include_str!("../keys/students.toml")),
        "latentlm-compare/variants" => Some(include_str!("../keys/variants.toml")),
        "latentlm-compare/shared" => Some(include_str!("../keys/shared.toml")),
        "latentlm-compare/denoiser" => Some(include_str!("../keys/denoiser.toml")),
        other => latentlm_pipelines::key_table(other),
    }
}

/// The codec of a shipped recipe, in the table `model` of a comparison's recipe.
pub(crate) fn codec_of(
    model: &'static str,
    shipped: &str,
) -> BTreeMap<&'static str, CodecTables<CodecConfig, CodecLossConfig>> {
    BTreeMap::from([(model, CodecTables::preset(shipped))])
}

declare_recipe! {
    /// The files of `configs/compare`.
    CompareRecipe {
        command: "compare image",
        keys: "latentlm-compare/image" in key_table,
        parts: codec_of("image", "image/mnist"),
        seed: image.seed,
        check: CompareRecipe::check,
    }
}

declare_recipe! {
    /// The file `configs/compare/mllm.toml`.
    CompareMllmRecipe {
        command: "compare mllm",
        keys: "latentlm-compare/mllm" in key_table,
        parts: codec_of("mllm", "mllm/twemoji"),
        seed: mllm.seed,
        check: CompareMllmRecipe::check,
    }
}

/// A wrong value in a rival's part of a recipe.
pub(crate) fn wrong(error: BaselineError) -> PipelineError {
    PipelineError::config(error.to_string())
}

/// The training seed at a place of a comparison that trains a recipe with `seed` and those after it.
pub(crate) fn seed_at(seed: u64, place: u64) -> u64 {
    // TOML has no larger numbers.
    seed.wrapping_add(place) & i64::MAX as u64
}

/// Checks the precision of LatentLM, which has the table `model` of a recipe.
pub(crate) fn check_precision(model: &str, lm: &LmConfig) -> Result<(), PipelineError> {
    if lm.precision != Precision::F32 {
        return Err(PipelineError::config(format!(
            "{model}.lm.precision must be \"f32\": rivals are compared in that"
        )));
    }
    Ok(())
}

impl DenoiserRecipe {
    /// A denoiser of the pictures of a recipe, for so many classes or tokens of text. Prediction and schedule
    /// are LatentLM's.
    pub fn config(&self, image: &ImageRecipe, size: usize) -> DenoiserConfig {
        let (own, dim) = (&image.lm.sizes, image.codec.spec().dim);
        DenoiserConfig::new(size, image.tokens(), dim)
            .with_sizes(self.sizes.clone())
            .with_prediction(own.prediction)
            .with_schedule(own.schedule)
            .with_num_train_timesteps(own.num_train_timesteps)
    }

    fn check<M: ImageDenoiser>(&self, image: &ImageRecipe) -> Result<(), PipelineError> {
        self.config(image, 1).validate::<M>().map_err(wrong)
    }

    /// How pictures of a recipe are drawn: with LatentLM's solver and steps. Rivals learn the paper's diffusion; if
    /// LatentLM learns another process, they have the paper's solver, and if it learns to draw in few steps, the default
    /// number of them.
    pub(crate) fn sample_options(&self, image: &ImageRecipe) -> SampleOptions {
        let (latentlm, default) = (image.sample_options(), SampleOptions::default());
        let sampler = match latentlm.sampler.process() {
            Process::Diffusion => latentlm.sampler,
            Process::Flow => default.sampler,
        };
        let steps = match image.lm.method.few_step {
            FewStep::None => latentlm.steps,
            FewStep::Shortcut | FewStep::Energy => default.steps,
        };
        SampleOptions {
            sampler,
            steps,
            guidance_scale: self.guidance_scale,
            ..latentlm
        }
    }
}

impl CompareRecipe {
    fn check(&self) -> Result<(), PipelineError> {
        self.check_as("image")
    }

    /// Checks it as the recipe of a comparison whose table `model` has the keys of the images.
    fn check_as(&self, model: &str) -> Result<(), PipelineError> {
        let checked = self.image.check_together();
        checked_within::<ImageRecipe, _>(&format!("{model}."), checked)?;
        self.dit.check::<DitNetwork>(&self.image)?;
        self.transfusion.check::<TransfusionNetwork>(&self.image)?;
        self.vq_codec().validate().map_err(wrong)?;
        self.vq_lm(1).validate().map_err(wrong)?;
        check_precision(model, &self.image.lm)
    }

    /// The vector-quantized codec: the networks of the image codec.
    pub fn vq_codec(&self) -> VqCodecConfig {
        VqCodecConfig::new(self.image.codec.clone()).with_codebook(self.vq.codebook)
    }

    /// The language model of codes for that many classes.
    pub fn vq_lm(&self, classes: usize) -> VqLmConfig {
        let (tokens, codes) = (self.image.tokens(), self.vq.codebook.codes);
        VqLmConfig::new(classes, tokens, codes, self.vq.sizes.backbone())
    }
}

impl CompareMllmRecipe {
    fn check(&self) -> Result<(), PipelineError> {
        checked_within::<MllmRecipe, _>("mllm.", self.mllm.check_together())?;
        check_precision("mllm", &self.mllm.lm)?;
        self.images().check_as("mllm")?;
        self.transfusion
            .check::<TransfusionNetwork>(&self.mllm.image())?;
        self.vq_lm(1).validate().map_err(wrong)?;
        if self.transfusion.batch_mul != 1 {
            return Err(PipelineError::config(
                "transfusion.batch_mul must be 1: a pack is read once a step",
            ));
        }
        Ok(())
    }

    /// The comparison on classes that trains the same codecs.
    pub(crate) fn images(&self) -> CompareRecipe {
        CompareRecipe {
            image: self.mllm.image(),
            evaluate: self.evaluate.clone(),
            vq: self.vq.clone(),
            ..CompareRecipe::default()
        }
    }

    /// The language model of codes for a vocabulary of that many tokens of text.
    pub fn vq_lm(&self, text_vocabulary: usize) -> MllmVqLmConfig {
        let (codes, tied) = (self.vq.codebook.codes, self.mllm.text.tied);
        MllmVqLmConfig::new(text_vocabulary, codes, tied, self.vq.sizes.backbone())
    }
}

#[cfg(test)]
mod tests {
    use latentlm::core::Sampler;

    use super::*;

    /// After the last seed that a recipe can have comes the first.
    #[test]
    fn every_seed_can_be_written() {
        assert_eq!(seed_at(7, 2), 9);
        assert_eq!(seed_at(i64::MAX as u64, 1), 0);
    }

    /// Rivals take LatentLM's steps, but not the few that it alone learned to make.
    #[test]
    fn rivals_do_not_draw_in_the_few_steps_of_another() {
        let recipe = CompareRecipe::default();
        let mut image = recipe.image.clone();
        (image.sample.sampler, image.sample.steps) = (Sampler::Euler, 1);
        for (few_step, steps) in [
            (FewStep::None, 1),
            (FewStep::Shortcut, 20),
            (FewStep::Energy, 20),
        ] {
            image.lm.method.few_step = few_step;
            assert_eq!(recipe.dit.sample_options(&image).steps, steps);
        }
        let options = recipe.dit.sample_options(&image);
        assert_eq!(options.sampler, Sampler::DpmSolverPlusPlus);
        assert_eq!(options.guidance_scale, recipe.dit.guidance_scale);
    }
}
