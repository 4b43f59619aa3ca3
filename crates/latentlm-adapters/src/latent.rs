//! Latent vectors as positions.

use burn::config::Config;
use burn::module::{Initializer, Module};
use burn::nn::{Linear, LinearConfig};
use burn::tensor::{Device, Tensor};
use latentlm_core::ModalityAdapter;
use latentlm_kernels::linear_layer;

use crate::whitening::{Whitener, Whitening};

/// Configuration of a [`LatentAdapter`].
#[derive(Config, Debug)]
pub struct LatentAdapterConfig {
    /// `Z`, numbers a latent.
    pub latent_dim: usize,
    /// `D`, width of a position.
    pub width: usize,
}

impl LatentAdapterConfig {
    /// Builds the adapter with a whitening that changes nothing.
    pub fn init(&self, device: &Device) -> LatentAdapter {
        let mut projection = LinearConfig::new(self.latent_dim, self.width).init(device);
        projection.bias = Some(Initializer::Zeros.init([self.width], device));
        LatentAdapter {
            projection,
            whitening: Whitener::new(Whitening::IDENTITY, device),
        }
    }
}

/// A linear projection of whitened latents (reference `x_embedder`). The whitening is a tensor of
/// the module, so that it is saved and loaded with the weights it belongs to.
#[derive(Module, Debug)]
pub struct LatentAdapter {
    projection: Linear,
    whitening: Whitener,
}

impl LatentAdapter {
    /// The same adapter with another whitening.
    pub fn with_whitening(mut self, whitening: Whitening) -> Self {
        self.whitening = self.whitening.set(whitening);
        self
    }

    /// The codec's latents as the language model sees them, `[B, T, Z]`.
    pub fn whiten(&self, latents: Tensor<3>) -> Tensor<3> {
        self.whitening.whiten(latents)
    }

    /// The language model's latents as the codec decodes them, `[B, T, Z]`.
    pub fn unwhiten(&self, latents: Tensor<3>) -> Tensor<3> {
        self.whitening.unwhiten(latents)
    }
}

impl ModalityAdapter<Tensor<3>> for LatentAdapter {
    fn width(&self) -> usize {
        self.projection.weight.dims()[1]
    }

    /// # Shapes
    /// - `latents`: `[B, T, Z]`, whitened
    /// - returns: `[B, T, D]`
    fn embed(&self, latents: Tensor<3>) -> Tensor<3> {
        linear_layer(&self.projection, latents)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use latentlm_core::RandomStream;
    use latentlm_core::conformance::{assert_close, module, seeded};

    #[test]
    fn whitened_latents_have_mean_zero_and_deviation_one() {
        let device = Device::default();
        let latents = RandomStream::new(1)
            .normal([50, 4, 5], &device)
            .mul_scalar(3.0)
            + 2.0;
        let values: Vec<f32> = latents.to_data().try_to_vec().unwrap();
        let whitening = Whitening::measure(&values).unwrap();
        let config = LatentAdapterConfig::new(5, 8);
        let adapter = seeded(1, &device, |device| config.init(device)).with_whitening(whitening);
        let white = adapter.whiten(latents.clone());
        let (variance, mean) = white.clone().reshape([1000]).var_mean(0);
        assert!(mean.into_scalar::<f32>().abs() < 1e-4);
        assert!((variance.into_scalar::<f32>() - 1.0).abs() < 2e-3);
        assert_close("round trip", adapter.unwhiten(white), latents, 1e-6);
    }

    #[test]
    fn the_whitening_travels_with_the_weights() {
        let device = Device::default();
        let config = LatentAdapterConfig::new(2, 4);
        let whitening = Whitening {
            bias: 0.25,
            scale: 3.0,
        };
        let fresh = |seed| seeded(seed, &device, |device| config.init(device));
        let adapter = fresh(1).with_whitening(whitening);
        module::save_load_is_bit_equal(&adapter, || fresh(2));
    }
}
