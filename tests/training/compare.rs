//! Comparisons.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use burn::tensor::Device;
use latentlm_compare::{
    CompareSamplingOptions, Comparison, SigmaResult, VariantResult, compare_fast_mllm,
    compare_fast_tts, compare_heads, compare_image, compare_latents, compare_mllm,
    compare_sampling, compare_sigma, compare_tts,
};
use latentlm_data::Stop;
use latentlm_eval::{EvaluateOptions, Judges, SpeechJudges, evaluate_image_by, unshown};
use latentlm_pipelines::{ImagePipeline, ImageRecipe, Recipe, RunFolder, Wanted};
use latentlm_tests::{
    data_at, few_digits, tiny_comparison, tiny_heads_comparison, tiny_latents_comparison,
    tiny_recipe, tiny_sigma_comparison,
};
use latentlm_train::{RunEnd, RunOptions, TrainError, train_image};

use crate::runs::{alone, run_options};

fn written(run: &Path, name: &str) -> String {
    for ending in ["md", "svg"] {
        let text = fs::read_to_string(run.join(format!("{name}.{ending}"))).unwrap();
        assert!(!text.contains("NaN"), "{text}");
    }
    fs::read_to_string(run.join(format!("{name}.json"))).unwrap()
}

/// The folder of a few digits in a new one.
fn digits(dir: &Path) -> PathBuf {
    let folder = dir.join("digits");
    few_digits(&folder);
    folder
}

/// When the judge of a comparison was saved.
fn judge_saved(run: &Path) -> SystemTime {
    let weights = fs::metadata(run.join("judge/model.safetensors")).unwrap();
    weights.modified().unwrap()
}

/// A comparison that was stopped goes on with the judge that it has, and each rival has its measurements at the same
/// steps.
#[test]
fn rivals_are_trained_and_measured_alike() {
    let _turn = alone();
    let dir = tempfile::tempdir().unwrap();
    let (data, path) = (digits(dir.path()), dir.path().join("r"));
    let run = |resume, stop| {
        let options = run_options(&path, resume, stop);
        compare_image(tiny_comparison(&data, &[]), options).unwrap()
    };
    assert_eq!(run(false, true), RunEnd::Stopped);
    let saved = judge_saved(&path);
    assert!(matches!(run(true, false), RunEnd::Finished { .. }));
    assert_eq!(judge_saved(&path), saved, "another judge");
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
    let html = fs::read_to_string(path.join("report.html")).unwrap();
    for part in [
        "<td>training since ",
        "<h2>Results of what is finished</h2><table><tr><td>model</td>",
        "<h2>latentlm</h2>",
        "<h2>vq</h2>",
        "<figcaption>Frechet distance of drawn pictures. ",
        "<a href=\"codec/report.html\">codec</a>",
    ] {
        assert!(html.contains(part), "{part}");
    }
}

/// A comparison in a folder that is in use, of data that are not there: who looks for them first says so.
fn is_refused<R: Recipe>(
    table: &str,
    compare: impl Fn(R, RunOptions) -> Result<RunEnd, TrainError>,
) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("r");
    let recipe = R::resolve(None, &[data_at(table, Path::new("nowhere"))]).unwrap();
    let told = |resume, part: &str| {
        let failed = compare(recipe.clone(), run_options(&path, resume, false));
        let message = failed.unwrap_err().to_string();
        assert!(message.contains(part), "{}: {message}", R::COMMAND);
    };
    let first = RunFolder::<R>::claim(&path).unwrap();
    told(false, "is training here");
    first.set_recipe(&recipe).unwrap();
    told(true, "is training here");
    drop(first);
    told(true, "nowhere");
}

#[test]
fn a_second_comparison_is_refused_before_it_opens_its_data() {
    is_refused("image.", compare_image);
    is_refused("mllm.", compare_mllm);
    let judges = SpeechJudges::default;
    is_refused("speech.", |recipe, options| {
        compare_tts(recipe, judges(), options)
    });
    is_refused("image.", compare_sigma);
    is_refused("image.", compare_heads);
    is_refused("image.", compare_latents);
    is_refused("speech.", |recipe, options| {
        compare_fast_tts(recipe, judges(), options)
    });
    is_refused("mllm.", compare_fast_mllm);
}

