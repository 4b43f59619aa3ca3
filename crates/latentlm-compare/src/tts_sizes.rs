//! The memory that the models of a comparison of speech take.

use burn::module::Module;
use latentlm_train::{
    Demanding, Result, RunOptions, check_demands, check_memory, check_parameters,
};

use super::tts_recipe::CompareTtsRecipe;

/// Keys that sizes of rivals follow from.
const RIVAL_KEYS: [&str; 4] = [
    "rival.width",
    "rival.depth",
    "rival.parallel_width",
    "rival.parallel_depth",
];

/// Refuses models and codecs of which one takes more memory than the machine has.
///
/// # Errors
/// If one does; the message names the keys to lower.
pub(crate) fn check_sizes(recipe: &CompareTtsRecipe, options: &RunOptions) -> Result<()> {
    let RunOptions { device, within, .. } = options;
    for &frames in &recipe.frames_per_latent {
        check_memory(&recipe.latentlm(frames), 1, options)?;
    }
    let [of_codec, _] = recipe.codes().demands(device);
    check_demands(&[of_codec], 1, device, within)?;
    for &group in &recipe.groups {
        // The smallest vocabulary: it is not known before data are read.
        let model = recipe.of_group(group).code_lm(1).init(device);
        check_parameters(model.num_params(), &RIVAL_KEYS, device)?;
    }
    Ok(())
}
