//! Tests of corpora: splits, broken recordings, trimming and loudness.

use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::path::Path;

use latentlm_data::speech::{SpeechDataset, SpeechSpec, check_speech, wav_bytes};
use latentlm_data::{DataError, Split};

use crate::{RATE, SPEC, fixture, largest_error, metadata, open, put, tone};

/// A tone of some seconds, as a WAV file.
pub(crate) fn recording(path: &Path, seconds: f64) {
    let samples = tone(RATE, (seconds * f64::from(RATE)) as usize);
    put(path, &wav_bytes(&samples, RATE));
}

fn error_of(path: &Path, spec: SpeechSpec) -> String {
    let error = SpeechDataset::open(path, spec, Split::Train).unwrap_err();
    error.to_string()
}

/// Texts of both splits by path below the folder.
pub(crate) fn texts(folder: &Path) -> BTreeMap<String, (String, String)> {
    let mut found = BTreeMap::new();
    for split in Split::ALL {
        let Ok(set) = SpeechDataset::open(folder, SPEC, split) else {
            continue;
        };
        for i in 0..set.len() {
            let path = set.path(i);
            let name = path.strip_prefix(folder).unwrap();
            let name = name.to_string_lossy().replace('\\', "/");
            let said = (set.text(i).to_owned(), set.speaker(i).to_owned());
            assert!(found.insert(name, said).is_none(), "in one split only");
        }
    }
    found
}

#[test]
fn lines_name_audio_text_speaker_group_and_split() {
    let dir = tempfile::tempdir().unwrap();
    recording(&dir.path().join("a/b.wav"), 0.5);
    recording(&dir.path().join("c.wav"), 0.25);
    let lines = [
        r#"{"audio": "a/b.wav", "text": " one ", "speaker": "ann", "split": "train", "group": "digit"}"#,
        "",
        r#"{"audio": "c.wav", "text": "two", "split": "test"}"#,
    ];
    metadata(dir.path(), &lines);
    let (train, test) = (
        open(dir.path(), Split::Train),
        open(dir.path(), Split::Test),
    );
    assert_eq!((train.len(), test.len()), (1, 1));
    assert_eq!((train.text(0), train.speaker(0)), ("one", "ann"));
    assert_eq!((train.group(0), test.group(0)), (Some("digit"), None));
    assert_eq!(train.path(0), dir.path().join("a/b.wav"));
    let utterance = train.get(0).unwrap();
    assert_eq!(
        (utterance.text.as_str(), utterance.speaker.as_str()),
        ("one", "ann")
    );
    assert!(largest_error(&utterance.samples, &tone(RATE, 8000)) < 1.0 / 32_768.0);
    assert_eq!(test.get(0).unwrap().samples.len(), 4000);
    assert!(train.skipped().is_empty() && SpeechDataset::is_speech(dir.path()));

    for (line, part) in [
        (
            r#"{"audio": "c.wav", "text": "two", "split": "tset"}"#,
            "split `tset`",
        ),
        (
            r#"{"audio": "c.wav"}"#,
            "not a record: missing field `text`",
        ),
        ("{oops", "not a record"),
    ] {
        metadata(dir.path(), &[lines[0], "", line]);
        let message = error_of(dir.path(), SPEC);
        assert!(
            message.contains("line 3: ") && message.contains(part),
            "{message}"
        );
        // The other recordings are still counted.
        let report = check_speech(dir.path()).unwrap();
        assert_eq!(report.recordings, [1, 0]);
        assert_eq!(report.problems.len(), 1, "{report}");
    }
}

#[test]
fn ljspeech_prefers_the_normalised_text() {
    let dir = tempfile::tempdir().unwrap();
    recording(&dir.path().join("wavs/LJ1.wav"), 0.2);
    recording(&dir.path().join("wavs/LJ2.wav"), 0.2);
    recording(&dir.path().join("wavs/LJ3.wav"), 0.2);
    let table =
        "\u{feff}LJ1|In 1455|In fourteen fifty-five\r\nLJ2|\"quoted\", he said\n\nLJ3|raw| \n";
    put(&dir.path().join("metadata.csv"), table.as_bytes());
    let found = texts(dir.path());
    let text = |id: &str| found[&format!("wavs/{id}.wav")].0.as_str();
    assert_eq!(text("LJ1"), "In fourteen fifty-five");
    assert_eq!((text("LJ2"), text("LJ3")), ("\"quoted\", he said", "raw"));

    put(&dir.path().join("metadata.csv"), b"LJ1|a\nno columns\n");
    let message = error_of(dir.path(), SPEC);
    assert!(message.contains("metadata.csv: line 2"), "{message}");
}

