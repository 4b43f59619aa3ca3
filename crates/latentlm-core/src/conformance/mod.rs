//! Suites of tests for implementations of the contracts, including those of a fork. An implementing crate
//! needs ten lines in its `tests/conformance.rs`. Each function panics if the contract is broken, and shows
//! both values.
//!
//! ```text
//! use latentlm_core::conformance::{backbone, module, seeded};
//!
//! let device = Device::flex(); // the CPU: Burn's feature `flex`
//! let tiny = |seed| seeded(seed, &device, |device| BackboneConfig::tiny().init(device));
//! backbone::check(&tiny(1), &device);
//! module::save_load_is_bit_equal(&tiny(1), || tiny(2));
//! ```
//!
//! Weights come from [`seeded`], so that they are the same in each run of a test.

pub mod backbone;
pub mod codec;
pub mod head;
pub mod module;
pub mod power_cut;
mod stir;
mod weights;

use burn::tensor::Tensor;

pub use stir::Stir;
pub use weights::seeded;

/// The largest absolute difference of two tensors, divided by `max(1, max|b|)`.
pub fn largest_error<const D: usize>(a: Tensor<D>, b: Tensor<D>) -> f64 {
    assert_eq!(a.dims(), b.dims(), "shapes differ");
    let scale = b.clone().abs().max().into_scalar::<f32>().max(1.0);
    let error = (a - b).abs().max().into_scalar::<f32>();
    f64::from(error / scale)
}

/// Panics if two tensors differ by more than `bound` (see [`largest_error`]), or are not finite.
pub fn assert_close<const D: usize>(what: &str, a: Tensor<D>, b: Tensor<D>, bound: f64) {
    let error = largest_error(a, b);
    assert!(
        error <= bound,
        "{what}: error {error:e} over the bound {bound:e}"
    );
}
