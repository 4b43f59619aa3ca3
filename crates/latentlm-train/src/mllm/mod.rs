//! Runs of text and pictures.

mod run;
mod shares;
mod stage_lm;

pub use run::train_mixed;
pub use shares::Share;
pub use stage_lm::Part;
