//! Recognition of speech: `transcribe`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use crate::{ArgsError, CacheType, DeviceName, HeadNumbers, Project, WeightNumbers};

/// Writes down what is said in a recording, with a published model (VibeVoice-ASR)
///
/// Segments have a start and an end in seconds, a speaker and a text; they are printed as they come.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    cargo xtask transcribe --model VibeVoice-ASR-7B --audio talk.wav\n  \
    cargo xtask transcribe --model VibeVoice-ASR-7B --audio talk.wav --context \"Anna, Ben\" --format srt")]
pub struct Transcribe {
    /// Folder of the model, or its GGUF file as vibevoice.cpp writes it
    #[arg(long, value_name = "FOLDER")]
    pub model: PathBuf,
    /// Recording
    #[arg(long, value_name = "FILE")]
    pub audio: PathBuf,
    /// Names and words that may occur in it
    #[arg(long, value_name = "TEXT")]
    pub context: Option<String>,
    /// The model's tokenizer.json or tokenizer.gguf; by default the one in its folder, or beside its file
    #[arg(long, value_name = "FILE")]
    pub tokenizer: Option<PathBuf>,
    /// Random seed of the noise in the latents of the recording; drawn and printed if absent
    #[arg(long)]
    pub seed: Option<u64>,
    /// Form of the transcript
    #[arg(long, value_enum, default_value = "text")]
    pub format: Transcript,
    /// Weights in memory, by default as the files have them: fewer bits take less memory and time. On another device
    /// than the CPU they are f32
    #[arg(long, value_enum, conflicts_with = "precision")]
    pub weights: Option<WeightNumbers>,
    /// Numbers of the KV cache, f32 by default: smaller ones take less memory and time in long recordings. On another
    /// device than the CPU they are f32
    #[arg(long, value_enum)]
    pub kv_cache: Option<CacheType>,
    /// The older name of --weights, for f32 and bf16
    #[arg(long, value_enum)]
    pub precision: Option<HeadNumbers>,
    /// cpu, wgpu, vulkan or cuda; wgpu:N is the N-th
    #[arg(long, default_value = "cpu")]
    pub device: String,
}

/// Form of a transcript.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Transcript {
    /// A line for each segment
    Text,
    /// A list of objects with start, end, speaker and text
    Json,
    /// Subtitles (SubRip)
    Srt,
}

impl Transcribe {
    pub(crate) fn check(&self, project: &Project) -> Result<(), ArgsError> {
        DeviceName::parse(&self.device)?;
        project.find("read", &self.model)?;
        project.find_file(&self.audio)?;
        match &self.tokenizer {
            Some(tokenizer) => project.find_file(tokenizer),
            None => Ok(()),
        }
    }
}
