//! Settings of a training run of text and pictures. Every key stands in the recipe files under
//! `configs/mllm`, with its meaning beside it.

use latentlm::core::{LatentCodecConfig, SampleOptions};
use latentlm::{LatentLmConfig, Modality, TextOptions};
use latentlm_data::sequence::Document;
use latentlm_data::{Mix, PlainLimits};
use serde::{Deserialize, Serialize};

use crate::error::Result;
use crate::image::{DataConfig, GridConfig, ImageRecipe};
use crate::pipeline::declare_model_recipe;
use crate::recipe::{SampleConfig, refuse_if};
use crate::text::{TextVocabulary, TokenizerConfig};

/// Text, and how it becomes tokens.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MllmTextConfig {
    /// A text file, or a folder with `train.txt` and `test.txt`; empty for captions alone.
    pub data: String,
    /// Limits of the text. Checkpoints of older versions lack them.
    #[serde(flatten)]
    pub limits: PlainLimits,
    /// The vocabulary.
    #[serde(flatten)]
    pub tokenizer: TokenizerConfig,
    /// Longest piece of a text, in tokens.
    pub piece_tokens: usize,
    /// Whether the softmax head uses the embedding's table.
    pub tied: bool,
    /// Weights of tokens in the loss.
    #[serde(flatten)]
    pub weights: TokenWeights,
}

/// What documents there are.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MixConfig {
    /// How often each kind comes in an epoch.
    #[serde(flatten)]
    pub kinds: Mix,
    /// Positions of the packed sequences that are trained on.
    pub pack_positions: usize,
}

declare_model_recipe! {
    /// A complete recipe of text and pictures.
    MllmRecipe {
        command: "train-mllm",
        keys: "latentlm-pipelines/mllm",
        preset: "mllm/twemoji",
        tables: {
            /// Where pictures and their captions come from.
            data: DataConfig,
            /// Text, and how it becomes tokens.
            text: MllmTextConfig,
            /// What documents there are.
            mix: MixConfig,
        },
        codec: codec_image,
        sample: TextOptions,
        vocabulary: TextVocabulary,
        check: MllmRecipe::check_documents,
    }
}

/// Weights of tokens in the loss.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct TokenWeights {
    /// Weight of the cross entropy beside the diffusion loss.
    #[serde(rename = "loss_weight")]
    pub loss: f64,
    /// Weight of caption tokens in the cross entropy; other tokens weigh 1.
    #[serde(rename = "caption_weight")]
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
        let captions = documents.iter().map(Document::reads_latents);
        captions
            .map(|caption| if caption { self.caption } else { 1.0 })
            .collect()
    }
}

impl MllmRecipe {
    fn check_documents(&self) -> Result<()> {
        // Refuses a codec whose latents are on no grid, which a model of text alone would not notice.
        self.image().model(1).validate()?;
        refuse_if(
            self.data.horizontal_flip,
            "data.horizontal_flip must be false: captions say where left and right are",
        )?;
        let mix = self.mix.kinds;
        let no_text = self.text.data.is_empty() || mix.text == 0;
        let nothing = no_text && mix.draw + mix.caption == 0;
        refuse_if(nothing, "mix must have documents of some kind")?;
        refuse_if(
            self.mix.pack_positions < self.tokens() + 3,
            "mix.pack_positions must hold a picture and the tokens around it",
        )?;
        self.lm_train.check_packs("mix.pack_positions")
    }

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
                falling: self.sample.falling,
                guidance_scale: self.sample.guidance_scale,
                own: GridConfig { per_class: 1 },
            },
        }
    }

    /// Latents per picture, as [`ImageRecipe::tokens`].
    pub fn tokens(&self) -> usize {
        self.codec.spec().tokens().unwrap_or_default()
    }

    /// The language model's configuration for a vocabulary of that many tokens of text.
    pub fn model(&self, text_vocabulary: usize) -> LatentLmConfig {
        let pictures = Modality::new(self.codec.spec().dim, self.tokens());
        LatentLmConfig::mllm(text_vocabulary, vec![pictures])
            .with_tied(self.text.tied)
            .with_on_sphere(self.codec.on_sphere())
            .with_sizes(self.lm.sizes.clone())
            .with_method(self.lm.method)
    }

    /// The options that pictures are drawn with.
    pub fn sample_options(&self) -> SampleOptions {
        self.sample.options()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recipe::{Recipe, read_without};

    /// Checkpoints of older versions lack keys, which then have the tables' defaults: those of the readers.
    #[test]
    fn keys_that_older_recipes_lack_have_the_tables_defaults() {
        let recipe = MllmRecipe::default();
        assert_eq!(recipe.text.limits, PlainLimits::default());
        let lacked = ["max_text_mb", "max_paragraphs", "max_tokenizer_mb"];
        let lacked = lacked.map(|key| ("text", key));
        assert_eq!(read_without(&recipe, &lacked), recipe);
        let changes = ["text.max_text_mb=4096", "text.max_paragraphs=7"].map(String::from);
        let limits = MllmRecipe::resolve(None, &changes).unwrap().text.limits;
        assert_eq!((limits.max_text_mb, limits.max_paragraphs), (4096, 7));
    }
}
