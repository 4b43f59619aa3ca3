//! Tests of the table of commands: help, defaults, refused arguments and their messages.

use std::fs;
use std::path::Path;

use clap::{CommandFactory, Parser};

use super::*;
use crate::{DeviceKind, TrainingNumbers};

mod make_model;
mod paths;
mod quantize;
mod recipes;
mod speak;
mod training;
mod transcribe;

#[derive(Debug, Parser)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

fn parse(words: &[&str]) -> Result<Command, clap::Error> {
    let words = std::iter::once("latentlm").chain(words.iter().copied());
    Cli::try_parse_from(words).map(|cli| cli.command)
}

/// The first line of clap's message about wrong arguments.
fn refusal(words: &[&str]) -> String {
    let error = parse(words).unwrap_err();
    assert_eq!(error.exit_code(), 2, "{words:?}");
    error.to_string().lines().next().unwrap().to_owned()
}

/// The message of `Command::check` about arguments that clap accepts.
fn complaint(folder: &Path, words: &[&str]) -> (bool, String) {
    let error = parse(words).unwrap().check(&Project::at(folder));
    let error = error.unwrap_err();
    (error.is_usage(), error.to_string())
}

/// All commands without subcommands, with their full names.
fn leaves(command: &clap::Command, words: &str, found: &mut Vec<(String, clap::Command)>) {
    for child in command.get_subcommands() {
        let words = format!("{words} {}", child.get_name());
        if child.has_subcommands() {
            leaves(child, &words, found);
        } else {
            found.push((words.trim().to_owned(), child.clone()));
        }
    }
}

#[test]
fn clap_accepts_the_table() {
    Cli::command().debug_assert();
}

#[test]
fn every_command_and_argument_has_help() {
    let mut found = Vec::new();
    leaves(&Cli::command(), "", &mut found);
    assert!(found.len() >= 25, "{}", found.len());
    for (words, command) in found {
        assert!(command.get_about().is_some(), "{words}");
        for argument in command.get_arguments() {
            assert!(argument.get_help().is_some(), "{words} {argument}");
        }
    }
}

#[test]
fn commands_with_a_device_name_it() {
    let mut found = Vec::new();
    leaves(&Cli::command(), "", &mut found);
    let mut named = 0;
    for (words, command) in found {
        let has_device = command
            .get_arguments()
            .any(|argument| argument.get_id() == "device");
        // Commands that do not run without further arguments are left out.
        if let Ok(parsed) = parse(&words.split(' ').collect::<Vec<_>>()) {
            assert_eq!(!parsed.devices().unwrap().is_empty(), has_device, "{words}");
            named += usize::from(has_device);
        }
    }
    assert!(named >= 10, "{named}");
}

/// The examples in a command's help, without pipes and comments.
fn examples(command: &clap::Command) -> Vec<Vec<String>> {
    let help = command.clone().render_long_help().to_string();
    let start = help.find("Example").unwrap_or(help.len());
    let lines = help[start..].lines();
    let calls = lines.filter_map(|line| Some(line.split_once("cargo xtask ")?.1));
    let calls = calls.map(|call| call.split(" | ").next().unwrap_or(call));
    calls
        .map(|call| words(call.split("   ").next().unwrap_or(call)))
        .collect()
}

/// Splits a line into words as a shell does: double quotes may contain spaces.
fn words(line: &str) -> Vec<String> {
    let (mut words, mut word, mut quoted) = (Vec::new(), String::new(), false);
    for c in line.chars().chain([' ']) {
        match c {
            '"' => quoted = !quoted,
            ' ' if !quoted => {
                if !word.is_empty() {
                    words.push(std::mem::take(&mut word));
                }
            }
            c => word.push(c),
        }
    }
    words
}

