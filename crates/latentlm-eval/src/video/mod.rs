//! Clips with text: reconstruction, digits and motions of composed clips, captions, continuation; evaluation and report
//! of a run.

mod course;
mod digits;
mod evaluate;
mod film;
mod judge;
mod measure;
mod report;
mod spot;

#[cfg(test)]
mod tests;

pub use digits::DigitMeasures;
pub use evaluate::{VideoEvaluation, evaluate_video};
pub use film::{TRAINING_CLIPS, save_clips};
pub use measure::MotionShares;
pub use report::write_video_report;
