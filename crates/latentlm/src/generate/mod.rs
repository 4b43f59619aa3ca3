//! Generation of text and latents: one loop for all documents, each sequence as if it were alone.
//!
//! `LatentLm::draw_images`, `speak` and `generate` say what a sequence begins with, where its noise comes
//! from and what becomes of what is drawn; the loop is in `steps`.

mod image;
mod parts;
mod prompt;
mod row;
mod run;
mod speech;
mod steps;
mod text;

pub use prompt::{Piece, Prompt};
pub use speech::{SpeechFrame, SpeechPrompt, SpeechStream};
pub use text::{Continuation, GenerateOptions};

#[cfg(test)]
mod tests;
