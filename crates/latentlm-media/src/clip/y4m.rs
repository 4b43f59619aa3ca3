//! Reader of Y4M, the format of uncompressed video that ffmpeg and others exchange: 8 bits, 4:2:0, 4:2:2, 4:4:4
//! or grey.
//!
//! A text line with sizes and rate, then for each frame the line `FRAME` and its planes: luma, blue difference,
//! red difference. Colours are those of ITU-R BT.601, the format has no key for others; without
//! `XCOLORRANGE=FULL`, black is 16 and white 235.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;

use image::{DynamicImage, GrayImage, Rgb, RgbImage};

use super::excess::large_frames;
use crate::error::{MediaError, io_error};

/// First bytes of a file.
pub(super) const MAGIC: &[u8] = b"YUV4MPEG2";
/// Longest line of text in bytes.
const MAX_LINE: u64 = 4096;
/// Frames a second of a file that does not say it.
const USUAL_RATE: (u32, u32) = (25, 1);

/// How many pixels share a sample of colour, horizontally and vertically. `None` is a grey clip.
type Chroma = Option<(u32, u32)>;

/// Sizes and rate, as the first line says them.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Header {
    width: u32,
    height: u32,
    seconds: f64,
    chroma: Chroma,
    full_range: bool,
}

/// An open file.
pub(super) struct Y4m {
    file: BufReader<File>,
    header: Header,
}

impl Y4m {
    /// Reads the first line. A frame may take `limit` bytes as a picture of three colours.
    pub(super) fn open(
        mut file: BufReader<File>,
        path: &Path,
        limit: u64,
    ) -> Result<Self, MediaError> {
        let malformed = |reason: String| MediaError::malformed(path, reason);
        let line = read_line(&mut file, path)?;
        let header = Header::parse(&line).map_err(malformed)?;
        let bytes = u64::from(header.width) * u64::from(header.height) * 3;
        if bytes > limit {
            let size = (header.width, header.height);
            return Err(large_frames(path, size, bytes, limit));
        }
        Ok(Self { file, header })
    }

    /// Time on display of every frame in seconds.
    pub(super) fn seconds(&self) -> f64 {
        self.header.seconds
    }

    /// The next frame; `None` at the end.
    pub(super) fn frame(&mut self, path: &Path) -> Result<Option<DynamicImage>, MediaError> {
        if !self.begin(path)? {
            return Ok(None);
        }
        let mut planes = vec![0; self.header.frame_bytes()];
        self.file
            .read_exact(&mut planes)
            .map_err(|error| match error.kind() {
                std::io::ErrorKind::UnexpectedEof => {
                    MediaError::malformed(path, "cut off inside a frame")
                }
                _ => io_error("read", path)(error),
            })?;
        Ok(Some(self.header.picture(planes)))
    }

    /// Goes over the next frame without decoding it. Returns whether there is one. A file that is cut off
    /// inside it ends there.
    pub(super) fn pass_over(&mut self, path: &Path) -> Result<bool, MediaError> {
        let there = self.begin(path)?;
        if there {
            let bytes = self.header.frame_bytes() as i64;
            self.file
                .seek_relative(bytes)
                .map_err(io_error("read", path))?;
        }
        Ok(there)
    }

    /// Reads the line before a frame; `false` at the end of the file.
    fn begin(&mut self, path: &Path) -> Result<bool, MediaError> {
        if self
            .file
            .fill_buf()
            .map_err(io_error("read", path))?
            .is_empty()
        {
            return Ok(false);
        }
        let line = read_line(&mut self.file, path)?;
        if line.split(' ').next() == Some("FRAME") {
            Ok(true)
        } else {
            Err(MediaError::malformed(
                path,
                "no frame where one should begin",
            ))
        }
    }
}

/// A line of text without its end.
fn read_line(file: &mut BufReader<File>, path: &Path) -> Result<String, MediaError> {
    let mut line = Vec::new();
    file.take(MAX_LINE)
        .read_until(b'\n', &mut line)
        .map_err(io_error("read", path))?;
    if line.pop() != Some(b'\n') {
        return Err(MediaError::malformed(path, "cut off inside a line of text"));
    }
    String::from_utf8(line).map_err(|_| MediaError::malformed(path, "a line of text is no text"))
}

