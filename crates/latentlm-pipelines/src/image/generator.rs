//! A trained model, ready to draw pictures: all it needs is a checkpoint.

use std::path::Path;

use burn::tensor::{Device, Tensor};
use latentlm::codec_image::Codec;
use latentlm::core::LatentCodecConfig;
use latentlm::{LatentCodec, LatentLm, RandomStream, SampleOptions};

use super::recipe::ImageRecipe;
use crate::checkpoint::Checkpoint;
use crate::error::PipelineError;
use crate::recipe::Recipe;
use crate::run::{Manifest, RunFolder, ema_file, weights_file};

/// Pictures drawn at once: more would not be faster, and take more memory.
const BATCH: usize = 100;

/// Codec and language model of a checkpoint, with the averaged weights.
#[derive(Debug)]
pub struct ImagePipeline {
    /// What the checkpoint says of itself.
    pub manifest: Manifest<ImageRecipe>,
    /// The codec.
    pub codec: Codec,
    /// The language model.
    pub model: LatentLm,
}

impl ImagePipeline {
    /// Loads a run's newest checkpoint.
    ///
    /// # Errors
    /// If the folder is no run, has no finished checkpoint, or one that is damaged.
    pub fn from_run(path: &Path, device: &Device) -> Result<Self, PipelineError> {
        let (run, _) = RunFolder::<ImageRecipe>::open(path)?;
        let (folder, _) = run.require("lm")?;
        Self::from_checkpoint(&Checkpoint::open(&folder), device)
    }

    /// Loads a checkpoint of the language model's stage.
    ///
    /// # Errors
    /// If a file is missing, damaged or of another shape.
    pub fn from_checkpoint(
        checkpoint: &Checkpoint,
        device: &Device,
    ) -> Result<Self, PipelineError> {
        let manifest: Manifest<ImageRecipe> = checkpoint.manifest()?;
        let recipe = &manifest.recipe;
        recipe.validate()?;
        let codec = checkpoint.load(recipe.codec.init(device), &weights_file("codec"))?;
        let model = recipe.model(manifest.classes.len()).init(device);
        let model = checkpoint.load_lm(model, &ema_file("model"))?;
        Ok(Self {
            manifest,
            codec,
            model,
        })
    }

    /// The number of a class, given by name or number.
    ///
    /// # Errors
    /// If there is no such class.
    pub fn class(&self, name: &str) -> Result<u32, PipelineError> {
        let classes = &self.manifest.classes;
        let wanted = name.to_lowercase();
        let by_name = classes.iter().position(|c| c.to_lowercase() == wanted);
        let by_number = name.parse().ok().filter(|n: &usize| *n < classes.len());
        by_name
            .or(by_number)
            .map(|class| class as u32)
            .ok_or_else(|| PipelineError::Config {
                reason: format!("no class `{name}`; there are {}", classes.join(", ")),
            })
    }

    /// Draws one picture a label.
    ///
    /// # Shapes
    /// - returns: `[B, C, H, W]`, around `[-1, 1]`
    ///
    /// # Errors
    /// If the options ask for more solver steps than the model has timesteps, or for a guidance
    /// that is no number.
    pub fn draw(
        &self,
        labels: &[u32],
        options: &SampleOptions,
        seed: u64,
    ) -> Result<Tensor<4>, PipelineError> {
        let timesteps = self.manifest.recipe.lm.num_train_timesteps;
        if !(1..timesteps).contains(&options.steps) || !options.guidance_scale.is_finite() {
            return Err(PipelineError::Config {
                reason: format!(
                    "solver steps must be in 1..{timesteps}, not {}, and guidance a number, not {}",
                    options.steps, options.guidance_scale
                ),
            });
        }
        let batches = labels
            .chunks(BATCH)
            .enumerate()
            .map(|(i, labels)| {
                let mut random = RandomStream::for_step(seed, "draw", i as u64);
                let latents = self.model.draw_images(labels, options, &mut random);
                self.codec.decode(latents)
            })
            .collect();
        Ok(Tensor::cat(batches, 0))
    }
}

/// The finished codec of a run: its averaged weights.
///
/// # Errors
/// If there is no checkpoint or it does not fit the recipe.
pub fn load_image_codec(
    run: &RunFolder<ImageRecipe>,
    device: &Device,
) -> Result<Codec, PipelineError> {
    let (folder, manifest) = run.require("codec")?;
    let codec = manifest.recipe.codec.init(device);
    Checkpoint::open(&folder).load(codec, &ema_file("model"))
}
