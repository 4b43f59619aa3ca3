//! `codec`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use crate::endings::{check_latents, check_sound};
use crate::{ArgsError, DeviceName, Project};

/// Encodes sound to latents and decodes latents, with the codec of a trained run
#[derive(Debug, Subcommand)]
#[command(after_help = "Examples:\n  \
    cargo xtask codec encode --run voice hello.wav hello.safetensors\n  \
    cargo xtask codec decode --run voice hello.safetensors again.wav\n  \
    cargo xtask codec reconstruct --run voice hello.wav again.wav")]
pub enum Codec {
    /// Encodes a sound file and writes its latents as a tensor `latents`, `[1, T, Z]`; with a codec of codebooks its
    /// codes as a tensor `codes`, `[1, T, Q]`
    Encode(CodecFiles),
    /// Decodes latents or codes and writes the sound
    Decode(CodecFiles),
    /// Encodes and decodes a sound file, and measures the difference
    Reconstruct(CodecFiles),
}

/// Input file, codec and output file.
#[derive(Debug, Args)]
pub struct CodecFiles {
    /// Name of the run, a folder under runs/
    #[arg(long, default_value = "voice")]
    pub run: String,
    /// cpu, wgpu, vulkan or cuda; wgpu:N is the N-th
    #[arg(long, default_value = "cpu")]
    pub device: String,
    /// File to read
    pub input: PathBuf,
    /// File to write: .safetensors for latents or codes, .wav for sound
    pub output: PathBuf,
}

impl Codec {
    /// The files of any of the commands.
    pub fn files(&self) -> &CodecFiles {
        match self {
            Self::Encode(files) | Self::Decode(files) | Self::Reconstruct(files) => files,
        }
    }

    pub(crate) fn check(&self, project: &Project) -> Result<(), ArgsError> {
        let files = self.files();
        DeviceName::parse(&files.device)?;
        project.find_run(&files.run, "train-tts")?;
        project.find_file(&files.input)?;
        match self {
            Self::Encode(_) => check_latents(&files.output, project),
            Self::Decode(_) | Self::Reconstruct(_) => check_sound(&files.output, project),
        }
    }
}
