//! Tests of the commands for clips: drawing, continuing, captioning, evaluation, and wrong input.

use std::fs;
use std::path::Path;
#[cfg(unix)]
use std::process::{Command, Stdio};

use latentlm_media::ImageSpec;
use latentlm_media::clip::{RawClip, write_gif};

use crate::resumes::{damage, flip};
use crate::{digits, expect, latentlm};

/// A model that trains in seconds: clips of five frames of 16x16 pixels, four latents for the first and one for the others.
pub const TINY: [&str; 23] = [
    "data.composed=8",
    "data.frames=5",
    "text.vocabulary=300",
    "mix.pack_positions=64",
    "codec.image_size=16",
    "codec.later_patches=2",
    "codec.latent_dim=4",
    "codec.encoder_width=16",
    "codec.decoder_width=16",
    "codec.encoder_depth=1",
    "codec.decoder_depth=1",
    "codec.heads=2",
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
    "sample.guidance_scale=1.0",
];

/// Height and width of a written digit.
const SIDE: usize = 28;
/// Pictures of each digit in each split.
const EACH: usize = 4;

/// Writes digits that clips are composed of into a new folder: all ten, as bars of their own heights. Runs that are
/// begun often need not read the ten thousand that ship each time.
pub fn write_digits(folder: &Path) {
    fs::create_dir(folder).unwrap();
    for split in ["train", "test"] {
        let (mut pictures, mut labels) = (Vec::new(), Vec::new());
        for index in 0..10 * EACH {
            let (digit, width) = (index % 10, 3 + index / 10);
            let mut picture = [0; SIDE * SIDE];
            for row in 4..14 + digit {
                picture[row * SIDE + 10..][..width].fill(255 - digit as u8);
            }
            pictures.extend(picture);
            labels.push(digit as u8);
        }
        let count = (10 * EACH) as u32;
        let side = SIDE as u32;
        for (kind, magic, sizes, bytes) in [
            (
                "images-idx3",
                0x0803_u32,
                &[count, side, side][..],
                &pictures,
            ),
            ("labels-idx1", 0x0801, &[count], &labels),
        ] {
            let mut file = magic.to_be_bytes().to_vec();
            for size in sizes {
                file.extend(size.to_be_bytes());
            }
            file.extend(bytes);
            fs::write(folder.join(format!("{split}-{kind}-ubyte")), file).unwrap();
        }
    }
}

/// Runs a command that must succeed. Returns its standard output.
fn succeed(folder: &Path, args: &[&str]) -> String {
    let output = latentlm(folder, args).output().unwrap();
    let notes = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{args:?}: {notes}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn a_model_draws_continues_and_captions_clips() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let digits = digits();
    // Groups of two, so that a part of a clip can be given.
    let train = ["train-video", "--progress", "silent", digits.as_str()];
    let text = succeed(
        dir,
        &[
            &train[..],
            &TINY,
            &["codec.frames_per_group=2", "lm_train.checkpoint_every=1"],
        ]
        .concat(),
    );
    assert!(text.contains("report runs/digits/report.html"), "{text}");

    clips_have_the_format_of_their_name(dir);
    a_stream_is_the_file(dir);
    #[cfg(unix)]
    ctrl_c_leaves_whole_frames(dir);
    given_frames_come_first(dir);
    clips_are_captioned(dir);
    a_run_is_measured(dir);
    wrong_clips_are_named(dir);
    a_recipe_that_lost_lines_is_found(dir);
    a_damaged_checkpoint_is_passed_over(dir);
}

