//! The sampling loop of a diffusion head, fused into one operation.

use burn::tensor::Tensor;

use crate::sampled_head::{HeadRun, SampledHead};

/// Whether [`sample_head`] supports bfloat16 here: it needs a CPU with AVX-512 BF16.
pub fn has_bf16_head() -> bool {
    #[cfg(feature = "cpu")]
    return latentlm_products::has_bf16_products();
    #[cfg(not(feature = "cpu"))]
    false
}

/// Runs all solver steps in one operation. `None` if there is no kernel for the device and precision, or if
/// a tensor lies on an autodiff device: the caller then runs the steps one by one, with the same result.
///
/// # Shapes
/// - returns: `[N, Z]`
///
/// # Panics
/// If the sizes of conditions or timesteps do not match the latents and steps.
pub fn sample_head(head: &SampledHead, run: &HeadRun) -> Option<Tensor<2>> {
    #[cfg(feature = "cpu")]
    return crate::cpu::sample_head(head, run);
    #[cfg(not(feature = "cpu"))]
    {
        let _ = (head, run);
        None
    }
}
