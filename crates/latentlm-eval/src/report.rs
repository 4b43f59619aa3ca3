//! `report.html` of a run: a single file with all pictures and sounds in it, without scripts.

use std::fs;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use latentlm::core::bundle::write_atomically;
use latentlm_pipelines::{
    ImageRecipe, MetricLine, MetricsLog, Recipe, RunFolder, SpeechRecipe, series, skipped,
};

use crate::error::Result;
use crate::evaluation::{self, measures};
use crate::origin::{kept, origin};
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

/// The charts of each stage, one per line, with the logged values that they show. Read by
/// [`rows`](evaluation::rows).
const CHARTS: &str = include_str!("../charts.txt");

/// Description of sampled pictures or sounds of the language model.
pub(crate) const DRAWN: &str = "Made by the averaged weights of the given steps, newest first.";
/// Description of pairs of an original and its reconstruction.
pub(crate) const DECODED: &str =
    "What the codec keeps of held-out data at the given steps, newest first.";

/// Writes the report of a run of pictures of classes from what its folder holds.
///
/// # Errors
/// If the log can't be read or the report can't be written.
pub fn write_image_report(run: &RunFolder<ImageRecipe>, recipe: &ImageRecipe) -> Result<PathBuf> {
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
) -> Result<PathBuf> {
    let decoded = "A held-out recording and its reconstruction";
    write_stages(run, recipe, "Held-out texts", decoded)
}

/// Results of a comparison that is under way or finished, for its report.
#[derive(Debug, Clone, Copy, Default)]
pub struct ComparedSoFar<'a> {
    /// Tables in Markdown, each row on a line; empty before the first result.
    pub table: &'a str,
    /// The figure, as SVG; empty before the first result.
    pub figure: &'a str,
    /// Names of the stages of its own run, if it trains models itself.
    pub stages: &'a [&'a str],
}

/// Writes the report of a comparison: results so far, samples and curves of the models that it trains itself, and links
/// to the reports of the runs in its folder.
///
/// # Errors
/// If the log can't be read or the report can't be written.
pub fn write_comparison_report<R: Recipe>(
    run: &RunFolder<R>,
    recipe: &R,
    found: &ComparedSoFar<'_>,
) -> Result<PathBuf> {
    let mut page = Page::begin(run.path())?;
    if !found.table.is_empty() {
        page.heading("Results of what is finished");
        page.markdown(found.table);
        page.html += &format!("<figure>{}</figure>", found.figure);
    }
    for stage in found.stages {
        page.samples(stage, DRAWN, &format!("{stage}-step-"));
        page.curves(stage, stage);
    }
    page.runs_within();
    page.end(recipe)
}

/// Writes the report of a run of two stages from the files in its folder. This also works during training:
/// samples, evaluation and second stage may be missing. `drawn` is the heading of the language
/// model's samples, `decoded` the heading of the codec's reconstructions.
fn write_stages<R: Recipe>(
    run: &RunFolder<R>,
    recipe: &R,
    drawn: &str,
    decoded: &str,
) -> Result<PathBuf> {
    let mut page = Page::begin(run.path())?;
    page.samples(drawn, DRAWN, "lm-step-");
    page.curves("lm", "Language model");
    page.curves("codec", "Codec");
    page.samples(decoded, DECODED, "codec-step-");
    page.end(recipe)
}

/// The report under construction.
pub struct Page<'a> {
    html: String,
    /// The run's folder.
    folder: &'a Path,
    /// Records of the run's log.
    lines: Vec<MetricLine>,
}

impl<'a> Page<'a> {
    /// A page with the name of the run and its measurements.
    ///
    /// # Errors
    /// If the run's log can't be read.
    pub fn begin(folder: &'a Path) -> Result<Self> {
        let name = folder.file_name().unwrap_or_default().to_string_lossy();
        let title = escape(&format!("Run {name}"));
        let mut page = Self {
            html: format!(
                "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><meta name=\"viewport\" \
                 content=\"width=device-width\"><title>{title}</title><style>{STYLE}</style>\
                 <h1>{title}</h1>"
            ),
            folder,
            lines: Vec::new(),
        };
        let log = folder.join("metrics.jsonl");
        // A comparison whose models are runs of their own has none.
        if log.exists() {
            page.lines = MetricsLog::read(&log)?;
        }
        let json = fs::read_to_string(folder.join(evaluation::FILE)).unwrap_or_default();
        page.table("This page", origin());
        page.table("Where it was trained and evaluated", kept(folder));
        let rows = measures(&json).into_iter().map(|measure| {
            let value = format!("{} {}", measure.value, measure.unit);
            let value = value.trim_end().to_owned();
            [measure.name, value, measure.meaning.to_owned()]
        });
        page.table("Evaluation", rows.collect());
        Ok(page)
    }

