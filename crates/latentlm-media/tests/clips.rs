//! Tests of clips: every format written and read again, and damaged in every way.

use std::fs;
use std::io::Cursor;
use std::path::Path;

use image::{DynamicImage, ImageFormat, Rgb, RgbImage};
use latentlm_core::RandomStream;
use latentlm_media::clip::{
    ClipFrame, ClipLimits, ClipReader, FrameFolder, GifFile, GifStream, RawClip, apng_bytes,
    gif_bytes, is_animated, write_apng, write_frames, write_gif, write_sheet,
};
use latentlm_media::{ImageSpec, MediaError, fit};

const GREY: ImageSpec = ImageSpec {
    channels: 1,
    height: 6,
    width: 8,
};
const COLOUR: ImageSpec = ImageSpec {
    channels: 3,
    ..GREY
};

/// A clip in which every pixel of every frame differs from its neighbours.
fn pixels(spec: ImageSpec, frames: usize) -> Vec<u8> {
    (0..frames * spec.bytes())
        .map(|at| (at * 37 + at / spec.bytes() * 11) as u8)
        .collect()
}

fn raw(pixels: &[u8], spec: ImageSpec, rate_hz: f64) -> RawClip<'_> {
    RawClip {
        pixels,
        spec,
        rate_hz,
    }
}

fn frames_of(path: &Path, limits: ClipLimits) -> Result<Vec<ClipFrame>, MediaError> {
    ClipReader::open(path, limits)?.collect()
}

/// All frames as `[F, C, H, W]`, and their times in milliseconds.
fn read(path: &Path, spec: ImageSpec) -> (Vec<u8>, Vec<u32>) {
    let frames = frames_of(path, ClipLimits::default()).unwrap();
    let times = frames
        .iter()
        .map(|frame| (frame.seconds.unwrap_or(0.0) * 1000.0).round() as u32)
        .collect();
    let pixels = frames.into_iter().map(|frame| fit(frame.picture, spec));
    (pixels.collect::<Vec<_>>().concat(), times)
}

fn message(path: &Path) -> String {
    let message = frames_of(path, ClipLimits::default())
        .unwrap_err()
        .to_string();
    assert!(!message.contains('\n'), "{message}");
    message
}

#[test]
fn what_is_written_is_read_again() {
    let dir = tempfile::tempdir().unwrap();
    for spec in [GREY, COLOUR] {
        let wanted = pixels(spec, 4);
        let clip = raw(&wanted, spec, 10.0);
        let (gif, png) = (dir.path().join("a.gif"), dir.path().join("a.png"));
        let folder = dir.path().join(format!("new/frames{}", spec.channels));
        write_gif(&gif, &clip).unwrap();
        write_apng(&png, &clip).unwrap();
        write_frames(&folder, &clip).unwrap();
        assert_eq!(read(&gif, spec), (wanted.clone(), vec![100; 4]));
        assert_eq!(read(&png, spec), (wanted.clone(), vec![100; 4]));
        assert_eq!(read(&folder, spec), (wanted.clone(), vec![0; 4]));
        assert!(is_animated(&gif) && is_animated(&png));
        assert!(!is_animated(&folder.join("0001.png")));
        let again = write_frames(&folder, &clip).unwrap_err().to_string();
        assert!(again.contains("exists already"), "{again}");
    }
    let names: Vec<_> = fs::read_dir(dir.path().join("new")).unwrap().collect();
    assert_eq!(names.len(), 2, "nothing unfinished is left");
}

