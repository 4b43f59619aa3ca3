//! Tests of real-world picture datasets: broken pictures, unsupported kinds, other layouts, and files that must
//! not be opened, followed or unpacked.

mod tables;

use std::collections::HashSet;
use std::fs;
use std::path::Path;

use image::codecs::jpeg::JpegEncoder;
use latentlm_core::RandomStream;
use latentlm_data::{
    CheckReport, DataError, DatasetKind, ImageDataset, ImageSpec, ReadOptions, Split, check,
    check_with, read_picture,
};

const GREY: ImageSpec = ImageSpec {
    channels: 1,
    height: 16,
    width: 16,
};
const COLOUR: ImageSpec = ImageSpec {
    channels: 3,
    height: 16,
    width: 16,
};

fn png(path: &Path, value: u8) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    image::GrayImage::from_pixel(20, 20, image::Luma([value]))
        .save(path)
        .unwrap();
}

/// Writes a JPEG of noise, so that every row takes bytes.
fn jpeg(path: &Path, side: u32) -> Vec<u8> {
    let mut random = RandomStream::for_step(7, "jpeg", u64::from(side));
    let picture = image::RgbImage::from_fn(side, side, |_, _| {
        image::Rgb([0; 3].map(|_: u8| random.below(256) as u8))
    });
    let mut bytes = Vec::new();
    picture
        .write_with_encoder(JpegEncoder::new_with_quality(&mut bytes, 90))
        .unwrap();
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, &bytes).unwrap();
    bytes
}

fn cut(path: &Path) {
    let bytes = fs::read(path).unwrap();
    fs::write(path, &bytes[..bytes.len() / 2]).unwrap();
}

fn both(path: &Path, options: ReadOptions) -> Result<[ImageDataset; 2], DataError> {
    ImageDataset::open_both(path, GREY, options)
}

fn open(path: &Path) -> [ImageDataset; 2] {
    both(path, ReadOptions::default()).unwrap()
}

fn lengths([train, test]: &[ImageDataset; 2]) -> (usize, usize) {
    (train.len(), test.len())
}

fn total(path: &Path) -> usize {
    let (train, test) = lengths(&open(path));
    train + test
}

/// The files that a report leaves out, relative to the dataset's folder, with the reasons.
fn left_out(report: &CheckReport) -> Vec<(String, String)> {
    let list = report.left_out.iter().map(|left| {
        let name = left.path.strip_prefix(&report.path).unwrap();
        (name.display().to_string(), left.reason.to_string())
    });
    list.collect()
}

#[test]
fn one_broken_picture_of_many_is_left_out_and_listed() {
    let dir = tempfile::tempdir().unwrap();
    for i in 0..40 {
        png(&dir.path().join(format!("cat/{i}.png")), 10);
    }
    cut(&dir.path().join("cat/7.png"));
    let sets = open(dir.path());
    assert_eq!(lengths(&sets).0 + lengths(&sets).1, 39);
    for set in &sets {
        for index in 0..set.len() {
            assert!(set.get(index).unwrap().pixels.iter().all(|&p| p == 10));
        }
        let left_out = set.left_out();
        assert_eq!(left_out.len(), 1);
        assert_eq!(left_out[0].path, dir.path().join("cat/7.png"));
        let reason = left_out[0].reason.to_string();
        assert!(reason.starts_with("cannot be decoded: "), "{reason}");
    }
    // Without the broken file, everything is as if it had never existed.
    let fingerprint = sets[0].fingerprint();
    fs::remove_file(dir.path().join("cat/7.png")).unwrap();
    let clean = open(dir.path());
    assert!(clean[0].left_out().is_empty());
    assert_eq!(clean[0].fingerprint(), fingerprint);
}

#[test]
fn more_broken_pictures_than_allowed_are_an_error() {
    let dir = tempfile::tempdir().unwrap();
    for i in 0..40 {
        png(&dir.path().join(format!("cat/{i}.png")), 10);
    }
    for i in 0..3 {
        cut(&dir.path().join(format!("cat/{i}.png")));
    }
    let message = both(dir.path(), ReadOptions::default()).unwrap_err();
    let message = message.to_string();
    assert!(
        message.contains("3 of 40 samples") && message.contains("no more than 5.0 %"),
        "{message}"
    );
    assert!(message.contains("0.png"), "the first is named: {message}");
    let more = ReadOptions {
        max_broken: 0.1,
        ..ReadOptions::default()
    };
    let (train, test) = lengths(&both(dir.path(), more).unwrap());
    assert_eq!(train + test, 37);
    let none = ReadOptions {
        max_broken: 0.0,
        ..ReadOptions::default()
    };
    assert!(both(dir.path(), none).is_err());
}

