//! The timestep embedding: a sinusoid through a small network.

use burn::module::{Initializer, Module};
use burn::nn::{Linear, LinearConfig};
use burn::tensor::{Device, Int, Tensor, TensorData, activation::silu};

/// Width of the sinusoid in every published model.
const FREQUENCIES: usize = 256;

/// `Linear(SiLU(Linear(sinusoid(t))))`, no biases (reference `TimestepEmbedder`).
#[derive(Module, Debug)]
pub struct TimestepEmbedding {
    up: Linear,
    down: Linear,
}

impl TimestepEmbedding {
    /// An embedding of `width` numbers; both layers start as N(0, 0.02).
    pub fn new(width: usize, device: &Device) -> Self {
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
            up: linear(FREQUENCIES),
            down: linear(width),
        }
    }

    /// # Shapes
    /// - `timesteps`: `[N]`
    /// - returns: `[N, D]`
    pub fn forward(&self, timesteps: Tensor<1, Int>) -> Tensor<2> {
        self.down
            .forward(silu(self.up.forward(sinusoid(timesteps))))
    }
}

/// `[cos(t f_k), sin(t f_k)]` with `f_k = 10000^(-k/128)`: cosines first.
fn sinusoid(timesteps: Tensor<1, Int>) -> Tensor<2> {
    let half = FREQUENCIES / 2;
    let frequencies: Vec<f32> = (0..half)
        .map(|k| (-(10000f64.ln()) * k as f64 / half as f64).exp() as f32)
        .collect();
    let device = timesteps.device();
    let frequencies = Tensor::from_data(TensorData::new(frequencies, [1, half]), &device);
    let angles = timesteps.float().unsqueeze_dim::<2>(1) * frequencies; // [N, half]
    Tensor::cat(vec![angles.clone().cos(), angles.sin()], 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cosines_come_first() {
        let device = Device::default();
        let timesteps = Tensor::<1, Int>::from_ints([0, 999], &device);
        let got: Vec<f32> = sinusoid(timesteps).into_data().try_to_vec().unwrap();
        assert!(got[..128].iter().all(|&c| c == 1.0) && got[128..256].iter().all(|&s| s == 0.0));
        for k in [0, 17, 127] {
            let angle = 999.0 * 10000f64.powf(-(k as f64) / 128.0);
            // The angle itself is float32: near 999 its spacing is 6e-5.
            assert!((f64::from(got[256 + k]) - angle.cos()).abs() < 2e-4);
            assert!((f64::from(got[384 + k]) - angle.sin()).abs() < 2e-4);
        }
    }
}
