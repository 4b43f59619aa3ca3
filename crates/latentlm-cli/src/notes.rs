//! What a user should know about the checkpoint that a command uses.

use anyhow::Result;
use latentlm_args::{escaped, tell};
use latentlm_pipelines::{Recipe, RunFolder, Wanted};

/// Prints notes of a checkpoint on standard error.
pub fn show(notes: &[String]) {
    for note in notes {
        tell!("note: {}", escaped(note));
    }
}

/// Prints the notes of a run's newest checkpoint.
///
/// # Errors
/// If there is no whole checkpoint.
pub fn show_of<R: Recipe>(run: &RunFolder<R>) -> Result<()> {
    show(&run.require("lm", Wanted::Weights)?.notes);
    Ok(())
}
