//! Trims silence and normalizes loudness.

use std::ops::Range;

/// Energy frames per second.
const FRAMES_A_SECOND: u32 = 100;
/// A frame is silent if it is this many dB below the loudest frame.
const SILENCE_DB: f32 = 40.0;
/// Largest peak after normalization, relative to full scale.
const LARGEST_PEAK: f32 = 0.99;

fn frame_samples(sample_rate_hz: u32) -> usize {
    (sample_rate_hz / FRAMES_A_SECOND).max(1) as usize
}

/// Mean squares of frames of 10 ms.
fn frame_energies(samples: &[f32], sample_rate_hz: u32) -> Vec<f32> {
    samples
        .chunks(frame_samples(sample_rate_hz))
        .map(|frame| frame.iter().map(|x| x * x).sum::<f32>() / frame.len() as f32)
        .collect()
}

/// The energy below which a frame is silent.
fn silence(energies: &[f32]) -> f32 {
    let loudest = energies.iter().copied().fold(0.0, f32::max);
    loudest * 10f32.powf(-SILENCE_DB / 10.0)
}

/// The samples that are left if silence at both ends is cut, but for up to `keep_seconds` of it at each end.
pub fn without_silence(samples: &[f32], sample_rate_hz: u32, keep_seconds: f64) -> Range<usize> {
    let energies = frame_energies(samples, sample_rate_hz);
    let silence = silence(&energies);
    let loud = |energy: &f32| *energy > silence;
    let (Some(first), Some(last)) = (
        energies.iter().position(loud),
        energies.iter().rposition(loud),
    ) else {
        return 0..samples.len();
    };
    let frame = frame_samples(sample_rate_hz);
    let kept = (keep_seconds * f64::from(sample_rate_hz)) as usize;
    let start = (first * frame).saturating_sub(kept);
    let end = ((last + 1) * frame + kept).min(samples.len());
    start..end
}

/// Cuts silence at both ends, but keeps up to `keep_seconds` of it at each end.
pub fn trim_silence(samples: &[f32], sample_rate_hz: u32, keep_seconds: f64) -> &[f32] {
    &samples[without_silence(samples, sample_rate_hz, keep_seconds)]
}

/// Scales samples so that the root mean square of the frames that are not silent reaches a level, as far as
/// the peak allows.
pub fn normalise(samples: &mut [f32], sample_rate_hz: u32, level_dbfs: f64) {
    let energies = frame_energies(samples, sample_rate_hz);
    let silence = silence(&energies);
    let loud: Vec<f32> = energies.into_iter().filter(|e| *e > silence).collect();
    let peak = samples.iter().fold(0.0_f32, |peak, x| peak.max(x.abs()));
    if loud.is_empty() || peak == 0.0 {
        return;
    }
    let level = (loud.iter().sum::<f32>() / loud.len() as f32).sqrt();
    let wanted = 10f64.powf(level_dbfs / 20.0) as f32;
    let gain = (wanted / level).min(LARGEST_PEAK / peak);
    for sample in samples {
        *sample *= gain;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silence_goes_and_loudness_is_set() {
        let mut sound = vec![1e-5; 1600];
        sound.extend((0..3200).map(|i| 0.2 * (i as f32 * 0.5).sin()));
        sound.extend(vec![1e-5; 4800]);
        let trimmed = trim_silence(&sound, 16_000, 0.05);
        assert_eq!(trimmed.len(), 3200 + 2 * 800);
        assert_eq!(without_silence(&sound, 16_000, 0.0), 1600..4800);
        let mut level = trimmed.to_vec();
        normalise(&mut level, 16_000, -23.0);
        let rms = |x: &[f32]| (x.iter().map(|x| x * x).sum::<f32>() / x.len() as f32).sqrt();
        let got = 20.0 * rms(&level[800..4000]).log10();
        assert!((got + 23.0).abs() < 0.1, "{got} dB");
        normalise(&mut level, 16_000, 10.0);
        let peak = level.iter().fold(0.0_f32, |peak, x| peak.max(x.abs()));
        assert!(
            (peak - 0.99).abs() < 1e-3,
            "peaks are kept below full scale"
        );
        let mut nothing = vec![0.0; 100];
        normalise(&mut nothing, 16_000, -23.0);
        assert_eq!(trim_silence(&nothing, 16_000, 0.0).len(), 100);
    }
}
