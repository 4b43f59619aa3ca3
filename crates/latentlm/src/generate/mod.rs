//! Generation of text and latents: one loop for all documents, each sequence as if it were alone.
//!
//! `LatentLm::draw_images`, `speak` and `generate` choose how a sequence begins, where its noise comes from
//! and how its results are returned. The loop is in `steps`.

mod image;
mod options;
mod prompt;
mod row;
mod run;
mod shards;
mod speech;
mod steps;
mod text;

pub use options::GenerateOptions;
pub use prompt::{Piece, Prompt};
pub use speech::{SpeechFrame, SpeechPrompt, SpeechStream};
pub use text::{Continuation, LatentStream};

#[cfg(test)]
mod tests;
