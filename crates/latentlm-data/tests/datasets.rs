//! Tests of the shipped datasets, and of valid and broken datasets of all layouts.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};

use latentlm_data::{CheckReport, ImageDataset, ImageSpec, Split, check};

const GREY: ImageSpec = ImageSpec {
    channels: 1,
    height: 32,
    width: 32,
};
const COLOUR: ImageSpec = ImageSpec {
    channels: 3,
    ..GREY
};

fn shipped(name: &str) -> PathBuf {
    let datasets = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../datasets");
    datasets.join(name)
}

fn png(path: &Path, value: u8) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    image::GrayImage::from_pixel(40, 36, image::Luma([value]))
        .save(path)
        .unwrap();
}

fn open(path: &Path, split: Split) -> ImageDataset {
    ImageDataset::open(path, GREY, split).unwrap()
}

fn error_of(path: &Path, split: Split) -> String {
    ImageDataset::open(path, GREY, split)
        .unwrap_err()
        .to_string()
}

fn error(path: &Path) -> String {
    error_of(path, Split::Train)
}

fn counts(report: &CheckReport) -> Vec<(&str, usize, usize)> {
    let classes = report.classes.iter();
    classes
        .map(|class| (class.name.as_str(), class.train, class.test))
        .collect()
}

#[test]
fn mnist_ships_with_its_held_out_part() {
    let train = open(&shipped("mnist"), Split::Train);
    let test = open(&shipped("mnist"), Split::Test);
    assert_eq!((train.len(), test.len()), (9000, 1000));
    assert_eq!(train.classes().len(), 10);
    let digits: Vec<u32> = (0..8).map(|i| train.label(i)).collect();
    assert_eq!(digits, [9, 3, 7, 0, 9, 7, 7, 9]);
    // 28x28 in the middle of 32x32: the frame of two pixels is black, the inside is not.
    let digit = train.get(0).unwrap().pixels;
    let framed = |i: usize| !(2..30).contains(&(i / 32)) || !(2..30).contains(&(i % 32));
    assert!((0..1024).filter(|&i| framed(i)).all(|i| digit[i] == 0));
    assert!(digit.iter().any(|&p| p > 200));
}

#[test]
fn no_held_out_digit_is_trained_on() {
    let pixels = |split| {
        let set = open(&shipped("mnist"), split);
        let digits = (0..set.len()).map(|i| set.get(i).unwrap().pixels);
        digits.collect::<HashSet<_>>()
    };
    let (train, test) = (pixels(Split::Train), pixels(Split::Test));
    assert_eq!(
        (train.len(), test.len()),
        (9000, 1000),
        "no digit is there twice"
    );
    assert!(train.is_disjoint(&test));
}

#[test]
fn the_fingerprint_of_digits_is_part_of_the_format() {
    // sha256 of the geometry and the class names, as Debug writes them, the pixels and the labels;
    // computed in Python. Another value would rebuild the caches of all runs.
    let train = open(&shipped("mnist"), Split::Train);
    assert_eq!(
        train.fingerprint(),
        "785b1eeff4706927cbeab4334a74f524439c69dee7405d061f510113486a542f"
    );
    let test = open(&shipped("mnist"), Split::Test);
    assert_ne!(train.fingerprint(), test.fingerprint());
}

