//! What a dialogue is asked for, and what comes of it step by step.

use burn::tensor::Tensor;
use latentlm_core::{RandomStream, SampleOptions};

use super::prompt::VibeVoicePrompt;
use super::rules::Rules;

/// The tokens that the model may choose at each step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SpeechToken {
    /// Speech begins.
    Start,
    /// Speech stops.
    Stop,
    /// Another latent.
    Audio,
    /// All is said.
    End,
}

impl SpeechToken {
    /// All, in the order of scores.
    pub const ALL: [Self; 4] = [Self::Start, Self::Stop, Self::Audio, Self::End];
}

/// Why a script is spoken no further.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// The model has ended it.
    Spoken,
    /// All tokens that were asked for are there ([`VibeVoiceStream::force`](crate::VibeVoiceStream::force)).
    Forced,
    /// The limit on frames was reached, or there is no more noise for them.
    Frames,
    /// The limit on steps was reached.
    Steps,
    /// The limit on positions was reached.
    Positions,
    /// The model's numbers are not finite: its weights are damaged.
    NotFinite,
}

/// A script that can't be spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SpeakError {
    /// A prompt that leaves no room.
    #[error(
        "script and voices take {positions} positions, the model reads {most}: shorten the script or \
         the voices"
    )]
    TooLong {
        /// Positions of the prompt.
        positions: usize,
        /// The limit.
        most: usize,
    },
}

/// How scripts are spoken.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SpeakOptions {
    /// Which published implementation is followed.
    pub rules: Rules,
    /// How latents are drawn; the guidance is also that of tokens, where the rules have it.
    pub sample: SampleOptions,
    /// Latents of a script at most.
    pub max_frames: usize,
    /// Tokens that are chosen for a script at most.
    pub max_steps: usize,
    /// Positions of a KV cache at most: it grows as speech goes on, and bounds memory.
    pub max_positions: usize,
}

impl Default for SpeakOptions {
    /// As the original repository speaks: guidance 1.3, 10 solver steps, the 65,536 positions of 1.5B.
    fn default() -> Self {
        Self {
            rules: Rules::ORIGINAL,
            sample: SampleOptions {
                steps: 10,
                guidance_scale: 1.3,
                ..SampleOptions::default()
            },
            max_frames: usize::MAX,
            max_steps: usize::MAX,
            max_positions: 65_536,
        }
    }
}

/// Standard normal numbers that latents begin as.
#[derive(Debug)]
#[allow(clippy::large_enum_variant)] // One a script: nothing to save.
pub enum FrameNoise {
    /// `[F, Z]`: that of `F` latents, after which a script is cut.
    Given(Tensor<2>),
    /// Drawn as latents come.
    Drawn(RandomStream),
}

/// A script to be spoken.
#[derive(Debug)]
pub struct SpeakRequest {
    /// The script and the places of its voices.
    pub prompt: VibeVoicePrompt,
    /// The voices' latents, `[K, Z]`, as [`VibeVoice::encode_voices`](crate::VibeVoice::encode_voices) gives
    /// them; `None` without voices.
    pub voices: Option<Tensor<2>>,
    /// Noise of the script's latents.
    pub noise: FrameNoise,
}

/// A token that was chosen for a script, with what came of it.
#[derive(Debug, Clone)]
pub struct SpokenStep {
    /// Index of the script.
    pub script: usize,
    /// The chosen token.
    pub token: SpeechToken,
    /// Last hidden state, `[1, D]`, which the head is conditioned on.
    pub hidden: Tensor<2>,
    /// Last hidden state without condition, `[1, D]`. It is part of its sequence only where the token is `audio`.
    pub null_hidden: Tensor<2>,
    /// Last hidden state after the tokens alone, `[1, D]`, where the rules guide tokens.
    pub token_hidden: Option<Tensor<2>>,
    /// The latent and its sound, where the token is `audio`.
    pub frame: Option<SpokenFrame>,
}

/// A latent and its sound.
#[derive(Debug, Clone)]
pub struct SpokenFrame {
    /// The latent as the head draws it, whitened, `[1, Z]`.
    pub latents: Tensor<2>,
    /// The latent as the decoder reads it, `[1, Z]`.
    pub decoder_latents: Tensor<2>,
    /// Samples, `[1, H]`.
    pub sound: Tensor<2>,
    /// Output of the semantic encoder for these samples, `[1, Y]`.
    pub semantic: Tensor<2>,
    /// Embedding that the model reads next, `[1, D]`.
    pub embedded: Tensor<2>,
}
