//! Runs of clips with text.

use std::fs;
use std::path::Path;

use burn::tensor::{Device, Tensor};
use latentlm_media::ImageSpec;
use latentlm_media::clip::{RawClip, write_gif};
use latentlm_pipelines::{Recipe, VideoData, VideoPipeline, VideoRecipe};
use latentlm_tests::repository;
use latentlm_train::{RunEnd, train_video};

use crate::runs::{alone, check_bf16, check_resumes, check_two_devices, run_options};

/// A recipe so small that both stages take seconds, of clips of 5 frames.
fn tiny(data: &Path, changes: &[&str]) -> VideoRecipe {
    let mut overrides = vec![format!("data.path={}", data.display())];
    let small = [
        "data.composed=24",
        "data.frames=5",
        "text.vocabulary=300",
        "mix.draw=1",
        "mix.pack_positions=64",
        "codec.image_size=16",
        "codec.later_patches=2",
        "codec.frames_per_group=2",
        "codec.latent_dim=8",
        "codec.encoder_width=16",
        "codec.decoder_width=16",
        "codec.encoder_depth=1",
        "codec.decoder_depth=1",
        "codec.heads=2",
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
    overrides.extend(small.iter().chain(changes).map(ToString::to_string));
    VideoRecipe::resolve(None, &overrides).unwrap()
}

/// Clips that are composed of the digits that ship.
fn composed(changes: &[&str]) -> VideoRecipe {
    tiny(&repository("datasets/mnist"), changes)
}

#[test]
fn a_video_run_stopped_after_every_step_equals_an_uninterrupted_one() {
    let changes = [
        "codec_train.grad_accumulation=2",
        "lm_train.grad_accumulation=2",
    ];
    check_resumes(&composed(&changes), train_video, 5);
}

#[test]
fn a_finished_video_run_draws_continues_and_captions() {
    let _turn = alone();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("r");
    let recipe = composed(&[]);
    let end = train_video(recipe.clone(), run_options(&path, false, false)).unwrap();
    let RunEnd::Finished { samples, .. } = end else {
        panic!("not finished: {end:?}");
    };
    // Eight pairs of rows of five frames, enlarged twice.
    let sheet = image::image_dimensions(samples).unwrap();
    assert_eq!(sheet, (2 * (5 * 17 + 1), 2 * (16 * 17 + 1)));
    let report = fs::read_to_string(path.join("report.html")).unwrap();
    assert_eq!(report.matches("data:image/gif;base64,").count(), 1);

    let pipeline = VideoPipeline::from_run(&path, &Device::default()).unwrap();
    let options = recipe.sample_options();
    let texts = ["a seven moves left", ""].map(str::to_owned);
    let draw = |seed| pipeline.draw(&texts, &options, seed).unwrap();
    assert_eq!(draw(1).dims(), [2, 5, 1, 16, 16]);
    assert_eq!(draw(1).into_data(), draw(1).into_data());
    assert_ne!(draw(1).into_data(), draw(2).into_data());
    let held_out = VideoData::open(&recipe).unwrap().test;
    let (clips, _) = held_out.read_readable(&[0, 1], &Device::default());
    let given = clips.clone().narrow(1, 0, 1);
    let continued = pipeline.continued(&texts, given.clone(), &options, 1);
    let first: Tensor<5> = continued.unwrap().narrow(1, 0, 1);
    assert_eq!(first.into_data(), given.into_data());
    assert_eq!(pipeline.caption(clips).unwrap().len(), 2);
}

/// GIFs of a bar that moves to the left or to the right, some of which are held out.
fn gifs(folder: &Path) {
    let spec = ImageSpec {
        channels: 1,
        height: 16,
        width: 16,
    };
    let mut lines = Vec::new();
    for index in 0..13 {
        let (text, split) = (["left", "right"][index % 2], ["train", "test"][index / 8]);
        // The last has one frame alone.
        let frames = if index == 12 { 1 } else { 5 };
        let mut pixels = vec![0; frames * 256];
        for (frame, rows) in pixels.chunks_mut(256).enumerate() {
            let column = if index % 2 == 0 {
                12 - 2 * frame
            } else {
                2 * frame
            };
            for row in rows.chunks_mut(16) {
                row[column] = 255 - index as u8;
            }
        }
        let clip = RawClip {
            pixels: &pixels,
            spec,
            rate_hz: 10.0,
        };
        let name = format!("{index}.gif");
        write_gif(&folder.join(&name), &clip).unwrap();
        lines.push(format!(
            r#"{{"file_name":"{name}","text":"a bar moves {text}","split":"{split}"}}"#
        ));
    }
    fs::write(folder.join("metadata.jsonl"), lines.join("\n")).unwrap();
}

#[test]
fn a_folder_of_clips_is_learned_without_those_that_are_too_short() {
    let _turn = alone();
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("clips");
    fs::create_dir(&data).unwrap();
    gifs(&data);
    let path = dir.path().join("r");
    let recipe = tiny(&data, &["data.composed=0"]);
    let opened = VideoData::open(&recipe).unwrap();
    assert_eq!((opened.train.len(), opened.test.len()), (8, 4));
    assert_eq!(opened.train.text(0), "a bar moves left");
    let end = train_video(recipe.clone(), run_options(&path, false, false)).unwrap();
    let RunEnd::Finished { skipped, .. } = end else {
        panic!("not finished: {end:?}");
    };
    assert_eq!(skipped.len(), 1, "{skipped:?}");
    assert!(skipped[0].path.ends_with("12.gif"));

    let pipeline = VideoPipeline::from_run(&path, &Device::default()).unwrap();
    let whole = pipeline.read_clip(&data.join("8.gif")).unwrap();
    assert_eq!(whole.dims(), [1, 5, 1, 16, 16]);
    let (read, _) = opened.test.read_readable(&[0], &Device::default());
    assert_eq!(whole.into_data(), read.into_data());
    let short = data.join("12.gif");
    let message = pipeline.read_clip(&short).unwrap_err().to_string();
    assert!(message.contains("has 1 frames"), "{message}");
    for (name, frames) in [("8.gif", 3), ("12.gif", 1)] {
        let given = pipeline.read_given(&data.join(name)).unwrap();
        assert_eq!(given.frames.dims()[1], frames, "{name}");
    }
    // A run that goes on looks at what it was begun on.
    fs::write(data.join("0.gif"), fs::read(data.join("1.gif")).unwrap()).unwrap();
    let message = train_video(recipe, run_options(&path, true, false)).unwrap_err();
    assert!(message.to_string().contains("other data"), "{message}");
}

#[test]
fn clips_are_learned_in_bf16() {
    check_bf16(|precision| composed(&[precision]), train_video);
}

#[test]
fn two_devices_learn_clips_as_one() {
    check_two_devices(composed(&["text.caption_weight=4.0"]), train_video);
}