#[test]
fn every_command_has_an_example_that_parses() {
    let known: Vec<String> = Cli::command()
        .get_subcommands()
        .map(|command| command.get_name().to_owned())
        .collect();
    for command in Cli::command().get_subcommands() {
        let mut all = vec![command.clone()];
        all.extend(command.get_subcommands().cloned());
        let examples: Vec<Vec<String>> = all.iter().flat_map(examples).collect();
        assert!(!examples.is_empty(), "{}", command.get_name());
        // Commands and flags that only `xtask` has are not known here.
        for mut example in examples.into_iter().filter(|e| known.contains(&e[0])) {
            example.retain(|word| !["--voices", "--pesq", "--judges"].contains(&word.as_str()));
            for word in &mut example {
                if word == "--live" {
                    *word = "tests/fixtures".into();
                }
            }
            let example: Vec<&str> = example.iter().map(String::as_str).collect();
            if let Err(error) = parse(&example) {
                panic!("{example:?}: {error}");
            }
        }
    }
}

#[test]
fn drawing_has_the_defaults_that_its_help_says() {
    let Ok(Command::Speak(args)) = parse(&["speak", "--out", "a.wav"]) else {
        panic!("another command")
    };
    assert_eq!((args.run.as_str(), args.drawing.seed()), ("voice", 0));
    assert_eq!(args.drawing.precision, None);
    assert_eq!(args.drawing.guidance, None);
    let Ok(Command::Compare(Compare::Sampling(args))) = parse(&["compare", "sampling"]) else {
        panic!("another command")
    };
    assert_eq!(args.steps, [2, 3, 5, 10, 20, 50]);
    assert_eq!(args.guidance, [1.0, 1.5, 2.0, 3.0, 4.0, 6.0]);
    let list = ["compare", "sampling", "--guidance", "1,2.5"];
    let Ok(Command::Compare(Compare::Sampling(args))) = parse(&list) else {
        panic!("a list of numbers")
    };
    assert_eq!(args.guidance, [1.0, 2.5]);
}

/// Pictures and clips are captioned by runs of different names.
#[test]
fn captions_have_the_default_run_of_their_kind() {
    for (words, expected) in [
        (&["caption", "--image", "a"][..], "emoji"),
        (&["caption", "--video", "a", "b"], "digits"),
        (&["caption", "--video", "a", "--run", "mine"], "mine"),
    ] {
        let Ok(Command::Caption(args)) = parse(words) else {
            panic!("another command")
        };
        assert_eq!(args.run, expected, "{words:?}");
    }
    for flag in ["--prompt", "--class"] {
        let words = ["sample-video", flag, "a seven", "--out", "a.gif"];
        let Ok(Command::SampleVideo(args)) = parse(&words) else {
            panic!("another command")
        };
        assert_eq!((args.prompt.as_deref(), args.count), (Some("a seven"), 1));
    }
}

#[test]
fn training_is_compared_and_timed_in_two_kinds_of_numbers() {
    for (flags, expected) in [
        (&["--device", "cpu"][..], TrainingNumbers::F32),
        (&["--precision", "f32"], TrainingNumbers::F32),
        (&["--precision", "bf16"], TrainingNumbers::Bf16),
    ] {
        let compared = parse(&[&["verify-reference", "."][..], flags].concat());
        let Ok(Command::VerifyReference(args)) = compared else {
            panic!("another command")
        };
        assert_eq!(args.precision, expected);
        let timed = parse(&[&["bench-worker", "head-step"][..], flags].concat());
        let Ok(Command::BenchWorker(args)) = timed else {
            panic!("another command")
        };
        assert_eq!(args.precision, expected);
    }
}

