//! What came of a comparison: numbers, a table, a figure.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::Instant;

use latentlm::core::bundle::write_atomically;
use latentlm_eval::{Series, Verdict, bar_chart, line_chart, stack};
use latentlm_pipelines::{MetricLine, MetricsLog, Recipe, RunFolder};
use latentlm_train::{RunEnd, TrainError};
use serde::{Deserialize, Serialize};

/// All rivals, LatentLM first.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Comparison {
    /// Pictures of each measurement.
    pub samples: usize,
    /// Share of held-out real pictures that the judge gets right.
    pub classifier_accuracy: f64,
    /// Frechet distance of as many training pictures to held-out ones.
    pub frechet_distance_of_real: f64,
    /// `category_named` of whoever always names the largest category.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub category_named_by_majority: Option<f64>,
    /// `neighbours_of_category`, were neighbours drawn by lot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub neighbours_of_category_by_chance: Option<f64>,
    /// LatentLM and its rivals.
    pub rivals: Vec<RivalResult>,
}

/// One model's way.
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
    /// Pictures drawn a second, codec included.
    pub images_per_second: f64,
    /// Perplexity of a held-out text's token, of models that write.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text_perplexity: Option<f64>,
    /// Perplexity of a token of what is said of a held-out picture, given the picture.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub caption_perplexity: Option<f64>,
    /// Held-out pictures of which their own category is the likeliest to be said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub category_named: Option<f64>,
    /// Of the ten nearest of all pictures to a drawn one, those of the asked category.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub neighbours_of_category: Option<f64>,
}

/// Where a result was written.
pub(crate) struct ResultFiles {
    pub(crate) table: PathBuf,
    pub(crate) figure: PathBuf,
}

impl ResultFiles {
    /// The end of the run that they were written by.
    pub(crate) fn end(self, started: Instant) -> RunEnd {
        RunEnd::Finished {
            samples: self.figure,
            report: self.table,
            seconds: started.elapsed().as_secs_f64(),
            skipped: Vec::new(),
        }
    }
}

