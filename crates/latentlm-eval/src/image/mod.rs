//! Pictures of classes: distances, the classifier that judges samples, evaluation and report of a
//! run.

mod classifier;
mod distance;
mod evaluate;
mod judge;
mod report;

pub use distance::{FeatureStats, frechet_distance, psnr, ssim};
pub use evaluate::{EvaluateOptions, ImageEvaluation, evaluate_image};
pub use judge::{Judge, Verdict, even_labels};
pub use report::write_image_report;
