//! Writes clips while their frames are made: GIF into files, pipes and standard output, and folders of frames.

use std::cell::RefCell;
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use image::codecs::gif::{GifEncoder, Repeat};
use image::{Delay, DynamicImage, Frame};
use latentlm_core::disk;
use tempfile::NamedTempFile;

use super::raw::{RawClip, frame_name, png_bytes, refuse_existing};
use crate::error::{MediaError, io_error};
use crate::files::temporary_beside;
use crate::picture::ImageSpec;

/// How thoroughly colours of a GIF are chosen if a frame has more than 256: 1 is best and slowest, 30 fastest.
const GIF_SPEED: i32 = 10;
/// Shortest time of a GIF's frame in hundredths of a second; browsers take less for a mistake.
const GIF_SHORTEST: u32 = 2;

/// Encoded bytes that are not written yet. The encoder owns its writer and never flushes it, so it writes into memory.
#[derive(Clone, Default)]
struct Made(Rc<RefCell<Vec<u8>>>);

impl Write for Made {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.borrow_mut().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Writes a GIF that repeats for ever while its frames are made, also to a pipe. Frames of at most 256 colours, and so
/// all grey ones, are exact. Times are rounded to hundredths of a second, so that the whole clip has the right length.
pub struct GifStream<W: Write> {
    encoder: GifEncoder<Made>,
    made: Made,
    writer: W,
    spec: ImageSpec,
    rate_hz: f64,
    frames: usize,
}

impl<W: Write> GifStream<W> {
    /// A GIF of frames of one size, `rate_hz` a second. Its header is written with the first frame.
    ///
    /// # Errors
    /// If the encoder refuses.
    pub fn begin(writer: W, spec: ImageSpec, rate_hz: f64) -> io::Result<Self> {
        let made = Made::default();
        let mut encoder = GifEncoder::new_with_speed(made.clone(), GIF_SPEED);
        encoder
            .set_repeat(Repeat::Infinite)
            .map_err(io::Error::other)?;
        Ok(Self {
            encoder,
            made,
            writer,
            spec,
            rate_hz,
            frames: 0,
        })
    }

    /// Writes a frame `[C, H, W]` and flushes, so that a reader can show it at once.
    ///
    /// # Errors
    /// If it has another size, is larger than a GIF can be, or can't be written.
    pub fn write(&mut self, frame: &[u8]) -> io::Result<()> {
        let picture = picture(frame, self.spec)?.into_rgba8();
        let at = |index: usize| (index as f64 * 100.0 / self.rate_hz).round();
        let hundredths = ((at(self.frames + 1) - at(self.frames)) as u32).max(GIF_SHORTEST);
        let delay = Delay::from_numer_denom_ms(hundredths.saturating_mul(10), 1);
        let frame = Frame::from_parts(picture, 0, 0, delay);
        self.encoder.encode_frame(frame).map_err(io::Error::other)?;
        self.frames += 1;
        let bytes = self.made.0.take();
        self.writer.write_all(&bytes)?;
        self.writer.flush()
    }

    /// Writes the end. Returns the writer.
    ///
    /// # Errors
    /// If it can't be written.
    pub fn finish(self) -> io::Result<W> {
        let Self {
            encoder,
            made,
            mut writer,
            ..
        } = self;
        // The encoder writes the end when it is dropped.
        drop(encoder);
        writer.write_all(&made.0.take())?;
        writer.flush()?;
        Ok(writer)
    }
}

/// The picture of a frame `[C, H, W]`.
fn picture(frame: &[u8], spec: ImageSpec) -> io::Result<DynamicImage> {
    let size = spec.bytes();
    if frame.len() != size {
        let reason = format!("a frame of {} values, not {size}", frame.len());
        return Err(io::Error::new(ErrorKind::InvalidInput, reason));
    }
    let clip = RawClip {
        pixels: frame,
        spec,
        rate_hz: 1.0,
    };
    Ok(clip.picture(0))
}

/// Writes a GIF file while its frames are made. It gets its name in [`finish`](Self::finish); dropped before that, it
/// leaves nothing behind.
pub struct GifFile {
    stream: GifStream<NamedTempFile>,
    path: PathBuf,
}

impl GifFile {
    /// Creates a temporary file in the folder of `path`, which is made if it is not there.
    ///
    /// # Errors
    /// If frames can't have this size, the file can't be written, or `path` is a pipe or device: a [`GifStream`]
    /// writes into those.
    pub fn create(path: &Path, spec: ImageSpec, rate_hz: f64) -> Result<Self, MediaError> {
        spec.validate(path)?;
        if disk::is_stream(path) {
            return Err(MediaError::malformed(path, "is a stream, not a file"));
        }
        let folder = disk::folder_of(path);
        disk::create_folders(folder).map_err(io_error("create", folder))?;
        let file = temporary_beside(path)?;
        let stream = GifStream::begin(file, spec, rate_hz).map_err(io_error("write", path))?;
        Ok(Self {
            stream,
            path: path.to_owned(),
        })
    }

    /// Writes a frame `[C, H, W]`.
    ///
    /// # Errors
    /// As [`GifStream::write`].
    pub fn write(&mut self, frame: &[u8]) -> Result<(), MediaError> {
        let written = self.stream.write(frame);
        written.map_err(io_error("write", &self.path))
    }

    /// Writes the end and renames the file to its path.
    ///
    /// # Errors
    /// If the file can't be written.
    pub fn finish(self) -> Result<(), MediaError> {
        let Self { stream, path } = self;
        let file = stream.finish();
        file.and_then(|file| disk::persist(file, &path))
            .map_err(io_error("write", &path))
    }
}

/// Writes frames into a new folder while they are made, as `0001.png`, `0002.png` and so on. Every file is whole at
/// every moment.
#[derive(Debug)]
pub struct FrameFolder {
    folder: PathBuf,
    spec: ImageSpec,
    frames: usize,
}

impl FrameFolder {
    /// A folder of frames of one size. It is made with the first frame.
    ///
    /// # Errors
    /// If it is there already, or frames can't have this size.
    pub fn create(folder: &Path, spec: ImageSpec) -> Result<Self, MediaError> {
        spec.validate(folder)?;
        refuse_existing(folder)?;
        Ok(Self {
            folder: folder.to_owned(),
            spec,
            frames: 0,
        })
    }

    /// Writes a frame `[C, H, W]`.
    ///
    /// # Errors
    /// If it has another size, or can't be written.
    pub fn write(&mut self, frame: &[u8]) -> Result<(), MediaError> {
        let path = self.folder.join(frame_name(self.frames));
        let picture = picture(frame, self.spec).map_err(io_error("write", &path))?;
        let bytes = png_bytes(&picture, &path)?;
        disk::replace_file(&path, &bytes).map_err(io_error("write", &path))?;
        self.frames += 1;
        Ok(())
    }
}
