//! Keys of recipes that this crate declares, in `keys.toml`.

use latentlm_core::PartKeys;

/// Keys of a video codec and its loss.
pub static KEYS: PartKeys = PartKeys::new(include_str!("../keys.toml"));