/// A reader has every frame as soon as it is written, and at the end the file that is written at once.
#[test]
fn gifs_grow_frame_by_frame() {
    let dir = tempfile::tempdir().unwrap();
    let (path, named) = (dir.path().join("a.gif"), dir.path().join("new/b.gif"));
    for spec in [GREY, COLOUR] {
        let wanted = pixels(spec, 5);
        let whole = gif_bytes(&raw(&wanted, spec, 15.0), &path).unwrap();
        let mut stream = GifStream::begin(fs::File::create(&path).unwrap(), spec, 15.0).unwrap();
        let mut file = GifFile::create(&named, spec, 15.0).unwrap();
        for (frame, number) in wanted.chunks(spec.bytes()).zip(1..) {
            stream.write(frame).unwrap();
            file.write(frame).unwrap();
            assert!(whole.starts_with(&fs::read(&path).unwrap()));
            let reader = ClipReader::open(&path, ClipLimits::default()).unwrap();
            let read: Vec<_> = reader.filter_map(Result::ok).collect();
            assert_eq!(read.len(), number);
            assert!(!named.exists(), "before the end it has no name");
        }
        let wrong = stream.write(&wanted[1..]).unwrap_err().to_string();
        assert!(wrong.contains("a frame of"), "{wrong}");
        stream.finish().unwrap();
        file.finish().unwrap();
        assert_eq!(fs::read(&path).unwrap(), whole);
        assert_eq!(fs::read(&named).unwrap(), whole);
        fs::remove_file(&named).unwrap();
    }
    let mut left = GifFile::create(&named, GREY, 15.0).unwrap();
    left.write(&pixels(GREY, 1)).unwrap();
    drop(left);
    let names = fs::read_dir(dir.path().join("new")).unwrap();
    assert_eq!(names.count(), 0, "one that is not finished leaves nothing");
}

#[test]
fn folders_grow_frame_by_frame() {
    let dir = tempfile::tempdir().unwrap();
    let (folder, whole) = (dir.path().join("new/a"), dir.path().join("b"));
    let wanted = pixels(COLOUR, 3);
    write_frames(&whole, &raw(&wanted, COLOUR, 10.0)).unwrap();
    let mut growing = FrameFolder::create(&folder, COLOUR).unwrap();
    assert!(!folder.exists(), "nothing is drawn yet");
    for (frame, number) in wanted.chunks(COLOUR.bytes()).zip(1..) {
        growing.write(frame).unwrap();
        assert_eq!(fs::read_dir(&folder).unwrap().count(), number);
        let name = format!("{number:04}.png");
        let same = fs::read(folder.join(&name)).unwrap() == fs::read(whole.join(&name)).unwrap();
        assert!(same, "{name}");
    }
    assert!(growing.write(&wanted).is_err(), "three frames are not one");
    let again = FrameFolder::create(&folder, COLOUR)
        .unwrap_err()
        .to_string();
    assert!(again.contains("exists already"), "{again}");
}

/// The length of a GIF is right, though its times are hundredths of a second.
#[test]
fn times_are_rounded_without_drift() {
    let dir = tempfile::tempdir().unwrap();
    let wanted = pixels(GREY, 30);
    let clip = raw(&wanted, GREY, 15.0);
    let gif = dir.path().join("a.gif");
    write_gif(&gif, &clip).unwrap();
    let (_, times) = read(&gif, GREY);
    assert_eq!(times.iter().sum::<u32>(), 2000);
    assert_eq!(times[..3], [70, 60, 70]);
    let png = dir.path().join("a.png");
    write_apng(&png, &clip).unwrap();
    let frames = frames_of(&png, ClipLimits::default()).unwrap();
    assert!((frames[0].seconds.unwrap() - 1.0 / 15.0).abs() < 1e-9);
}

#[test]
fn clips_without_frames_are_not_written() {
    let path = Path::new("a.gif");
    let none = raw(&[], GREY, 10.0);
    let part = raw(&[0; 50], GREY, 10.0);
    let still = raw(&[0; 48], GREY, 0.0);
    for clip in [none, part, still] {
        assert!(gif_bytes(&clip, path).is_err() && apng_bytes(&clip, path).is_err());
    }
}

