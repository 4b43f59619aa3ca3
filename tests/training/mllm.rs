//! Runs of text and pictures.

use std::fs;
use std::path::Path;

use burn::tensor::{Device, Tensor};
use latentlm::{GenerateOptions, TextOptions};
use latentlm_compare::{
    CompareMllmRecipe, Comparison, FastMllmRecipe, StudentResult, compare_fast_mllm, compare_mllm,
};
use latentlm_data::TextTokenizer;
use latentlm_eval::{EvaluateOptions, evaluate_mllm, unshown};
use latentlm_pipelines::{
    Made, MllmPipeline, MllmRecipe, PromptPiece, Recipe, image_grid, save_png,
};
use latentlm_train::{RunEnd, TrainError, train_mllm};

use crate::runs::{
    alone, check_bf16, check_resumes, check_two_devices, checkpoint_file, run_options, tensors,
};

/// Twenty captioned pictures of two categories, a quarter held out, and a short text.
fn data(folder: &Path) {
    let mut lines = Vec::new();
    for index in 0..20u8 {
        let name = format!("{index}.png");
        let shade = f32::from(index) / 40.0 - 1.0;
        let (colour, category) = match index % 2 {
            0 => ([0.6, shade, -1.0], "Warm"),
            _ => ([-1.0, shade, 0.6], "Cold"),
        };
        let picture: Tensor<4> = Tensor::<1>::from_floats(colour, &Device::default())
            .reshape([1, 3, 1, 1])
            .expand([1, 3, 8, 8]);
        save_png(&image_grid(picture, 1, 1), &folder.join(&name)).unwrap();
        let split = if index % 4 == 3 || index == 0 {
            "test"
        } else {
            "train"
        };
        let word = if index % 2 == 0 { "red" } else { "blue" };
        lines.push(format!(
            r#"{{"file_name":"{name}","text":"{word} {index}","label":"{category}","split":"{split}"}}"#
        ));
    }
    fs::write(folder.join("metadata.jsonl"), lines.join("\n")).unwrap();
    fs::write(
        folder.join("train.txt"),
        "Red is warm.\n\nBlue is cold, they say.",
    )
    .unwrap();
    fs::write(folder.join("test.txt"), "Blue is warm.").unwrap();
}

/// What makes the default recipe so small that both stages take seconds.
fn small(data: &Path) -> Vec<String> {
    let mut overrides = ["data.path", "text.data"]
        .map(|key| format!("{key}={}", data.display()))
        .to_vec();
    let small = [
        "text.vocabulary=300",
        "text.piece_tokens=6",
        "mix.pack_positions=64",
        "codec.image_size=8",
        "codec.latent_dim=4",
        "codec.vit.patch_size=4",
        "codec.vit.encoder_width=16",
        "codec.vit.decoder_width=16",
        "codec.vit.encoder_depth=1",
        "codec.vit.decoder_depth=1",
        "codec.vit.heads=2",
        "codec_train.steps=3",
        "codec_train.batch_size=4",
        "codec_train.warmup_steps=2",
        "codec_train.log_every=1",
        "lm.width=32",
        "lm.depth=1",
        "lm.heads=2",
        "lm.kv_heads=1",
        "lm.head_depth=1",
        "lm_train.steps=4",
        "lm_train.warmup_steps=2",
        "lm_train.log_every=1",
        "sample.steps=2",
    ];
    overrides.extend(small.map(ToString::to_string));
    overrides
}

fn tiny(data: &Path, changes: &[&str]) -> MllmRecipe {
    let mut overrides = small(data);
    overrides.extend(changes.iter().map(ToString::to_string));
    MllmRecipe::resolve(None, &overrides).unwrap()
}

fn run(path: &Path, recipe: &MllmRecipe, resume: bool, stop: bool) -> Result<RunEnd, TrainError> {
    train_mllm(recipe.clone(), run_options(path, resume, stop))
}

#[test]
fn a_mllm_run_stopped_after_every_step_equals_an_uninterrupted_one() {
    let dir = tempfile::tempdir().unwrap();
    data(dir.path());
    let recipe = tiny(dir.path(), &["lm_train.grad_accumulation=2"]);
    check_resumes(&recipe, train_mllm, 5);
}

