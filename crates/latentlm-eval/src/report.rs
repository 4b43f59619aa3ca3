//! `report.html` of a run: a single file with all pictures and sounds in it, without scripts. The
//! content for each modality is in its own folder.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use latentlm::core::bundle::write_atomically;
use latentlm_pipelines::{MetricLine, Recipe, RunFolder, series, skipped};

use crate::error::EvalError;
use crate::plot::{Series, escape, line_chart};

/// Number of skipped recordings or pictures in a report. The run's own list has all of them.
const SKIPPED_SHOWN: usize = 100;

const STYLE: &str = "body{font:15px/1.5 system-ui,sans-serif;max-width:960px;margin:2rem auto;\
padding:0 1rem;color:#222;background:#fff}h1{font-size:1.5rem}h2{font-size:1.1rem;margin-top:2rem}\
table{border-collapse:collapse}td{padding:.15rem 1rem .15rem 0;vertical-align:top}\
td:first-child{color:#777}img{max-width:100%;image-rendering:pixelated}\
pre{background:#f4f4f5;padding:1rem;overflow:auto;font-size:12px}\
figure{margin:1rem 0}figcaption{color:#777;font-size:13px}\
@media(prefers-color-scheme:dark){body{color:#ddd;background:#18181b}pre{background:#27272a}}";

/// An HTML page under construction.
pub struct Page(String);

impl Page {
    fn new(title: &str) -> Self {
        let title = escape(title);
        Self(format!(
            "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><meta name=\"viewport\" \
             content=\"width=device-width\"><title>{title}</title><style>{STYLE}</style>\
             <h1>{title}</h1>"
        ))
    }

    /// Adds a heading.
    pub fn heading(&mut self, text: &str) {
        let _ = write!(self.0, "<h2>{}</h2>", escape(text));
    }

    /// Adds a table with two columns.
    pub fn table(&mut self, rows: &[(String, String)]) {
        self.0.push_str("<table>");
        for (name, value) in rows {
            let _ = write!(
                self.0,
                "<tr><td>{}</td><td>{}</td></tr>",
                escape(name),
                escape(value)
            );
        }
        self.0.push_str("</table>");
    }

    /// Adds an SVG chart.
    pub fn chart(&mut self, caption: &str, svg: &str) {
        let caption = escape(caption);
        let _ = write!(
            self.0,
            "<figure>{svg}<figcaption>{caption}</figcaption></figure>"
        );
    }

    /// Adds a PNG picture.
    pub fn picture(&mut self, caption: &str, png: &[u8]) {
        let _ = write!(
            self.0,
            "<figure><img alt=\"{0}\" src=\"data:image/png;base64,{1}\">\
             <figcaption>{0}</figcaption></figure>",
            escape(caption),
            STANDARD.encode(png)
        );
    }

    /// Adds a player for a WAV sound.
    fn sound(&mut self, wav: &[u8]) {
        let _ = write!(
            self.0,
            "<audio controls src=\"data:audio/wav;base64,{}\"></audio>",
            STANDARD.encode(wav)
        );
    }

    /// Adds preformatted text.
    fn code(&mut self, text: &str) {
        let _ = write!(self.0, "<pre>{}</pre>", escape(text));
    }
}

/// Lists the data that the run skipped, with the reasons.
pub fn skipped_data<R: Recipe>(page: &mut Page, run: &RunFolder<R>) -> Result<(), EvalError> {
    let list = skipped::read(&run.file(skipped::FILE))?;
    if list.is_empty() {
        return Ok(());
    }
    page.heading("Left out");
    let shown = list.iter().take(SKIPPED_SHOWN);
    let mut rows: Vec<(String, String)> = shown
        .map(|skipped| (skipped.path.display().to_string(), skipped.reason.clone()))
        .collect();
    if let Some(more) = list.len().checked_sub(SKIPPED_SHOWN + 1) {
        rows.push((format!("and {} more", more + 1), skipped::FILE.into()));
    }
    page.table(&rows);
    Ok(())
}

