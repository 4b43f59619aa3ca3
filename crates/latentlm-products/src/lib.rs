//! Matrix products on a CPU, on slices of numbers: this crate knows no tensors. float32 matrices of any strides
//! ([`Matrix`]), or laid out for many products ([`Panels`]); bfloat16 weights as a model's file stores them
//! ([`Stored`]), float32 weights rounded to bfloat16 ([`Rounded`]), or weights of 8 or 4 bits ([`Quantized`]). Two
//! float32 matrices may both be rounded on the way, as training in bfloat16 does ([`Precision`]). Products of bfloat16
//! numbers use a processor's matrix instructions (AMX), or AVX-512 BF16, or float32. A few rows with a large matrix
//! have a way of their own ([`few_rows`]), and so has attention over a KV cache ([`cached`]) and in short documents
//! ([`short`]). Sums are float32 everywhere, of [`Quantized`] those of groups. What kernels share beside products is
//! here too: elementwise functions ([`math`]), rotary position embedding ([`rotary`]), loops over rows on all threads
//! ([`tasks`]), and what a feed-forward block computes between its products ([`swiglu`]).
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

#[cfg(target_arch = "x86_64")]
mod amx;
mod bits;
mod blocks;
pub mod cached;
mod factor;
pub mod few_rows;
#[cfg(target_arch = "x86_64")]
mod integers;
#[cfg(target_arch = "x86_64")]
mod layout;
pub mod math;
mod matrix;
mod mixed;
mod panels;
mod processor;
mod quantized;
pub mod rotary;
mod rounded;
mod rows;
pub mod short;
mod stored;
pub mod swiglu;
pub mod tasks;
#[cfg(target_arch = "x86_64")]
mod window;

pub use bits::Bits;
pub use factor::{Factor, instructions};
pub use matrix::{Matrix, Output, add_product, product, product_into, product_over};
pub use mixed::Precision;
pub use panels::Panels;
pub use processor::has_bf16_products;
pub use quantized::Quantized;
pub use rounded::{Rounded, RoundedScratch};
pub use stored::Stored;
