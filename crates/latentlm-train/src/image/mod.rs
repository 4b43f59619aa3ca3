//! Runs of pictures of classes.

mod batches;
mod encoded;
mod run;
mod stage_codec;
mod stage_lm;

pub use batches::Batches;
pub use encoded::{Encoded, encode};
pub use run::train_image;
pub use stage_codec::psnr_db;
pub use stage_lm::{Part, gather};
