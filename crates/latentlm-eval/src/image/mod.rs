//! Pictures of classes: distances, the classifier that judges samples, evaluation of a run.

mod classifier;
mod distance;
mod evaluate;
mod judge;

pub(crate) use classifier::{Classifier, Lessons};
pub use distance::{FeatureStats, frechet_distance, psnr, ssim};
pub use evaluate::{ImageEvaluation, Reconstruction, evaluate_image};
pub use judge::{Judge, Verdict, even_labels};