#[test]
fn twemoji_cells_are_the_sheets_pixels() {
    let path = shipped("twemoji");
    let train = ImageDataset::open(&path, COLOUR, Split::Train).unwrap();
    let test = ImageDataset::open(&path, COLOUR, Split::Test).unwrap();
    assert_eq!((train.len(), test.len()), (1707, 199));
    assert_eq!(train.classes(), test.classes());
    assert_eq!(
        (train.classes().len(), train.classes()[0].as_str()),
        (9, "Activities")
    );
    let sheet = image::open(path.join("sheet-32.png")).unwrap().to_rgba8();
    let lines = fs::read_to_string(path.join("metadata.jsonl")).unwrap();
    let records = lines
        .lines()
        .map(|line| serde_json::from_str(line).unwrap());
    let records: Vec<serde_json::Value> = records
        .filter(|r: &serde_json::Value| r["split"] == "test")
        .collect();
    for (i, record) in records.iter().enumerate() {
        let sample = test.get(i).unwrap();
        assert_eq!(
            record["label"],
            test.classes()[sample.label as usize].as_str()
        );
        let text = record["name"].as_str().unwrap().to_lowercase();
        assert_eq!(sample.text, Some(text));
        let corner = |key: &str| record[key].as_u64().unwrap() as u32 * 34 + 1;
        for (at, channel) in (0..3 * 1024).map(|j| (j % 1024, j / 1024)) {
            let (x, y) = (corner("sheet_x") + at % 32, corner("sheet_y") + at / 32);
            let pixel = sheet.get_pixel(x, y).0.map(f64::from);
            let alpha = pixel[3] / 255.0;
            let over_white = (pixel[channel as usize] * alpha + 255.0 * (1.0 - alpha)).round();
            let got = f64::from(sample.pixels[(channel * 1024 + at) as usize]);
            assert_eq!(got, over_white, "{record} at {at}");
        }
    }
}

#[test]
fn a_clone_goes_to_another_thread() {
    fn shared<T: Clone + Send + Sync + 'static>(_: &T) {}
    shared(&open(&shipped("mnist"), Split::Test));
}

#[test]
fn class_folders_are_divided_once_and_for_all() {
    let dir = tempfile::tempdir().unwrap();
    for i in 0..40 {
        png(&dir.path().join(format!("cat/{i}.png")), 10);
        png(&dir.path().join(format!("dog/{i}.png")), 200);
    }
    let train = ImageDataset::open(dir.path(), GREY, Split::Train).unwrap();
    let test = ImageDataset::open(dir.path(), GREY, Split::Test).unwrap();
    assert_eq!(train.len() + test.len(), 80);
    assert!(test.len() > 1 && test.len() < 20, "{}", test.len());
    assert_eq!(train.classes(), ["cat", "dog"]);
    for dataset in [train, test] {
        for i in 0..dataset.len() {
            let sample = dataset.get(i).unwrap();
            let expected = if sample.label == 0 { 10 } else { 200 };
            assert!(sample.pixels.iter().all(|&p| p == expected));
        }
    }
}

#[test]
fn metadata_gives_captions_and_labels() {
    let dir = tempfile::tempdir().unwrap();
    png(&dir.path().join("a.png"), 1);
    png(&dir.path().join("b.png"), 2);
    let lines = concat!(
        "{\"file_name\": \"a.png\", \"text\": \"one\", \"label\": \"x\", \"split\": \"train\"}\n",
        "{\"file_name\": \"b.png\", \"text\": \"two\", \"label\": \"y\", \"split\": \"test\"}\n",
    );
    fs::write(dir.path().join("metadata.jsonl"), lines).unwrap();
    let test = ImageDataset::open(dir.path(), GREY, Split::Test).unwrap();
    let sample = test.get(0).unwrap();
    assert_eq!((sample.label, sample.text.as_deref()), (1, Some("two")));
    assert_eq!(test.classes(), ["x", "y"]);
}

