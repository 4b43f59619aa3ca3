//! `list-adapters`: what `cargo xtask test --device` can run on.

use anyhow::Result;
use clap::Args;

use crate::device::adapters;

/// Prints a line for each adapter of a kind; nothing where there is none
#[derive(Args)]
#[command(after_help = "Example:\n  cargo xtask test --device wgpu")]
pub struct ListAdapters {
    /// cpu, wgpu, vulkan or cuda
    kind: String,
}

impl ListAdapters {
    pub fn run(self) -> Result<()> {
        for name in adapters(&self.kind)? {
            println!("{name}");
        }
        Ok(())
    }
}
