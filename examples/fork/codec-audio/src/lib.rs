//! A speech codec that is not LatentLM's: a lapped sine transform with learned gains. It streams, and has
//! no delay.
//!
//! Sound is cut into hops of `N` samples. The end of one hop, mirrored and faded out, is subtracted from
//! the beginning of the next, so that each hop begins near zero wherever sound flows on. That is what a
//! sine transform (DST-IV) is good at: few coefficients describe such a hop. The decoder adds what it made
//! of the hop before, so that hops join without a click. What is subtracted is known to both sides, so the
//! way back is exact, and nothing waits for what comes later.
//!
//! The names at the end are the role's: what LatentLM imports of a speech codec.
//!
//! Letters in shapes: `B` batch, `T` hops, `N` samples a hop, `L` samples that overlap, `Z` coefficients.

mod codec;
mod config;
mod loss;
mod transform;

use latentlm_core::PartKeys;

pub use codec::{DecoderState, EncoderState, LappedSine};
pub use config::{CodecError, LappedSineConfig};
pub use loss::{WaveError, WaveErrorConfig};

pub use LappedSine as Codec;
pub use LappedSineConfig as CodecConfig;
pub use WaveErrorConfig as CodecLossConfig;

/// Keys of the tables `[codec]` and `[codec_loss]`, as the file `keys.toml` declares them.
pub static KEYS: PartKeys = PartKeys::new(include_str!("../keys.toml"));
