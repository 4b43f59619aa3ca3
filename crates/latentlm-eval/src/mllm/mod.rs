//! Text and pictures: captions, perplexity, nearest neighbours, colours, evaluation and report of a
//! run.

mod captions;
mod colours;
mod evaluate;
mod measure;
mod neighbours;
mod report;
mod sample;

pub use evaluate::{EvaluateMixedOptions, MixedEvaluation, evaluate_mixed};
pub use measure::{CaptionScore, Perplexity, majority};
pub use neighbours::{Gallery, by_chance};
pub use report::write_mixed_report;
pub use sample::Sample;
