//! Tests of unused files inside a corpus, of silent recordings and of damaged ones.

use std::fs;

use hound::SampleFormat;
use latentlm_data::Split;
use latentlm_data::speech::{
    SpeechBounds, SpeechDataset, check_speech, check_speech_within, read_audio, wav_bytes,
};

use crate::corpora::recording;
use crate::{RATE, SPEC, fixture, metadata, open, put, tone};

#[test]
fn recordings_without_sound_are_left_out_by_name() {
    let dir = tempfile::tempdir().unwrap();
    recording(&dir.path().join("good.wav"), 0.2);
    put(&dir.path().join("zero.wav"), &wav_bytes(&[0.0; 3200], RATE));
    put(
        &dir.path().join("hiss.wav"),
        &wav_bytes(&[3e-5; 3200], RATE),
    );
    let spec = hound::WavSpec {
        channels: 2,
        sample_rate: RATE,
        bits_per_sample: 16,
        sample_format: SampleFormat::Int,
    };
    let path = dir.path().join("against.wav");
    let mut writer = hound::WavWriter::create(&path, spec).unwrap();
    for sample in tone(RATE, 3200) {
        let level = (sample * 32_767.0) as i16;
        writer.write_sample(level).unwrap();
        writer.write_sample(-level).unwrap();
    }
    writer.finalize().unwrap();
    let names = ["good", "zero", "hiss", "against"];
    let lines =
        names.map(|name| format!(r#"{{"audio": "{name}.wav", "text": "a", "split": "train"}}"#));
    metadata(dir.path(), &lines.each_ref().map(String::as_str));

    let report = check_speech(dir.path()).unwrap();
    assert_eq!(report.recordings, [1, 0]);
    let told: Vec<&str> = report.problems.iter().map(|p| p.what.as_str()).collect();
    assert_eq!(told.len(), 3, "{report}");
    for (name, part) in [
        ("zero.wav", "is silent: no sample"),
        ("hiss.wav", "is silent: no sample"),
        ("against.wav", "its channels cancel each other out"),
    ] {
        let found = told.iter().any(|t| t.contains(name) && t.contains(part));
        assert!(found, "{name}: {told:?}");
    }
    // Training leaves them out like broken recordings.
    let set = open(dir.path(), Split::Train);
    let errors = (0..set.len()).filter_map(|index| set.get(index).err());
    let errors: Vec<String> = errors.map(|error| error.to_string()).collect();
    assert_eq!(errors.len(), 3, "{errors:?}");
    assert!(errors.iter().all(|error| error.contains("is silent")));
    // They count as broken ones too.
    let check = |most| SpeechDataset::check_broken([&set, &set], most);
    check(0.75).unwrap();
    let told = check(0.74).unwrap_err().to_string();
    assert!(told.contains("6 of 8 samples can't be used"), "{told}");
}

#[cfg(unix)]
#[test]
fn what_is_no_part_of_a_corpus_is_counted_and_named() {
    use std::os::unix::fs::symlink;

    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("corpus");
    recording(&root.join("a.wav"), 0.1);
    recording(&root.join("b.wav"), 0.1);
    recording(&root.join("deep/er/c.wav"), 0.1);
    put(
        &root.join("deep/d.flac"),
        &fs::read(fixture("tone.flac")).unwrap(),
    );
    put(&root.join("e.opus"), b"OggS");
    put(&root.join("README.md"), b"no sound");
    put(&root.join("f.raw"), b"0000");
    put(&root.join("g.pcm"), b"0000");
    put(&root.join("metadata.csv"), b"a|a\n");
    put(&root.join("validated.tsv"), b"path\tsentence\n");
    symlink(&root, root.join("deep/up")).unwrap();
    let made = std::process::Command::new("mkfifo")
        .arg(root.join("pipe.wav"))
        .status();
    assert!(made.unwrap().success());
    let lines = [
        r#"{"audio": "a.wav", "text": "a", "split": "train"}"#,
        r#"{"audio": "./b.wav", "text": "b", "split": "test"}"#,
    ];
    metadata(&root, &lines);
    let text = check_speech(&root).unwrap().to_string();
    for (count, reason, names) in [
        (
            2,
            "a recording that no line names",
            &["deep/d.flac", "deep/er/c.wav"][..],
        ),
        (1, "a recording of a kind that is not read", &["e.opus"]),
        (
            3,
            "no recording, by its ending",
            &["README.md", "f.raw", "g.pcm"],
        ),
        (
            2,
            "a table that is not read: the corpus is listed in metadata.jsonl\n",
            &["metadata.csv", "validated.tsv"],
        ),
        (1, "a link to a folder that it lies in", &["deep/up"]),
        (1, "no regular file", &["pipe.wav"]),
    ] {
        let line = format!("left out, {count}: {reason}");
        assert!(text.contains(&line), "{line}: {text}");
        for name in names {
            let path = root.join(name);
            assert!(text.contains(&format!("  {}\n", path.display())), "{text}");
        }
    }
    // The other lines of the report have not changed.
    assert!(text.contains("1 recordings (0.1 s) to train on, 1 (0.1 s) held out\n"));
    assert!(text.ends_with("\nno problems found"), "{text}");

    // A pipe named by a line is reported; reading it would block forever.
    metadata(
        &root,
        &[
            lines[0],
            r#"{"audio": "pipe.wav", "text": "x", "split": "test"}"#,
        ],
    );
    let report = check_speech(&root).unwrap();
    assert!(
        report.problems[0]
            .what
            .contains("pipe.wav: is no regular file"),
        "{report}"
    );
}

/// Tables for splits are read together; those of other corpora beside them are not, and this is told.
#[test]
fn tables_that_are_not_read_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let header = "path\tsentence\n";
    for name in ["a", "b", "c"] {
        recording(&dir.path().join(format!("clips/{name}.wav")), 0.1);
    }
    for (table, line) in [
        ("train.tsv", "a.wav\tone\n"),
        ("test.tsv", "b.wav\ttwo\n"),
        ("validated.tsv", "c.wav\tthree\n"),
    ] {
        put(
            &dir.path().join(table),
            format!("{header}{line}").as_bytes(),
        );
    }
    put(&dir.path().join("manifest.json"), b"[]");
    let report = check_speech(dir.path()).unwrap();
    assert_eq!(report.recordings, [1, 1]);
    let mut told = Vec::new();
    for left in &report.left_out {
        let name = left.path.strip_prefix(dir.path()).unwrap();
        told.push((name.to_str().unwrap(), left.reason.to_string()));
    }
    let unread = "a table that is not read: the corpus is listed in train.tsv and others";
    let expected = [
        ("clips/c.wav", "a recording that no line names"),
        ("manifest.json", unread),
        ("validated.tsv", unread),
    ];
    let expected = expected.map(|(name, reason)| (name, reason.to_owned()));
    assert_eq!(told, expected);
}

/// A corpus with a link to itself inside is counted once.
#[cfg(unix)]
#[test]
fn trees_are_counted_once() {
    let dir = tempfile::tempdir().unwrap();
    let chapter = dir.path().join("84/9");
    for id in 0..4 {
        recording(&chapter.join(format!("84_9_{id}.wav")), 0.05);
        put(
            &chapter.join(format!("84_9_{id}.normalized.txt")),
            b"Go on.",
        );
    }
    for name in ["again", "84/up", "84/9/up"] {
        std::os::unix::fs::symlink(dir.path(), dir.path().join(name)).unwrap();
    }
    let sets = Split::ALL.map(|split| open(dir.path(), split).len());
    assert_eq!(sets.iter().sum::<usize>(), 4);
    let report = check_speech(dir.path()).unwrap();
    assert_eq!(report.recordings.iter().sum::<usize>(), 4);
    assert_eq!(report.left_out.len(), 3, "{report}");
}

/// Damaged files that made the decoder of Vorbis panic.
#[test]
fn panics_of_decoders_are_errors_of_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let mut lines = vec![r#"{"audio": "good.wav", "text": "a", "split": "train"}"#.to_owned()];
    put(
        &dir.path().join("good.wav"),
        &wav_bytes(&tone(RATE, 800), RATE),
    );
    let mut failed = 0;
    for name in [
        "aud-41314f7742-198.ogg",
        "aud-46a8c878f2-103.ogg",
        "aud-d528482ae9-104.ogg",
    ] {
        let path = fixture("crashes").join(name);
        let message = read_audio(&path).unwrap_err().to_string();
        assert!(
            message.contains(name) && !message.contains('\n'),
            "{message}"
        );
        // Without the panic's own text, which speaks of the decoder's source.
        failed += usize::from(message.ends_with(": is damaged, or no sound: its decoder failed"));
        fs::copy(&path, dir.path().join(name)).unwrap();
        lines.push(format!(
            r#"{{"audio": "{name}", "text": "a", "split": "train"}}"#
        ));
    }
    assert!(failed > 0, "none of them panics any more");
    let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
    metadata(dir.path(), &lines);
    let set = open(dir.path(), Split::Train);
    let read = (0..set.len()).filter(|index| set.get(*index).is_ok());
    assert_eq!(read.count(), 1);
}

#[test]
fn recordings_outside_of_the_folder_are_read_only_where_that_is_allowed() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("corpus");
    recording(&dir.path().join("far.wav"), 0.1);
    recording(&folder.join("near.wav"), 0.1);
    let far = dir.path().join("far.wav");
    let near = folder.join("near.wav");
    let outside = SpeechBounds {
        outside: true,
        ..SpeechBounds::default()
    };
    for (name, allowed) in [
        ("../far.wav", false),
        ("x/../../far.wav", false),
        (far.to_str().unwrap(), false),
        ("x/../near.wav", true),
        (near.to_str().unwrap(), true),
    ] {
        fs::create_dir_all(folder.join("x")).unwrap();
        let lines = format!("{{\"audio\": {name:?}, \"text\": \"a\", \"split\": \"train\"}}");
        put(&folder.join("metadata.jsonl"), lines.as_bytes());
        let opened = SpeechDataset::open(&folder, SPEC, Split::Train);
        match (opened, allowed) {
            (Ok(set), true) => assert_eq!(set.len(), 1, "{name}"),
            (Err(error), false) => {
                let message = error.to_string();
                assert!(
                    message.contains("line 1: ") && message.contains("leads out of"),
                    "{message}"
                );
                let key = "data.outside=true (of `data check`: --outside) allows that";
                assert!(message.contains(key), "{message}");
            }
            (opened, _) => panic!("{name}: {opened:?}"),
        }
        let set = SpeechDataset::open_within(&folder, SPEC, Split::Train, outside).unwrap();
        assert_eq!(set.get(0).unwrap().samples.len(), 1600, "{name}");
        let problems = |bounds| check_speech_within(&folder, bounds).unwrap().problems;
        let strict = problems(SpeechBounds::default());
        let told = strict
            .iter()
            .any(|problem| problem.what.contains("leads out of"));
        assert_eq!(told, !allowed, "{name}: {strict:?}");
        assert!(problems(outside).iter().all(|p| !p.what.contains("leads")));
    }
}
