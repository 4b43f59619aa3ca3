//! Keys of recipes that this crate declares, in `keys.toml`.

use latentlm_core::PartKeys;

/// Keys of the backbone's share of the table `lm`.
pub static KEYS: PartKeys = PartKeys::new(include_str!("../keys.toml"));
