//! Training of image models.

mod batches;
mod classifier;
mod distance;
mod encoded;
mod evaluate;
mod generator;
mod grid;
mod judge;
mod recipe;
mod run;
mod stage_codec;
mod stage_lm;

pub use distance::{FeatureStats, frechet_distance, psnr, ssim};
pub use evaluate::{EvaluateOptions, ImageEvaluation, evaluate_image};
pub use generator::Generator;
pub use grid::{image_grid, png_bytes, save_png};
pub use judge::Verdict;
pub use recipe::{DataConfig, ImageRecipe, SampleConfig};
pub use run::train_image;

pub(crate) use batches::{Batches, HostBatch};
pub(crate) use encoded::{Encoded, encode};
pub(crate) use evaluate::{evenly, read_all, read_evenly};
pub(crate) use grid::host_values;
pub(crate) use judge::{Judge, even_labels};
pub(crate) use run::ImageData;
pub(crate) use stage_codec::draw_latents;
pub(crate) use stage_lm::{Part as LmPart, gather, label_tensor};
