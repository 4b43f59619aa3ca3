//! Dialogues: `speak --model`.

use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};

use crate::number::{positive, whole};
use crate::{ArgsError, CacheType, Project, WeightNumbers};

/// Arguments of `speak` for a dialogue of a published model.
#[derive(Debug, Args)]
pub struct Dialogue {
    /// Published model, instead of a run: its folder, or a GGUF file of vibevoice.cpp. VibeVoice speaks a --script,
    /// VibeVoice-Realtime a text
    #[arg(
        long,
        value_name = "FOLDER",
        group = "voice_owner",
        conflicts_with_all = ["run", "each", "noise_temperature"]
    )]
    pub model: Option<PathBuf>,
    /// Dialogue: lines `Speaker 1: words`, a JSON list of speaker and text, or plain text
    #[arg(long, value_name = "FILE", requires = "model", conflicts_with_all = ["text", "file"])]
    pub script: Option<PathBuf>,
    /// The model's tokenizer.json or tokenizer.gguf; by default the one in its folder, or beside its file
    #[arg(long, value_name = "FILE", requires = "model")]
    pub tokenizer: Option<PathBuf>,
    /// Weights in memory, by default as the files have them: fewer bits take less memory and time. On another device
    /// than the CPU they are f32
    #[arg(long, value_enum, requires = "model", conflicts_with = "precision")]
    pub weights: Option<WeightNumbers>,
    /// Numbers of the KV cache, f32 by default: smaller ones take less memory and time in long dialogues. On another
    /// device than the CPU they are f32
    #[arg(long, value_enum, requires = "model")]
    pub kv_cache: Option<CacheType>,
    /// Solver of the latents: dpm, or sde, which adds noise on the way as the original's web demos do; by
    /// default dpm
    #[arg(long, value_enum, requires = "model")]
    pub sampler: Option<DialogueSampler>,
    /// Seconds after which speech is cut
    #[arg(long, value_name = "SECONDS", requires = "model", value_parser = positive)]
    pub max_seconds: Option<f64>,
    /// Number of frames to speak, even if the model would end earlier or later: to compare times
    #[arg(long, value_name = "COUNT", requires = "model", value_parser = whole(1..=1_000_000))]
    pub frames: Option<usize>,
    /// Keeps typographic quotes, which the model was hardly trained on
    #[arg(long, requires = "model")]
    pub keep_characters: bool,
}

/// Solver of the latents of a dialogue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum DialogueSampler {
    /// DPM-Solver++ 2M
    Dpm,
    /// SDE-DPM-Solver++ 2M, which adds noise at each step
    Sde,
}

impl Dialogue {
    /// Checks the files that a dialogue needs.
    pub(crate) fn check(
        &self,
        model: &Path,
        voices: &[PathBuf],
        project: &Project,
    ) -> Result<(), ArgsError> {
        project.find("read", model)?;
        for file in self.script.iter().chain(&self.tokenizer) {
            project.find_file(file)?;
        }
        for voice in voices {
            project.find_file(numbered_voice(voice).1)?;
        }
        Ok(())
    }
}

/// The speaker's number, if there is one, and the file of a voice: `2=ben.wav`.
pub fn numbered_voice(voice: &Path) -> (Option<u32>, &Path) {
    let numbered = voice.to_str().and_then(|voice| {
        let (number, file) = voice.split_once('=')?;
        Some((number.trim().parse().ok()?, Path::new(file)))
    });
    match numbered {
        Some((number, file)) => (Some(number), file),
        None => (None, voice),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_voice_may_have_a_number() {
        for (voice, number, file) in [
            ("ben.wav", None, "ben.wav"),
            ("12=a/ben.wav", Some(12), "a/ben.wav"),
            ("0=b=c.wav", Some(0), "b=c.wav"),
            ("b=1.wav", None, "b=1.wav"),
        ] {
            let expected = (number, Path::new(file));
            assert_eq!(numbered_voice(Path::new(voice)), expected);
        }
    }
}
