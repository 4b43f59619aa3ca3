//! Sound files that belong to no corpus: those of [`latentlm_media::sound`], with this crate's errors.

use std::path::Path;

use latentlm_media::sound::{self, Audio};

use crate::error::{DataError, of_no_dataset};

/// Reads a sound file within the default bounds, those of [`sound::SoundLimits`].
///
/// # Errors
/// As [`latentlm_media::sound::read_audio`].
pub fn read_audio(path: &Path) -> Result<Audio, DataError> {
    sound::read_audio(path).map_err(of_no_dataset)
}

/// Writes a 16-bit mono WAV file atomically: to a temporary file that is synced and renamed.
///
/// # Errors
/// If the file can't be written.
pub fn write_wav(path: &Path, samples: &[f32], sample_rate_hz: u32) -> Result<(), DataError> {
    Ok(sound::write_wav(path, samples, sample_rate_hz)?)
}
