//! Matrix products on a CPU, on slices of numbers: this crate knows no tensors. float32 matrices of any strides
//! ([`Matrix`]), or laid out for many products ([`Panels`]); bfloat16 weights as a model's file stores them
//! ([`Stored`]), or float32 weights rounded to bfloat16 ([`Rounded`]). A few rows with a large matrix have a way of their
//! own ([`few_rows`]). Sums are float32 everywhere.
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

mod blocks;
pub mod few_rows;
mod matrix;
mod panels;
mod rounded;
mod stored;

pub use matrix::{Matrix, Output, add_product, product, product_into, product_over};
pub use panels::Panels;
pub use rounded::{Rounded, available as has_bf16_products};
pub use stored::Stored;