#[test]
fn broken_folders_get_one_clear_line() {
    let dir = tempfile::tempdir().unwrap();
    let missing = dir.path().join("none");
    assert!(error(&missing).contains("none"), "{}", error(&missing));
    assert!(error(dir.path()).contains("holds no dataset"));
    fs::create_dir(dir.path().join("data")).unwrap();
    fs::write(dir.path().join("data/0.parquet"), "PAR1").unwrap();
    let message = error(dir.path());
    assert!(
        message.contains("holds no dataset") && message.contains("as speech, a metadata.jsonl"),
        "{message}"
    );
    fs::remove_dir_all(dir.path().join("data")).unwrap();

    png(&dir.path().join("cat/1.png"), 1);
    fs::create_dir(dir.path().join("dog")).unwrap();
    assert!(
        error(dir.path()).contains("dog holds no PNG"),
        "{}",
        error(dir.path())
    );

    fs::write(
        dir.path().join("metadata.jsonl"),
        "{\"file_name\": \"x.png\"}\n",
    )
    .unwrap();
    assert!(
        error(dir.path()).contains("line 1"),
        "{}",
        error(dir.path())
    );
    fs::write(dir.path().join("metadata.jsonl"), "{oops\n").unwrap();
    assert!(
        error(dir.path()).contains("not a record"),
        "{}",
        error(dir.path())
    );
    fs::write(
        dir.path().join("metadata.jsonl"),
        "{\"sheet\": \"cat/1.png\"}\n",
    )
    .unwrap();
    assert!(
        error(dir.path()).contains("needs `file_name`"),
        "{}",
        error(dir.path())
    );
}

#[test]
fn a_number_means_one_class_in_both_splits() {
    let dir = tempfile::tempdir().unwrap();
    for class in ["cat", "dog", "eel"] {
        png(&dir.path().join("train").join(class).join("1.png"), 10);
    }
    for class in ["cat", "eel"] {
        png(&dir.path().join("val").join(class).join("2.png"), 20);
    }
    let test = open(dir.path(), Split::Test);
    assert_eq!(test.classes(), ["cat", "dog", "eel"]);
    assert_eq!((test.label(0), test.label(1)), (0, 2));

    png(&dir.path().join("val/fox/2.png"), 20);
    assert!(
        error(dir.path()).contains("fox: a held-out class"),
        "{}",
        error(dir.path())
    );
}

#[test]
fn pictures_without_classes_are_not_classes() {
    let dir = tempfile::tempdir().unwrap();
    png(&dir.path().join("train/1.png"), 10);
    png(&dir.path().join("test/2.png"), 10);
    assert!(
        error(dir.path()).contains("train: holds no class"),
        "{}",
        error(dir.path())
    );
}

#[test]
fn idx_splits_share_their_classes() {
    let dir = tempfile::tempdir().unwrap();
    let idx = |name: &str, header: &[u32], data: &[u8]| {
        let mut bytes: Vec<u8> = header.iter().flat_map(|word| word.to_be_bytes()).collect();
        bytes.extend(data);
        fs::write(dir.path().join(name), bytes).unwrap();
    };
    idx("train-images-idx3-ubyte", &[0x803, 2, 1, 1], &[1, 2]);
    idx("train-labels-idx1-ubyte", &[0x801, 2], &[0, 25]);
    idx("t10k-images-idx3-ubyte", &[0x803, 1, 1, 1], &[3]);
    assert!(error_of(dir.path(), Split::Test).contains("t10k-labels-idx1-ubyte"));
    idx("t10k-labels-idx1-ubyte", &[0x801, 1], &[4]);
    for split in Split::ALL {
        assert_eq!(open(dir.path(), split).classes().len(), 26);
    }
    let report = check(dir.path()).unwrap();
    assert_eq!(counts(&report)[25], ("25", 1, 0));
    assert_eq!(report.sizes, Some([(1, 1); 2]));
}

#[test]
fn numbered_classes_keep_their_numbers() {
    let dir = tempfile::tempdir().unwrap();
    let mut lines = String::new();
    for i in 0..12 {
        png(&dir.path().join(format!("{i}.png")), i);
        // Labels are written as numbers and as strings.
        let label = if i % 2 == 0 {
            format!("{i}")
        } else {
            format!("\"{i}\"")
        };
        lines +=
            &format!("{{\"file_name\": \"{i}.png\", \"label\": {label}, \"split\": \"train\"}}\n");
    }
    fs::write(dir.path().join("metadata.jsonl"), lines).unwrap();
    let train = open(dir.path(), Split::Train);
    let expected: Vec<String> = (0..12).map(|i| i.to_string()).collect();
    assert_eq!(train.classes(), expected);
    assert!((0..12).all(|i| train.label(i) == i as u32));
}

