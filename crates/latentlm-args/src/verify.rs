//! `verify-reference`.

use std::path::PathBuf;

use clap::Args;

use crate::{ArgsError, DeviceName, Project, TrainingNumbers};

/// Compares with numbers that the reference implementations computed
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  cargo xtask verify-reference tests/fixtures
  cargo xtask verify-reference path/to/vibevoice-tokenizer --device wgpu
  cargo xtask verify-reference tests/fixtures --precision bf16
  cargo xtask verify-reference --live          makes fresh cases with Python, then compares

--live takes transformers from a virtual environment that it makes below target, or from the Python
that --python PATH names.

A case is a folder whose name begins with transformer, schedule, vibevoice-tokenizer or vibevoice; a
folder of cases is gone through. docs/reference.md tells what a case holds. Exit code 1 if a number
is over its bound.")]
pub struct VerifyReference {
    /// A case, or a folder of cases
    pub folder: PathBuf,
    /// cpu, wgpu, vulkan or cuda; wgpu:N is the N-th; bounds are ten times as wide on a GPU
    #[arg(long, default_value = "cpu")]
    pub device: String,
    /// Numbers of the trained weights; bf16 is for the cases that training computes in it, against
    /// bounds of their own
    #[arg(long, value_enum, default_value = "f32")]
    pub precision: TrainingNumbers,
}

impl VerifyReference {
    pub(crate) fn check(&self, project: &Project) -> Result<(), ArgsError> {
        DeviceName::parse(&self.device)?;
        project.find("read", &self.folder)
    }
}
