//! `convert-voice`.

use std::path::PathBuf;

use clap::Args;

use crate::endings::check_voice;
use crate::{ArgsError, Project};

/// Writes a saved voice of VibeVoice-Realtime as safetensors
///
/// A `.pt` file is a pickle, which other programs may run. It is read here without running anything in it.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  cargo xtask convert-voice mike.pt mike.safetensors")]
pub struct ConvertVoice {
    /// Voice as torch.save writes it, or a GGUF file of vibevoice.cpp
    #[arg(value_name = "IN.pt")]
    pub voice: PathBuf,
    /// File to write
    #[arg(value_name = "OUT.safetensors")]
    pub out: PathBuf,
}

impl ConvertVoice {
    pub(crate) fn check(&self, project: &Project) -> Result<(), ArgsError> {
        project.find_file(&self.voice)?;
        check_voice(&self.out, project)
    }
}
