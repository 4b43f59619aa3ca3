//! A head that is not LatentLM's: it says mean and variance of the next latent and draws it from that
//! Gaussian. One evaluation a latent, where a diffusion head takes as many as its solver has steps; but no
//! number of a latent knows what the others came out as.
//!
//! The names at the end are the role's: what LatentLM imports of a head, besides [`HeadError`].
//!
//! Letters in shapes: `N` rows (batch times positions), `Z` numbers a latent, `D` width of the condition.

mod config;
mod gaussian;

use latentlm_core::PartKeys;

pub use config::{GaussianHeadConfig, HeadError};
pub use gaussian::GaussianHead;

pub use GaussianHead as Head;
pub use GaussianHeadConfig as HeadConfig;

/// The part's keys of a recipe, as the file `keys.toml` declares them.
pub static KEYS: PartKeys = PartKeys::new(include_str!("../keys.toml"));
