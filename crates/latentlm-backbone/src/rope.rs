//! Rotary position embedding in the two layouts that published models use.

use burn::config::Config;
use burn::tensor::Device;
use latentlm_kernels::Rotary;

/// Which elements of a head form a rotated pair, and the frequencies of the pairs.
#[derive(Config, Debug, Copy, PartialEq)]
pub enum RopeLayout {
    /// Pairs `(2i, 2i+1)`, frequencies `1 / theta^linspace(0, 1, E/2)` including both end points: the
    /// official image models.
    Interleaved,
    /// Pairs `(i, i + E/2)`, frequencies `1 / theta^(2i/E)`: Qwen2 and most language models.
    HalfSplit,
}

/// Rotary position embedding: the layout and the frequencies of its pairs, in float64.
#[derive(Debug, Clone)]
pub struct Rope {
    layout: RopeLayout,
    frequencies: Vec<f64>,
}

impl Rope {
    /// Computes the frequencies for heads of width `head_dim`.
    ///
    /// # Panics
    /// If `head_dim` is odd or below 4.
    pub fn new(layout: RopeLayout, head_dim: usize, theta: f64) -> Self {
        assert!(
            head_dim.is_multiple_of(2) && head_dim >= 4,
            "rotary embedding needs an even head of 4 or more numbers, not {head_dim}"
        );
        let half = head_dim / 2;
        let steps = match layout {
            // QUIRK(Transformer.py build_rel_pos): linspace includes 1, so the slowest pair turns
            // with 1/theta, not with the usual 1/theta^(1 - 2/E).
            RopeLayout::Interleaved => half - 1,
            RopeLayout::HalfSplit => half,
        };
        let mut frequencies = Vec::with_capacity(half);
        for i in 0..half {
            frequencies.push(theta.powf(-(i as f64 / steps as f64)));
        }
        Self {
            layout,
            frequencies,
        }
    }

    /// The rotation of packed documents of the given lengths. Positions of each document count from
    /// `start`.
    pub fn rotation(&self, start: usize, documents: &[usize], device: &Device) -> Rotary {
        let positions = documents.iter().flat_map(|length| start..start + length);
        let angles: Vec<f64> = positions
            .flat_map(|position| self.frequencies.iter().map(move |f| position as f64 * f))
            .collect();
        let length = documents.iter().sum();
        let interleaved = self.layout == RopeLayout::Interleaved;
        Rotary::new(&angles, length, interleaved, device)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use latentlm_core::RandomStream;

    /// A pair at position p is rotated by p times its frequency: compared with the closed form.
    #[test]
    fn rotates_pairs_by_the_closed_form() {
        let device = Device::default();
        let x = RandomStream::new(1).normal([1, 3, 1, 4], &device);
        let input: Vec<f32> = x.to_data().try_to_vec().unwrap();
        for (layout, pairs, frequencies) in [
            (RopeLayout::Interleaved, [(0, 1), (2, 3)], [1.0, 1e-4]),
            (RopeLayout::HalfSplit, [(0, 2), (1, 3)], [1.0, 1e-2]),
        ] {
            let rope = Rope::new(layout, 4, 1e4);
            let y: Vec<f32> = rope
                .rotation(5, &[3], &device)
                .apply(x.clone())
                .to_data()
                .try_to_vec()
                .unwrap();
            for t in 0..3 {
                for ((i, j), frequency) in pairs.into_iter().zip(frequencies) {
                    let (sin, cos) = ((5 + t) as f64 * frequency).sin_cos();
                    let (a, b) = (f64::from(input[t * 4 + i]), f64::from(input[t * 4 + j]));
                    let got = (f64::from(y[t * 4 + i]), f64::from(y[t * 4 + j]));
                    assert!((got.0 - (a * cos - b * sin)).abs() < 1e-6, "{layout:?}");
                    assert!((got.1 - (a * sin + b * cos)).abs() < 1e-6, "{layout:?}");
                }
            }
        }
    }
}