#[test]
fn librispeech_and_libritts_are_trees() {
    let dir = tempfile::tempdir().unwrap();
    let speech = dir.path().join("speech");
    let flac = fs::read(fixture("tone.flac")).unwrap();
    for id in ["84-1-0000", "84-1-0001"] {
        put(&speech.join(format!("dev-clean/84/1/{id}.flac")), &flac);
    }
    put(
        &speech.join("dev-clean/84/1/84-1.trans.txt"),
        b"84-1-0000 GO ON\n84-1-0001\tHE  SAID\n84-1-0002 GONE\n84-1-0003\n",
    );
    let expect = |text: &str| (text.to_owned(), "84".to_owned());
    assert_eq!(
        texts(&speech),
        BTreeMap::from([
            ("dev-clean/84/1/84-1-0000.flac".to_owned(), expect("GO ON")),
            (
                "dev-clean/84/1/84-1-0001.flac".to_owned(),
                expect("HE SAID")
            ),
        ])
    );
    let tts = dir.path().join("tts");
    recording(&tts.join("train/84/9/84_9_000001_000000.wav"), 0.2);
    let transcript = tts.join("train/84/9/84_9_000001_000000.normalized.txt");
    put(&transcript, b"Go on.\n");
    put(&transcript.with_file_name("._x.normalized.txt"), &[0xff]);
    put(
        &transcript.with_file_name("84_9_000001_000000.original.txt"),
        b"no",
    );
    let found = texts(&tts);
    assert_eq!(found["train/84/9/84_9_000001_000000.wav"], expect("Go on."));
    assert_eq!(found.len(), 1);

    // An unreadable transcript loses its recording only, not the whole corpus.
    put(
        &transcript.with_file_name("84_9_2.normalized.txt"),
        &[0xff, 0xfe],
    );
    assert_eq!(texts(&tts).len(), 1);
    let report = check_speech(&tts).unwrap();
    assert_eq!(report.problems.len(), 1, "{report}");
    assert!(report.problems[0].what.contains("84_9_2.normalized.txt"));
}

/// Both splits read the same transcripts.
#[test]
fn a_transcript_that_cannot_be_read_is_listed_once() {
    let dir = tempfile::tempdir().unwrap();
    let chapter = dir.path().join("84/9");
    for id in 0..80 {
        recording(&chapter.join(format!("84_9_{id}.wav")), 0.05);
        put(
            &chapter.join(format!("84_9_{id}.normalized.txt")),
            b"Go on.",
        );
    }
    let broken = chapter.join("84_9_x.normalized.txt");
    put(&broken, &[0xff, 0xfe]);
    let sets = Split::ALL.map(|split| open(dir.path(), split));
    let skipped = sets.each_ref().map(|set| set.skipped()).concat();
    assert_eq!(skipped.len(), 1, "{skipped:?}");
    assert_eq!(skipped[0].path, broken);
}

#[cfg(unix)]
#[test]
fn links_in_circles_end() {
    let dir = tempfile::tempdir().unwrap();
    for name in ["a", "b"] {
        std::os::unix::fs::symlink(dir.path(), dir.path().join(name)).unwrap();
    }
    assert!(!SpeechDataset::is_speech(dir.path()));
    assert!(matches!(
        SpeechDataset::open(dir.path(), SPEC, Split::Train),
        Err(DataError::NoSpeech { .. })
    ));
}

/// A line of `metadata.jsonl`.
fn line(name: &str, text: &str) -> String {
    format!("{{\"audio\": \"{name}\", \"text\": \"{text}\", \"split\": \"train\"}}")
}

/// One valid recording among all kinds of invalid ones.
fn troubled_corpus(folder: &Path) {
    recording(&folder.join("good.wav"), 1.0);
    recording(&folder.join("short.wav"), 0.1);
    recording(&folder.join("long.wav"), 3.0);
    recording(&folder.join("mute.wav"), 1.0);
    put(&folder.join("text.wav"), b"no sound");
    put(&folder.join("empty.flac"), b"");
    put(&folder.join("silent.wav"), &wav_bytes(&[], RATE));
    put(&folder.join("notes.txt"), b"no sound");
    // The header is valid, so opening accepts the file and decoding fails.
    let cut = wav_bytes(&tone(RATE, 16_000), RATE);
    put(&folder.join("cut.wav"), &cut[..20_000]);
    let names = [
        "good.wav",
        "short.wav",
        "long.wav",
        "text.wav",
        "empty.flac",
        "silent.wav",
        "notes.txt",
        "gone.wav",
        "cut.wav",
    ];
    let mut lines: Vec<String> = names.iter().map(|name| line(name, "word word")).collect();
    lines.push(line("mute.wav", "  "));
    metadata(
        folder,
        &lines.iter().map(String::as_str).collect::<Vec<_>>(),
    );
}

