//! Tests of tables that name pictures, and of pictures that no table names.

use std::fs;

use super::*;

#[test]
fn tables_of_comma_separated_values_are_read() {
    let dir = tempfile::tempdir().unwrap();
    let mut table = String::from("\u{feff}file_name,text,label,split,author\r\n");
    for i in 0..6 {
        png(&dir.path().join(format!("pictures/{i}.png")), i * 10);
        let (class, split) = (i % 2, if i < 4 { "train" } else { "test" });
        table += &format!("pictures/{i}.png,\"a \"\"{i}\"\", big\",{class},{split},me\r\n");
    }
    fs::write(dir.path().join("metadata.csv"), &table).unwrap();
    let [train, test] = open(dir.path());
    assert_eq!((train.len(), test.len()), (4, 2));
    assert_eq!(
        (train.classes(), train.kind()),
        (&["0".to_owned(), "1".into()][..], DatasetKind::MetadataCsv)
    );
    let sample = test.get(1).unwrap();
    assert_eq!((sample.pixels[0], sample.label), (50, 1));
    assert_eq!(sample.text.as_deref(), Some("a \"5\", big"));
    let report = check(dir.path()).unwrap();
    assert!(
        report
            .to_string()
            .contains(": metadata.csv with pictures\n")
    );
    assert!(
        report.problems.is_empty() && report.left_out.is_empty(),
        "{report}"
    );

    table += "pictures/0.png,text\n";
    fs::write(dir.path().join("metadata.csv"), &table).unwrap();
    let report = check(dir.path()).unwrap();
    let what = &report.problems[0].what;
    assert!(what.contains("line 8: has 2 cells"), "{what}");
    fs::write(dir.path().join("metadata.csv"), "id|text|text\n1|a|a\n").unwrap();
    let message = both(dir.path(), ReadOptions::default()).unwrap_err();
    assert!(
        message.to_string().contains("`file_name` among them"),
        "{message}"
    );
}

#[test]
fn tables_below_train_and_test_are_one_dataset() {
    let dir = tempfile::tempdir().unwrap();
    for (split, count) in [("train", 3), ("test", 2)] {
        let mut lines = String::from("\u{feff}");
        for i in 0..count {
            png(&dir.path().join(format!("{split}/{i}.png")), 10 * i + 5);
            lines += &format!("{{\"file_name\": \"{i}.png\", \"text\": \"{split} {i}\"}}\n");
        }
        fs::write(dir.path().join(split).join("metadata.jsonl"), lines).unwrap();
    }
    let [train, test] = open(dir.path());
    assert_eq!((train.len(), test.len()), (3, 2));
    let sample = test.get(1).unwrap();
    assert_eq!(
        (sample.pixels[0], sample.text.as_deref()),
        (15, Some("test 1"))
    );
    let report = check(dir.path()).unwrap();
    assert!(
        report.problems.is_empty() && report.left_out.is_empty(),
        "{report}"
    );
    // Without a held-out folder, the training folder is split by hash.
    fs::remove_dir_all(dir.path().join("test")).unwrap();
    let (train, test) = lengths(&open(dir.path()));
    assert!(train > 0 && test > 0 && train + test == 3);
}

/// Names of folders, and of splits in a table, as corpora of speech have them.
#[test]
fn held_out_pictures_are_known_by_six_names() {
    for name in ["test", "val", "valid", "validation", "dev", "eval"] {
        let dir = tempfile::tempdir().unwrap();
        let mut lines = String::new();
        for (split, count) in [("train", 3), (name, 1)] {
            for i in 0..count {
                let file = format!("{split}/cat/{i}.png");
                png(&dir.path().join(&file), 10);
                lines += &format!("{{\"file_name\": \"{file}\", \"split\": \"{split}\"}}\n");
            }
        }
        assert_eq!(lengths(&open(dir.path())), (3, 1), "{name}");
        fs::write(dir.path().join("metadata.jsonl"), lines).unwrap();
        assert_eq!(lengths(&open(dir.path())), (3, 1), "{name}");
        let report = check(dir.path()).unwrap();
        assert!(report.problems.is_empty(), "{name}: {report}");
    }
}

