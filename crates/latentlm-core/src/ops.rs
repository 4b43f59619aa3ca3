//! Small functions that two spokes need. No parameters, no modules.

use burn::tensor::{DType, Tensor};

/// RMSNorm over the last axis, without weight: `x / sqrt(mean(x^2) + epsilon)`, the mean in
/// float32. (`burn::nn::RmsNorm` always has a weight; the official image models have none.)
///
/// # Shapes
/// - `x`: `[.., D]`
/// - returns: `[.., D]`
pub fn rms_norm<const R: usize>(x: Tensor<R>, epsilon: f64) -> Tensor<R> {
    let dtype = x.dtype();
    let mean_square = x.clone().cast(DType::F32).square().mean_dim(R - 1);
    x * (mean_square + epsilon).sqrt().recip().cast(dtype)
}

/// The inner width of a SwiGLU network that the official implementation derives from a ratio:
/// `floor(width * ratio * 2/3 / 64) * 64`.
pub fn swiglu_width(width: usize, mlp_ratio: f64) -> usize {
    // In the reference's order of operations: another order rounds differently at the edges.
    (width as f64 * mlp_ratio * 2.0 / 3.0 / 64.0) as usize * 64
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::Device;

    #[test]
    fn widths_of_the_published_sizes() {
        for (width, ratio, expected) in [(768, 6.0, 3072), (96, 4.0, 256), (64, 4.0, 128)] {
            assert_eq!(swiglu_width(width, ratio), expected);
        }
    }

    #[test]
    fn divides_by_the_root_mean_square() {
        let device = Device::default();
        let y = rms_norm(Tensor::<2>::from_floats([[3.0, 4.0]], &device), 0.0);
        let rms = 12.5f32.sqrt();
        let expected = Tensor::<2>::from_floats([[3.0 / rms, 4.0 / rms]], &device);
        assert!(y.all_close(expected, None, Some(1e-6)));
    }
}
