//! Losses of heads that draw a latent in few evaluations.
//!
//! - Shortcut models (Frans et al. 2024, arXiv 2410.12557): the head `s(x, t, d)` reads the length `d` of a step too.
//!   Rows of `d = 0` learn the velocity of flow matching; the others learn that a step of length `2 d` is the mean of two
//!   steps of length `d` (equation 4), which the head itself takes without gradients.
//! - The energy score (Gneiting and Raftery 2007, equation 21; as the loss of heads that draw latents one by one: Shao et
//!   al. 2025, arXiv 2505.07812): `E|x - y| - E|x - x'| / 2` for drawn latents `x`, `x'` and the true one `y`. It is
//!   strictly proper: only the true distribution minimizes it. It needs no other latents of the same hidden state.

use burn::module::Module;
use burn::tensor::{Int, Tensor, TensorData};
use latentlm_core::DiffusionDraws;

use crate::head::{DiffusionHead, numbers};

/// Keeps the gradient of a distance finite where two latents are equal.
const LEAST_SQUARE: f64 = 1e-8;

/// Rows of a loss, of which some are whole steps.
pub(crate) struct WholeSteps<'a> {
    /// States, `[N, Z]`.
    pub(crate) noisy: &'a Tensor<2>,
    /// Timesteps of the states, `[N]`.
    pub(crate) timesteps: &'a Tensor<1>,
    /// Hidden states, `[N, D]`.
    pub(crate) hidden: &'a Tensor<2>,
    /// Lengths, `N`; 0 for rows that are none.
    pub(crate) lengths: &'a [f32],
    /// Guidance scales, `N`, or empty.
    pub(crate) scales: &'a [f32],
}

impl DiffusionHead {
    /// The length that the head reads for a step. The smallest steps are the flow's own, of length 0.
    pub(crate) fn read_length(&self, length: f32) -> f32 {
        if length * self.method().shortcut_divisions as f32 > 1.0 {
            length
        } else {
            0.0
        }
    }

    /// The target of all rows: for whole steps the mean velocity of two half steps, for others `target` as it is.
    ///
    /// # Shapes
    /// - `target`: `[N, Z]`; returns `[N, Z]`
    pub(crate) fn shortcut_target(&self, target: Tensor<2>, rows: &WholeSteps<'_>) -> Tensor<2> {
        let count = rows.lengths.len();
        let (whole, rest): (Vec<usize>, Vec<usize>) =
            (0..count).partition(|&row| rows.lengths[row] > 0.0);
        if whole.is_empty() {
            return target;
        }
        let mut halves = self.two_halves(rows, &whole);
        if target.is_autodiff() {
            halves = halves.autodiff();
        }
        if rest.is_empty() {
            return halves;
        }
        // First the rows that keep their target, then the rows with a new one, then back into the batch's order.
        let joined = Tensor::cat(vec![some(&target, &rest), halves], 0);
        let mut places = vec![0; count];
        for (place, row) in rest.into_iter().chain(whole).enumerate() {
            places[row] = place;
        }
        some(&joined, &places)
    }

    /// The mean velocity of two half steps from some rows, without gradients.
    fn two_halves(&self, rows: &WholeSteps<'_>, whole: &[usize]) -> Tensor<2> {
        let head = self.valid();
        let x = some(&rows.noisy.clone().inner(), whole);
        let device = x.device();
        let halves: Vec<f32> = whole.iter().map(|&row| rows.lengths[row] / 2.0).collect();
        let read: Vec<f32> = halves.iter().map(|half| head.read_length(*half)).collect();
        let scales: Vec<f32> = match rows.scales {
            [] => vec![1.0],
            scales => whole.iter().map(|&row| scales[row]).collect(),
        };
        let hidden = some(&rows.hidden.clone().inner(), whole);
        let condition = head.conditioned(hidden, &read, &scales);
        let timesteps = rows.timesteps.clone().inner().unsqueeze_dim::<2>(1);
        let timesteps = some(&timesteps, whole).squeeze_dim::<1>(1);
        let lengths = numbers(&halves, &device);
        let first = head
            .denoise_steps(x.clone(), timesteps.clone(), condition.clone())
            .cast(x.dtype());
        let middle = x - first.clone() * lengths.clone().unsqueeze_dim::<2>(1);
        let later = timesteps - lengths.mul_scalar(self.schedule().timesteps() as f64);
        let second = head
            .denoise_steps(middle, later, condition)
            .cast(first.dtype());
        (first + second).mul_scalar(0.5)
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

/// Some rows of a matrix.
fn some(matrix: &Tensor<2>, rows: &[usize]) -> Tensor<2> {
    let rows: Vec<i64> = rows.iter().map(|&row| row as i64).collect();
    let count = rows.len();
    let rows = Tensor::<1, Int>::from_data(TensorData::new(rows, [count]), &matrix.device());
    matrix.clone().select(0, rows)
}
