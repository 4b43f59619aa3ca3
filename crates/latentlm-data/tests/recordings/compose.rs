//! Tests of composed utterances.

use std::collections::HashSet;
use std::fs;
use std::path::Path;

use latentlm_data::Split;
use latentlm_data::speech::{Composer, Composition, check_speech, number_words, wav_bytes};

use crate::{RATE, metadata, open, put};

const ORDINALS: [&str; 21] = [
    "first",
    "second",
    "third",
    "fourth",
    "fifth",
    "sixth",
    "seventh",
    "eighth",
    "ninth",
    "tenth",
    "eleventh",
    "twelfth",
    "thirteenth",
    "fourteenth",
    "fifteenth",
    "sixteenth",
    "seventeenth",
    "eighteenth",
    "nineteenth",
    "twentieth",
    "thirtieth",
];

const DAYS: [&str; 7] = [
    "monday",
    "tuesday",
    "wednesday",
    "thursday",
    "friday",
    "saturday",
    "sunday",
];

const MONTHS: [&str; 12] = [
    "january",
    "february",
    "march",
    "april",
    "may",
    "june",
    "july",
    "august",
    "september",
    "october",
    "november",
    "december",
];

/// Every word of every group.
fn all_words() -> Vec<(&'static str, String)> {
    let mut list = vec![("digit", "zero".to_owned()), ("digit", "oh".to_owned())];
    list.extend((1..10).map(|digit| ("digit", number_words(digit))));
    let numbers = (10..20).chain((20..100).step_by(10));
    list.extend(numbers.map(|number| ("number", number_words(number))));
    let mut add = |group, words: &[&str]| {
        list.extend(words.iter().map(|word| (group, (*word).to_owned())));
    };
    add("number", &["hundred", "thousand"]);
    add("ordinal", &ORDINALS);
    add("day", &DAYS);
    add("month", &MONTHS);
    list.extend(('a'..='z').map(|c| ("letter", c.to_string())));
    list
}

/// A corpus in which each word clip is a constant signal with a level and a length of its own.
fn word_corpus(folder: &Path, words: &[(&str, String)], speakers: &[&str]) -> Vec<(String, usize)> {
    let mut lines = Vec::new();
    let mut clips = Vec::new();
    for speaker in speakers {
        for (group, word) in words {
            let length = 160 * (5 + clips.len() % 7);
            clips.push((word.clone(), length));
            // From 0.25 up: far apart for 16 bits, and none 40 dB below another.
            let level = 0.25 + clips.len() as f32 * 0.001;
            let name = format!("{speaker}/{group}-{word}.wav");
            put(&folder.join(&name), &wav_bytes(&vec![level; length], RATE));
            lines.push(format!(
                "{{\"audio\": \"{name}\", \"text\": \"{word}\", \"group\": \"{group}\", \
                 \"speaker\": \"{speaker}\", \"split\": \"train\"}}"
            ));
        }
    }
    metadata(
        folder,
        &lines.iter().map(String::as_str).collect::<Vec<_>>(),
    );
    clips
}

/// The words in a composed signal, recognized by their levels, and the lengths of the silences around them.
fn heard(samples: &[f32], clips: &[(String, usize)]) -> (Vec<usize>, Vec<usize>) {
    let (mut found, mut silences) = (Vec::new(), Vec::new());
    let mut runs = samples.chunk_by(|a, b| a == b);
    silences.push(runs.next().unwrap().len());
    while let Some(run) = runs.next() {
        let clip = ((run[0] - 0.25) / 0.001).round() as usize - 1;
        assert_eq!(run.len(), clips[clip].1, "whole clips");
        found.push(clip);
        let silence = runs.next().unwrap();
        assert!(silence.iter().all(|&x| x == 0.0));
        silences.push(silence.len());
    }
    (found, silences)
}

#[test]
fn composed_sound_is_its_text_with_pauses() {
    let dir = tempfile::tempdir().unwrap();
    let clips = word_corpus(dir.path(), &all_words(), &["ann", "bob"]);
    let composer = Composer::new(&open(dir.path(), Split::Train)).unwrap();
    let composer = composer.on_grid(320);
    assert_eq!(composer.kinds(), Composition::ALL);
    let mut voices = HashSet::new();
    for kind in Composition::ALL {
        let mut texts = HashSet::new();
        for index in 0..100 {
            let made = composer.utterance(kind, Split::Train, 7, index);
            assert_eq!(made.kind, kind);
            let (found, silences) = heard(&made.samples, &clips);
            let said: Vec<&str> = found.iter().map(|&clip| clips[clip].0.as_str()).collect();
            assert_eq!(said.join(" "), made.text);
            // An utterance has clips of one speaker only. Those of the second speaker have the higher indices.
            let speakers: HashSet<&str> = found
                .iter()
                .map(|&clip| if clip < clips.len() / 2 { "ann" } else { "bob" })
                .collect();
            assert_eq!(speakers, HashSet::from([made.speaker.as_str()]));
            voices.insert(made.speaker.clone());
            let (last, pauses) = silences.split_last().unwrap();
            let (first, pauses) = pauses.split_first().unwrap();
            // Margins of 60 to 120 ms and pauses of 40 to 160 ms, both up to 20 ms longer because of the grid.
            for margin in [first, last] {
                assert!((960..1920 + 320).contains(margin), "{margin}");
            }
            for pause in pauses {
                assert!((640..2560 + 320).contains(pause), "{pause}");
            }
            let mut place = 0;
            assert_eq!(made.words.len(), found.len());
            for ((silence, clip), word) in silences.iter().zip(&found).zip(&made.words) {
                place += silence;
                assert!(place.is_multiple_of(320), "a clip at {place}");
                place += clips[*clip].1;
                assert_eq!(
                    (word.text.as_str(), word.end),
                    (clips[*clip].0.as_str(), place)
                );
            }
            texts.insert(made.text);
        }
        assert!(texts.len() > 60, "{kind:?}: {} texts", texts.len());
    }
    assert_eq!(voices.len(), 2);
}

