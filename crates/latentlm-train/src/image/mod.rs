//! Runs of pictures of classes.

mod batches;
mod task;

pub use batches::batches;
pub use task::{
    EncodedPictures, class_setup, each_batch, encode, psnr_db, take_codec, train_image,
    train_image_lm,
};
