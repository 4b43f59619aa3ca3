//! Convolutions and their gradients: of pictures, by unfolding or by minimal filtering, and causal ones of signals,
//! dense, channel by channel, or within a whole residual layer.

mod causal;
mod depthwise;
mod layer;
mod layer_gradient;
mod pictures;
mod signals;
mod winograd;

pub use causal::{CausalConv, CausalGradients, CausalWanted, TapOrder};
pub use depthwise::Depthwise;
pub use layer::{ConvLayer, LayerFound, LayerVectors};
pub use layer_gradient::{LayerGradients, LayerKept};
pub use pictures::{Conv2d, ConvGradients, Wanted, Window};
pub use signals::Signals;
pub use winograd::Winograd;