#[test]
fn what_cannot_be_used_is_left_out_by_name() {
    let dir = tempfile::tempdir().unwrap();
    troubled_corpus(dir.path());
    let spec = SpeechSpec {
        min_seconds: 0.2,
        max_seconds: 2.0,
        ..SPEC
    };
    let set = SpeechDataset::open(dir.path(), spec, Split::Train).unwrap();
    let reasons: BTreeMap<String, &str> = set
        .skipped()
        .iter()
        .map(|skipped| {
            let name = skipped.path.file_name().unwrap();
            (name.to_string_lossy().into_owned(), skipped.reason.as_str())
        })
        .collect();
    let expected = [
        ("short.wav", "lasts 0.10 s"),
        ("long.wav", "lasts 3.00 s"),
        ("text.wav", "is no WAV, FLAC, MP3 or OGG file"),
        ("empty.flac", "empty file"),
        ("silent.wav", "lasts 0.00 s"),
        ("notes.txt", "no WAV, FLAC"),
        ("gone.wav", "does not exist"),
        ("mute.wav", "no text"),
    ];
    assert_eq!(reasons.len(), expected.len(), "{reasons:?}");
    for (name, part) in expected {
        assert!(reasons[name].contains(part), "{name}: {}", reasons[name]);
    }
    assert_eq!(set.len(), 2);
    assert_eq!(set.get(0).unwrap().samples.len(), 16_000);
    let message = set.get(1).unwrap_err().to_string();
    assert!(message.contains("cut.wav: is cut short"), "{message}");

    let report = check_speech(dir.path()).unwrap();
    // `data check` accepts recordings that are too short or too long for a recipe; all other faults are reported.
    assert_eq!(
        (report.recordings, report.problems.len()),
        ([3, 0], 7),
        "{report}"
    );
    assert!(
        report.to_string().contains("cut.wav: is cut short"),
        "{report}"
    );

    metadata(dir.path(), &[&line("gone.wav", "word")]);
    let message = error_of(dir.path(), spec);
    assert!(
        message.contains("gone.wav") && message.contains("train"),
        "{message}"
    );
    let empty = SpeechDataset::open(dir.path(), spec, Split::Test);
    assert!(matches!(empty, Err(DataError::EmptySpeechSplit { .. })));
}

