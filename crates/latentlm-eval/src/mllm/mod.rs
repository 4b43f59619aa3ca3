//! Text and pictures: captions, perplexity, nearest neighbours, colours, evaluation and report of a
//! run.

mod captions;
mod colours;
mod evaluate;
mod measure;
mod neighbours;
mod report;
mod sample;

pub(crate) use captions::{CAPTIONS, caption_pairs, read_captions, write_captions};
pub use colours::Colours;
pub use evaluate::{MllmEvaluation, evaluate_mllm};
pub use measure::{categories_named, exact_captions, majority, text_surprise};
pub use neighbours::{Gallery, by_chance};
pub use report::write_mllm_report;
pub use sample::Sample;