/// A folder of GIFs of one frame, and one in which a GIF was cut in half.
#[test]
fn clips_that_cannot_be_trained_on_are_one_line() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let still = image::GrayImage::from_pixel(16, 16, image::Luma([200]));
    fs::create_dir(dir.join("still")).unwrap();
    for name in ["a.gif", "b.gif"] {
        let picture = image::DynamicImage::ImageLuma8(still.clone()).into_rgb8();
        picture.save(dir.join("still").join(name)).unwrap();
    }
    let train = |data: &str| {
        let data = format!("data.path={data}");
        let words = ["train-video", &data, "data.composed=0", "--run", "no"];
        latentlm(dir, &[&words[..], &["data.frames=5"]].concat())
    };
    expect(
        &mut train("still"),
        1,
        "all 2 clips have fewer than 5 frames",
    );
    let digits = digits().replace("data.path=", "");
    let compose = [
        "data", "clips", "--count", "4", "--out", "whole", "--digits",
    ];
    succeed(dir, &[&compose[..], &[digits.as_str()]].concat());
    let file = dir.join("whole/clips/000001.gif");
    let bytes = fs::read(&file).unwrap();
    fs::write(&file, &bytes[..bytes.len() / 2]).unwrap();
    expect(&mut train("whole"), 1, "000001.gif: frame");
    write_mixed(&dir.join("mixed/walk"));
    let sizes = "walk: frame 3 has 16 x 15 pixels, those before it 16 x 16";
    expect(&mut train("mixed"), 1, sizes);
    write_long(&dir.join("long/a.gif"));
    expect(&mut train("long"), 1, "a.gif: more than 10000 frames");
    let check = ["data", "check", "long", "--clips"];
    let output = latentlm(dir, &check).output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let told = String::from_utf8_lossy(&output.stdout);
    assert!(told.contains("a.gif: more than 10000 frames"), "{told}");
    assert!(!dir.join("runs/no").exists(), "nothing was begun");
}

/// Writes a new folder of frames of which the third has another size.
fn write_mixed(folder: &Path) {
    fs::create_dir_all(folder).unwrap();
    for (name, height) in [("1.png", 16), ("2.png", 16), ("3.png", 15), ("4.png", 16)] {
        let frame = image::GrayImage::from_pixel(16, height, image::Luma([200]));
        frame.save(folder.join(name)).unwrap();
    }
}

/// Writes a GIF of one frame more than a clip may have, of a pixel each.
fn write_long(file: &Path) {
    fs::create_dir_all(file.parent().unwrap()).unwrap();
    let clip = RawClip {
        pixels: &[7; 10_001],
        spec: ImageSpec {
            channels: 1,
            height: 1,
            width: 1,
        },
        rate_hz: 10.0,
    };
    write_gif(file, &clip).unwrap();
}

fn draw(dir: &Path, more: &[&str]) -> String {
    let words = ["sample-video", "--prompt", "a seven moves left"];
    succeed(dir, &[&words[..], more].concat())
}

fn clips_have_the_format_of_their_name(dir: &Path) {
    let gif = |seed: &str| {
        let text = draw(dir, &["--seed", seed, "--out", "seven.gif"]);
        assert!(text.starts_with("seven.gif: 5 frames in "), "{text}");
        assert!(text.contains(" s, the first after "), "{text}");
        fs::read(dir.join("seven.gif")).unwrap()
    };
    let drawn = gif("3");
    assert!(drawn.starts_with(b"GIF8"));
    assert!(drawn != gif("4"), "another seed");
    assert!(drawn == gif("3"), "the same seed");
    let sheet = [
        "--count",
        "2",
        "--out",
        "two.png",
        "--contact-sheet",
        "sheet.png",
    ];
    let text = draw(dir, &sheet);
    let files: Vec<&str> = text
        .lines()
        .filter_map(|line| line.split(':').next())
        .collect();
    assert_eq!(files, ["two.png", "two-1.png", "sheet.png"]);
    // Five frames and the lines between them, in two rows.
    let sheet = image::open(dir.join("sheet.png")).unwrap();
    assert_eq!((sheet.width(), sheet.height()), (5 * 16 + 4, 2 * 16 + 1));
    draw(dir, &["--seed", "3", "--out", "frames"]);
    assert_eq!(fs::read_dir(dir.join("frames")).unwrap().count(), 5);
}