#[test]
fn wrong_words_are_named() {
    for (words, part) in [
        (&["trian-image"][..], "'trian-image'"),
        (&["train-image", "--stepz", "3"], "'--stepz'"),
        (&["sample-image", "--out", "a.png"], "required"),
        (
            &["sample-image", "--grid", "--class", "7", "--out", "a.png"],
            "cannot be used with",
        ),
        (&["speak"], "required"),
        (&["speak", "--voice", "a.wav", "--out", "b.wav"], "required"),
        (
            &[
                "speak", "--model", "a", "--script", "b", "--text", "c", "--out", "d.wav",
            ],
            "cannot be used with",
        ),
        (&["speak", "--script", "a", "--out", "b.wav"], "required"),
        (&["speak", "--sampler", "sde", "--out", "b.wav"], "required"),
        (
            &["speak", "--text", "a", "--file", "b", "--out", "c.wav"],
            "cannot be used with",
        ),
        (&["make-model", "vibevoice-1.5b"], "required"),
        (
            &["make-model", "vibevoice-2b", "--out", "a"],
            "'vibevoice-2b'",
        ),
        (&["caption"], "required"),
        (
            &["caption", "--image", "a", "--video", "b"],
            "cannot be used with",
        ),
        (&["sample-video", "--out", "a.gif"], "required"),
        (&["sample-video", "--prompt", "a"], "required"),
        (
            &[
                "sample-video",
                "--prompt",
                "a",
                "--out",
                "b",
                "--count",
                "0",
            ],
            "1..=1000",
        ),
        (&["eval-video", "--samples", "1"], "2..=10000"),
        (&["generate"], "required"),
        (&["codec", "encode", "a.wav"], "required"),
        (&["eval-image", "--samples", "1"], "2..=100000"),
        (&["eval-image", "--steps", "1000"], "1..=999"),
        (&["bench-decode", "--width", "0"], "1..=65536"),
        (
            &["bench-decode", "--like", "vibevoice-2b"],
            "'vibevoice-2b'",
        ),
        (&["train-image", "--progress", "loud"], "'loud'"),
        (&["bench-worker", "list", "--precision", "f16"], "'f16'"),
    ] {
        let line = refusal(words);
        assert!(line.contains(part), "{words:?}: {line}");
    }
}

#[test]
fn wrong_words_about_data_are_named() {
    for (words, part) in [
        ("espeak --out a --speakers 45", "1..=44"),
        ("voices --out a --hours 0", "above 0"),
        (
            "voices --out a --texts b --wordnet c",
            "cannot be used with",
        ),
    ] {
        let words: Vec<&str> = ["data"].into_iter().chain(words.split(' ')).collect();
        let line = refusal(&words);
        assert!(line.contains(part), "{words:?}: {line}");
    }
}

#[test]
fn no_numeric_option_takes_nan_or_infinity() {
    let sample = ["sample-image", "--grid", "--out", "a.png"];
    let generate = ["generate", "--prompt", "a"];
    let compare = ["compare", "sampling"];
    for (command, option) in [
        (&sample[..], "--guidance"),
        (&sample, "--noise-temperature"),
        (&sample, "--steps"),
        (&generate, "--temperature"),
        (&generate, "--top-p"),
        (&generate, "--guidance"),
        (&compare, "--guidance"),
        (&compare, "--steps"),
    ] {
        for value in ["nan", "NaN", "inf", "-inf", "1e999"] {
            let option = format!("{option}={value}");
            let line = refusal(&[command, &[option.as_str()]].concat());
            assert!(line.contains("invalid value"), "{option}: {line}");
        }
    }
    for (option, range) in [
        ("--guidance=NaN", "from -1000 to 1000"),
        ("--guidance=1e300", "from -1000 to 1000"),
        ("--guidance=-1e39", "from -1000 to 1000"),
        ("--noise-temperature=1e300", "from 0 to 100"),
    ] {
        let line = refusal(&[&sample[..], &[option]].concat());
        assert!(line.ends_with(range), "{option}: {line}");
    }
}

#[test]
fn devices_are_known_before_anything_runs() {
    let devices = |words: &[&str]| parse(words).unwrap().devices();
    assert!(devices(&["data", "check", "."]).unwrap().is_empty());
    assert!(devices(&["run", "check", "a"]).unwrap().is_empty());
    let two = devices(&["train-image", "--device", "cuda:0,1"]).unwrap();
    assert_eq!(two.len(), 2);
    assert!(two.iter().all(|device| device.kind == DeviceKind::Cuda));
    // One device is all that drawing takes.
    assert!(devices(&["eval-image", "--device", "cuda:0,1"]).is_err());
    let dir = tempfile::tempdir().unwrap();
    for words in [
        &["train-tts", "--device", "tpu"][..],
        &["speak", "--out", "a.wav", "--device", "tpu"],
        &["bench-decode", "--device", "tpu"],
        &["compare", "sampling", "--device", "tpu"],
        &["verify-reference", ".", "--device", "tpu"],
        &["codec", "decode", "a", "b", "--device", "tpu"],
    ] {
        let (usage, message) = complaint(dir.path(), words);
        let wanted = "no device `tpu`; there are cpu, wgpu, wgpu:N, vulkan, vulkan:N, cuda, cuda:N";
        assert_eq!((usage, message.as_str()), (true, wanted), "{words:?}");
    }
}

