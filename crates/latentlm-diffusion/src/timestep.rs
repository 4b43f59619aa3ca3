//! The timestep embedding: a sinusoidal encoding and two linear layers.

use burn::module::{Initializer, Module};
use burn::nn::{Linear, LinearConfig};
use burn::tensor::{Device, Int, Tensor};
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

    /// [`forward`](Self::forward) of whole timesteps, each in `0..count`. Of more than `count`, many are the same: then each
    /// of the `count` is embedded once.
    ///
    /// # Shapes
    /// - `timesteps`: `[N]`
    /// - returns: `[N, D]`
    pub(crate) fn forward_whole(&self, timesteps: Tensor<1, Int>, count: usize) -> Tensor<2> {
        if timesteps.dims()[0] <= count {
            return self.forward(timesteps.float());
        }
        let each = Tensor::<1, Int>::arange(0..count as i64, &timesteps.device());
        self.forward(each.float()).select(0, timesteps)
    }
}

/// `[cos(t f_k), sin(t f_k)]` with `f_k = max_period^(-2k/width)`: cosines first.
fn sinusoid(timesteps: Tensor<1>, width: usize, max_period: f64) -> Tensor<2> {
    let half = width / 2;
    let frequencies: Vec<f32> = (0..half)
        .map(|k| (-max_period.ln() * k as f64 / half as f64).exp() as f32)
        .collect();
    latentlm_kernels::sinusoid(timesteps, &frequencies)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Embeddings and gradients, with more rows than timesteps and with fewer.
    #[test]
    fn whole_timesteps_are_embedded_as_others() {
        let device = Device::default().autodiff();
        let embedding = TimestepEmbedding::new(8, 16, 1e4, &device);
        for (rows, count) in [(50, 7), (3, 7)] {
            let timesteps: Vec<i64> = (0..rows).map(|row| row * row % 7).collect();
            let timesteps = Tensor::<1, Int>::from_ints(timesteps.as_slice(), &device);
            let run = |embedded: Tensor<2>| {
                // A gradient that differs from row to row.
                let along = Tensor::<1, Int>::arange(0..rows, &device).float().cos();
                let loss = (embedded.clone() * along.unsqueeze_dim::<2>(1)).sum();
                let gradients = loss.backward();
                let of = |layer: &Linear| layer.weight.val().grad(&gradients).unwrap();
                (embedded, of(&embedding.up), of(&embedding.down))
            };
            let expected = run(embedding.forward(timesteps.clone().float()));
            let got = run(embedding.forward_whole(timesteps, count));
            // Weights are near 0.02, so embeddings near 1e-3; gradients are sums over rows in another order.
            assert!(got.0.all_close(expected.0, Some(1e-5), Some(1e-8)));
            assert!(got.1.all_close(expected.1, Some(1e-5), Some(1e-6)));
            assert!(got.2.all_close(expected.2, Some(1e-5), Some(1e-6)));
        }
    }

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
