//! Runs of images.

use std::fs;
use std::path::Path;

use burn::tensor::{Device, Tensor};
use latentlm::{SampleOptions, SmallWeights, WeightBits};
use latentlm_eval::{EvaluateOptions, ImageEvaluation, MeasuredWeights, evaluate_image, unshown};
use latentlm_pipelines::{Checkpoint, ImagePipeline, ImageRecipe, image_grid, save_png};
use latentlm_tests::{data_at, few_digits, tiny_recipe};
use latentlm_train::{RunEnd, TrainError, train_image};

use crate::runs::{
    alone, check_bf16, check_resumes, check_two_devices, checkpoint_file, run_options,
};

fn run(path: &Path, recipe: &ImageRecipe, resume: bool, stop: bool) -> Result<RunEnd, TrainError> {
    train_image(recipe.clone(), run_options(path, resume, stop))
}

#[test]
fn a_run_stopped_after_every_step_equals_an_uninterrupted_one() {
    check_resumes(&tiny_recipe(&[]), train_image, 7);
}

#[test]
fn resumes_are_exact_with_a_discriminator_and_accumulation() {
    let dir = tempfile::tempdir().unwrap();
    // Convolutions take seconds to encode all digits.
    let digits = dir.path().join("digits");
    few_digits(&digits);
    let recipe = tiny_recipe(&[
        &data_at("", &digits),
        "codec.architecture=Conv",
        "codec.conv.base_width=4",
        "codec_loss.adversarial_weight=0.5",
        "codec_loss.adversarial_start=1",
        "codec_loss.discriminator_width=4",
        "codec_train.grad_accumulation=2",
        "lm_train.grad_accumulation=2",
        "data.horizontal_flip=true",
        "codec_train.batch_size=4",
    ]);
    check_resumes(&recipe, train_image, 7);
}

#[test]
fn a_finished_run_samples_repeatably_and_is_measured() {
    let _turn = alone();
    let dir = tempfile::tempdir().unwrap();
    // The judge learns them in a second; all digits take it a quarter of a minute.
    let digits = dir.path().join("digits");
    few_digits(&digits);
    let path = dir.path().join("r");
    let recipe = tiny_recipe(&[&data_at("", &digits)]);
    let end = run(&path, &recipe, false, false).unwrap();
    let RunEnd::Finished {
        samples, report, ..
    } = end
    else {
        panic!("not finished: {end:?}");
    };
    assert!(samples.is_file());
    let html = fs::read_to_string(report).unwrap();
    assert!(html.contains("<svg") && html.contains("data:image/png;base64"));
    assert!(
        !html.contains("http://") || !html.contains("src=\"http"),
        "nothing is fetched"
    );

    let device = Device::default();
    let pipeline = ImagePipeline::from_run(&path, &device).unwrap();
    let options = SampleOptions {
        steps: 2,
        guidance_scale: 2.0,
        ..SampleOptions::default()
    };
    let draw = |seed| {
        let pictures = pipeline.draw(&[3, 7], &options, seed);
        pictures.unwrap().into_data()
    };
    assert_eq!(draw(1), draw(1));
    assert_ne!(draw(1), draw(2));
    let steps = SampleOptions {
        steps: 1000,
        ..options
    };
    let message = pipeline.draw(&[3], &steps, 0).unwrap_err().to_string();
    assert!(message.contains("solver steps must be"), "{message}");
    assert_eq!(pipeline.class("7").unwrap(), 7);
    let message = pipeline.class("eleven").unwrap_err().to_string();
    assert!(message.contains("no class `eleven`"), "{message}");

    let options = EvaluateOptions {
        samples: 20,
        seed: 3,
        sample: options,
        weights: None,
        phase: unshown,
    };
    let evaluation = evaluate_image(&path, &options, &device).unwrap();
    // The judge is trained on real digits and must know them, whatever the generator does: 0.84 of 200 held-out ones
    // after 60 steps, 0.025 their standard error; guesses are right for 0.1.
    assert!(evaluation.classifier_accuracy > 0.75, "{evaluation:?}");
    assert!(
        evaluation.verdict.frechet_distance > evaluation.frechet_distance_of_real,
        "{evaluation:?}"
    );
    let warning = evaluation.warning().unwrap();
    assert!(warning.contains("20 drawn pictures"), "{warning}");
    assert!(path.join("evaluation.json").is_file());
    few_bits_measure_nearly_the_same(&path, options, &evaluation);
}

