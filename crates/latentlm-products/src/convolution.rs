//! Convolutions and their gradients: of pictures, by unfolding or by minimal filtering, and causal ones of signals,
//! dense or channel by channel.

mod causal;
mod depthwise;
mod pictures;
mod signals;
mod winograd;

pub use causal::{CausalConv, CausalGradients, CausalWanted, TapOrder};
pub use depthwise::Depthwise;
pub use pictures::{Conv2d, ConvGradients, Wanted, Window};
pub use signals::Signals;
pub use winograd::Winograd;