/// What the run's log says of each model.
pub(crate) fn read<R: Recipe>(
    run: &RunFolder<R>,
    parameters: &[(&'static str, usize)],
) -> Result<Vec<RivalResult>, TrainError> {
    let lines = MetricsLog::read(&run.file("metrics.jsonl"))?;
    let rivals = parameters.iter().map(|(name, count)| RivalResult {
        name: (*name).into(),
        parameters: *count,
        points: points(&lines, name),
    });
    Ok(rivals.collect())
}

fn points(lines: &[MetricLine], name: &str) -> Vec<RivalPoint> {
    let point = |line: &MetricLine| {
        let value = |key: &str| *line.values.get(key)?;
        Some(RivalPoint {
            step: line.step,
            verdict: Verdict {
                class_agreement: value("class_agreement")?,
                worst_class_agreement: value("worst_class_agreement")?,
                frechet_distance: value("frechet_distance")?,
            },
            images_per_second: value("images_per_second")?,
            text_perplexity: value("text_perplexity"),
            caption_perplexity: value("caption_perplexity"),
            category_named: value("category_named"),
            neighbours_of_category: value("neighbours_of_category"),
        })
    };
    let own = lines.iter().filter(|line| line.stage == name);
    own.filter_map(point).collect()
}

impl Comparison {
    /// Writes `compare.json`, `compare.md` and `compare.svg` into the run's folder, which ends the run.
    pub(crate) fn end<R: Recipe>(
        &self,
        run: &RunFolder<R>,
        started: Instant,
    ) -> Result<RunEnd, TrainError> {
        let files = write_result(run, "compare", self, (self.table(), self.figure()))?;
        Ok(files.end(started))
    }

    fn table(&self) -> String {
        let columns = self.columns();
        let mut rows = Vec::new();
        for rival in &self.rivals {
            let Some(last) = rival.points.last() else {
                continue;
            };
            let mut row = vec![
                rival.name.clone(),
                rival.parameters.to_string(),
                format!("{:.3}", last.verdict.class_agreement),
                format!("{:.2}", last.verdict.frechet_distance),
                format!("{:.1}", last.images_per_second),
            ];
            row.extend(columns.iter().map(|column| column.cell(last)));
            rows.push(row);
        }
        let mut real = vec![
            "real pictures".into(),
            String::new(),
            format!("{:.3}", self.classifier_accuracy),
            format!("{:.2}", self.frechet_distance_of_real),
            String::new(),
        ];
        real.extend(columns.iter().map(|_| String::new()));
        rows.push(real);
        let head = [
            "model",
            "parameters",
            "class agreement",
            "Frechet distance",
            "images a second",
        ];
        let head = head
            .into_iter()
            .chain(columns.iter().map(|column| column.name));
        let table = markdown(&head.collect::<Vec<&str>>(), &rows);
        table + &self.footnotes()
    }

    /// What shares are to be compared with.
    fn footnotes(&self) -> String {
        let notes = [
            (
                "Category named, by whoever always names the largest",
                self.category_named_by_majority,
            ),
            (
                "Neighbours of category, by chance",
                self.neighbours_of_category_by_chance,
            ),
        ];
        let known = notes
            .iter()
            .filter_map(|(note, share)| Some((note, (*share)?)));
        known.fold(String::new(), |text, (note, share)| {
            format!("{text}\n{note}: {share:.3}.\n")
        })
    }

    /// What is measured of models that write.
    fn columns(&self) -> Vec<Column> {
        let columns = [
            Column {
                name: "text perplexity",
                decimals: 2,
                value: |point| point.text_perplexity,
            },
            Column {
                name: "caption perplexity",
                decimals: 2,
                value: |point| point.caption_perplexity,
            },
            Column {
                name: "category named",
                decimals: 3,
                value: |point| point.category_named,
            },
            Column {
                name: "neighbours of category",
                decimals: 3,
                value: |point| point.neighbours_of_category,
            },
        ];
        let mut points = self.rivals.iter().flat_map(|rival| &rival.points);
        match points.next() {
            Some(point) => columns
                .into_iter()
                .filter(|column| (column.value)(point).is_some())
                .collect(),
            None => Vec::new(),
        }
    }

    fn figure(&self) -> String {
        let curve = |value: &dyn Fn(&RivalPoint) -> Option<f64>| -> Vec<Series<'_>> {
            let one = |rival: &RivalResult| -> Vec<(f64, f64)> {
                let points = rival.points.iter();
                points
                    .filter_map(|p| Some((p.step as f64, value(p)?)))
                    .collect()
            };
            let series = self.rivals.iter().map(|rival| Series {
                name: &rival.name,
                points: one(rival),
            });
            series.collect()
        };
        let speed = self.rivals.iter().filter_map(|rival| {
            let last = rival.points.last()?;
            Some((rival.name.clone(), last.images_per_second))
        });
        let speed: Vec<(String, f64)> = speed.collect();
        let mut charts = vec![
            (
                "Frechet distance to held-out pictures",
                line_chart("step", &curve(&|p| Some(p.verdict.frechet_distance)), true),
            ),
            (
                "share of pictures seen as the class asked for",
                line_chart("step", &curve(&|p| Some(p.verdict.class_agreement)), false),
            ),
        ];
        for column in self.columns() {
            let curves = curve(&column.value);
            let chart = line_chart("step", &curves, column.is_perplexity());
            charts.push((column.name, chart));
        }
        charts.push(("speed", bar_chart("images a second", &speed)));
        stack(&charts)
    }
}

/// A measurement that not every comparison has.
struct Column {
    name: &'static str,
    /// Behind the point: shares have three.
    decimals: usize,
    value: fn(&RivalPoint) -> Option<f64>,
}

impl Column {
    fn cell(&self, point: &RivalPoint) -> String {
        let number = |x| format!("{x:.*}", self.decimals);
        (self.value)(point).map_or(String::new(), number)
    }

    fn is_perplexity(&self) -> bool {
        self.name.ends_with("perplexity")
    }
}

/// A table in Markdown.
pub(crate) fn markdown(head: &[&str], rows: &[Vec<String>]) -> String {
    let mut text = format!("| {} |\n|{}\n", head.join(" | "), "---|".repeat(head.len()));
    for row in rows {
        let _ = writeln!(text, "| {} |", row.join(" | "));
    }
    text
}

/// Writes `<name>.json`, `.md` and `.svg` of a result, table and figure given.
pub(crate) fn write_result<R: Recipe>(
    run: &RunFolder<R>,
    name: &str,
    result: &impl Serialize,
    (table, figure): (String, String),
) -> Result<ResultFiles, TrainError> {
    let json = serde_json::to_vec_pretty(result).unwrap_or_default();
    write_atomically(&run.file(&format!("{name}.json")), &json)?;
    let files = ResultFiles {
        table: run.file(&format!("{name}.md")),
        figure: run.file(&format!("{name}.svg")),
    };
    write_atomically(&files.table, table.as_bytes())?;
    write_atomically(&files.figure, figure.as_bytes())?;
    Ok(files)
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

    /// What only models that write have, and what to compare it with.
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
            "\nCategory named, by whoever always names the largest: 0.200.\n",
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
