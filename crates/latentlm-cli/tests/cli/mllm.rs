//! Tests of the commands for text and pictures: drawing, captioning, evaluation, and wrong input.

use std::fs;
use std::path::Path;
use std::process::{Output, Stdio};

use crate::resumes::{damage, flip};
use crate::{expect, latentlm};

/// A model that trains in seconds: pictures of 8x8 pixels, four latents each.
pub const TINY: [&str; 23] = [
    "data.path=pictures",
    "text.data=pictures",
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
    "codec_train.steps=2",
    "codec_train.batch_size=4",
    "codec_train.warmup_steps=1",
    "lm.width=32",
    "lm.depth=1",
    "lm.heads=2",
    "lm.kv_heads=1",
    "lm_train.steps=2",
    "lm_train.warmup_steps=1",
    "sample.steps=2",
];

/// Twelve captioned pictures of two categories, a third held out, and a short text.
pub fn pictures(folder: &Path) {
    fs::create_dir(folder).unwrap();
    let mut lines = String::new();
    for index in 0..12u8 {
        let name = format!("{index}.png");
        let (word, colour, category) = match index % 2 {
            0 => ("red", [200, 10 * index, 0], "Warm"),
            _ => ("blue", [0, 10 * index, 200], "Cold"),
        };
        let picture = image::RgbImage::from_pixel(8, 8, image::Rgb(colour));
        picture.save(folder.join(&name)).unwrap();
        let split = if index < 8 { "train" } else { "test" };
        lines += &format!(
            r#"{{"file_name": "{name}", "text": "{word} {index}", "label": "{category}", "split": "{split}"}}"#
        );
        lines += "\n";
    }
    fs::write(folder.join("metadata.jsonl"), lines).unwrap();
    fs::write(folder.join("train.txt"), "Red is warm.\n\nBlue is cold.").unwrap();
    fs::write(folder.join("test.txt"), "Blue is warm.").unwrap();
}

/// Runs a command that must succeed. Returns its standard output and error.
fn succeed(folder: &Path, args: &[&str]) -> (String, String) {
    let Output {
        status,
        stdout,
        stderr,
    } = latentlm(folder, args).output().unwrap();
    let [text, notes] = [stdout, stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    assert!(status.success(), "{args:?}: {notes}");
    (text, notes)
}

#[test]
fn a_model_draws_captions_and_refuses_what_it_cannot_read() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    pictures(&dir.join("pictures"));
    let train = [&["train-mllm", "--progress", "silent"], &TINY[..]].concat();
    // Before the codec is trained.
    fs::write(dir.join("broken.json"), "{}").unwrap();
    let broken = [&train[..], &["text.path=broken.json"]].concat();
    expect(&mut latentlm(dir, &broken), 1, "broken.json");
    captions_under_another_key_are_named(dir, &train);
    assert!(!dir.join("runs/emoji").exists());
    let often = ["lm_train.checkpoint_every=1"];
    let (text, _) = succeed(dir, &[&train[..], &often].concat());
    assert!(text.contains("report runs/emoji/report.html"), "{text}");
    assert!(dir.join("runs/emoji/codec/report.html").is_file());

    the_same_seed_draws_the_same(dir);
    a_limit_is_told(dir);
    pictures_are_captioned(dir);
    a_run_is_measured(dir);
    wrong_prompts_exit_with_2(dir);
    broken_pictures_are_named(dir);
    a_damaged_checkpoint_is_passed_over(dir);
}

/// All pictures would have the same caption.
fn captions_under_another_key_are_named(dir: &Path, train: &[&str]) {
    pictures(&dir.join("unsaid"));
    let table = dir.join("unsaid/metadata.jsonl");
    let lines = fs::read_to_string(&table).unwrap();
    let lines = lines.replace("text", "caption").replace("Warm", "Cold");
    fs::write(&table, lines).unwrap();
    let args = [train, &["data.path=unsaid"]].concat();
    let keys = "`caption`, `file_name`, `label`, `split`: call the one of the captions `text`";
    expect(&mut latentlm(dir, &args), 1, keys);
    // Nor are captions in files of other names.
    fs::rename(&table, dir.join("unsaid/captions.jsonl")).unwrap();
    let told = "unsaid: no captions were found, and all samples are of one class";
    expect(&mut latentlm(dir, &args), 1, told);
}