/// Nothing but the GIF is on standard output.
fn a_stream_is_the_file(dir: &Path) {
    let words = ["sample-video", "--prompt", "a seven moves left"];
    let stream = ["--seed", "3", "--out", "-", "--contact-sheet", "other.png"];
    let output = latentlm(dir, &[&words[..], &stream].concat())
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    assert!(output.stdout == fs::read(dir.join("seven.gif")).unwrap());
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(told.contains("-: 5 frames in ") && told.contains("other.png"));
}

/// Ctrl-C while a thousand clips are drawn: those that were written have readable frames only.
#[cfg(unix)]
fn ctrl_c_leaves_whole_frames(dir: &Path) {
    let words = [
        "sample-video",
        "--prompt",
        "a seven moves left",
        "--count",
        "1000",
        "--out",
        "many/clip",
    ];
    let child = latentlm(dir, &words)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let many = dir.join("many");
    crate::wait_for("a clip", || many.join("clip").exists());
    let id = child.id().to_string();
    let sent = Command::new("kill").args(["-INT", &id]).status().unwrap();
    assert!(sent.success());
    let output = child.wait_with_output().unwrap();
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{told}");
    assert!(
        told.contains("stopping after this group of frames"),
        "{told}"
    );
    let folders: Vec<_> = fs::read_dir(&many).unwrap().flatten().collect();
    assert!((1..1000).contains(&folders.len()), "{}", folders.len());
    for folder in folders {
        let frames: Vec<_> = fs::read_dir(folder.path()).unwrap().flatten().collect();
        assert!((1..=5).contains(&frames.len()));
        for frame in frames {
            let size = image::open(frame.path()).unwrap();
            assert_eq!((size.width(), size.height()), (16, 16));
        }
    }
}

/// The first frame of the clip is the one that is given, to the grey level.
fn given_frames_come_first(dir: &Path) {
    draw(
        dir,
        &["--seed", "9", "--from", "frames/0001.png", "--out", "on"],
    );
    let grey = |file: &str| image::open(dir.join(file)).unwrap().into_luma8();
    assert_eq!(grey("on/0001.png"), grey("frames/0001.png"));
    let words = [
        "sample-video",
        "--from",
        "frames/0001.png",
        "--out",
        "any.gif",
    ];
    let text = succeed(dir, &words);
    assert!(text.starts_with("any.gif: 5 frames in "), "without a text");
    // Of a clip, whole groups: the last one is left to draw, and a line says so.
    let words = ["sample-video", "--from", "seven.gif", "--out", "more"];
    let output = latentlm(dir, &words).output().unwrap();
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{told}");
    let note = "note: the clip begins with the first 3 frames of seven.gif at 10 a second: a group of 2 is left to draw";
    assert!(told.lines().any(|line| line == note), "{told}");
    for name in ["0001.png", "0002.png", "0003.png"] {
        // The same seed drew both.
        assert_eq!(
            grey(&format!("more/{name}")),
            grey(&format!("frames/{name}"))
        );
    }
    assert_eq!(fs::read_dir(dir.join("more")).unwrap().count(), 5);
}

fn clips_are_captioned(dir: &Path) {
    let caption = |files: &[&str]| succeed(dir, &[&["caption", "--video"], files].concat());
    let both = caption(&["seven.gif", "frames"]);
    assert_eq!(both, caption(&["seven.gif"]) + &caption(&["frames"]));
}

