//! `report.html` of a run: a single file with all pictures and sounds in it, without scripts.

use std::fs;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use latentlm::core::bundle::write_atomically;
use latentlm_pipelines::{
    ImageRecipe, MetricLine, MetricsLog, Recipe, RunFolder, SpeechRecipe, series, skipped,
};

use crate::error::EvalError;
use crate::evaluation::{self, measures};
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

/// Charts of what a stage logs: caption, names of the curves, and whether the axis is logarithmic.
const CHARTS: [(&str, &[&str], bool); 10] = [
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
    (
        "fraction of training captions that are exactly right",
        &["exact_captions"],
        false,
    ),
];

/// Writes the report of a run of images from what its folder holds.
///
/// # Errors
/// If the log can't be read or the report can't be written.
pub fn write_image_report(
    run: &RunFolder<ImageRecipe>,
    recipe: &ImageRecipe,
) -> Result<PathBuf, EvalError> {
    let decoded = "Held-out pictures and their reconstructions";
    write_stages(run, recipe, "Samples, a row a class", decoded)
}

/// Writes the report of a run of speech from what its folder holds.
///
/// # Errors
/// If the log can't be read or the report can't be written.
pub fn write_speech_report(
    run: &RunFolder<SpeechRecipe>,
    recipe: &SpeechRecipe,
) -> Result<PathBuf, EvalError> {
    let decoded = "A held-out recording and its reconstruction";
    write_stages(run, recipe, "Held-out texts", decoded)
}

/// Writes a report with samples of both stages under the headings `drawn` and `decoded`.
fn write_stages<R: Recipe>(
    run: &RunFolder<R>,
    recipe: &R,
    drawn: &str,
    decoded: &str,
) -> Result<PathBuf, EvalError> {
    let mut page = Page::begin(run.path())?;
    page.samples(drawn, "lm-step-");
    page.curves("lm", "Language model");
    page.curves("codec", "Codec");
    page.samples(decoded, "codec-step-");
    page.end(recipe)
}

/// The report under construction.
pub struct Page<'a> {
    html: String,
    /// The run's folder.
    folder: &'a Path,
    /// What the run logged.
    lines: Vec<MetricLine>,
}

impl<'a> Page<'a> {
    /// A page with the name of the run and its measurements.
    ///
    /// # Errors
    /// If the run's log can't be read.
    pub fn begin(folder: &'a Path) -> Result<Self, EvalError> {
        let name = folder.file_name().unwrap_or_default().to_string_lossy();
        let title = escape(&format!("Run {name}"));
        let mut page = Self {
            html: format!(
                "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><meta name=\"viewport\" \
                 content=\"width=device-width\"><title>{title}</title><style>{STYLE}</style>\
                 <h1>{title}</h1>"
            ),
            folder,
            lines: MetricsLog::read(&folder.join("metrics.jsonl"))?,
        };
        let json = fs::read_to_string(folder.join(evaluation::FILE)).unwrap_or_default();
        let rows = measures(&json).into_iter().map(|measure| {
            let value = format!("{} {}", measure.value, measure.unit);
            (measure.name, value.trim_end().to_owned())
        });
        page.table("Evaluation", rows.collect());
        Ok(page)
    }

    fn heading(&mut self, text: &str) {
        self.html += &format!("<h2>{}</h2>", escape(text));
    }

    /// Adds a table with two columns, unless it is empty.
    pub fn table(&mut self, heading: &str, rows: Vec<(String, String)>) {
        if rows.is_empty() {
            return;
        }
        self.heading(heading);
        self.html += "<table>";
        for (name, value) in rows {
            let (name, value) = (escape(&name), escape(&value));
            self.html += &format!("<tr><td>{name}</td><td>{value}</td></tr>");
        }
        self.html += "</table>";
    }

    /// Adds a PNG picture of the run's folder, if it is there.
    pub fn picture(&mut self, caption: &str, path: &Path) {
        if let Ok(png) = fs::read(path) {
            let (caption, png) = (escape(caption), STANDARD.encode(png));
            self.html += &format!(
                "<figure><img alt=\"{caption}\" src=\"data:image/png;base64,{png}\">\
                 <figcaption>{caption}</figcaption></figure>"
            );
        }
    }

    /// Adds the newest samples whose file names begin with `prefix`: pictures, and sounds with the
    /// same names.
    pub fn samples(&mut self, heading: &str, prefix: &str) {
        self.heading(heading);
        let Ok(entries) = fs::read_dir(self.folder.join("samples")) else {
            return;
        };
        let mut list: Vec<(u64, PathBuf)> = Vec::new();
        for path in entries.flatten().map(|entry| entry.path()) {
            let name = path.file_name().and_then(|name| name.to_str());
            let step = name
                .and_then(|name| name.strip_prefix(prefix)?.strip_suffix(".png"))
                .and_then(|step| step.parse().ok());
            if let Some(step) = step {
                list.push((step, path));
            }
        }
        list.sort();
        for (step, path) in list.iter().rev().take(6) {
            self.picture(&format!("step {step}"), path);
            if let Ok(wav) = fs::read(path.with_extension("wav")) {
                let wav = STANDARD.encode(wav);
                self.html +=
                    &format!("<audio controls src=\"data:audio/wav;base64,{wav}\"></audio>");
            }
        }
    }

    /// Adds charts of the logged numbers of a stage.
    pub fn curves(&mut self, stage: &str, heading: &str) {
        self.heading(heading);
        for (caption, names, log_y) in CHARTS {
            let curves = names.iter().map(|name| Series {
                name,
                points: series(&self.lines, stage, name),
            });
            let curves: Vec<Series<'_>> = curves.filter(|one| !one.points.is_empty()).collect();
            if !curves.is_empty() {
                let svg = line_chart("step", &curves, log_y);
                let caption = escape(caption);
                self.html += &format!("<figure>{svg}<figcaption>{caption}</figcaption></figure>");
            }
        }
    }

    /// Adds what the run skipped and its recipe, and writes the page.
    ///
    /// # Errors
    /// If the list of skipped data can't be read, or the page can't be written.
    pub fn end(mut self, recipe: &impl Recipe) -> Result<PathBuf, EvalError> {
        let list = skipped::read(&self.folder.join(skipped::FILE))?;
        let shown = list.iter().take(SKIPPED_SHOWN);
        let mut rows: Vec<(String, String)> = shown
            .map(|skipped| (skipped.path.display().to_string(), skipped.reason.clone()))
            .collect();
        if list.len() > SKIPPED_SHOWN {
            let more = list.len() - SKIPPED_SHOWN;
            rows.push((format!("and {more} more"), skipped::FILE.into()));
        }
        self.table("Left out", rows);
        self.heading("Recipe");
        self.html += &format!("<pre>{}</pre>", escape(&recipe.to_toml()?));
        let path = self.folder.join("report.html");
        write_atomically(&path, self.html.as_bytes())?;
        Ok(path)
    }
}