#[test]
fn composed_texts_are_what_their_kind_says() {
    let dir = tempfile::tempdir().unwrap();
    word_corpus(dir.path(), &all_words(), &["ann"]);
    let composer = Composer::new(&open(dir.path(), Split::Train)).unwrap();
    let words = |kind| -> Vec<Vec<String>> {
        let made = (0..200).map(|index| composer.utterance(kind, Split::Train, 1, index));
        made.map(|made| made.text.split(' ').map(str::to_owned).collect())
            .collect()
    };
    let one_of = |list: &[&str], word: &String| list.contains(&word.as_str());
    let mut names: Vec<String> = (0..10).map(number_words).collect();
    names.push("oh".to_owned());
    for digits in words(Composition::Digits) {
        assert!((3..=6).contains(&digits.len()));
        assert!(digits.iter().all(|digit| names.contains(digit)));
    }
    for letters in words(Composition::Letters) {
        assert!((3..=6).contains(&letters.len()));
        assert!(letters.iter().all(|letter| letter.len() == 1));
    }
    for date in words(Composition::Dates) {
        assert!(
            one_of(&DAYS, &date[0]) && one_of(&MONTHS, &date[1]),
            "{date:?}"
        );
        match &date[2..] {
            [day] => assert!(one_of(&ORDINALS, day)),
            [tens, day] => {
                assert!(one_of(&["twenty", "thirty"], tens) && one_of(&ORDINALS[..9], day));
            }
            more => panic!("{more:?}"),
        }
    }
    for number in words(Composition::Numbers) {
        assert!((1..=7).contains(&number.len()), "{number:?}");
    }
}

#[test]
fn composition_is_a_function_of_seed_and_index() {
    let dir = tempfile::tempdir().unwrap();
    word_corpus(dir.path(), &all_words(), &["ann", "bob"]);
    let set = open(dir.path(), Split::Train);
    let (first, second) = (Composer::new(&set).unwrap(), Composer::new(&set).unwrap());
    let weights = [
        (Composition::Digits, 3),
        (Composition::Letters, 1),
        (Composition::Dates, 0),
    ];
    let draw = |composer: &Composer, seed, index| {
        composer.draw(&weights, Split::Train, seed, index).unwrap()
    };
    let forwards: Vec<_> = (0..20).map(|index| draw(&first, 5, index)).collect();
    for index in (0..20).rev() {
        assert_eq!(draw(&second, 5, index), forwards[index as usize]);
    }
    assert_ne!(draw(&first, 6, 0), forwards[0], "seeds differ");
    let digits = forwards
        .iter()
        .filter(|made| made.kind == Composition::Digits);
    assert_eq!(digits.count(), 15);
    let letters = forwards
        .iter()
        .filter(|made| made.kind == Composition::Letters);
    assert_eq!(letters.count(), 5);
    let nothing = first.draw(&[(Composition::Digits, 0)], Split::Train, 5, 0);
    assert_eq!(nothing, None);
}

#[test]
fn held_out_texts_are_never_trained_on() {
    let dir = tempfile::tempdir().unwrap();
    word_corpus(dir.path(), &all_words(), &["ann"]);
    let composer = Composer::new(&open(dir.path(), Split::Train)).unwrap();
    for kind in Composition::ALL {
        let texts = |split, count| -> HashSet<String> {
            let made = (0..count).map(|index| composer.utterance(kind, split, 3, index));
            made.map(|made| {
                assert_eq!(Composer::split_of(&made.text), split);
                made.text
            })
            .collect()
        };
        let (train, test) = (texts(Split::Train, 2000), texts(Split::Test, 200));
        assert!(train.is_disjoint(&test), "{kind:?}");
        assert!(test.len() > 10, "{kind:?}: {}", test.len());
    }
    // One text in ten is held out. The bounds are four standard deviations around 400.
    let held = (0..4000).filter(|n| Composer::split_of(&format!("text {n}")) == Split::Test);
    let held = held.count();
    assert!((324..=476).contains(&held), "{held}");
}

