//! `cargo xtask check-devices`: do the paths to other devices still type-check?

use std::process::{Command, ExitCode};

use anyhow::Result;

use crate::cargo::{cargo, succeed};

/// Type-check the binary for wgpu, vulkan and cuda. Needs no GPU.
#[derive(clap::Args)]
#[command(after_help = "Example: cargo xtask check-devices")]
pub struct Args {}

impl Args {
    /// Checks the devices.
    pub fn run(self) -> Result<ExitCode> {
        succeed(&mut check())?;
        println!("wgpu, vulkan and cuda type-check");
        Ok(ExitCode::SUCCESS)
    }
}

/// The check of `--device wgpu`, `vulkan` and `cuda`, all in one pass.
///
/// In Burn 0.22.1 the feature `cuda` depends on `tracel-llvm-bundler`, whose build script downloads
/// a bundle of LLVM from outside the package registry. Where there is no open network it fails, and
/// with it everything that depends on it. The script leaves early when it finds `DOCS_RS` in its
/// environment, as on docs.rs. What it would have built is missed only by the linker: with the
/// variable set the path can be type-checked, but a binary can't be linked. So it is set here, and
/// never for `cargo xtask train-image --device cuda`, which on an open network just builds.
pub fn check() -> Command {
    let mut command = cargo();
    command.args([
        "check",
        "--package",
        "latentlm-cli",
        "--features",
        "vulkan,cuda",
    ]);
    command.env("DOCS_RS", "1");
    command
}
