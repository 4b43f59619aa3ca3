//! Losses of heads that draw a latent in few evaluations.
//!
//! - Shortcut models (Frans et al. 2024, arXiv 2410.12557): the head `s(x, t, d)` reads the length `d` of a step too.
//!   Rows of `d = 0` learn the velocity of flow matching; the others learn that a step of length `2 d` is the mean of two
//!   steps of length `d` (equation 4), which the head itself takes without gradients.
//! - The energy score (Gneiting and Raftery 2007, equation 21; as the loss of heads that draw latents one by one: Shao et
//!   al. 2025, arXiv 2505.07812): `E|x - y| - E|x - x'| / 2` for drawn latents `x`, `x'` and the true one `y`. It is
//!   strictly proper: only the true distribution minimizes it. It needs no other latents of the same hidden state.

use burn::module::Module;
use burn::tensor::Tensor;
use latentlm_core::DiffusionDraws;

use crate::head::{DiffusionHead, numbers};
use crate::rows::{in_place, some};

/// Keeps the gradient of a distance finite where two latents are equal.
const LEAST_SQUARE: f64 = 1e-8;

impl DiffusionHead {
    /// The length that the head reads for a step. The smallest steps are the flow's own, of length 0.
    pub(crate) fn read_length(&self, length: f32) -> f32 {
        if length * self.method().shortcut_divisions as f32 > 1.0 {
            length
        } else {
            0.0
        }
    }

    /// The target of all rows. Rows with a length have that of whole steps: the one in `draws`, or else what the live
    /// weights make. The others have the teacher's prediction, or else what follows from latents and noise.
    ///
    /// # Shapes
    /// - `latents`: `[N, Z]`; `condition`: `[N, D]`; returns `[N, Z]`
    pub(crate) fn targets(
        &self,
        latents: Tensor<2>,
        condition: &Tensor<2>,
        draws: &DiffusionDraws,
    ) -> Tensor<2> {
        let target = match &draws.target {
            Some(target) => target.clone(),
            None => {
                let (noise, timesteps) = (draws.noise.clone(), draws.timesteps.clone());
                self.schedule().target(latents.clone(), noise, timesteps)
            }
        };
        if draws.lengths.iter().all(|&length| length == 0.0) {
            return target;
        }
        let whole = match &draws.whole_steps {
            Some(whole) => Some(whole.clone()),
            None => {
                let (latents, condition) = (latents.inner(), condition.clone().inner());
                self.valid()
                    .two_halves(latents, condition, &draws.clone().inner())
            }
        };
        match whole {
            Some(whole) => with_whole_steps(target, whole, &draws.lengths),
            None => target,
        }
    }

    /// The mean velocities of two half steps for the rows with a length; other rows are zero. `None` if there are none.
    ///
    /// # Shapes
    /// - `latents`: `[N, Z]`; `condition`: `[N, D]`; returns `[N, Z]`
    pub(crate) fn two_halves(
        &self,
        latents: Tensor<2>,
        condition: Tensor<2>,
        draws: &DiffusionDraws,
    ) -> Option<Tensor<2>> {
        let count = draws.lengths.len();
        let whole: Vec<usize> = (0..count).filter(|&row| draws.lengths[row] > 0.0).collect();
        if whole.is_empty() {
            return None;
        }
        let (noise, timesteps) = (draws.noise.clone(), draws.timesteps.clone());
        let noisy = self.schedule().add_noise(latents, noise, timesteps.clone());
        let x = some(&noisy, &whole);
        let device = x.device();
        let halves: Vec<f32> = whole.iter().map(|&row| draws.lengths[row] / 2.0).collect();
        let read: Vec<f32> = halves.iter().map(|half| self.read_length(*half)).collect();
        let scales: Vec<f32> = match &draws.scales[..] {
            [] => vec![1.0],
            scales => whole.iter().map(|&row| scales[row]).collect(),
        };
        let condition = self.conditioned(some(&condition, &whole), &read, &scales);
        let timesteps = some(&timesteps.float().unsqueeze_dim::<2>(1), &whole);
        let halves = numbers(&halves, &device).unsqueeze_dim::<2>(1);
        let timestep_count = self.schedule().timesteps() as f64;
        let mean = mean_of_halves(x, halves, |x, passed| {
            let timesteps = timesteps.clone() - passed.mul_scalar(timestep_count);
            let timesteps = timesteps.squeeze_dim::<1>(1);
            self.denoise_steps(x.clone(), timesteps, condition.clone())
                .cast(x.dtype())
        });
        Some(in_place(mean, &whole, count))
    }

