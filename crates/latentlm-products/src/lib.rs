//! Matrix products on a CPU, on slices of numbers: this crate knows no tensors. float32 matrices of any strides
//! ([`Matrix`]), or laid out for many products ([`Panels`]); bfloat16 weights as a model's file stores them
//! ([`Stored`]), float32 weights rounded to bfloat16 ([`Rounded`]), or weights of 8 or 4 bits ([`Quantized`]). Two float32
//! matrices may both be rounded on the way, as training in bfloat16 does ([`Precision`]). A few rows with a large matrix
//! have a way of their own ([`few_rows`]), and so has attention over a KV cache ([`cached`]). Convolutions become such
//! products ([`convolution`]). Sums are float32 everywhere, of [`Quantized`] those of groups. What kernels share beside
//! products is here too: elementwise functions ([`math`]), loops over rows on all threads ([`tasks`]), the transforms of
//! convolutions by minimal filtering ([`filtering`]), what a feed-forward block computes between its products ([`swiglu`]),
//! and losses of spectra ([`spectral`]).
//!
//! ```
//! use latentlm_products::{Matrix, product};
//!
//! let a = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]; // two rows of three numbers
//! let a = Matrix::new(&a, 2, 3);
//! // Its rows with each other; transposing moves no numbers.
//! assert_eq!(product(a, a.transposed()), [14.0, 32.0, 32.0, 77.0]);
//! ```
//!
//! Letters in shapes: `N` rows, `I` inputs, `O` outputs.

mod bits;
mod blocks;
pub mod cached;
pub mod convolution;
mod factor;
pub mod few_rows;
pub mod filtering;
mod fourier;
#[cfg(target_arch = "x86_64")]
mod integers;
pub mod math;
mod matrix;
mod mixed;
mod panels;
mod quantized;
mod rounded;
mod rows;
pub mod spectral;
mod stored;
pub mod swiglu;
pub mod tasks;

pub use bits::Bits;
pub use factor::Factor;
pub use matrix::{Matrix, Output, add_product, product, product_into, product_over};
pub use mixed::Precision;
pub use panels::Panels;
pub use quantized::Quantized;
pub use rounded::{Rounded, RoundedScratch, available as has_bf16_products};
pub use stored::Stored;
