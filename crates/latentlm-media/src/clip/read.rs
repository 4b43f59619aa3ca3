//! Reads clips of all formats, frame by frame.

use std::fs::File;
use std::io::{BufReader, Read, Seek};
use std::path::{Path, PathBuf};

use image::codecs::gif::GifDecoder;
use image::codecs::png::PngDecoder;
use image::codecs::webp::WebPDecoder;
use image::{AnimationDecoder, DynamicImage, Frame, Frames, ImageDecoder, ImageFormat, Limits};

use super::excess::{large_frames, too_many};
use super::screen::Screen;
use super::stills::frames_in;
use super::y4m::{self, Y4m};
use crate::caught::caught;
use crate::error::{MediaError, io_error};
use crate::files::open_regular;
use crate::picture::{MAX_PICTURE_BYTES, Permit, decode_whole, permit, undecoded};

/// Largest number of frames of a clip.
const MAX_FRAMES: usize = 10_000;
/// Number of bytes by which a format is recognized.
const HEAD: usize = 16;
/// Bytes of a pixel with transparency.
const RGBA: u64 = 4;
/// Frames that decoders hold at the same time: the last one, the one before it, the new part, copies of these.
const HELD: u64 = 6;
/// Bytes that decoders may take for themselves, however small the frames are.
const WORKING: u64 = 1 << 20;
/// A frame whose time in the file is at most this, in seconds, is shown for [`HASTY_AS_S`], as in browsers: many
/// GIFs name no time.
const HASTY_S: f64 = 0.0105;
/// Time of such a frame, in seconds.
const HASTY_AS_S: f64 = 0.1;

/// Limits of a clip.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClipLimits {
    /// Largest size of a decoded frame in bytes, four for each pixel.
    pub frame_bytes: u64,
    /// Largest number of frames.
    pub frames: usize,
}

impl Default for ClipLimits {
    /// 10,000 frames of 67 million pixels.
    fn default() -> Self {
        Self {
            frame_bytes: MAX_PICTURE_BYTES,
            frames: MAX_FRAMES,
        }
    }
}

/// A whole frame of a clip.
#[derive(Debug, Clone)]
pub struct ClipFrame {
    /// The picture. All frames of a clip have one size.
    pub picture: DynamicImage,
    /// Time on display in seconds. `None` for frames in files of their own, which say none.
    pub seconds: Option<f64>,
}

/// An open clip: an iterator over its frames. Only the frame that is read is in memory. It ends after the first
/// error.
///
/// An open animation counts against the memory that all threads together may decode into, until its last frame was
/// read: a thread that has one open should not open another or decode a picture, which may wait for that memory.
pub struct ClipReader {
    path: PathBuf,
    source: Source,
    limits: ClipLimits,
    /// Frames read and passed over.
    read: usize,
    size: Option<(u32, u32)>,
    done: bool,
}

enum Source {
    /// GIF, WebP or PNG.
    Animation(Box<Animation>),
    Video(Y4m),
    /// A file for each frame.
    Stills(std::vec::IntoIter<PathBuf>),
}

/// An animation of which frames are decoded one after the other.
struct Animation {
    frames: Frames<'static>,
    /// Of a GIF.
    screen: Option<Screen>,
    /// The decoder keeps a whole frame from each to the next.
    _permit: Permit<'static>,
}

impl Animation {
    /// Decodes the next frame; fails with what is wrong with it.
    fn next(&mut self) -> Result<Option<Frame>, String> {
        caught("its decoder", || {
            match self.screen.as_mut().and_then(Screen::beyond) {
                Some(reason) => Err(reason),
                None => {
                    let frame = self.frames.next().transpose();
                    frame.map_err(|error| error.to_string())
                }
            }
        })?
    }
}

