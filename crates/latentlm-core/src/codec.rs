//! The contract of codecs, which turn signals into latents and back, and of their configurations.

use std::ops::Range;

use burn::module::Module;
use burn::tensor::{Device, Tensor};

use crate::part::PartConfig;
use crate::random::RandomStream;

/// Where the `T` latents of a signal lie in it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum SignalLayout {
    /// In a grid over a picture, row by row: `T = height * width`.
    Grid {
        /// Number of rows.
        height: usize,
        /// Latents in a row.
        width: usize,
    },
    /// In a stream: a latent for every `hop_samples` samples.
    Frames {
        /// Sample rate in Hz.
        sample_rate_hz: u32,
        /// Samples from one latent to the next.
        hop_samples: usize,
    },
    /// In a clip, group by group: a grid for the first frame, then one for every `frames_per_group` frames. In
    /// each grid row by row: `T = groups * height * width`.
    Video {
        /// Number of rows.
        height: usize,
        /// Latents in a row.
        width: usize,
        /// Frames of each group after the first frame.
        frames_per_group: usize,
    },
}

/// The geometry of a codec's latents.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LatentSpec {
    /// `Z`, dimension of a latent.
    pub dim: usize,
    /// Where latents lie in a signal.
    pub layout: SignalLayout,
}

impl LatentSpec {
    /// Number of latents of a signal; `None` for streams, where it depends on the signal.
    pub fn tokens(&self) -> Option<usize> {
        match self.layout {
            SignalLayout::Grid { height, width } => Some(height * width),
            SignalLayout::Frames { .. } | SignalLayout::Video { .. } => None,
        }
    }

    /// The shape of the latents of a batch, `[B, T, Z]`. Samples after the last whole hop, and frames after the last
    /// whole group, have no latent.
    ///
    /// # Shapes
    /// - `signal`: `[B, ...]`; the last axis of sound is its samples, the second of a clip its frames
    pub fn shape_of<const D: usize>(&self, signal: &Tensor<D>) -> [usize; 3] {
        let dims = signal.dims();
        let tokens = match self.layout {
            SignalLayout::Grid { height, width } => height * width,
            SignalLayout::Frames { hop_samples, .. } => dims[D - 1] / hop_samples,
            SignalLayout::Video {
                height,
                width,
                frames_per_group,
            } => (1 + dims[1].saturating_sub(1) / frames_per_group) * height * width,
        };
        [dims[0], tokens, self.dim]
    }
}

/// Geometry of the pictures that a codec takes, `[B, channels, height, width]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PictureSpec {
    /// 1 for grey, 3 for colour.
    pub channels: usize,
    /// Height in pixels.
    pub height: usize,
    /// Width in pixels.
    pub width: usize,
}

/// Geometry of the sound that a codec takes, `[B, channels, samples]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SoundSpec {
    /// 1 for mono.
    pub channels: usize,
    /// Sample rate in Hz.
    pub sample_rate_hz: u32,
    /// Samples from one latent to the next.
    pub hop_samples: usize,
}

/// Geometry of the clips that a codec takes, `[B, frames, channels, height, width]`. A clip has one frame, or one and
/// a multiple of `frames_per_group`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VideoSpec {
    /// 1 for grey, 3 for colour.
    pub channels: usize,
    /// Height in pixels.
    pub height: usize,
    /// Width in pixels.
    pub width: usize,
    /// Frames of each group after the first frame.
    pub frames_per_group: usize,
}

/// Standard normal numbers from which [`Posterior::sample`] makes a batch of latents.
#[derive(Debug, Clone)]
pub struct LatentNoise {
    /// For the scale of the noise: one number for each signal, `[B]`.
    pub scale: Tensor<1>,
    /// For the noise itself: one number for each number of the latents, `[B, T, Z]`.
    pub eps: Tensor<3>,
}

impl LatentNoise {
    /// Draws noise for latents of shape `[B, T, Z]`.
    pub fn draw(shape: [usize; 3], random: &mut RandomStream, device: &Device) -> Self {
        Self {
            scale: random.normal([shape[0]], device),
            eps: random.normal(shape, device),
        }
    }

    /// The noise of a range of the batch's signals.
    pub fn rows(&self, rows: Range<usize>) -> Self {
        Self {
            scale: self.scale.clone().narrow(0, rows.start, rows.len()),
            eps: self.eps.clone().narrow(0, rows.start, rows.len()),
        }
    }

    /// The same noise on another device.
    pub fn to_device(self, device: &Device) -> Self {
        Self {
            scale: self.scale.to_device(device),
            eps: self.eps.to_device(device),
        }
    }
}