fn run(folder: &Path, name: &str) {
    let run = folder.join("runs").join(name);
    fs::create_dir_all(&run).unwrap();
    fs::write(run.join("config.toml"), "").unwrap();
}

#[test]
fn commands_of_a_run_say_which_there_are() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    run(dir, "first");
    run(dir, "second");
    for (words, trained_by) in [
        (&["sample-image", "--grid", "--out", "a"][..], "train-image"),
        (&["eval-image"], "train-image"),
        (&["compare", "sampling"], "train-image"),
        (&["speak", "--out", "a.wav"], "train-tts"),
        (&["eval-tts"], "train-tts"),
        (&["codec", "decode", "a", "b"], "train-tts"),
        (&["generate", "--prompt", "a"], "train-mllm"),
        (&["caption", "--image", "a"], "train-mllm"),
        (&["eval-mllm"], "train-mllm"),
        (
            &["sample-video", "--prompt", "a", "--out", "a.gif"],
            "train-video",
        ),
        (&["caption", "--video", "a"], "train-video"),
        (&["eval-video"], "train-video"),
        (&["train-video", "--resume"], "train-video"),
        (&["train-image", "--resume"], "train-image"),
        (&["compare", "sigma", "--resume"], "compare sigma"),
        (&["compare", "heads", "--resume"], "compare heads"),
        (&["compare", "latents", "--resume"], "compare latents"),
    ] {
        let (usage, message) = complaint(dir, &[words, &["--run", "nobody"]].concat());
        assert!(
            !usage && message.contains("nobody: is no run: "),
            "{message}"
        );
        let hint =
            format!("there are the runs first, second; `cargo xtask {trained_by}` trains one");
        assert!(message.ends_with(&hint), "{words:?}: {message}");
    }
    let (usage, message) = complaint(dir, &["run", "check", "nobody"]);
    assert!(
        !usage && message.contains("there are the runs first, second;"),
        "{message}"
    );
    parse(&["run", "check", "first"])
        .unwrap()
        .check(&Project::at(dir))
        .unwrap();
    let (usage, message) = complaint(dir, &["train-tts", "--run", "first"]);
    assert!(!usage && message.contains("first: exists already; continue it with --resume"));
    let resume = ["train-tts", "--run", "first", "--resume"];
    parse(&resume).unwrap().check(&Project::at(dir)).unwrap();
}

/// A run of clips is told by its recipe.
#[test]
fn pictures_are_captioned_by_runs_of_pictures() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    run(dir, "digits");
    let config = dir.join("runs/digits/config.toml");
    fs::write(config, "[codec]\nframes_per_group = 4").unwrap();
    fs::write(dir.join("a.gif"), "").unwrap();
    let words = ["caption", "--run", "digits", "--image", "a.gif"];
    let (usage, message) = complaint(dir, &words);
    let told = "is no run of train-mllm: it is one of train-video, for `sample-video`, `caption` and `eval-video`";
    assert!(!usage && message.ends_with(told), "{message}");
    let words = ["caption", "--video", "a.gif"];
    parse(&words).unwrap().check(&Project::at(dir)).unwrap();
}

#[test]
fn overrides_have_a_form() {
    let dir = tempfile::tempdir().unwrap();
    for command in [&["train-image"][..], &["compare", "sigma"]] {
        let words = [command, &["lm.width=96", "steps"]].concat();
        let (usage, message) = complaint(dir.path(), &words);
        assert!(
            usage && message.contains("`steps` is not of the form"),
            "{message}"
        );
    }
    let good = ["train-image", "lm.width=96", "data.path=a b"];
    parse(&good)
        .unwrap()
        .check(&Project::at(dir.path()))
        .unwrap();
}
