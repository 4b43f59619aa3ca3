//! The whole sampling loop of a diffusion head.

use burn::tensor::Tensor;

use crate::swiglu::SwiGluBlock;

/// A layer of a [`SampledHead`].
#[derive(Debug, Clone)]
pub struct HeadLayer {
    /// What the layer computes.
    pub block: SwiGluBlock,
    /// From the activated condition to the block's shift, scale and gate, `[D, 3 D]`.
    pub modulation: Tensor<2>,
}

/// Parameters of a head: a linear, layers, a norm without weight that is modulated too, a linear. What
/// modulates them is a product with the activated sum of condition and timestep.
#[derive(Debug, Clone)]
pub struct SampledHead {
    /// `[Z, D]`
    pub input: Tensor<2>,
    /// `[D]`, if the input has one.
    pub input_bias: Option<Tensor<1>>,
    /// In order.
    pub layers: Vec<HeadLayer>,
    /// From the activated condition to the last norm's shift and scale, `[D, 2 D]`.
    pub modulation: Tensor<2>,
    /// `[D, Z]`
    pub output: Tensor<2>,
    /// Epsilon of the last norm.
    pub epsilon: f64,
}

/// One step of a solver: `clean = x * x_to_clean + prediction * prediction_to_clean`, then
/// `x = x * state + clean * this + previous clean * last`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LinearStep {
    /// Factor of the state in the clean estimate.
    pub x_to_clean: f32,
    /// Factor of the prediction in the clean estimate.
    pub prediction_to_clean: f32,
    /// Factor of the state.
    pub state: f32,
    /// Factor of this step's clean estimate.
    pub this: f32,
    /// Factor of the last step's clean estimate.
    pub last: f32,
}

/// Numbers that the head's products multiply. Their sums, and all else, are float32.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HeadPrecision {
    /// float32.
    F32,
    /// Weights and what they are multiplied with, rounded to bfloat16.
    Bf16,
}

/// Whether [`sample_head`] can use bfloat16: on a CPU with AVX-512 BF16.
pub fn has_bf16_head() -> bool {
    #[cfg(feature = "cpu")]
    return crate::cpu::has_bf16_products();
    #[cfg(not(feature = "cpu"))]
    false
}

/// What is sampled, and how.
#[derive(Debug, Clone)]
pub struct HeadRun {
    /// Where `N` latents begin, `[N, Z]`.
    pub noise: Tensor<2>,
    /// Their conditions, `[N, D]`; with guidance, the null conditions behind them, `[2 N, D]`.
    pub condition: Tensor<2>,
    /// What is added to the conditions at each step, `[S, D]`.
    pub timesteps: Tensor<2>,
    /// The solver's `S` steps.
    pub steps: Vec<LinearStep>,
    /// Scale of guidance, if there is any: a prediction is `null + scale * (cond - null)`.
    pub guidance: Option<f64>,
    /// What products multiply.
    pub precision: HeadPrecision,
}

/// Takes all steps of a solver at once. Nothing where there is no kernel for it, or where a gradient
/// could be asked: the caller then goes step by step, which gives the same.
///
/// # Shapes
/// - returns: `[N, Z]`
///
/// # Panics
/// If sizes do not fit.
pub fn sample_head(head: &SampledHead, run: &HeadRun) -> Option<Tensor<2>> {
    #[cfg(feature = "cpu")]
    return crate::cpu::sample_head(head, run);
    #[cfg(not(feature = "cpu"))]
    {
        let _ = (head, run);
        None
    }
}