/// Opening a large dataset of broken pictures fails early: not all of them are decoded first.
#[test]
fn so_many_broken_pictures_end_opening_early() {
    let dir = tempfile::tempdir().unwrap();
    for i in 0..12 {
        let path = dir.path().join(format!("cat/{i}.png"));
        png(&path, 10);
        cut(&path);
    }
    let told = |options| both(dir.path(), options).unwrap_err().to_string();
    let all = told(ReadOptions::default());
    assert!(all.contains("12 of 12 samples"), "{all}");
    // A quarter of so many.
    let options = ReadOptions {
        max_records: 20,
        ..ReadOptions::default()
    };
    let first = told(options);
    assert!(first.contains("5 of 12 samples"), "{first}");
    // So many that may be left out end nothing.
    for i in 12..40 {
        png(&dir.path().join(format!("cat/{i}.png")), 10);
    }
    let options = ReadOptions {
        max_broken: 0.5,
        ..options
    };
    let (train, test) = lengths(&both(dir.path(), options).unwrap());
    assert_eq!(train + test, 28);
}

#[test]
fn a_cut_jpeg_is_broken_and_a_missing_end_is_not() {
    let dir = tempfile::tempdir().unwrap();
    for i in 0..40 {
        png(&dir.path().join(format!("cat/{i}.png")), 10);
    }
    let path = dir.path().join("cat/a.jpg");
    let bytes = jpeg(&path, 256);
    for end in [bytes.len() / 25, bytes.len() / 2, bytes.len() - 50] {
        fs::write(&path, &bytes[..end]).unwrap();
        let report = check(dir.path()).unwrap();
        assert_eq!(report.problems.len(), 1, "{end}: {report}");
        let what = &report.problems[0].what;
        assert!(what.contains("of 256 rows"), "{end}: {what}");
        assert_eq!(total(dir.path()), 40);
        assert!(read_picture(&path, COLOUR).is_err());
    }
    let marked = [&bytes[..bytes.len() / 2], &[0xff, 0xd9]].concat();
    fs::write(&path, marked).unwrap();
    assert_eq!(check(dir.path()).unwrap().problems.len(), 1);
    let more = [&bytes[..], b"more"].concat();
    for whole in [&bytes[..bytes.len() - 2], &more[..]] {
        fs::write(&path, whole).unwrap();
        let report = check(dir.path()).unwrap();
        assert!(report.problems.is_empty(), "{report}");
        assert_eq!(total(dir.path()), 41);
        assert!(read_picture(&path, COLOUR).is_ok());
    }
}

#[test]
fn what_breaks_later_is_listed_and_another_stands_in() {
    let dir = tempfile::tempdir().unwrap();
    for i in 0..20 {
        png(&dir.path().join(format!("cat/{i}.png")), 10);
        png(&dir.path().join(format!("dog/{i}.png")), 200);
    }
    let [train, test] = open(dir.path());
    for i in 0..20 {
        fs::write(dir.path().join(format!("cat/{i}.png")), b"gone").unwrap();
    }
    let (cats, dogs): (Vec<usize>, Vec<usize>) =
        (0..train.len()).partition(|&index| train.label(index) == 0);
    let stand_in = |index: usize| {
        let mut random = RandomStream::for_step(1, "stand-in", 5);
        let mut bounds = Vec::new();
        let sample = train.get_or_draw(index, |bound| {
            bounds.push(bound);
            random.below(bound)
        });
        (sample.unwrap(), bounds)
    };
    // A valid sample is not replaced.
    assert_eq!(stand_in(dogs[0]), (train.get(dogs[0]).unwrap(), Vec::new()));
    assert!(train.left_out().is_empty());
    // A replacement comes from the same class first, then from any.
    let (sample, bounds) = stand_in(cats[0]);
    assert_eq!((sample.label, sample.pixels[0]), (1, 200));
    assert!(bounds.len() > 32 && bounds[..32].iter().all(|&bound| bound == cats.len() - 1));
    assert!(bounds[32..].iter().all(|&bound| bound == train.len()));
    // The replacement depends on the draws alone.
    assert_eq!(stand_in(cats[0]), (sample, bounds));
    let left_out = test.left_out();
    assert_eq!(left_out, train.left_out(), "one list of both splits");
    let paths: HashSet<&Path> = left_out.iter().map(|left| left.path.as_path()).collect();
    assert_eq!(paths.len(), left_out.len(), "each is listed once");
    assert!(
        paths
            .iter()
            .all(|path| path.starts_with(dir.path().join("cat")))
    );
    assert!(!paths.is_empty() && paths.len() <= 20);
}

