//! What a training run of text and pictures is made of. Every key stands in the recipe files under
//! `configs/mllm`, with its meaning beside it.

use std::sync::LazyLock;

use burn::config::Config;
use latentlm::codec_image::{CodecConfig, CodecLossConfig};
use latentlm::core::{LatentCodecConfig, SampleOptions, Sampler};
use latentlm::{LatentLmConfig, Modality, TextOptions};
use latentlm_data::sequence::Document;
use latentlm_data::{Mix, TokenizerKind};
use latentlm_keys::Keys;

use crate::error::PipelineError;
use crate::image::{DataConfig, ImageRecipe, SampleConfig};
use crate::recipe::{CodecTables, LmConfig, Recipe, StageConfig, key_table, recipe_keys};

/// The shipped recipe that the default is.
const PRESET: &str = "mllm/twemoji";

/// A complete recipe of text and pictures.
#[derive(Config, Debug, PartialEq)]
pub struct MllmRecipe {
    /// The one seed of all randomness.
    pub seed: u64,
    /// Where pictures and their captions come from.
    pub data: DataConfig,
    /// Text, and how it becomes tokens.
    pub text: MllmTextConfig,
    /// What documents there are.
    pub mix: MixConfig,
    /// The codec of pictures.
    pub codec: CodecConfig,
    /// What the codec is trained with.
    pub codec_loss: CodecLossConfig,
    /// How the codec is trained.
    pub codec_train: StageConfig,
    /// The language model.
    pub lm: LmConfig,
    /// How the language model is trained.
    pub lm_train: StageConfig,
    /// How text and pictures are drawn.
    pub sample: MllmSampleConfig,
}

/// Text, and how it becomes tokens.
#[derive(Config, Debug, PartialEq)]
pub struct MllmTextConfig {
    /// A text file, or a folder with `train.txt` and `test.txt`; empty for captions alone.
    pub data: String,
    /// How a vocabulary is made.
    pub tokenizer: TokenizerKind,
    /// Largest number of tokens.
    pub vocabulary: usize,
    /// A `tokenizer.json` to be used instead; empty for none.
    pub path: String,
    /// Longest piece of a text, in tokens.
    pub piece_tokens: usize,
    /// Whether the softmax head uses the embedding's table.
    pub tied: bool,
    /// Weight of the cross entropy beside the diffusion loss.
    pub loss_weight: f64,
    /// Of a token of what is said of a picture within the cross entropy, in units of any other's.
    pub caption_weight: f64,
}

/// How often each kind of document comes in an epoch.
#[derive(Config, Debug, PartialEq)]
pub struct MixConfig {
    /// Every picture after its caption.
    pub draw: usize,
    /// Every picture before its caption.
    pub caption: usize,
    /// Every piece of text.
    pub text: usize,
    /// Positions of the packed sequences that are trained on.
    pub pack_positions: usize,
}

/// How text and pictures are drawn.
#[derive(Config, Debug, PartialEq)]
pub struct MllmSampleConfig {
    /// The solver.
    pub sampler: Sampler,
    /// Solver steps a latent.
    pub steps: usize,
    /// Classifier-free guidance.
    pub guidance_scale: f64,
    /// Divisor of the tokens' scores; 0 for the likeliest token.
    pub temperature: f64,
    /// Likeliest tokens that are drawn from; 0 for all.
    pub top_k: usize,
    /// Probability that the tokens drawn from add up to; 1 for all.
    pub top_p: f64,
}

static KEYS: LazyLock<Keys> = LazyLock::new(|| recipe_keys("latentlm-pipelines/mllm", key_table));

impl Default for MllmRecipe {
    /// The emoji of `configs/mllm/twemoji.toml`.
    fn default() -> Self {
        KEYS.preset(&CodecTables::<CodecConfig, CodecLossConfig>::preset(PRESET))
    }
}