#[test]
fn a_sheet_has_a_row_for_each_clip() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("sheet.png");
    let (short, long) = (vec![10; 48 * 2], vec![200; 48 * 3]);
    let clips = [raw(&short, GREY, 10.0), raw(&long, GREY, 10.0)];
    write_sheet(&path, &clips).unwrap();
    let sheet = image::open(&path).unwrap().into_rgb8();
    assert_eq!(sheet.dimensions(), (3 * 8 + 2, 2 * 6 + 1));
    let at = |x, y| sheet.get_pixel(x, y).0[0];
    assert_eq!([at(0, 0), at(9, 5), at(8, 0), at(0, 6)], [10, 10, 96, 96]);
    assert_eq!([at(20, 0), at(0, 7), at(25, 12)], [96, 200, 200]);
    assert!(write_sheet(&path, &[]).is_err());
}

/// A frame that covers one pixel of a PNG leaves the others as they were.
#[test]
fn parts_of_pictures_are_completed() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("part.png");
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, 4, 3);
    encoder.set_color(png::ColorType::Grayscale);
    encoder.set_depth(png::BitDepth::Eight);
    encoder.set_animated(2, 0).unwrap();
    // Shown for no time: as in browsers, a tenth of a second.
    encoder.set_frame_delay(0, 100).unwrap();
    let mut writer = encoder.write_header().unwrap();
    writer.write_image_data(&[50; 12]).unwrap();
    writer.set_frame_dimension(1, 1).unwrap();
    writer.set_frame_position(2, 1).unwrap();
    writer.write_image_data(&[250]).unwrap();
    writer.finish().unwrap();
    fs::write(&path, bytes).unwrap();
    let spec = ImageSpec {
        channels: 1,
        height: 3,
        width: 4,
    };
    let mut second = [50; 12];
    second[4 + 2] = 250;
    let wanted = [[50; 12], second].concat();
    assert_eq!(read(&path, spec), (wanted, vec![100, 100]));
}

/// An animated WebP of lossless frames: there is no writer of such, but one of pictures.
fn webp(frames: &[RgbImage], milliseconds: u32) -> Vec<u8> {
    let chunk = |name: &[u8; 4], content: &[u8]| {
        let size = (content.len() as u32).to_le_bytes();
        let odd = &[0][..content.len() % 2];
        [&name[..], &size, content, odd].concat()
    };
    let three = |number: u32| number.to_le_bytes()[..3].to_vec();
    let (width, height) = frames[0].dimensions();
    let side = |side: u32| three(side - 1);
    let head = [vec![2, 0, 0, 0], side(width), side(height)].concat();
    let mut body = [chunk(b"VP8X", &head), chunk(b"ANIM", &[0; 6])].concat();
    for frame in frames {
        let mut still = Cursor::new(Vec::new());
        let picture = DynamicImage::ImageRgb8(frame.clone());
        picture.write_to(&mut still, ImageFormat::WebP).unwrap();
        let placed = [vec![0; 6], side(width), side(height), three(milliseconds)].concat();
        // Behind the header of the file.
        let content = [&placed[..], &[2], &still.into_inner()[12..]].concat();
        body.extend(chunk(b"ANMF", &content));
    }
    let content = [&b"WEBP"[..], &body].concat();
    chunk(b"RIFF", &content)
}

fn striped(frame: u8) -> RgbImage {
    RgbImage::from_fn(8, 6, |x, y| Rgb([x as u8 * 20, y as u8 * 40, frame * 70]))
}

#[test]
fn animated_webp_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.webp");
    let frames = [0, 1, 2].map(striped);
    let bytes = webp(&frames, 40);
    fs::write(&path, &bytes).unwrap();
    assert!(is_animated(&path));
    // Cut between two frames, where the decoder sees a shorter clip.
    let mut cut = webp(&frames[..2], 40);
    cut[4..8].copy_from_slice(&bytes[4..8]);
    let wanted = frames.map(|frame| fit(DynamicImage::ImageRgb8(frame), COLOUR));
    assert_eq!(read(&path, COLOUR), (wanted.concat(), vec![40; 3]));
    fs::write(&path, &cut).unwrap();
    let cut = message(&path);
    assert!(cut.contains("cut off"), "{cut}");
}

