//! Tests of the arguments of commands that train.

use super::*;
use crate::Progress;

#[test]
fn training_has_the_defaults_that_its_help_says() {
    for (words, run) in [
        (&["train-image"][..], "mnist"),
        (&["train-tts"], "voice"),
        (&["train-mllm"], "emoji"),
        (&["train-video"], "digits"),
        (&["compare", "image"], "compare"),
        (&["compare", "mllm"], "compare-mllm"),
        (&["compare", "tts"], "compare-tts"),
        (&["compare", "sigma"], "sigma"),
        (&["compare", "heads"], "heads"),
        (&["compare", "latents"], "latents"),
        (&["compare", "fast-tts"], "fast-tts"),
        (&["compare", "fast-mllm"], "fast-mllm"),
    ] {
        let (name, training) = match parse(words).unwrap() {
            Command::TrainImage(args) => (args.run, args.training),
            Command::TrainTts(args) => (args.run, args.training),
            Command::TrainMllm(args) => (args.run, args.training),
            Command::TrainVideo(args) => (args.run, args.training),
            Command::Compare(Compare::Image(args)) => (args.run, args.training),
            Command::Compare(Compare::Mllm(args)) => (args.run, args.training),
            Command::Compare(Compare::Tts(args)) => (args.run, args.training),
            Command::Compare(Compare::Sigma(args)) => (args.run, args.training),
            Command::Compare(Compare::Heads(args)) => (args.run, args.training),
            Command::Compare(Compare::Latents(args)) => (args.run, args.training),
            Command::Compare(Compare::FastTts(args)) => (args.run, args.training),
            Command::Compare(Compare::FastMllm(args)) => (args.run, args.training),
            other => panic!("{other:?}"),
        };
        assert_eq!(name, run);
        assert_eq!(training.device, "cpu");
        assert_eq!(training.progress, Progress::Auto);
        assert!(!training.resume && !training.without_kernels);
        assert!(training.config.is_none() && training.overrides.is_empty());
    }
}

/// The run that another begins from gives its recipe, unless a file is named.
#[test]
fn a_run_begins_from_another() {
    let training = |words: &[&str]| match parse(words) {
        Ok(Command::TrainImage(args)) => args.training,
        other => panic!("{other:?}"),
    };
    let from = training(&["train-image", "--from", "first", "lm.batch_mul=8"]);
    assert_eq!(
        from.all_overrides(),
        ["lm.from=runs/first", "lm.batch_mul=8"]
    );
    assert_eq!(from.recipe_of("own"), Some("runs/first".into()));
    let file = training(&["train-image", "--from", "first", "--config", "a.toml"]);
    assert_eq!(file.recipe_of("own"), None);
    let resumed = training(&["train-image", "--resume"]);
    assert_eq!(resumed.recipe_of("own"), Some("runs/own".into()));
    assert!(resumed.all_overrides().is_empty());
    let both = refusal(&["train-image", "--from", "first", "--resume"]);
    assert!(both.contains("cannot be used with"), "{both}");
    for earlier in [&["--from", "first"][..], &["--resume"]] {
        let words = [&["train-image", "--accept-changed-data"][..], earlier].concat();
        assert!(training(&words).accept_changed_data, "{words:?}");
    }
    let neither = refusal(&["train-image", "--accept-changed-data"]);
    assert!(neither.contains("required arguments"), "{neither}");
}
