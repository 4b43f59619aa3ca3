//! Shared code of the evaluations of all modalities: options, the file of measurements, and the table of
//! measurements.

use std::collections::BTreeMap;

use burn::tensor::Device;
use latentlm::core::bundle::write_atomically;
use latentlm::{SampleOptions, SmallWeights, WeightBits};
use latentlm_data::check_stop;
use latentlm_pipelines::{Recipe, RunFolder};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::Result;
use crate::origin::{Work, keep_origin};
use crate::plot::decimals;

/// Name of the file of measurements in the run's folder.
pub(crate) const FILE: &str = "evaluation.json";
/// Key of the intervals of measurements, by their names.
const INTERVALS: &str = "intervals";
/// Key of the number of frames of a group. Of a list with a value for each frame, a table shows the first frame and
/// the last frame of each group.
const GROUP: &str = "frames_per_group";
/// Part of the keys of such lists.
const BY_FRAME: &str = "_by_frame";
/// All measures with their units and meanings, as [`rows`] reads them.
const MEASURES: &str = include_str!("../measures.txt");

/// Options of the evaluation of pictures, with captions or without, and of clips.
#[derive(Debug, Clone)]
pub struct EvaluateOptions {
    /// Number of pictures to generate, the same for each class. With captions: number of pictures of each split that
    /// are captioned and drawn. With clips: number of clips for each measure.
    pub samples: usize,
    /// Seed of the generated pictures.
    pub seed: u64,
    /// Sampling options of the generated pictures.
    pub sample: SampleOptions,
    /// Type that the weights of the language model are rounded to, on the CPU; `None` is float32.
    pub weights: Option<SmallWeights>,
    /// Called with the next phase of the evaluation, such as `drawing 500 pictures`; [`unshown`] ignores it.
    pub phase: fn(&str),
}

/// Begins a phase of an evaluation.
///
/// # Errors
/// If a stop came.
pub(crate) fn begin_phase(show: fn(&str), phase: &str) -> Result<()> {
    check_stop()?;
    show(phase);
    Ok(())
}

/// Ignores the phases of an evaluation.
pub fn unshown(_phase: &str) {}

/// Type of the weights of a language model that was measured.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MeasuredWeights {
    /// float32, as they were trained; so are those of evaluations that do not say it.
    #[default]
    F32,
    /// [`SmallWeights::Bf16`].
    Bf16,
    /// [`SmallWeights::Quantized`] with 8 bits.
    Int8,
    /// [`SmallWeights::Quantized`] with 4 bits.
    Int4,
}

impl From<Option<SmallWeights>> for MeasuredWeights {
    fn from(weights: Option<SmallWeights>) -> Self {
        match weights {
            None => Self::F32,
            Some(SmallWeights::Bf16) => Self::Bf16,
            Some(SmallWeights::Quantized(WeightBits::Eight)) => Self::Int8,
            Some(SmallWeights::Quantized(WeightBits::Four)) => Self::Int4,
        }
    }
}

/// A measurement in words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Measure {
    /// Its name.
    pub name: String,
    /// The value with at most four decimals, or more if these would all be zeros; behind it its interval, if it has one.
    pub value: String,
    /// Its unit, `fraction`, or the number of samples; empty for a plain number.
    pub unit: String,
    /// What it means, in a sentence; empty for settings such as the seed.
    pub meaning: &'static str,
}

/// The measurements of an evaluation, in the order of its JSON; none if the text is not a JSON object. An entry that is
/// an object has a measurement for each of its own entries.
pub fn measures(json: &str) -> Vec<Measure> {
    let mut values: BTreeMap<String, Value> = serde_json::from_str(json).unwrap_or_default();
    let intervals = values.remove(INTERVALS).unwrap_or_default();
    let samples = values.get("samples").map_or_else(String::new, shown);
    let group = values.get(GROUP).and_then(Value::as_u64).unwrap_or(1);
    let mut sorted: Vec<(&String, &Value)> = values.iter().collect();
    // The map is sorted by name.
    sorted.sort_by_key(|(name, _)| json.find(&format!("\"{name}\":")));
    let mut measures = Vec::new();
    for (name, value) in sorted {
        let [unit, meaning] = about(name);
        let words = name.replace('_', " ");
        let mut add = |name: String, value: String| {
            measures.push(Measure {
                name,
                value,
                unit: unit.replace("{samples}", &samples),
                meaning,
            });
        };
        match value {
            Value::Object(entries) => {
                for (entry, value) in entries {
                    add(format!("{words}: {entry}"), shown_together(value, 1));
                }
            }
            Value::Array(_) if name.contains(BY_FRAME) => {
                add(words, shown_together(value, group as usize));
            }
            value => {
                let mut value = shown(value);
                if let Some([low, high]) = intervals[name.as_str()].as_array().map(Vec::as_slice) {
                    value += &format!(" ({} to {})", shown(low), shown(high));
                }
                add(words, value);
            }
        }
    }
    measures
}