/// A vocabulary of characters has those of the training texts alone.
#[test]
fn a_character_that_training_never_had_is_named_before_anything_is_drawn() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    pictures(&dir.join("pictures"));
    // Held-out captions in characters of the others.
    let table = dir.join("pictures/metadata.jsonl");
    let lines = fs::read_to_string(&table).unwrap();
    let lines = lines.replace("red 8", "red 0").replace("blue 9", "blue 1");
    fs::write(&table, lines).unwrap();
    let characters = ["text.tokenizer=characters"];
    let train = ["train-mllm", "--progress", "silent"];
    succeed(dir, &[&train[..], &TINY, &characters].concat());
    let draw =
        |prompt: &str| latentlm(dir, &["generate", "--prompt", prompt, "--out", "drawn.png"]);
    let named = "`&` is outside the vocabulary";
    expect(&mut draw("red & blue <image>"), 2, named);
    assert!(!dir.join("drawn.png").exists());
    let drawn = draw("red 2 <image>").output().unwrap();
    assert!(drawn.status.success(), "{drawn:?}");
    assert!(dir.join("drawn.png").exists());
}

/// The report of the run itself, while its codec is trained.
#[test]
fn the_report_is_there_from_the_codecs_first_checkpoint_on() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    pictures(&dir.join("pictures"));
    let long = ["codec_train.steps=100000", "codec_train.checkpoint_every=1"];
    let words = [
        &["train-mllm", "--progress", "silent"],
        &TINY[..],
        &long[..],
    ]
    .concat();
    let mut training = latentlm(dir, &words);
    training.stdout(Stdio::null()).stderr(Stdio::null());
    let mut training = training.spawn().unwrap();
    let report = dir.join("runs/emoji/report.html");
    crate::wait_for("a report", || {
        assert!(training.try_wait().unwrap().is_none(), "it has ended");
        report.is_file()
    });
    training.kill().unwrap();
    training.wait().unwrap();
    let html = fs::read_to_string(report).unwrap();
    assert!(html.contains("<a href=\"codec/report.html\">"), "{html}");
    assert!(!dir.join("runs/emoji/checkpoints").exists());
}

fn the_same_seed_draws_the_same(dir: &Path) {
    let draw = |seed: &str| {
        let prompt = ["generate", "--prompt", "red 2 <image>", "--seed", seed];
        let args = [&prompt[..], &["--out", "drawn.png"]].concat();
        let (text, _) = succeed(dir, &args);
        assert_eq!(text.lines().next(), Some("drawn.png"));
        fs::read(dir.join("drawn.png")).unwrap()
    };
    let drawn = draw("3");
    assert!(drawn == draw("3"), "the same seed");
    assert!(drawn != draw("4"), "another seed");
    // Eight pixels, four times as large, and no frame.
    assert_eq!(image::open(dir.join("drawn.png")).unwrap().width(), 32);
    let shown = "see <image>pictures/1.png</image> and draw <image>";
    let args = ["generate", "--prompt", shown, "--out", "both.png"];
    assert!(succeed(dir, &args).0.starts_with("both.png"));
}

fn a_limit_is_told(dir: &Path) {
    let args = ["generate", "--prompt", "red", "--positions", "2"];
    let (_, notes) = succeed(dir, &args);
    let lines: Vec<&str> = notes.lines().collect();
    assert_eq!(lines.len(), 1, "{notes}");
    assert!(lines[0].starts_with("cut off after 2 positions"), "{notes}");
    assert!(lines[0].contains("trained on 64"), "{notes}");
}

fn pictures_are_captioned(dir: &Path) {
    let caption = |files: &[&str]| succeed(dir, &[&["caption", "--image"], files].concat()).0;
    let [first, second] = ["pictures/1.png", "pictures/2.png"];
    let both = caption(&[first, second]);
    assert_eq!(both, caption(&[first]) + &caption(&[second]));
}