    /// The energy score of latents that one evaluation draws, in units of the root of their dimension.
    ///
    /// # Shapes
    /// - `latents`: `[N, Z]`; `condition`: `[N, D]`; returns `[1]`
    pub(crate) fn energy_loss(
        &self,
        latents: Tensor<2>,
        condition: Tensor<2>,
        draws: DiffusionDraws,
    ) -> Tensor<1> {
        let [rows, dim] = latents.dims();
        let device = latents.device();
        let second_noise = draws.second_noise.unwrap_or_else(|| draws.noise.clone());
        let noise = Tensor::cat(vec![draws.noise, second_noise], 0);
        let last = (self.schedule().timesteps() - 1) as f32;
        let times = numbers(&vec![last; 2 * rows], &device);
        let condition = self.conditioned(condition, &[0.0], &[1.0]);
        let velocity = self.denoise_steps(noise.clone(), times, condition.repeat_dim(0, 2));
        let drawn = noise.clone() - velocity.cast(noise.dtype());
        let (one, other) = (
            drawn.clone().narrow(0, 0, rows),
            drawn.clone().narrow(0, rows, rows),
        );
        let attraction = distances(drawn, latents.repeat_dim(0, 2)).mean();
        let repulsion = distances(one, other).mean().mul_scalar(0.5);
        (attraction - repulsion).mul_scalar(1.0 / (dim as f64).sqrt())
    }
}

/// Distances of rows, `[N]`.
fn distances(a: Tensor<2>, b: Tensor<2>) -> Tensor<1> {
    let squares = (a - b).square().sum_dim(1).squeeze_dim::<1>(1);
    squares.add_scalar(LEAST_SQUARE).sqrt()
}

/// The mean velocity of two steps behind each other (shortcut models, equation 4): `v(x, 0)`, and `v` where the first
/// one leads. `velocity(x, passed)` is asked for the time that has passed since the beginning.
///
/// # Shapes
/// - `x`: `[N, Z]`; `half`: `[N, 1]`, the length of each of the two steps; returns `[N, Z]`
fn mean_of_halves(
    x: Tensor<2>,
    half: Tensor<2>,
    velocity: impl Fn(Tensor<2>, Tensor<2>) -> Tensor<2>,
) -> Tensor<2> {
    let first = velocity(x.clone(), half.zeros_like());
    let middle = x - first.clone() * half.clone();
    (first + velocity(middle, half)).mul_scalar(0.5)
}

/// `target`, with `whole` in the rows that have a length.
///
/// # Shapes
/// - `target`, `whole` and result: `[N, Z]`; `lengths`: `N`
fn with_whole_steps(target: Tensor<2>, whole: Tensor<2>, lengths: &[f32]) -> Tensor<2> {
    let whole = if target.is_autodiff() {
        whole.autodiff()
    } else {
        whole
    };
    let of_whole: Vec<f32> = lengths.iter().map(|&own| f32::from(own > 0.0)).collect();
    let of_whole = numbers(&of_whole, &target.device()).unsqueeze_dim::<2>(1);
    let of_others = of_whole.clone().neg().add_scalar(1.0);
    target * of_others + whole * of_whole
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;
    use latentlm_core::RandomStream;

    use super::*;

    fn values(tensor: Tensor<2>) -> Vec<f32> {
        tensor.into_data().try_to_vec().unwrap()
    }

    /// Standard deviation at a time of the flow from noise to latents of deviation 0.5.
    fn deviation(time: f64) -> f64 {
        time.hypot(0.5 * (1.0 - time))
    }

    /// For Gaussian latents the flow is known: `x` keeps its place in units of the deviation. So is the mean velocity of a
    /// step of any length, and the mean of two exact halves is that of the whole.
    #[test]
    fn halves_of_a_gaussian_flow_are_its_whole_step() {
        let device = Device::default();
        for (start, length) in [(1.0, 1.0), (1.0, 0.5), (0.5, 0.5), (0.75, 0.25)] {
            let slope = |time: f64, length: f64| {
                (1.0 - deviation(time - length) / deviation(time)) / length
            };
            let x: Tensor<2> = RandomStream::new(1).normal([3, 2], &device);
            let half = Tensor::full([3, 1], length / 2.0, &device);
            let got = mean_of_halves(x.clone(), half, |x, passed| {
                let passed = f64::from(values(passed)[0]);
                x.mul_scalar(slope(start - passed, length / 2.0))
            });
            let expected = x.mul_scalar(slope(start, length));
            for (got, expected) in values(got).into_iter().zip(values(expected)) {
                let near = (got - expected).abs() < 1e-5;
                assert!(near, "{start} {length}: {got} for {expected}");
            }
        }
    }

    /// Half steps of the velocity `3 x` on a line: `x (1 - 3 d)^2` at the end.
    #[test]
    fn halves_of_a_linear_field_are_its_euler_steps() {
        let device = Device::default();
        let x = Tensor::<2>::from_floats([[2.0], [-1.0]], &device);
        let half = Tensor::<2>::from_floats([[0.125], [0.25]], &device);
        let mean = mean_of_halves(x.clone(), half.clone(), |x, _| x.mul_scalar(3.0));
        let end = x - mean * half.mul_scalar(2.0);
        // 2 (1 - 0.375)^2 and -(1 - 0.75)^2; all are exact in float32.
        assert_eq!(values(end), [0.78125, -0.0625]);
    }

    #[test]
    fn rows_with_a_length_have_the_target_of_whole_steps() {
        let device = Device::default();
        let target = Tensor::<2>::from_floats([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]], &device);
        let whole = Tensor::<2>::from_floats([[0.0, 0.0], [7.0, 8.0], [0.0, 0.0]], &device);
        let got = with_whole_steps(target, whole, &[0.0, 0.25, 0.0]);
        assert_eq!(values(got), [1.0, 2.0, 7.0, 8.0, 5.0, 6.0]);
    }
}
