//! The timestep embedding: a sinusoidal encoding and two linear layers.

use burn::module::{Initializer, Module};
use burn::nn::{Linear, LinearConfig};
use burn::tensor::{Device, Tensor, TensorData};
use latentlm_kernels::{linear_layer, silu};

use crate::layer::zero_linear;

/// `Linear(SiLU(Linear(sinusoid(t))))`, no biases (reference `TimestepEmbedder`).
#[derive(Module, Debug)]
pub struct TimestepEmbedding {
    up: Linear,
    down: Linear,
    max_period: f64,
}

impl TimestepEmbedding {
    /// Builds the embedding: `width` is its size `D`, `frequencies` the size of the sinusoidal
    /// encoding, `max_period` its longest period (256 and 10000 in every published model). Both
    /// layers start as N(0, 0.02).
    pub fn new(width: usize, frequencies: usize, max_period: f64, device: &Device) -> Self {
        let linear = |input| {
            LinearConfig::new(input, width)
                .with_bias(false)
                .with_initializer(Initializer::Normal {
                    mean: 0.0,
                    std: 0.02,
                })
                .init(device)
        };
        Self {
            up: linear(frequencies),
            down: linear(width),
            max_period,
        }
    }

    /// Sets the output layer to zeros, so that the embedding has no effect at first.
    pub(crate) fn without_effect(self, device: &Device) -> Self {
        let [width, _] = self.down.weight.dims();
        Self {
            down: zero_linear(width, width, device),
            ..self
        }
    }

    /// Embeds timesteps.
    ///
    /// # Shapes
    /// - `timesteps`: `[N]`
    /// - returns: `[N, D]`
    pub fn forward(&self, timesteps: Tensor<1>) -> Tensor<2> {
        let [frequencies, _] = self.up.weight.dims();
        let x = sinusoid(timesteps, frequencies, self.max_period);
        linear_layer(&self.down, silu(linear_layer(&self.up, x)))
    }
}

/// `[cos(t f_k), sin(t f_k)]` with `f_k = max_period^(-2k/width)`: cosines first.
fn sinusoid(timesteps: Tensor<1>, width: usize, max_period: f64) -> Tensor<2> {
    let half = width / 2;
    let frequencies: Vec<f32> = (0..half)
        .map(|k| (-max_period.ln() * k as f64 / half as f64).exp() as f32)
        .collect();
    let device = timesteps.device();
    let frequencies = Tensor::from_data(TensorData::new(frequencies, [1, half]), &device);
    let angles = timesteps.unsqueeze_dim::<2>(1) * frequencies; // [N, half]
    Tensor::cat(vec![angles.clone().cos(), angles.sin()], 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cosines_come_first() {
        let device = Device::default();
        let timesteps = Tensor::<1>::from_floats([0.0, 999.0], &device);
        let got: Vec<f32> = sinusoid(timesteps, 256, 1e4)
            .into_data()
            .try_to_vec()
            .unwrap();
        assert!(got[..128].iter().all(|&c| c == 1.0) && got[128..256].iter().all(|&s| s == 0.0));
        for k in [0, 17, 127] {
            let angle = 999.0 * 10000f64.powf(-(k as f64) / 128.0);
            // The angle itself is float32: near 999 its spacing is 6e-5.
            assert!((f64::from(got[256 + k]) - angle.cos()).abs() < 2e-4);
            assert!((f64::from(got[384 + k]) - angle.sin()).abs() < 2e-4);
        }
    }
}
