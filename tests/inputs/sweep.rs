//! Every key of every recipe that ships, at values that nobody means. Each is refused in one line, or makes a
//! recipe, within a second, and nothing panics.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use latentlm_compare::{
    CompareMllmRecipe, CompareRecipe, CompareTtsRecipe, FastMllmRecipe, FastTtsRecipe, HeadsRecipe,
    LatentsRecipe, SigmaRecipe,
};
use latentlm_keys::Kind;
use latentlm_pipelines::{
    ImageRecipe, MllmRecipe, PipelineError, Recipe, SpeechRecipe, VideoRecipe,
};
use latentlm_tests::repository;

/// In TOML: whole numbers and fractions.
const ABSURD: [&str; 13] = [
    "0",
    "-1",
    "0.0",
    "-1.0",
    "1000000000",
    "1e9",
    "9223372036854775807",
    "-9223372036854775808",
    "1e-300",
    "1e300",
    "inf",
    "-inf",
    "nan",
];
/// Longest time to say what is wrong with a recipe.
const LONGEST: Duration = Duration::from_secs(1);
/// The fastest of so many tries counts: the machine may be busy with other tests.
const TRIES: usize = 5;

/// The recipes of a folder of `configs`.
fn recipes(folder: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(repository("configs").join(folder)).unwrap();
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert!(files.len() > 1, "{folder}");
    files
}

/// The overrides that give each key of a recipe each absurd value.
fn changes<R: Recipe>() -> Vec<String> {
    let mut changes = Vec::new();
    for (name, key) in R::keys().iter() {
        for value in ABSURD {
            changes.push(match key.kind {
                Kind::Integers | Kind::Numbers | Kind::List => format!("{name}=[{value}]"),
                _ => format!("{name}={value}"),
            });
        }
    }
    changes
}

/// The recipe of a file with overrides, and the time that it took.
fn resolve<R: Recipe>(file: &Path, changes: &[String]) -> (Result<R, PipelineError>, Duration) {
    let mut fastest = Duration::MAX;
    let mut tries = 0;
    loop {
        let start = Instant::now();
        let resolved = R::resolve(Some(file), changes);
        fastest = fastest.min(start.elapsed());
        tries += 1;
        if fastest < LONGEST || tries == TRIES {
            return (resolved, fastest);
        }
    }
}

fn sweep<R: Recipe>(file: &Path) {
    let (mut taken, mut refused) = (0, 0);
    for change in changes::<R>() {
        let (resolved, time) = resolve::<R>(file, std::slice::from_ref(&change));
        let place = || format!("{} {change}", file.display());
        assert!(time < LONGEST, "{}: {time:?}", place());
        match resolved {
            Ok(recipe) => {
                taken += 1;
                let (_, value) = change.split_once('=').unwrap();
                let finite = !(value.contains("inf") || value.contains("nan"));
                assert!(finite, "{}", place());
                // What is taken is whole: it can be written and checked once more.
                recipe.validate().unwrap();
                recipe.to_toml().unwrap();
            }
            Err(error) => {
                refused += 1;
                let message = error.to_string();
                assert!(message.len() < 500, "{}: {message}", place());
                assert!(
                    !message.contains(char::is_control),
                    "{}: {message}",
                    place()
                );
                assert!(error.is_usage(), "{}: {message}", place());
            }
        }
    }
    // Zero is a value of many keys; most others are of none.
    assert!(refused > taken, "{refused} refused, {taken} taken");
}

#[test]
fn keys_of_image_recipes() {
    for file in recipes("image") {
        sweep::<ImageRecipe>(&file);
    }
}

#[test]
fn keys_of_speech_recipes() {
    for file in recipes("tts") {
        sweep::<SpeechRecipe>(&file);
    }
}

#[test]
fn keys_of_recipes_of_text_and_pictures() {
    for file in recipes("mllm") {
        sweep::<MllmRecipe>(&file);
    }
}

#[test]
fn keys_of_recipes_of_clips() {
    for file in recipes("video") {
        sweep::<VideoRecipe>(&file);
    }
}

/// That an override of a comparison is refused in one line that has this part.
fn refused<R: Recipe>(change: &str, part: &str) {
    let resolved = R::resolve(None, &[change.to_owned()]);
    let error = resolved
        .err()
        .unwrap_or_else(|| panic!("{change} is taken"));
    let message = error.to_string();
    assert!(message.contains(part), "{change}: {message}");
    assert!(!message.contains('\n') && error.is_usage(), "{message}");
}

/// Values that have the type of their key, and that nobody can mean.
#[test]
fn comparisons_of_nothing_are_refused() {
    for (change, part) in [
        ("heads.seeds=0", "`heads.seeds` must be"),
        ("heads.samples=1", "`heads.samples` must be"),
        ("image.lm_train.steps=0", "`image.lm_train.steps` must be"),
        (
            "image.codec_train.steps=0",
            "`image.codec_train.steps` must be",
        ),
        ("heads.variants=,", "heads.variants names none"),
        ("heads.variants=\" \"", "heads.variants names none"),
        (
            "heads.variants=default,unheard-of",
            "heads.variants has no `unheard-of`",
        ),
    ] {
        refused::<HeadsRecipe>(change, part);
    }
    refused::<LatentsRecipe>("latents.seeds=0", "`latents.seeds` must be");
    refused::<LatentsRecipe>("latents.variants=,,", "latents.variants names none");
    refused::<LatentsRecipe>("latents.variants=x", "latents.variants has no `x`");
    refused::<SigmaRecipe>("noise_stds=[]", "noise_stds must have one value at least");
    refused::<SigmaRecipe>("noise_stds=[0.5, 0.5]", "and rise");
    refused::<SigmaRecipe>("samples=0", "`samples` must be");
    refused::<CompareTtsRecipe>("frames_per_latent=[]", "must name one model each");
    refused::<CompareTtsRecipe>("groups=[]", "must name one model each");
    refused::<CompareTtsRecipe>("speech.lm_train.steps=0", "`speech.lm_train.steps` must be");
    refused::<CompareTtsRecipe>("speech.lm_train.steps=7", "set minutes=0");
    refused::<CompareTtsRecipe>("minutes=-1", "`minutes` must be");
    refused::<CompareRecipe>("evaluate.samples=0", "`evaluate.samples` must be");
    refused::<CompareMllmRecipe>("mllm.lm_train.steps=0", "`mllm.lm_train.steps` must be");
}

#[test]
fn keys_of_comparisons() {
    let folder = repository("configs/compare");
    sweep::<CompareRecipe>(&folder);
    sweep::<CompareMllmRecipe>(&folder.join("mllm.toml"));
    sweep::<CompareTtsRecipe>(&folder.join("tts.toml"));
    sweep::<SigmaRecipe>(&folder.join("sigma.toml"));
    sweep::<HeadsRecipe>(&folder.join("heads.toml"));
    sweep::<LatentsRecipe>(&folder.join("latents.toml"));
    sweep::<FastTtsRecipe>(&folder.join("fast_tts.toml"));
    sweep::<FastMllmRecipe>(&folder.join("fast_mllm.toml"));
}
