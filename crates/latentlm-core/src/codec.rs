//! What a sigma-VAE codec promises: signals to latents and back.

use burn::module::Module;
use burn::tensor::Tensor;

/// How the `T` latents of one signal lie in it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum SignalLayout {
    /// A picture: `T = height * width`, row-major.
    Grid {
        /// Rows of latents.
        height: usize,
        /// Latents a row.
        width: usize,
    },
    /// A stream: one latent for every `hop_samples` samples.
    Frames {
        /// Samples a second.
        sample_rate_hz: u32,
        /// Samples a latent.
        hop_samples: usize,
    },
}

/// The geometry of a codec's latents.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LatentSpec {
    /// `Z`, numbers a latent vector.
    pub dim: usize,
    /// Where latents lie in the signal.
    pub layout: SignalLayout,
}

impl LatentSpec {
    /// Latents of one signal, where that is fixed; `None` for streams.
    pub fn tokens(&self) -> Option<usize> {
        match self.layout {
            SignalLayout::Grid { height, width } => Some(height * width),
            SignalLayout::Frames { .. } => None,
        }
    }
}

/// The noise that a [`Posterior`] adds to its mean.
#[derive(Debug, Clone)]
#[allow(clippy::large_enum_variant)] // One a posterior: nothing to save.
pub enum NoiseScale {
    /// Sigma-VAE (paper §2.3): one scalar a sample, `sigma ~ N(0, std^2)`, drawn, not learned.
    PerSample {
        /// Standard deviation of the draw, `C_sigma`.
        std: f64,
    },
    /// Ablation: the same known scale for every sample.
    Fixed {
        /// The scale.
        std: f64,
    },
    /// Ablation, the plain VAE: a learned logarithm of the variance, `[B, T, Z]`.
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
    /// - `scale_draw`: `[B]`, standard normal; read by [`NoiseScale::PerSample`] alone
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

    /// The part of the divergence from `N(0, I)` that parameters can change, a mean over all
    /// elements: `mean(mu^2)` where the noise is fixed by hand (paper §2.3), the usual
    /// `mean(mu^2 + sigma^2 - 1 - log sigma^2) / 2` where it is learned.
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
/// `D` is 4 for pictures (`[B, C, H, W]`, in `[-1, 1]`) and 3 for sound (`[B, 1, samples]`).
/// A codec crate owns the loss that its codec is trained with.
pub trait LatentCodec<const D: usize>: Module {
    /// The geometry of the latents.
    fn spec(&self) -> LatentSpec;

    /// Encodes a batch of signals.
    ///
    /// # Shapes
    /// - `signal`: `[B, ...]`
    /// - returns: mean `[B, T, Z]`
    fn encode(&self, signal: Tensor<D>) -> Posterior;

    /// Decodes latents as the encoder made them (whitening undone).
    ///
    /// # Shapes
    /// - `latents`: `[B, T, Z]`
    /// - returns: `[B, ...]`
    fn decode(&self, latents: Tensor<3>) -> Tensor<D>;
}

/// A codec for streams: chunk by chunk it gives what it gives for the whole.
///
/// State is a value that the caller keeps, one for each batch of streams; a fresh one stands for
/// silence before the stream began. Modules stay `&self`.
pub trait StreamingCodec: LatentCodec<3> {
    /// What an encoder remembers between chunks.
    type EncoderState: Default;
    /// What a decoder remembers between chunks.
    type DecoderState: Default;

    /// Latents of the next chunk.
    ///
    /// # Shapes
    /// - `signal`: `[B, C, k * hop_samples]`
    /// - returns: mean `[B, k, Z]`
    fn encode_step(&self, signal: Tensor<3>, state: &mut Self::EncoderState) -> Posterior;

    /// Sound of the next latents.
    ///
    /// # Shapes
    /// - `latents`: `[B, k, Z]`
    /// - returns: `[B, C, k * hop_samples]`
    fn decode_step(&self, latents: Tensor<3>, state: &mut Self::DecoderState) -> Tensor<3>;
}
