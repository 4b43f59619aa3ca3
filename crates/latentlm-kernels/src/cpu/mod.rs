//! Kernels for Burn's CPU backend, and their nodes in its autodiff graph.

mod activation;
mod attention;
mod backend;
mod conv_layer;
mod conv_steps;
mod cross_entropy;
mod decode;
mod gradient;
mod group_norm;
mod head;
mod inputs;
mod kept_head;
mod layer_norm;
mod norm;
mod optimizer;
mod plain;
mod quantized;
mod sinusoid;
mod spectral;
mod storage;
mod swiglu;
mod weight;

pub(crate) use backend::{BlockTensors, CpuKernels, TrainedTensors, optional};
pub(crate) use conv_layer::conv_layer;
pub(crate) use decode::{CachedInputs, cached_attention, covers_cache};
pub(crate) use head::sample_head;
pub(crate) use kept_head::KeptHead;
pub(crate) use plain::plain;
pub(crate) use quantized::{bits, packed_weight, widened};
pub(crate) use sinusoid::sinusoid;
pub(crate) use spectral::{spectra, spectral_losses};
pub(crate) use swiglu::plain_swiglu_block;
pub(crate) use weight::quantized_linear;
