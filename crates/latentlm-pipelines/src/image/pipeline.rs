//! Draws pictures of a class with a trained model.

use burn::tensor::Tensor;
use latentlm::{LatentCodec, RandomStream, SampleOptions};
use latentlm_data::check_stop;

use super::recipe::ImageRecipe;
use crate::error::{PipelineError, Result};
use crate::pipeline::Pipeline;
use crate::tensors::finite;

/// Pictures drawn at once: more would not be faster, and take more memory.
const BATCH: usize = 100;

/// Codec and language model of pictures of classes.
pub type ImagePipeline = Pipeline<ImageRecipe>;

impl ImagePipeline {
    /// The number of a class, given by name or number.
    ///
    /// # Errors
    /// If there is no such class.
    pub fn class(&self, name: &str) -> Result<u32> {
        let (classes, wanted) = (&self.vocabulary, name.to_lowercase());
        let by_name = classes.iter().position(|c| c.to_lowercase() == wanted);
        let by_number = name.parse().ok().filter(|n: &usize| *n < classes.len());
        let class = by_name.or(by_number).map(|class| class as u32);
        class.ok_or_else(|| {
            let classes = classes.join(", ");
            PipelineError::config(format!("no class `{name}`; there are {classes}"))
        })
    }

    /// Draws one picture per label.
    ///
    /// # Shapes
    /// - returns: `[B, C, H, W]`, around `[-1, 1]`
    ///
    /// # Errors
    /// If the options ask for more solver steps than the model has timesteps, or for a guidance
    /// that is no number, or if drawn latents are not finite.
    pub fn draw(&self, labels: &[u32], options: &SampleOptions, seed: u64) -> Result<Tensor<4>> {
        self.recipe().lm.check_options(options)?;
        let mut pictures = Vec::new();
        for (labels, batch) in labels.chunks(BATCH).zip(0..) {
            check_stop()?;
            let mut random = RandomStream::for_step(seed, "draw", batch);
            let latents = self.model.draw_images(labels, options, &mut random);
            pictures.push(self.codec.decode(finite(latents)?));
        }
        Ok(Tensor::cat(pictures, 0))
    }
}
