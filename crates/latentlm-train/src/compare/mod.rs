//! Comparisons: LatentLM with its rivals (paper §3), the sigma-VAE with a learned variance, ways of
//! sampling.

mod recipe;
mod result;
mod rival;
mod run;
mod sampling;
mod sigma;
mod stage_rival;
mod stage_vq;

pub use recipe::{CompareRecipe, DenoiserRecipe, EvaluateConfig, VqRecipe};
pub use result::{Comparison, RivalPoint, RivalResult};
pub use run::compare_image;
pub use sampling::{CompareSamplingOptions, SampledPoint, compare_sampling};
pub use sigma::{SigmaRecipe, SigmaResult, compare_sigma};