#[test]
fn a_picture_is_a_clip_of_one_frame() {
    let dir = tempfile::tempdir().unwrap();
    for ending in ["gif", "png", "webp", "bmp"] {
        let path = dir.path().join(format!("a.{ending}"));
        // The reader of BMP belongs to another feature.
        if striped(1).save(&path).is_ok() {
            let frames = frames_of(&path, ClipLimits::default()).unwrap();
            assert_eq!(frames.len(), 1, "{ending}");
        }
    }
    let path = dir.path().join("a.txt");
    fs::write(&path, "no clip").unwrap();
    assert!(message(&path).contains("cannot decode the picture"));
    let empty = dir.path().join("empty");
    fs::create_dir(&empty).unwrap();
    assert!(message(&empty).contains("a clip without frames"));
}

#[test]
fn frames_are_passed_over_in_every_format() {
    let dir = tempfile::tempdir().unwrap();
    let wanted = pixels(GREY, 5);
    let clip = raw(&wanted, GREY, 10.0);
    let (gif, folder) = (dir.path().join("a.gif"), dir.path().join("a"));
    write_gif(&gif, &clip).unwrap();
    write_frames(&folder, &clip).unwrap();
    let video = dir.path().join("a.y4m");
    let mut bytes = b"YUV4MPEG2 W8 H6 F10:1 Cmono XCOLORRANGE=FULL\n".to_vec();
    for frame in wanted.chunks(48) {
        bytes.extend(b"FRAME\n");
        bytes.extend(frame);
    }
    fs::write(&video, bytes).unwrap();
    assert_eq!(read(&video, GREY), (wanted.clone(), vec![100; 5]));
    for path in [&gif, &folder, &video] {
        let mut reader = ClipReader::open(path, ClipLimits::default()).unwrap();
        reader.pass_over(3).unwrap();
        let frame = reader.next().unwrap().unwrap();
        assert_eq!(fit(frame.picture, GREY), wanted[3 * 48..4 * 48]);
        reader.pass_over(7).unwrap();
        assert!(reader.next().is_none(), "{}", path.display());
    }
}

#[test]
fn bad_clips_are_refused_in_one_line() {
    let dir = tempfile::tempdir().unwrap();
    let wanted = pixels(COLOUR, 8);
    let clip = raw(&wanted, COLOUR, 10.0);
    let path = dir.path().join("a");
    for bytes in [
        gif_bytes(&clip, &path).unwrap(),
        apng_bytes(&clip, &path).unwrap(),
    ] {
        fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
        assert!(message(&path).contains("is broken"), "{}", message(&path));
        fs::write(&path, &bytes).unwrap();
        let few = ClipLimits {
            frames: 7,
            ..ClipLimits::default()
        };
        let many = frames_of(&path, few).unwrap_err().to_string();
        assert!(many.contains("more than 7 frames"), "{many}");
        let small = ClipLimits {
            frame_bytes: 100,
            ..ClipLimits::default()
        };
        let large = frames_of(&path, small).unwrap_err().to_string();
        assert!(large.contains("frames of 8 x 6 pixels"), "{large}");
    }
    let folder = dir.path().join("mixed");
    fs::create_dir(&folder).unwrap();
    striped(0).save(folder.join("f1.png")).unwrap();
    RgbImage::new(8, 7).save(folder.join("f2.png")).unwrap();
    let mixed = message(&folder);
    assert!(
        mixed.contains("frame 2 has 8 x 7 pixels, those before it 8 x 6"),
        "{mixed}"
    );
}

