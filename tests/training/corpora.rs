//! Runs on corpora of speech of which not everything can be used.

use std::fs;
use std::path::Path;

use burn::tensor::Device;
use latentlm_data::speech::{Skipped, read_audio, write_wav};
use latentlm_data::{TextTokenizer, TokenizerKind};
use latentlm_eval::{EvaluateSpeechOptions, SpeechJudges, evaluate_speech, unshown};
use latentlm_pipelines::{RunFolder, SpeechRecipe, Wanted};
use latentlm_train::RunEnd;

use crate::runs::alone;
use crate::speech::{run, tiny, voice};

/// Writes a corpus of tones, half a second each: split, text and loudest sample of each.
fn write_tones(corpus: &Path, tones: &[(&str, &str, f32)]) {
    fs::create_dir(corpus).unwrap();
    let mut lines = String::new();
    for (index, (split, text, level)) in tones.iter().enumerate() {
        let tone: Vec<f32> = (0..8000).map(|i| level * (i as f32 * 0.1).sin()).collect();
        write_wav(&corpus.join(format!("{index}.wav")), &tone, 16_000).unwrap();
        lines += &format!(r#"{{"audio": "{index}.wav", "text": "{text}", "split": "{split}"}}"#);
        lines += "\n";
    }
    fs::write(corpus.join("metadata.jsonl"), lines).unwrap();
}

#[test]
fn a_corpus_with_broken_files_trains_on_the_rest_and_lists_them() {
    let _turn = alone();
    let dir = tempfile::tempdir().unwrap();
    let corpus = dir.path().join("corpus");
    write_tones(
        &corpus,
        &[
            ("train", "word 0", 0.2),
            ("train", "word 1", 0.2),
            ("train", "word 2", 0.2),
            ("test", "word 3", 0.2),
        ],
    );
    // One is no sound at all; another has a good header and a body that is cut.
    fs::write(corpus.join("0.wav"), "not sound").unwrap();
    let good = fs::read(corpus.join("1.wav")).unwrap();
    fs::write(corpus.join("1.wav"), &good[..9000]).unwrap();
    assert!(read_audio(&corpus.join("1.wav")).is_err());
    let path = dir.path().join("r");
    let refused = run(&path, &tiny(&corpus, &["data.composed=0"]), false, false);
    let message = refused.unwrap_err().to_string();
    let part =
        "2 of 4 samples can't be used, and no more than 5.0 % may be left out (data.max_broken)";
    assert!(message.contains(part), "{message}");
    assert!(!path.exists(), "nothing is left behind");
    let recipe = tiny(&corpus, &["data.composed=0", "data.max_broken=1"]);
    let first = run(&path, &recipe, false, false).unwrap();
    assert_eq!(left_out(&first), ["0.wav", "1.wav"]);
    let list = fs::read_to_string(path.join("skipped.txt")).unwrap();
    let cut = corpus.join("1.wav");
    assert!(list.ends_with(&format!("{}\tis cut short\n", cut.display())));
    let html = fs::read_to_string(path.join("report.html")).unwrap();
    assert!(html.contains("Left out") && html.contains("is cut short"));

    // What the codec's stage found out is not forgotten when a run goes on behind it.
    fs::remove_dir_all(path.join("checkpoints/lm")).unwrap();
    for _ in 0..2 {
        let again = run(&path, &recipe, true, false).unwrap();
        assert_eq!(left_out(&again), ["0.wav", "1.wav"]);
    }
}

/// `data check` names silent recordings; training on the rest would end as a success.
#[test]
fn a_corpus_that_is_half_silent_is_refused_before_its_first_step() {
    let dir = tempfile::tempdir().unwrap();
    let corpus = dir.path().join("corpus");
    write_tones(
        &corpus,
        &[
            ("train", "word 0", 0.0),
            ("train", "word 1", 0.0),
            ("train", "word 2", 0.2),
            ("test", "word 3", 0.2),
        ],
    );
    let path = dir.path().join("r");
    let refused = run(&path, &tiny(&corpus, &["data.composed=0"]), false, false);
    let message = refused.unwrap_err().to_string();
    for part in [
        "2 of 4 samples can't be used",
        "0.wav: is silent: no sample is louder",
    ] {
        assert!(message.contains(part), "{message}");
    }
    assert!(!path.exists(), "nothing is left behind");
}

/// Names of the recordings that a finished run left out.
fn left_out(end: &RunEnd) -> Vec<String> {
    let RunEnd::Finished { skipped, .. } = end else {
        panic!("not finished: {end:?}");
    };
    let name = |skipped: &Skipped| skipped.path.file_name().unwrap().display().to_string();
    skipped.iter().map(name).collect()
}

/// A vocabulary of characters, as a file.
fn write_vocabulary(path: &Path, characters: &str) {
    let texts = [characters.to_owned()];
    let tokenizer = TextTokenizer::train(TokenizerKind::Characters, &texts, 64).unwrap();
    fs::write(path, tokenizer.to_json().unwrap()).unwrap();
}

#[test]
fn texts_outside_the_vocabulary_are_left_out_and_listed() {
    let _turn = alone();
    let dir = tempfile::tempdir().unwrap();
    let (corpus, vocabulary) = (dir.path().join("corpus"), dir.path().join("words.json"));
    write_vocabulary(&vocabulary, "one two");
    write_tones(
        &corpus,
        &[
            ("train", "one two", 0.2),
            ("train", "zwei", 0.2),
            ("train", "two one", 0.2),
            ("test", "drei", 0.2),
            ("test", &"one ".repeat(100), 0.2),
            ("test", "two", 0.2),
        ],
    );
    let words = format!("text.path={}", vocabulary.display());
    let recipe = tiny(&corpus, &["data.composed=0", &words]);
    let path = dir.path().join("r");
    let end = run(&path, &recipe, false, false).unwrap();
    assert_eq!(left_out(&end), ["1.wav", "3.wav"]);

    // One held-out text can't be encoded, another is longer than the context: the third is spoken.
    let options = EvaluateSpeechOptions {
        samples: 3,
        seed: 0,
        sample: recipe.sample_options(),
        judges: SpeechJudges::default(),
        hard_texts: 0,
        held_out_voices: None,
        weights: None,
        phase: unshown,
    };
    let measured = evaluate_speech(&path, &options, &Device::default()).unwrap();
    assert!(
        measured.values.contains_key("recordings_length_ratio"),
        "{measured:?}"
    );
    assert_eq!(measured.values["texts_refused"], 2.0);
    let list = fs::read_to_string(path.join("skipped.txt")).unwrap();
    for (name, part) in [
        ("1.wav", "`z` is outside the vocabulary"),
        ("3.wav", "`d` is outside the vocabulary"),
        ("4.wav", "more than the 200"),
    ] {
        let line = list.lines().find(|line| line.contains(name));
        assert!(line.is_some_and(|line| line.contains(part)), "{list}");
    }
    assert_eq!(list.lines().count(), 3, "{list}");
}

#[test]
fn a_resumed_run_keeps_its_vocabulary() {
    let _turn = alone();
    let dir = tempfile::tempdir().unwrap();
    let vocabulary = dir.path().join("letters.json");
    let letters = format!("text.path={}", vocabulary.display());
    let recipe = tiny(&voice(), &[&letters]);
    let path = dir.path().join("r");
    let missing = run(&path, &recipe, false, true).unwrap_err().to_string();
    assert!(missing.contains("letters.json"), "{missing}");
    assert!(
        !path.exists(),
        "a run that can't begin leaves nothing behind"
    );

    write_vocabulary(&vocabulary, "abcdefghijklmnopqrstuvwxyz '");
    run(&path, &recipe, false, true).unwrap();
    let newest = || {
        let (run, _) = RunFolder::<SpeechRecipe>::open(&path).unwrap();
        run.latest("lm", Wanted::Everything).unwrap()
    };
    for _ in 0..4 {
        if newest().is_none() {
            run(&path, &recipe, true, true).unwrap();
        }
    }
    let tokenizer = || fs::read_to_string(newest().unwrap().folder.join("tokenizer.json")).unwrap();
    let before = tokenizer();
    // As many tokens for other characters: the weights would fit, what they mean would not.
    write_vocabulary(&vocabulary, "ABCDEFGHIJKLMNOPQRSTUVWXYZ '");
    let end = run(&path, &recipe, true, false).unwrap();
    assert_eq!(left_out(&end), Vec::<String>::new());
    assert_eq!(newest().unwrap().manifest.step, 3);
    assert_eq!(tokenizer(), before);
}
