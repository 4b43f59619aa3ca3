//! Tests of speech corpora in all layouts, of broken recordings, and of composed utterances.

use std::fs;
use std::path::Path;

use latentlm_data::Split;
use latentlm_data::speech::{
    Composer, Composition, SpeechDataset, SpeechSpec, read_audio, trim_silence, write_wav,
};

const SPEC: SpeechSpec = SpeechSpec {
    sample_rate_hz: 16_000,
    loudness_dbfs: None,
    trim_silence: false,
    min_seconds: 0.1,
    max_seconds: 5.0,
};

fn tone(seconds: f64, rate: u32) -> Vec<f32> {
    let count = (seconds * f64::from(rate)) as usize;
    (0..count).map(|i| 0.3 * (i as f32 * 0.2).sin()).collect()
}

fn sound(path: &Path, seconds: f64, rate: u32) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    write_wav(path, &tone(seconds, rate), rate).unwrap();
}

fn lines(folder: &Path, lines: &[&str]) {
    fs::write(folder.join("metadata.jsonl"), lines.join("\n")).unwrap();
}

fn shipped() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../datasets/voice")
}

#[test]
fn json_lines() {
    let dir = tempfile::tempdir().unwrap();
    sound(&dir.path().join("a/one.wav"), 0.5, 8_000);
    sound(&dir.path().join("b.wav"), 1.0, 16_000);
    lines(
        dir.path(),
        &[
            r#"{"audio": "a/one.wav", "text": "one", "speaker": "ann", "group": "digit", "split": "train"}"#,
            "",
            r#"{"audio": "b.wav", "text": "two", "split": "test"}"#,
        ],
    );
    let train = SpeechDataset::open(dir.path(), SPEC, Split::Train).unwrap();
    assert_eq!(
        (train.len(), train.text(0), train.speaker(0)),
        (1, "one", "ann")
    );
    assert_eq!(train.group(0), Some("digit"));
    assert_eq!(
        train.get(0).unwrap().samples.len(),
        8_000,
        "resampled to 16 kHz"
    );
    let test = SpeechDataset::open(dir.path(), SPEC, Split::Test).unwrap();
    assert_eq!((test.len(), test.text(0)), (1, "two"));
    assert_eq!((train.seconds(), test.seconds()), (0.5, 1.0));
    assert!(SpeechDataset::is_speech(dir.path()));
    assert_ne!(train.fingerprint(), test.fingerprint());
}

#[test]
fn ljspeech() {
    let dir = tempfile::tempdir().unwrap();
    let mut table = String::new();
    for number in 0..60 {
        let id = format!("LJ001-{number:04}");
        sound(&dir.path().join(format!("wavs/{id}.wav")), 0.3, 22_050);
        table.push_str(&format!("{id}|Dr. {number}|Doctor {number}\n"));
    }
    fs::write(dir.path().join("metadata.csv"), table).unwrap();
    let train = SpeechDataset::open(dir.path(), SPEC, Split::Train).unwrap();
    let test = SpeechDataset::open(dir.path(), SPEC, Split::Test).unwrap();
    assert_eq!(train.len() + test.len(), 60);
    assert!(
        (1..10).contains(&test.len()),
        "about one in twenty: {}",
        test.len()
    );
    assert!(train.text(0).starts_with("Doctor "), "the normalised text");
}

#[test]
fn trees_with_transcripts() {
    let dir = tempfile::tempdir().unwrap();
    let chapter = dir.path().join("dev/19/198");
    for id in 0..40 {
        let name = format!("19_198_{id:06}_000000");
        sound(&chapter.join(format!("{name}.wav")), 0.2, 24_000);
        fs::write(
            chapter.join(format!("{name}.normalized.txt")),
            format!("text {id}\n"),
        )
        .unwrap();
    }
    let train = SpeechDataset::open(dir.path(), SPEC, Split::Train).unwrap();
    assert_eq!(train.speaker(0), "19");
    assert!(train.text(0).starts_with("text "));
    assert!(SpeechDataset::is_speech(dir.path()));

    // LibriSpeech's recordings are FLAC; a missing one is listed.
    let dir = tempfile::tempdir().unwrap();
    let chapter = dir.path().join("84/121");
    fs::create_dir_all(&chapter).unwrap();
    fs::write(chapter.join("84-121.trans.txt"), "84-121-0000 GO ON\n").unwrap();
    let splits = Split::ALL.map(|split| SpeechDataset::open(dir.path(), SPEC, split));
    let messages = splits.map(|opened| opened.unwrap_err().to_string());
    assert!(
        messages.iter().any(|m| m.contains("84-121-0000.flac")),
        "{messages:?}"
    );
}