    fn heading(&mut self, text: &str) {
        self.html += &format!("<h2>{}</h2>", escape(text));
    }

    /// Adds a table with `N` columns, unless it is empty.
    pub fn table<const N: usize>(&mut self, heading: &str, rows: Vec<[String; N]>) {
        if rows.is_empty() {
            return;
        }
        self.heading(heading);
        self.html += "<table>";
        for row in rows {
            let cells = row.map(|cell| format!("<td>{}</td>", escape(&cell)));
            self.html += &format!("<tr>{}</tr>", cells.concat());
        }
        self.html += "</table>";
    }

    /// Adds tables and lines in Markdown, as comparisons write them.
    fn markdown(&mut self, text: &str) {
        let mut in_table = false;
        for line in text.lines() {
            let cells = line.strip_prefix("| ");
            let cells = cells.and_then(|cells| cells.strip_suffix(" |"));
            if line.starts_with("|---") {
                continue;
            }
            if cells.is_some() != in_table {
                self.html += if in_table { "</table>" } else { "<table>" };
                in_table = !in_table;
            }
            if let Some(cells) = cells {
                let cells = cells.split(" | ").map(|cell| escape(cell.trim()));
                let cells: String = cells.map(|cell| format!("<td>{cell}</td>")).collect();
                self.html += &format!("<tr>{cells}</tr>");
            } else if !line.is_empty() {
                self.html += &format!("<p>{}</p>", escape(line));
            }
        }
        if in_table {
            self.html += "</table>";
        }
    }

    /// Adds links to the reports of the runs in the run's folder, if there are any.
    fn runs_within(&mut self) {
        let entries = fs::read_dir(self.folder).into_iter().flatten().flatten();
        let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
        let mut names: Vec<String> = names.collect();
        names.retain(|name| self.folder.join(name).join("report.html").is_file());
        names.sort();
        if names.is_empty() {
            return;
        }
        self.heading("Runs");
        for name in names {
            let name = escape(&name);
            self.html += &format!("<p><a href=\"{name}/report.html\">{name}</a></p>");
        }
    }

    /// Adds a link to a file of the run's folder, if it is there.
    pub fn link(&mut self, heading: &str, path: &str) {
        if self.folder.join(path).is_file() {
            self.heading(heading);
            let path = escape(path);
            self.html += &format!("<p><a href=\"{path}\">{path}</a></p>");
        }
    }

    /// Adds a picture of the run's folder, PNG or GIF, if it is there.
    pub fn picture(&mut self, caption: &str, path: &Path) {
        if let Ok(bytes) = fs::read(path) {
            let (caption, bytes) = (escape(caption), STANDARD.encode(bytes));
            let format = path.extension().unwrap_or_default().to_string_lossy();
            self.html += &format!(
                "<figure><img alt=\"{caption}\" src=\"data:image/{format};base64,{bytes}\">\
                 <figcaption>{caption}</figcaption></figure>"
            );
        }
    }

    /// Adds the newest samples whose file names begin with `prefix`, if there are any: pictures, and sounds
    /// with the same names. `meaning` describes them.
    pub fn samples(&mut self, heading: &str, meaning: &str, prefix: &str) {
        let Ok(entries) = fs::read_dir(self.folder.join("samples")) else {
            return;
        };
        let mut list: Vec<(u64, PathBuf)> = Vec::new();
        for entry in entries.flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let behind = name.strip_prefix(prefix);
            let step = behind.and_then(|step| step.strip_suffix(".png")?.parse::<u64>().ok());
            list.extend(step.map(|step| (step, entry.path())));
        }
        if list.is_empty() {
            return;
        }
        self.heading(heading);
        self.html += &format!("<p>{}</p>", escape(meaning));
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