#[test]
fn a_finished_mllm_run_draws_captions_and_writes() {
    let _turn = alone();
    let dir = tempfile::tempdir().unwrap();
    data(dir.path());
    let path = dir.path().join("r");
    // A text that is trained on twice as often is measured once all the same.
    let recipe = tiny(dir.path(), &["mix.text=2", "text.caption_weight=3.0"]);
    run(&path, &recipe, false, false).unwrap();

    let device = Device::default();
    let pipeline = MllmPipeline::from_run(&path, &device).unwrap();
    let options = |max_positions| GenerateOptions {
        text: TextOptions::default(),
        sample: recipe.sample_options(),
        max_positions,
    };
    let make = |prompt: &str, seed| {
        let prompt = PromptPiece::parse(prompt).unwrap();
        pipeline.generate(&prompt, &options(20), seed)
    };
    let picture = |seed| match &make("red <image>", seed).unwrap().pieces[..] {
        [Made::Picture(picture), ..] => picture.to_data(),
        other => panic!("no picture first: {other:?}"),
    };
    assert_eq!(picture(1), picture(1), "the same seed");
    assert_ne!(picture(1), picture(2), "another seed");
    let file = dir.path().join("1.png");
    let asked = format!("<image>{}</image>", file.display());
    assert!(make(&asked, 0).is_ok());
    // Room for one token; for 64 positions less `<BOS>`, four latents and the marks around them.
    let cut = |prompt: &str, positions| {
        let prompt = PromptPiece::parse(prompt).unwrap();
        let made = pipeline.generate(&prompt, &options(positions), 0);
        made.unwrap().cut
    };
    assert_eq!(cut(&asked, 1), Some(1));
    assert!([None, Some(57)].contains(&cut(&asked, 500)));

    let error = |prompt: &str| make(prompt, 0).unwrap_err().to_string();
    let text = dir.path().join("train.txt");
    let no_picture = error(&format!("<image>{}</image>", text.display()));
    assert!(no_picture.contains("train.txt"), "{no_picture}");
    let long = error(&"blue ".repeat(80));
    assert!(long.contains("mix.pack_positions"), "{long}");
    let long = error(&format!("{} <image>", "blue ".repeat(60)));
    assert!(long.contains("what is asked for at least 5"), "{long}");
    check_evaluation(&path, &recipe);
}

/// A student of a teacher with the paper's diffusion: the teacher's codec and vocabulary, guidance without a second branch,
/// two evaluations a latent. It captions and writes as any other.
#[test]
fn a_student_of_text_and_pictures_begins_from_a_finished_run() {
    let dir = tempfile::tempdir().unwrap();
    data(dir.path());
    let teacher = dir.path().join("teacher");
    let student = tiny(
        dir.path(),
        &[
            "lm.process=flow",
            "lm.few_step=shortcut",
            "lm.shortcut_share=0.5",
            "lm.shortcut_divisions=32",
            "lm.distilled_guidance=scale",
            &format!("lm.from={}", teacher.display()),
            "sample.sampler=euler",
        ],
    );
    let path = dir.path().join("student");
    {
        let _turn = alone();
        run(&teacher, &tiny(dir.path(), &[]), false, false).unwrap();
        run(&path, &student, false, false).unwrap();
        let file = |run: &Path, name| checkpoint_file::<MllmRecipe>(run, name);
        let [own, given] = [&path, &teacher].map(|run| tensors(&file(run, "codec.safetensors")));
        assert!(own == given, "another codec");
        let [own, given] =
            [&path, &teacher].map(|run| fs::read(file(run, "tokenizer.json")).unwrap());
        assert!(own == given, "another vocabulary");
        let pipeline = MllmPipeline::from_run(&path, &Device::default()).unwrap();
        let mut options = student.sample_options();
        assert_eq!((options.steps, options.guidance_scale), (2, 3.0));
        assert!(!pipeline.model.reads_null(&options));
        let texts = ["red".to_owned(), "a blue 3".to_owned()];
        let drawn = pipeline.draw(&texts, &options, 1).unwrap();
        assert_eq!(pipeline.caption(drawn.clamp(-1.0, 1.0)).unwrap().len(), 2);
        options.guidance_scale = 9.0;
        let message = pipeline.draw(&texts, &options, 1).unwrap_err().to_string();
        assert!(message.contains("scales from 1 to 4"), "{message}");
        let options = EvaluateOptions {
            weights: None,
            samples: 6,
            seed: 3,
            sample: student.sample_options(),
            phase: unshown,
        };
        let measured = evaluate_mllm(&path, &options, &Device::default()).unwrap();
        assert_eq!((measured.samples, measured.solver_steps), ([6, 6], 2));
    }
    check_resumes(&student, train_mllm, 3);
}