#[test]
fn recordings_are_brought_to_the_specification() {
    let dir = tempfile::tempdir().unwrap();
    // Half a second of tone between silences of a second, at 44.1 kHz.
    let mut sound = vec![0.0; 44_100];
    sound.extend(tone(44_100, 22_050));
    sound.extend(vec![0.0; 44_100]);
    put(&dir.path().join("a.wav"), &wav_bytes(&sound, 44_100));
    metadata(
        dir.path(),
        &[r#"{"audio": "a.wav", "text": "a", "split": "train"}"#],
    );
    let spec = SpeechSpec {
        loudness_dbfs: Some(-23.0),
        trim_silence: true,
        ..SPEC
    };
    let set = SpeechDataset::open(dir.path(), spec, Split::Train).unwrap();
    let samples = set.get(0).unwrap().samples;
    // The tone and 50 ms at both ends, and up to one frame of 10 ms more at each end.
    let spare = samples.len() as i64 - (8000 + 2 * 800);
    assert!((0..=2 * 160).contains(&spare), "{spare}");
    let inside = &samples[2000..7000];
    let energy = inside.iter().map(|x| x * x).sum::<f32>() / inside.len() as f32;
    let level = 10.0 * energy.log10();
    // Frames at the tone's ends are half silent.
    assert!((level + 23.0).abs() < 0.3, "{level} dB");

    let whole = open(dir.path(), Split::Train).get(0).unwrap().samples;
    assert_eq!(whole.len(), 40_000);
    for (spec, part) in [
        (
            SpeechSpec {
                sample_rate_hz: 0,
                ..SPEC
            },
            "samples a second",
        ),
        (
            SpeechSpec {
                min_seconds: 3.0,
                max_seconds: 2.0,
                ..SPEC
            },
            "3 to 2 s",
        ),
        (
            SpeechSpec {
                max_seconds: f64::NAN,
                ..SPEC
            },
            "lengths",
        ),
        (
            SpeechSpec {
                loudness_dbfs: Some(3.0),
                ..SPEC
            },
            "loudness",
        ),
    ] {
        let message = error_of(dir.path(), spec);
        assert!(message.contains(part), "{message}");
    }
}

#[test]
fn one_recording_in_twenty_is_held_out_once_and_for_all() {
    let dir = tempfile::tempdir().unwrap();
    let sound = wav_bytes(&tone(RATE, 160), RATE);
    let write = |count: usize| {
        let mut table = String::new();
        for i in 0..count {
            put(&dir.path().join(format!("wavs/{i}.wav")), &sound);
            table += &format!("{i}|text {i}\n");
        }
        put(&dir.path().join("metadata.csv"), table.as_bytes());
        let test = open(dir.path(), Split::Test);
        assert_eq!(open(dir.path(), Split::Train).len() + test.len(), count);
        let texts = (0..test.len()).map(|i| test.text(i).to_owned());
        texts.collect::<HashSet<String>>()
    };
    let (few, many) = (write(200), write(400));
    // Four standard deviations around 20.
    assert!((3..=37).contains(&many.len()), "{}", many.len());
    assert!(few.is_subset(&many) && !few.is_empty());
}

#[test]
fn the_fingerprint_sees_names_sizes_texts_groups_and_the_specification() {
    let dir = tempfile::tempdir().unwrap();
    recording(&dir.path().join("a.wav"), 0.2);
    recording(&dir.path().join("b.wav"), 0.2);
    let print = |name: &str, text: &str, group: &str, spec: SpeechSpec| {
        let line = format!(
            "{{\"audio\": \"{name}\", \"text\": \"{text}\", \"group\": \"{group}\", \"split\": \"train\"}}"
        );
        metadata(dir.path(), &[&line]);
        let set = SpeechDataset::open(dir.path(), spec, Split::Train).unwrap();
        set.fingerprint()
    };
    let first = print("a.wav", "x", "digit", SPEC);
    assert_eq!(
        (first.len(), &print("a.wav", "x", "digit", SPEC)),
        (64, &first)
    );
    let trimmed = SpeechSpec {
        trim_silence: true,
        ..SPEC
    };
    let others = [
        print("b.wav", "x", "digit", SPEC),
        print("a.wav", "y", "digit", SPEC),
        print("a.wav", "x", "letter", SPEC),
        print("a.wav", "x", "digit", trimmed),
        {
            recording(&dir.path().join("a.wav"), 0.3);
            print("a.wav", "x", "digit", SPEC)
        },
    ];
    let different: HashSet<&String> = others.iter().chain([&first]).collect();
    assert_eq!(different.len(), 6);
}

/// A run that goes on compares samples: training also learns when words end.
#[test]
fn samples_tell_what_is_learned_besides_the_sound() {
    let dir = tempfile::tempdir().unwrap();
    recording(&dir.path().join("a.wav"), 0.2);
    let about = |text: &str, speaker: &str, words: &str| {
        let line = format!(
            r#"{{"audio": "a.wav", "text": "{text}", "speaker": "{speaker}", "split": "train"{words}}}"#
        );
        metadata(dir.path(), &[&line]);
        let samples = open(dir.path(), Split::Train).samples();
        assert_eq!(samples.len(), 1);
        samples[0].about.clone()
    };
    let ends = |seconds: f64| format!(r#", "words": [{{"text": "x", "end": {seconds}}}]"#);
    let first = about("x", "ann", "");
    // Lists of runs from before there were times have this.
    assert_eq!(first, r#""x" "ann" None"#);
    let others = [
        about("y", "ann", ""),
        about("x", "bob", ""),
        about("x", "ann", &ends(0.1)),
        about("x", "ann", &ends(0.15)),
    ];
    let different: HashSet<&String> = others.iter().chain([&first]).collect();
    assert_eq!(different.len(), 5);
}

#[test]
fn check_counts_what_a_corpus_holds() {
    let dir = tempfile::tempdir().unwrap();
    recording(&dir.path().join("a.wav"), 1.0);
    recording(&dir.path().join("b.wav"), 2.0);
    put(
        &dir.path().join("c.wav"),
        &wav_bytes(&tone(8000, 8000), 8000),
    );
    metadata(
        dir.path(),
        &[
            r#"{"audio": "a.wav", "text": "Hello, world", "speaker": "ann", "split": "train"}"#,
            r#"{"audio": "b.wav", "text": "hello - \"Ann\"!", "speaker": "bob", "split": "test"}"#,
            r#"{"audio": "c.wav", "text": "one", "speaker": "ann", "split": "train", "group": "digit"}"#,
        ],
    );
    let report = check_speech(dir.path()).unwrap();
    assert!(report.problems.is_empty(), "{report}");
    assert_eq!(report.recordings, [2, 1]);
    assert_eq!(
        (report.seconds, report.lengths),
        ([2.0, 2.0], Some([1.0, 2.0]))
    );
    assert_eq!(
        report.sample_rates,
        BTreeMap::from([(8000, 1), (16_000, 2)])
    );
    assert_eq!(
        report.speakers,
        BTreeMap::from([("ann".into(), 2), ("bob".into(), 1)])
    );
    assert_eq!(report.vocabulary, 4, "hello, world, ann, one");
    let text = report.to_string();
    assert!(
        text.contains("2 recordings (2.0 s) to train on, 1 (2.0 s) held out"),
        "{text}"
    );
    assert!(check_speech(&dir.path().join("none")).is_err());
}