impl Header {
    fn parse(line: &str) -> Result<Self, String> {
        let mut fields = line.split(' ');
        if fields.next().map(str::as_bytes) != Some(MAGIC) {
            return Err("not a Y4M file".into());
        }
        let (mut width, mut height, mut rate) = (0, 0, USUAL_RATE);
        let mut header = Self {
            width,
            height,
            seconds: 0.0,
            chroma: Some((2, 2)),
            full_range: false,
        };
        for field in fields.filter(|field| !field.is_empty()) {
            let mut letters = field.chars();
            let (key, value) = (letters.next(), letters.as_str());
            match key {
                Some('W') => width = side(value)?,
                Some('H') => height = side(value)?,
                Some('F') => rate = ratio(value)?,
                Some('I') if !matches!(value, "p" | "?") => {
                    return Err(format!(
                        "interlaced frames (I{value}) are not read: `ffmpeg -vf yadif` makes whole ones"
                    ));
                }
                Some('C') => header.chroma = chroma(value)?,
                Some('X') if value == "COLORRANGE=FULL" => header.full_range = true,
                // Shapes of pixels and comments.
                _ => {}
            }
        }
        if width == 0 || height == 0 {
            return Err("the first line names no width (W) or no height (H)".into());
        }
        (header.width, header.height) = (width, height);
        header.seconds = f64::from(rate.1) / f64::from(rate.0);
        Ok(header)
    }

    /// Size of a plane of colour: sides are rounded up.
    fn chroma_size(&self) -> (usize, usize) {
        let (width, height) = (self.width as usize, self.height as usize);
        match self.chroma {
            None => (0, 0),
            Some((across, down)) => (
                width.div_ceil(across as usize),
                height.div_ceil(down as usize),
            ),
        }
    }

    fn frame_bytes(&self) -> usize {
        let (width, height) = self.chroma_size();
        self.width as usize * self.height as usize + 2 * width * height
    }

    /// Turns the planes of a frame into a picture. Pixels take the sample of colour that they lie in.
    fn picture(&self, mut planes: Vec<u8>) -> DynamicImage {
        let luma_bytes = self.width as usize * self.height as usize;
        let (columns, rows) = self.chroma_size();
        let Some((across, down)) = self.chroma else {
            planes.iter_mut().for_each(|y| *y = self.grey(*y));
            let grey = GrayImage::from_raw(self.width, self.height, planes);
            return DynamicImage::ImageLuma8(grey.unwrap_or_default());
        };
        let (luma, chroma) = planes.split_at(luma_bytes);
        let (blue, red) = chroma.split_at(columns * rows);
        DynamicImage::ImageRgb8(RgbImage::from_fn(self.width, self.height, |x, y| {
            let at = (y / down) as usize * columns + (x / across) as usize;
            let luma = luma[y as usize * self.width as usize + x as usize];
            self.colour(luma, blue[at], red[at])
        }))
    }

    fn grey(&self, luma: u8) -> u8 {
        level(self.brightness(luma))
    }

    /// Luma as 0 to 255, not clamped.
    fn brightness(&self, luma: u8) -> f32 {
        if self.full_range {
            f32::from(luma)
        } else {
            (f32::from(luma) - 16.0) * (255.0 / 219.0)
        }
    }

    /// Red, green and blue by BT.601, where red has a share of 0.299 of luma and blue of 0.114.
    fn colour(&self, luma: u8, blue: u8, red: u8) -> Rgb<u8> {
        let gain = if self.full_range { 1.0 } else { 255.0 / 224.0 };
        let y = self.brightness(luma);
        let (b, r) = (
            (f32::from(blue) - 128.0) * gain,
            (f32::from(red) - 128.0) * gain,
        );
        Rgb([
            level(y + 1.402 * r),
            level(y - 0.344_136 * b - 0.714_136 * r),
            level(y + 1.772 * b),
        ])
    }
}

fn level(value: f32) -> u8 {
    value.round().clamp(0.0, 255.0) as u8
}

fn side(value: &str) -> Result<u32, String> {
    match value.parse::<u32>() {
        Ok(side) if (1..=65_535).contains(&side) => Ok(side),
        _ => Err(format!("a side of `{value}` pixels")),
    }
}

/// A frame rate as a fraction. `0:0` is an unknown one.
fn ratio(value: &str) -> Result<(u32, u32), String> {
    let (over, under) = value.split_once(':').unwrap_or((value, "1"));
    match (over.parse::<u32>(), under.parse::<u32>()) {
        (Ok(0), Ok(0)) => Ok(USUAL_RATE),
        (Ok(over), Ok(under)) if over > 0 && under > 0 => Ok((over, under)),
        _ => Err(format!("a frame rate of `{value}`")),
    }
}

