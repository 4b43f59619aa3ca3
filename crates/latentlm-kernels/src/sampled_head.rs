//! A diffusion head and a sampling run, as the loop over a solver's steps takes them.

use std::fmt;

use burn::tensor::Tensor;

use crate::types::{HeadPrecision, SwiGluBlock};

/// A layer of a [`SampledHead`].
#[derive(Debug, Clone)]
pub struct HeadLayer {
    /// Feed-forward block of the layer.
    pub block: SwiGluBlock,
    /// Weight of the projection from the activated condition to shift, scale and gate of the block, `[D, 3 D]`.
    pub modulation: Tensor<2>,
}

/// Parameters of a diffusion head: an input projection, layers, a norm without weight, an output projection.
/// Layers and norm are modulated (AdaLN): each has a projection that the SiLU of the sum of condition and
/// timestep embedding goes through.
#[derive(Debug, Clone)]
pub struct SampledHead {
    /// Weight of the input projection, `[Z, D]`.
    pub input: Tensor<2>,
    /// Bias of the input projection, `[D]`, if it has one.
    pub input_bias: Option<Tensor<1>>,
    /// Layers, from first to last.
    pub layers: Vec<HeadLayer>,
    /// Weight of the projection from the activated condition to shift and scale of the last norm, `[D, 2 D]`.
    pub modulation: Tensor<2>,
    /// Weight of the output projection, `[D, Z]`.
    pub output: Tensor<2>,
    /// Epsilon of the last norm.
    pub epsilon: f64,
    /// Where the weights stay as they were laid out; without it each call lays them out anew.
    pub layouts: Option<HeadLayouts>,
}

/// Large weights of a [`SampledHead`] laid out for its products, or rounded to bfloat16, kept from one call of
/// [`sample_head`](crate::sample_head) to the next. They take as much memory as these weights.
///
/// A call whose weights are not those that were laid out lays out its own and keeps them instead. Clones share what is
/// kept.
#[derive(Clone, Default)]
pub struct HeadLayouts {
    #[cfg(feature = "cpu")]
    pub(crate) kept: std::sync::Arc<std::sync::Mutex<Option<crate::cpu::KeptHead>>>,
}

impl fmt::Debug for HeadLayouts {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("HeadLayouts")
    }
}

/// Factors of one solver step: `clean = x * x_to_clean + prediction * prediction_to_clean`, then
/// `x = x * state + clean * this + previous clean * last`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LinearStep {
    /// Factor of the state in the clean estimate.
    pub x_to_clean: f32,
    /// Factor of the prediction in the clean estimate.
    pub prediction_to_clean: f32,
    /// Factor of the state.
    pub state: f32,
    /// Factor of the clean estimate of this step.
    pub this: f32,
    /// Factor of the clean estimate of the step before.
    pub last: f32,
}

/// Inputs and settings of one sampling run.
#[derive(Debug, Clone)]
pub struct HeadRun {
    /// Noise that `N` latents start from, `[N, Z]`.
    pub noise: Tensor<2>,
    /// Conditions of the latents, `[N, D]`; with guidance followed by the null conditions, `[2 N, D]`.
    pub condition: Tensor<2>,
    /// Timestep embeddings, one for each step, which are added to the conditions, `[S, D]`.
    pub timesteps: Tensor<2>,
    /// The solver's `S` steps.
    pub steps: Vec<LinearStep>,
    /// Scale of classifier-free guidance, if it is used: `null + scale * (cond - null)` is the prediction.
    pub guidance: Option<f64>,
    /// Precision of the matrix products.
    pub precision: HeadPrecision,
}
