//! Latent vectors as positions, and the whitening that precedes them.

use burn::config::Config;
use burn::module::{Initializer, Module, Param, ParamId};
use burn::nn::{Linear, LinearConfig};
use burn::tensor::{Device, Tensor};
use latentlm_core::ModalityAdapter;

/// Two scalars measured on encoded training data: the language model sees
/// `(latents + bias) * scale`, of mean 0 and standard deviation 1 (spec §2).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Whitening {
    /// Minus the mean.
    pub bias: f32,
    /// One over the standard deviation.
    pub scale: f32,
}

impl Whitening {
    /// No change.
    pub const IDENTITY: Self = Self {
        bias: 0.0,
        scale: 1.0,
    };

    /// Measures latents of any shape; `None` if they are empty, constant or not finite.
    pub fn measure(latents: &[f32]) -> Option<Self> {
        let count = latents.len() as f64;
        let mean = latents.iter().map(|&x| f64::from(x)).sum::<f64>() / count;
        let square = |x: &f32| (f64::from(*x) - mean).powi(2);
        let std = (latents.iter().map(square).sum::<f64>() / count).sqrt();
        (std.is_finite() && std > 0.0).then_some(Self {
            bias: -mean as f32,
            scale: (1.0 / std) as f32,
        })
    }
}

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
            whitening: whitening_param(Whitening::IDENTITY, device),
        }
    }
}

fn whitening_param(whitening: Whitening, device: &Device) -> Param<Tensor<1>> {
    let values = Tensor::from_floats([whitening.bias, whitening.scale], device);
    Param::initialized(ParamId::new(), values).set_require_grad(false)
}

/// A linear projection of whitened latents (reference `x_embedder`). The whitening is a tensor of
/// the module, so that it is saved and loaded with the weights it belongs to.
#[derive(Module, Debug)]
pub struct LatentAdapter {
    projection: Linear,
    /// `[2]`: bias and scale. Not trained.
    whitening: Param<Tensor<1>>,
}

impl LatentAdapter {
    /// The same adapter with another whitening.
    pub fn with_whitening(mut self, whitening: Whitening) -> Self {
        let device = self.whitening.device();
        let (id, _, _) = self.whitening.consume();
        let values = Tensor::from_floats([whitening.bias, whitening.scale], &device);
        self.whitening = Param::initialized(id, values).set_require_grad(false);
        self
    }

    /// The codec's latents as the language model sees them, `[B, T, Z]`.
    pub fn whiten(&self, latents: Tensor<3>) -> Tensor<3> {
        let (bias, scale) = self.factors();
        (latents + bias) * scale
    }

    /// The language model's latents as the codec decodes them, `[B, T, Z]`.
    pub fn unwhiten(&self, latents: Tensor<3>) -> Tensor<3> {
        let (bias, scale) = self.factors();
        latents / scale - bias
    }

    fn factors(&self) -> (Tensor<3>, Tensor<3>) {
        let values = self.whitening.val();
        let factor = |i| values.clone().narrow(0, i, 1).reshape([1, 1, 1]);
        (factor(0), factor(1))
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
        self.projection.forward(latents)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use latentlm_core::RandomStream;
    use latentlm_core::conformance::{assert_close, module};

    #[test]
    fn whitened_latents_have_mean_zero_and_deviation_one() {
        let device = Device::default();
        let latents = RandomStream::new(1)
            .normal([50, 4, 5], &device)
            .mul_scalar(3.0)
            + 2.0;
        let values: Vec<f32> = latents.to_data().try_to_vec().unwrap();
        let whitening = Whitening::measure(&values).unwrap();
        let adapter = LatentAdapterConfig::new(5, 8)
            .init(&device)
            .with_whitening(whitening);
        let white = adapter.whiten(latents.clone());
        let (variance, mean) = white.clone().reshape([1000]).var_mean(0);
        assert!(mean.into_scalar::<f32>().abs() < 1e-4);
        assert!((variance.into_scalar::<f32>() - 1.0).abs() < 2e-3);
        assert_close("round trip", adapter.unwhiten(white), latents, 1e-6);
    }

    #[test]
    fn constant_or_broken_latents_have_no_whitening() {
        for latents in [&[][..], &[1.0, 1.0], &[1.0, f32::NAN]] {
            assert_eq!(Whitening::measure(latents), None, "{latents:?}");
        }
    }

    #[test]
    fn the_whitening_travels_with_the_weights() {
        let device = Device::default();
        let config = LatentAdapterConfig::new(2, 4);
        let whitening = Whitening {
            bias: 0.25,
            scale: 3.0,
        };
        let adapter = config.init(&device).with_whitening(whitening);
        module::save_load_is_bit_equal(&adapter, || config.init(&device));
    }
}
