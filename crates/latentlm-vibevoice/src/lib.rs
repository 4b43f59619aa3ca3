//! VibeVoice: a [`LatentLm`] of speech with its two codecs, and how it says a dialogue. How its weights are named
//! in published files is in the crate `latentlm-published`.
//!
//! A [`Script`] is parsed (`script`), recordings become latents (`voice`), both together a prompt (`prompt`);
//! [`VibeVoice::speak`] reads that and goes on, step by step (`generate`). The two published implementations
//! differ in places: [`Rules`]. Two more members of the family: [`VibeVoiceRealtime`] speaks while its text arrives
//! (`realtime`), [`VibeVoiceAsr`] recognizes speech (`asr`).
//!
//! ```
//! use std::error::Error;
//!
//! use latentlm::RandomStream;
//! use latentlm_vibevoice::{FrameNoise, Script, SpeakOptions, VibeVoice, VibeVoicePrompt};
//!
//! /// Samples of a script, said with voices that the model makes up. `encode` makes tokens of a text.
//! fn say(
//!     model: &VibeVoice,
//!     script: &Script,
//!     encode: impl FnMut(&str) -> Result<Vec<u32>, Box<dyn Error>>,
//! ) -> Result<Vec<f32>, Box<dyn Error>> {
//!     let prompt = VibeVoicePrompt::new(&script.turns, &[], model.speech_tokens(), encode)?;
//!     let noise = FrameNoise::Drawn(RandomStream::new(0));
//!     let mut stream = model.speak(prompt, None, SpeakOptions::default(), noise)?;
//!     let mut samples = Vec::new();
//!     while let Some(steps) = stream.next_step() {
//!         for frame in steps.into_iter().filter_map(|step| step.frame) {
//!             samples.extend(frame.sound.into_data().try_to_vec::<f32>()?); // [1, H]
//!         }
//!     }
//!     Ok(samples)
//! }
//!
//! # fn main() -> Result<(), Box<dyn Error>> {
//! let script = Script::parse("Speaker 1: Good morning.\nSpeaker 2: Good night.")?;
//! assert_eq!(script.speakers(), [1, 2]);
//! # Ok(())
//! # }
//! ```
//!
//! Letters in shapes: `B` batch, `N` samples (`[N, D]`: rows), `R` rows, `H` samples a latent, `T` tokens, `L`
//! positions of a prompt, `V` size of the vocabulary, `D` width, `Z` numbers an acoustic latent, `Y` numbers a
//! semantic latent, `S` voices, `P` latents of the longest voice or positions that a saved voice has read, `K`
//! latents of all voices, `F` latents of a recording or of speech, `G` key/value heads, `E` width of a head.

mod asr;
mod error;
mod generate;
mod prompt;
mod realtime;
mod row;
mod rules;
mod script;
mod spoken;
mod voice;

use burn::module::Module;
use burn::tensor::{Device, Int, Tensor};
use latentlm::LatentLm;
use latentlm_adapters::{LatentAdapter, LatentAdapterConfig, TokenAdapterConfig};
use latentlm_backbone::BackboneConfig;
use latentlm_codec_audio::{AudioEncoder, Codec, CodecConfig};
use latentlm_core::sequence::{ControlTokens, Document, Segment};
use latentlm_core::{
    CausalBackbone, CausalBackboneConfig, LatentCodec, LatentCodecConfig, LatentHeadConfig,
    PartConfig,
};
use latentlm_diffusion::HeadConfig;

pub use asr::{
    AsrEnd, AsrError, AsrOptions, AsrPrompt, AsrSound, AsrStep, AsrStream, AsrTokens, CutReason,
    HeardSound, TranscriptCut, TranscriptFormat, TranscriptReader, TranscriptSegment,
    TranscriptWriter, VibeVoiceAsr, VibeVoiceAsrConfig,
};
pub use error::VibeVoiceError;
pub use generate::VibeVoiceStream;
pub use prompt::{SpeechTokens, VibeVoicePrompt, VoiceLine};
pub use realtime::{
    RealtimeConfig, RealtimeFrame, RealtimeOptions, RealtimeStep, RealtimeStream, RealtimeText,
    SPEECH_WINDOW, SavedVoice, StopClassifier, TEXT_WINDOW, TextWindow, VibeVoiceRealtime,
    VoiceError,
};
pub use rules::Rules;
pub use script::{MOST_SPEAKERS, Script, ScriptError, Turn};
pub use spoken::{
    End, FrameNoise, SpeakError, SpeakOptions, SpeakRequest, SpeechToken, SpokenFrame, SpokenStep,
};
pub use voice::{EncodedVoices, level_voice};

