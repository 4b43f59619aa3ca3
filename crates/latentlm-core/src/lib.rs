//! Contracts of LatentLM: traits of codecs, backbones and heads, the types that crates exchange,
//! checkpoint bundles, and suites of tests for implementations. There are no layers here.
//!
//! The crate is the hub of the workspace. A codec, backbone, head or adapter is a spoke: it depends
//! on this crate and on Burn, never on another spoke. To replace one, implement its traits, export
//! the types under these names, and run the matching suite of `conformance`:
//!
//! | crate | names |
//! |---|---|
//! | a codec | `Codec` ([`LatentCodec`]), `CodecConfig` ([`LatentCodecConfig`]), `CodecLossConfig` ([`CodecObjectiveConfig`]), `CodecError` ([`PartConfig::Error`] of both) |
//! | a backbone | `Backbone` ([`CausalBackbone`]), `BackboneConfig` ([`CausalBackboneConfig`]), `BackboneError` (its error) |
//! | a head | `Head` ([`LatentHead`]), `HeadConfig` ([`LatentHeadConfig`]), `HeadError` (its error) |
//!
//! Codecs are bound by their traits: trainer and pipelines are generic over them. So are models over a backbone and a
//! head, but not over [`CausalBackboneConfig`] and [`LatentHeadConfig`]: the crate `latentlm` calls their methods on
//! the types with these names. There the names and the suites of `conformance` bind.
//!
//! A part declares the keys of its recipe tables in the file `keys.toml` of its folder ([`PartKeys`]). The crate
//! of a backbone or head exports them as `KEYS`.
//!
//! ```
//! use burn::tensor::{Device, Tensor};
//! use latentlm_core::{NoiseScale, Posterior, RandomStream};
//!
//! let device = Device::flex(); // the CPU: Burn's feature `flex`
//! let mut random = RandomStream::new(1);
//! // What an encoder returns: a mean, and noise whose scale is drawn and not learned (paper §2.3).
//! let posterior = Posterior {
//!     mean: Tensor::<3>::zeros([2, 16, 8], &device),
//!     noise: NoiseScale::PerSample { std: 0.5 },
//! };
//! let scale = random.normal([2], &device);
//! let noise = random.normal([2, 16, 8], &device);
//! let latents = posterior.sample(scale, noise); // [2, 16, 8]
//! assert_eq!(latents.dims(), posterior.mode().dims());
//! ```
//!
//! # Letters in shapes
//!
//! `B` batch, `T` positions (frames), `D` model width, `C` channels, `Z` latent dimension,
//! `H x W` grid or picture, `N` rows of a flattened `[B*T]`, `K` draws of noise for each position.

mod adversarial;
mod backbone;
pub mod bounds;
pub mod bundle;
mod codec;
#[cfg(feature = "conformance")]
pub mod conformance;
pub mod disk;
mod finite;
mod head;
mod objective;
pub mod ops;
mod order;
mod param_ids;
mod part;
mod random;
pub mod sequence;
mod sphere;
pub mod stream;

pub use adversarial::{
    CodecDiscriminator, NoDiscriminator, OutputLayers, PatchLossConfig, PatchSizes, Verdict,
    adaptive_weight, check_weights, hinge_loss, mean_loss, pixel_loss,
};
pub use backbone::{BackboneSizes, CausalBackbone, CausalBackboneConfig};
pub use codec::{
    LatentCodec, LatentCodecConfig, LatentNoise, LatentQuantizer, LatentSpec, NoiseScale,
    PictureSpec, Posterior, SignalLayout, SoundSpec, StreamingCodec, VideoSpec,
};
pub use finite::is_finite;
pub use head::{
    BetaSchedule, DiffusionDraws, DistilledGuidance, FallingSteps, FewStep, HeadMethod, HeadSizes,
    LatentHead, LatentHeadConfig, Precision, Prediction, Process, SampleOptions, Sampler,
    TimeSampling,
};
pub use objective::{CodecObjective, CodecObjectiveConfig, Loss, ObjectiveOutput};
pub use order::{BatchOrder, PackOrder};
pub use param_ids::number_parameters;
pub use part::{PartConfig, PartKeys};
pub use random::RandomStream;
pub use sphere::on_sphere;
