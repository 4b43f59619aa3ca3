//! Pictures of classes: distances, the classifier that judges samples, evaluation of a run.

mod classifier;
mod command_judge;
mod distance;
mod evaluate;
mod judge;

pub(crate) use classifier::{Classifier, FEATURES, Lessons, Sizes};
pub use command_judge::CommandVerdict;
pub(crate) use distance::singular;
pub use distance::{FeatureStats, frechet_distance, psnr, ssim};
pub use evaluate::{
    ImageEvaluation, Judges, Reconstruction, evaluate_image, evaluate_image_by, frechet_warning,
};
pub use judge::{Judge, Verdict, even_labels};