    /// Adds charts of the logged numbers of a stage, if there are any.
    pub fn curves(&mut self, stage: &str, heading: &str) {
        let mut charts = String::new();
        for [names, scale, caption, meaning] in evaluation::rows::<4>(CHARTS) {
            let curves = names.split(", ").map(|name| Series {
                name,
                points: series(&self.lines, stage, name),
            });
            let curves: Vec<Series<'_>> = curves.filter(|one| !one.points.is_empty()).collect();
            if !curves.is_empty() {
                let svg = line_chart("step", &curves, scale == "log");
                let caption = escape(&format!("{caption}. {meaning}"));
                charts += &format!("<figure>{svg}<figcaption>{caption}</figcaption></figure>");
            }
        }
        if !charts.is_empty() {
            self.heading(heading);
            self.html += &charts;
        }
    }

    /// Adds the list of skipped data and the recipe, and writes the page.
    ///
    /// # Errors
    /// If the list of skipped data can't be read, or the page can't be written.
    pub fn end(mut self, recipe: &impl Recipe) -> Result<PathBuf> {
        let list = skipped::read(&self.folder.join(skipped::FILE))?;
        let shown = list.iter().take(SKIPPED_SHOWN);
        let mut rows: Vec<[String; 2]> = shown
            .map(|skipped| [skipped.path.display().to_string(), skipped.reason.clone()])
            .collect();
        if list.len() > SKIPPED_SHOWN {
            let more = list.len() - SKIPPED_SHOWN;
            rows.push([format!("and {more} more"), skipped::FILE.into()]);
        }
        self.table("Left out", rows);
        self.heading("Recipe");
        self.html += &format!("<pre>{}</pre>", escape(&recipe.to_toml()?));
        let path = self.folder.join("report.html");
        write_atomically(&path, self.html.as_bytes())?;
        Ok(path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{write_mllm_report, write_video_report};
    use latentlm_pipelines::{MllmRecipe, VideoRecipe};

    /// A line that is no row would be left out without a word.
    #[test]
    fn every_line_of_the_table_is_a_chart() {
        let lines = CHARTS.lines().filter(|line| !line.starts_with('#'));
        assert_eq!(evaluation::rows::<4>(CHARTS).count(), lines.count());
        for [names, scale, caption, meaning] in evaluation::rows::<4>(CHARTS) {
            let named = !names.is_empty() && !caption.is_empty() && meaning.ends_with('.');
            assert!(named && ["log", "linear"].contains(&scale), "{caption}");
        }
    }

    /// The page that `write` makes of some lines of the log.
    fn page<R: Recipe>(write: fn(&RunFolder<R>, &R) -> Result<PathBuf>, lines: &str) -> String {
        let dir = tempfile::tempdir().unwrap();
        let recipe = R::default();
        let run = RunFolder::create(&dir.path().join("r"), &recipe).unwrap();
        fs::write(run.file("metrics.jsonl"), lines).unwrap();
        let path = write(&run, &recipe).unwrap();
        assert_eq!(path, run.file("report.html"));
        fs::read_to_string(path).unwrap()
    }

    /// After the first checkpoint of the first stage there is no more than some lines of the log.
    #[test]
    fn a_run_that_has_begun_has_a_report() {
        let lines = "{\"stage\": \"codec\", \"step\": 1, \"loss\": 0.5, \"lr\": 0.001}\n";
        for html in [
            page::<ImageRecipe>(write_image_report, lines),
            page::<SpeechRecipe>(write_speech_report, lines),
            page::<MllmRecipe>(write_mllm_report, &lines.replace("codec", "lm")),
            page::<VideoRecipe>(write_video_report, lines),
        ] {
            for part in [
                "<td>written</td>",
                " UTC</td>",
                " threads",
                "<td>by</td><td>latentlm ",
            ] {
                assert!(html.contains(part), "{part}");
            }
            let figures = html.matches("<figcaption>").count();
            assert_eq!(figures, 2, "one of the loss, one of the learning rate");
            assert!(html.contains("<figcaption>loss. What training minimizes"));
            // Without samples and other stages, their headings are left out.
            assert_eq!(html.matches("<h2>").count(), 3, "{html}");
            assert!(html.contains("<h2>Recipe</h2>"));
        }
    }

    /// Machine and commit of the training stay, whoever writes the page.
    #[test]
    fn a_report_tells_where_the_run_was_trained_and_evaluated() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("metrics.jsonl"), "").unwrap();
        let line = |work: &str, machine: &str| {
            format!(
                "{{\"work\":\"{work}\",\"time\":\"2025-01-02 03:04:05 UTC\",\"machine\":\"{machine}\",\
                 \"device\":\"a card\",\"version\":\"latentlm 1, commit abc\"}}\n"
            )
        };
        let lines = line("training", "A & B") + &line("evaluation", "C");
        fs::write(dir.path().join("origins.jsonl"), lines).unwrap();
        let page = Page::begin(dir.path()).unwrap();
        for (work, machine) in [("training since", "A &amp; B"), ("evaluation of", "C")] {
            let row = format!(
                "<tr><td>{work} 2025-01-02 03:04:05 UTC</td><td>{machine}</td><td>a card</td>\
                 <td>latentlm 1, commit abc</td></tr>"
            );
            assert!(page.html.contains(&row), "{}", page.html);
        }
    }

