//! `make-model`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use crate::{ArgsError, Project};

/// Makes a folder of a published model's sizes with random weights, to try out time and memory
///
/// It speaks noise, but takes the time and memory of the published model. The weights are drawn and written tensor by
/// tensor. The folder has the format of the original repository, and 1.5B and 7B also that of transformers.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    cargo xtask make-model vibevoice-1.5b --out random-1.5b\n  \
    cargo xtask make-model vibevoice-realtime --out random-realtime --dtype f32\n  \
    cargo xtask speak --model random-1.5b --tokenizer tokenizer.json --script dialogue.txt --frames 20 --out noise.wav")]
pub struct MakeModel {
    /// The model
    #[arg(value_enum)]
    pub model: PublishedModel,
    /// Folder to make; it must not exist
    #[arg(long, value_name = "FOLDER")]
    pub out: PathBuf,
    /// Numbers in the files
    #[arg(long, value_enum, default_value = "bf16")]
    pub dtype: StoredNumbers,
    /// Writes names and configuration of transformers, which vibevoice-1.5b and vibevoice-7b have
    #[arg(long)]
    pub transformers: bool,
    /// Random seed; the same seed gives the same weights
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
}

/// A published model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum PublishedModel {
    /// VibeVoice-1.5B, 2.7 billion parameters with its codecs
    #[value(name = "vibevoice-1.5b", alias = "1.5b")]
    Speech1_5B,
    /// VibeVoice-7B, 9.3 billion
    #[value(name = "vibevoice-7b", alias = "7b")]
    Speech7B,
    /// VibeVoice-Realtime-0.5B, 0.9 billion
    #[value(name = "vibevoice-realtime", alias = "realtime")]
    Realtime,
    /// VibeVoice-ASR-7B, 8.7 billion
    #[value(name = "vibevoice-asr", alias = "asr")]
    Recognition,
}

/// How numbers are stored in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum StoredNumbers {
    /// 32 bits
    F32,
    /// bfloat16
    Bf16,
    /// 16 bits, IEEE
    F16,
}

impl MakeModel {
    pub(crate) fn check(&self, project: &Project) -> Result<(), ArgsError> {
        let speaks = matches!(
            self.model,
            PublishedModel::Speech1_5B | PublishedModel::Speech7B
        );
        if self.transformers && !speaks {
            return Err(ArgsError::NoTransformers);
        }
        project.find_new_folder(&self.out)
    }
}
