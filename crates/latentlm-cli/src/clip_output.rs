//! Where drawn clips go. Folders of frames, and GIFs on standard output, pipes and devices, have each frame as soon as
//! it is drawn.

use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::Result;
use latentlm::core::bundle::write_atomically;
use latentlm_data::ClipSpec;
use latentlm_media::clip::{FrameFolder, GifFile, GifStream, RawClip, apng_bytes};

use crate::stream::{is_read, unwritten};

/// The format of a clip that is being written.
enum Format {
    /// A GIF on standard output, a pipe or a device.
    Stream(GifStream<Box<dyn Write>>),
    /// A GIF file.
    Gif(GifFile),
    /// A folder of frames.
    Folder(FrameFolder),
    /// An animated PNG. It says at its beginning how many frames it has, so it is written at its end.
    Png,
}

/// A clip that is being written, and its place.
pub struct Growing {
    format: Format,
    path: PathBuf,
    spec: ClipSpec,
}

/// Checks before anything is drawn that a clip can be written there: a folder of frames must be new.
///
/// # Errors
/// If it is there.
pub fn check(path: &Path, spec: ClipSpec) -> Result<()> {
    if path.extension().is_none() {
        FrameFolder::create(path, spec.picture)?;
    }
    Ok(())
}

impl Growing {
    /// Begins a clip in an open stream, or else in the format of the file's ending; a folder of frames if it has none.
    ///
    /// # Errors
    /// If the file or folder can't be made.
    pub fn begin(path: &Path, spec: ClipSpec, stream: Option<Box<dyn Write>>) -> Result<Self> {
        let ending = path.extension();
        let format = if let Some(writer) = stream {
            let gif = GifStream::begin(writer, spec.picture, spec.rate_hz);
            Format::Stream(gif.map_err(|source| unwritten(path, source))?)
        } else if ending.is_none() {
            Format::Folder(FrameFolder::create(path, spec.picture)?)
        } else if ending.is_some_and(|ending| ending.eq_ignore_ascii_case("gif")) {
            Format::Gif(GifFile::create(path, spec.picture, spec.rate_hz)?)
        } else {
            Format::Png
        };
        Ok(Self {
            format,
            path: path.to_owned(),
            spec,
        })
    }

    /// Writes frames, `[F, C, H, W]`; false if the reader is gone.
    ///
    /// # Errors
    /// If they can't be written.
    pub fn write(&mut self, frames: &[u8]) -> Result<bool> {
        for frame in frames.chunks_exact(self.spec.picture.bytes()) {
            match &mut self.format {
                Format::Stream(gif) => {
                    if !is_read(&self.path, gif.write(frame))? {
                        return Ok(false);
                    }
                }
                Format::Gif(file) => file.write(frame)?,
                Format::Folder(folder) => folder.write(frame)?,
                Format::Png => {}
            }
        }
        Ok(true)
    }

    /// Completes the clip, of which `pixels` are all frames that were written.
    ///
    /// # Errors
    /// If it can't be written.
    pub fn finish(self, pixels: &[u8]) -> Result<()> {
        match self.format {
            Format::Stream(gif) => {
                // A reader that is gone has seen all that it wants.
                is_read(&self.path, gif.finish().map(drop))?;
            }
            Format::Gif(file) => file.finish()?,
            Format::Folder(_) => {}
            Format::Png => {
                let bytes = apng_bytes(&raw(pixels, self.spec), &self.path)?;
                write_atomically(&self.path, &bytes)?;
            }
        }
        Ok(())
    }
}

/// Pixels `[F, C, H, W]` as a clip.
pub fn raw(pixels: &[u8], spec: ClipSpec) -> RawClip<'_> {
    RawClip {
        pixels,
        spec: spec.picture,
        rate_hz: spec.rate_hz,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use latentlm_data::ImageSpec;

    const SPEC: ClipSpec = ClipSpec {
        frames: 3,
        rate_hz: 10.0,
        picture: ImageSpec {
            channels: 1,
            height: 4,
            width: 4,
        },
    };

    fn pixels() -> Vec<u8> {
        (0..3 * 16).map(|value| value * 5).collect()
    }

    /// The format is told from the bytes.
    #[test]
    fn a_clip_is_what_its_name_says() {
        let dir = tempfile::tempdir().unwrap();
        for (name, magic) in [
            ("a.GIF", &b"GIF8"[..]),
            ("b.png", b"\x89PNG"),
            ("c.apng", b"\x89PNG"),
        ] {
            let file = dir.path().join("new").join(name);
            check(&file, SPEC).unwrap();
            let mut growing = Growing::begin(&file, SPEC, None).unwrap();
            assert!(growing.write(&pixels()).unwrap());
            assert!(!file.exists(), "{name} is not complete");
            growing.finish(&pixels()).unwrap();
            let bytes = std::fs::read(&file).unwrap();
            assert!(bytes.starts_with(magic), "{name}");
        }
    }

    /// What was drawn before Ctrl-C stays.
    #[test]
    fn a_folder_has_every_frame_that_is_drawn() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("frames");
        let mut growing = Growing::begin(&folder, SPEC, None).unwrap();
        let pixels = pixels();
        for (frame, number) in pixels.chunks(16).zip(1..) {
            assert!(growing.write(frame).unwrap());
            assert_eq!(std::fs::read_dir(&folder).unwrap().count(), number);
        }
        growing.finish(&pixels).unwrap();
        assert!(check(&folder, SPEC).is_err(), "it is not written twice");
    }

    #[test]
    fn a_reader_that_leaves_is_no_error() {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let stream: Box<dyn Write> = Box::new(writer);
        let mut growing = Growing::begin(Path::new("-"), SPEC, Some(stream)).unwrap();
        assert!(!growing.write(&pixels()).unwrap());
        growing.finish(&pixels()).unwrap();
    }
}