/// VibeVoice (spec §5): the acoustic codec, the semantic encoder, and the language model.
#[derive(Module, Debug)]
pub struct VibeVoice {
    /// Sound to latents and back.
    pub codec: Codec,
    /// Sound to semantic latents: what is said in it.
    pub semantic: AudioEncoder,
    /// Semantic latents to positions, which are added to those of the drawn latents. No whitening.
    pub semantic_connector: LatentAdapter,
    /// The language model. Its only modality is the acoustic codec's latents.
    pub lm: LatentLm,
    /// The token that ends all speech.
    pub end_of_text: u32,
}

/// Configuration of a [`VibeVoice`]; usually made of a checkpoint's `config.json`.
#[derive(Debug, Clone)]
pub struct VibeVoiceConfig {
    /// The acoustic codec.
    pub codec: CodecConfig,
    /// The semantic encoder.
    pub semantic: CodecConfig,
    /// Between acoustic latents and positions.
    pub acoustic_connector: LatentAdapterConfig,
    /// Between semantic latents and positions.
    pub semantic_connector: LatentAdapterConfig,
    /// The vocabulary.
    pub tokens: TokenAdapterConfig,
    /// The Transformer.
    pub backbone: BackboneConfig,
    /// The diffusion head.
    pub head: HeadConfig,
    /// The tokens around latents. `more` also stands where latents stand in a prompt.
    pub control: ControlTokens,
    /// The token that ends all speech.
    pub end_of_text: u32,
}

impl VibeVoiceConfig {
    /// What is wrong with the configuration, if anything, in one line.
    ///
    /// # Errors
    /// If a size is zero or sizes do not fit each other.
    pub fn validate(&self) -> Result<(), VibeVoiceError> {
        self.codec.validate()?;
        self.semantic.validate()?;
        self.backbone.validate()?;
        self.head.validate()?;
        let width = self.backbone.width;
        let sizes = [
            ("diffusion head", self.head.width, width),
            (
                "head's latents",
                self.head.latent_dim,
                self.codec.latent_dim,
            ),
        ];
        for (what, got, wanted) in sizes {
            if got != wanted {
                return Err(VibeVoiceError::Config {
                    reason: format!("the {what} are {got} wide, the model wants {wanted}"),
                });
            }
        }
        let hops = (self.semantic.hop_samples(), self.codec.hop_samples());
        if hops.0 != hops.1 {
            return Err(VibeVoiceError::Config {
                reason: format!(
                    "a semantic latent stands for {} samples, an acoustic one for {}",
                    hops.0, hops.1
                ),
            });
        }
        Ok(())
    }

    /// The tokens that the model may choose while it speaks.
    pub fn speech_tokens(&self) -> SpeechTokens {
        speech_tokens(self.control, self.end_of_text)
    }

    /// Builds the model. Its parameters are drawn from the device's generator: seed that first.
    ///
    /// # Panics
    /// If [`validate`](Self::validate) fails.
    pub fn init(&self, device: &Device) -> VibeVoice {
        if let Err(error) = self.validate() {
            panic!("{error}");
        }
        VibeVoice {
            codec: self.codec.init(device),
            semantic: self.semantic.init_encoder(device),
            semantic_connector: self.semantic_connector.init(device),
            lm: self.init_lm(device),
            end_of_text: self.end_of_text,
        }
    }

    fn init_lm(&self, device: &Device) -> LatentLm {
        LatentLm {
            labels: None,
            tokens: Some(self.tokens.init(device)),
            latents: vec![self.acoustic_connector.init(device)],
            said: None,
            backbone: self.backbone.init(device),
            heads: vec![self.head.init(device)],
            control: vec![self.control],
            document: None,
            frames: vec![0],
        }
    }

