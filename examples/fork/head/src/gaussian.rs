//! Mean and variance of the next latent.

use burn::module::Module;
use burn::nn::{Linear, LinearConfig};
use burn::tensor::activation::silu;
use burn::tensor::{Device, Tensor};
use latentlm_core::{
    DiffusionDraws, HeadSizes, LatentHead, LatentHeadConfig, PartConfig, RandomStream,
    SampleOptions,
};

use crate::config::GaussianHeadConfig;

/// Bounds of the logarithm of the variance: without them a number that is always the same would drive the
/// loss to minus infinity.
const LOG_VARIANCE: [f64; 2] = [-9.0, 4.0];

/// A Gaussian with mean and variance of its own for each number of a latent.
#[derive(Module, Debug)]
pub struct GaussianHead {
    layers: Vec<Linear>,
    /// Means, then logarithms of variances, `D` to `2 Z`.
    output: Linear,
    latent_dim: usize,
}

impl GaussianHead {
    fn new(config: &GaussianHeadConfig, device: &Device) -> Self {
        let layer = |_| LinearConfig::new(config.width, config.width).init(device);
        Self {
            layers: (0..config.depth).map(layer).collect(),
            output: LinearConfig::new(config.width, 2 * config.latent_dim).init(device),
            latent_dim: config.latent_dim,
        }
    }

    /// Mean and logarithm of the variance.
    ///
    /// # Shapes
    /// - `condition`: `[N, D]`
    /// - returns: `[N, Z]` each
    pub fn predict(&self, condition: Tensor<2>) -> [Tensor<2>; 2] {
        let mut x = condition;
        for layer in &self.layers {
            x = x.clone() + silu(layer.forward(x));
        }
        let output = self.output.forward(x);
        let [least, most] = LOG_VARIANCE;
        let log_variance = output.clone().narrow(1, self.latent_dim, self.latent_dim);
        [
            output.narrow(1, 0, self.latent_dim),
            log_variance.clamp(least, most),
        ]
    }
}

impl LatentHeadConfig for GaussianHeadConfig {
    type Head = GaussianHead;

    /// What a recipe says of noise and timesteps means nothing here.
    fn of(sizes: &HeadSizes) -> Self {
        Self::new()
            .with_latent_dim(sizes.latent_dim)
            .with_width(sizes.width)
            .with_depth(sizes.depth)
    }

    fn init(&self, device: &Device) -> GaussianHead {
        if let Err(error) = self.validate() {
            panic!("{error}");
        }
        GaussianHead::new(self, device)
    }
}

impl LatentHead for GaussianHead {
    fn latent_dim(&self) -> usize {
        self.latent_dim
    }

    /// The negative logarithm of the latents' likelihood, without its constant; a mean over all numbers.
    /// Nothing of it is drawn. It may be negative.
    fn loss_at(
        &self,
        latents: Tensor<2>,
        condition: Tensor<2>,
        _draws: DiffusionDraws,
    ) -> Tensor<1> {
        let [mean, log_variance] = self.predict(condition);
        let error = (latents - mean).square() * log_variance.clone().neg().exp();
        (error + log_variance).mean().mul_scalar(0.5)
    }

    /// Zeros: there is no noise in this loss.
    fn draw(&self, rows: usize, _random: &mut RandomStream, device: &Device) -> DiffusionDraws {
        let noise = Tensor::zeros([rows, self.latent_dim], device);
        DiffusionDraws::new(Tensor::zeros([rows], device), noise)
    }

    /// `mean + deviation * noise`. Guidance moves the mean; solvers and their steps mean nothing.
    fn sample(
        &self,
        condition: Tensor<2>,
        null: Option<Tensor<2>>,
        noise: Tensor<2>,
        options: &SampleOptions,
        _random: &mut RandomStream,
    ) -> Tensor<2> {
        let [mut mean, log_variance] = self.predict(condition);
        let scale = options.guidance_scale;
        if let Some(null) = null.filter(|_| scale != 1.0) {
            let [away, _] = self.predict(null);
            mean = away.clone() + (mean - away).mul_scalar(scale);
        }
        let deviation = log_variance.mul_scalar(0.5).exp();
        mean + deviation * noise.mul_scalar(options.noise_temperature)
    }
}
