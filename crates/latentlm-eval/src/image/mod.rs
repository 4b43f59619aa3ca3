//! Pictures of classes: distances, the classifier that judges samples, evaluation of a run.

mod classifier;
mod command_judge;
mod distance;
mod evaluate;
mod judge;

pub(crate) use classifier::{Classifier, Lessons};
pub use command_judge::CommandVerdict;
pub use distance::{FeatureStats, frechet_distance, psnr, ssim};
pub use evaluate::{ImageEvaluation, Reconstruction, evaluate_image, evaluate_image_by};
pub use judge::{Judge, Verdict, even_labels};