fn a_run_is_measured(dir: &Path) {
    let words = [
        "eval-video",
        "--samples",
        "4",
        "--json",
        "--weights",
        "bf16",
    ];
    let output = latentlm(dir, &words).output().unwrap();
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{told}");
    // Four changes in each of four clips.
    let rough = "the Frechet distance is rough: 16 changes from frame to frame";
    assert!(told.contains(rough), "{told}");
    let json = String::from_utf8(output.stdout).unwrap();
    let measured: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(measured["samples"], 4);
    assert_eq!(measured["weights"], "bf16");
    for name in [
        "clip_psnr_db",
        "black_clip_psnr_db",
        "judged_digit_of_real",
        "whole_clip_ms",
    ] {
        assert!(measured[name].as_f64().unwrap() > 0.0, "{name}: {json}");
    }
    let by_frame = measured["judged_digit_by_frame"].as_array().unwrap();
    assert_eq!(by_frame.len(), 5, "a share for each frame");
    let by_motion = measured["pairs_by_motion"].as_object().unwrap();
    assert_eq!(by_motion.len(), 7, "every motion: {json}");
    let page = fs::read_to_string(dir.join("runs/digits/report.html")).unwrap();
    // The last samples of the training, and four of the evaluation.
    assert_eq!(page.matches("data:image/gif;base64,").count(), 5);
    let captions = fs::read_to_string(dir.join("runs/digits/captions.tsv")).unwrap();
    assert_eq!(captions.lines().count(), 1 + 4);
}

fn wrong_clips_are_named(dir: &Path) {
    let bytes = fs::read(dir.join("seven.gif")).unwrap();
    fs::write(dir.join("half.gif"), &bytes[..bytes.len() / 2]).unwrap();
    fs::write(dir.join("text.gif"), "no clip").unwrap();
    write_mixed(&dir.join("mixed"));
    for file in [
        "half.gif",
        "text.gif",
        "gone.gif",
        "frames/0001.png",
        "mixed",
    ] {
        let command = &mut latentlm(dir, &["caption", "--video", file]);
        let output = command.output().unwrap();
        let (code, line) = crate::failure(&output);
        assert!(
            line.contains(file) && (1..=2).contains(&code),
            "{code} {line}"
        );
    }
    let from = ["sample-video", "--out", "no.gif", "--from", "text.gif"];
    expect(&mut latentlm(dir, &from), 1, "text.gif");
    let from = ["sample-video", "--out", "no.gif", "--from", "mixed"];
    expect(&mut latentlm(dir, &from), 1, "mixed: frame 3 has 16 x 15");
    assert!(!dir.join("no.gif").exists());
    let other = ["caption", "--run", "digits", "--image", "seven.gif"];
    expect(&mut latentlm(dir, &other), 1, "it is one of train-video");
    let again = ["sample-video", "--prompt", "a seven", "--out", "frames"];
    expect(&mut latentlm(dir, &again), 1, "exists already");
}

/// The newest checkpoint is damaged: commands use the one before, and say so.
fn a_damaged_checkpoint_is_passed_over(dir: &Path) {
    let file = dir.join("runs/digits/checkpoints/lm/step-2/model-ema.safetensors");
    damage(&file, |bytes| flip(bytes));
    let draw = ["sample-video", "--prompt", "a seven", "--out", "last.gif"];
    let caption = ["caption", "--run", "digits", "--video", "seven.gif"];
    for words in [&draw[..], &caption] {
        let output = latentlm(dir, words).output().unwrap();
        let notes = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{words:?}: {notes}");
        let damaged = "model-ema.safetensors is damaged: its checksum differs";
        assert!(notes.contains(damaged), "{words:?}: {notes}");
        assert!(notes.contains("step-1 instead"), "{words:?}: {notes}");
    }
    assert!(dir.join("last.gif").is_file());
}

fn a_recipe_that_lost_lines_is_found(dir: &Path) {
    let path = dir.join("runs/digits/config.toml");
    let recipe = fs::read_to_string(&path).unwrap();
    let check = ["run", "check", "digits"];
    let said = succeed(dir, &check);
    let whole = "config.toml: whole, compared with step 2 of the stage `lm`";
    assert!(said.contains(whole), "{said}");
    let (before, _) = recipe.split_once("[lm_train]").unwrap();
    fs::write(&path, before).unwrap();
    expect(&mut latentlm(dir, &check), 1, "are damaged");
    let output = latentlm(dir, &check).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(said.contains("damaged: it lacks `lm_train."), "{said}");
    fs::write(&path, recipe).unwrap();
}
