//! `cargo xtask test --device X`: checks that a device computes correct results.

use std::path::Path;
use std::process::{Command, ExitCode};
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use latentlm_args::{DeviceName, say};

use crate::cargo::project_root;
use crate::drivers::System;
use crate::forward::{build, keep_freed_memory};

/// Folder of the test runs, relative to the root.
const FOLDER: &str = "target/test-device";
/// Overrides for sizes so small that a software adapter takes a step within seconds.
const SMALL: [&str; 12] = [
    "codec_train.steps=1",
    "codec_train.batch_size=4",
    "codec_train.warmup_steps=1",
    "lm.width=32",
    "lm.depth=1",
    "lm.heads=2",
    "lm.kv_heads=1",
    "lm.head_depth=1",
    "lm.batch_mul=2",
    "lm_train.steps=1",
    "lm_train.warmup_steps=1",
    "sample.steps=2",
];
const SMALL_IMAGE: [&str; 6] = [
    "codec.vit.encoder_width=16",
    "codec.vit.decoder_width=16",
    "codec.vit.encoder_depth=1",
    "codec.vit.decoder_depth=1",
    "lm_train.batch_size=4",
    "sample.per_class=1",
];
/// Short packs, so that few positions hold documents of all kinds.
const SMALL_MLLM: [&str; 8] = [
    "codec.latent_dim=8",
    "codec.vit.encoder_width=16",
    "codec.vit.decoder_width=16",
    "codec.vit.encoder_depth=1",
    "codec.vit.decoder_depth=1",
    "codec.vit.heads=4",
    "text.vocabulary=300",
    "mix.pack_positions=512",
];
/// Few recordings, selected by length; no composed utterances.
const SMALL_VOICE: [&str; 12] = [
    "data.composed=0",
    "data.min_seconds=2.2",
    "data.max_seconds=2.5",
    "data.codec_seconds=0.2",
    "codec.ratios=[4, 4, 5, 8]",
    "codec.width=2",
    "codec.widths=[]",
    "codec.latent_dim=4",
    "codec.depths=[0, 1, 0, 0, 1]",
    "codec_loss.windows=[64, 256]",
    "codec_loss.mel_bands=[4, 8]",
    "sample.max_seconds=0.4",
];

/// Runs the reference cases, and for images, speech, and text with pictures one training step of each stage
/// and one sample. Prints one line with the outcome. A machine without such a device is not a failure.
pub fn run(device: &str) -> Result<ExitCode> {
    let start = Instant::now();
    let name = DeviceName::parse(device)?;
    let kind = name.kind.name();
    if let Err(missing) = System::here().check(&[name]) {
        say!("skipped: this machine has {missing}");
        return Ok(ExitCode::SUCCESS);
    }
    let binary = build(device)?;
    let adapters = output(&binary, &["list-adapters", kind])?;
    let Some(adapter) = adapters.lines().next() else {
        say!("skipped: this machine has no {kind} adapter");
        return Ok(ExitCode::SUCCESS);
    };
    let folder = project_root().join(FOLDER);
    if folder.exists() {
        std::fs::remove_dir_all(&folder)
            .with_context(|| format!("cannot remove {}", folder.display()))?;
    }
    std::fs::create_dir_all(&folder)
        .with_context(|| format!("cannot create {}", folder.display()))?;
    for arguments in commands(device) {
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        output(&binary, &arguments)?;
    }
    let seconds = start.elapsed().as_secs();
    say!(
        "{device} ({adapter}): reference cases, a step and a sample of images, of speech, and of text \
         with pictures passed in {seconds} s"
    );
    Ok(ExitCode::SUCCESS)
}

/// The binary's commands, in order.
fn commands(device: &str) -> Vec<Vec<String>> {
    let file = |name: &str| format!("{FOLDER}/{name}");
    let (image, voice, mllm) = (file("image"), file("voice"), file("mllm"));
    let (picture, sound, heart) = (file("seven.png"), file("said.wav"), file("heart.png"));
    let sample = |arguments: &[&str]| owned(&[arguments, &["--device", device]].concat());
    let train = |command: &str, config: &str, run: &str, own: &[&str]| {
        let start = [command, "--config", config, "--run", run];
        let how = ["--progress", "silent", "--device", device];
        owned(&[&start[..], &how[..], &SMALL[..], own].concat())
    };
    vec![
        sample(&["verify-reference", "tests/fixtures"]),
        train(
            "train-image",
            "configs/image/mnist.toml",
            &image,
            &SMALL_IMAGE,
        ),
        sample(&[
            "sample-image",
            "--run",
            &image,
            "--class",
            "7",
            "--out",
            &picture,
        ]),
        train("train-tts", "configs/tts/voice.toml", &voice, &SMALL_VOICE),
        sample(&[
            "speak",
            "--run",
            &voice,
            "--text",
            "three five nine",
            "--out",
            &sound,
        ]),
        train(
            "train-mllm",
            "configs/mllm/twemoji.toml",
            &mllm,
            &SMALL_MLLM,
        ),
        sample(&[
            "generate",
            "--run",
            &mllm,
            "--prompt",
            "a red heart <image>",
            "--out",
            &heart,
        ]),
        sample(&["caption", "--run", &mllm, "--image", &heart]),
    ]
}

fn owned(words: &[&str]) -> Vec<String> {
    words.iter().map(ToString::to_string).collect()
}

/// Runs a command of the binary and returns its standard output. If it fails, the error has all its output.
fn output(binary: &Path, arguments: &[&str]) -> Result<String> {
    let mut command = Command::new(binary);
    command.current_dir(project_root()).args(arguments);
    keep_freed_memory(&mut command);
    let output = command
        .output()
        .with_context(|| format!("cannot start {}", binary.display()))?;
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure!(
        output.status.success(),
        "`latentlm {}` failed ({}):\n{printed}{}",
        arguments.join(" "),
        output.status,
        String::from_utf8_lossy(&output.stderr).trim_end()
    );
    Ok(printed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_runs_on_the_device_and_samples_follow_their_training() {
        let commands = commands("wgpu:1");
        let runs = |name: &str| {
            let command = commands.iter().find(|words| words[0] == name).unwrap();
            assert!(
                command
                    .windows(2)
                    .any(|pair| pair == ["--device", "wgpu:1"])
            );
            let at = command.iter().position(|word| word == "--run").unwrap();
            command[at + 1].clone()
        };
        assert_eq!(runs("train-image"), runs("sample-image"));
        assert_eq!(runs("train-tts"), runs("speak"));
        assert_eq!(runs("train-mllm"), runs("generate"));
        assert_eq!(runs("train-mllm"), runs("caption"));
        assert_ne!(runs("train-tts"), runs("train-image"));
    }
}
