//! Runs of pictures of classes.

mod batches;
mod task;

pub use batches::Batches;
pub use task::{
    Classes, EncodedPictures, each_batch, encode, psnr_db, train_image, train_image_lm,
};