#[test]
fn rivals_of_another_size_are_refused_before_anything_is_made() {
    // Models are built.
    let _turn = alone();
    let dir = tempfile::tempdir().unwrap();
    let (data, path) = (digits(dir.path()), dir.path().join("r"));
    let changes = ["evaluate.parameter_tolerance=0.05", "dit.depth=9"];
    let recipe = tiny_comparison(&data, &changes);
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
    let (data, path) = (digits(dir.path()), dir.path().join("sigma"));
    let recipe = tiny_sigma_comparison(&data);
    let end = compare_sigma(recipe, run_options(&path, false, false)).unwrap();
    assert!(matches!(end, RunEnd::Finished { .. }));
    let results: Vec<SigmaResult> = serde_json::from_str(&written(&path, "sigma")).unwrap();
    let names = results.iter().map(|result| result.name.as_str());
    assert_eq!(names.collect::<Vec<_>>(), ["sigma-0.5", "learned"]);
    let table = fs::read_to_string(path.join("sigma.md")).unwrap();
    let told = format!(
        "Frechet distances are of {} pictures each.",
        results[0].evaluation.samples
    );
    assert!(table.contains(&told), "{table}");
    assert_eq!(results[1].noise_std, None);
    let html = fs::read_to_string(path.join("report.html")).unwrap();
    for part in [
        "<td>training since ",
        "<tr><td>learned</td>",
        "<figure><svg",
        "<a href=\"sigma-0.5/report.html\">",
        "<a href=\"learned/report.html\">",
    ] {
        assert!(html.contains(part), "{part}");
    }

    let path = dir.path().join("image");
    let recipe = tiny_recipe(&[&data_at("", &data)]);
    train_image(recipe, run_options(&path, false, false)).unwrap();
    let options = CompareSamplingOptions {
        steps: vec![1, 3],
        guidance_scales: vec![1.0, 2.0],
        samples: 20,
        seed: 1,
        phase: unshown,
    };
    let table = compare_sampling(&path, &options, &Device::default()).unwrap();
    let text = fs::read_to_string(table).unwrap();
    let rows = text.lines().filter(|line| line.starts_with('|'));
    assert_eq!(rows.count(), 2 + 4, "{text}");
    for part in [
        "Frechet distances are of 20 pictures each.",
        "the Frechet distance is rough: ",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    written(&path, "sampling");
}

/// A run of a comparison is one to other commands too: it draws, is measured and goes on with the codec that all share,
/// and another run begins from it.
fn is_a_whole_run(comparison: &Path, name: &str) {
    let (path, device) = (comparison.join(name), Device::default());
    let pipeline = ImagePipeline::from_run(&path, &device).unwrap();
    let sample = pipeline.recipe().sample_options();
    let drawn = pipeline.draw(&[3], &sample, 1).unwrap();
    assert_eq!(drawn.dims(), [1, 1, 32, 32]);
    let evaluate = EvaluateOptions {
        weights: None,
        samples: 20,
        seed: 1,
        sample,
        phase: unshown,
    };
    let judges = Judges {
        folder: Some(&comparison.join("judge")),
        command: None,
    };
    evaluate_image_by(&path, &evaluate, &judges, &device).unwrap();
    let stopped = Stop::new(|| true)
        .during(|| evaluate_image_by(&path, &evaluate, &judges, &device).unwrap_err());
    assert!(TrainError::from(stopped).is_stop());

    let codec = |run: &Path| {
        let (run, _) = RunFolder::<ImageRecipe>::open(run).unwrap();
        let found = run.require("codec", Wanted::Everything).unwrap();
        fs::read(found.folder.join("model.safetensors")).unwrap()
    };
    let shared = codec(&comparison.join("codec"));
    let end = train_image(pipeline.recipe().clone(), run_options(&path, true, false)).unwrap();
    assert!(matches!(end, RunEnd::Finished { .. }));
    assert!(codec(&path) == shared, "another codec");
    let from = [format!("lm.from={}", path.display())];
    let student = pipeline.recipe().changed(&from).unwrap();
    let own = comparison.join(format!("from-{name}"));
    train_image(student, run_options(&own, false, false)).unwrap();
    assert!(codec(&own) == shared, "another codec");
}

/// Variants that differ in sampling alone are one training; what was measured is not measured again.
#[test]
fn heads_share_a_codec_and_continue() {
    let _turn = alone();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("heads");
    let recipe = tiny_heads_comparison(&digits(dir.path()), "default,steps-4");
    let end = compare_heads(recipe.clone(), run_options(&path, false, false)).unwrap();
    assert!(matches!(end, RunEnd::Finished { .. }));
    let first = written(&path, "heads");
    let results: Vec<VariantResult> = serde_json::from_str(&first).unwrap();
    let found: Vec<(&str, f64)> = results
        .iter()
        .map(|result| (result.name.as_str(), result.head_evaluations))
        .collect();
    assert_eq!(found, [("default", 2.0), ("steps-4", 4.0)]);
    for result in &results {
        let seeds = result.runs.iter().map(|run| run.training_seed);
        assert_eq!(seeds.collect::<Vec<_>>(), [1, 2], "{}", result.name);
        let psnr = result.runs[0]
            .evaluation
            .reconstruction
            .reconstruction_psnr_db;
        let same = results[0].runs[1].evaluation.reconstruction;
        assert_eq!(psnr, same.reconstruction_psnr_db, "one codec for all");
    }
    for name in ["codec", "default-1", "default-2"] {
        assert!(path.join(name).join("config.toml").is_file(), "{name}");
    }
    assert!(!path.join("steps-4-1").exists());
    let html = fs::read_to_string(path.join("report.html")).unwrap();
    let link = "<a href=\"default-1/report.html\">";
    assert!(html.contains("<tr><td>steps-4</td>") && html.contains(link));
    // A measurement that is lost is made again, by the same judge.
    let (saved, lost) = (judge_saved(&path), path.join("steps-4-2.json"));
    let verdict = |file: &Path| {
        let text = fs::read_to_string(file).unwrap();
        let stored: serde_json::Value = serde_json::from_str(&text).unwrap();
        let evaluation = &stored["evaluation"];
        ["frechet_distance", "classifier_accuracy"].map(|name| evaluation[name].as_f64().unwrap())
    };
    let before = (fs::read(&lost).unwrap(), verdict(&lost));
    fs::remove_file(&lost).unwrap();
    // Comparisons of older versions have one codec, in a run of its own.
    for name in ["default-1", "default-2"] {
        fs::remove_dir_all(path.join(name).join("checkpoints/codec")).unwrap();
    }
    compare_heads(recipe.clone(), run_options(&path, true, false)).unwrap();
    assert_eq!(verdict(&lost), before.1);
    assert_eq!(judge_saved(&path), saved, "another judge");
    fs::write(&lost, before.0).unwrap();
    let end = compare_heads(recipe, run_options(&path, true, false)).unwrap();
    assert!(matches!(end, RunEnd::Finished { .. }));
    // Speeds would be others.
    assert_eq!(written(&path, "heads"), first);
    // Whether it was measured again or not.
    is_a_whole_run(&path, "default-1");
    is_a_whole_run(&path, "default-2");
}

/// Neither other variants nor more seeds make another comparison: what is measured stays. Another recipe does.
#[test]
fn a_comparison_goes_on_with_other_variants_and_seeds() {
    let _turn = alone();
    let dir = tempfile::tempdir().unwrap();
    let (data, path) = (digits(dir.path()), dir.path().join("heads"));
    let run = |resume: bool, variants: &str, skip_seeds: u64, seeds: u64| {
        let mut recipe = tiny_heads_comparison(&data, variants);
        (recipe.heads.skip_seeds, recipe.heads.seeds) = (skip_seeds, seeds);
        let end = compare_heads(recipe, run_options(&path, resume, false)).unwrap();
        assert!(matches!(end, RunEnd::Finished { .. }));
        let results: Vec<VariantResult> = serde_json::from_str(&written(&path, "heads")).unwrap();
        let found = results.into_iter().map(|own| {
            let seeds = own.runs.iter().map(|run| run.training_seed);
            (own.name, seeds.collect::<Vec<u64>>())
        });
        found.collect::<Vec<_>>()
    };
    let named = |name: &str, seeds: &[u64]| (name.to_owned(), seeds.to_vec());
    assert_eq!(run(false, "default", 1, 1), [named("default", &[2])]);
    let first = fs::read(path.join("default-2.json")).unwrap();
    let more = run(true, "default,steps-4", 0, 2);
    let expected = ["default", "steps-4"].map(|name| named(name, &[1, 2]));
    assert_eq!(more, expected);
    assert_eq!(fs::read(path.join("default-2.json")).unwrap(), first);
    assert_eq!(run(true, "steps-4", 0, 1), [named("steps-4", &[1])]);

    let mut other = tiny_heads_comparison(&data, "default");
    other.image.seed += 1;
    let told = compare_heads(other, run_options(&path, true, false)).unwrap_err();
    assert!(told.to_string().contains("begun with another recipe"));
}

/// A variant that begins from another has that one trained before it, chosen or not.
#[test]
fn students_begin_from_a_variant() {
    let _turn = alone();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("students");
    let recipe = tiny_heads_comparison(&digits(dir.path()), "distilled,fast-1");
    let end = compare_heads(recipe, run_options(&path, false, false)).unwrap();
    assert!(matches!(end, RunEnd::Finished { .. }));
    let results: Vec<VariantResult> = serde_json::from_str(&written(&path, "heads")).unwrap();
    let found: Vec<(&str, f64)> = results
        .iter()
        .map(|result| (result.name.as_str(), result.head_evaluations))
        .collect();
    assert_eq!(found, [("distilled", 2.0), ("fast-1", 1.0)]);
    for name in ["default-1", "distilled-1", "distilled-2", "fast-4-2"] {
        assert!(path.join(name).join("config.toml").is_file(), "{name}");
    }
    assert!(!path.join("default-1.json").exists(), "it was not chosen");
    let recipe = fs::read_to_string(path.join("distilled-2/config.toml")).unwrap();
    let teacher = path.join("default-2");
    let named = recipe.lines().find(|line| line.starts_with("from = "));
    assert!(named.unwrap().contains(&*teacher.to_string_lossy()));
}

#[test]
fn codecs_made_to_be_drawn_are_compared() {
    let _turn = alone();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("latents");
    let recipe = tiny_latents_comparison(&digits(dir.path()), "interpolated-masked,sphere");
    let end = compare_latents(recipe, run_options(&path, false, false)).unwrap();
    assert!(matches!(end, RunEnd::Finished { .. }));
    let results: Vec<VariantResult> = serde_json::from_str(&written(&path, "latents")).unwrap();
    let names = results.iter().map(|result| result.name.as_str());
    let expected = ["interpolated-masked", "sphere"];
    assert_eq!(names.collect::<Vec<_>>(), expected);
    assert!(results.iter().all(|result| result.runs.len() == 2));
}