/// A page with the title of the run and its measurements.
pub fn begin<R: Recipe>(run: &RunFolder<R>) -> Page {
    let name = run
        .path()
        .file_name()
        .map_or_else(String::new, |n| n.to_string_lossy().into_owned());
    let mut page = Page::new(&format!("Run {name}"));
    let evaluation = run.file("evaluation.json");
    if let Ok(text) = fs::read_to_string(&evaluation)
        && let Ok(values) = serde_json::from_str::<BTreeMap<String, serde_json::Value>>(&text)
    {
        page.heading("Evaluation");
        let rows = values
            .iter()
            .map(|(name, value)| (name.replace('_', " "), shown(value)));
        page.table(&rows.collect::<Vec<_>>());
    }
    page
}

/// A measurement with at most four decimals; `evaluation.json` has all of them.
fn shown(value: &serde_json::Value) -> String {
    match value.as_f64().filter(|_| value.is_f64()) {
        Some(number) => ((number * 1e4).round() / 1e4).to_string(),
        None => value.to_string(),
    }
}

/// Adds the recipe and writes the page.
pub fn end<R: Recipe>(
    mut page: Page,
    run: &RunFolder<R>,
    recipe: &R,
) -> Result<PathBuf, EvalError> {
    page.heading("Recipe");
    page.code(&recipe.to_toml()?);
    let path = run.file("report.html");
    write_atomically(&path, page.0.as_bytes())?;
    Ok(path)
}

/// Charts of the logged numbers of a stage.
pub fn curves(page: &mut Page, lines: &[MetricLine], stage: &str, heading: &str) {
    let charts: [(&str, &[&str], bool); 9] = [
        ("loss", &["loss", "reconstruction", "token_loss"], true),
        (
            "held-out mel distance in dB",
            &["held_out_mel_distance_db"],
            false,
        ),
        ("held-out STOI", &["held_out_stoi"], false),
        ("terms of the loss", &["mel", "stft", "adversarial"], false),
        (
            "share of held-out captions of the right category",
            &["held_out_category"],
            false,
        ),
        (
            "perplexity of held-out text",
            &["held_out_text_perplexity"],
            true,
        ),
        ("held-out PSNR in dB", &["held_out_psnr_db"], false),
        ("norm of the gradients", &["gradient_norm"], true),
        ("learning rate", &["lr"], false),
    ];
    page.heading(heading);
    for (caption, names, log_y) in charts {
        let curves: Vec<Series<'_>> = names
            .iter()
            .map(|name| Series {
                name,
                points: series(lines, stage, name),
            })
            .filter(|series| !series.points.is_empty())
            .collect();
        if !curves.is_empty() {
            page.chart(caption, &line_chart("step", &curves, log_y));
        }
    }
}

/// The newest samples whose file names begin with `prefix`: pictures, and sounds with the same names.
pub fn samples<R: Recipe>(page: &mut Page, run: &RunFolder<R>, prefix: &str) {
    let Ok(entries) = fs::read_dir(run.file("samples")) else {
        return;
    };
    let step = |path: &Path| -> Option<u64> {
        let name = path.file_stem()?.to_str()?;
        name.strip_prefix(prefix)?.parse().ok()
    };
    let mut list: Vec<(u64, PathBuf)> = entries
        .flatten()
        .filter(|entry| entry.path().extension().is_some_and(|e| e == "png"))
        .filter_map(|entry| Some((step(&entry.path())?, entry.path())))
        .collect();
    list.sort();
    for (step, path) in list.iter().rev().take(6) {
        if let Ok(png) = fs::read(path) {
            page.picture(&format!("step {step}"), &png);
        }
        if let Ok(wav) = fs::read(path.with_extension("wav")) {
            page.sound(&wav);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn measurements_are_shown_short() {
        let shown = |json: &str| shown(&serde_json::from_str(json).unwrap());
        let texts = [
            "0.9447236180904522",
            "0.00004",
            "93.0",
            "199",
            "[3,4]",
            "null",
        ]
        .map(shown);
        assert_eq!(texts, ["0.9447", "0", "93", "199", "[3,4]", "null"]);
    }
}