/// Several values in one line, with two decimals: the entries of an object with their names, or every `step`-th of a
/// list.
fn shown_together(value: &Value, step: usize) -> String {
    let rounded = |value: &Value| match value.as_f64() {
        Some(number) => decimals(number, 2),
        None => value.to_string(),
    };
    match value {
        Value::Object(entries) => {
            let entries = entries.iter();
            let named = entries.map(|(name, value)| format!("{name} {}", rounded(value)));
            named.collect::<Vec<String>>().join(", ")
        }
        Value::Array(list) => {
            let picked = list.iter().step_by(step.max(1)).map(rounded);
            picked.collect::<Vec<String>>().join(" ")
        }
        value => rounded(value),
    }
}

/// Unit and meaning of a measure; both are empty if it is a setting.
fn about(name: &str) -> [&'static str; 2] {
    let found = rows::<3>(MEASURES).find(|[part, ..]| name.contains(part));
    found.map_or([""; 2], |[_, unit, meaning]| [unit, meaning])
}

/// Rows of a table whose `N` columns are separated by bars. Lines that begin with `#` are comments.
pub(crate) fn rows<const N: usize>(table: &'static str) -> impl Iterator<Item = [&'static str; N]> {
    let lines = table.lines().filter(|line| !line.starts_with('#'));
    lines.filter_map(|line| {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        <[&str; N]>::try_from(cells).ok()
    })
}

/// A value with at most four decimals, or more if these would all be zeros; the JSON has all. Words without quotes.
fn shown(value: &Value) -> String {
    if let Value::String(words) = value {
        return words.clone();
    }
    match value.as_f64().filter(|_| value.is_f64()) {
        Some(number) => {
            let rounded = (number * 1e4).round() / 1e4;
            if rounded == 0.0 {
                decimals(number, 0)
            } else {
                rounded.to_string()
            }
        }
        None => value.to_string(),
    }
}

