//! Latents of constant norm (SphereAR, arXiv 2509.24335).

use burn::tensor::Tensor;

/// Added to the mean square: the projection of 0, which has no direction, is 0 and not NaN.
const EPSILON: f64 = 1e-12;

/// Projects latents to the sphere of radius `sqrt(Z)`: their numbers then have mean square 1, as those of
/// standard normal noise have on average.
///
/// # Shapes
/// - `latents` and result: `[.., Z]`
pub fn on_sphere<const R: usize>(latents: Tensor<R>) -> Tensor<R> {
    let mean_square = latents.clone().square().mean_dim(R - 1);
    latents / mean_square.add_scalar(EPSILON).sqrt()
}

#[cfg(all(test, feature = "conformance"))]
mod tests {
    use burn::tensor::Device;

    use super::*;
    use crate::conformance::module::gradient_agrees_with_finite_differences;
    use crate::random::RandomStream;

    fn values<const R: usize>(tensor: Tensor<R>) -> Vec<f32> {
        tensor.into_data().try_to_vec().unwrap()
    }

    /// Latents of small, usual and large norm.
    #[test]
    fn the_norm_is_exact_and_the_direction_kept() {
        let device = Device::default();
        let latents = RandomStream::new(1).normal::<2>([100, 6], &device);
        let expected = values(on_sphere(latents.clone()));
        for scale in [1e-2, 1.0, 1e3] {
            let projected = on_sphere(latents.clone().mul_scalar(scale));
            for square in values(projected.clone().square().sum_dim(1)) {
                // Rounding of a sum of six.
                assert!((square - 6.0).abs() < 1e-5, "{scale}: {square}");
            }
            for (own, expected) in values(projected).iter().zip(&expected) {
                assert!((own - expected).abs() < 1e-5, "{scale}: {own} {expected}");
            }
        }
        let zero = Tensor::<3>::zeros([1, 2, 4], &device);
        assert_eq!(values(on_sphere(zero)), [0.0; 8]);
    }

    #[test]
    fn the_gradient_agrees_with_finite_differences() {
        let device = Device::default().autodiff();
        let mut random = RandomStream::new(2);
        let latents = random.normal::<3>([3, 2, 5], &device);
        let weights = random.normal::<3>([3, 2, 5], &device);
        gradient_agrees_with_finite_differences("projection", latents, |x| {
            (on_sphere(x) * weights.clone()).mean()
        });
    }

    /// The projection does not change with the length of a latent, so its gradient has no part along it.
    #[test]
    fn the_gradient_is_tangent_to_the_sphere() {
        let device = Device::default().autodiff();
        let mut random = RandomStream::new(3);
        let latents = random.normal::<2>([20, 5], &device).require_grad();
        let weights = random.normal::<2>([20, 5], &device);
        let gradients = (on_sphere(latents.clone()) * weights).sum().backward();
        let gradient = latents.grad(&gradients).unwrap();
        for along in values((gradient * latents.inner()).sum_dim(1)) {
            // Rounding of five products of size 1.
            assert!(along.abs() < 1e-5, "{along}");
        }
    }
}
