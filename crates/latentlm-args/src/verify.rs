//! `verify-reference`.

use std::path::PathBuf;

use clap::Args;

use crate::{ArgsError, DeviceName, Project, TrainingNumbers, WeightNumbers};

/// Compares our models with results of the reference implementations
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  cargo xtask verify-reference tests/fixtures
  cargo xtask verify-reference path/to/vibevoice-tokenizer --device wgpu
  cargo xtask verify-reference tests/fixtures --precision bf16
  cargo xtask verify-reference path/to/vibevoice-generation --weights int8
  cargo xtask verify-reference --live          makes fresh cases with Python, then compares

--live uses transformers from a virtual environment that it creates below target, or from the Python
that --python PATH names.

A case is a folder whose name begins with transformer, schedule, vibevoice, vibevoice-tokenizer,
vibevoice-generation, vibevoice-original, vibevoice-realtime or vibevoice-asr; of a folder of cases,
all are compared. docs/reference.md describes the files of a case. Exit code 1 if an error is over its
bound.")]
pub struct VerifyReference {
    /// A case, or a folder of cases
    pub folder: PathBuf,
    /// cpu, wgpu, vulkan or cuda; wgpu:N is the N-th; bounds are ten times as wide on a GPU
    #[arg(long, default_value = "cpu")]
    pub device: String,
    /// Precision of the trained weights; bf16 is for models that can be trained in it, and has bounds of its
    /// own
    #[arg(long, value_enum, default_value = "f32")]
    pub precision: TrainingNumbers,
    /// Compares language models of VibeVoice with weights of this type: hidden states and tokens; each position gets
    /// the input that the reference had there
    #[arg(long, value_enum, conflicts_with = "precision")]
    pub weights: Option<WeightNumbers>,
}

impl VerifyReference {
    pub(crate) fn check(&self, project: &Project) -> Result<(), ArgsError> {
        DeviceName::parse(&self.device)?;
        project.find("read", &self.folder)
    }
}
