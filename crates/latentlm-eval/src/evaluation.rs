//! What the evaluations of all modalities share: options, the file of measurements, and how these
//! are shown.

use std::collections::BTreeMap;

use latentlm::SampleOptions;
use latentlm::core::bundle::write_atomically;
use latentlm_pipelines::{Recipe, RunFolder};
use serde::Serialize;
use serde_json::Value;

use crate::error::EvalError;

/// Name of the file of measurements in the run's folder.
pub(crate) const FILE: &str = "evaluation.json";

/// Units by a part of a measure's name. The first that fits counts.
const UNITS: [(&str, &str); 15] = [
    ("_per_second", "per second"),
    ("_a_second", "per second"),
    ("_db", "dB"),
    ("_ms", "ms"),
    ("_bits_per_byte", "bits"),
    ("training_distance", "RMS of pixels in [-1, 1]"),
    ("colour_distance", "RGB in [-1, 1]"),
    ("_without_end", "utterances"),
    ("_rate_", "fraction"),
    ("_understood_", "fraction"),
    ("agreement", "fraction"),
    ("accuracy", "fraction"),
    ("captions", "fraction"),
    ("_among_nearest", "fraction"),
    ("category", "fraction"),
];

/// Options of the evaluation of pictures, with captions or without.
#[derive(Debug, Clone)]
pub struct EvaluateOptions {
    /// Number of pictures to generate, the same for each class. With captions: number of pictures of
    /// each split that are captioned and drawn.
    pub samples: usize,
    /// Seed of the generated pictures.
    pub seed: u64,
    /// Sampling options of the generated pictures.
    pub sample: SampleOptions,
}

/// A measurement in words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Measure {
    /// Its name.
    pub name: String,
    /// The value with at most four decimals.
    pub value: String,
    /// Its unit, `fraction`, or the number of samples; empty for a plain number.
    pub unit: String,
}

/// The measurements of an evaluation, in the order of its JSON; none if the text is not a JSON object.
pub fn measures(json: &str) -> Vec<Measure> {
    let values: BTreeMap<String, Value> = serde_json::from_str(json).unwrap_or_default();
    let samples = values.get("samples").map_or_else(String::new, shown);
    let mut measures: Vec<(&String, &Value)> = values.iter().collect();
    // The map is sorted by name.
    measures.sort_by_key(|(name, _)| json.find(&format!("\"{name}\":")));
    let measures = measures.into_iter().map(|(name, value)| Measure {
        name: name.replace('_', " "),
        value: shown(value),
        unit: match name.as_str() {
            "frechet_distance" => format!("of {samples} samples"),
            // Of all training pictures, if there are fewer.
            "frechet_distance_of_real" => format!("of up to {samples} samples"),
            name => {
                let found = UNITS.iter().find(|(part, _)| name.contains(part));
                found.map_or_else(String::new, |(_, unit)| (*unit).to_owned())
            }
        },
    });
    measures.collect()
}

/// A value with at most four decimals; the JSON has all of them.
fn shown(value: &Value) -> String {
    match value.as_f64().filter(|_| value.is_f64()) {
        Some(number) => ((number * 1e4).round() / 1e4).to_string(),
        None => value.to_string(),
    }
}

/// Writes `evaluation.json` into the run's folder.
pub(crate) fn write<R: Recipe>(
    run: &RunFolder<R>,
    evaluation: &impl Serialize,
) -> Result<(), EvalError> {
    let json = serde_json::to_vec_pretty(evaluation).unwrap_or_default();
    Ok(write_atomically(&run.file(FILE), &json)?)
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
}
