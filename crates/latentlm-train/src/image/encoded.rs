//! A codec and what it makes of its pictures: what models of more than images begin with.

use latentlm::adapters::Whitening;
use latentlm::codec_image::Codec;
use latentlm_data::LatentCache;
use latentlm_pipelines::{ImageData, ImageRecipe, load_image_codec};

use super::run::Context;
use super::{stage_codec, stage_lm};
use crate::context::RunOptions;
use crate::error::TrainError;

/// A trained codec, all training pictures' posteriors, and their whitening.
pub struct Encoded {
    /// Its averaged weights.
    pub codec: Codec,
    /// What the encoder puts out for each training picture.
    pub cache: LatentCache,
    /// Of latents as the language model sees them.
    pub whitening: Whitening,
}

/// Trains the codec as an image run of its own, or continues, and encodes the pictures. `None` if it
/// was stopped.
///
/// # Errors
/// If data can't be read, the loss is not finite, or a file can't be written.
pub fn encode(recipe: ImageRecipe, options: RunOptions) -> Result<Option<Encoded>, TrainError> {
    let data = ImageData::open(&recipe)?;
    let seed = recipe.seed;
    let mut context = Context::open(recipe, data, options)?;
    if !stage_codec::train(&mut context)? {
        return Ok(None);
    }
    let codec = load_image_codec(&context.run, &context.device)?;
    let cache = stage_lm::latents(&mut context, &codec)?;
    context.data.list_left_out(&context.run)?;
    let whitening = stage_lm::measure(&codec, &cache, seed, &context.device)?;
    Ok(Some(Encoded {
        codec,
        cache,
        whitening,
    }))
}