/// A run that trains on its text twice an epoch.
fn check_evaluation(path: &Path, recipe: &MllmRecipe) {
    let options = EvaluateOptions {
        samples: 6,
        seed: 3,
        sample: recipe.sample_options(),
        weights: None,
        phase: unshown,
    };
    let measured = evaluate_mllm(path, &options, &Device::default()).unwrap();
    assert_eq!(measured.samples, [6, 6]);
    assert!(measured.text_perplexity.unwrap() > 1.0);
    let tokenizer = checkpoint_file::<MllmRecipe>(path, "tokenizer.json");
    let tokens = TextTokenizer::read(&tokenizer)
        .unwrap()
        .encode("Blue is warm.");
    // The text's end is a token too.
    let nats = (tokens.unwrap().len() + 1) as f64 * measured.text_perplexity.unwrap().ln();
    let bits = nats / std::f64::consts::LN_2 / "Blue is warm.".len() as f64;
    assert!((measured.text_bits_per_byte.unwrap() - bits).abs() < 1e-9);
    let shares = [
        measured.neighbours_of_category,
        measured.neighbours_of_category_held_out,
        measured.colours.colour_agreement,
    ];
    assert!(
        shares
            .iter()
            .all(|share| (0.0..=1.0).contains(&share.unwrap())),
        "{measured:?}"
    );
    // Of a gallery of ten warm and ten cold, the ten nearest cannot all be of one kind by chance.
    assert!((measured.neighbours_of_category_by_chance.unwrap() - 0.5).abs() < 1e-9);
    assert_eq!(measured.colours.colour_agreement_of_real, Some(1.0));
    // Fourteen training pictures: all even numbers but 0 are red, of the odd ones every other is blue.
    assert_eq!(
        measured.colours.colour_agreement_by_majority,
        Some(9.0 / 14.0)
    );
    let distances = [
        measured.colour_distance,
        measured.colour_distance_shuffled,
        measured.colour_distance_held_out,
        measured.colour_distance_held_out_shuffled,
    ];
    assert!(distances.iter().all(|x| *x > 0.0), "{distances:?}");
    for file in ["evaluation.json", "samples/evaluation.png"] {
        assert!(path.join(file).is_file(), "{file}");
    }
    let captions = fs::read_to_string(path.join("captions.tsv")).unwrap();
    let lines: Vec<&str> = captions.lines().collect();
    assert_eq!((lines[0], lines.len()), ("asked\tsaid\tsplit", 13));
    // Six of the fourteen from the first on.
    assert!(lines[1].starts_with("cold: blue 1\t"), "{captions}");
    assert!(lines[1].ends_with("\ttrain") && lines[12].ends_with("\ttest"));
    let report = fs::read_to_string(path.join("report.html")).unwrap();
    assert!(report.contains("<td>cold: blue 1</td>"));
}

/// A batch of pictures is one epoch's share, and captions are learned: after some steps on few
/// pictures their words are likelier than others.
#[test]
fn captions_are_learned() {
    let _turn = alone();
    let dir = tempfile::tempdir().unwrap();
    data(dir.path());
    let path = dir.path().join("r");
    let steps = [
        "lm_train.steps=60",
        "lm_train.learning_rate=0.01",
        "text.loss_weight=1.0",
    ];
    let recipe = tiny(dir.path(), &steps);
    run(&path, &recipe, false, false).unwrap();
    let log = fs::read_to_string(path.join("metrics.jsonl")).unwrap();
    let losses: Vec<f64> = log
        .lines()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
        .filter_map(|line| line["token_loss"].as_f64())
        .collect();
    assert_eq!(losses.len(), 60);
    let (first, last) = (losses[0], losses[50..].iter().sum::<f64>() / 10.0);
    assert!(first > 5.0, "near the uniform distribution: {first}");
    assert!(last < 0.4 * first, "{first} -> {last}");
}

