//! A small network between latents and positions.

use burn::config::Config;
use burn::module::Module;
use burn::nn::{Linear, LinearConfig, RmsNorm, RmsNormConfig};
use burn::tensor::{Device, Tensor};
use latentlm_core::ModalityAdapter;

/// Configuration of a [`Connector`].
#[derive(Config, Debug)]
pub struct ConnectorConfig {
    /// `Z`, numbers a latent.
    pub latent_dim: usize,
    /// `D`, width of a position.
    pub width: usize,
    /// Epsilon of the norm.
    #[config(default = 1e-6)]
    pub norm_epsilon: f64,
}

impl ConnectorConfig {
    /// Builds the connector.
    pub fn init(&self, device: &Device) -> Connector {
        Connector {
            linear_1: LinearConfig::new(self.latent_dim, self.width).init(device),
            norm: RmsNormConfig::new(self.width)
                .with_epsilon(self.norm_epsilon)
                .init(device),
            linear_2: LinearConfig::new(self.width, self.width).init(device),
        }
    }
}

/// Linear, RMSNorm, Linear: how VibeVoice makes positions of latents (spec §5).
#[derive(Module, Debug)]
pub struct Connector {
    linear_1: Linear,
    norm: RmsNorm,
    linear_2: Linear,
}

impl ModalityAdapter<Tensor<3>> for Connector {
    fn width(&self) -> usize {
        self.linear_2.weight.dims()[1]
    }

    /// # Shapes
    /// - `latents`: `[B, T, Z]`, whitened
    /// - returns: `[B, T, D]`
    fn embed(&self, latents: Tensor<3>) -> Tensor<3> {
        self.linear_2
            .forward(self.norm.forward(self.linear_1.forward(latents)))
    }
}