/// With the backbone in int8 and the head in bfloat16, the same noise becomes nearly the same pictures. The codec is not
/// rounded.
fn few_bits_measure_nearly_the_same(
    path: &Path,
    options: EvaluateOptions,
    exact: &ImageEvaluation,
) {
    let options = EvaluateOptions {
        weights: Some(SmallWeights::Quantized(WeightBits::Eight)),
        ..options
    };
    let small = evaluate_image(path, &options, &Device::default()).unwrap();
    assert_eq!(exact.weights, MeasuredWeights::F32);
    assert_eq!(small.weights, MeasuredWeights::Int8);
    assert_eq!(small.reconstruction, exact.reconstruction);
    for (small, exact) in [
        (
            small.nearest_training_distance,
            exact.nearest_training_distance,
        ),
        (small.diversity, exact.diversity),
    ] {
        let change = (small / exact - 1.0).abs();
        assert!(change > 0.0 && change < 0.02, "{small} and {exact}");
    }
    let json = fs::read_to_string(path.join("evaluation.json")).unwrap();
    assert!(json.contains("\"weights\": \"int8\""), "{json}");
    let html = fs::read_to_string(path.join("report.html")).unwrap();
    assert!(html.contains("<td>weights</td><td>int8</td>"), "{html}");
}

/// A student has its teacher's codec, draws in few steps, reads guidance scales and takes no second branch. It goes on
/// after each stop as if there had been none.
#[test]
fn a_student_begins_from_a_finished_run() {
    const FLOW: [&str; 3] = ["lm.process=flow", "sample.sampler=euler", "sample.steps=2"];
    let dir = tempfile::tempdir().unwrap();
    let teacher = dir.path().join("teacher");
    let from = format!("lm.from={}", teacher.display());
    let student = |changes: &[&str]| {
        let own = ["lm.few_step=shortcut", "lm.distilled_guidance=scale", &from];
        tiny_recipe(&[&FLOW[..], &own, changes].concat())
    };
    let path = dir.path().join("student");
    {
        let _turn = alone();
        let message = run(&path, &student(&[]), false, false).unwrap_err();
        assert!(message.to_string().contains("teacher"), "{message}");
        run(&teacher, &tiny_recipe(&FLOW), false, false).unwrap();
        let wider = run(&path, &student(&["lm.depth=3"]), false, false).unwrap_err();
        let named = wider.to_string().contains("lm.depth=");
        assert!(named && !path.exists(), "{wider}");
        run(&path, &student(&[]), false, false).unwrap();
        let [own, given] = [&path, &teacher]
            .map(|run| fs::read(checkpoint_file::<ImageRecipe>(run, "codec.safetensors")).unwrap());
        assert!(own == given, "another codec");

        let pipeline = ImagePipeline::from_run(&path, &Device::default()).unwrap();
        let mut options = pipeline.recipe().sample_options();
        options.guidance_scale = 3.0;
        assert!(!pipeline.model.reads_null(&options));
        pipeline.draw(&[3, 7], &options, 1).unwrap();
        options.guidance_scale = 9.0;
        let message = pipeline.draw(&[3], &options, 1).unwrap_err().to_string();
        assert!(message.contains("scales from 1 to 4"), "{message}");
    }
    check_resumes(&student(&[]), train_image, 3);
}

