//! Kernels for Burn's CPU backend, and their place in its autodiff graph.

mod activation;
mod attention;
mod backend;
mod cross_entropy;
mod depthwise;
mod gradient;
mod layer_norm;
mod math;
mod matrix;
mod norm;
mod optimizer;
mod rows;
mod swiglu;

pub(crate) use backend::{CpuKernels, covers, optional};
