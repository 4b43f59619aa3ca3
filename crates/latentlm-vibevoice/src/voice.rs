//! Voices: recordings to the latents that a prompt holds.

use burn::tensor::{Tensor, TensorData};
use latentlm_codec_audio::EncoderState;
use latentlm_core::{LatentCodec, LatentNoise};

use super::VibeVoice;
use super::rules::Rules;

/// Root mean square that recordings are brought to, in dB of full scale.
const LEVEL_DB: f64 = -25.0;
/// Samples that are encoded at once, a minute: in one piece an hour would take the memory of several models.
const PIECE_SAMPLES: usize = 60 * 24_000;
/// Added to what is divided by.
const EPSILON: f64 = 1e-6;

/// Brings a recording to the loudness that voices were trained at: a root mean square of -25 dB over all of
/// it, then softer where a peak would exceed full scale.
pub fn level_voice(samples: &mut [f32]) {
    if samples.is_empty() {
        return;
    }
    let squares = samples.iter().map(|sample| f64::from(*sample).powi(2));
    let rms = (squares.sum::<f64>() / samples.len() as f64).sqrt();
    scale(samples, 10f64.powf(LEVEL_DB / 20.0) / (rms + EPSILON));
    let peak = samples.iter().fold(0.0f32, |peak, x| peak.max(x.abs()));
    if peak > 1.0 {
        scale(samples, 1.0 / (f64::from(peak) + EPSILON));
    }
}

fn scale(samples: &mut [f32], factor: f64) {
    for sample in samples {
        *sample = (f64::from(*sample) * factor) as f32;
    }
}

/// Voices as the model reads them. `S` is their number, `P` the latents of the longest.
#[derive(Debug, Clone)]
pub struct EncodedVoices {
    /// The recordings with zeros behind, `[S, 1, N]`.
    pub signal: Tensor<3>,
    /// What the encoder made of them, `[S, P, Z]`.
    pub mean: Tensor<3>,
    /// Latents of each recording.
    pub frames: Vec<usize>,
    /// Whitened latents with their noise, voice after voice, without those of padding: `[K, Z]`.
    pub features: Tensor<2>,
}

impl VibeVoice {
    /// Latents of a recording of `samples` samples; the last may stand for less than a hop.
    pub fn voice_frames(&self, samples: usize) -> usize {
        samples.div_ceil(self.hop_samples())
    }

    /// The shape of the noise of some recordings, `[S, P, Z]`.
    pub fn voice_shape(&self, recordings: &[Vec<f32>]) -> [usize; 3] {
        let longest = recordings.iter().map(Vec::len).max().unwrap_or(0);
        let frames = self.voice_frames(longest);
        [recordings.len(), frames, self.codec.spec().dim]
    }

    /// Encodes recordings at the codec's rate, mono, at the loudness of [`level_voice`]. Without noise, latents
    /// are the encoder's means.
    ///
    /// # Shapes
    /// - `noise`: of shape [`voice_shape`](Self::voice_shape)
    ///
    /// # Panics
    /// If there are no recordings or one is empty.
    pub fn encode_voices(
        &self,
        recordings: &[Vec<f32>],
        noise: Option<LatentNoise>,
        rules: Rules,
    ) -> EncodedVoices {
        let empty = recordings.iter().any(Vec::is_empty);
        assert!(!recordings.is_empty() && !empty, "a voice without sound");
        let signal = self.voice_signal(recordings, rules);
        let mut means = Vec::with_capacity(recordings.len());
        for voice in 0..recordings.len() {
            let own = signal.clone().narrow(0, voice, 1);
            means.push(self.voice_mean(own, PIECE_SAMPLES, rules));
        }
        let mean = Tensor::cat(means, 0);
        let posterior = self.codec.posterior(mean.clone());
        let latents = match noise {
            Some(noise) => posterior.sample(noise.scale, noise.eps),
            None => posterior.mode(),
        };
        let whitened = self.lm.latents[0].whiten(latents);
        let lengths = recordings.iter().map(Vec::len);
        let frames: Vec<usize> = lengths.map(|samples| self.voice_frames(samples)).collect();
        let mut features = Vec::with_capacity(frames.len());
        for (voice, &count) in frames.iter().enumerate() {
            let own = whitened.clone().narrow(0, voice, 1).narrow(1, 0, count);
            features.push(own.squeeze_dim::<2>(0));
        }
        EncodedVoices {
            signal,
            mean,
            frames,
            features: Tensor::cat(features, 0),
        }
    }

