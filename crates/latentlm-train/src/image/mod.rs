//! Runs of pictures of classes.

mod batches;
mod run;
mod stage_codec;
mod task;

pub use batches::Batches;
pub use run::train_image;
pub use stage_codec::{each_batch, psnr_db};
pub use task::{Classes, EncodedPictures, encode};
