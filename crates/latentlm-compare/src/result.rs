//! Results of a comparison: numbers, a table, a figure.

use std::path::PathBuf;
use std::time::Instant;

use latentlm::core::bundle::write_atomically;
use latentlm_eval::{
    ComparedSoFar, EvalError, Series, Verdict, bar_chart, decimals, frechet_warning, line_chart,
    stack, write_comparison_report,
};
use latentlm_pipelines::{MetricLine, MetricsLog, Recipe, RunFolder};
use latentlm_train::{ProgressMode, Result, RunEnd, say};
use serde::{Deserialize, Serialize};

/// Folder of the judge in that of a comparison: it is trained once for all that is measured.
pub(crate) const JUDGE: &str = "judge";

/// All rivals, LatentLM first.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Comparison {
    /// Pictures of each measurement.
    pub samples: usize,
    /// Share of held-out real pictures that the judge gets right.
    pub classifier_accuracy: f64,
    /// Frechet distance of as many training pictures to held-out ones.
    pub frechet_distance_of_real: f64,
    /// Accuracy of always naming the largest category.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub category_named_by_majority: Option<f64>,
    /// `neighbours_of_category` of random neighbours.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub neighbours_of_category_by_chance: Option<f64>,
    /// LatentLM and its rivals.
    pub rivals: Vec<RivalResult>,
}

/// The measurements of one model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RivalResult {
    /// Name of its stage.
    pub name: String,
    /// Numbers that are trained, without the codec.
    pub parameters: usize,
    /// Measurements, first to last.
    pub points: Vec<RivalPoint>,
}

/// One measurement.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct RivalPoint {
    /// Optimizer steps taken.
    pub step: u64,
    /// Quality.
    #[serde(flatten)]
    pub verdict: Verdict,
    /// Pictures drawn per second, codec included.
    pub images_per_second: f64,
    /// Perplexity of a token of held-out text; `None` for models that write no text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text_perplexity: Option<f64>,
    /// Perplexity of a token of a held-out picture's caption, given the picture.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub caption_perplexity: Option<f64>,
    /// Share of held-out pictures whose own category is the likeliest beginning of a caption.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub category_named: Option<f64>,
    /// Share of the asked category among the ten pictures that are nearest to a drawn one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub neighbours_of_category: Option<f64>,
}

