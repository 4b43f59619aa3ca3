//! Runs of pictures of classes.

mod data;
mod generator;
mod grid;
mod recipe;

pub use data::{HostBatch, ImageData, evenly, read_all, read_evenly};
pub use generator::{ImagePipeline, load_image_codec};
pub use grid::{image_grid, png_bytes, save_png};
pub use recipe::{DataConfig, ImageRecipe, SampleConfig};
