//! The report of a run of speech.

use std::path::PathBuf;

use latentlm_pipelines::{MetricsLog, RunFolder, SpeechRecipe};

use crate::error::EvalError;
use crate::report;

/// Writes the report of a run of speech from what its folder holds.
///
/// # Errors
/// If the log can't be read or the report can't be written.
pub fn write_speech_report(
    run: &RunFolder<SpeechRecipe>,
    recipe: &SpeechRecipe,
) -> Result<PathBuf, EvalError> {
    let lines = MetricsLog::read(&run.file("metrics.jsonl"))?;
    let mut page = report::begin(run);
    page.heading("Held-out texts");
    report::samples(&mut page, run, "lm-step-");
    report::curves(&mut page, &lines, "lm", "Language model");
    report::curves(&mut page, &lines, "codec", "Codec");
    page.heading("A held-out recording and its reconstruction");
    report::samples(&mut page, run, "codec-step-");
    report::skipped_data(&mut page, run)?;
    report::end(page, run, recipe)
}