/// The noise that a [`Posterior`] adds to its mean.
#[derive(Debug, Clone)]
#[allow(clippy::large_enum_variant)] // There is one for each posterior: nothing to save.
pub enum NoiseScale {
    /// Sigma-VAE (paper §2.3): the scale of each signal is drawn, `sigma ~ N(0, std^2)`, and not learned.
    PerSample {
        /// Standard deviation of the draw, `C_sigma`.
        std: f64,
    },
    /// Ablation: the same fixed scale for all signals.
    Fixed {
        /// The scale.
        std: f64,
    },
    /// Ablation, the plain VAE: the logarithm of the variance is learned.
    Learned {
        /// `log sigma^2`, `[B, T, Z]`.
        log_variance: Tensor<3>,
    },
}

/// The distribution of latents that an encoder returns.
#[derive(Debug, Clone)]
pub struct Posterior {
    /// The mean, `[B, T, Z]`.
    pub mean: Tensor<3>,
    /// The noise around it.
    pub noise: NoiseScale,
}

impl Posterior {
    /// The most likely latents: the mean, `[B, T, Z]`.
    pub fn mode(&self) -> Tensor<3> {
        self.mean.clone()
    }

    /// Latents with noise: `mean + sigma * eps`.
    ///
    /// # Shapes
    /// - `scale_draw`: `[B]`, standard normal; only [`NoiseScale::PerSample`] uses it
    /// - `eps`: `[B, T, Z]`, standard normal
    /// - returns: `[B, T, Z]`
    pub fn sample(&self, scale_draw: Tensor<1>, eps: Tensor<3>) -> Tensor<3> {
        let noise = match &self.noise {
            NoiseScale::PerSample { std } => {
                let [batch] = scale_draw.dims();
                scale_draw.mul_scalar(*std).reshape([batch, 1, 1]) * eps
            }
            NoiseScale::Fixed { std } => eps.mul_scalar(*std),
            NoiseScale::Learned { log_variance } => {
                log_variance.clone().mul_scalar(0.5).exp() * eps
            }
        };
        self.mean.clone() + noise
    }

    /// KL divergence from `N(0, I)`, averaged over all numbers. If the variance is learned, it is
    /// `mean(mu^2 + sigma^2 - 1 - log sigma^2) / 2`. Otherwise only the means can be trained, and it is
    /// `mean(mu^2)` (paper §2.3).
    ///
    /// # Shapes
    /// - returns: `[1]`
    pub fn kl(&self) -> Tensor<1> {
        let square = self.mean.clone().square();
        match &self.noise {
            NoiseScale::PerSample { .. } | NoiseScale::Fixed { .. } => square.mean(),
            NoiseScale::Learned { log_variance } => {
                (square + log_variance.clone().exp() - log_variance.clone() - 1.0)
                    .mean()
                    .mul_scalar(0.5)
            }
        }
    }
}

/// A codec between signals of rank `D` and sequences of latents.
///
/// `D` is 4 for pictures (`[B, C, H, W]`, in `[-1, 1]`), 3 for sound (`[B, C, samples]`) and 5 for clips
/// (`[B, F, C, H, W]`, in `[-1, 1]`).
/// The loss that it is trained with is a [`CodecObjective`](crate::CodecObjective) of the same crate.
pub trait LatentCodec<const D: usize>: Module {
    /// The geometry of the latents.
    fn spec(&self) -> LatentSpec;

    /// The parameters of each signal's posterior. A latent cache keeps them, so that they are computed once,
    /// while new latents are drawn from them in each epoch.
    ///
    /// # Shapes
    /// - `signal`: `[B, ...]`
    /// - returns: `[B, T, P]`; the codec decides about `P`, which is `Z` for means alone
    fn encode_parameters(&self, signal: Tensor<D>) -> Tensor<3>;

    /// The posterior from parameters that [`encode_parameters`](Self::encode_parameters) returned, or from some
    /// of their rows.
    ///
    /// # Shapes
    /// - `parameters`: `[B, T, P]`
    /// - returns: mean `[B, T, Z]`
    fn posterior(&self, parameters: Tensor<3>) -> Posterior;

    /// Decodes latents. They are on the encoder's scale, without whitening.
    ///
    /// # Shapes
    /// - `latents`: `[B, T, Z]`
    /// - returns: `[B, ...]`
    fn decode(&self, latents: Tensor<3>) -> Tensor<D>;

    /// Encodes a batch of signals.
    ///
    /// # Shapes
    /// - `signal`: `[B, ...]`
    /// - returns: mean `[B, T, Z]`
    fn encode(&self, signal: Tensor<D>) -> Posterior {
        self.posterior(self.encode_parameters(signal))
    }
}

