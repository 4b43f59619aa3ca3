//! Tests of datasets of clips: layouts, samples cut out of clips, frame rates, what is left out.

use std::fs;
use std::path::Path;

use latentlm_data::{
    ClipDataset, ClipSpec, DataError, DatasetKind, ImageDataset, ImageSpec, ReadOptions, Split,
    check_clips, read_clip,
};
use latentlm_media::clip::{RawClip, gif_bytes, write_apng, write_frames, write_gif};
use latentlm_media::write_whole;

const SPEC: ClipSpec = ClipSpec {
    frames: 4,
    rate_hz: 10.0,
    picture: ImageSpec {
        channels: 1,
        height: 2,
        width: 3,
    },
};

/// Frames of one grey each: the first is `first`, each further one 1 lighter.
fn greys(first: u8, count: usize) -> Vec<u8> {
    let size = SPEC.picture.bytes();
    (0..count)
        .flat_map(|at| vec![first + at as u8; size])
        .collect()
}

fn raw(pixels: &[u8], rate_hz: f64) -> RawClip<'_> {
    RawClip {
        pixels,
        spec: SPEC.picture,
        rate_hz,
    }
}

fn gif(path: &Path, first: u8, count: usize) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    write_gif(path, &raw(&greys(first, count), 10.0)).unwrap();
}

fn open(path: &Path) -> Result<[ClipDataset; 2], DataError> {
    ClipDataset::open_both(path, SPEC, ReadOptions::default())
}

/// Name, class and frames of all samples of both splits, sorted.
fn samples(sets: &[ClipDataset; 2]) -> Vec<(String, u32, Vec<u8>)> {
    let mut samples = Vec::new();
    for set in sets {
        for index in 0..set.len() {
            let clip = set.get(index).unwrap();
            assert_eq!(clip.label, set.label(index));
            samples.push((clip.name, clip.label, clip.frames));
        }
    }
    samples.sort();
    samples
}

fn reasons(set: &ClipDataset) -> Vec<String> {
    let left_out = set.left_out();
    let mut reasons: Vec<String> = left_out
        .iter()
        .map(|left| format!("{}: {}", left.path.display(), left.reason))
        .collect();
    reasons.sort();
    reasons
}

#[test]
fn long_clips_are_cut_and_short_ones_left_out() {
    let dir = tempfile::tempdir().unwrap();
    gif(&dir.path().join("cat/a.gif"), 10, 10);
    gif(&dir.path().join("cat/short.gif"), 0, 3);
    write_frames(&dir.path().join("dog/walk"), &raw(&greys(100, 5), 10.0)).unwrap();
    write_apng(&dir.path().join("dog/b.png"), &raw(&greys(200, 4), 10.0)).unwrap();
    let sets = open(dir.path()).unwrap();
    assert_eq!(sets[0].kind(), DatasetKind::ClassFolders);
    assert_eq!(sets[0].classes(), ["cat", "dog"]);
    let named = |name: &str, label, first| (name.to_owned(), label, greys(first, 4));
    assert_eq!(
        samples(&sets),
        [
            named("cat/a.gif 1", 0, 10),
            named("cat/a.gif 2", 0, 14),
            named("dog/b.png", 1, 200),
            named("dog/walk", 1, 100),
        ]
    );
    // Both samples of a clip are in one split.
    assert!(sets.iter().all(|set| !set.is_empty()));
    // Listed with either split: training prints a line for each.
    for set in &sets {
        let left = reasons(set);
        assert!(left.len() == 1, "{left:?}");
        let told = "cat/short.gif: a clip with fewer frames than a sample has";
        assert!(left[0].ends_with(told), "{left:?}");
    }
    let report = check_clips(dir.path(), SPEC, &ReadOptions::default()).unwrap();
    assert_eq!((report.clips, report.problems.len()), (Some(3), 0));
    let text = report.to_string();
    assert!(text.contains("one folder of clips a class\nclips of 3x2 pixels\n3 clips, cut"));
    assert!(
        text.contains("left out, 1: a clip with fewer frames"),
        "{text}"
    );
    assert_eq!(report.total(Split::Train) + report.total(Split::Test), 4);
}