/// Measurements in the run's log, for each model's name and number of parameters.
pub(crate) fn read<R: Recipe>(
    run: &RunFolder<R>,
    parameters: &[(&'static str, usize)],
) -> Result<Vec<RivalResult>> {
    let lines = MetricsLog::read(&run.file("metrics.jsonl"))?;
    let rivals = parameters.iter().map(|(name, count)| RivalResult {
        name: (*name).into(),
        parameters: *count,
        points: points(&lines, name),
    });
    Ok(rivals.collect())
}

/// The lines of a stage that have all values of a measurement.
fn points(lines: &[MetricLine], name: &str) -> Vec<RivalPoint> {
    // A line has the names of a point's fields, and more.
    lines
        .iter()
        .filter(|line| line.stage == name)
        .filter_map(|line| serde_json::to_value(line).ok())
        .filter_map(|line| serde_json::from_value(line).ok())
        .collect()
}

/// A column of a table: name, decimals, and how to read the value.
pub(crate) struct Column<T> {
    pub(crate) name: &'static str,
    decimals: usize,
    pub(crate) value: fn(&T) -> Option<f64>,
}

impl<T> Column<T> {
    pub(crate) fn new(name: &'static str, decimals: usize, value: fn(&T) -> Option<f64>) -> Self {
        Self {
            name,
            decimals,
            value,
        }
    }

    fn cell(&self, number: Option<f64>) -> String {
        number.map_or(String::new(), |x| decimals(x, self.decimals))
    }

    /// The curve of the items' values over their places; items without a value are left out.
    pub(crate) fn curve<'a, 'n>(
        &self,
        name: &'n str,
        items: impl Iterator<Item = (f64, &'a T)>,
    ) -> Series<'n>
    where
        T: 'a,
    {
        let points = items.filter_map(|(x, item)| Some((x, (self.value)(item)?)));
        Series {
            name,
            points: points.collect(),
        }
    }
}

impl Column<RivalPoint> {
    /// Columns of every comparison.
    fn of_pictures() -> [Self; 3] {
        [
            Self::new("class agreement", 3, |p| Some(p.verdict.class_agreement)),
            Self::new("Frechet distance", 2, |p| Some(p.verdict.frechet_distance)),
            Self::new("images a second", 1, |p| Some(p.images_per_second)),
        ]
    }

    /// Further columns of models that write text.
    fn of_texts() -> [Self; 4] {
        [
            Self::new("text perplexity", 2, |p| p.text_perplexity),
            Self::new("caption perplexity", 2, |p| p.caption_perplexity),
            Self::new("category named", 3, |p| p.category_named),
            Self::new("neighbours of category", 3, |p| p.neighbours_of_category),
        ]
    }
}

impl Comparison {
    /// The columns of [`Column::of_texts`] that the first measurement has.
    fn of_texts(&self) -> Vec<Column<RivalPoint>> {
        let Some(first) = self.rivals.iter().flat_map(|rival| &rival.points).next() else {
            return Vec::new();
        };
        let mut columns = Vec::from(Column::of_texts());
        columns.retain(|column| (column.value)(first).is_some());
        columns
    }

    /// The last measurement of each model, and the same of real pictures.
    pub(crate) fn table(&self) -> String {
        let mut columns = Vec::from(Column::of_pictures());
        columns.extend(self.of_texts());
        let rows = self.rivals.iter().filter_map(|rival| {
            let labels = vec![rival.name.clone(), rival.parameters.to_string()];
            Some((labels, rival.points.last()?))
        });
        let mut text = table(&["model", "parameters"], &columns, rows);
        let real = [self.classifier_accuracy, self.frechet_distance_of_real];
        let mut cells = vec!["real pictures".into(), String::new()];
        for (index, column) in columns.iter().enumerate() {
            cells.push(column.cell(real.get(index).copied()));
        }
        text += &row(&cells);
        let majority = "Accuracy of always naming the largest category";
        text += &footnote(majority, self.category_named_by_majority);
        let chance = "Neighbours of category, by chance";
        text + &footnote(chance, self.neighbours_of_category_by_chance)
    }

    pub(crate) fn figure(&self) -> String {
        let [agreement, distance, speed] = Column::of_pictures();
        let distances = self.chart(&distance, true);
        let agreements = self.chart(&agreement, false);
        let mut charts = vec![
            ("Frechet distance to held-out pictures", distances),
            ("share of pictures seen as the class asked for", agreements),
        ];
        for column in self.of_texts() {
            let logarithmic = column.name.ends_with("perplexity");
            charts.push((column.name, self.chart(&column, logarithmic)));
        }
        let last = self.rivals.iter().filter_map(|rival| {
            let value = (speed.value)(rival.points.last()?)?;
            Some((rival.name.clone(), value))
        });
        let last: Vec<(String, f64)> = last.collect();
        charts.push(("speed", bar_chart(speed.name, &last)));
        stack(&charts)
    }

    /// A curve of each model over its steps.
    fn chart(&self, column: &Column<RivalPoint>, logarithmic: bool) -> String {
        let curves = self.rivals.iter().map(|rival| {
            let points = rival.points.iter();
            column.curve(&rival.name, points.map(|point| (point.step as f64, point)))
        });
        let curves: Vec<Series<'_>> = curves.collect();
        line_chart("step", &curves, logarithmic)
    }
}

/// A line with the baseline of a share, if it is known.
fn footnote(name: &str, share: Option<f64>) -> String {
    share.map_or(String::new(), |share| {
        format!("\n{name}: {}.\n", decimals(share, 3))
    })
}

/// Lines below a table with Frechet distances: of how many drawn pictures each is, and a warning if these or the held-out
/// pictures are too few.
pub(crate) fn sample_note(drawn: usize, held_out: usize) -> String {
    let count = format!("\nFrechet distances are of {drawn} pictures each.\n");
    count + &rough(drawn, held_out)
}

/// A warning below a table if its Frechet distances are of too few drawn or held-out pictures; `held_out` is 0 if their
/// number is not known.
pub(crate) fn rough(drawn: usize, held_out: usize) -> String {
    frechet_warning(drawn, held_out)
        .map_or(String::new(), |warning| format!("\nNote: {warning}.\n"))
}

/// A row of a table in Markdown.
pub(crate) fn row(cells: &[String]) -> String {
    format!("| {} |\n", cells.join(" | "))
}

/// A table in Markdown: a row for each item, which begins with its labels.
pub(crate) fn table<'a, T: 'a>(
    labels: &[&str],
    columns: &[Column<T>],
    rows: impl IntoIterator<Item = (Vec<String>, &'a T)>,
) -> String {
    let mut head: Vec<String> = labels.iter().map(|label| (*label).to_owned()).collect();
    head.extend(columns.iter().map(|column| column.name.to_owned()));
    let mut text = format!("{}|{}\n", row(&head), "---|".repeat(head.len()));
    for (mut cells, item) in rows {
        cells.extend(columns.iter().map(|own| own.cell((own.value)(item))));
        text += &row(&cells);
    }
    text
}

/// Writes `<name>.json`, `.md` and `.svg` of a result.
pub(crate) fn write_result<R: Recipe>(
    run: &RunFolder<R>,
    name: &str,
    result: &impl Serialize,
    table: String,
    figure: String,
) -> Result<()> {
    let json = serde_json::to_string_pretty(result).unwrap_or_default();
    for (ending, text) in [("json", json), ("md", table), ("svg", figure)] {
        write_atomically(&run.file(&format!("{name}.{ending}")), text.as_bytes())?;
    }
    Ok(())
}

/// Brings the report of a comparison up to date with what is finished. One that can't be written ends no comparison.
pub(crate) fn report<R: Recipe>(
    run: &RunFolder<R>,
    recipe: &R,
    found: &ComparedSoFar<'_>,
    progress: ProgressMode,
) {
    if let Err(error) = write_comparison_report(run, recipe, found) {
        say(&format!("no report: {error}"), progress);
    }
}

/// Writes the report of a run of a single model of speech or of a codec, whose stages are these.
///
/// # Errors
/// If the log can't be read or the report can't be written.
pub(crate) fn report_of_stages<R: Recipe>(
    run: &RunFolder<R>,
    recipe: &R,
    stages: &[&str],
) -> Result<PathBuf, EvalError> {
    let found = ComparedSoFar {
        stages,
        ..ComparedSoFar::default()
    };
    write_comparison_report(run, recipe, &found)
}

/// The end of a run that has written a result.
pub(crate) fn end<R: Recipe>(run: &RunFolder<R>, name: &str, started: Instant) -> RunEnd {
    RunEnd::Finished {
        samples: run.file(&format!("{name}.svg")),
        report: run.file(&format!("{name}.md")),
        seconds: started.elapsed().as_secs_f64(),
        skipped: Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(stage: &str, step: u64, values: &[(&str, f64)]) -> MetricLine {
        let values = values.iter();
        MetricLine {
            stage: stage.into(),
            step,
            values: values.map(|(k, v)| ((*k).into(), Some(*v))).collect(),
        }
    }

    fn measured(stage: &str, step: u64) -> MetricLine {
        let values = [
            ("class_agreement", 0.5),
            ("worst_class_agreement", 0.25),
            ("frechet_distance", 100.0 / step as f64),
            ("images_per_second", 40.0),
        ];
        line(stage, step, &values)
    }

    fn comparison() -> Comparison {
        let lines = [
            line("dit", 10, &[("loss", 1.0)]),
            measured("dit", 10),
            measured("vq", 10),
            measured("dit", 20),
        ];
        let rivals = ["dit", "vq"].map(|name| RivalResult {
            name: name.into(),
            parameters: 1000,
            points: points(&lines, name),
        });
        Comparison {
            samples: 8,
            classifier_accuracy: 0.97,
            frechet_distance_of_real: 1.5,
            category_named_by_majority: None,
            neighbours_of_category_by_chance: None,
            rivals: rivals.to_vec(),
        }
    }

    #[test]
    fn points_are_the_lines_with_measurements() {
        let points = &comparison().rivals[0].points;
        let steps: Vec<u64> = points.iter().map(|point| point.step).collect();
        assert_eq!(steps, [10, 20]);
        assert_eq!(points[1].verdict.frechet_distance, 5.0);
    }

    /// The judge has 64 features.
    #[test]
    fn a_table_says_of_how_many_pictures_its_distances_are() {
        let enough = sample_note(65, 65);
        assert_eq!(enough, "\nFrechet distances are of 65 pictures each.\n");
        for (drawn, held_out, told) in [
            (64, 65, "64 drawn pictures are not more"),
            (500, 20, "20 held-out pictures are not more"),
        ] {
            let text = sample_note(drawn, held_out);
            assert!(
                text.contains("Note: the Frechet distance is rough: "),
                "{text}"
            );
            assert!(text.contains(told), "{text}");
        }
        assert_eq!(
            rough(65, 0),
            "",
            "the number of held-out pictures is not known"
        );
    }

    /// What was not finite is null in the log.
    #[test]
    fn a_line_without_a_quality_is_no_point() {
        let mut lines = [measured("vq", 10), measured("vq", 20)];
        let values = &mut lines[0].values;
        values.insert("frechet_distance".into(), None);
        let values = &mut lines[1].values;
        values.insert("category_named".into(), None);
        values.insert("text_perplexity".into(), Some(7.0));
        let points = points(&lines, "vq");
        assert_eq!(points.len(), 1);
        let written = (points[0].category_named, points[0].text_perplexity);
        assert_eq!((points[0].step, written), (20, (None, Some(7.0))));
    }

    #[test]
    fn the_table_has_the_last_measurement_of_each() {
        let table = comparison().table();
        assert!(
            table.contains("| dit | 1000 | 0.500 | 5.00 | 40.0 |"),
            "{table}"
        );
        assert!(
            table.contains("| real pictures |  | 0.970 | 1.50 |  |"),
            "{table}"
        );
        let head = "|---|---|---|---|---|";
        assert!(table.contains(head), "{table}");
    }

    /// Measures that only models with text have, and their baselines.
    #[test]
    fn the_table_has_what_writers_are_measured_by() {
        let mut written = measured("vq", 10);
        let more = [
            ("caption_perplexity", 7.25),
            ("category_named", 0.5),
            ("neighbours_of_category", 0.25),
        ];
        let more = more.map(|(name, value)| (name.to_owned(), Some(value)));
        written.values.extend(more);
        let comparison = Comparison {
            category_named_by_majority: Some(0.2),
            neighbours_of_category_by_chance: Some(0.125),
            rivals: vec![RivalResult {
                name: "vq".into(),
                parameters: 1000,
                points: points(&[written], "vq"),
            }],
            ..comparison()
        };
        let table = comparison.table();
        for part in [
            "| caption perplexity | category named | neighbours of category |",
            "| 40.0 | 7.25 | 0.500 | 0.250 |",
            "\nAccuracy of always naming the largest category: 0.200.\n",
            "\nNeighbours of category, by chance: 0.125.\n",
        ] {
            assert!(table.contains(part), "{part}: {table}");
        }
        assert!(!table.contains("text perplexity"), "{table}");
    }

    #[test]
    fn numbers_read_back_and_the_figure_has_all_curves() {
        let comparison = comparison();
        let json = serde_json::to_string(&comparison).unwrap();
        let read: Comparison = serde_json::from_str(&json).unwrap();
        assert_eq!(read, comparison);
        let figure = comparison.figure();
        // Two curves a chart, and two bars.
        assert_eq!(figure.matches(">dit</text>").count(), 3);
        assert!(!figure.contains("NaN"));
    }
}
