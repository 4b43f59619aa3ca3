//! Mixes decoded channels to mono; checks limits and measures the peak on the way.

use std::path::Path;

use super::audio::Audio;
use crate::error::{Bound, MediaError};

/// A recording is silent if its loudest sample is below this value, -80 dB of full scale.
const SILENT_PEAK: f32 = 1e-4;
/// Channels cancel each other out if the peak of their mix is below this fraction (-40 dB) of the loudest
/// channel's peak.
const CANCELLED: f32 = 0.01;

/// Largest length of a sound file. Samples are counted during decoding, whatever the header says.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SoundLimits {
    /// Largest number of samples per channel at the file's own rate. A sample takes four bytes of memory.
    pub samples: usize,
    /// Largest length in seconds.
    pub seconds: f64,
}

impl Default for SoundLimits {
    /// 134 million samples, half a gigabyte: 50 minutes at 44.1 kHz, 2.3 hours at 16 kHz.
    fn default() -> Self {
        Self {
            samples: 1 << 27,
            seconds: f64::INFINITY,
        }
    }
}

impl SoundLimits {
    /// Adds a limit of `seconds` seconds.
    pub fn and_seconds(self, seconds: f64) -> Self {
        Self {
            seconds: self.seconds.min(seconds),
            ..self
        }
    }

    /// Checks that `frames` samples per channel are within the limits.
    pub(super) fn check(
        &self,
        path: &Path,
        frames: u64,
        sample_rate_hz: u32,
    ) -> Result<(), MediaError> {
        let seconds = frames as f64 / f64::from(sample_rate_hz);
        if frames > self.samples as u64 {
            let reason = format!(
                "holds more than {} samples, the most that is read: cut it into several",
                self.samples
            );
            return Err(MediaError::too_large(path, reason, Bound::Samples));
        }
        if seconds > self.seconds {
            let reason = format!("lasts more than {:.2} s", self.seconds);
            return Err(MediaError::malformed(path, reason));
        }
        Ok(())
    }
}

/// A decoded file.
#[derive(Debug)]
pub struct Sound {
    /// The sound, mixed to mono.
    pub audio: Audio,
    /// Peak of all channels before mixing, as an absolute value.
    pub loudest: f32,
}

impl Sound {
    /// The reason why the sound is silent, if it is.
    pub fn silence(&self) -> Option<&'static str> {
        if self.loudest < SILENT_PEAK {
            return Some("is silent: no sample is louder than -80 dB of full scale");
        }
        self.cancellation()
    }

    /// The reason why a recording that is not silent is silent as one channel, if it is.
    pub(super) fn cancellation(&self) -> Option<&'static str> {
        let samples = self.audio.samples.iter();
        let peak = samples.fold(0.0_f32, |peak, x| peak.max(x.abs()));
        let is_cancelled = self.loudest >= SILENT_PEAK && peak < CANCELLED * self.loudest;
        is_cancelled.then_some("is silent as one channel: its channels cancel each other out")
    }
}

/// Mixes channels to mono.
pub(super) struct Mixer<'a> {
    path: &'a Path,
    limits: SoundLimits,
    pub(super) sound: Sound,
}

impl<'a> Mixer<'a> {
    pub(super) fn new(path: &'a Path, limits: SoundLimits) -> Self {
        Self {
            path,
            limits,
            sound: Sound {
                audio: Audio {
                    samples: Vec::new(),
                    sample_rate_hz: 0,
                },
                loudest: 0.0,
            },
        }
    }

    /// Adds frames. NaN does not count for the peak here; `read_sound` reports it.
    pub(super) fn add(
        &mut self,
        interleaved: &[f32],
        channels: usize,
        rate: u32,
    ) -> Result<(), MediaError> {
        let audio = &mut self.sound.audio;
        let frames = audio.samples.len() + interleaved.len() / channels;
        self.limits.check(self.path, frames as u64, rate)?;
        audio.sample_rate_hz = rate;
        reserve(&mut audio.samples, frames, self.limits.samples);
        audio.samples.extend(mono(interleaved, channels));
        let peak = |peak: f32, x: &f32| peak.max(x.abs());
        self.sound.loudest = interleaved.iter().fold(self.sound.loudest, peak);
        Ok(())
    }
}

/// Makes room for `needed` samples. Doubles the capacity as a vector does, but at most up to `most`, and never from
/// more than half of `most`: while samples are moved, old and new memory together are at most one and a half times
/// the limit.
fn reserve(samples: &mut Vec<f32>, needed: usize, most: usize) {
    if needed <= samples.capacity() {
        return;
    }
    let half = most / 2;
    let room = if needed > half {
        most
    } else {
        needed.saturating_mul(2).min(half)
    };
    samples.reserve_exact(room.max(needed) - samples.len());
}

fn mono(interleaved: &[f32], channels: usize) -> Vec<f32> {
    let share = 1.0 / channels as f32;
    interleaved
        .chunks_exact(channels)
        .map(|frame| frame.iter().sum::<f32>() * share)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The most memory that old and new samples take together, in samples, as blocks of a size are added.
    fn peak(block: usize, most: usize) -> usize {
        let (mut samples, mut peak) = (Vec::new(), 0);
        while samples.len() + block <= most {
            let old = samples.capacity();
            let needed = samples.len() + block;
            reserve(&mut samples, needed, most);
            samples.resize(needed, 0.5);
            if samples.capacity() > old {
                peak = peak.max(old + samples.capacity());
            }
        }
        peak
    }

    /// Blocks that fill the limit evenly, and others. A vector by itself takes up to three times the limit.
    #[test]
    fn growing_takes_half_more_than_the_limit() {
        for block in [1, 7, 100, 333, 4608, 100_000] {
            let peak = peak(block, 100_000);
            assert!(peak <= 150_000, "{block}: {peak}");
        }
    }

    #[test]
    fn files_above_the_limit_are_refused_before_there_is_room() {
        let limits = SoundLimits {
            samples: 1000,
            seconds: f64::INFINITY,
        };
        let mut mixer = Mixer::new(Path::new("long.flac"), limits);
        mixer.add(&[0.5; 1800], 2, 16_000).unwrap();
        let message = mixer.add(&[0.5; 202], 2, 16_000).unwrap_err().to_string();
        assert!(message.contains("more than 1000 samples"), "{message}");
        let samples = &mixer.sound.audio.samples;
        assert_eq!((samples.len(), samples.capacity()), (900, 1000));
    }
}