fn a_run_is_measured(dir: &Path) {
    let (json, notes) = succeed(dir, &["eval-mllm", "--samples", "4", "--json"]);
    // Nobody sees a terminal here, and each phase is told.
    for phase in [
        "reading the run and its data ...",
        "captioning and drawing 4 pictures ...",
    ] {
        assert!(notes.lines().any(|line| line == phase), "{notes}");
    }
    let measured: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(measured["samples"], serde_json::json!([4, 4]));
    assert_eq!(measured["weights"], "f32");
    assert_eq!(measured["colour_agreement_by_majority"], 0.5);
    assert_eq!(measured["category_named_by_majority"], 0.5);
    assert!(measured["colour_distance_held_out"].as_f64().unwrap() > 0.0);
    // The table, of a model in fewer bits.
    let small = ["eval-mllm", "--samples", "4", "--weights", "int8"];
    let (text, _) = succeed(dir, &small);
    let mut lines = text.lines();
    assert!(lines.next().unwrap().starts_with("measure "), "{text}");
    assert!(lines.next().unwrap().ends_with("[4,4]"), "{text}");
    let weights = lines.find(|line| line.starts_with("weights "));
    assert!(
        weights.is_some_and(|line| line.ends_with(" int8")),
        "{text}"
    );
    assert!(text.contains("colour agreement by majority"), "{text}");
    assert!(
        text.contains("\ncaptions runs/emoji/captions.tsv\n"),
        "{text}"
    );
    let captions = fs::read_to_string(dir.join("runs/emoji/captions.tsv")).unwrap();
    let asked = captions.lines().map(|line| line.split('\t').next());
    let asked: Vec<&str> = asked.flatten().collect();
    // Every other one of the eight training pictures, and the four held-out pictures.
    let train = [
        "asked",
        "warm: red 0",
        "warm: red 2",
        "warm: red 4",
        "warm: red 6",
    ];
    assert_eq!(asked[..5], train);
    assert_eq!(asked[5..7], ["warm: red 8", "cold: blue 9"]);
    assert!(captions.ends_with("\ttest\n"), "{captions}");
}

fn wrong_prompts_exit_with_2(dir: &Path) {
    let refuse = |args: &[&str], part: &str| {
        let args = [&["generate", "--out", "none.png", "--prompt"], args].concat();
        expect(&mut latentlm(dir, &args), 2, part);
        assert!(!dir.join("none.png").exists(), "{args:?}");
    };
    refuse(&["a <image> heart"], "unclosed before `heart`");
    refuse(&["a </image> heart"], "`</image>` has no `<image>`");
    refuse(&["<image> </image>"], "names no file");
    let long = "blue ".repeat(80);
    refuse(&[&long], "more than the 64 that the model was trained on");
    let long = "blue ".repeat(60) + "<image>";
    refuse(&[&long], "what is asked for at least 5");
    refuse(&["red", "--top-p", "2"], "must lie between 0 and 1");
    refuse(
        &["red <image>", "--guidance", "NaN"],
        "must be a number from -1000 to 1000",
    );
    let words = ["train-mllm", "--run", "other", "text.caption_weight=0.0"];
    let wrong = [&words, &TINY[..]].concat();
    expect(
        &mut latentlm(dir, &wrong),
        2,
        "`text.caption_weight` must be a number from 1e-6 to",
    );
}

/// The newest checkpoint is damaged: commands use the one before, and say so.
fn a_damaged_checkpoint_is_passed_over(dir: &Path) {
    let file = dir.join("runs/emoji/checkpoints/lm/step-2/model-ema.safetensors");
    let whole = damage(&file, |bytes| flip(bytes));
    let draw = ["generate", "--prompt", "red 2 <image>", "--out", "last.png"];
    let caption = ["caption", "--image", "pictures/1.png"];
    for words in [&draw[..], &caption] {
        let (_, notes) = succeed(dir, words);
        let damaged = "model-ema.safetensors is damaged: its checksum differs";
        assert!(notes.contains(damaged), "{words:?}: {notes}");
        assert!(notes.contains("step-1 instead"), "{words:?}: {notes}");
    }
    assert!(dir.join("last.png").is_file());
    fs::write(&file, whole).unwrap();
}

fn broken_pictures_are_named(dir: &Path) {
    fs::write(dir.join("half.png"), {
        let bytes = fs::read(dir.join("pictures/1.png")).unwrap();
        bytes[..bytes.len() / 2].to_vec()
    })
    .unwrap();
    for file in ["pictures/train.txt", "half.png", "gone.png"] {
        let prompt = format!("<image>{file}</image>");
        expect(
            &mut latentlm(dir, &["generate", "--prompt", &prompt]),
            1,
            file,
        );
        expect(&mut latentlm(dir, &["caption", "--image", file]), 1, file);
    }
    for command in [
        &["generate", "--prompt", "red"][..],
        &["caption", "--image", "pictures/1.png"],
        &["eval-mllm"],
    ] {
        let args = [command, &["--run", "nobody"]].concat();
        expect(&mut latentlm(dir, &args), 1, "is no run");
    }
}
