//! Sound files that belong to no corpus: those of [`latentlm_media::sound`], with this crate's errors.

use std::path::Path;

use latentlm_media::sound::{self, Audio, SoundLimits};

use crate::error::DataError;

/// Reads a sound file within [`SoundLimits::default`].
///
/// # Errors
/// As [`latentlm_media::sound::read_audio`].
pub fn read_audio(path: &Path) -> Result<Audio, DataError> {
    Ok(sound::read_audio(path)?)
}

/// Reads a sound file within the given limits.
///
/// # Errors
/// As [`read_audio`].
pub fn read_audio_within(path: &Path, limits: SoundLimits) -> Result<Audio, DataError> {
    Ok(sound::read_audio_within(path, limits)?)
}

/// Writes a 16-bit mono WAV file atomically: to a temporary file that is synced and renamed.
///
/// # Errors
/// If the file can't be written.
pub fn write_wav(path: &Path, samples: &[f32], sample_rate_hz: u32) -> Result<(), DataError> {
    Ok(sound::write_wav(path, samples, sample_rate_hz)?)
}

/// Writes a WAV file while its sound is generated; it gets its name once it is complete. See
/// [`latentlm_media::sound::WavFile`].
#[derive(Debug)]
pub struct WavFile(sound::WavFile);

impl WavFile {
    /// Creates a temporary file in the folder of `path`.
    ///
    /// # Errors
    /// If the file can't be written.
    pub fn create(path: &Path, sample_rate_hz: u32) -> Result<Self, DataError> {
        Ok(Self(sound::WavFile::create(path, sample_rate_hz)?))
    }

    /// Writes samples.
    ///
    /// # Errors
    /// If they can't be written.
    pub fn write(&mut self, samples: &[f32]) -> Result<(), DataError> {
        Ok(self.0.write(samples)?)
    }

    /// Writes the final length into the header and renames the file to its path.
    ///
    /// # Errors
    /// If the file can't be written.
    pub fn finish(self) -> Result<(), DataError> {
        Ok(self.0.finish()?)
    }
}

/// Writes a WAV file that grows under its own name while its sound is generated. See
/// [`latentlm_media::sound::GrowingWav`].
#[derive(Debug)]
pub struct GrowingWav(sound::GrowingWav);

impl GrowingWav {
    /// Creates the file, or empties one of that name.
    ///
    /// # Errors
    /// If the file can't be written.
    pub fn create(path: &Path, sample_rate_hz: u32) -> Result<Self, DataError> {
        Ok(Self(sound::GrowingWav::create(path, sample_rate_hz)?))
    }

    /// Writes samples.
    ///
    /// # Errors
    /// If they can't be written.
    pub fn write(&mut self, samples: &[f32]) -> Result<(), DataError> {
        Ok(self.0.write(samples)?)
    }

    /// Writes the final length into the header, and waits until all is on the disk.
    ///
    /// # Errors
    /// If the file can't be written.
    pub fn finish(self) -> Result<(), DataError> {
        Ok(self.0.finish()?)
    }
}
