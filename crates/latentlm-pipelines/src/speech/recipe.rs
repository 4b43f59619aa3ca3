//! Settings of a training run of speech. Every key stands in the recipe files under `configs/tts`, with its
//! meaning beside it.

use latentlm::LatentLmConfig;
use latentlm::core::{LatentCodecConfig, SampleOptions};
use latentlm::sequence::Document;
use latentlm_data::ReadOptions;
use latentlm_data::speech::{SoundLimits, SpeechBounds, SpeechSpec};
use serde::{Deserialize, Serialize};

use crate::error::{PipelineError, Result};
use crate::pipeline::declare_model_recipe;
use crate::recipe::refuse_if;
use crate::text::{TextVocabulary, TokenizerConfig};

/// Where recordings come from. Checkpoints of older versions lack the later keys, which then have
/// their defaults.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SpeechDataConfig {
    /// The folder.
    pub path: String,
    /// Share of the recordings that may be left out because they are missing, silent or can't be decoded. Runs of
    /// older versions leave out any number.
    #[serde(default = "all_broken")]
    pub max_broken: f64,
    /// Whether tables may name recordings outside of the folder.
    #[serde(default)]
    pub outside: bool,
    /// Limits on the files of the corpus.
    #[serde(flatten)]
    pub limits: SpeechLimits,
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
    /// Whether a latent counts as many positions of a pack as it has frames, so that packs hold as much speech whatever
    /// the rate of latents. Runs of older versions lack it.
    #[serde(default)]
    pub pack_frames: bool,
    /// Steps of the language model over which longer utterances join short ones; 0 for all at once.
    pub curriculum_steps: u64,
}

fn all_broken() -> f64 {
    1.0
}

/// Limits on the files of a corpus.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct SpeechLimits {
    /// Largest size in megabytes of a table or transcript.
    pub max_table_mb: u64,
    /// Largest number of lines of the tables.
    pub max_lines: usize,
    /// Largest number of samples of a recording, per channel.
    pub max_samples: usize,
}

impl Default for SpeechLimits {
    fn default() -> Self {
        let bounds = SpeechBounds::default();
        Self {
            max_table_mb: bounds.table_bytes / ReadOptions::MEGABYTE,
            max_lines: bounds.table_lines,
            max_samples: bounds.sound.samples,
        }
    }
}

impl SpeechLimits {
    /// These limits as the reader takes them. `outside` tells whether tables may name files outside of the folder.
    pub fn bounds(&self, outside: bool) -> SpeechBounds {
        SpeechBounds {
            outside,
            table_bytes: self.max_table_mb.saturating_mul(ReadOptions::MEGABYTE),
            table_lines: self.max_lines,
            sound: SoundLimits {
                samples: self.max_samples,
                ..SoundLimits::default()
            },
        }
    }
}

/// How text becomes tokens. Checkpoints of older versions lack some of the keys.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TextConfig {
    /// The vocabulary.
    #[serde(flatten)]
    pub tokenizer: TokenizerConfig,
    /// Weight of the cross entropy beside the diffusion loss.
    pub loss_weight: f64,
    /// Largest share of an utterance's latents that is hidden from the model in training.
    pub history_dropout: f64,
    /// Whether the softmax head learns to name the token that each latent says, where that is known:
    /// in composed utterances.
    pub aligned: bool,
    /// Share of training utterances that stand behind another utterance of their speaker, a voice prompt, that is cut in
    /// the middle of a word.
    #[serde(default)]
    pub cut_prompts: f64,
    /// Share of training utterances that stand behind another whole utterance of their speaker.
    #[serde(default)]
    pub whole_prompts: f64,
    /// Share of training utterances that continue their own beginning, which ends with a word whose place is known.
    #[serde(default)]
    pub continuations: f64,
    /// Share of these prompts whose words the model is not told, as when it speaks behind a recording: all their latents are
    /// read like silence, and the softmax head learns nothing in them. Runs of older versions were told all.
    #[serde(default)]
    pub prompts_without_words: f64,
    /// Share of training utterances whose text lacks the full stop at its end.
    #[serde(default)]
    pub without_full_stop: f64,
    /// Largest number of tokens of a text that is said, with that of its voice; 0 for what fits into a pack with the
    /// latents of the voice.
    #[serde(default)]
    pub prompt_tokens: usize,
}

/// How speech is drawn, beside what all modalities have.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SpeakConfig {
    /// Factor of the initial noise of latents.
    pub noise_temperature: f64,
    /// Length in seconds at which speech that does not end by itself is cut.
    pub max_seconds: f64,
}

declare_model_recipe! {
    /// A complete speech recipe.
    SpeechRecipe {
        command: "train-tts",
        keys: "latentlm-pipelines/tts",
        preset: "tts/voice",
        tables: {
            /// Where recordings come from.
            data: SpeechDataConfig,
            /// How text becomes tokens.
            text: TextConfig,
        },
        codec: codec_audio,
        sample: SpeakConfig,
        vocabulary: TextVocabulary,
        check: SpeechRecipe::check_lengths,
    }
}

