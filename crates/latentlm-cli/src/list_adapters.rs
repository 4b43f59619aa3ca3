//! `list-adapters`: the adapters that `cargo xtask test --device` can use.

use anyhow::Result;
use latentlm_args::{ListAdapters, say};

use crate::device::adapters;

/// Prints one name per line.
pub fn run(args: ListAdapters) -> Result<()> {
    for name in adapters(&args.kind)? {
        say!("{name}");
    }
    Ok(())
}
