//! Properties that hold for any recipe, manifest and text: `proptest` draws them, the same in every run.

use std::cell::Cell;
use std::fs;
use std::path::Path;

use latentlm_data::{TextTokenizer, TokenizerKind, normal_text};
use latentlm_keys::{Key, Kind, Value, overrides};
use latentlm_pipelines::{
    ImageRecipe, KnownText, Manifest, MllmRecipe, Recipe, SkippedSteps, SpeechRecipe, VideoRecipe,
};
use proptest::prelude::*;
use proptest::sample::Index;
use proptest::test_runner::{Config, RngAlgorithm, TestCaseResult, TestRng, TestRunner};
use unicode_normalization::is_nfc;

/// Holds a property against drawn values; the smallest that breaks it is in the panic.
fn hold<S: Strategy>(cases: u32, strategy: S, property: impl Fn(S::Value) -> TestCaseResult) {
    let config = Config {
        cases,
        failure_persistence: None,
        ..Config::default()
    };
    let random = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    let mut runner = TestRunner::new_with_rng(config, random);
    if let Err(error) = runner.run(&strategy, property) {
        panic!("{error}");
    }
}

/// A key, where its value lies between its bounds, and a text for keys that are one.
type Pick = (Index, f64, String);

fn picks() -> impl Strategy<Value = Vec<Pick>> {
    prop::collection::vec((any::<Index>(), 0.0..=1.0, any::<String>()), 1..4)
}

/// Overrides of a recipe with values in the ranges of their keys.
fn changes<R: Recipe>(picks: &[Pick]) -> Vec<String> {
    let keys: Vec<(&str, &Key)> = R::keys().iter().collect();
    let change = |(index, share, text): &Pick| {
        let (name, key) = keys[index.index(keys.len())];
        format!("{name}={}", value(key, *share, text))
    };
    picks.iter().map(change).collect()
}

/// A value of a key.
fn value(key: &Key, share: f64, text: &str) -> Value {
    let low = key.min.or(key.above).unwrap_or(-1e3);
    let high = key.max.or(key.below).unwrap_or(1e3);
    // Most keys are near their lower end: the square root of their bounds is far away already.
    let number = low + (high - low) * share.powi(4);
    if !key.choices.is_empty() {
        let place = share * key.choices.len() as f64;
        return key.choices[(place as usize).min(key.choices.len() - 1)].clone();
    }
    match key.kind {
        Kind::Integer => Value::Integer(number as i64),
        Kind::Number => Value::Float(plain(number)),
        Kind::Boolean => Value::Boolean(share < 0.5),
        Kind::Integers => Value::Array(vec![Value::Integer(number as i64); 2]),
        Kind::Numbers | Kind::List => Value::Array(vec![Value::Float(plain(number)); 2]),
        Kind::Text | Kind::Path | Kind::OptionalPath | Kind::Choice => Value::String(text.into()),
    }
}

/// A number of few digits, as people write them.
fn plain(number: f64) -> f64 {
    format!("{number:.4e}").parse().unwrap_or(number)
}

/// What resolves is written, and reads back as it was. What does not is refused in one line.
fn reads_back<R: Recipe>(cases: u32) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("config.toml");
    let taken = Cell::new(0);
    hold(cases, picks(), |picks| {
        let changes = changes::<R>(&picks);
        match R::resolve(None, &changes) {
            Ok(recipe) => {
                taken.set(taken.get() + 1);
                fs::write(&path, recipe.to_toml().unwrap()).unwrap();
                let read = R::resolve(Some(&path), &[]);
                prop_assert_eq!(read.map_err(|error| error.to_string()), Ok(recipe));
            }
            Err(error) => {
                let message = error.to_string();
                prop_assert!(!message.contains('\n'), "{:?}: {}", changes, message);
                prop_assert!(error.is_usage(), "{:?}: {}", changes, message);
            }
        }
        Ok(())
    });
    assert!(
        taken.get() > cases / 10,
        "{} of {cases} are taken",
        taken.get()
    );
}

#[test]
fn recipes_read_back_as_they_were_written() {
    reads_back::<ImageRecipe>(300);
    reads_back::<SpeechRecipe>(300);
    reads_back::<MllmRecipe>(300);
    reads_back::<VideoRecipe>(300);
}

/// Any number, with all its digits.
#[test]
fn numbers_of_recipes_keep_every_digit() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("config.toml");
    hold(200, 1e-9..1000.0, |rate: f64| {
        let change = format!("lm_train.learning_rate={rate:?}");
        let recipe = ImageRecipe::resolve(None, &[change]).unwrap();
        prop_assert_eq!(recipe.lm_train.learning_rate, rate);
        fs::write(&path, recipe.to_toml().unwrap()).unwrap();
        let read = ImageRecipe::resolve(Some(&path), &[]).unwrap();
        prop_assert_eq!(read, recipe);
        Ok(())
    });
}

