//! Text and pictures: captions, perplexity, neighbours, colours, the evaluation of a run.

mod captions;
mod colours;
mod evaluate;
mod measure;
mod neighbours;
mod sample;

pub use captions::{CAPTIONS, read_captions};
pub use evaluate::{EvaluateMixedOptions, MixedEvaluation, evaluate_mixed};
pub use measure::{CaptionScore, Perplexity, majority};
pub use neighbours::{Gallery, by_chance};
pub use sample::Sample;