#[test]
fn bad_records_are_named_by_line() {
    let cases = [
        (
            "{\"file_name\": \"a.png\", \"split\": \"tarin\"}",
            "split `tarin`",
        ),
        (
            "{\"file_name\": \"a.png\", \"label\": -1}",
            "whole number from 0",
        ),
        ("{\"file_name\": \"b.png\"}", "b.png does not exist"),
        ("{\"text\": \"a\"}", "needs `file_name`"),
        ("[", "not a record"),
    ];
    for (line, part) in cases {
        let dir = tempfile::tempdir().unwrap();
        png(&dir.path().join("a.png"), 1);
        let good = "{\"file_name\": \"a.png\", \"split\": \"train\"}";
        fs::write(
            dir.path().join("metadata.jsonl"),
            format!("{good}\n\n{line}\n"),
        )
        .unwrap();
        let message = error(dir.path());
        assert!(
            message.contains("line 3: ") && message.contains(part),
            "{message}"
        );
        // The other samples are still counted.
        let report = check(dir.path()).unwrap();
        assert_eq!(counts(&report), [("all", 1, 0)]);
        assert_eq!(report.problems.len(), 1, "{report}");
        assert!(report.problems[0].what.contains(part), "{report}");
    }
}

#[test]
fn geometries_that_do_not_exist_are_refused() {
    for (channels, height) in [(2, 32), (3, 0)] {
        let spec = ImageSpec {
            channels,
            height,
            width: 32,
        };
        let error = ImageDataset::open(&shipped("mnist"), spec, Split::Train).unwrap_err();
        assert!(
            error.to_string().contains("channels must be 1 or 3"),
            "{error}"
        );
    }
}

#[test]
fn the_fingerprint_sees_names_sizes_labels_and_sheets() {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, label: &str| {
        let line = format!(
            "{{\"file_name\": \"{name}\", \"label\": \"{label}\", \"split\": \"train\"}}\n"
        );
        fs::write(dir.path().join("metadata.jsonl"), line).unwrap();
        open(dir.path(), Split::Train).fingerprint()
    };
    png(&dir.path().join("a.png"), 1);
    png(&dir.path().join("b/a.png"), 1);
    let first = write("a.png", "x");
    assert_eq!(write("a.png", "x"), first);
    assert_ne!(write("b/a.png", "x"), first);
    assert_ne!(write("a.png", "y"), first);
    let other = image::GrayImage::from_fn(40, 36, |x, y| image::Luma([(x * y) as u8]));
    other.save(dir.path().join("a.png")).unwrap();
    assert_ne!(write("a.png", "x"), first);

    let line = "{\"sheet\": \"b/a.png\", \"sheet_x\": 0, \"sheet_y\": 0, \"split\": \"train\"}\n";
    fs::write(dir.path().join("metadata.jsonl"), line).unwrap();
    let first = open(dir.path(), Split::Train).fingerprint();
    png(&dir.path().join("b/a.png"), 2);
    assert_ne!(open(dir.path(), Split::Train).fingerprint(), first);
}

#[test]
fn check_names_truncated_pictures_and_empty_classes() {
    let dir = tempfile::tempdir().unwrap();
    for i in 0..20 {
        png(&dir.path().join(format!("cat/{i}.png")), 10);
    }
    let cut = dir.path().join("cat/3.png");
    let bytes = fs::read(&cut).unwrap();
    fs::write(&cut, &bytes[..bytes.len() / 2]).unwrap();
    fs::create_dir(dir.path().join("dog")).unwrap();
    let report = check(dir.path()).unwrap();
    let text = report.to_string();
    assert!(
        text.contains("3.png") && text.contains("dog holds no PNG"),
        "{text}"
    );
    assert_eq!(report.problems.len(), 2, "{text}");
    assert_eq!(report.problems[1].path, cut);
    assert_eq!(report.sizes, Some([(40, 36), (40, 36)]));
    let counts = counts(&report);
    assert_eq!((counts[0].1 + counts[0].2, counts[1]), (19, ("dog", 0, 0)));
}