#[test]
fn tables_name_files_and_folders() {
    let dir = tempfile::tempdir().unwrap();
    gif(&dir.path().join("a.gif"), 10, 4);
    gif(&dir.path().join("unnamed.gif"), 10, 4);
    write_frames(&dir.path().join("walk"), &raw(&greys(50, 8), 10.0)).unwrap();
    fs::write(dir.path().join("film.mp4"), "video").unwrap();
    let table = "{\"file_name\": \"a.gif\", \"text\": \"a seven\", \"still\": \"a digit\", \"split\": \"train\"}\n\
                 {\"file_name\": \"walk\", \"text\": \"a walk\", \"split\": \"test\"}\n";
    fs::write(dir.path().join("metadata.jsonl"), table).unwrap();
    let [train, test] = open(dir.path()).unwrap();
    assert_eq!((train.len(), test.len()), (1, 2));
    assert_eq!(train.caption(0), Some("a seven"));
    assert_eq!(test.get(1).unwrap().text.as_deref(), Some("a walk"));
    assert_eq!((train.still(0), test.still(1)), (Some("a digit"), None));
    // A run that goes on is told if a still's text has changed, but not that older tables lack it.
    assert_eq!(
        train.samples()[0].about,
        r#"Some("all") Some("a seven") "a digit""#
    );
    assert_eq!(test.samples()[0].about, r#"Some("all") Some("a walk")"#);
    assert_eq!(test.get(1).unwrap().frames, greys(54, 4));
    // The run's list of data has every frame.
    assert_eq!((train.samples().len(), test.samples().len()), (1, 8));
    assert_eq!(test.samples()[0].name, "walk/0001.png");
    let report = check_clips(dir.path(), SPEC, &ReadOptions::default()).unwrap();
    let text = report.to_string();
    for part in [
        "metadata.jsonl with clips",
        "a clip that no line of the table names\n",
        "`ffmpeg -i IN",
        "no problems found",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert!(!text.contains("0001.png"), "{text}");
}

#[test]
fn frames_come_at_the_wanted_rate() {
    let dir = tempfile::tempdir().unwrap();
    let fast = greys(0, 8);
    write_gif(&dir.path().join("fast.gif"), &raw(&fast, 20.0)).unwrap();
    let slow = greys(100, 2);
    write_gif(&dir.path().join("slow.gif"), &raw(&slow, 5.0)).unwrap();
    let found = samples(&open(dir.path()).unwrap());
    let firsts = |frames: &[u8]| -> Vec<u8> { frames.iter().copied().step_by(6).collect() };
    assert_eq!(firsts(&found[0].2), [0, 2, 4, 6]);
    assert_eq!(firsts(&found[1].2), [100, 100, 101, 101]);
}

#[test]
fn one_file_is_read_from_its_beginning() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.gif");
    for (count, wanted) in [(9, 4), (3, 3), (1, 1)] {
        gif(&path, 10, count);
        assert_eq!(read_clip(&path, SPEC).unwrap(), greys(10, wanted));
    }
    let slow = ClipSpec {
        rate_hz: 30.0,
        ..SPEC
    };
    gif(&path, 10, 2);
    let repeated = [greys(10, 1).repeat(3), greys(11, 1)].concat();
    assert_eq!(read_clip(&path, slow).unwrap(), repeated);
    let still = dir.path().join("still.png");
    image::GrayImage::from_pixel(3, 2, image::Luma([7]))
        .save(&still)
        .unwrap();
    assert_eq!(read_clip(&still, SPEC).unwrap(), greys(7, 1));
}

#[test]
fn the_command_decides_what_a_gif_is() {
    let dir = tempfile::tempdir().unwrap();
    gif(&dir.path().join("a.gif"), 10, 4);
    gif(&dir.path().join("b.gif"), 20, 4);
    let options = ReadOptions::default();
    let pictures = ImageDataset::open_both(dir.path(), SPEC.picture, options).unwrap();
    let clips = open(dir.path()).unwrap();
    for (pictures, clips) in pictures.iter().zip(&clips) {
        assert_eq!((pictures.len(), clips.len()), (1, 1));
        let (first, all) = (pictures.get(0).unwrap(), clips.get(0).unwrap());
        assert_eq!(first.pixels, all.frames[..SPEC.picture.bytes()]);
    }
}

#[test]
fn held_out_clips_may_lie_in_a_folder_dev() {
    let dir = tempfile::tempdir().unwrap();
    gif(&dir.path().join("train/cat/a.gif"), 10, 4);
    gif(&dir.path().join("train/cat/b.gif"), 20, 4);
    gif(&dir.path().join("dev/cat/c.gif"), 30, 4);
    let sets = open(dir.path()).unwrap();
    assert_eq!(sets.each_ref().map(ClipDataset::len), [2, 1]);
    let message = check_clips(
        &dir.path().join("dev/cat/c.gif"),
        SPEC,
        &ReadOptions::default(),
    );
    let message = message.unwrap_err().to_string();
    assert!(
        message.contains("c.gif: is a file, and a dataset"),
        "{message}"
    );
}

#[test]
fn broken_clips_are_left_out_or_refused() {
    let dir = tempfile::tempdir().unwrap();
    for name in 0..30 {
        gif(&dir.path().join(format!("{name}.gif")), 10, 4);
    }
    let pixels = greys(10, 8);
    let whole = gif_bytes(&raw(&pixels, 10.0), dir.path()).unwrap();
    let half = &whole[..whole.len() / 2];
    write_whole(&dir.path().join("half.gif"), half).unwrap();
    let [train, test] = open(dir.path()).unwrap();
    assert_eq!(train.len() + test.len(), 30);
    let left = reasons(&train);
    assert!(
        left.len() == 1 && left[0].contains("half.gif: frame "),
        "{left:?}"
    );
    let report = check_clips(dir.path(), SPEC, &ReadOptions::default()).unwrap();
    assert_eq!(report.problems.len(), 1);
    // Of few clips one is too many.
    for name in 4..30 {
        fs::remove_file(dir.path().join(format!("{name}.gif"))).unwrap();
    }
    let message = open(dir.path()).unwrap_err().to_string();
    assert!(message.contains("1 of 5 samples"), "{message}");
}

#[test]
fn nothing_to_train_on_is_one_clear_line() {
    let dir = tempfile::tempdir().unwrap();
    let refused = |part: &str| {
        let message = open(dir.path()).unwrap_err().to_string();
        assert!(
            message.contains(part) && !message.contains('\n'),
            "{message}"
        );
    };
    refused("holds no clips: expected");
    fs::write(dir.path().join("film.mp4"), b"....ftypisom").unwrap();
    refused(
        "holds no clips that are read, but 1 file such as film.mp4: a video of a kind that is not decoded",
    );
    fs::remove_file(dir.path().join("film.mp4")).unwrap();
    gif(&dir.path().join("a.gif"), 10, 1);
    gif(&dir.path().join("b.gif"), 10, 3);
    refused("all 2 clips have fewer than 4 frames at 10 a second");
    let wrong = |spec: ClipSpec| {
        let opened = ClipDataset::open_both(dir.path(), spec, ReadOptions::default());
        assert!(opened.is_err(), "{spec:?}");
    };
    wrong(ClipSpec { frames: 0, ..SPEC });
    wrong(ClipSpec {
        rate_hz: f64::NAN,
        ..SPEC
    });
    wrong(ClipSpec {
        rate_hz: 0.0,
        ..SPEC
    });
}

#[test]
fn a_clip_that_changes_is_an_error_of_its_sample() {
    let dir = tempfile::tempdir().unwrap();
    gif(&dir.path().join("a.gif"), 10, 8);
    gif(&dir.path().join("b.gif"), 10, 8);
    let [train, _] = open(dir.path()).unwrap();
    let before = train.fingerprint();
    for name in ["a.gif", "b.gif"] {
        gif(&dir.path().join(name), 10, 5);
    }
    assert_ne!(train.fingerprint(), before);
    assert!(train.get(0).is_ok());
    let message = train.get(1).unwrap_err().to_string();
    assert!(message.contains("has fewer frames than when"), "{message}");
    assert_eq!(train.left_out().len(), 1);
    let instead = train.get_or_draw(1, |_| 0).unwrap();
    assert_eq!(instead.frames, greys(10, 4));
}

/// One clip may have so many frames, and all together; errors name the options that allow more.
#[test]
fn clips_have_bounds_that_options_raise() {
    let dir = tempfile::tempdir().unwrap();
    gif(&dir.path().join("a.gif"), 10, 8);
    gif(&dir.path().join("b.gif"), 50, 6);
    let of = |max_clip_frames, max_total_frames| ReadOptions {
        max_broken: 0.0,
        max_clip_frames,
        max_total_frames,
        ..ReadOptions::default()
    };
    let told = |folder: &Path, options| {
        let opened = ClipDataset::open_both(folder, SPEC, options);
        opened.map_or_else(|error| error.to_string(), |_| "opened".into())
    };
    assert_eq!(told(dir.path(), of(8, 14)), "opened");
    let message = told(dir.path(), of(7, 14));
    let key = "data.max_clip_frames (of `data check`: --max-clip-frames) allows more";
    let part = format!("more than 7 frames: cut it into shorter clips; {key}");
    assert!(message.contains(&part), "{message}");
    let message = told(dir.path(), of(8, 13));
    let part = "has clips of more than 13 frames at 10 a second, the most that are read; \
                data.max_total_frames (of `data check`: --max-total-frames) allows more";
    assert!(message.ends_with(part), "{message}");
    let checked = check_clips(dir.path(), SPEC, &of(8, 13)).unwrap_err();
    assert_eq!(checked.to_string(), message);
    // Two frames in the file, twenty at the wanted rate: what counts is what is shown.
    let slow = tempfile::tempdir().unwrap();
    write_gif(&slow.path().join("slow.gif"), &raw(&greys(100, 2), 1.0)).unwrap();
    assert_eq!(told(slow.path(), of(20, 20)), "opened");
    let message = told(slow.path(), of(19, 20));
    let part =
        format!("lasts for more than 19 frames at 10 a second: cut it into shorter clips; {key}");
    assert!(message.contains(&part), "{message}");
    assert!(told(slow.path(), of(20, 19)).contains("data.max_total_frames"));
    let large = tempfile::tempdir().unwrap();
    fs::write(large.path().join("large.y4m"), "YUV4MPEG2 W65535 H65535\n").unwrap();
    let message = told(large.path(), of(8, 14));
    let part = "large.y4m: frames of 65535 x 65535 pixels take 12288 MB, more than the 256 MB that are allowed; \
                data.max_picture_mb (of `data check`: --max-picture-mb) allows more";
    assert!(message.contains(part), "{message}");
}
