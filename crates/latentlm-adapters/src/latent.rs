//! Latent vectors as positions, through a linear projection or a small network.

use burn::config::Config;
use burn::module::{Initializer, Module};
use burn::nn::{Linear, LinearConfig, RmsNorm, RmsNormConfig};
use burn::tensor::{Device, Tensor};
use latentlm_core::on_sphere;
use latentlm_kernels::linear_layer;

use crate::whitening::{Whitener, Whitening};

/// Configuration of a [`LatentAdapter`].
#[derive(Config, Debug)]
pub struct LatentAdapterConfig {
    /// `Z`, dimension of a latent.
    pub latent_dim: usize,
    /// `D`, width of a position.
    pub width: usize,
    /// Whether RMSNorm and a second linear layer follow the projection, as in VibeVoice (spec §5).
    #[config(default = false)]
    pub connector: bool,
    /// Epsilon of the RMSNorm.
    #[config(default = 1e-6)]
    pub norm_epsilon: f64,
    /// Whether the codec's latents lie on the sphere of radius `sqrt(Z)`.
    #[config(default = false)]
    pub on_sphere: bool,
}

impl LatentAdapterConfig {
    /// Builds the adapter with the identity as whitening.
    pub fn init(&self, device: &Device) -> LatentAdapter {
        let mut projection = LinearConfig::new(self.latent_dim, self.width).init(device);
        projection.bias = Some(Initializer::Zeros.init([self.width], device));
        LatentAdapter {
            projection,
            connector: self.connector.then(|| Connector {
                norm: RmsNormConfig::new(self.width)
                    .with_epsilon(self.norm_epsilon)
                    .init(device),
                linear: LinearConfig::new(self.width, self.width).init(device),
            }),
            whitening: Whitener::new(Whitening::IDENTITY, device),
            on_sphere: self.on_sphere,
        }
    }
}

/// The layers after the projection in VibeVoice.
#[derive(Module, Debug)]
struct Connector {
    norm: RmsNorm,
    linear: Linear,
}

/// A linear projection of whitened latents (reference `x_embedder`), or a small network. The whitening is
/// part of the module: it is saved and loaded with the weights that were trained on it.
#[derive(Module, Debug)]
pub struct LatentAdapter {
    projection: Linear,
    connector: Option<Connector>,
    whitening: Whitener,
    /// Whether the codec's latents lie on a sphere.
    on_sphere: bool,
}

impl LatentAdapter {
    /// Replaces the whitening.
    pub fn with_whitening(mut self, whitening: Whitening) -> Self {
        self.set_whitening(whitening);
        self
    }

    /// Sets the whitening.
    pub fn set_whitening(&mut self, whitening: Whitening) {
        // The layers are not touched: their weights may not be drawn yet.
        self.whitening = self.whitening.clone().set(whitening);
    }

    /// The device of the weights.
    pub fn device(&self) -> Device {
        self.whitening.device()
    }

    /// Normalizes the codec's latents for the language model. Any rank.
    pub fn whiten<const R: usize>(&self, latents: Tensor<R>) -> Tensor<R> {
        self.whitening.whiten(latents)
    }

    /// Undoes the whitening, so that the codec can decode. Any rank.
    pub fn unwhiten<const R: usize>(&self, latents: Tensor<R>) -> Tensor<R> {
        self.whitening.unwhiten(latents)
    }

    /// Drawn latents as the codec could have made them: projected to its sphere, if it has one. So what is
    /// drawn, and what the backbone reads next, has the right norm after guidance too (SphereAR, arXiv
    /// 2509.24335). Any rank.
    pub fn settle<const R: usize>(&self, latents: Tensor<R>) -> Tensor<R> {
        if !self.on_sphere {
            return latents;
        }
        self.whiten(on_sphere(self.unwhiten(latents)))
    }

    /// Embeds latents.
    ///
    /// # Shapes
    /// - `latents`: `[.., Z]`, whitened
    /// - returns: `[.., D]`
    pub fn embed<const R: usize>(&self, latents: Tensor<R>) -> Tensor<R> {
        let positions = linear_layer(&self.projection, latents);
        match &self.connector {
            Some(connector) => linear_layer(&connector.linear, connector.norm.forward(positions)),
            None => positions,
        }
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

    /// The norm is that of the codec's latents, not of whitened ones.
    #[test]
    fn drawn_latents_are_put_on_the_sphere() {
        let device = Device::default();
        let whitening = Whitening {
            bias: 0.25,
            scale: 3.0,
        };
        let drawn = RandomStream::new(1).normal([7, 4], &device);
        let config = LatentAdapterConfig::new(4, 8);
        let free = seeded(1, &device, |device| config.init(device)).with_whitening(whitening);
        assert_eq!(
            free.settle(drawn.clone()).into_data(),
            drawn.clone().into_data(),
            "left as they are"
        );
        let config = config.with_on_sphere(true);
        let adapter = seeded(1, &device, |device| config.init(device)).with_whitening(whitening);
        let settled = adapter.settle(drawn.clone());
        let codecs = adapter.unwhiten(settled.clone());
        let squares = codecs.clone().square().sum_dim(1);
        assert_close("norms", squares, Tensor::full([7, 1], 4.0, &device), 1e-5);
        let length = adapter.unwhiten(drawn.clone()).square().sum_dim(1).sqrt();
        let expected = adapter.unwhiten(drawn).mul_scalar(2.0) / length;
        assert_close("directions", codecs, expected, 1e-5);
        assert_close("twice", adapter.settle(settled.clone()), settled, 1e-5);
    }

    /// Compared with the formula, row by row.
    #[test]
    fn a_connector_is_two_linears_around_a_norm() {
        let device = Device::default();
        let config = LatentAdapterConfig::new(3, 4).with_connector(true);
        let adapter = seeded(1, &device, |device| config.init(device));
        let latents = RandomStream::new(2).normal([5, 3], &device);
        let connector = adapter.connector.as_ref().unwrap();
        let x = latents.clone().matmul(adapter.projection.weight.val());
        let scale = (x.clone().square().mean_dim(1) + 1e-6).sqrt();
        let bias = connector
            .linear
            .bias
            .as_ref()
            .unwrap()
            .val()
            .unsqueeze::<2>();
        let expected = (x / scale).matmul(connector.linear.weight.val()) + bias;
        assert_close("a connector", adapter.embed(latents), expected, 1e-5);
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
