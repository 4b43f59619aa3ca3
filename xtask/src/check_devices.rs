//! `cargo xtask check-devices`: type-checks the binary for GPU devices.

use std::process::{Command, ExitCode};

use anyhow::Result;
use latentlm_args::say;

use crate::build::skip_llvm;
use crate::cargo::{cargo, succeed};

/// Type-check the binary for wgpu, vulkan and cuda, also with kernels compiled by NVRTC. Needs no GPU.
#[derive(clap::Args)]
#[command(after_help = "Example: cargo xtask check-devices")]
pub struct Args {}

impl Args {
    /// Checks the devices.
    pub fn run(self) -> Result<ExitCode> {
        succeed(&mut check())?;
        say!("wgpu, vulkan, cuda and nvrtc type-check");
        Ok(ExitCode::SUCCESS)
    }
}

/// The check of `--device wgpu`, `vulkan` and `cuda`, and of `--without-llvm`, all in one pass.
///
/// It needs neither LLVM nor CUDA ([`skip_llvm`]), because only linking needs them. `cargo xtask train-image
/// --device cuda` downloads LLVM, `cargo xtask build --without-llvm` works without it.
pub fn check() -> Command {
    let mut command = cargo();
    command.args([
        "check",
        "--package",
        "latentlm-cli",
        "--features",
        "vulkan,cuda,nvrtc",
    ]);
    skip_llvm(&mut command);
    command
}