impl ClipReader {
    /// Opens a clip: a GIF, animated WebP, animated PNG or Y4M file, or a folder of numbered frames. The format of
    /// a file is recognized by its content. A picture that does not move is a clip of one frame.
    ///
    /// Frames that change a part of the picture are completed; those of a GIF must lie within the size that it names.
    /// GIF, WebP and PNG frames that are shown for 10 ms or less count as 100 ms, as in browsers.
    ///
    /// # Errors
    /// If it can't be read, is no clip, or its frames are larger than allowed.
    pub fn open(path: &Path, limits: ClipLimits) -> Result<Self, MediaError> {
        let source = if path.is_dir() {
            Source::Stills(frames_in(path, limits.frames)?.into_iter())
        } else {
            Source::of_file(path, limits)?
        };
        Ok(Self {
            path: path.to_owned(),
            source,
            limits,
            read: 0,
            size: None,
            done: false,
        })
    }

    /// Skips `count` frames, or all that are left. Frames of Y4M and of folders are not decoded.
    ///
    /// # Errors
    /// If the clip can't be read or is broken.
    pub fn pass_over(&mut self, count: usize) -> Result<(), MediaError> {
        for _ in 0..count {
            let passed = match &mut self.source {
                Source::Animation(_) => None,
                Source::Video(video) => Some(video.pass_over(&self.path)?),
                Source::Stills(paths) => Some(paths.next().is_some()),
            };
            let there = match passed {
                Some(there) => {
                    self.read += usize::from(there);
                    there
                }
                None => self.next().transpose()?.is_some(),
            };
            if !there {
                break;
            }
        }
        Ok(())
    }

    fn advance(&mut self) -> Result<Option<ClipFrame>, MediaError> {
        let malformed = |reason: String| MediaError::malformed(&self.path, reason);
        let number = self.read + 1;
        let frame = match &mut self.source {
            Source::Animation(animation) => {
                let frame = animation
                    .next()
                    .map_err(|reason| malformed(format!("frame {number} is broken: {reason}")))?;
                frame.map(of_animation)
            }
            Source::Video(video) => {
                let seconds = Some(video.seconds());
                let picture = video.frame(&self.path)?;
                picture.map(|picture| ClipFrame { picture, seconds })
            }
            Source::Stills(paths) => match paths.next() {
                Some(path) => Some(ClipFrame {
                    picture: decode_whole(&path, self.limits.frame_bytes)?,
                    seconds: None,
                }),
                None => None,
            },
        };
        let Some(frame) = frame else {
            return match self.read {
                0 => Err(malformed("a clip without frames".into())),
                _ => Ok(None),
            };
        };
        if self.read == self.limits.frames {
            return Err(too_many(&self.path, self.limits.frames));
        }
        let (width, height) = (frame.picture.width(), frame.picture.height());
        let (first_width, first_height) = *self.size.get_or_insert((width, height));
        if (width, height) != (first_width, first_height) {
            return Err(malformed(format!(
                "frame {number} has {width} x {height} pixels, those before it {first_width} x \
                 {first_height}"
            )));
        }
        self.read = number;
        Ok(Some(frame))
    }
}

impl Iterator for ClipReader {
    type Item = Result<ClipFrame, MediaError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.done {
            return None;
        }
        let frame = self.advance().transpose();
        self.done = !matches!(frame, Some(Ok(_)));
        if self.done {
            // Its memory is free for others.
            self.source = Source::Stills(Vec::new().into_iter());
        }
        frame
    }
}

/// Whether a file is an animated GIF, WebP or PNG, or a Y4M. Broken files and pictures that stand still are not.
pub fn is_animated(path: &Path) -> bool {
    match Source::of_file(path, ClipLimits::default()) {
        Ok(source) => !matches!(source, Source::Stills(_)),
        Err(_) => false,
    }
}