fn chroma(value: &str) -> Result<Chroma, String> {
    match value {
        "420" | "420jpeg" | "420mpeg2" | "420paldv" => Ok(Some((2, 2))),
        "422" => Ok(Some((2, 1))),
        "444" => Ok(Some((1, 1))),
        "mono" => Ok(None),
        _ => Err(format!(
            "colours of the kind `{value}` are not read, but 420, 422, 444 and mono of 8 bits: \
             `ffmpeg -pix_fmt yuv420p` makes such"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(bytes: &[u8]) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), bytes).unwrap();
        file
    }

    fn open(bytes: &[u8]) -> Result<(Y4m, tempfile::NamedTempFile), MediaError> {
        let file = write(bytes);
        let reader = BufReader::new(File::open(file.path()).unwrap());
        Ok((Y4m::open(reader, file.path(), 1 << 20)?, file))
    }

    /// All frames as `[H, W, 3]`.
    fn frames(bytes: &[u8]) -> Result<Vec<Vec<u8>>, MediaError> {
        let (mut video, file) = open(bytes)?;
        let mut frames = Vec::new();
        while let Some(frame) = video.frame(file.path())? {
            frames.push(frame.into_rgb8().into_raw());
        }
        Ok(frames)
    }

    /// Black, white, and the saturated red, green and blue of BT.601's own table of 8-bit levels.
    #[test]
    fn colours_are_those_of_the_standard() {
        let cases = [
            ((16, 128, 128), [0, 0, 0]),
            ((235, 128, 128), [255, 255, 255]),
            ((81, 90, 240), [255, 0, 0]),
            ((145, 54, 34), [0, 255, 0]),
            ((41, 240, 110), [0, 0, 255]),
        ];
        for ((y, u, v), colour) in cases {
            let file = [&b"YUV4MPEG2 W1 H1 F10:1 C444\nFRAME\n"[..], &[y, u, v]].concat();
            let found = frames(&file).unwrap();
            // Levels are whole numbers: the inverse is off by up to a level.
            for (found, wanted) in found[0].iter().zip(colour) {
                assert!(found.abs_diff(wanted) <= 1, "{y} {u} {v}: {found}");
            }
        }
        let full = b"YUV4MPEG2 W1 H1 C444 XCOLORRANGE=FULL\nFRAME\n\x4c\x55\xff";
        // Red of JPEG: 76, 85, 255.
        let red = &frames(full).unwrap()[0];
        assert!(red[0] >= 254 && red[1] <= 1 && red[2] <= 1, "{red:?}");
        let grey = b"YUV4MPEG2 W2 H1 Cmono\nFRAME\n\x10\xeb";
        assert_eq!(frames(grey).unwrap(), [[0, 0, 0, 255, 255, 255]]);
    }

    #[test]
    fn samples_of_colour_serve_several_pixels() {
        // Three pixels in two rows: two samples of colour a row, the second for one pixel.
        let luma = [81; 6];
        let file = |kind: &str, chroma: &[u8]| {
            let head = format!("YUV4MPEG2 W3 H2 F30:1 Ip A1:1 {kind}\nFRAME Ip\n");
            [head.as_bytes(), &luma, chroma].concat()
        };
        let reds = |file: &[u8]| -> Vec<bool> {
            let frame = &frames(file).unwrap()[0];
            frame.chunks(3).map(|pixel| pixel[0] > 200).collect()
        };
        let half = file("C420jpeg", &[90, 128, 240, 128]);
        assert_eq!(reds(&half), [true, true, false, true, true, false]);
        let rows = file("C422", &[90, 128, 128, 128, 240, 128, 128, 128]);
        assert_eq!(reds(&rows), [true, true, false, false, false, false]);
        let unnamed = file("XYSCSS=420", &[90, 128, 240, 128]);
        assert_eq!(reds(&unnamed), [true, true, false, true, true, false]);
    }

    #[test]
    fn frames_are_passed_over() {
        let file = b"YUV4MPEG2 W1 H1 F20:2 Cmono\nFRAME\n\x10FRAME X\n\x7eFRAME\n\xeb";
        let (mut video, path) = open(file).unwrap();
        assert_eq!(video.seconds(), 0.1);
        assert!(video.pass_over(path.path()).unwrap() && video.pass_over(path.path()).unwrap());
        let last = video.frame(path.path()).unwrap().unwrap();
        assert_eq!(last.into_luma8().into_raw(), [255]);
        assert!(!video.pass_over(path.path()).unwrap());
    }

    #[test]
    fn other_files_are_refused_by_name() {
        let cases: [(&[u8], &str); 10] = [
            (b"YUV4MPEG2 W2 H2 C420p10\nFRAME\n", "`420p10`"),
            (b"YUV4MPEG2 W2 H2 C411\nFRAME\n", "`411`"),
            (b"YUV4MPEG2 W2 H2 It\nFRAME\n", "interlaced"),
            (b"YUV4MPEG2 W2 Cmono\nFRAME\n", "no height"),
            (b"YUV4MPEG2 W0 H2\n", "`0` pixels"),
            (
                b"YUV4MPEG2 W65535 H65535\n",
                "frames of 65535 x 65535 pixels take 12288 MB, more than the ",
            ),
            (b"YUV4MPEG2 W2 H2 F0:1\n", "`0:1`"),
            (b"YUV4MPEG2 W2 H2", "cut off inside a line"),
            (
                b"YUV4MPEG2 W2 H2 Cmono\nFRAME\n\x10",
                "cut off inside a frame",
            ),
            (
                b"YUV4MPEG2 W1 H1 Cmono\nFRAME\n\x10\x10\n",
                "no frame where",
            ),
        ];
        for (bytes, part) in cases {
            let message = frames(bytes).unwrap_err().to_string();
            assert!(message.contains(part), "{message}");
        }
    }
}
