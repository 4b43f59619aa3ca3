//! Text and pictures: captions, perplexity, nearest neighbours, colours, evaluation and report of a
//! run.

mod captions;
mod colours;
mod evaluate;
mod measure;
mod neighbours;
mod report;
mod sample;

pub use evaluate::{MllmEvaluation, evaluate_mllm};
pub use measure::{CaptionScore, Perplexity, majority};
pub use neighbours::{Gallery, by_chance};
pub use report::write_mllm_report;
pub use sample::Sample;
