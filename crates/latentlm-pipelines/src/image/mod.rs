//! Runs of pictures of classes.

mod data;
mod grid;
mod pipeline;
mod recipe;

pub use data::{HostBatch, ImageData, evenly, read_all, read_at, read_evenly, read_readable};
#[cfg(feature = "video")]
pub(crate) use grid::byte;
pub use grid::{check_grid, image_grid, save_picture, save_png};
pub use pipeline::ImagePipeline;
pub use recipe::{DataConfig, GridConfig, ImageRecipe};
