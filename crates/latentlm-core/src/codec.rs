//! The contract of codecs, which turn signals into latents and back, and of their configurations.

use std::f64::consts::FRAC_1_SQRT_2;
use std::ops::Range;

use burn::module::Module;
use burn::tensor::{Device, Int, Tensor};

use crate::part::PartConfig;
use crate::random::RandomStream;
use crate::sphere::on_sphere;

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
    /// In a clip, group by group: a grid for the first frame, row by row, then `group_latents` for every
    /// `frames_per_group` frames: `T = height * width + (groups - 1) * group_latents`.
    Video {
        /// Number of rows of the first frame's grid.
        height: usize,
        /// Latents in a row.
        width: usize,
        /// Frames of each group after the first frame.
        frames_per_group: usize,
        /// Latents of each group after the first frame.
        group_latents: usize,
    },
}

impl SignalLayout {
    /// Latents of the first `steps` steps of a stream: a step is a latent of sound, or a group of frames. A picture is
    /// one step.
    pub fn latents_of(&self, steps: usize) -> usize {
        match *self {
            Self::Grid { height, width } => steps * height * width,
            Self::Frames { .. } => steps,
            Self::Video {
                height,
                width,
                group_latents,
                ..
            } if steps > 0 => height * width + (steps - 1) * group_latents,
            Self::Video { .. } => 0,
        }
    }
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
            SignalLayout::Grid { .. } => Some(self.layout.latents_of(1)),
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
        let steps = match self.layout {
            SignalLayout::Grid { .. } => 1,
            SignalLayout::Frames { hop_samples, .. } => dims[D - 1] / hop_samples,
            SignalLayout::Video {
                frames_per_group, ..
            } => 1 + dims[1].saturating_sub(1) / frames_per_group,
        };
        [dims[0], self.layout.latents_of(steps), self.dim]
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

    /// Moves the noise to another device.
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
    /// Interpolation of latents and noise (DeTok, arXiv 2507.15856): `(1 - tau) mean + tau std eps`. The share
    /// `tau` of each signal is uniform in `0..most`.
    Interpolated {
        /// Standard deviation of the noise at `tau = 1`.
        std: f64,
        /// Largest share of the noise.
        most: f64,
    },
    /// Any of the other kinds, with the result projected to the sphere of radius `sqrt(Z)` (SphereAR, arXiv
    /// 2509.24335).
    OnSphere(Box<NoiseScale>),
}

impl NoiseScale {
    /// Whether the noise is for the training of the codec alone, and a language model learns the means.
    fn is_for_codec(&self) -> bool {
        match self {
            Self::Interpolated { .. } => true,
            Self::OnSphere(noise) => noise.is_for_codec(),
            Self::PerSample { .. } | Self::Fixed { .. } | Self::Learned { .. } => false,
        }
    }
}