/// A GIF of a screen of 8 x 6 pixels with frames of one grey each, and the column and row of their first pixel.
fn placed(frames: &[([u16; 2], [u16; 2], u8)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut encoder = gif::Encoder::new(&mut bytes, 8, 6, &[]).unwrap();
    for &([width, height], [left, top], level) in frames {
        let pixels = vec![level; usize::from(width) * usize::from(height) * 3];
        let mut frame = gif::Frame::from_rgb(width, height, &pixels);
        (frame.left, frame.top, frame.delay) = (left, top, 10);
        // What a smaller one leaves open is then transparent, which is white.
        frame.dispose = gif::DisposalMethod::Background;
        encoder.write_frame(&frame).unwrap();
    }
    drop(encoder);
    bytes
}

/// A GIF names its size: smaller frames are parts of a picture of that size, wherever they lie. One that reaches beyond
/// it would be cropped by the decoder, and is refused.
#[test]
fn gifs_of_mixed_sizes_have_one_size() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.gif");
    let whole = ([8, 6], [0, 0], 50);
    // The last one reaches the lower right corner.
    fs::write(
        &path,
        placed(&[whole, ([4, 2], [0, 0], 150), ([4, 2], [4, 4], 250)]),
    )
    .unwrap();
    let (frames, _) = read(&path, GREY);
    let frames: Vec<&[u8]> = frames.chunks(GREY.bytes()).collect();
    let part = |rows: std::ops::Range<usize>, columns: std::ops::Range<usize>, level| {
        let mut frame = vec![255; 48];
        for row in rows {
            frame[row * 8..][columns.clone()].fill(level);
        }
        frame
    };
    let (second, third) = (part(0..2, 0..4, 150), part(4..6, 4..8, 250));
    assert_eq!(frames, [&[50; 48][..], &second, &third]);
    for (size, place, told) in [
        (
            [12, 9],
            [0, 0],
            "its 12 x 9 pixels from column 0 and row 0 on",
        ),
        (
            [4, 2],
            [5, 0],
            "its 4 x 2 pixels from column 5 and row 0 on",
        ),
        (
            [4, 2],
            [0, 5],
            "its 4 x 2 pixels from column 0 and row 5 on",
        ),
        ([8, 6], [u16::MAX, 0], "from column 65535 and row 0 on"),
    ] {
        fs::write(&path, placed(&[whole, whole, (size, place, 250)])).unwrap();
        let message = message(&path);
        let parts = [
            "a.gif: frame 3 is broken: ",
            told,
            " do not fit the GIF's 8 x 6",
        ];
        for part in parts {
            assert!(message.contains(part), "{part}: {message}");
        }
        // The frames before it are read.
        let reader = ClipReader::open(&path, ClipLimits::default()).unwrap();
        assert_eq!(reader.filter(Result::is_ok).count(), 2);
    }
}

/// Ten thousand frames are read one at a time; one more is too many.
#[test]
fn long_clips_end_at_the_limit() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("long.gif");
    let spec = ImageSpec {
        channels: 1,
        height: 1,
        width: 1,
    };
    let long = vec![7; 10_001];
    write_gif(&path, &raw(&long[1..], spec, 10.0)).unwrap();
    let reader = ClipReader::open(&path, ClipLimits::default()).unwrap();
    assert_eq!(reader.filter(Result::is_ok).count(), 10_000);
    write_gif(&path, &raw(&long, spec, 10.0)).unwrap();
    assert!(message(&path).contains("more than 10000 frames"));
}

#[test]
fn no_damage_of_any_kind_panics() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a");
    let wanted = pixels(COLOUR, 2);
    let clip = raw(&wanted, COLOUR, 10.0);
    let small = ClipLimits {
        frame_bytes: 1 << 16,
        frames: 100,
    };
    let files = [
        gif_bytes(&clip, &path).unwrap(),
        apng_bytes(&clip, &path).unwrap(),
        webp(&[0, 1].map(striped), 40),
        b"YUV4MPEG2 W2 H2 F10:1 C420\nFRAME\n123456FRAME\n123456".to_vec(),
    ];
    let mut random = RandomStream::new(5);
    for good in files {
        for at in 0..good.len().min(400) {
            let mut bytes = good.clone();
            bytes[at] = random.below(256) as u8;
            for bytes in [&bytes[..], &good[..at]] {
                fs::write(&path, bytes).unwrap();
                // Any result is fine, as long as the call returns.
                let _ = frames_of(&path, small);
            }
        }
    }
}
