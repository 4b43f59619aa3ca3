//! The report of a run of text and pictures.

use std::fs;
use std::path::PathBuf;

use latentlm_pipelines::{MetricsLog, MllmRecipe, RunFolder, evenly, series};

use super::captions::{CAPTIONS, read_captions};
use crate::error::EvalError;
use crate::plot::{Series, line_chart};
use crate::report::{self, Page};

/// Writes the report of a run of text and pictures from what its folder holds.
///
/// # Errors
/// If the log can't be read or the report can't be written.
pub fn write_mllm_report(
    run: &RunFolder<MllmRecipe>,
    recipe: &MllmRecipe,
) -> Result<PathBuf, EvalError> {
    let lines = MetricsLog::read(&run.file("metrics.jsonl"))?;
    let mut page = report::begin(run);
    if let Ok(png) = fs::read(run.file("samples/evaluation.png")) {
        page.picture(
            "the real picture, the one drawn for its caption, and the real pictures nearest to that in \
             the codec's latents",
            &png,
        );
    }
    caption_tables(&mut page, run);
    page.heading("Pictures drawn for held-out captions, above the real ones");
    report::samples(&mut page, run, "lm-step-");
    report::curves(&mut page, &lines, "lm", "Language model");
    let exact = Series {
        name: "exact_captions",
        points: series(&lines, "lm", "exact_captions"),
    };
    if !exact.points.is_empty() {
        let caption = "fraction of training captions that are exactly right";
        page.chart(caption, &line_chart("step", &[exact], false));
    }
    report::skipped_data(&mut page, run)?;
    report::end(page, run, recipe)
}

/// Reference captions and generated captions of some pictures of each split, if they were evaluated.
fn caption_tables(page: &mut Page, run: &RunFolder<MllmRecipe>) {
    const SHOWN: usize = 24;
    let Ok(captions) = read_captions(&run.file(CAPTIONS)) else {
        return;
    };
    for (split, heading) in [
        (
            "test",
            "Held-out pictures: reference captions and generated captions",
        ),
        (
            "train",
            "Training pictures: reference captions and generated captions",
        ),
    ] {
        let captions: Vec<_> = captions
            .iter()
            .filter(|caption| caption.split == split)
            .collect();
        let rows: Vec<(String, String)> = evenly(SHOWN, captions.len())
            .into_iter()
            .map(|index| (captions[index].asked.clone(), captions[index].said.clone()))
            .collect();
        page.heading(heading);
        page.table(&rows);
    }
}