    /// Of a comparison whose models are runs of their own, and that has no log.
    #[test]
    fn a_comparison_has_a_report_of_what_is_finished() {
        let dir = tempfile::tempdir().unwrap();
        let recipe = ImageRecipe::default();
        let run = RunFolder::create(&dir.path().join("r"), &recipe).unwrap();
        for name in ["a-1", "b-1"] {
            fs::create_dir(run.file(name)).unwrap();
        }
        fs::write(run.file("a-1/report.html"), "x").unwrap();
        let found = ComparedSoFar {
            table: "| model | speed |\n|---|---|\n| a | 0.5 |\n|  | 2 |\n\nOf <4> pictures.\n\n| b |\n",
            figure: "<svg></svg>",
            stages: &["lm"],
        };
        let path = write_comparison_report(&run, &recipe, &found).unwrap();
        let html = fs::read_to_string(path).unwrap();
        let tables = "<table><tr><td>model</td><td>speed</td></tr><tr><td>a</td><td>0.5</td></tr>\
                      <tr><td></td><td>2</td></tr></table><p>Of &lt;4&gt; pictures.</p>\
                      <table><tr><td>b</td></tr></table><figure><svg></svg></figure>";
        assert!(html.contains(tables), "{html}");
        let link = "<a href=\"a-1/report.html\">a-1</a>";
        assert!(html.contains(link) && !html.contains("b-1"), "{html}");
        // Before the first result, and with a model of its own.
        let line = "{\"stage\": \"lm\", \"step\": 1, \"frechet_distance\": 30.5}\n";
        fs::write(run.file("metrics.jsonl"), line).unwrap();
        let found = ComparedSoFar {
            stages: &["lm"],
            ..ComparedSoFar::default()
        };
        let path = write_comparison_report(&run, &recipe, &found).unwrap();
        let html = fs::read_to_string(path).unwrap();
        assert!(!html.contains("Results of") && html.contains("<h2>lm</h2>"));
        assert!(html.contains("<figcaption>Frechet distance of drawn pictures"));
    }

    /// A GIF plays where a PNG stands.
    #[test]
    fn pictures_and_clips_are_inside_the_page() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("metrics.jsonl"), "").unwrap();
        let mut page = Page::begin(dir.path()).unwrap();
        for (name, kind) in [("a.png", "image/png"), ("a.gif", "image/gif")] {
            let file = dir.path().join(name);
            page.picture("a digit", &file);
            assert!(!page.html.contains(kind), "no file yet");
            fs::write(&file, "abc").unwrap();
            page.picture("a digit", &file);
            let inside = format!("src=\"data:{kind};base64,YWJj\">");
            assert!(page.html.contains(&inside), "{}", page.html);
        }
    }

    #[test]
    fn measures_are_explained() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("metrics.jsonl"), "").unwrap();
        fs::write(
            dir.path().join("evaluation.json"),
            "{\"seed\": 3, \"diversity\": 0.5}",
        )
        .unwrap();
        let page = Page::begin(dir.path()).unwrap();
        let rows = "<tr><td>seed</td><td>3</td><td></td></tr><tr><td>diversity</td><td>0.5</td>\
                    <td>Differences between drawn pictures of a class";
        assert!(page.html.contains(rows), "{}", page.html);
    }
}