/// Shares that are uniform in `0..most`, from standard normal numbers: the normal distribution function of a
/// normal number is uniform.
///
/// # Shapes
/// - `draw` and result: `[B]`
fn uniform_shares(draw: Tensor<1>, most: f64) -> Tensor<1> {
    let upper = draw.mul_scalar(FRAC_1_SQRT_2).erf().add_scalar(1.0);
    upper.mul_scalar(0.5 * most)
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

    /// Latents with noise: `mean + sigma * eps`, or what their [`NoiseScale`] says.
    ///
    /// # Shapes
    /// - `scale_draw`: `[B]`, standard normal; only [`NoiseScale::PerSample`] and [`NoiseScale::Interpolated`] use
    ///   it
    /// - `eps`: `[B, T, Z]`, standard normal
    /// - returns: `[B, T, Z]`
    pub fn sample(&self, scale_draw: Tensor<1>, eps: Tensor<3>) -> Tensor<3> {
        self.noisy(&self.noise, scale_draw, eps)
    }

    /// Latents that a language model learns: with noise as from [`sample`](Self::sample), but the mean where the noise
    /// is [`NoiseScale::Interpolated`]: DeTok adds that only while the codec learns.
    ///
    /// # Shapes
    /// - as [`sample`](Self::sample)
    pub fn to_learn(&self, scale_draw: Tensor<1>, eps: Tensor<3>) -> Tensor<3> {
        if self.noise.is_for_codec() {
            self.mode()
        } else {
            self.sample(scale_draw, eps)
        }
    }

    fn noisy(&self, noise: &NoiseScale, scale_draw: Tensor<1>, eps: Tensor<3>) -> Tensor<3> {
        let noise = match noise {
            NoiseScale::PerSample { std } => {
                let [batch] = scale_draw.dims();
                scale_draw.mul_scalar(*std).reshape([batch, 1, 1]) * eps
            }
            NoiseScale::Fixed { std } => eps.mul_scalar(*std),
            NoiseScale::Learned { log_variance } => {
                log_variance.clone().mul_scalar(0.5).exp() * eps
            }
            NoiseScale::Interpolated { std, most } => {
                let [batch] = scale_draw.dims();
                let share = uniform_shares(scale_draw, *most).reshape([batch, 1, 1]);
                share * (eps.mul_scalar(*std) - self.mean.clone())
            }
            NoiseScale::OnSphere(noise) => {
                return on_sphere(self.noisy(noise, scale_draw, eps));
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
            NoiseScale::PerSample { .. }
            | NoiseScale::Fixed { .. }
            | NoiseScale::Interpolated { .. }
            // On the sphere it is a constant.
            | NoiseScale::OnSphere(_) => square.mean(),
            NoiseScale::Learned { log_variance } => {
                (square + log_variance.clone().exp() - log_variance.clone() - 1.0)
                    .mean()
                    .mul_scalar(0.5)
            }
        }
    }
}

/// The codebooks of a codec with discrete latents. Each latent is a code of every codebook.
pub trait LatentQuantizer {
    /// `Q`, number of codebooks.
    fn codebooks(&self) -> usize;

    /// `V`, entries of each codebook.
    fn entries(&self) -> usize;

    /// Codes of what the encoder puts out, each in `0..V`. They have no gradient.
    ///
    /// # Shapes
    /// - `parameters`: `[B, T, Z]`, as [`LatentCodec::encode_parameters`] returns them
    /// - returns: `[B, T, Q]`
    fn codes(&self, parameters: Tensor<3>) -> Tensor<3, Int>;

    /// Latents of codes, for [`LatentCodec::decode`].
    ///
    /// # Shapes
    /// - `codes`: `[B, T, K]`, of the first `K` codebooks
    /// - returns: `[B, T, Z]`
    ///
    /// # Panics
    /// If `K` is 0 or larger than the number of codebooks.
    fn latents(&self, codes: Tensor<3, Int>) -> Tensor<3>;
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

    /// The codebooks; `None` if latents are continuous.
    fn quantizer(&self) -> Option<&dyn LatentQuantizer> {
        None
    }

    /// Moves codebooks towards what the encoder puts out, before a training step; a codec whose codebooks are
    /// trained by gradients, or without codebooks, stays as it is.
    ///
    /// # Shapes
    /// - `parameters`: `[B, T, Z]`, without a gradient
    fn learn_codebooks(self, parameters: Tensor<3>, random: &mut RandomStream) -> Self {
        let _ = (parameters, random);
        self
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

    /// Whether all latents have the norm `sqrt(Z)`. Drawn latents are then projected to it with
    /// [`on_sphere`].
    fn on_sphere(&self) -> bool {
        false
    }

    /// Number of frames of the codec's coarsest resolution that a latent joins.
    fn frames_per_latent(&self) -> usize {
        1
    }
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

    /// Parameters of the next chunk, as [`encode_parameters`](LatentCodec::encode_parameters) returns them. The
    /// default method is for codecs whose parameters are the means of their posteriors.
    ///
    /// # Shapes
    /// - `signal`: `[B, C, k * hop_samples]`, or `[B, F, C, H, W]`
    /// - returns: `[B, k, P]`, or `[B, k * height * width, P]`
    fn encode_parameters_step(
        &self,
        signal: Tensor<D>,
        state: &mut Self::EncoderState,
    ) -> Tensor<3> {
        self.encode_step(signal, state).mode()
    }

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
                group_latents: 2,
            },
        };
        for (frames, groups) in [(1, 1), (5, 2), (8, 2), (17, 5)] {
            let clips = Tensor::<5>::zeros([2, frames, 1, 8, 12], &device);
            assert_eq!(
                video.shape_of(&clips),
                [2, 6 + 2 * (groups - 1), 5],
                "{frames}"
            );
        }
    }

    fn values<const D: usize>(tensor: Tensor<D>) -> Vec<f64> {
        let values: Vec<f32> = tensor.into_data().try_to_vec().unwrap();
        values.into_iter().map(f64::from).collect()
    }

    /// Quantiles of the normal distribution become the same quantiles of `0..most`.
    #[test]
    fn shares_of_noise_are_uniform() {
        let quantiles = [-10.0f32, -1.281_551_6, -0.674_489_8, 0.0, 0.674_489_8, 10.0];
        let draw = Tensor::<1>::from_floats(quantiles, &Device::default());
        let shares = values(uniform_shares(draw, 0.8));
        for (share, expected) in shares.iter().zip([0.0, 0.1, 0.25, 0.5, 0.75, 1.0]) {
            assert!((share - 0.8 * expected).abs() < 1e-6, "{share} {expected}");
        }
    }

    /// With `tau` uniform in `0..M`, the mean is `(1 - M / 2) mu` and the mean square
    /// `E(1 - tau)^2 mu^2 + E tau^2 std^2`, where `E tau^2 = M^2 / 3`.
    #[test]
    fn interpolated_noise_has_the_statistics_of_its_formula() {
        let (device, mut random) = (Device::default(), RandomStream::new(1));
        let (std, most, mu) = (3.0, 0.6, 2.0);
        let posterior = Posterior {
            mean: Tensor::full([40_000, 1, 4], mu, &device),
            noise: NoiseScale::Interpolated { std, most },
        };
        let noise = LatentNoise::draw([40_000, 1, 4], &mut random, &device);
        let latents = values(posterior.sample(noise.scale.clone(), noise.eps.clone()));
        let count = latents.len() as f64;
        let mean = latents.iter().sum::<f64>() / count;
        let square = latents.iter().map(|x| x * x).sum::<f64>() / count;
        let tau_square = most * most / 3.0;
        let expected = (1.0 - most + tau_square) * mu * mu + tau_square * std * std;
        // Four standard errors of 160,000 numbers whose squares deviate by about 4.
        assert!((mean - (1.0 - most / 2.0) * mu).abs() < 0.015, "{mean}");
        assert!((square - expected).abs() < 0.05, "{square} {expected}");
        let share = uniform_shares(noise.scale, most).reshape([40_000, 1, 1]);
        let by_hand = posterior.mean.clone() * (share.clone().neg() + 1.0)
            + share * noise.eps.mul_scalar(std);
        let differences = values(by_hand).into_iter().zip(latents);
        let largest = differences.map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
        assert!(largest < 1e-5, "{largest}");
        assert!((values(posterior.kl())[0] - mu * mu).abs() < 1e-5);
    }

    #[test]
    fn latents_on_a_sphere_stay_on_it_with_noise() {
        let (device, mut random) = (Device::default(), RandomStream::new(2));
        let noise = NoiseScale::PerSample { std: 0.5 };
        let posterior = Posterior {
            mean: on_sphere(random.normal([50, 3, 8], &device)),
            noise: NoiseScale::OnSphere(Box::new(noise.clone())),
        };
        let draw = LatentNoise::draw([50, 3, 8], &mut random, &device);
        let latents = posterior.sample(draw.scale.clone(), draw.eps.clone());
        for square in values(latents.clone().square().mean_dim(2)) {
            assert!((square - 1.0).abs() < 1e-5, "{square}");
        }
        let free = Posterior {
            noise,
            ..posterior.clone()
        };
        let projected = on_sphere(free.sample(draw.scale, draw.eps));
        assert_eq!(projected.into_data(), latents.into_data());
        assert!((values(posterior.kl())[0] - 1.0).abs() < 1e-5);
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