impl SpeechRecipe {
    fn check_lengths(&self) -> Result<()> {
        refuse_if(
            self.data.max_seconds <= self.data.min_seconds,
            "data.max_seconds must be larger than data.min_seconds",
        )?;
        let (piece, speech) = (self.codec_frames(), self.max_frames());
        refuse_if(piece == 0, "data.codec_seconds is shorter than one latent")?;
        refuse_if(speech == 0, "sample.max_seconds is shorter than one latent")?;
        refuse_if(
            self.sample.falling.last > 0 && self.sample.falling.over == 0,
            "sample.steps_over must be positive with sample.steps_last: speech has no fixed length",
        )?;
        let prompts = [
            self.text.cut_prompts,
            self.text.whole_prompts,
            self.text.continuations,
        ];
        // Sums of decimal fractions are rounded.
        refuse_if(
            prompts.iter().sum::<f64>() > 1.0 + 1e-9,
            "text.cut_prompts, text.whole_prompts and text.continuations must be at most 1 together: an utterance stands \
             behind one prompt",
        )?;
        self.lm_train.check_packs("data.pack_positions")?;
        refuse_if(
            self.codec.signal().channels != 1,
            "codec.channels must be 1: speech is trained in mono",
        )
    }

    /// Form that recordings are converted to, and the limits of their length.
    pub fn speech_spec(&self) -> SpeechSpec {
        SpeechSpec {
            sample_rate_hz: self.codec.signal().sample_rate_hz,
            loudness_dbfs: Some(self.data.loudness_dbfs),
            trim_silence: self.data.trim_silence,
            min_seconds: self.data.min_seconds,
            max_seconds: self.data.max_seconds,
        }
    }

    /// Limits on the files of the corpus.
    pub fn bounds(&self) -> SpeechBounds {
        self.data.limits.bounds(self.data.outside)
    }

    /// Latents per second.
    pub fn frame_rate_hz(&self) -> f64 {
        let sound = self.codec.signal();
        f64::from(sound.sample_rate_hz) / sound.hop_samples as f64
    }

    /// Latents of the pieces that the codec is trained on.
    pub fn codec_frames(&self) -> usize {
        (self.data.codec_seconds * self.frame_rate_hz()).round() as usize
    }

    /// Positions that an utterance takes up in a pack of `data.pack_positions`.
    pub fn length_in_pack(&self, utterance: &Document) -> usize {
        let more = if self.data.pack_frames {
            self.codec.frames_per_latent().saturating_sub(1)
        } else {
            0
        };
        utterance.positions() + more.saturating_mul(utterance.frames(0))
    }

    /// Number of latents at which speech that does not end by itself is cut.
    pub fn max_frames(&self) -> usize {
        (self.sample.own.max_seconds * self.frame_rate_hz()).round() as usize
    }

    /// Whether a text of `tokens` tokens behind a voice of `latents` latents, 0 without one, may be said. The tokens of the
    /// voice's text count too.
    ///
    /// # Errors
    /// If there are more than `text.prompt_tokens`, or, if that is 0, both do not fit into a pack.
    pub fn check_prompt(&self, tokens: usize, latents: usize) -> Result<()> {
        let (positions, pack) = (tokens + 1 + latents, self.data.pack_positions);
        match self.text.prompt_tokens {
            0 if positions > pack => Err(PipelineError::Prompt {
                positions,
                limit: pack,
            }),
            0 => Ok(()),
            limit if tokens > limit => Err(PipelineError::LongText { tokens, limit }),
            _ => Ok(()),
        }
    }

    /// Whether a recording of `samples` samples is as short as those that the model was trained on, so that it may be a
    /// voice.
    ///
    /// # Errors
    /// If it is longer.
    pub fn check_voice(&self, samples: usize) -> Result<()> {
        let seconds = samples as f64 / f64::from(self.codec.signal().sample_rate_hz);
        let most = self.data.max_seconds;
        if seconds <= most {
            return Ok(());
        }
        Err(PipelineError::Voice(format!(
            "a recording of {seconds:.2} s; the model was trained on at most {most} s (data.max_seconds): cut it"
        )))
    }

    /// The language model's configuration, for `text_vocabulary` tokens of text.
    pub fn model(&self, text_vocabulary: usize) -> LatentLmConfig {
        LatentLmConfig::speech(text_vocabulary, self.codec.spec().dim, self.text.aligned)
            .with_sizes(self.lm.sizes.clone())
            .with_method(self.lm.method)
    }