    /// Latents of a recording without noise, `[1, P, Z]`. What is longer than `piece` samples is encoded piece by
    /// piece, with the encoder's state kept: that gives the same latents.
    pub(crate) fn voice_mean(&self, sound: Tensor<3>, piece: usize, rules: Rules) -> Tensor<3> {
        let length = sound.dims()[2];
        let hop = self.hop_samples();
        let piece = (piece / hop).max(1) * hop;
        if length <= piece {
            let posterior = if rules.pads_each_convolution {
                self.codec.encode_to_end(sound)
            } else {
                self.codec.encode(sound)
            };
            return posterior.mode();
        }
        let mut state = EncoderState::default();
        let mut means = Vec::with_capacity(length.div_ceil(piece));
        for start in (0..length).step_by(piece) {
            let part = sound.clone().narrow(2, start, piece.min(length - start));
            means.push(self.codec.encode_step_to_end(part, &mut state).mode());
        }
        Tensor::cat(means, 1)
    }

    /// Recordings with zeros behind, `[S, 1, N]`: to the length of the longest, and to whole hops if each
    /// convolution does not pad by itself.
    fn voice_signal(&self, recordings: &[Vec<f32>], rules: Rules) -> Tensor<3> {
        let longest = recordings.iter().map(Vec::len).max().unwrap_or(0);
        let length = if rules.pads_each_convolution {
            longest
        } else {
            longest.next_multiple_of(self.hop_samples())
        };
        let mut samples = Vec::with_capacity(recordings.len() * length);
        for (voice, recording) in recordings.iter().enumerate() {
            samples.extend(recording);
            samples.resize((voice + 1) * length, 0.0);
        }
        let data = TensorData::new(samples, [recordings.len(), 1, length]);
        Tensor::from_data(data, &self.lm.device())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rms(samples: &[f32]) -> f64 {
        let squares = samples.iter().map(|x| f64::from(*x).powi(2));
        (squares.sum::<f64>() / samples.len() as f64).sqrt()
    }

    #[test]
    fn loudness_is_that_of_the_formula() {
        for loudness in [0.01f32, 0.3, 1.0] {
            let quiet: Vec<f32> = (0..999)
                .map(|i| loudness * (i as f32 * 0.3).sin())
                .collect();
            let mut level = quiet.clone();
            level_voice(&mut level);
            let gain = 10f64.powf(-25.0 / 20.0) / (rms(&quiet) + 1e-6);
            for (got, sample) in level.iter().zip(&quiet) {
                assert!((f64::from(*got) - gain * f64::from(*sample)).abs() < 1e-6);
            }
        }
    }

    /// A click in silence would be louder than full scale.
    #[test]
    fn a_peak_stays_within_full_scale() {
        let mut click = vec![0.0; 2000];
        click[7] = 0.5;
        click[9] = -0.25;
        level_voice(&mut click);
        let peak = 0.056_234 / (0.5 * (1.25f64 / 2000.0).sqrt() + 1e-6) * 0.5;
        assert!(peak > 1.0, "{peak}");
        assert!((f64::from(click[7]) - peak / (peak + 1e-6)).abs() < 1e-6);
        assert!((click[9] / click[7] + 0.5).abs() < 1e-6);
        let mut silence = vec![0.0; 10];
        level_voice(&mut silence);
        assert_eq!(silence, [0.0; 10]);
    }
}