#[test]
fn the_shipped_voice_says_every_kind() {
    let voice = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../datasets/voice");
    let report = check_speech(&voice).unwrap();
    assert!(report.problems.is_empty(), "{report}");
    assert_eq!(report.sample_rates.keys().collect::<Vec<_>>(), [&RATE]);
    let train = open(&voice, Split::Train);
    assert!(train.skipped().is_empty());
    assert_eq!(report.recordings[0], train.len());
    let composer = Composer::new(&train).unwrap();
    assert_eq!(composer.kinds(), Composition::ALL);
    let made = composer.utterance(Composition::Digits, Split::Test, 1, 0);
    let energy = made.samples.iter().map(|x| x * x).sum::<f32>() / made.samples.len() as f32;
    assert!(energy > 1e-4, "it can be heard: {energy}");
}

#[test]
fn kinds_that_lack_words_are_left_out() {
    let dir = tempfile::tempdir().unwrap();
    let mut words = all_words();
    words.retain(|(group, word)| *group != "letter" && word != "may" && word != "thousand");
    word_corpus(dir.path(), &words, &["ann"]);
    let composer = Composer::new(&open(dir.path(), Split::Train)).unwrap();
    assert_eq!(composer.kinds(), [Composition::Digits]);
    let weights = Composition::ALL.map(|kind| (kind, 1));
    for index in 0..8 {
        let made = composer.draw(&weights, Split::Test, 1, index).unwrap();
        assert_eq!(made.kind, Composition::Digits);
    }

    words.retain(|(_, word)| word != "zero" && word != "six");
    fs::remove_dir_all(dir.path().join("ann")).unwrap();
    word_corpus(dir.path(), &words, &["ann"]);
    let message = Composer::new(&open(dir.path(), Split::Train)).unwrap_err();
    let message = message.to_string();
    for part in [
        "digits lack zero, six;",
        "letters lack a, b, c, d and 22 more;",
        "dates lack may;",
        "numbers lack zero, six, thousand",
    ] {
        assert!(message.contains(part), "{part}: {message}");
    }
}

/// A clip with a valid header whose samples are truncated.
fn cut(path: &Path) {
    let bytes = fs::read(path).unwrap();
    fs::write(path, &bytes[..bytes.len() - 100]).unwrap();
}

#[test]
fn broken_clips_cost_their_word_and_are_listed() {
    let dir = tempfile::tempdir().unwrap();
    word_corpus(dir.path(), &all_words(), &["ann", "bob"]);
    let of = |speaker: &str| dir.path().join(speaker).join("letter-q.wav");
    let compose = || Composer::new(&open(dir.path(), Split::Train)).unwrap();
    assert_eq!(compose().skipped(), []);
    cut(&of("ann"));
    let composer = compose();
    let listed = |composer: &Composer| -> Vec<_> {
        let skipped = composer.skipped().iter();
        skipped
            .map(|skipped| (skipped.path.clone(), skipped.reason.clone()))
            .collect()
    };
    assert_eq!(listed(&composer), [(of("ann"), "is cut short".to_owned())]);
    assert_eq!(composer.kinds(), Composition::ALL, "bob still spells");
    for index in 0..20 {
        let made = composer.utterance(Composition::Letters, Split::Train, 1, index);
        assert_eq!(made.speaker, "bob");
    }

    cut(&of("bob"));
    let composer = compose();
    let expected = [
        Composition::Digits,
        Composition::Dates,
        Composition::Numbers,
    ];
    assert_eq!(composer.kinds(), expected);
    assert_eq!(listed(&composer).len(), 2);
    assert!(!composer.can(Composition::Letters) && !composer.can(Composition::Words));
}

/// One speaker has the letters, another all other words: every kind of utterance can be composed, but no
/// speaker has the words of all kinds.
#[test]
fn words_of_any_kind_need_a_speaker_of_all() {
    let dir = tempfile::tempdir().unwrap();
    word_corpus(dir.path(), &all_words(), &["ann", "bob"]);
    let weights = [(Composition::Words, 3), (Composition::Digits, 1)];
    let composer = Composer::new(&open(dir.path(), Split::Train)).unwrap();
    assert!(composer.can(Composition::Words));
    let made = composer.draw(&weights, Split::Train, 1, 0).unwrap();
    assert_eq!(made.kind, Composition::Words);

    let table = dir.path().join("metadata.jsonl");
    let lines = fs::read_to_string(&table).unwrap();
    let spelled = lines
        .lines()
        .filter(|line| line.contains("\"ann\"") == line.contains("\"letter\""));
    metadata(dir.path(), &spelled.collect::<Vec<_>>());
    let composer = Composer::new(&open(dir.path(), Split::Train)).unwrap();
    assert_eq!(composer.kinds(), Composition::ALL);
    assert!(!composer.can(Composition::Words));
    let made = composer.draw(&weights, Split::Train, 1, 0).unwrap();
    assert_eq!(made.kind, Composition::Digits);
}
