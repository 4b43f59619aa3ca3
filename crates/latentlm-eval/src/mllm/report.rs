//! The report of a run of text and pictures.

use std::path::PathBuf;

use latentlm_pipelines::{MllmRecipe, RunFolder, evenly};

use super::captions::{CAPTIONS, read_captions};
use crate::error::Result;
use crate::report::{DRAWN, Page};

/// Number of captions of each split in the report.
const SHOWN: usize = 24;

/// Writes the report of a run of text and pictures from the files in its folder.
///
/// # Errors
/// If the log can't be read or the report can't be written.
pub fn write_mllm_report(run: &RunFolder<MllmRecipe>, recipe: &MllmRecipe) -> Result<PathBuf> {
    let mut page = Page::begin(run.path())?;
    page.picture(
        "the real picture, the one drawn for its caption, and the real pictures nearest to that in \
         the codec's latents",
        &run.file("samples/evaluation.png"),
    );
    for (split, pictures) in [
        ("test", "Held-out pictures"),
        ("train", "Training pictures"),
    ] {
        let own = read_captions(&run.file(CAPTIONS), split);
        let shown = evenly(SHOWN, own.len()).into_iter();
        let rows = shown.map(|index| own[index].clone());
        let heading = format!("{pictures}: reference captions and generated captions");
        page.table(&heading, rows.collect());
    }
    page.samples(
        "Pictures drawn for held-out captions, above the real ones",
        DRAWN,
        "lm-step-",
    );
    page.curves("lm", "Language model");
    // The codec is trained first, as a run of its own.
    page.link("Codec", "codec/report.html");
    page.end(recipe)
}