#[test]
fn loose_pictures_are_one_class() {
    let dir = tempfile::tempdir().unwrap();
    for i in 0..20 {
        png(&dir.path().join(format!("{i:03}.png")), 10);
    }
    png(&dir.path().join("__MACOSX/._000.png"), 10);
    let sets = open(dir.path());
    assert_eq!(sets[0].kind(), DatasetKind::Loose);
    assert_eq!(sets[0].classes(), ["all"]);
    let (train, test) = lengths(&sets);
    assert!(train + test == 20 && test > 0);
    let report = check(dir.path()).unwrap();
    assert!(report.to_string().contains(": pictures without classes\n"));
    assert!(report.problems.is_empty(), "{report}");
}

#[test]
fn a_table_names_files_of_its_folder_only() {
    let dir = tempfile::tempdir().unwrap();
    let set = dir.path().join("set");
    png(&dir.path().join("secret.png"), 99);
    png(&set.join("a.png"), 10);
    png(&set.join("sub/b.png"), 20);
    let secret = dir.path().join("secret.png");
    let absolute = secret.to_str().unwrap();
    for (name, inside) in [
        ("../secret.png", false),
        ("sub/../../secret.png", false),
        (absolute, false),
        ("sub/../a.png", true),
        ("./sub/b.png", true),
    ] {
        let line = serde_json::json!({"file_name": name, "split": "train"});
        fs::write(set.join("metadata.jsonl"), format!("{line}\n")).unwrap();
        let report = check(&set).unwrap();
        assert_eq!(report.total(Split::Train), usize::from(inside), "{name}");
        let opened = both(&set, ReadOptions::default());
        assert_eq!(opened.is_ok(), inside, "{name}");
        if !inside {
            let message = opened.unwrap_err().to_string();
            assert!(message.contains("lies outside of the dataset"), "{message}");
        }
        let outside = ReadOptions {
            outside: true,
            ..ReadOptions::default()
        };
        assert_eq!(both(&set, outside).unwrap()[0].len(), 1, "{name}");
        let report = check_with(&set, &outside).unwrap();
        assert_eq!(report.total(Split::Train), 1, "{name}");
    }
    let line = "{\"sheet\": \"../secret.png\", \"sheet_x\": 0, \"sheet_y\": 0}\n";
    fs::write(set.join("metadata.jsonl"), line).unwrap();
    let report = check(&set).unwrap();
    assert!(report.problems[0].what.contains("lies outside"), "{report}");
}

#[test]
fn files_that_no_line_names_are_named() {
    let dir = tempfile::tempdir().unwrap();
    png(&dir.path().join("a.png"), 10);
    png(&dir.path().join("b.png"), 10);
    png(&dir.path().join("more/c.bmp"), 10);
    let line = "{\"file_name\": \"./a.png\", \"split\": \"train\"}\n";
    let lines = format!("{line}{}", line.replace("train", "test"));
    fs::write(dir.path().join("metadata.jsonl"), lines).unwrap();
    let report = check(dir.path()).unwrap();
    let reason = "a picture that no line of the table names".to_owned();
    let expected = ["b.png", "more/c.bmp"].map(|name| (name.to_owned(), reason.clone()));
    assert_eq!(left_out(&report), expected);
}

#[test]
fn tables_of_speech_are_refused_as_pictures() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("a.wav"), b"RIFF").unwrap();
    for line in [
        "{\"audio_filepath\": \"a.wav\", \"text\": \"a\", \"duration\": 1.0}",
        "{\"file_name\": \"a.wav\", \"transcription\": \"a\"}",
        "{\"audio\": \"a.wav\", \"text\": \"a\"}",
    ] {
        fs::write(dir.path().join("metadata.jsonl"), line).unwrap();
        let message = both(dir.path(), ReadOptions::default()).unwrap_err();
        assert!(message.to_string().contains("train-tts"), "{message}");
        assert!(!latentlm_data::is_pictures(dir.path()));
    }
}