#[test]
fn check_finds_nothing_wrong_in_what_ships() {
    let cases = [
        ("mnist", 9000, 1000, 28, 0),
        ("twemoji", 1707, 199, 32, 1906),
    ];
    for (name, train, test, side, texts) in cases {
        let report = check(&shipped(name)).unwrap();
        assert!(report.problems.is_empty(), "{report}");
        let totals = (report.total(Split::Train), report.total(Split::Test));
        assert_eq!((totals, report.texts), ((train, test), texts), "{report}");
        assert_eq!(report.sizes, Some([(side, side); 2]));
    }
}

#[test]
fn a_broken_sheet_is_one_problem() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("sheet.png"), b"no picture").unwrap();
    let line = "{\"sheet\": \"sheet.png\", \"sheet_x\": 0, \"sheet_y\": 0, \"split\": \"train\"}\n";
    fs::write(dir.path().join("metadata.jsonl"), line.repeat(5)).unwrap();
    let report = check(dir.path()).unwrap();
    assert_eq!(report.problems.len(), 1, "{report}");
    assert!(
        error(dir.path()).contains("sheet.png"),
        "{}",
        error(dir.path())
    );
}

/// A dataset of each layout, small enough to damage each of its bytes.
fn small_sets(root: &Path) -> Vec<(PathBuf, PathBuf)> {
    let idx = root.join("idx");
    fs::create_dir(&idx).unwrap();
    for split in ["train", "test"] {
        let images = [
            &[0, 0, 8, 3, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 2][..],
            &[5, 6],
        ]
        .concat();
        fs::write(idx.join(format!("{split}-images-idx3-ubyte")), images).unwrap();
        let labels = [0, 0, 8, 1, 0, 0, 0, 1, 7];
        fs::write(idx.join(format!("{split}-labels-idx1-ubyte")), labels).unwrap();
    }
    let sheet = root.join("sheet");
    png(&sheet.join("sheet.png"), 3);
    let line = "{\"sheet\": \"sheet.png\", \"sheet_x\": 0, \"sheet_y\": 0, \"label\": 1, \"split\": \"train\"}";
    fs::write(sheet.join("metadata.jsonl"), line).unwrap();
    let classes = root.join("classes");
    png(&classes.join("cat/1.png"), 4);
    vec![
        (idx.clone(), idx.join("train-images-idx3-ubyte")),
        (idx.clone(), idx.join("test-labels-idx1-ubyte")),
        (sheet.clone(), sheet.join("sheet.png")),
        (sheet.clone(), sheet.join("metadata.jsonl")),
        (classes.clone(), classes.join("cat/1.png")),
    ]
}

#[test]
fn no_damage_panics() {
    let dir = tempfile::tempdir().unwrap();
    for (folder, file) in small_sets(dir.path()) {
        let good = fs::read(&file).unwrap();
        for at in 0..good.len() {
            let mut flipped = good.clone();
            flipped[at] ^= 0xff;
            for bytes in [&flipped, &good[..at]] {
                fs::write(&file, bytes).unwrap();
                // Any result is fine, as long as the call returns.
                let _ = check(&folder).map(|report| report.to_string());
                for split in Split::ALL {
                    if let Ok(set) = ImageDataset::open(&folder, COLOUR, split) {
                        let _ = (set.get(0), set.fingerprint());
                    }
                }
            }
        }
        fs::write(&file, good).unwrap();
    }
}

#[test]
fn a_cell_outside_the_sheet_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    png(&dir.path().join("sheet.png"), 1);
    let line = "{\"sheet\": \"sheet.png\", \"sheet_x\": 4000000000, \"sheet_y\": 0, \"split\": \"train\"}\n";
    fs::write(dir.path().join("metadata.jsonl"), line).unwrap();
    let message = error(dir.path());
    assert!(message.contains("has no cell 4000000000, 0"), "{message}");
    let report = check(dir.path()).unwrap();
    assert_eq!(report.problems.len(), 1, "{report}");
}
