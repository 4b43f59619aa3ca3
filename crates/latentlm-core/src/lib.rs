//! Contracts of LatentLM: the traits that spokes implement, the value types that cross crate
//! borders, recipes, checkpoint bundles and the conformance suites. No layers live here.
//!
//! The crate is the hub of the workspace: a codec, backbone, head or adapter depends on it and on
//! Burn, never on another spoke. Whoever replaces one implements its trait here, exports it under
//! the role's name (`Codec`, `CodecConfig`, ...) and runs the matching suite of `conformance`.
//!
//! # Letters in shapes
//!
//! `B` batch, `T` positions (frames), `D` model width, `C` channels, `Z` latent dimension,
//! `H x W` grid or picture, `N` rows of a flattened `[B*T]`, `K` draws of noise a position.

mod adapter;
mod backbone;
pub mod bundle;
mod codec;
#[cfg(feature = "conformance")]
pub mod conformance;
mod head;
pub mod ops;
mod param_ids;
mod random;
pub mod recipe;
pub mod sequence;

pub use adapter::ModalityAdapter;
pub use backbone::CausalBackbone;
pub use codec::{LatentCodec, LatentSpec, NoiseScale, Posterior, SignalLayout, StreamingCodec};
pub use head::{DiffusionDraws, LatentHead, Precision, SampleOptions, Sampler};
pub use param_ids::number_parameters;
pub use random::RandomStream;