/// A manifest reads back as it was written, whatever it says.
fn manifest_reads_back<R: Recipe>(cases: u32) {
    let taken = Cell::new(0);
    let words = (
        picks(),
        prop::collection::vec(any::<String>(), 0..4),
        any::<String>(),
        (any::<u64>(), any::<u64>()),
        prop::option::of([-100.0_f32..100.0, 0.001..100.0]),
        (any::<u64>(), prop::collection::vec(any::<u64>(), 0..4)),
    );
    hold(cases, words, |words| {
        let (picks, classes, fingerprint, (step, seed), whitening, (total, recent)) = words;
        let Ok(recipe) = R::resolve(None, &changes::<R>(&picks)) else {
            return Ok(());
        };
        taken.set(taken.get() + 1);
        let manifest = Manifest {
            step,
            seed,
            whitening,
            skipped_steps: SkippedSteps { total, recent },
            ..Manifest::new("lm", &recipe, &classes, &fingerprint)
        };
        let json = serde_json::to_vec_pretty(&manifest).unwrap();
        let read = Manifest::<R>::from_bytes(&json, Path::new("manifest.json"));
        prop_assert_eq!(read.map_err(|error| error.to_string()), Ok(manifest));
        Ok(())
    });
    assert!(
        taken.get() > cases / 10,
        "{} of {cases} are taken",
        taken.get()
    );
}

#[test]
fn manifests_read_back_as_they_were_written() {
    manifest_reads_back::<ImageRecipe>(200);
    manifest_reads_back::<SpeechRecipe>(200);
    manifest_reads_back::<MllmRecipe>(200);
    manifest_reads_back::<VideoRecipe>(200);
}

/// Overrides are text from a terminal: anything. What is said of them can be printed there.
#[test]
fn any_override_is_parted_or_refused_in_one_line() {
    hold(500, texts(), |text| {
        match overrides::split(&text) {
            Ok((key, value)) => {
                prop_assert!(!key.is_empty() && !key.contains(char::is_whitespace));
                prop_assert_eq!(value, value.trim());
            }
            Err(error) => {
                let message = error.to_string();
                prop_assert!(!message.contains(char::is_control), "{}", message);
                prop_assert!(message.len() < 1000, "{}", message);
            }
        }
        Ok(())
    });
}

/// Characters that texts trip over, among any others.
const TRICKY: [char; 24] = [
    ' ', '\t', '\n', '\r', '\0', '\u{1b}', '\u{85}', '\u{a0}', '\u{2028}', '\u{3000}', '\u{200d}',
    '\u{feff}', '\u{301}', '\u{308}', '\u{345}', 'e', '\u{e9}', '\u{1112}', '\u{1161}', '\u{11ab}',
    '\u{212b}', '\u{fb01}', '=', '.',
];

fn texts() -> impl Strategy<Value = String> {
    let tricky = prop::sample::select(TRICKY.to_vec());
    let letters = prop::collection::vec(prop_oneof![tricky, any::<char>()], 0..40);
    letters.prop_map(|letters| letters.into_iter().collect())
}

#[test]
fn normal_texts_are_normal() {
    hold(2000, texts(), |text| {
        let normal = normal_text(&text);
        prop_assert_eq!(&normal_text(&normal), &normal);
        prop_assert!(is_nfc(&normal), "{:?}", normal);
        prop_assert!(!normal.contains('\u{feff}'), "{:?}", normal);
        prop_assert_eq!(normal.trim(), &normal);
        let spaces = |c: char| c.is_whitespace() && c != ' ';
        prop_assert!(!normal.contains(spaces) && !normal.contains("  "));
        // Nothing but white space and marks of byte order is lost.
        let empty = text.chars().all(|c| c.is_whitespace() || c == '\u{feff}');
        prop_assert_eq!(normal.is_empty(), empty);
        Ok(())
    });
}

/// Nothing of a training text is unheard, also after a round trip through a file.
#[test]
fn what_training_had_is_known() {
    hold(500, prop::collection::vec(texts(), 0..4), |texts| {
        let known = KnownText::of(&texts);
        let unheard = known.unheard(&texts);
        prop_assert!(unheard.is_empty(), "{:?}", unheard);
        let read = KnownText::from_json(&known.to_json().unwrap()).unwrap();
        prop_assert_eq!(read, known);
        Ok(())
    });
}

/// Bytes can say any text: it comes back as it was, once it is normal.
#[test]
fn tokens_of_bytes_keep_the_text() {
    let corpus = ["three five nine", "five three", "nine nine three"].map(String::from);
    let tokenizer = TextTokenizer::train(TokenizerKind::ByteLevelBpe, &corpus, 300).unwrap();
    let json = tokenizer.to_json().unwrap();
    let read = TextTokenizer::from_bytes(json.as_bytes(), Path::new("tokenizer.json")).unwrap();
    hold(500, texts(), |text| {
        let normal = normal_text(&text);
        let Ok(tokens) = tokenizer.encode(&text) else {
            prop_assert!(normal.is_empty(), "{:?} is refused", text);
            return Ok(());
        };
        prop_assert_eq!(read.encode(&text).unwrap(), tokens.clone());
        prop_assert_eq!(tokenizer.decode(&tokens).unwrap(), normal);
        Ok(())
    });
}
