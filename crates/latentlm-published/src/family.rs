//! The models of the family, the formats that they are published in, and what a folder or file says of one.

use std::fmt::{self, Display, Formatter};
use std::path::PathBuf;

use serde_json::Value;

/// A model of the family.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Member {
    /// 1.5B and 7B: says a dialogue with the voices of recordings.
    Speech,
    /// Realtime-0.5B: speaks while its text arrives, with a saved voice.
    Realtime,
    /// ASR-7B: writes down what it hears.
    Recognition,
}

impl Display for Member {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Speech => "VibeVoice, which speaks with the voices of recordings",
            Self::Realtime => "VibeVoice-Realtime, which speaks with saved voices",
            Self::Recognition => "VibeVoice-ASR, which recognizes speech",
        })
    }
}

/// Format of a folder's names and configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    /// The repository that the models were published with.
    Original,
    /// `transformers`, since version 5.
    Transformers,
}

/// A published folder, by its `config.json`, or a GGUF file, by its metadata.
#[derive(Debug, Clone)]
pub struct Published {
    /// The model.
    pub member: Member,
    /// The format.
    pub dialect: Dialect,
    /// The configuration, without what it says of quantized weights.
    pub(crate) config: Value,
    /// Whether weights are quantized, in a way that this crate reads.
    pub(crate) quantized: bool,
    /// The `config.json`, or the GGUF file.
    pub(crate) path: PathBuf,
}
