//! The causal Transformer of LatentLM: pre-norm, rotary attention with grouped key/value heads,
//! SwiGLU, and a KV cache that is allocated once.
//!
//! One type covers the published variants by configuration: the official image models (norms
//! without weight, interleaved rotary pairs, a condition layer at the end) and Qwen2 as VibeVoice
//! uses it (norms with weight, biased qkv, half-split pairs).
//!
//! ```
//! use burn::tensor::{Device, Tensor};
//! use latentlm_backbone::TransformerConfig;
//! use latentlm_core::{CausalBackbone, CausalBackboneConfig};
//!
//! let device = Device::flex(); // the CPU: Burn's feature `flex`
//! let backbone = TransformerConfig::new(64, 2, 4).with_kv_heads(2).init(&device);
//! let x = Tensor::<3>::zeros([1, 5, 64], &device);
//! let whole = backbone.forward(x.clone());
//! let mut kv_cache = backbone.init_state(1, 5, &device);
//! let first = backbone.step(x.narrow(1, 0, 1), &mut kv_cache);
//! assert!(first.all_close(whole.narrow(1, 0, 1), None, Some(1e-5)));
//! ```
//!
//! Letters in shapes: `B` batch, `T` positions, `S` positions seen so far, `D` width, `H` query
//! heads, `G` key/value heads, `E` width of a head.

mod attention;
mod cache;
mod config;
mod keys;
mod mlp;
mod norm;
mod rope;
mod transformer;

pub use attention::Attention;
pub use cache::KvCache;
pub use config::{BackboneError, TransformerConfig};
pub use keys::KEYS;
pub use latentlm_kernels::CacheNumbers;
pub use mlp::Mlp;
pub use norm::RmsNorm;
pub use rope::{Rope, RopeLayout};
pub use transformer::{Block, Transformer};

pub use Transformer as Backbone;
pub use TransformerConfig as BackboneConfig;
