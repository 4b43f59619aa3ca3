//! Comparisons on equal terms: LatentLM with its rivals (paper §3), the sigma-VAE with a learned
//! variance, ways of sampling. Each trains with the stages of `latentlm-train` and writes a table and a
//! figure into its run's folder.

mod mixed_measure;
mod mixed_part;
mod mixed_recipe;
mod mixed_rival;
mod mixed_run;
mod mixed_stage;
mod recipe;
mod result;
mod rival;
mod run;
mod sampling;
mod sigma;
mod stage_rival;
mod stage_vq;

pub use mixed_recipe::CompareMixedRecipe;
pub use mixed_run::compare_mixed;
pub use recipe::{CompareRecipe, DenoiserRecipe, EvaluateConfig, VqRecipe};
pub use result::{Comparison, RivalPoint, RivalResult};
pub use run::compare_image;
pub use sampling::{CompareSamplingOptions, SampledPoint, compare_sampling};
pub use sigma::{SigmaRecipe, SigmaResult, compare_sigma};