    /// Number of the model's parameters. Takes no memory for them.
    ///
    /// # Panics
    /// If [`validate`](Self::validate) fails.
    pub fn parameter_count(&self, device: &Device) -> usize {
        // The weights of these are made when they are first used.
        let rest = [
            self.semantic_connector.init(device).num_params(),
            self.init_lm(device).num_params(),
        ];
        let codecs = self
            .codec
            .parameter_count(device)
            .saturating_add(self.semantic.encoder_parameter_count());
        rest.into_iter().fold(codecs, usize::saturating_add)
    }
}

fn speech_tokens(control: ControlTokens, end: u32) -> SpeechTokens {
    SpeechTokens {
        start: control.begin,
        stop: control.end,
        audio: control.more,
        end,
    }
}

impl VibeVoice {
    /// The tokens that the model may choose while it speaks.
    pub fn speech_tokens(&self) -> SpeechTokens {
        speech_tokens(self.lm.control[0], self.end_of_text)
    }

    /// Samples a latent.
    pub fn hop_samples(&self) -> usize {
        self.codec.hop_samples()
    }

    /// Whitened latents of a sound, without noise: what the language model reads and the head draws.
    ///
    /// # Shapes
    /// - `sound`: `[B, 1, N]`
    /// - returns: `[B, N / hop, Z]`
    pub fn audio_features(&self, sound: Tensor<3>) -> Tensor<3> {
        let latents = self.codec.encode(sound).mode();
        self.lm.latents[0].whiten(latents)
    }

    /// Hidden states, after the final norm, of a sequence whose audio tokens are replaced by latents.
    ///
    /// # Shapes
    /// - `tokens`: `[1, T]`; `features`: `[F, Z]`, one for every audio token
    /// - returns: `[1, T, D]`
    ///
    /// # Panics
    /// If there are more or fewer audio tokens than features.
    pub fn hidden(&self, tokens: Tensor<2, Int>, features: Tensor<2>) -> Tensor<3> {
        let [batch, _] = tokens.dims();
        assert_eq!(batch, 1, "one sequence at a time");
        let ids = tokens.into_data().convert::<i64>();
        let ids = ids.as_slice::<i64>().expect("tokens are integers");
        let document = document(ids, i64::from(self.lm.control[0].more));
        let (found, [count, _]) = (document.frames(0), features.dims());
        assert_eq!(found, count, "{found} audio tokens for {count} features");
        let layout = self.lm.layout(&[document]);
        self.lm.hidden(&layout, &[features]).unsqueeze_dim(0)
    }
}

/// Positions of a prompt that are read at once. Many more take gigabytes within the feed-forward layers.
const PIECE_POSITIONS: usize = 2048;

/// Reads positions `[B, T, D]`, at least one, into a KV cache, `piece` at a time. Returns the last hidden state,
/// `[B, 1, D]`.
fn read_positions<B: CausalBackbone>(
    backbone: &B,
    x: &Tensor<3>,
    state: &mut B::State,
    piece: usize,
) -> Tensor<3> {
    let length = x.dims()[1];
    let mut start = 0;
    while length - start > piece {
        backbone.step(x.clone().narrow(1, start, piece), state);
        start += piece;
    }
    let rest = length - start;
    let hidden = backbone.step(x.clone().narrow(1, start, rest), state);
    hidden.narrow(1, rest - 1, 1)
}

/// Tokens, with a latent instead of every `audio` token.
fn document(tokens: &[i64], audio: i64) -> Document {
    let runs = tokens.chunk_by(|a, b| (*a == audio) == (*b == audio));
    let segments = runs.map(|run| {
        if run[0] == audio {
            Segment::Bare {
                modality: 0,
                frames: run.len(),
                learned: false,
            }
        } else {
            Segment::Text {
                tokens: run.iter().map(|token| *token as u32).collect(),
                learned: false,
            }
        }
    });
    Document {
        segments: segments.collect(),
    }
}

#[cfg(test)]
mod tests;
