//! The report of a run of speech.

use std::path::PathBuf;

use latentlm_pipelines::{RunFolder, SpeechRecipe};

use crate::error::EvalError;
use crate::report::{Headings, write_stages};

/// Writes the report of a run of speech from what its folder holds.
///
/// # Errors
/// If the log can't be read or the report can't be written.
pub fn write_speech_report(
    run: &RunFolder<SpeechRecipe>,
    recipe: &SpeechRecipe,
) -> Result<PathBuf, EvalError> {
    let headings = Headings {
        drawn: "Held-out texts",
        decoded: "A held-out recording and its reconstruction",
    };
    write_stages(run, recipe, &headings)
}
