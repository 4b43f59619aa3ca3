//! The guided prediction of a teacher, which a student learns (Meng et al. 2022, arXiv 2210.03142, section 3.1).
//!
//! A student of flow matching may have a teacher of the paper's diffusion: divided by its norm, a point of the line is a
//! point of the variance-preserving process with the same signal-to-noise ratio, and the line's velocity is a linear
//! function of that point and of the velocity there.

use burn::tensor::Tensor;
use latentlm_core::{DiffusionDraws, Prediction, Process};

use crate::head::{DiffusionHead, numbers};
use crate::rows::{in_place, places, some};

impl DiffusionHead {
    /// `null + scale (cond - null)` at the draws' points, as what the process of the draws predicts. Rows with a length
    /// are zero. `None` if a student of flow matching asks a teacher that predicts noise.
    ///
    /// # Shapes
    /// - `latents`: `[N, Z]`; `condition`, `null`: `[N, D]`; returns `[N, Z]`
    pub(crate) fn guided_prediction(
        &self,
        latents: Tensor<2>,
        condition: Tensor<2>,
        null: Tensor<2>,
        draws: &DiffusionDraws,
    ) -> Option<Tensor<2>> {
        let schedule = self.schedule();
        let of_flow = schedule.process() == Process::Diffusion && draws.process == Process::Flow;
        if of_flow && schedule.prediction() != Prediction::Velocity {
            return None;
        }
        let [count, _] = latents.dims();
        let is_whole = |row: usize| draws.lengths.get(row).is_some_and(|length| *length > 0.0);
        let rows: Vec<usize> = (0..count).filter(|&row| !is_whole(row)).collect();
        if rows.is_empty() {
            return Some(latents.zeros_like());
        }
        let inputs = [latents, draws.noise.clone(), condition, null];
        let [latents, noise, condition, null] = inputs.map(|all| some(&all, &rows));
        let device = latents.device();
        let timesteps = draws.timesteps.clone().select(0, places(&rows, &device));
        let scales: Vec<f32> = rows.iter().map(|&row| draws.scales[row]).collect();
        let scales = numbers(&scales, &device).unsqueeze_dim::<2>(1);
        let guided = |noisy: Tensor<2>, timesteps: Tensor<1>| {
            let branch = |hidden| self.denoise(noisy.clone(), timesteps.clone(), hidden);
            let (condition, null) = (branch(condition), branch(null));
            null.clone() + (condition - null) * scales
        };
        let prediction = if of_flow {
            let (signal, sigma, timesteps) = schedule.at_flow_times(timesteps);
            let noisy = latents * signal.clone() + noise * sigma.clone();
            let velocity = guided(noisy.clone(), timesteps);
            noisy * (sigma.clone() - signal.clone()) + velocity * (sigma + signal)
        } else {
            let noisy = schedule.add_noise(latents, noise, timesteps.clone());
            guided(noisy, timesteps.float())
        };
        Some(in_place(prediction, &rows, count))
    }
}
