//! `list-adapters`: what `cargo xtask test --device` can run on.

use anyhow::Result;
use latentlm_args::ListAdapters;

use crate::device::adapters;

/// Prints their names.
pub fn run(args: ListAdapters) -> Result<()> {
    for name in adapters(&args.kind)? {
        println!("{name}");
    }
    Ok(())
}