/// A comparison that was stopped goes on; each model is measured at the same steps, its words too.
#[test]
fn models_of_text_and_pictures_are_compared() {
    let _turn = alone();
    let dir = tempfile::tempdir().unwrap();
    let pictures = dir.path().join("data");
    fs::create_dir(&pictures).unwrap();
    data(&pictures);
    let mllm = small(&pictures)
        .into_iter()
        .map(|change| format!("mllm.{change}"));
    let rivals = [
        "mllm.lm_train.sample_every=2",
        "evaluate.parameter_tolerance=10.0",
        "transfusion.width=32",
        "transfusion.depth=1",
        "transfusion.heads=2",
        "vq.width=32",
        "vq.depth=1",
        "vq.heads=2",
        "vq.codes=16",
        "vq.restart_every=2",
    ];
    let changes: Vec<String> = mllm.chain(rivals.map(ToString::to_string)).collect();
    let recipe = CompareMllmRecipe::resolve(None, &changes).unwrap();
    let path = dir.path().join("r");
    let run = |resume, stop| compare_mllm(recipe.clone(), run_options(&path, resume, stop));
    assert_eq!(run(false, true).unwrap(), RunEnd::Stopped);
    assert!(matches!(run(true, false).unwrap(), RunEnd::Finished { .. }));
    let read = |name: &str| fs::read_to_string(path.join(name)).unwrap();
    let comparison: Comparison = serde_json::from_str(&read("compare.json")).unwrap();
    let names = comparison.rivals.iter().map(|rival| rival.name.as_str());
    let names: Vec<&str> = names.collect();
    assert_eq!(names, ["latentlm", "transfusion", "vq"]);
    for rival in &comparison.rivals {
        let steps: Vec<u64> = rival.points.iter().map(|point| point.step).collect();
        assert_eq!(steps, [2, 4], "{}", rival.name);
        for point in &rival.points {
            for share in [point.category_named, point.neighbours_of_category] {
                assert!((0.0..=1.0).contains(&share.unwrap()), "{point:?}");
            }
            // Four steps: hardly better than uniform over some 300 tokens.
            for perplexity in [point.text_perplexity, point.caption_perplexity] {
                let perplexity = perplexity.unwrap();
                assert!((20.0..400.0).contains(&perplexity), "{perplexity}");
            }
        }
        assert!(
            path.join(format!("samples/{}-step-4.png", rival.name))
                .is_file()
        );
    }
    let (table, figure) = (read("compare.md"), read("compare.svg"));
    for part in [
        "| caption perplexity | category named | neighbours of category |",
        "Neighbours of category, by chance: 0.500.",
        "Accuracy of always naming the largest category: ",
    ] {
        assert!(table.contains(part), "{table}");
    }
    assert!(!table.contains("NaN"), "{table}");
    assert!(!figure.contains("NaN"));

    let wrong = [&changes[..], &["evaluate.parameter_tolerance=0.0".into()]].concat();
    let wrong = CompareMllmRecipe::resolve(None, &wrong).unwrap();
    let other = dir.path().join("other");
    let message = compare_mllm(wrong, run_options(&other, false, false)).unwrap_err();
    assert!(message.to_string().contains("parameters"), "{message}");
    assert!(!other.exists());
}

/// A small comparison of emoji with their students, on data in a new folder within one.
fn fast_emoji(folder: &Path) -> FastMllmRecipe {
    let pictures = folder.join("data");
    fs::create_dir(&pictures).unwrap();
    data(&pictures);
    let mllm = small(&pictures).into_iter();
    let mllm = mllm.map(|change| format!("mllm.{change}"));
    let own = ["seeds=2", "samples=6", "student_steps=3"];
    let own = own.map(|change| format!("fast_mllm.{change}"));
    let changes: Vec<String> = mllm.chain(own).collect();
    FastMllmRecipe::resolve(None, &changes).unwrap()
}

/// A comparison that was stopped goes on. All trainings have the first one's codec, and what was measured is kept.
#[test]
fn emoji_and_their_fast_students_are_compared() {
    let _turn = alone();
    let dir = tempfile::tempdir().unwrap();
    let recipe = fast_emoji(dir.path());
    let path = dir.path().join("r");
    let run = |resume, stop| {
        let options = run_options(&path, resume, stop);
        compare_fast_mllm(recipe.clone(), options).unwrap()
    };
    assert_eq!(run(false, true), RunEnd::Stopped);
    assert!(matches!(run(true, false), RunEnd::Finished { .. }));
    let read = |ending: &str| fs::read_to_string(path.join(format!("fast-mllm.{ending}"))).unwrap();
    let first = read("json");
    let results: Vec<StudentResult> = serde_json::from_str(&first).unwrap();
    let names = results.iter().map(|own| (&own.name[..], own.runs.len()));
    assert_eq!(names.collect::<Vec<_>>(), [("default", 2), ("fast", 2)]);
    for own in &results {
        for run in &own.runs {
            for name in ["pictures_per_second", "exact_captions", "colour_agreement"] {
                assert!(run.values.contains_key(name), "{name}: {own:?}");
            }
        }
    }
    assert_eq!(results[1].runs[1].training_seed, 2);
    assert!(read("md").contains("| pictures per second |") && !read("svg").contains("NaN"));
    let codec = |run: &str| {
        let run = path.join(run);
        tensors(&checkpoint_file::<MllmRecipe>(&run, "codec.safetensors"))
    };
    for run in ["default-2", "fast-1", "fast-2"] {
        assert!(codec(run) == codec("default-1"), "{run}: another codec");
    }
    assert!(matches!(run(true, false), RunEnd::Finished { .. }));
    assert_eq!(read("json"), first, "speeds would be others");
}

