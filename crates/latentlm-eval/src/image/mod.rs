//! Pictures of classes: distances, the classifier that judges samples, evaluation of a run.

mod classifier;
mod distance;
mod evaluate;
mod judge;
mod report;

pub use distance::{FeatureStats, frechet_distance, psnr, ssim};
pub use evaluate::{ImageEvaluation, evaluate_image};
pub use judge::{Judge, Verdict, even_labels};
pub use report::write_image_report;
