//! Tests of the layouts in which speech corpora are distributed.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use latentlm_data::Split;
use latentlm_data::speech::{SpeechBounds, SpeechDataset, check_speech};

use crate::corpora::{recording, texts};
use crate::{SPEC, fixture, open, put};

/// A corpus layout. Functions take the index of a recording.
struct Layout {
    name: &'static str,
    /// Path of the table.
    table: &'static str,
    /// Text before the first line.
    header: &'static str,
    /// Line of the table.
    line: fn(usize) -> String,
    /// Path of the sound file.
    recording: fn(usize) -> String,
    /// Expected text and speaker.
    expected: fn(usize) -> (String, String),
}

fn nobody(text: String) -> (String, String) {
    (text, "speaker".into())
}

fn number(index: usize) -> (String, String) {
    nobody(format!("sentence number {index}"))
}

fn of_two(index: usize) -> (String, String) {
    (number(index).0, ["bert", "anna"][index % 2].into())
}

fn in_wavs(index: usize) -> String {
    format!("wavs/u{index:03}.wav")
}

const LAYOUTS: [Layout; 11] = [
    Layout {
        name: "ids with an ending",
        table: "metadata.csv",
        header: "",
        line: |i| format!("u{i:03}.wav|Sentence {i}.|sentence number {i}"),
        recording: in_wavs,
        expected: number,
    },
    Layout {
        name: "F5",
        table: "metadata.csv",
        header: "audio_file|text\n",
        line: |i| format!("wavs/u{i:03}.wav|sentence number {i}"),
        recording: in_wavs,
        expected: number,
    },
    Layout {
        name: "LJSpeech in FLAC",
        table: "metadata.csv",
        header: "",
        line: |i| format!("u{i:03}|Sentence {i}.|sentence number {i}"),
        recording: |i| format!("wavs/u{i:03}.flac"),
        expected: number,
    },
    Layout {
        name: "endings in capitals",
        table: "metadata.csv",
        header: "",
        line: |i| format!("u{i:03}|Sentence {i}.|sentence number {i}"),
        recording: |i| format!("wavs/u{i:03}.WAV"),
        expected: number,
    },
    Layout {
        name: "all in quotes",
        table: "metadata.csv",
        header: "",
        line: |i| format!("\"u{i:03}\"|\"He said \"\"no\"\" to me\"|\"he said \"\"no\"\" to me\""),
        recording: in_wavs,
        expected: |_| nobody("he said \"no\" to me".into()),
    },
    Layout {
        name: "XTTS",
        table: "metadata.csv",
        header: "audio_file|text|speaker_name\n",
        line: |i| format!("wavs/u{i:03}.wav|sentence number {i}|anna"),
        recording: in_wavs,
        expected: |i| (number(i).0, "anna".into()),
    },
    Layout {
        name: "Piper's of two speakers",
        table: "metadata.csv",
        header: "",
        line: |i| format!("u{i:03}|{}|sentence number {i}", of_two(i).1),
        recording: |i| format!("wav/u{i:03}.wav"),
        expected: of_two,
    },
    Layout {
        name: "NeMo",
        table: "metadata.jsonl",
        header: "",
        line: |i| {
            format!(
                r#"{{"audio_filepath": "wavs/u{i:03}.wav", "text": "sentence number {i}", "duration": 0.05, "speaker": {}}}"#,
                i % 2
            )
        },
        recording: in_wavs,
        expected: |i| (number(i).0, (i % 2).to_string()),
    },
    Layout {
        name: "NeMo's manifest",
        table: "train_manifest.json",
        header: "",
        line: |i| {
            format!(r#"{{"audio_filepath": "wavs/u{i:03}.wav", "text": "sentence number {i}"}}"#)
        },
        recording: in_wavs,
        expected: number,
    },
    Layout {
        name: "Hugging Face's folder",
        table: "metadata.jsonl",
        header: "",
        line: |i| {
            format!(
                r#"{{"file_name": "data/u{i:03}.wav", "transcription": "sentence number {i}"}}"#
            )
        },
        recording: |i| format!("data/u{i:03}.wav"),
        expected: number,
    },
    Layout {
        name: "Hugging Face's folder with commas",
        table: "train/metadata.csv",
        header: "file_name,sentence\n",
        line: |i| format!("u{i:03}.wav,\"sentence number {i}\""),
        recording: |i| format!("train/u{i:03}.wav"),
        expected: number,
    },
];

#[test]
fn tables_that_people_have_are_read() {
    let flac = fs::read(fixture("tone.flac")).unwrap();
    for layout in LAYOUTS {
        for (mark, end) in [("", "\n"), ("\u{feff}", "\r\n")] {
            let dir = tempfile::tempdir().unwrap();
            let mut table = layout.header.to_owned();
            let mut expected = BTreeMap::new();
            for index in 0..24 {
                let name = (layout.recording)(index);
                let path = dir.path().join(&name);
                if name.ends_with(".flac") {
                    put(&path, &flac);
                } else {
                    recording(&path, 0.05);
                }
                expected.insert(name, (layout.expected)(index));
                table += &(layout.line)(index);
                table += "\n";
            }
            let table = mark.to_owned() + &table.replace('\n', end);
            put(&dir.path().join(layout.table), table.as_bytes());
            let name = layout.name;
            assert!(SpeechDataset::is_speech(dir.path()), "{name}");
            assert_eq!(texts(dir.path()), expected, "{name}");
            let report = check_speech(dir.path()).unwrap();
            assert!(report.problems.is_empty(), "{name}: {report}");
            assert!(report.left_out.is_empty(), "{name}: {report}");
            assert!(report.recordings[1] > 0, "{name}: {report}");
        }
    }
}

#[test]
fn segments_of_recordings_are_named() {
    let dir = tempfile::tempdir().unwrap();
    recording(&dir.path().join("a.wav"), 1.0);
    recording(&dir.path().join("b.wav"), 1.0);
    let table = |second: &str| {
        let first = r#"{"audio_filepath": "a.wav", "text": "one", "offset": 0, "duration": 0.95}"#;
        let lines =
            format!("{first}\n{{\"audio_filepath\": \"b.wav\", \"text\": \"two\", {second}}}\n");
        put(&dir.path().join("metadata.jsonl"), lines.as_bytes());
        let problems = check_speech(dir.path()).unwrap().problems;
        problems.into_iter().map(|problem| problem.what)
    };
    let told: Vec<String> = table("\"duration\": 0.5").collect();
    assert!(
        matches!(&told[..], [one] if one.contains("b.wav: lasts 1.00 s, its table says `duration` 0.50")),
        "{told:?}"
    );
    let told: Vec<String> = table("\"offset\": 0.5, \"duration\": 0.5").collect();
    assert!(
        matches!(&told[..], [one] if one.contains("line 2: `offset` 0.5: ")),
        "{told:?}"
    );
    let error = SpeechDataset::open(dir.path(), SPEC, Split::Train).unwrap_err();
    assert!(error.to_string().contains("line 2: `offset`"), "{error}");
}

#[test]
fn splits_have_tables_of_their_own() {
    let dir = tempfile::tempdir().unwrap();
    let mp3 = fs::read(fixture("tone.mp3")).unwrap();
    for name in ["a", "b", "c"] {
        put(&dir.path().join(format!("clips/{name}.mp3")), &mp3);
    }
    let table = |name: &str, lines: &str| {
        let text = format!("client_id\tpath\tsentence\tup_votes\n{lines}");
        put(&dir.path().join(name), text.as_bytes());
    };
    table("train.tsv", "x\ta.mp3\tOne, two.\t2\ny\tb.mp3\tThree.\t0\n");
    table("dev.tsv", "z\tc.mp3\tFour.\t1\n");
    let [train, test] = Split::ALL.map(|split| open(dir.path(), split));
    assert_eq!((train.len(), test.len()), (2, 1));
    assert_eq!((train.text(0), train.speaker(1)), ("One, two.", "y"));
    assert_eq!((test.text(0), test.speaker(0)), ("Four.", "z"));
}

/// Names of splits in lines of a table, as in the names of tables.
#[test]
fn held_out_recordings_are_known_by_six_names() {
    let dir = tempfile::tempdir().unwrap();
    let mut lines = vec![r#"{"audio": "a.wav", "text": "one", "split": "train"}"#.to_owned()];
    recording(&dir.path().join("a.wav"), 0.05);
    for name in ["test", "val", "valid", "validation", "dev", "eval"] {
        recording(&dir.path().join(format!("{name}.wav")), 0.05);
        lines.push(format!(
            r#"{{"audio": "{name}.wav", "text": "two", "split": "{name}"}}"#
        ));
    }
    put(
        &dir.path().join("metadata.jsonl"),
        lines.join("\n").as_bytes(),
    );
    let sets = Split::ALL.map(|split| open(dir.path(), split).len());
    assert_eq!(sets, [1, 6]);
    let message = check_speech(&dir.path().join("metadata.jsonl"));
    let message = message.unwrap_err().to_string();
    assert!(
        message.contains("metadata.jsonl: is a file, and a dataset is a folder"),
        "{message}"
    );
}

#[test]
fn vctk_and_mls_are_trees() {
    let dir = tempfile::tempdir().unwrap();
    let flac = fs::read(fixture("tone.flac")).unwrap();
    let vctk = dir.path().join("vctk");
    for (speaker, id) in [("p225", "001"), ("p225", "002"), ("p226", "001")] {
        let name = format!("{speaker}/{speaker}_{id}");
        put(
            &vctk.join(format!("txt/{name}.txt")),
            format!("Text of {name}.\n").as_bytes(),
        );
        for mic in ["mic1", "mic2"] {
            let sound = format!("wav48_silence_trimmed/{name}_{mic}.flac");
            put(&vctk.join(sound), &flac);
        }
    }
    let found = texts(&vctk);
    let said = |name: &str, speaker: &str| (format!("Text of {name}."), speaker.to_owned());
    let sound = |name: &str| format!("wav48_silence_trimmed/{name}_mic1.flac");
    let expected = BTreeMap::from([
        (sound("p225/p225_001"), said("p225/p225_001", "p225")),
        (sound("p225/p225_002"), said("p225/p225_002", "p225")),
        (sound("p226/p226_001"), said("p226/p226_001", "p226")),
    ]);
    assert_eq!(found, expected);
    let report = check_speech(&vctk).unwrap().to_string();
    assert!(
        report.contains("left out, 3: a recording that no line names"),
        "{report}"
    );

    let mls = dir.path().join("mls");
    for (split, id) in [
        ("train", "7_8_000"),
        ("train", "7_8_001"),
        ("dev", "9_1_000"),
    ] {
        let place = id[..3].replace('_', "/");
        put(&mls.join(format!("{split}/audio/{place}/{id}.flac")), &flac);
    }
    put(
        &mls.join("train/transcripts.txt"),
        b"7_8_000\tone two\n7_8_001\tthree\n",
    );
    put(
        &mls.join("dev/transcripts.txt"),
        b"9_1_000\tfour\n9_1_001\tfive\n",
    );
    put(&mls.join("dev/audio/9/1/9_1_001.opus"), b"OggS");
    let [train, test] = Split::ALL.map(|split| open(&mls, split));
    assert_eq!((train.len(), test.len()), (2, 1));
    assert_eq!((train.text(0), train.speaker(0)), ("one two", "7"));
    assert_eq!((test.text(0), test.speaker(0)), ("four", "9"));
    let [skipped] = test.skipped() else {
        panic!("{:?}", test.skipped());
    };
    assert!(
        skipped.path.ends_with("9_1_001.opus") && skipped.reason.contains("the kind `opus`"),
        "{skipped:?}"
    );
    // A training folder alone is divided by a hash.
    fs::remove_dir_all(mls.join("dev")).unwrap();
    let [train, test] = Split::ALL.map(|split| open(&mls, split));
    assert_eq!((train.len(), test.len()), (1, 1));
}

#[test]
fn what_cannot_be_told_is_refused_with_what_would_do() {
    let dir = tempfile::tempdir().unwrap();
    recording(&dir.path().join("a.wav"), 0.1);
    let refused = |dir: &Path| {
        let error = SpeechDataset::open(dir, SPEC, Split::Train).unwrap_err();
        error.to_string()
    };
    assert!(SpeechDataset::is_speech(dir.path()), "sound and no table");
    recording(&dir.path().join("b.wav"), 0.1);
    put(&dir.path().join("cover.jpg"), b"a picture");
    assert!(SpeechDataset::is_speech(dir.path()), "an album");
    put(&dir.path().join("back.jpg"), b"another");
    assert!(!SpeechDataset::is_speech(dir.path()), "pictures with sound");
    for name in ["b.wav", "cover.jpg", "back.jpg"] {
        fs::remove_file(dir.path().join(name)).unwrap();
    }
    let message = refused(dir.path());
    assert!(message.contains("audio_filepath"), "{message}");
    put(&dir.path().join("metadata.csv"), b"a.wav,hello\n");
    assert!(SpeechDataset::is_speech(dir.path()));
    let message = refused(dir.path());
    assert!(
        message.contains("metadata.csv: says nowhere") && message.contains("`id|text`"),
        "{message}"
    );
    fs::remove_file(dir.path().join("metadata.csv")).unwrap();
    put(
        &dir.path().join("metadata.jsonl"),
        br#"{"audio_filepath": "a.wav", "caption": "hello"}"#,
    );
    let message = refused(dir.path());
    assert!(
        message.contains("line 1: not a record: missing field `text` (or `transcription`"),
        "{message}"
    );
}

#[test]
fn tables_of_pictures_are_no_speech() {
    for (name, table) in [
        ("metadata.csv", "file_name,text\n1.png,a cat\n"),
        (
            "metadata.jsonl",
            r#"{"file_name": "1.png", "text": "a cat"}"#,
        ),
        (
            "train/metadata.jsonl",
            r#"{"file_name": "1.jpg", "text": "a"}"#,
        ),
        ("train/metadata.csv", "file_name,label\n1.jpeg,cat\n"),
    ] {
        let dir = tempfile::tempdir().unwrap();
        put(&dir.path().join(name), table.as_bytes());
        put(&dir.path().join("1.png"), b"x");
        assert!(!SpeechDataset::is_speech(dir.path()), "{name}");
    }
}

/// Small tables have both splits, whatever the hashes are, and the same splits in any order.
#[test]
fn at_least_one_recording_is_held_out() {
    for count in 2..9 {
        let mut before = None;
        for turned in [false, true] {
            let dir = tempfile::tempdir().unwrap();
            let mut lines: Vec<String> = (0..count).map(|i| format!("{i}|text {i}\n")).collect();
            if turned {
                lines.reverse();
            }
            for index in 0..count {
                recording(&dir.path().join(format!("wavs/{index}.wav")), 0.05);
            }
            put(&dir.path().join("metadata.csv"), lines.concat().as_bytes());
            let [train, test] = Split::ALL.map(|split| open(dir.path(), split));
            assert_eq!(train.len() + test.len(), count);
            let held_out: Vec<&str> = (0..test.len()).map(|i| test.text(i)).collect();
            let trained: Vec<&str> = (0..train.len()).map(|i| train.text(i)).collect();
            assert!(held_out.iter().all(|text| !trained.contains(text)));
            let all: BTreeSet<String> = held_out.iter().map(ToString::to_string).collect();
            assert_eq!(*before.get_or_insert_with(|| all.clone()), all);
            let name = format!("wavs/{}.wav", &held_out[0][5..]);
            // An unusable recording is not counted as the held-out one.
            fs::write(dir.path().join(name), "no sound").unwrap();
            if count > held_out.len() + 1 {
                let again = open(dir.path(), Split::Test);
                assert_ne!(again.text(0), held_out[0]);
            }
        }
    }
    let dir = tempfile::tempdir().unwrap();
    recording(&dir.path().join("wavs/a.wav"), 0.05);
    put(&dir.path().join("metadata.csv"), b"a|one\n");
    let messages = Split::ALL.map(|split| SpeechDataset::open(dir.path(), SPEC, split));
    let messages: Vec<String> = messages
        .into_iter()
        .filter_map(Result::err)
        .map(|error| error.to_string())
        .collect();
    let [message] = &messages[..] else {
        panic!("{messages:?}");
    };
    assert!(
        message.contains("add recordings") && !message.contains("pictures"),
        "{message}"
    );
}

/// Texts that look alike are equal after normalization.
#[test]
fn texts_are_normal() {
    let dir = tempfile::tempdir().unwrap();
    recording(&dir.path().join("wavs/a.wav"), 0.05);
    recording(&dir.path().join("wavs/b.wav"), 0.05);
    let table = "a|Cafe\u{301}\u{a0}at  nine \u{feff}\nb|two\t one\n";
    put(&dir.path().join("metadata.csv"), table.as_bytes());
    let found = texts(dir.path());
    assert_eq!(found["wavs/a.wav"].0, "Caf\u{e9} at nine");
    assert_eq!(found["wavs/b.wav"].0, "two one");
}

/// Multilingual LibriSpeech's English part has 10.8 million lines. What is needed is told, and nothing is left out
/// instead.
#[test]
fn transcripts_beyond_the_bounds_are_refused_with_what_is_needed() {
    let dir = tempfile::tempdir().unwrap();
    for (split, count) in [("test", 1), ("train", 3)] {
        let own = dir.path().join(split);
        let mut lines = String::new();
        for index in 0..count {
            lines += &format!("7_9_{index}\tsentence {index}\n");
            recording(&own.join(format!("audio/7/9/7_9_{index}.flac")), 0.2);
        }
        put(&own.join("transcripts.txt"), lines.as_bytes());
    }
    let told = |bounds| {
        let opened = SpeechDataset::open_within(dir.path(), SPEC, Split::Train, bounds);
        opened.map_or_else(|error| error.to_string(), |set| set.len().to_string())
    };
    let lines = |table_lines| {
        told(SpeechBounds {
            table_lines,
            ..SpeechBounds::default()
        })
    };
    assert_eq!(lines(4), "3");
    for (most, what) in [(3, "lines with the tables before it"), (2, "lines")] {
        let message = lines(most);
        let part = format!(
            "train/transcripts.txt: has more than {most} {what}, the most that are read; data.max_lines (of \
             `data check`: --max-lines) allows more: 4 at least"
        );
        assert!(message.ends_with(&part), "{message}");
    }
    let message = told(SpeechBounds {
        table_bytes: 30,
        ..SpeechBounds::default()
    });
    let part = "is larger than 30 bytes, the most that is read; data.max_table_mb (of `data check`: \
                --max-table-mb) allows more: 1 at least";
    assert!(message.ends_with(part), "{message}");
}
