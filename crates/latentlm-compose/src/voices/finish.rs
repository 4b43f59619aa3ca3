//! Brings synthetic speech to the corpus's rate and level, and its word times to the sound.

use latentlm_media::sound::{normalise, without_silence};

use super::Spoken;

/// Sample rate of the corpus.
pub(super) const VOICES_RATE_HZ: u32 = 24_000;
/// Level of the parts that are not silent.
const LEVEL_DBFS: f64 = -23.0;
/// Silence kept at both ends, in seconds.
const KEPT_SECONDS: f64 = 0.05;
/// Plausible length of a word in seconds, on average. Speech outside of this range went wrong.
const WORD_SECONDS: std::ops::RangeInclusive<f64> = 0.08..=1.5;

/// A finished utterance.
#[derive(Debug, PartialEq)]
pub(super) struct Finished {
    pub(super) samples: Vec<f32>,
    /// Index of the first sample after each word.
    pub(super) ends: Vec<usize>,
}

/// Resamples, trims and levels speech of `words` words. A word ends with its last loud sample: silence before
/// the next word belongs to that, wherever the synthesizer says that the word ends.
///
/// # Errors
/// If the speech or its times can't be right.
pub(super) fn finish(spoken: Spoken, words: usize) -> Result<Finished, String> {
    let (ends_s, seconds) = (spoken.ends_s, spoken.audio.seconds());
    if ends_s.len() != words || !ends_s.is_sorted() || ends_s.iter().any(|end| !end.is_finite()) {
        return Err(format!("word times {ends_s:?} of {words} words"));
    }
    let whole = spoken.audio.resampled(VOICES_RATE_HZ).samples;
    let kept = without_silence(&whole, VOICES_RATE_HZ, KEPT_SECONDS);
    let mut samples = whole[kept.clone()].to_vec();
    let rate = f64::from(VOICES_RATE_HZ);
    let word_seconds = samples.len() as f64 / rate / words.max(1) as f64;
    if !WORD_SECONDS.contains(&word_seconds)
        || ends_s.last().is_some_and(|end| *end > seconds + 0.1)
    {
        return Err(format!("{seconds:.2} s of {words} words"));
    }
    normalise(&mut samples, VOICES_RATE_HZ, LEVEL_DBFS);
    let (mut ends, mut start) = (Vec::with_capacity(words), 0);
    for end_s in ends_s {
        let end = ((end_s * rate).max(0.0).round() as usize).saturating_sub(kept.start);
        let end = end.clamp(start, samples.len());
        let loud = without_silence(&samples[start..end], VOICES_RATE_HZ, 0.0);
        ends.push(start + loud.end);
        start = end;
    }
    Ok(Finished { samples, ends })
}

#[cfg(test)]
mod tests {
    use latentlm_media::sound::Audio;

    use super::*;

    /// Half a second of silence, two words of 0.3 s with a pause of 0.2 s between them, and silence.
    fn two_words(ends_s: &[f64]) -> Spoken {
        let rate = VOICES_RATE_HZ as usize;
        let loud = |from: usize, to: usize, i: usize| (from..to).contains(&(i * 10 / rate));
        let samples = (0..2 * rate).map(|i| {
            if loud(5, 8, i) || loud(10, 13, i) {
                0.5 * (i as f32 * 0.1).sin()
            } else {
                0.0
            }
        });
        Spoken {
            audio: Audio {
                samples: samples.collect(),
                sample_rate_hz: VOICES_RATE_HZ,
            },
            ends_s: ends_s.to_vec(),
        }
    }

    #[test]
    fn words_end_with_their_sound() {
        // The synthesizer counts the pause to the first word, and all silence behind the last one.
        let finished = finish(two_words(&[1.0, 2.0]), 2).unwrap();
        // 0.05 s are kept before the first word and behind the last.
        assert_eq!(finished.samples.len(), 24_000 * 9 / 10);
        assert_eq!(finished.ends, [24_000 * 35 / 100, 24_000 * 85 / 100]);
        let mean: f32 = finished.samples.iter().map(|x| x * x).sum::<f32>() / (0.6 * 24_000.0);
        assert!((10.0 * mean.log10() + 23.0).abs() < 0.2, "{mean}");
    }

    #[test]
    fn words_that_lack_a_time_of_their_own_stay_in_order() {
        let finished = finish(two_words(&[0.8, 0.8, 1.3]), 3).unwrap();
        assert_eq!(finished.ends, [8400, 8400, 20_400]);
    }

    #[test]
    fn impossible_times_are_told() {
        for (ends_s, words) in [
            (&[1.0][..], 2),
            (&[1.0, 0.5], 2),
            (&[1.0, f64::NAN], 2),
            (&[1.0, 9.0], 2),
            (&[0.1; 40], 40),
        ] {
            assert!(finish(two_words(ends_s), words).is_err(), "{ends_s:?}");
        }
    }
}
