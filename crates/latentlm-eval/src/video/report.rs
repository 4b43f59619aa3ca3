//! The report of a run of clips with text.

use std::path::PathBuf;

use latentlm_pipelines::{RunFolder, VideoRecipe, evenly};

use super::film::TRAINING_CLIPS;
use crate::error::EvalError;
use crate::mllm::{CAPTIONS, read_captions};
use crate::report::{DECODED, DRAWN, Page};

/// Number of captions in the report.
const SHOWN: usize = 24;
/// The GIFs of a run, and what they show.
const CLIPS: [(&str, &str); 5] = [
    (
        TRAINING_CLIPS,
        "held-out clips, and below each the one that training drew last for its caption",
    ),
    (
        "samples/evaluation.gif",
        "held-out clips, and below each the one that is drawn for its caption",
    ),
    (
        "samples/evaluation-pairs.gif",
        "drawn for pairs of digit and motion that training never had",
    ),
    (
        "samples/evaluation-two-digits.gif",
        "drawn for captions of two digits that training never had",
    ),
    (
        "samples/evaluation-continued.gif",
        "continued from the first frame of a held-out clip",
    ),
];

/// Writes the report of a run of clips from the files in its folder.
///
/// # Errors
/// If the log can't be read or the report can't be written.
pub fn write_video_report(
    run: &RunFolder<VideoRecipe>,
    recipe: &VideoRecipe,
) -> Result<PathBuf, EvalError> {
    let mut page = Page::begin(run.path())?;
    for (name, caption) in CLIPS {
        page.picture(caption, &run.file(name));
    }
    let captions = read_captions(&run.file(CAPTIONS), "test");
    let shown = evenly(SHOWN, captions.len()).into_iter();
    let rows = shown.map(|index| captions[index].clone());
    let heading = "Held-out clips: reference captions and generated captions";
    page.table(heading, rows.collect());
    page.samples("Clips drawn for held-out captions", DRAWN, "lm-step-");
    page.curves("lm", "Language model");
    page.curves("codec", "Codec");
    page.samples(
        "Held-out clips and their reconstructions",
        DECODED,
        "codec-step-",
    );
    page.end(recipe)
}
