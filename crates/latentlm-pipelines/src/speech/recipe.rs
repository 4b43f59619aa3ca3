//! What a training run of speech is made of. Every key stands in the recipe files under
//! `configs/tts`, with its meaning beside it.

use burn::config::Config;
use latentlm::LatentLmConfig;
use latentlm::codec_audio::{CodecConfig, CodecLossConfig};
use latentlm::core::{
    BetaSchedule, LatentCodecConfig, PartConfig, Precision, Prediction, SampleOptions, Sampler,
};
use latentlm_data::TokenizerKind;
use latentlm_data::speech::{SpeechBounds, SpeechSpec};
use serde::{Deserialize, Serialize};

use crate::error::PipelineError;
use crate::recipe::{LmConfig, Recipe, StageConfig};

/// The shipped recipe that the default is.
const PRESET: &str = "tts/voice";

/// A complete speech recipe.
#[derive(Config, Debug, PartialEq)]
pub struct SpeechRecipe {
    /// The one seed of all randomness.
    pub seed: u64,
    /// Where recordings come from.
    pub data: SpeechDataConfig,
    /// How text becomes tokens.
    pub text: TextConfig,
    /// The codec.
    pub codec: CodecConfig,
    /// What the codec is trained with.
    pub codec_loss: CodecLossConfig,
    /// How the codec is trained.
    pub codec_train: StageConfig,
    /// The language model.
    pub lm: LmConfig,
    /// How the language model is trained.
    pub lm_train: StageConfig,
    /// How speech is drawn.
    pub sample: SpeakConfig,
}

/// Where recordings come from. Checkpoints of older versions lack the later keys, which then have
/// their defaults.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SpeechDataConfig {
    /// The folder.
    pub path: String,
    /// Whether tables may name recordings outside of the folder.
    #[serde(default)]
    pub outside: bool,
    /// Root mean square of speech, in dB of full scale.
    pub loudness_dbfs: f64,
    /// Whether silence at both ends is cut.
    pub trim_silence: bool,
    /// Shorter recordings are left out.
    pub min_seconds: f64,
    /// Longer recordings are left out.
    pub max_seconds: f64,
    /// Utterances composed of the corpus's word clips for training; 0 for none.
    pub composed: usize,
    /// Length of the pieces that the codec is trained on.
    pub codec_seconds: f64,
    /// Positions of the packed sequences that the language model is trained on.
    pub pack_positions: usize,
    /// Steps of the language model over which longer utterances join short ones; 0 for all at once.
    pub curriculum_steps: u64,
}

/// How text becomes tokens.
#[derive(Config, Debug, PartialEq)]
pub struct TextConfig {
    /// How a vocabulary is made.
    pub tokenizer: TokenizerKind,
    /// Largest number of tokens.
    pub vocabulary: usize,
    /// A `tokenizer.json` to be used instead; empty for none.
    pub path: String,
    /// Weight of the cross entropy beside the diffusion loss.
    pub loss_weight: f64,
    /// Largest share of an utterance's latents that is hidden from the model in training.
    pub history_dropout: f64,
    /// Whether the softmax head learns to name the token that each latent says, where that is known:
    /// in composed utterances.
    pub aligned: bool,
}

/// How speech is drawn.
#[derive(Config, Debug, PartialEq)]
pub struct SpeakConfig {
    /// The solver.
    pub sampler: Sampler,
    /// Solver steps a latent.
    pub steps: usize,
    /// Classifier-free guidance.
    pub guidance_scale: f64,
    /// Factor of the noise that latents begin as.
    pub noise_temperature: f64,
    /// Where speech is cut that does not end by itself.
    pub max_seconds: f64,
}

impl Default for SpeechRecipe {
    /// The voice of `configs/tts/voice.toml`.
    fn default() -> Self {
        let stage = StageConfig {
            steps: 1500,
            batch_size: 16,
            grad_accumulation: 1,
            learning_rate: 1e-3,
            beta_1: 0.9,
            beta_2: 0.98,
            weight_decay: 0.01,
            warmup_steps: 50,
            final_lr_ratio: 0.0,
            clip_norm: 1.0,
            ema_decay: 0.995,
            log_every: 10,
            sample_every: 500,
            checkpoint_every: 500,
        };
        Self {
            seed: 1,
            data: SpeechDataConfig {
                path: "datasets/voice".into(),
                outside: false,
                loudness_dbfs: -23.0,
                trim_silence: true,
                min_seconds: 0.1,
                max_seconds: 10.0,
                composed: 6000,
                codec_seconds: 0.5,
                pack_positions: 1024,
                curriculum_steps: 2000,
            },
            text: TextConfig {
                tokenizer: TokenizerKind::ByteLevelBpe,
                vocabulary: 512,
                path: String::new(),
                loss_weight: 2.0,
                history_dropout: 0.2,
                aligned: true,
            },
            codec: CodecConfig::preset(PRESET),
            codec_loss: CodecLossConfig::preset(PRESET),
            codec_train: stage.clone(),
            lm: LmConfig {
                width: 256,
                depth: 6,
                heads: 8,
                kv_heads: 2,
                mlp_ratio: 4.0,
                head_depth: 3,
                prediction: Prediction::Velocity,
                schedule: BetaSchedule::Cosine,
                num_train_timesteps: 1000,
                batch_mul: 1,
                precision: Precision::F32,
                recompute: false,
                condition_dropout: 0.1,
            },
            lm_train: StageConfig {
                steps: 7000,
                batch_size: 1,
                warmup_steps: 100,
                ..stage
            },
            sample: SpeakConfig {
                sampler: Sampler::DpmSolverPlusPlus,
                steps: 10,
                guidance_scale: 2.0,
                noise_temperature: 0.6,
                max_seconds: 20.0,
            },
        }
    }
}

