//! Convolutions and losses of spectra on a CPU, with their gradients, on slices of numbers: this crate knows no tensors.
//! Convolutions of pictures by unfolding or by minimal filtering ([`Conv2d`], [`Winograd`]), causal ones of signals, dense,
//! channel by channel, or within a whole residual layer ([`CausalConv`], [`Depthwise`], [`ConvLayer`]): most of what they do is
//! products of matrices. Losses of spectra go from samples to both losses of a resolution in the cache ([`spectral`]).

mod causal;
mod depthwise;
mod filtering;
mod fourier;
mod layer;
mod layer_gradient;
mod pictures;
mod signals;
pub mod spectral;
mod winograd;

pub use causal::{CausalConv, CausalGradients, CausalWanted, TapOrder};
pub use depthwise::Depthwise;
pub use layer::{ConvLayer, LayerFound, LayerVectors};
pub use layer_gradient::{LayerGradients, LayerKept};
pub use pictures::{Conv2d, ConvGradients, Wanted, Window};
pub use signals::Signals;
pub use winograd::Winograd;
