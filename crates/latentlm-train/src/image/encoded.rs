//! A codec and what it makes of its pictures: what models of more than images begin with.

use latentlm::adapters::Whitening;
use latentlm::codec_image::Codec;
use latentlm_data::LatentCache;

use super::recipe::ImageRecipe;
use super::run::{Context, ImageData};
use super::{stage_codec, stage_lm};
use crate::context::RunOptions;
use crate::error::TrainError;

/// A trained codec, all training pictures' posteriors, and their whitening.
pub(crate) struct Encoded {
    pub(crate) codec: Codec,
    pub(crate) cache: LatentCache,
    pub(crate) whitening: Whitening,
}

/// Trains the codec as an image run of its own, or continues, and encodes the pictures. `None` if it
/// was stopped.
///
/// # Errors
/// If data can't be read, the loss is not finite, or a file can't be written.
pub(crate) fn encode(
    recipe: ImageRecipe,
    options: RunOptions,
) -> Result<Option<Encoded>, TrainError> {
    let data = ImageData::open(&recipe)?;
    let seed = recipe.seed;
    let mut context = Context::open(recipe, data, options)?;
    if !stage_codec::train(&mut context)? {
        return Ok(None);
    }
    let codec = stage_codec::load(&context.run, &context.device)?;
    let cache = stage_lm::latents(&mut context, &codec)?;
    let whitening = stage_lm::measure(&codec, &cache, seed, &context.device)?;
    Ok(Some(Encoded {
        codec,
        cache,
        whitening,
    }))
}