#[test]
fn other_kinds_of_pictures_are_decoded() {
    let dir = tempfile::tempdir().unwrap();
    let picture = image::RgbImage::from_fn(16, 16, |x, _| {
        image::Rgb(if x < 8 { [255, 0, 0] } else { [0, 0, 255] })
    });
    fs::create_dir(dir.path().join("all")).unwrap();
    for ending in ["gif", "bmp", "tiff", "tif", "png", "WEBP"] {
        let path = dir.path().join(format!("all/1.{ending}"));
        let format = image::ImageFormat::from_path(&path).unwrap();
        picture.save_with_format(&path, format).unwrap();
        let got = read_picture(&path, COLOUR).unwrap();
        for (at, &value) in got.iter().enumerate() {
            let (channel, x) = (at / 256, at % 16);
            let expected = match (channel, x < 8) {
                (0, true) | (2, false) => 255_u8,
                _ => 0,
            };
            assert!(value.abs_diff(expected) <= 4, "{ending}, {at}: {value}");
        }
    }
    assert_eq!(total(dir.path()), 6);
    fs::write(dir.path().join("all/2.avif"), b"....ftypavif").unwrap();
    fs::write(dir.path().join("all/notes.txt"), b"words").unwrap();
    let report = check(dir.path()).unwrap();
    assert!(report.problems.is_empty(), "{report}");
    let text = report.to_string();
    assert!(text.contains("left out, 1: a picture of a kind that is not decoded"));
    assert!(
        text.contains("2.avif\n") && text.contains("notes.txt\n"),
        "{text}"
    );
    assert!(text.ends_with("no problems found"), "{text}");
}

#[test]
fn a_folder_of_pictures_that_are_not_decoded_says_so() {
    let dir = tempfile::tempdir().unwrap();
    for name in ["1.avif", "2.heic", "notes.txt"] {
        fs::write(dir.path().join(name), b"....ftypavif").unwrap();
    }
    let error = check(dir.path()).unwrap_err().to_string();
    let part = "holds no pictures that are read, but 2 files such as 1.avif: a picture of a kind";
    assert!(error.contains(part), "{error}");
}

#[test]
fn pictures_of_no_class_are_named() {
    let dir = tempfile::tempdir().unwrap();
    for i in 0..10 {
        png(&dir.path().join(format!("cat/{i}.png")), 10);
    }
    png(&dir.path().join("cat/more/1.png"), 20);
    png(&dir.path().join("beside.png"), 20);
    png(&dir.path().join("__MACOSX/cat/._1.png"), 20);
    fs::write(dir.path().join(".DS_Store"), b"x").unwrap();
    let report = check(dir.path()).unwrap();
    assert!(report.problems.is_empty(), "{report}");
    assert_eq!(report.total(Split::Train) + report.total(Split::Test), 10);
    let outside = "a picture outside of the class folders, or in a folder below one";
    let hidden = "hidden, or left behind by a file manager";
    let expected = [
        (".DS_Store", hidden),
        ("__MACOSX", hidden),
        ("beside.png", outside),
        ("cat/more/1.png", outside),
    ];
    let expected = expected.map(|(name, reason)| (name.to_owned(), reason.to_owned()));
    assert_eq!(left_out(&report), expected);
    assert_eq!(total(dir.path()), 10);
}