/// Writes `evaluation.json` into the run's folder, and keeps there where it was measured.
pub(crate) fn write<R: Recipe>(
    run: &RunFolder<R>,
    evaluation: &impl Serialize,
    device: &Device,
) -> Result<()> {
    let json = serde_json::to_vec_pretty(evaluation).unwrap_or_default();
    write_atomically(&run.file(FILE), &json)?;
    keep_origin(run.path(), Work::Evaluation, [device])
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
            "\"int8\"",
        ]
        .map(shown);
        let expected = ["0.9447", "0.00004", "93", "199", "[3,4]", "null", "int8"];
        assert_eq!(texts, expected);
    }

    /// By the names of the option `--weights`.
    #[test]
    fn weights_are_told_by_their_names() {
        for (weights, expected) in [
            (None, "f32"),
            (Some(SmallWeights::Bf16), "bf16"),
            (Some(SmallWeights::Quantized(WeightBits::Eight)), "int8"),
            (Some(SmallWeights::Quantized(WeightBits::Four)), "int4"),
        ] {
            let told = MeasuredWeights::from(weights);
            let json = serde_json::to_value(told).unwrap();
            assert_eq!(json, expected);
            let read: MeasuredWeights = serde_json::from_value(json).unwrap();
            assert_eq!(read, told);
        }
    }

    #[test]
    fn measurements_have_units_and_their_order() {
        let json = r#"{
            "step": 20,
            "samples": 500,
            "reconstruction_psnr_db": 23.90625,
            "class_agreement": 0.99,
            "frechet_distance": 36.75,
            "frechet_distance_of_real": 13.25,
            "diversity": null,
            "captions_per_second": 2.5
        }"#;
        let rows: Vec<[String; 3]> = measures(json)
            .into_iter()
            .map(|measure| [measure.name, measure.value, measure.unit])
            .collect();
        let expected = [
            ["step", "20", ""],
            ["samples", "500", ""],
            ["reconstruction psnr db", "23.9063", "dB"],
            ["class agreement", "0.99", "fraction"],
            ["frechet distance", "36.75", "of 500 samples"],
            ["frechet distance of real", "13.25", "of up to 500 samples"],
            ["diversity", "null", ""],
            ["captions per second", "2.5", "per second"],
        ];
        assert_eq!(rows, expected);
        assert!(measures("[1]").is_empty());
    }

    #[test]
    fn intervals_stand_behind_their_measurements() {
        let json = r#"{
            "codec_stoi": 0.75,
            "first_audio_ms": 8.0,
            "intervals": {"codec_stoi": [0.62504, 0.8]}
        }"#;
        let values: Vec<String> = measures(json).into_iter().map(|own| own.value).collect();
        assert_eq!(values, ["0.75 (0.625 to 0.8)", "8"]);
    }

    /// Values of several frames or motions stand in lines as short as the others.
    #[test]
    fn several_values_stand_in_short_lines() {
        let json = r#"{
            "frames_per_group": 4,
            "judged_digit_by_frame": [0.951, 0.9, 0.9, 0.9, 0.75, 0.7, 0.7, 0.7, 0.5],
            "judged_digit_by_frame_of_real": [1.0, 0.9, 0.9, 0.9, 0.8, 0.9, 0.9, 0.9, 0.75],
            "pairs_by_motion": {
                "left": {"digit": 0.5, "motion": 1.0},
                "up": {"digit": 0.256, "motion": 0.0}
            },
            "class_flips": 0.25
        }"#;
        let rows: Vec<[String; 3]> = measures(json)
            .into_iter()
            .map(|measure| [measure.name, measure.value, measure.unit])
            .collect();
        let expected = [
            ["frames per group", "4", ""],
            ["judged digit by frame", "0.95 0.75 0.50", "fraction"],
            [
                "judged digit by frame of real",
                "1.00 0.80 0.75",
                "fraction",
            ],
            [
                "pairs by motion: left",
                "digit 0.50, motion 1.00",
                "fraction",
            ],
            ["pairs by motion: up", "digit 0.26, motion 0.00", "fraction"],
            ["class flips", "0.25", "fraction"],
        ];
        assert_eq!(rows, expected);
    }

    #[test]
    fn measurements_have_meanings_and_settings_have_none() {
        for (name, start) in [
            (
                "noisy_reconstruction_psnr_db",
                "Held-out pictures through the codec, with",
            ),
            (
                "frechet_distance_of_real",
                "The Frechet distance of as many",
            ),
            ("frechet_distance", "Distance between the distributions"),
            ("digits_word_error_rate_model", "Words or characters"),
            (
                "colour_distance_held_out_shuffled",
                "Distance between the mean colours",
            ),
            ("codec_stoi", "Intelligibility"),
            ("clip_psnr_db", "Held-out clips through the codec"),
            ("judged_digit_of_real", "Frames of real held-out clips"),
            ("judged_digit_by_frame", "Drawn clips of one digit, of all"),
            ("judged_digit_by_frame_of_real", "The same for real clips"),
            ("pairs_by_motion", "Drawn clips of one digit with this"),
            ("two_digits_all_right", "Clips drawn for unseen captions"),
            ("continued_among_nearest_by_chance", "What random answers"),
        ] {
            let [_, meaning] = about(name);
            assert!(meaning.starts_with(start), "{name}: {meaning}");
        }
        for name in [
            "seed",
            "step",
            "samples",
            "guidance_scale",
            "solver_steps",
            "weights",
        ] {
            assert_eq!(about(name), ["", ""], "{name}");
        }
    }

    /// A line that is no row would be left out without a word.
    #[test]
    fn every_line_of_the_table_is_a_row() {
        let lines = MEASURES.lines().filter(|line| !line.starts_with('#'));
        assert_eq!(rows::<3>(MEASURES).count(), lines.count());
        for [name, _, meaning] in rows::<3>(MEASURES) {
            let whole = meaning.is_empty() || meaning.ends_with('.');
            assert!(!name.is_empty() && whole, "{name}: {meaning}");
        }
    }
}