impl Source {
    fn of_file(path: &Path, limits: ClipLimits) -> Result<Self, MediaError> {
        let mut file = open_regular(path).map_err(io_error("read", path))?;
        let mut head = Vec::with_capacity(HEAD);
        file.by_ref()
            .take(HEAD as u64)
            .read_to_end(&mut head)
            .map_err(io_error("read", path))?;
        file.rewind().map_err(io_error("read", path))?;
        if head.starts_with(y4m::MAGIC) {
            let video = Y4m::open(BufReader::new(file), path, limits.frame_bytes)?;
            return Ok(Self::Video(video));
        }
        let animation = match image::guess_format(&head) {
            Ok(format) => {
                if format == ImageFormat::WebP {
                    whole_riff(&file, &head, path)?;
                }
                let file = BufReader::new(file);
                let open = || animation(file, format, path, limits.frame_bytes);
                caught("its decoder", open).map_err(|failed| {
                    MediaError::malformed(path, format!("a damaged clip: {failed}"))
                })??
            }
            // The decoder of pictures says what is wrong.
            Err(_) => None,
        };
        Ok(match animation {
            Some(animation) => Self::Animation(Box::new(animation)),
            None => Self::Stills(vec![path.to_owned()].into_iter()),
        })
    }
}

/// The decoder of WebP leaves out frames that the file ends before: its header says how long it should be.
fn whole_riff(file: &File, head: &[u8], path: &Path) -> Result<(), MediaError> {
    let Some(size) = head.get(4..8).and_then(|size| size.try_into().ok()) else {
        return Ok(());
    };
    let said = u64::from(u32::from_le_bytes(size)) + 8;
    let found = file.metadata().map_err(io_error("read", path))?.len();
    if found < said {
        let reason = format!("cut off: {found} of {said} bytes");
        return Err(MediaError::malformed(path, reason));
    }
    Ok(())
}

/// An animation; `None` for other formats and pictures that stand still.
fn animation(
    file: BufReader<File>,
    format: ImageFormat,
    path: &Path,
    limit: u64,
) -> Result<Option<Animation>, MediaError> {
    let undecoded = |source| undecoded(path, limit, source);
    let bounded = |(width, height): (u32, u32)| {
        let bytes = u64::from(width) * u64::from(height) * RGBA;
        if (1..=limit).contains(&bytes) {
            return Ok(permit(bytes, limit));
        }
        Err(match bytes {
            0 => MediaError::malformed(path, "a clip without pixels"),
            _ => large_frames(path, (width, height), bytes, limit),
        })
    };
    let mut limits = Limits::no_limits();
    limits.max_alloc = Some(limit.saturating_mul(HELD).max(WORKING));
    let mut screen = None;
    let (frames, permit) = match format {
        ImageFormat::Gif => {
            let mut decoder = GifDecoder::new(file).map_err(undecoded)?;
            let permit = bounded(decoder.dimensions())?;
            decoder.set_limits(limits).map_err(undecoded)?;
            screen = Some(Screen::of(
                open_regular(path).map_err(io_error("read", path))?,
            ));
            (decoder.into_frames(), permit)
        }
        ImageFormat::WebP => {
            let decoder = WebPDecoder::new(file).map_err(undecoded)?;
            if !decoder.has_animation() {
                return Ok(None);
            }
            let permit = bounded(decoder.dimensions())?;
            (decoder.into_frames(), permit)
        }
        ImageFormat::Png => {
            let decoder = PngDecoder::with_limits(file, limits).map_err(undecoded)?;
            if !decoder.is_apng().map_err(undecoded)? {
                return Ok(None);
            }
            let permit = bounded(decoder.dimensions())?;
            (decoder.apng().map_err(undecoded)?.into_frames(), permit)
        }
        _ => return Ok(None),
    };
    Ok(Some(Animation {
        frames,
        screen,
        _permit: permit,
    }))
}

fn of_animation(frame: Frame) -> ClipFrame {
    let (over, under) = frame.delay().numer_denom_ms();
    let seconds = f64::from(over) / f64::from(under.max(1)) / 1000.0;
    let seconds = if seconds > HASTY_S {
        seconds
    } else {
        HASTY_AS_S
    };
    ClipFrame {
        picture: DynamicImage::ImageRgba8(frame.into_buffer()),
        seconds: Some(seconds),
    }
}