#[cfg(unix)]
#[test]
fn links_and_pipes_neither_multiply_nor_hang() {
    use std::os::unix::fs::symlink;
    let dir = tempfile::tempdir().unwrap();
    for i in 0..10 {
        png(&dir.path().join(format!("train/cat/{i}.png")), 10);
        png(&dir.path().join(format!("test/cat/{i}.png")), 20);
    }
    symlink("..", dir.path().join("train/up")).unwrap();
    symlink("../../train/cat", dir.path().join("test/cat/again")).unwrap();
    symlink("cat", dir.path().join("train/dog")).unwrap();
    let pipe = dir.path().join("train/cat/pipe.png");
    let made = std::process::Command::new("mkfifo").arg(&pipe).status();
    assert!(made.unwrap().success());
    let sets = open(dir.path());
    assert_eq!(lengths(&sets), (10, 10));
    assert_eq!(sets[0].classes(), ["cat"]);
    let report = check(dir.path()).unwrap();
    assert!(report.problems.is_empty(), "{report}");
    let names: Vec<String> = left_out(&report)
        .into_iter()
        .map(|(name, _)| name)
        .collect();
    let expected = [
        "test/cat/again",
        "train/cat/pipe.png",
        "train/dog",
        "train/up",
    ];
    assert_eq!(names, expected);
    // It is not opened either if a table names it.
    let lines = "{\"file_name\": \"train/cat/pipe.png\"}\n{\"file_name\": \"train/cat/1.png\"}\n";
    fs::write(dir.path().join("metadata.jsonl"), lines).unwrap();
    let report = check(dir.path()).unwrap();
    assert!(
        report.problems[0].what.contains("no regular file"),
        "{report}"
    );
    assert!(read_picture(&pipe, GREY).is_err());
}

#[test]
fn ten_pictures_always_have_a_held_out_one() {
    for set in 0..30 {
        let dir = tempfile::tempdir().unwrap();
        for i in 0..10 {
            png(&dir.path().join(format!("cat/{set}-{i}.png")), 10);
        }
        let (train, test) = lengths(&open(dir.path()));
        assert!(
            train > 0 && test > 0 && train + test == 10,
            "{train}, {test}"
        );
        let report = check(dir.path()).unwrap();
        let totals = (report.total(Split::Train), report.total(Split::Test));
        assert_eq!(totals, (train, test));
    }
}

#[test]
fn a_single_picture_has_no_held_out_one() {
    let dir = tempfile::tempdir().unwrap();
    png(&dir.path().join("cat/1.png"), 10);
    let split = match lengths(&open(dir.path())) {
        (1, 0) => Split::Test,
        _ => Split::Train,
    };
    let message = ImageDataset::open(dir.path(), GREY, split).unwrap_err();
    let wanted = format!("no samples of the {} split: add samples", split.name());
    assert!(message.to_string().contains(&wanted), "{message}");
}

/// A chunk of a PNG file.
fn chunk(kind: &[u8; 4], data: &[u8]) -> Vec<u8> {
    let mut sum = flate2::Crc::new();
    sum.update(kind);
    sum.update(data);
    let length = (data.len() as u32).to_be_bytes();
    [&length[..], kind, data, &sum.sum().to_be_bytes()].concat()
}

#[test]
fn a_small_file_of_a_huge_picture_is_refused_before_it_is_unpacked() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("huge.png");
    let side = 23_000_u32.to_be_bytes();
    let header = [&side[..], &side, &[8, 2, 0, 0, 0]].concat();
    let parts = [
        b"\x89PNG\r\n\x1a\n".to_vec(),
        chunk(b"IHDR", &header),
        chunk(b"IDAT", &[0x78, 0x9c]),
        chunk(b"IEND", &[]),
    ];
    fs::write(&path, parts.concat()).unwrap();
    let message = read_picture(&path, GREY).unwrap_err().to_string();
    assert!(
        message.contains("23000 x 23000 pixels takes 1514 MB, more than the 256 MB"),
        "{message}"
    );
    assert!(!message.contains("allows more"), "{message}");
    // The limit is an option.
    for i in 0..30 {
        png(&dir.path().join(format!("cat/{i}.png")), 10);
    }
    image::GrayImage::new(1100, 1100)
        .save(dir.path().join("cat/large.png"))
        .unwrap();
    fs::remove_file(&path).unwrap();
    let options = ReadOptions {
        max_picture_mb: 1,
        ..ReadOptions::default()
    };
    let report = check_with(dir.path(), &options).unwrap();
    assert_eq!(report.problems.len(), 1, "{report}");
    let what = &report.problems[0].what;
    assert!(what.contains("1100 x 1100"), "{report}");
    // It is one of a dataset, and has a key.
    let key = "data.max_picture_mb (of `data check`: --max-picture-mb) allows more";
    assert!(what.ends_with(key), "{report}");
    assert!(check(dir.path()).unwrap().problems.is_empty());
}
