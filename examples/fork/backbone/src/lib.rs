//! A causal backbone that is not LatentLM's: a gated linear recurrence, without attention and without a
//! cache that grows.
//!
//! Each layer keeps one vector of hidden numbers, `h[t] = a[t] * h[t-1] + (1 - a[t]) * v[t]`, element by
//! element. Values `v` and gates `a` are made of the position alone, so the recurrence is linear in `h`: a
//! whole sequence is computed in `log2 T` passes ([`scan()`]), and a step costs the same at any position.
//!
//! The names at the end are the role's: what LatentLM imports of a backbone, besides [`BackboneError`].
//!
//! Letters in shapes: `B` batch, `T` positions, `D` width.

mod config;
mod recurrence;
mod scan;

use latentlm_core::PartKeys;

pub use config::{BackboneError, GatedRecurrenceConfig};
pub use recurrence::{GatedRecurrence, RecurrentState};
pub use scan::scan;

pub use GatedRecurrence as Backbone;
pub use GatedRecurrenceConfig as BackboneConfig;

/// The part's keys of a recipe, as the file `keys.toml` declares them.
pub static KEYS: PartKeys = PartKeys::new(include_str!("../keys.toml"));
