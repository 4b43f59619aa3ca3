//! Comparisons.

use std::fs;
use std::path::Path;

use burn::tensor::Device;
use latentlm_compare::{
    CompareSamplingOptions, Comparison, SigmaResult, compare_image, compare_sampling, compare_sigma,
};
use latentlm_tests::{tiny_comparison, tiny_recipe, tiny_sigma_comparison};
use latentlm_train::{RunEnd, train_image};

use crate::runs::{alone, run_options};

fn written(run: &Path, name: &str) -> String {
    for ending in ["md", "svg"] {
        let text = fs::read_to_string(run.join(format!("{name}.{ending}"))).unwrap();
        assert!(!text.contains("NaN"), "{text}");
    }
    fs::read_to_string(run.join(format!("{name}.json"))).unwrap()
}

/// A comparison that was stopped goes on, and each rival has its measurements at the same steps.
#[test]
fn rivals_are_trained_and_measured_alike() {
    let _turn = alone();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("r");
    let run = |resume, stop| {
        let options = run_options(&path, resume, stop);
        compare_image(tiny_comparison(&[]), options).unwrap()
    };
    assert_eq!(run(false, true), RunEnd::Stopped);
    assert!(matches!(run(true, false), RunEnd::Finished { .. }));
    let comparison: Comparison = serde_json::from_str(&written(&path, "compare")).unwrap();
    let names = comparison.rivals.iter().map(|rival| rival.name.as_str());
    let names: Vec<&str> = names.collect();
    assert_eq!(names, ["latentlm", "dit", "transfusion", "vq"]);
    for rival in &comparison.rivals {
        let steps: Vec<u64> = rival.points.iter().map(|point| point.step).collect();
        assert_eq!(steps, [2, 4], "{}", rival.name);
        for point in &rival.points {
            assert!(point.verdict.frechet_distance > comparison.frechet_distance_of_real);
            assert!(point.images_per_second > 0.0);
        }
        let sample = path.join(format!("samples/{}-step-4.png", rival.name));
        assert!(sample.is_file(), "{}", rival.name);
    }
    assert!(path.join("codec/checkpoints/codec").is_dir());
}

#[test]
fn rivals_of_another_size_are_refused_before_anything_is_made() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("r");
    let recipe = tiny_comparison(&["evaluate.parameter_tolerance=0.05", "dit.depth=9"]);
    let message = compare_image(recipe, run_options(&path, false, false)).unwrap_err();
    let message = message.to_string();
    assert!(
        message.contains("parameters") && message.contains("dit"),
        "{message}"
    );
    assert!(!path.exists());
}

#[test]
fn codecs_and_ways_of_sampling_are_compared() {
    let _turn = alone();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("sigma");
    let end = compare_sigma(tiny_sigma_comparison(), run_options(&path, false, false)).unwrap();
    assert!(matches!(end, RunEnd::Finished { .. }));
    let results: Vec<SigmaResult> = serde_json::from_str(&written(&path, "sigma")).unwrap();
    let names = results.iter().map(|result| result.name.as_str());
    assert_eq!(names.collect::<Vec<_>>(), ["sigma-0.5", "learned"]);
    assert_eq!(results[1].noise_std, None);

    let path = dir.path().join("image");
    train_image(tiny_recipe(&[]), run_options(&path, false, false)).unwrap();
    let options = CompareSamplingOptions {
        steps: vec![1, 3],
        guidance_scales: vec![1.0, 2.0],
        samples: 20,
        seed: 1,
    };
    let table = compare_sampling(&path, &options, &Device::default()).unwrap();
    let rows = fs::read_to_string(table).unwrap();
    assert_eq!(rows.lines().count(), 2 + 4, "{rows}");
    written(&path, "sampling");
}