#[test]
fn broken_recordings_are_left_out_and_listed() {
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str| dir.path().join(name);
    sound(&file("good.wav"), 0.5, 16_000);
    sound(&file("short.wav"), 0.05, 16_000);
    sound(&file("long.wav"), 6.0, 16_000);
    sound(&file("mute.wav"), 0.5, 16_000);
    fs::write(file("empty.wav"), "").unwrap();
    fs::write(file("text.wav"), "no sound at all in here").unwrap();
    write_wav(&file("zero.wav"), &[], 16_000).unwrap();
    let names = ["good", "short", "long", "empty", "text", "zero", "gone"];
    let mut records: Vec<String> = names
        .iter()
        .map(|name| format!(r#"{{"audio": "{name}.wav", "text": "x", "split": "train"}}"#))
        .collect();
    records.push(r#"{"audio": "mute.wav", "text": " ", "split": "train"}"#.into());
    lines(
        dir.path(),
        &records.iter().map(String::as_str).collect::<Vec<_>>(),
    );
    let train = SpeechDataset::open(dir.path(), SPEC, Split::Train).unwrap();
    assert_eq!(train.len(), 1);
    let reasons: Vec<String> = train
        .skipped()
        .iter()
        .map(|s| format!("{} {}", s.path.file_name().unwrap().display(), s.reason))
        .collect();
    assert_eq!(reasons.len(), 7);
    for part in [
        "short.wav lasts 0.05 s",
        "long.wav lasts 6.00 s",
        "mute.wav has no text",
        "gone.wav does not exist",
        "zero.wav lasts 0.00 s",
    ] {
        assert!(
            reasons.iter().any(|r| r.contains(part)),
            "{part}: {reasons:?}"
        );
    }
    let empty = SpeechDataset::open(dir.path(), SPEC, Split::Test).unwrap_err();
    assert!(empty.to_string().contains("test"), "{empty}");
}

/// Missing and silent ones and those that can't be decoded, in both splits; not those that are short or have no text.
#[test]
fn broken_recordings_are_counted() {
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str| dir.path().join(name);
    for name in ["good.wav", "held.wav", "cut.wav", "mute.wav"] {
        sound(&file(name), 0.5, 16_000);
    }
    sound(&file("short.wav"), 0.05, 16_000);
    write_wav(&file("silent.wav"), &[0.0; 8000], 16_000).unwrap();
    // A good header.
    let whole = fs::read(file("cut.wav")).unwrap();
    fs::write(file("cut.wav"), &whole[..9000]).unwrap();
    lines(
        dir.path(),
        &[
            r#"{"audio": "good.wav", "text": "x", "split": "train"}"#,
            r#"{"audio": "short.wav", "text": "x", "split": "train"}"#,
            r#"{"audio": "silent.wav", "text": "x", "split": "train"}"#,
            r#"{"audio": "mute.wav", "text": " ", "split": "train"}"#,
            r#"{"audio": "gone.wav", "text": "x", "split": "train"}"#,
            r#"{"audio": "cut.wav", "text": "x", "split": "test"}"#,
            r#"{"audio": "held.wav", "text": "x", "split": "test"}"#,
        ],
    );
    let [train, test] =
        Split::ALL.map(|split| SpeechDataset::open(dir.path(), SPEC, split).unwrap());
    assert_eq!((train.len(), test.len()), (2, 2));
    let check = |most| SpeechDataset::check_broken([&train, &test], most);
    check(0.43).unwrap();
    let message = check(0.42).unwrap_err().to_string();
    let part = "3 of 7 samples can't be used, and no more than 42.0 % may be left out \
                (data.max_broken)";
    assert!(message.contains(part), "{message}");
    assert!(message.ends_with("gone.wav: does not exist"), "{message}");
}

/// Half a second and a fifth of it are no error; a text that is longer than its sound is left out.
#[test]
fn lengths_that_tables_give_are_compared() {
    let dir = tempfile::tempdir().unwrap();
    let table = [
        ("same", 1.0, 1.4),
        ("fifth", 4.0, 4.7),
        ("longer", 2.0, 1.0),
        ("shorter", 1.0, 2.0),
    ];
    let mut records = vec![r#"{"audio": "same.wav", "text": "x", "split": "test"}"#.to_owned()];
    for (name, seconds, duration) in table {
        sound(&dir.path().join(format!("{name}.wav")), seconds, 16_000);
        records.push(format!(
            r#"{{"audio": "{name}.wav", "text": "x", "split": "train", "duration": {duration}}}"#
        ));
    }
    let records: Vec<&str> = records.iter().map(String::as_str).collect();
    lines(dir.path(), &records);
    let [train, test] =
        Split::ALL.map(|split| SpeechDataset::open(dir.path(), SPEC, split).unwrap());
    let others = SpeechDataset::check_broken([&train, &test], 0.2).unwrap();
    let told: Vec<String> = others
        .iter()
        .map(|own| format!("{} {}", own.path.file_name().unwrap().display(), own.reason))
        .collect();
    assert_eq!(told.len(), 1);
    assert!(told[0].starts_with("longer.wav lasts 2.00 s, its table says `duration` 1.00"));
    let refused = SpeechDataset::check_broken([&train, &test], 0.1).unwrap_err();
    let part = "shorter.wav: lasts 1.00 s, its table says `duration` 2.00";
    assert!(refused.to_string().contains(part), "{refused}");
    let is_read: Vec<bool> = (0..4).map(|index| train.get(index).is_ok()).collect();
    assert_eq!(is_read, [true, true, true, false]);
}

#[test]
fn what_is_no_corpus_is_one_clear_line() {
    let dir = tempfile::tempdir().unwrap();
    let open = || SpeechDataset::open(dir.path(), SPEC, Split::Train).unwrap_err();
    assert!(open().to_string().contains("holds no speech"));
    lines(dir.path(), &[r#"{"audio": "a.wav"}"#]);
    assert!(open().to_string().contains("line 1"), "{}", open());
    lines(
        dir.path(),
        &[r#"{"audio": "a.wav", "text": "a", "split": "later"}"#],
    );
    assert!(open().to_string().contains("split `later`"), "{}", open());
    let gone = dir.path().join("gone");
    let missing = SpeechDataset::open(&gone, SPEC, Split::Train).unwrap_err();
    assert!(missing.to_string().contains("gone"), "{missing}");
}

#[test]
fn the_shipped_voice_is_whole() {
    let spec = SpeechSpec {
        loudness_dbfs: Some(-23.0),
        max_seconds: 10.0,
        ..SPEC
    };
    for split in Split::ALL {
        let voice = SpeechDataset::open(&shipped(), spec, split).unwrap();
        assert_eq!(voice.skipped(), []);
        for index in 0..voice.len() {
            let utterance = voice.get(index).unwrap();
            let fits = |c: char| c.is_ascii_lowercase() || c == ' ' || c == '\'';
            assert!(utterance.text.chars().all(fits), "{}", utterance.text);
            assert_eq!(
                read_audio(&voice.path(index)).unwrap().sample_rate_hz,
                16_000
            );
        }
    }
}

#[test]
fn composed_utterances() {
    let voice = SpeechDataset::open(
        &shipped(),
        SpeechSpec {
            max_seconds: 10.0,
            ..SPEC
        },
        Split::Train,
    );
    let voice = voice.unwrap();
    let composer = Composer::new(&voice).unwrap();
    assert_eq!(composer.kinds(), Composition::ALL);
    let clip = |text: &str, group: &str| {
        let index = (0..voice.len())
            .find(|&i| voice.text(i) == text && voice.group(i) == Some(group))
            .unwrap_or_else(|| panic!("no {group} {text}"));
        let samples = voice.get(index).unwrap().samples;
        trim_silence(&samples, 16_000, 0.01).to_vec()
    };
    let mut held_out = Vec::new();
    for kind in composer.kinds() {
        for index in 0..40 {
            let composed = composer.utterance(*kind, Split::Test, 7, index);
            assert_eq!(composed, composer.utterance(*kind, Split::Test, 7, index));
            held_out.push(composed.text);
        }
    }
    for index in 0..200 {
        let digits = composer.utterance(Composition::Digits, Split::Train, 7, index);
        assert!(
            !held_out.contains(&digits.text),
            "{} is held out",
            digits.text
        );
        let words: Vec<&str> = digits.text.split(' ').collect();
        assert!((3..=6).contains(&words.len()));
        // The signal consists of the words, two margins, and a pause between neighbouring words.
        let spoken: usize = words.iter().map(|word| clip(word, "digit").len()).sum();
        let silence = (digits.samples.len() - spoken) as f64 / 16_000.0;
        let pauses = (words.len() - 1) as f64;
        let (least, most) = (0.12 + 0.04 * pauses, 0.24 + 0.16 * pauses);
        assert!((least - 0.01..most + 0.01).contains(&silence), "{silence}");
        let first = clip(words[0], "digit");
        let start = digits.samples.windows(64).position(|w| w == &first[..64]);
        let lead = start.unwrap() as f64 / 16_000.0;
        assert!((0.05..0.13).contains(&lead), "{lead}");
    }
    let spelled = composer
        .utterance(Composition::Letters, Split::Train, 7, 3)
        .text;
    assert!(
        spelled.split(' ').all(|letter| letter.len() == 1),
        "{spelled}"
    );
    let date = composer
        .utterance(Composition::Dates, Split::Train, 7, 3)
        .text;
    assert!(date.contains("day "), "{date}");
}

#[test]
fn a_corpus_of_sentences_composes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    sound(&dir.path().join("a.wav"), 0.5, 16_000);
    lines(
        dir.path(),
        &[r#"{"audio": "a.wav", "text": "hello", "split": "train"}"#],
    );
    let corpus = SpeechDataset::open(dir.path(), SPEC, Split::Train).unwrap();
    let message = Composer::new(&corpus).unwrap_err().to_string();
    assert!(message.contains("`group`"), "{message}");
}