    /// The options that speech is drawn with.
    pub fn sample_options(&self) -> SampleOptions {
        self.sample.options_at(self.sample.own.noise_temperature)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recipe::{Recipe, read_without};

    /// Checkpoints of older versions lack keys, which then have the tables' defaults: those of the readers.
    #[test]
    fn keys_that_older_recipes_lack_have_the_tables_defaults() {
        let recipe = SpeechRecipe::default();
        assert_eq!(recipe.bounds(), SpeechBounds::default());
        let lacked = [
            ("data", "outside"),
            ("data", "max_table_mb"),
            ("data", "max_lines"),
            ("data", "max_samples"),
            ("text", "max_tokenizer_mb"),
            ("text", "prompt_tokens"),
            ("text", "whole_prompts"),
            ("text", "continuations"),
            ("data", "pack_frames"),
        ];
        assert_eq!(read_without(&recipe, &lacked), recipe);
        let older = read_without(&recipe, &[("text", "prompts_without_words")]);
        let without_words = [&recipe, &older].map(|own| own.text.prompts_without_words);
        assert_eq!(without_words, [1.0, 0.0]);
        let older = read_without(&recipe, &[("data", "max_broken")]);
        assert_eq!((recipe.data.max_broken, older.data.max_broken), (0.05, 1.0));
        let changes = [
            "data.max_table_mb=4096",
            "data.max_lines=12000000",
            "data.max_samples=7",
        ];
        let changed = SpeechRecipe::resolve(None, &changes.map(String::from)).unwrap();
        let bounds = changed.bounds();
        assert_eq!(
            (bounds.table_bytes, bounds.table_lines),
            (4 << 30, 12_000_000)
        );
        assert_eq!(bounds.sound.samples, 7);
    }

    /// Two tokens, the one that begins speech, and five latents of two frames each.
    #[test]
    fn latents_may_count_as_frames() {
        let mut recipe = SpeechRecipe::default();
        let utterance = Document::of_speech(vec![1, 2], 5, Vec::new());
        assert_eq!(recipe.codec.frames_per_latent, 2);
        assert_eq!(recipe.length_in_pack(&utterance), 8);
        recipe.data.pack_frames = true;
        assert_eq!(recipe.length_in_pack(&utterance), 13);
    }

    /// A limit of its own depends neither on the pack nor on the latents of a voice.
    #[test]
    fn prompts_have_a_limit() {
        let mut recipe = SpeechRecipe::default();
        recipe.data.pack_positions = 10;
        assert!(recipe.check_prompt(4, 5).is_ok());
        let told = recipe.check_prompt(5, 5).unwrap_err().to_string();
        assert!(told.contains("11 positions, more than the 10"), "{told}");
        recipe.text.prompt_tokens = 20;
        assert!(recipe.check_prompt(20, 5000).is_ok());
        let told = recipe.check_prompt(21, 0).unwrap_err();
        assert!(told.is_usage() && told.to_string().contains("21 tokens, more than the 20"));
        assert!(recipe.check_voice(10 * 16_000).is_ok());
        let told = recipe
            .check_voice(10 * 16_000 + 160)
            .unwrap_err()
            .to_string();
        assert!(
            told.contains("10.01 s") && told.contains("at most 10 s"),
            "{told}"
        );
    }

    #[test]
    fn what_would_be_ignored_or_never_end_is_refused() {
        let refused = |change: &str| {
            let recipe = SpeechRecipe::resolve(None, &[change.to_owned()]);
            recipe.map_or_else(|error| error.to_string(), |_| "nothing".into())
        };
        for (change, part) in [
            ("lm_train.batch_size=4", "lm_train.batch_size must be 1"),
            (
                "sample.max_seconds=inf",
                "`sample.max_seconds` must be a number above 0 and at most 86400, not inf",
            ),
            ("sample.max_seconds=nan", "`sample.max_seconds` must be"),
            ("sample.max_seconds=-1.0", "`sample.max_seconds` must be"),
            ("sample.max_seconds=0.001", "shorter than one latent"),
            ("data.min_seconds=10", "larger than data.min_seconds"),
            (
                "sample.guidance_scale=nan",
                "`sample.guidance_scale` must be",
            ),
            (
                "sample.guidance_scale=-inf",
                "`sample.guidance_scale` must be",
            ),
            (
                "sample.noise_temperature=nan",
                "`sample.noise_temperature` must be",
            ),
            (
                "sample.noise_temperature=-0.1",
                "`sample.noise_temperature` must be a number from 0 to 100, not -0.1",
            ),
            ("codec.ratios=[1024, 1024, 4]", "samples a latent"),
            ("text.whole_prompts=1.5", "`text.whole_prompts` must be"),
            ("text.continuations=-0.5", "`text.continuations` must be"),
            (
                "data.loudness_dbfs=-91.0",
                "`data.loudness_dbfs` must be a number from -90 to 0",
            ),
        ] {
            let message = refused(change);
            assert!(message.contains(part), "{change}: {message}");
        }
        assert_eq!(refused("sample.guidance_scale=0.0"), "nothing");
        // Shares of prompts, which fill all utterances, and a little more.
        for (continuations, part) in [("0.7", "nothing"), ("0.71", "must be at most 1 together")] {
            let changes = [
                "text.cut_prompts=0.1".to_owned(),
                "text.whole_prompts=0.2".to_owned(),
                format!("text.continuations={continuations}"),
            ];
            let recipe = SpeechRecipe::resolve(None, &changes);
            let told = recipe.map_or_else(|error| error.to_string(), |_| "nothing".into());
            assert!(told.contains(part), "{continuations}: {told}");
        }
    }
}
