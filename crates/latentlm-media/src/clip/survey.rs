//! Clips brought to one length, frame rate and size: what a file consists of, and the frames of its samples.

use std::path::Path;

use super::pace::Pace;
use super::read::{ClipLimits, ClipReader};
use crate::error::{Bound, MediaError};
use crate::picture::{ImageSpec, fit};

/// Highest frame rate in frames a second.
const MAX_RATE_HZ: f64 = 240.0;
/// Largest number of frames of a sample.
const MAX_FRAMES: usize = 10_000;

/// Length, frame rate, size and channels that clips are brought to.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ClipSpec {
    /// Number of frames.
    pub frames: usize,
    /// Frames a second.
    pub rate_hz: f64,
    /// Size and channels of a frame.
    pub picture: ImageSpec,
}

impl ClipSpec {
    /// Size of a sample in bytes.
    pub fn bytes(&self) -> usize {
        self.frames * self.picture.bytes()
    }

    /// Checks that clips can have this length, rate and size. `path` is for the error message.
    ///
    /// # Errors
    /// If there are not 1 to 10,000 frames, the rate is not above 0 and at most 240, or the size can't be.
    pub fn validate(self, path: &Path) -> Result<(), MediaError> {
        self.picture.validate(path)?;
        let rate_is_valid = self.rate_hz > 0.0 && self.rate_hz <= MAX_RATE_HZ;
        if (1..=MAX_FRAMES).contains(&self.frames) && rate_is_valid {
            return Ok(());
        }
        let reason = format!(
            "cannot open clips of {} frames, {} a second: frames must be 1 to {MAX_FRAMES}, the rate above 0 and \
             at most {MAX_RATE_HZ}",
            self.frames, self.rate_hz
        );
        Err(MediaError::malformed(path, reason))
    }
}

/// What a clip consists of.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ClipSurvey {
    /// For each frame at the wanted rate the number of the file's frame that it shows.
    shown: Vec<u32>,
    /// Width of a frame in pixels.
    pub width: u32,
    /// Height of a frame in pixels.
    pub height: u32,
}

impl ClipSurvey {
    /// Decodes a whole clip. Frames are counted at `rate_hz` a second.
    ///
    /// # Errors
    /// If it can't be read, or has more frames than allowed, in its file or at that rate.
    pub fn of(path: &Path, rate_hz: f64, limits: ClipLimits) -> Result<Self, MediaError> {
        let mut pace = Pace::new(rate_hz);
        let mut survey = Self::default();
        for (index, frame) in (0..).zip(ClipReader::open(path, limits)?) {
            let frame = frame?;
            (survey.width, survey.height) = (frame.picture.width(), frame.picture.height());
            let times = pace.times(frame.seconds);
            if survey.shown.len().saturating_add(times) > limits.frames {
                let reason = format!(
                    "lasts for more than {} frames at {rate_hz} a second: cut it into shorter clips",
                    limits.frames
                );
                return Err(MediaError::too_large(path, reason, Bound::Frames));
            }
            survey.shown.extend(std::iter::repeat_n(index, times));
        }
        Ok(survey)
    }

    /// Number of frames at the wanted rate.
    pub fn frames(&self) -> usize {
        self.shown.len()
    }

    /// Number of samples in the clip, one after the other.
    pub fn windows(&self, spec: ClipSpec) -> usize {
        self.shown.len() / spec.frames
    }

    /// Reads a sample of the clip in `path`, by its number. Returns `[F, C, H, W]`.
    ///
    /// # Errors
    /// If the clip can't be read, or has fewer frames than when it was surveyed.
    ///
    /// # Panics
    /// If the clip has no such sample.
    pub fn read(
        &self,
        path: &Path,
        window: usize,
        spec: ClipSpec,
        limits: ClipLimits,
    ) -> Result<Vec<u8>, MediaError> {
        let wanted = &self.shown[window * spec.frames..][..spec.frames];
        let mut reader = ClipReader::open(path, limits)?;
        let mut frames = Vec::with_capacity(spec.bytes());
        let mut frame = Vec::new();
        // Number of the file's frame that comes next.
        let mut next = 0;
        for &number in wanted {
            if number >= next {
                reader.pass_over((number - next) as usize)?;
                let Some(read) = reader.next().transpose()? else {
                    let reason = "has fewer frames than when the dataset was opened";
                    return Err(MediaError::malformed(path, reason));
                };
                frame = fit(read.picture, spec.picture);
                next = number + 1;
            }
            frames.extend_from_slice(&frame);
        }
        Ok(frames)
    }
}

/// Reads the frames at the beginning of a clip, or a picture, at the wanted rate. Returns `[F, C, H, W]` with at least
/// one frame and at most `spec.frames`.
///
/// # Errors
/// If it can't be read, or `spec` is invalid.
pub fn read_clip(path: &Path, spec: ClipSpec) -> Result<Vec<u8>, MediaError> {
    spec.validate(path)?;
    let mut pace = Pace::new(spec.rate_hz);
    let mut frames = Vec::new();
    let mut missing = spec.frames;
    for frame in ClipReader::open(path, ClipLimits::default())? {
        let frame = frame?;
        let times = pace.times(frame.seconds).min(missing);
        if times > 0 {
            frames.extend(fit(frame.picture, spec.picture).repeat(times));
        }
        missing -= times;
        if missing == 0 {
            break;
        }
    }
    Ok(frames)
}
