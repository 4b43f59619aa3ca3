//! Tests of what is checked of a recipe without tensors.

use super::*;

/// The project that this crate lies in.
fn ours() -> Project {
    Project::at(Path::new(env!("CARGO_MANIFEST_DIR")).join("../.."))
}

const TRAINING: [&[&str]; 11] = [
    &["train-image"],
    &["train-tts"],
    &["train-mllm"],
    &["train-video"],
    &["compare", "image"],
    &["compare", "mllm"],
    &["compare", "sigma"],
    &["compare", "heads"],
    &["compare", "latents"],
    &["compare", "fast-tts"],
    &["compare", "fast-mllm"],
];

#[test]
fn shipped_recipes_pass_without_tensors() {
    for words in TRAINING {
        parse(words).unwrap().check_recipe(&ours()).unwrap();
    }
    for (words, folder) in [
        (&["train-image"][..], "configs/image"),
        (&["train-tts"], "configs/tts"),
        (&["train-mllm"], "configs/mllm"),
        (&["train-video"], "configs/video"),
    ] {
        for entry in fs::read_dir(ours().path(folder.as_ref())).unwrap() {
            let file = Path::new(folder).join(entry.unwrap().file_name());
            let words = [words, &["--config", file.to_str().unwrap()]].concat();
            // Some are for data that does not ship.
            match parse(&words).unwrap().check_recipe(&ours()) {
                Ok(()) | Err(ArgsError::Io { .. }) => {}
                Err(error) => panic!("{words:?}: {error}"),
            }
        }
    }
    let folder = [
        "compare",
        "image",
        "--config",
        "configs/compare",
        "dit.depth=5",
    ];
    parse(&folder).unwrap().check_recipe(&ours()).unwrap();
}

/// The key of an example is one of the recipe: a comparison has the model's keys in a table.
#[test]
fn a_word_that_is_no_override_is_refused_with_a_key_of_the_recipe() {
    for (command, key) in [
        (&["train-image", "--run", "not/begun"][..], "lm_train.steps"),
        (
            &["compare", "image", "--run", "not/begun"],
            "image.lm_train.steps",
        ),
    ] {
        let words = [command, &["steps"]].concat();
        let error = parse(&words).unwrap().check(&ours()).unwrap_err();
        let end = format!("is not of the form key=value, e.g. {key}=200");
        assert!(error.to_string().ends_with(&end), "{error}");
    }
}

/// A run that goes on may have what it took from the run that it began from.
#[test]
fn a_run_goes_on_although_the_one_that_it_began_from_is_gone() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("config.toml"), "[lm]\nfrom = \"gone\"\n").unwrap();
    let run = dir.path().to_str().unwrap();
    let resumed = parse(&["train-image", "--resume", "--run", run]).unwrap();
    resumed.check_recipe(&ours()).unwrap();
    let begun = parse(&["train-image", "lm.from=gone"]).unwrap();
    let message = begun.check_recipe(&ours()).unwrap_err().to_string();
    assert!(message.starts_with("cannot read gone: "), "{message}");
}

#[test]
fn keys_and_values_are_known_without_tensors() {
    for (words, usage, wanted) in [
        (
            &["train-image", "lm.widht=96"][..],
            true,
            "override `lm.widht=96`: unknown key `lm.widht`; did you mean `lm.width`?",
        ),
        (
            &["train-image", "codec_train.clip_norm=inf"],
            true,
            "override `codec_train.clip_norm=inf`: `codec_train.clip_norm` must be 0 or a number \
             from 1e-6 to 1000000, not inf",
        ),
        (
            &["train-tts", "codec.width=1000000000"],
            true,
            "override `codec.width=1000000000`: `codec.width` must be a whole number from 1 to 4096, \
             not 1000000000",
        ),
        (
            &["train-mllm", "lm.prediction=Sample"],
            true,
            "override `lm.prediction=Sample`: `lm.prediction` must be one of \"Velocity\", \"Epsilon\", \
             not \"Sample\"",
        ),
        (
            &["compare", "image", "image.codec.conv=1"],
            true,
            "override `image.codec.conv=1`: `image.codec.conv` must be a table, not 1",
        ),
        (
            &["compare", "sigma", "noise_stds=[0.5, nan]"],
            true,
            "override `noise_stds=[0.5, nan]`: `noise_stds` must be a list of at most 100 numbers from \
             0 to 100, not [0.5, nan]",
        ),
        (
            &["train-image", "--config", "configs/tts/voice.toml"],
            true,
            "configs/tts/voice.toml: ",
        ),
        (
            &["train-image", "data.path=gone"],
            false,
            "cannot open the dataset gone: ",
        ),
        (
            &["train-mllm", "text.path=gone.json"],
            false,
            "cannot read gone.json: ",
        ),
    ] {
        let error = parse(words).unwrap().check_recipe(&ours()).unwrap_err();
        let message = error.to_string();
        assert!(message.starts_with(wanted), "{words:?}: {message}");
        assert_eq!(error.is_usage(), usage, "{words:?}");
    }
}
