//! DiT: all latents of an image denoised together by bidirectional AdaLN-Zero blocks (Peebles and
//! Xie 2023, arXiv 2212.09748; the official LatentLM's `models/DiT.py`).

use burn::module::Module;
use burn::nn::Linear;
use burn::tensor::{Device, Tensor, TensorData};
use latentlm_diffusion::{NoiseSchedule, TimestepEmbedding};
use latentlm_kernels::{full_attention, linear_layer, rms_norm, silu};

use crate::block::{Attention, FeedForward, zero_linear};
use crate::class::ClassConditional;
use crate::denoiser::{DenoiserConfig, ImageDenoiser};
use crate::sizes::{NORM_EPSILON, TIMESTEP_SINUSOID};

/// Longest period of the sinusoidal position encoding.
const POSITION_PERIOD: f64 = 1e4;

/// The class-conditional DiT.
pub type Dit = ClassConditional<DitNetwork>;

/// Sinusoidal position encoding of a square grid, `[T, D]`. The first half of a row encodes the
/// column of the latent, the second half the row; each half is sines, then cosines (reference
/// `get_2d_sincos_pos_embed`).
fn positions(tokens: usize, width: usize) -> Vec<f32> {
    let (side, quarter) = (tokens.isqrt(), width / 4);
    let angle =
        |at: usize, k: usize| at as f64 * POSITION_PERIOD.powf(-(k as f64) / quarter as f64);
    let mut encoding = Vec::with_capacity(tokens * width);
    for token in 0..tokens {
        for at in [token % side, token / side] {
            encoding.extend((0..quarter).map(|k| angle(at, k).sin() as f32));
            encoding.extend((0..quarter).map(|k| angle(at, k).cos() as f32));
        }
    }
    encoding
}

/// One block: `x += gate * attention(norm(x) * (1 + scale) + shift)`, then the same with the
/// feed-forward network. All six modulations start as zero, so a block starts as the identity.
#[derive(Module, Debug)]
struct DitBlock {
    modulation: Linear,
    attention: Attention,
    mlp: FeedForward,
}

impl DitBlock {
    /// Applies the block.
    ///
    /// # Shapes
    /// - `x`: `[B, T, D]`; `condition`: `[B, D]`, after its SiLU
    /// - returns: `[B, T, D]`
    fn forward(&self, x: Tensor<3>, condition: Tensor<2>) -> Tensor<3> {
        let [batch, tokens, width] = x.dims();
        let modulation = linear_layer(&self.modulation, condition).unsqueeze_dim::<3>(1);
        let chunk = |index: usize| modulation.clone().narrow(2, index * width, width); // [B, 1, D]
        let (shift, scale, gate) = (chunk(0), chunk(1), chunk(2));
        let inner = modulate(x.clone(), shift, scale);
        let x = x + gate * self.attention.forward(inner, full_attention);
        let rows = modulation
            .clone()
            .narrow(2, 3 * width, 3 * width)
            .repeat_dim(1, tokens)
            .reshape([batch * tokens, 3 * width]);
        self.mlp.residual(x, Some(rows))
    }
}

/// `norm(x) * (1 + scale) + shift`.
fn modulate(x: Tensor<3>, shift: Tensor<3>, scale: Tensor<3>) -> Tensor<3> {
    rms_norm(x, None, NORM_EPSILON) * (scale + 1.0) + shift
}

/// The network of a DiT: position encoding, timestep embedding, blocks and output projection.
#[derive(Module, Debug)]
pub struct DitNetwork {
    timestep: TimestepEmbedding,
    /// Position encoding, `[1, T, D]`. It is a function of the sizes, so it is not trained and in no
    /// checkpoint.
    positions: Tensor<3>,
    blocks: Vec<DitBlock>,
    modulation: Linear,
    output: Linear,
    #[module(skip)]
    schedule: NoiseSchedule,
}

impl ImageDenoiser for DitNetwork {
    const MODEL: &'static str = "DiT";

    fn check(config: &DenoiserConfig) -> Result<(), String> {
        let (tokens, width) = (config.tokens, config.sizes.width);
        if tokens.isqrt().pow(2) != tokens {
            return Err(format!(
                "positions lie on a square grid; {tokens} latents form none"
            ));
        }
        if !width.is_multiple_of(4) {
            return Err(format!(
                "two coordinates of sines and cosines need a width that 4 divides, not {width}"
            ));
        }
        Ok(())
    }

    fn of(config: &DenoiserConfig, device: &Device) -> Self {
        let (sizes, width) = (&config.sizes, config.sizes.width);
        let (frequencies, period) = TIMESTEP_SINUSOID;
        let shape = [1, config.tokens, width];
        let positions = TensorData::new(positions(config.tokens, width), shape);
        Self {
            timestep: TimestepEmbedding::new(width, frequencies, period, device),
            positions: Tensor::from_data(positions, device),
            blocks: (0..sizes.depth)
                .map(|_| DitBlock {
                    modulation: zero_linear(width, 6 * width, device),
                    attention: Attention::new(sizes, device),
                    mlp: FeedForward::new(sizes, device),
                })
                .collect(),
            modulation: zero_linear(width, 2 * width, device),
            output: zero_linear(width, config.latent_dim, device),
            schedule: config.noise_schedule(),
        }
    }

    fn schedule(&self) -> &NoiseSchedule {
        &self.schedule
    }

    fn latent_dim(&self) -> usize {
        self.output.weight.dims()[1]
    }

    /// # Panics
    /// If the condition is not exactly one position, the label.
    fn denoise(&self, noisy: Tensor<3>, timesteps: Tensor<1>, condition: Tensor<3>) -> Tensor<3> {
        let [batch, positions, width] = condition.dims();
        assert_eq!(positions, 1, "DiT is conditioned on one label");
        let condition = condition.reshape([batch, width]) + self.timestep.forward(timesteps);
        let condition = silu(condition); // [B, D]
        let mut x = noisy + self.positions.clone(); // [B, T, D]
        for block in &self.blocks {
            x = block.forward(x, condition.clone());
        }
        let modulation = linear_layer(&self.modulation, condition).unsqueeze_dim::<3>(1);
        let shift = modulation.clone().narrow(2, 0, width);
        let scale = modulation.narrow(2, width, width);
        linear_layer(&self.output, modulate(x, shift, scale))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Latent 5 of a 3 x 3 grid is in column 2 of row 1.
    #[test]
    fn positions_are_sines_of_column_and_row() {
        let got = positions(9, 8);
        let (sin, cos) = (f64::sin, f64::cos);
        let expected = [
            sin(2.0),
            sin(0.02),
            cos(2.0),
            cos(0.02),
            sin(1.0),
            sin(0.01),
            cos(1.0),
            cos(0.01),
        ];
        for (got, expected) in got[5 * 8..6 * 8].iter().zip(expected) {
            assert!(
                (f64::from(*got) - expected).abs() < 1e-6,
                "{got} {expected}"
            );
        }
    }
}