impl Recipe for SpeechRecipe {
    const COMMAND: &'static str = "train-tts";

    fn seed(&self) -> u64 {
        self.seed
    }

    fn validate(&self) -> Result<(), PipelineError> {
        self.codec.validate()?;
        self.codec_loss.validate()?;
        self.codec_train.validate("codec_train")?;
        self.lm_train.validate("lm_train")?;
        self.model(1).validate()?;
        self.lm.validate(self.sample.steps)?;
        let fail = |reason: &str| {
            Err(PipelineError::Config {
                reason: reason.into(),
            })
        };
        let data = &self.data;
        if !(data.min_seconds >= 0.0 && data.max_seconds > data.min_seconds) {
            return fail("data.min_seconds must not be negative, data.max_seconds larger");
        }
        if self.codec_frames() == 0 {
            return fail("data.codec_seconds is shorter than one latent");
        }
        if data.pack_positions == 0 || self.text.vocabulary == 0 {
            return fail("data.pack_positions and text.vocabulary must be positive");
        }
        if !(self.text.loss_weight >= 0.0 && self.text.loss_weight.is_finite()) {
            return fail("text.loss_weight must not be negative");
        }
        if !(0.0..=1.0).contains(&self.text.history_dropout) {
            return fail("text.history_dropout must lie between 0 and 1");
        }
        let sample = &self.sample;
        if !(sample.max_seconds > 0.0 && sample.max_seconds.is_finite()) {
            return fail("sample.max_seconds must be a positive number");
        }
        if self.max_frames() == 0 {
            return fail("sample.max_seconds is shorter than one latent");
        }
        if !sample.guidance_scale.is_finite() {
            return fail("sample.guidance_scale must be a number");
        }
        if !(sample.noise_temperature >= 0.0 && sample.noise_temperature.is_finite()) {
            return fail("sample.noise_temperature must be a number, 0 or more");
        }
        if self.lm_train.batch_size != 1 {
            return fail(
                "lm_train.batch_size must be 1: data.pack_positions says how long a pack is",
            );
        }
        if self.codec.signal().channels != 1 {
            return fail("codec.channels must be 1: speech is trained in mono");
        }
        Ok(())
    }
}

impl SpeechRecipe {
    /// What recordings are brought to.
    pub fn speech_spec(&self) -> SpeechSpec {
        SpeechSpec {
            sample_rate_hz: self.codec.signal().sample_rate_hz,
            loudness_dbfs: Some(self.data.loudness_dbfs),
            trim_silence: self.data.trim_silence,
            min_seconds: self.data.min_seconds,
            max_seconds: self.data.max_seconds,
        }
    }

    /// What the corpus may ask of the machine.
    pub fn bounds(&self) -> SpeechBounds {
        SpeechBounds {
            outside: self.data.outside,
            ..SpeechBounds::default()
        }
    }

    /// Latents a second.
    pub fn frame_rate_hz(&self) -> f64 {
        let sound = self.codec.signal();
        f64::from(sound.sample_rate_hz) / sound.hop_samples as f64
    }

    /// Latents of the pieces that the codec is trained on.
    pub fn codec_frames(&self) -> usize {
        (self.data.codec_seconds * self.frame_rate_hz()).round() as usize
    }

    /// Latents at which speech is cut that does not end by itself.
    pub fn max_frames(&self) -> usize {
        (self.sample.max_seconds * self.frame_rate_hz()).round() as usize
    }

    /// The language model's configuration for a vocabulary of that many tokens of text.
    pub fn model(&self, text_vocabulary: usize) -> LatentLmConfig {
        LatentLmConfig::speech(text_vocabulary, self.codec.spec().dim, self.text.aligned)
            .with_sizes(self.lm.sizes())
    }

    /// The options that speech is drawn with.
    pub fn sample_options(&self) -> SampleOptions {
        SampleOptions {
            sampler: self.sample.sampler,
            steps: self.sample.steps,
            guidance_scale: self.sample.guidance_scale,
            noise_temperature: self.sample.noise_temperature,
            ..SampleOptions::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_would_be_ignored_or_never_end_is_refused() {
        let refused = |change: &str| {
            let recipe = SpeechRecipe::resolve(None, &[change.to_owned()]);
            recipe.map_or_else(|error| error.to_string(), |_| "nothing".into())
        };
        for (change, part) in [
            ("lm_train.batch_size=4", "lm_train.batch_size must be 1"),
            ("sample.max_seconds=inf", "max_seconds must be a positive"),
            ("sample.max_seconds=nan", "max_seconds must be a positive"),
            ("sample.max_seconds=-1.0", "max_seconds must be a positive"),
            ("sample.max_seconds=0.001", "shorter than one latent"),
            ("sample.guidance_scale=nan", "guidance_scale must be"),
            ("sample.guidance_scale=-inf", "guidance_scale must be"),
            ("sample.noise_temperature=nan", "noise_temperature must be"),
            ("sample.noise_temperature=-0.1", "noise_temperature must be"),
        ] {
            let message = refused(change);
            assert!(message.contains(part), "{change}: {message}");
        }
        assert_eq!(refused("sample.guidance_scale=0.0"), "nothing");
    }
}
