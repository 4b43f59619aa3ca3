//! Writes WAV files: 16-bit, mono.

use std::fs::File;
use std::io::{self, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use latentlm_core::disk::{is_stream, persist};
use tempfile::NamedTempFile;

use crate::error::{MediaError, io_error};
use crate::files::{temporary_beside, write_whole};

/// Size of the header in bytes.
const HEADER_BYTES: u64 = 44;
/// Length field of a stream whose length is unknown. `ffmpeg` writes this value, and readers take it as
/// "until the end".
const OPEN_END: u32 = u32::MAX;

/// 16-bit samples of a WAV file.
fn pcm(samples: &[f32]) -> impl Iterator<Item = [u8; 2]> {
    samples.iter().map(|sample| {
        // Readers divide by the same scale: reading and writing again gives the same samples.
        let level = (sample * 32768.0).round().clamp(-32768.0, 32767.0);
        (level as i16).to_le_bytes()
    })
}

/// Header of a 16-bit mono file. `samples` is `None` for a stream of unknown length.
fn header(sample_rate_hz: u32, samples: Option<u64>) -> Vec<u8> {
    // A length that does not fit into the format is written as unknown.
    let sizes = samples.and_then(|count| {
        let data = u32::try_from(count.checked_mul(2)?).ok()?;
        Some((data.checked_add(36)?, data))
    });
    let (riff, data) = sizes.unwrap_or((OPEN_END, OPEN_END));
    let mut header = Vec::with_capacity(HEADER_BYTES as usize);
    header.extend(b"RIFF");
    header.extend(riff.to_le_bytes());
    header.extend(b"WAVEfmt ");
    header.extend(16u32.to_le_bytes());
    header.extend(1u16.to_le_bytes()); // PCM
    header.extend(1u16.to_le_bytes()); // channels
    header.extend(sample_rate_hz.to_le_bytes());
    header.extend(sample_rate_hz.saturating_mul(2).to_le_bytes());
    header.extend(2u16.to_le_bytes()); // bytes a frame
    header.extend(16u16.to_le_bytes()); // bits a sample
    header.extend(b"data");
    header.extend(data.to_le_bytes());
    header
}

/// A 16-bit mono WAV file in memory. Samples outside `[-1, 1]` are clipped.
pub fn wav_bytes(samples: &[f32], sample_rate_hz: u32) -> Vec<u8> {
    let mut bytes = header(sample_rate_hz, Some(samples.len() as u64));
    bytes.extend(pcm(samples).flatten());
    bytes
}

/// Writes a 16-bit mono WAV file atomically: to a temporary file that is synced and renamed.
///
/// # Errors
/// If the file can't be written.
pub fn write_wav(path: &Path, samples: &[f32], sample_rate_hz: u32) -> Result<(), MediaError> {
    write_whole(path, &wav_bytes(samples, sample_rate_hz))
}

/// Writes a 16-bit mono WAV stream while its sound is generated, also to a pipe. The header leaves the length
/// open, as players of streams expect.
#[derive(Debug)]
pub struct WavStream<W: Write> {
    writer: W,
}

impl<W: Write> WavStream<W> {
    /// Writes the header.
    ///
    /// # Errors
    /// If it can't be written.
    pub fn begin(mut writer: W, sample_rate_hz: u32) -> io::Result<Self> {
        writer.write_all(&header(sample_rate_hz, None))?;
        writer.flush()?;
        Ok(Self { writer })
    }

    /// Writes samples and flushes, so that a player can play them at once.
    ///
    /// # Errors
    /// If they can't be written.
    pub fn write(&mut self, samples: &[f32]) -> io::Result<()> {
        let bytes: Vec<u8> = pcm(samples).flatten().collect();
        self.writer.write_all(&bytes)?;
        self.writer.flush()
    }

    /// The underlying writer.
    pub fn into_inner(self) -> W {
        self.writer
    }
}

/// Writes the final length into the header of a [`WavStream`] that was written to a file.
///
/// # Errors
/// If the file can't be written.
pub fn finish_wav_stream(file: &mut File, sample_rate_hz: u32) -> io::Result<()> {
    let bytes = file.seek(SeekFrom::End(0))?;
    let samples = bytes.saturating_sub(HEADER_BYTES) / 2;
    file.seek(SeekFrom::Start(0))?;
    file.write_all(&header(sample_rate_hz, Some(samples)))?;
    file.sync_all()
}

/// Writes a 16-bit mono WAV file while its sound is generated. The file gets its name in
/// [`finish`](Self::finish); dropped before that, it leaves nothing behind.
#[derive(Debug)]
pub struct WavFile {
    stream: WavStream<NamedTempFile>,
    path: PathBuf,
    sample_rate_hz: u32,
}

impl WavFile {
    /// Creates a temporary file in the folder of `path`.
    ///
    /// # Errors
    /// If the file can't be written, or `path` is a pipe or device: a [`WavStream`] writes into those.
    pub fn create(path: &Path, sample_rate_hz: u32) -> Result<Self, MediaError> {
        if is_stream(path) {
            return Err(MediaError::malformed(path, "is a stream, not a file"));
        }
        let file = temporary_beside(path)?;
        let stream = WavStream::begin(file, sample_rate_hz).map_err(io_error("write", path))?;
        Ok(Self {
            stream,
            path: path.to_owned(),
            sample_rate_hz,
        })
    }

    /// Writes samples.
    ///
    /// # Errors
    /// If they can't be written.
    pub fn write(&mut self, samples: &[f32]) -> Result<(), MediaError> {
        self.stream
            .write(samples)
            .map_err(io_error("write", &self.path))
    }

    /// Writes the final length into the header and renames the file to its path.
    ///
    /// # Errors
    /// If the file can't be written.
    pub fn finish(self) -> Result<(), MediaError> {
        let path = self.path;
        let mut file = self.stream.into_inner();
        finish_wav_stream(file.as_file_mut(), self.sample_rate_hz)
            .map_err(io_error("write", &path))?;
        persist(file, &path).map_err(io_error("write", &path))
    }
}

/// Writes a 16-bit mono WAV file that grows under its own name while its sound is generated. The header is
/// brought up to date with each piece of sound: if the program is killed, the file can be read up to there.
#[derive(Debug)]
pub struct GrowingWav {
    file: File,
    path: PathBuf,
    sample_rate_hz: u32,
    samples: u64,
}

impl GrowingWav {
    /// Creates the file, or empties one of that name. A pipe or device needs a [`WavStream`]: nothing in it can be
    /// changed later.
    ///
    /// # Errors
    /// If the file can't be written.
    pub fn create(path: &Path, sample_rate_hz: u32) -> Result<Self, MediaError> {
        let mut file = File::create(path).map_err(io_error("write", path))?;
        let begun = file.write_all(&header(sample_rate_hz, Some(0)));
        begun.map_err(io_error("write", path))?;
        Ok(Self {
            file,
            path: path.to_owned(),
            sample_rate_hz,
            samples: 0,
        })
    }

    /// Writes samples, then the length so far.
    ///
    /// # Errors
    /// If they can't be written.
    pub fn write(&mut self, samples: &[f32]) -> Result<(), MediaError> {
        let bytes: Vec<u8> = pcm(samples).flatten().collect();
        self.samples += samples.len() as u64;
        let written = self.file.write_all(&bytes).and_then(|()| self.tell());
        written.map_err(io_error("write", &self.path))
    }

    /// Writes the length so far into the header.
    fn tell(&mut self) -> io::Result<()> {
        self.file.seek(SeekFrom::Start(0))?;
        let header = header(self.sample_rate_hz, Some(self.samples));
        self.file.write_all(&header)?;
        self.file.seek(SeekFrom::End(0))?;
        Ok(())
    }

    /// Writes the final length into the header, and waits until all is on the disk.
    ///
    /// # Errors
    /// If the file can't be written.
    pub fn finish(mut self) -> Result<(), MediaError> {
        let told = self.tell().and_then(|()| self.file.sync_all());
        told.map_err(io_error("write", &self.path))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_rounded_and_clipped() {
        let bytes = wav_bytes(&[0.0, 0.5, -1.0, 1.0, 7.0, -7.0, f32::NAN], 8000);
        let words = bytes[44..].chunks_exact(2);
        let levels: Vec<i16> = words.map(|b| i16::from_le_bytes([b[0], b[1]])).collect();
        assert_eq!(levels, [0, 16384, -32768, 32767, 32767, -32768, 0]);
    }

    /// Two and a half seconds: read after each piece, as after a kill, and at the end.
    #[test]
    fn a_growing_file_can_be_read_at_any_time() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.wav");
        let rate = 1000;
        let mut file = GrowingWav::create(&path, rate).unwrap();
        let samples: Vec<f32> = (0..2500).map(|i| (i % 256) as f32 / 256.0).collect();
        let read = || crate::sound::read_audio(&path).map(|audio| audio.samples);
        let mut count = 0;
        for piece in samples.chunks(400) {
            file.write(piece).unwrap();
            count += piece.len();
            assert_eq!(read().unwrap(), samples[..count]);
        }
        file.finish().unwrap();
        assert_eq!(read().unwrap(), samples);
        assert_eq!(std::fs::read(&path).unwrap(), wav_bytes(&samples, rate));
    }

    #[test]
    fn lengths_beyond_the_format_are_left_open() {
        let sizes = |samples| {
            let header = header(8000, samples);
            let word = |at: usize| u32::from_le_bytes(header[at..at + 4].try_into().unwrap());
            (word(4), word(40))
        };
        assert_eq!(sizes(Some(10)), (56, 20));
        let most = u64::from((u32::MAX - 36) / 2);
        assert_eq!(sizes(Some(most)), (u32::MAX - 1, u32::MAX - 37));
        for samples in [Some(most + 1), Some(u64::MAX), None] {
            assert_eq!(sizes(samples), (u32::MAX, u32::MAX));
        }
    }
}
