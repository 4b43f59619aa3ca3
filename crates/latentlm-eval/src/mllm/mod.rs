//! Text and pictures: captions, perplexity, nearest neighbours, colours, evaluation and report of a
//! run.

mod captions;
mod colours;
mod evaluate;
mod measure;
mod neighbours;
mod report;
mod sample;

pub(crate) use captions::{CAPTIONS, SaidCaption, read_captions, write_captions};
pub use colours::Colours;
pub use evaluate::{MllmEvaluation, evaluate_mllm};
pub use measure::{CaptionScore, Perplexity, majority};
pub use neighbours::{Gallery, by_chance};
pub use report::write_mllm_report;
pub use sample::Sample;