#[test]
fn checkpoints_of_another_shape_or_cut_in_half_are_refused() {
    let _turn = alone();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("r");
    run(&path, &tiny_recipe(&[]), false, false).unwrap();
    let device = Device::default();
    let weights = checkpoint_file::<ImageRecipe>(&path, "model-ema.safetensors");
    let good = fs::read(&weights).unwrap();
    let manifest = checkpoint_file::<ImageRecipe>(&path, "manifest.json");
    // The checkpoint itself: the run would take an older one.
    let checkpoint = Checkpoint::open(manifest.parent().unwrap());
    let message = || {
        ImagePipeline::from_checkpoint(&checkpoint, &device)
            .unwrap_err()
            .to_string()
    };

    fs::write(&weights, &good[..good.len() / 2]).unwrap();
    assert!(message().contains("damaged"), "{}", message());

    fs::write(&weights, &good).unwrap();
    let text = fs::read_to_string(&manifest).unwrap();
    let wider = text.replace("\"width\": 32", "\"width\": 64");
    fs::write(&manifest, &wider).unwrap();
    assert!(message().contains("its checksum differs"), "{}", message());
    // As an older version or a person might have written it.
    fs::write(&manifest, wider.replace("\"checksum\"", "\"other\"")).unwrap();
    assert!(
        message().contains("does not fit this model"),
        "{}",
        message()
    );
    fs::write(&manifest, &text[..text.len() / 2]).unwrap();
    assert!(message().contains("damaged manifest"), "{}", message());
}

#[test]
fn a_run_is_not_overwritten_nor_continued_with_another_recipe() {
    let _turn = alone();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("r");
    let recipe = tiny_recipe(&[]);
    assert_eq!(run(&path, &recipe, false, true).unwrap(), RunEnd::Stopped);
    let again = run(&path, &recipe, false, true).unwrap_err().to_string();
    assert!(again.contains("--resume"), "{again}");
    let other = tiny_recipe(&["lm.width=64"]);
    let other = run(&path, &other, true, true).unwrap_err().to_string();
    assert!(other.contains("another recipe"), "{other}");
}

#[test]
fn a_loss_that_is_no_number_ends_the_run_with_a_hint() {
    let _turn = alone();
    let dir = tempfile::tempdir().unwrap();
    let mut recipe = tiny_recipe(&["codec_train.clip_norm=0.0"]);
    // No file and no override may say so.
    recipe.codec_train.learning_rate = 1e30;
    let message = run(&dir.path().join("r"), &recipe, false, false)
        .unwrap_err()
        .to_string();
    assert!(
        message.contains("not finite") && message.contains("learning_rate"),
        "{message}"
    );
}

#[test]
fn a_broken_picture_is_left_out_and_many_end_the_run_before_it_begins() {
    let _turn = alone();
    let dir = tempfile::tempdir().unwrap();
    let (set, device) = (dir.path().join("set"), Device::default());
    for (class, value) in [("cat", -0.5_f32), ("dog", 0.5)] {
        fs::create_dir_all(set.join(class)).unwrap();
        for i in 0..30 {
            let picture = Tensor::<4>::from_floats([[[[value; 8]; 8]]], &device);
            let path = set.join(class).join(format!("{i}.png"));
            save_png(&image_grid(picture, 1, 1), &path).unwrap();
        }
    }
    fs::write(set.join("cat/3.png"), b"no picture").unwrap();
    let recipe = tiny_recipe(&[&format!("data.path={}", set.display())]);
    let path = dir.path().join("one");
    let end = run(&path, &recipe, false, false).unwrap();
    let RunEnd::Finished {
        report, skipped, ..
    } = end
    else {
        panic!("not finished: {end:?}");
    };
    assert_eq!(skipped.len(), 1, "{skipped:?}");
    assert!(skipped[0].path.ends_with("cat/3.png"));
    let list = fs::read_to_string(path.join("skipped.txt")).unwrap();
    assert!(list.contains("3.png\tcannot be decoded"), "{list}");
    let html = fs::read_to_string(report).unwrap();
    assert!(html.contains("Left out") && html.contains("3.png"));

    for i in 4..8 {
        fs::write(set.join(format!("dog/{i}.png")), b"no picture").unwrap();
    }
    let path = dir.path().join("many");
    let message = run(&path, &recipe, false, false).unwrap_err().to_string();
    assert!(message.contains("5 of 60 samples"), "{message}");
    assert!(!path.exists(), "nothing is left behind");
    let place = format!("data.path={}", set.display());
    let recipe = tiny_recipe(&[&place, "data.max_broken=0.1"]);
    assert!(run(&path, &recipe, false, true).is_ok());
}

#[test]
fn images_are_learned_in_bf16() {
    check_bf16(|precision| tiny_recipe(&[precision]), train_image);
}

#[test]
fn two_devices_learn_images_as_one() {
    check_two_devices(tiny_recipe(&[]), train_image);
}