/// Each seed may be a run of its own. Of these another run needs only the measurements, whose files it is given.
#[test]
fn seeds_of_other_runs_are_gathered() {
    let _turn = alone();
    let dir = tempfile::tempdir().unwrap();
    let recipe = fast_emoji(dir.path());
    let run = |name: &str, resume: bool, skip_seeds: u64, seeds: u64| {
        let mut recipe = recipe.clone();
        (recipe.fast_mllm.skip_seeds, recipe.fast_mllm.seeds) = (skip_seeds, seeds);
        let path = dir.path().join(name);
        let end = compare_fast_mllm(recipe, run_options(&path, resume, false)).unwrap();
        assert!(matches!(end, RunEnd::Finished { .. }));
        let json = fs::read_to_string(path.join("fast-mllm.json")).unwrap();
        serde_json::from_str::<Vec<StudentResult>>(&json).unwrap()
    };
    let parts = [run("one", false, 0, 1), run("two", false, 1, 1)];
    let [one, two] = ["one", "two"].map(|name| dir.path().join(name));
    for name in ["default-2.json", "fast-2.json"] {
        fs::copy(two.join(name), one.join(name)).unwrap();
    }
    for gone in [one.join("default-1"), one.join("fast-1"), two] {
        fs::remove_dir_all(gone).unwrap();
    }
    let both = run("one", true, 0, 2);
    assert!(!one.join("default-1").exists() && !one.join("default-2").exists());
    for (place, own) in both.iter().enumerate() {
        let seeds = own.runs.iter();
        let seeds: Vec<[u64; 2]> = seeds
            .map(|run| [run.training_seed, run.codec_seed])
            .collect();
        assert_eq!(seeds, [[1, 1], [2, 2]]);
        let runs = [&parts[0][place].runs[0], &parts[1][place].runs[0]];
        assert_eq!(own.runs.iter().collect::<Vec<_>>(), runs);
    }
    let table = fs::read_to_string(one.join("fast-mllm.md")).unwrap();
    assert!(
        table.contains("Means over 2 training seeds. Codecs were trained with the seeds 1, 2.")
    );
}

/// A student of a teacher that is measured and gone: it is trained again, with the same result.
#[test]
fn a_lost_teacher_is_trained_again() {
    let _turn = alone();
    let dir = tempfile::tempdir().unwrap();
    let mut recipe = fast_emoji(dir.path());
    recipe.fast_mllm.seeds = 1;
    let path = dir.path().join("r");
    let run = |resume| {
        let end = compare_fast_mllm(recipe.clone(), run_options(&path, resume, false)).unwrap();
        assert!(matches!(end, RunEnd::Finished { .. }));
        tensors(&checkpoint_file::<MllmRecipe>(
            &path.join("fast-1"),
            "model-ema.safetensors",
        ))
    };
    let before = run(false);
    for gone in ["default-1", "fast-1"] {
        fs::remove_dir_all(path.join(gone)).unwrap();
    }
    fs::remove_file(path.join("fast-1.json")).unwrap();
    assert!(run(true) == before);
}

#[test]
fn text_and_pictures_are_learned_in_bf16() {
    let dir = tempfile::tempdir().unwrap();
    data(dir.path());
    check_bf16(|precision| tiny(dir.path(), &[precision]), train_mllm);
}

#[test]
fn two_devices_learn_text_and_pictures_as_one() {
    let dir = tempfile::tempdir().unwrap();
    data(dir.path());
    let recipe = tiny(dir.path(), &["text.caption_weight=4.0"]);
    check_two_devices(recipe, train_mllm);
}