/// The configuration of a codec: the table `[codec]` of a recipe.
///
/// It knows the geometry of latents and signals before there is a codec. So a recipe can be checked, and
/// data can be read, before weights are made.
pub trait LatentCodecConfig<const D: usize>: PartConfig {
    /// The codec.
    type Codec: LatentCodec<D>;
    /// Geometry of the signals that it takes: [`PictureSpec`], [`SoundSpec`] or [`VideoSpec`].
    type Signal;

    /// Builds the codec. Its weights come from the device's random generator; seed that first.
    ///
    /// # Panics
    /// If [`validate`](PartConfig::validate) fails.
    fn init(&self, device: &Device) -> Self::Codec;

    /// Number of the codec's parameters. It is asked for before memory is taken for them. The default method
    /// builds the codec. That takes no memory if weights are made when they are first used, as in Burn's
    /// layers. A codec that makes its weights at once must count them itself.
    ///
    /// # Panics
    /// If [`validate`](PartConfig::validate) fails.
    fn parameter_count(&self, device: &Device) -> usize {
        self.init(device).num_params()
    }

    /// The geometry of the latents, the same as the codec's own.
    fn spec(&self) -> LatentSpec;

    /// The geometry of the signals.
    fn signal(&self) -> Self::Signal;
}

/// A codec that works on streams chunk by chunk, with the same result as on the whole signal: on sound (`D` is 3), or
/// on clips (`D` is 5).
///
/// The caller keeps a state for each batch of streams and passes it in. A new state stands for the start of the
/// stream; before it, sound is silent. A chunk is `k` hops of sound and has `k` latents. In a clip it is `k` groups
/// and has `k` grids of latents; the first frame of the clip is a group by itself.
pub trait StreamingCodec<const D: usize = 3>: LatentCodec<D> {
    /// State of the encoder between chunks.
    type EncoderState: Default;
    /// State of the decoder between chunks.
    type DecoderState: Default;

    /// Latents of the next chunk.
    ///
    /// # Shapes
    /// - `signal`: `[B, C, k * hop_samples]`, or `[B, F, C, H, W]`
    /// - returns: mean `[B, k, Z]`, or `[B, k * height * width, Z]`
    fn encode_step(&self, signal: Tensor<D>, state: &mut Self::EncoderState) -> Posterior;

    /// The signal of the next latents.
    ///
    /// # Shapes
    /// - `latents`: `[B, k, Z]`, or `[B, k * height * width, Z]`
    /// - returns: `[B, C, k * hop_samples]`, or `[B, F, C, H, W]`
    fn decode_step(&self, latents: Tensor<3>, state: &mut Self::DecoderState) -> Tensor<D>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn latents_of_a_signal_are_counted() {
        let device = Device::default();
        let frames = LatentSpec {
            dim: 5,
            layout: SignalLayout::Frames {
                sample_rate_hz: 8000,
                hop_samples: 4,
            },
        };
        let sound = Tensor::<3>::zeros([2, 1, 11], &device);
        assert_eq!(frames.shape_of(&sound), [2, 2, 5], "two whole hops of 11");
        let grid = LatentSpec {
            dim: 5,
            layout: SignalLayout::Grid {
                height: 2,
                width: 3,
            },
        };
        let pictures = Tensor::<4>::zeros([4, 1, 8, 12], &device);
        assert_eq!(grid.shape_of(&pictures), [4, 6, 5]);
        let video = LatentSpec {
            dim: 5,
            layout: SignalLayout::Video {
                height: 2,
                width: 3,
                frames_per_group: 4,
            },
        };
        for (frames, groups) in [(1, 1), (5, 2), (8, 2), (17, 5)] {
            let clips = Tensor::<5>::zeros([2, frames, 1, 8, 12], &device);
            assert_eq!(video.shape_of(&clips), [2, 6 * groups, 5], "{frames}");
        }
    }

    #[test]
    fn rows_of_noise_are_those_of_the_batch() {
        let device = Device::default();
        let noise = LatentNoise::draw([4, 3, 2], &mut RandomStream::new(1), &device);
        let rows = noise.rows(1..3);
        let expected = noise.scale.clone().into_data().try_to_vec::<f32>().unwrap();
        assert_eq!(
            rows.scale.into_data().try_to_vec::<f32>().unwrap(),
            expected[1..3]
        );
        let expected = noise.eps.into_data().try_to_vec::<f32>().unwrap();
        assert_eq!(
            rows.eps.into_data().try_to_vec::<f32>().unwrap(),
            expected[6..18]
        );
    }
}