impl Recipe for MllmRecipe {
    const COMMAND: &'static str = "train-mllm";

    fn keys() -> &'static Keys {
        &KEYS
    }

    fn seed(&self) -> u64 {
        self.seed
    }

    fn check_together(&self) -> Result<(), PipelineError> {
        self.image().check_together()?;
        self.model(1).validate()?;
        let fail = |reason: &str| Err(PipelineError::config(reason));
        if self.data.horizontal_flip {
            return fail(
                "data.horizontal_flip must be false: captions say where left and right are",
            );
        }
        let texts = if self.text.data.is_empty() {
            0
        } else {
            self.mix.text
        };
        if self.mix.draw + self.mix.caption + texts == 0 {
            return fail("mix must have documents of some kind");
        }
        if self.mix.pack_positions < self.tokens() + 3 {
            return fail("mix.pack_positions must hold a picture and the tokens around it");
        }
        if self.lm_train.batch_size != 1 {
            return fail(
                "lm_train.batch_size must be 1: mix.pack_positions says how long a pack is",
            );
        }
        Ok(())
    }
}

/// How much words count.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TokenWeights {
    /// Of the cross entropy beside the loss of pictures.
    pub loss: f64,
    /// Of a token of what is said of a picture within the cross entropy, in units of any other's.
    pub caption: f64,
}

impl From<f64> for TokenWeights {
    /// All tokens alike.
    fn from(loss: f64) -> Self {
        Self { loss, caption: 1.0 }
    }
}

impl TokenWeights {
    /// The weight of each document's learned tokens.
    pub fn of(&self, documents: &[Document]) -> Vec<f64> {
        let weight = |document: &Document| match document.reads_latents() {
            true => self.caption,
            false => 1.0,
        };
        documents.iter().map(weight).collect()
    }
}

impl MllmTextConfig {
    /// How much words count.
    pub fn weights(&self) -> TokenWeights {
        TokenWeights {
            loss: self.loss_weight,
            caption: self.caption_weight,
        }
    }
}

impl MllmRecipe {
    /// The codec's part, as a recipe of images.
    pub fn image(&self) -> ImageRecipe {
        ImageRecipe {
            seed: self.seed,
            data: self.data.clone(),
            codec: self.codec.clone(),
            codec_loss: self.codec_loss.clone(),
            codec_train: self.codec_train.clone(),
            lm: self.lm.clone(),
            lm_train: self.lm_train.clone(),
            sample: SampleConfig {
                sampler: self.sample.sampler,
                steps: self.sample.steps,
                guidance_scale: self.sample.guidance_scale,
                per_class: 1,
            },
        }
    }

    /// Latents a picture, as [`ImageRecipe::tokens`].
    pub fn tokens(&self) -> usize {
        self.codec.spec().tokens().unwrap_or_default()
    }

    /// What documents there are.
    pub fn mix(&self) -> Mix {
        Mix {
            draw: self.mix.draw,
            caption: self.mix.caption,
            text: self.mix.text,
        }
    }

    /// The language model's configuration for a vocabulary of that many tokens of text.
    pub fn model(&self, text_vocabulary: usize) -> LatentLmConfig {
        let pictures = Modality::new(self.codec.spec().dim, self.tokens());
        LatentLmConfig::mllm(text_vocabulary, vec![pictures])
            .with_tied(self.text.tied)
            .with_sizes(self.lm.sizes())
    }

    /// The options that pictures are drawn with.
    pub fn sample_options(&self) -> SampleOptions {
        SampleOptions {
            sampler: self.sample.sampler,
            steps: self.sample.steps,
            guidance_scale: self.sample.guidance_scale,
            ..SampleOptions::default()
        }
    }

    /// The options that text is drawn with.
    pub fn text_options(&self) -> TextOptions {
        TextOptions {
            temperature: self.sample.temperature,
            top_k: self.sample.top_k,
            top_p: self.sample.top_p,
        }
    }
}
