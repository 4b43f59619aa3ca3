//! `quantize`, and types of weights.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use crate::{ArgsError, Project};

/// Writes a copy of a published model whose backbone has weights of 8 or 4 bits
///
/// The copy is used like any published model. It takes less memory, and less is read from memory for each position.
/// Head, codecs, norms and tables stay as they are.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    cargo xtask quantize --model VibeVoice-1.5B --weights int8 --out VibeVoice-1.5B-int8\n  \
    cargo xtask speak --model VibeVoice-1.5B-int8 --tokenizer tokenizer.json --script dialogue.txt --out talk.wav")]
pub struct Quantize {
    /// Folder of the model
    #[arg(long, value_name = "FOLDER")]
    pub model: PathBuf,
    /// Weights of the backbone
    #[arg(long, value_enum, default_value = "int8")]
    pub weights: QuantizedNumbers,
    /// Folder to make; it must not exist
    #[arg(long, value_name = "FOLDER")]
    pub out: PathBuf,
}

/// Weights with a scale for each group of 32 numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum QuantizedNumbers {
    /// 8 bits
    Int8,
    /// 4 bits
    Int4,
}

/// Type of a model's weights in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum WeightNumbers {
    /// 32 bits
    F32,
    /// bfloat16
    Bf16,
    /// The backbone in 8 bits, all else in bfloat16
    Int8,
    /// The backbone in 4 bits, all else in bfloat16
    Int4,
}

/// Type of the numbers in a KV cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum CacheType {
    /// 32 bits
    F32,
    /// bfloat16
    Bf16,
    /// 8 bits, with a scale for each head of a position
    Int8,
}

impl Quantize {
    pub(crate) fn check(&self, project: &Project) -> Result<(), ArgsError> {
        project.find("read", &self.model)?;
        project.find_new_folder(&self.out)
    }
}
