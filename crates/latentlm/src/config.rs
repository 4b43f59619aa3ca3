//! Configuration of a language model, with presets for the kinds of documents.

use burn::config::Config;
use burn::nn::EmbeddingConfig;
use burn::tensor::Device;
use latentlm_adapters::{LabelAdapterConfig, LatentAdapterConfig, TokenAdapterConfig};
use latentlm_core::sequence::{ControlTokens, SpecialTokens};
use latentlm_core::{CausalBackboneConfig, HeadMethod, LatentHeadConfig};

use crate::model::{DocumentTokens, LatentLm};
use crate::sizes::{LmSizes, ModelError};

/// Largest vocabulary of text. With the special tokens behind it, ids stay below 2^32.
const MOST_TOKENS: usize = 1 << 24;

/// A kind of latents.
#[derive(Config, Debug, PartialEq)]
pub struct Modality {
    /// `Z`, numbers per latent.
    pub latent_dim: usize,
    /// Number of latents in a run if it is fixed (the grid of a picture); 0 if the softmax head decides
    /// after each latent whether another follows (speech).
    pub frames: usize,
}

/// Configuration of a [`LatentLm`]: [`image`](Self::image), [`speech`](Self::speech) or
/// [`mllm`](Self::mllm), or any mix of what these switch on.
#[derive(Config, Debug, PartialEq)]
pub struct LatentLmConfig {
    /// The kinds of latents, at least one.
    pub modalities: Vec<Modality>,
    /// Number of classes; 0 for a model that reads no labels.
    #[config(default = 0)]
    pub classes: usize,
    /// Tokens of text, without those around latents and documents; 0 for a model that reads no text.
    #[config(default = 0)]
    pub text_vocabulary: usize,
    /// Whether the model writes text too: documents stand between `<BOS>` and `<EOS>`.
    #[config(default = false)]
    pub writes: bool,
    /// Whether the model reads with each latent the token that is spoken in it, and predicts the next one.
    #[config(default = false)]
    pub aligned: bool,
    /// Whether one diffusion head draws the latents of all modalities, or each has its own.
    #[config(default = true)]
    pub one_head: bool,
    /// Whether the softmax head uses the embedding's table.
    #[config(default = false)]
    pub tied: bool,
    /// Whether the codec's latents lie on the sphere of radius `sqrt(Z)`. Drawn latents are projected to it.
    #[config(default = false)]
    pub on_sphere: bool,
    /// Sizes of backbone and heads. Defaults are the reference's Base size.
    #[config(default = "LmSizes::new()")]
    pub sizes: LmSizes,
    /// How the heads are trained.
    #[config(default = "HeadMethod::default()")]
    pub method: HeadMethod,
}

impl LatentLmConfig {
    /// A class, then its picture of `tokens` latents.
    pub fn image(classes: usize, tokens: usize, latent_dim: usize) -> Self {
        Self::new(vec![Modality::new(latent_dim, tokens)]).with_classes(classes)
    }

    /// A text, then its speech (paper §3.3).
    pub fn speech(text_vocabulary: usize, latent_dim: usize, aligned: bool) -> Self {
        Self::new(vec![Modality::new(latent_dim, 0)])
            .with_text_vocabulary(text_vocabulary)
            .with_aligned(aligned)
    }

    /// Text and latents of any kinds in any order (paper §3.2).
    pub fn mllm(text_vocabulary: usize, modalities: Vec<Modality>) -> Self {
        Self::new(modalities)
            .with_text_vocabulary(text_vocabulary)
            .with_writes(true)
    }

    /// What is wrong with the configuration, if anything, in one line.
    ///
    /// # Errors
    /// If a size is zero or sizes do not fit each other.
    pub fn validate(&self) -> Result<(), ModelError> {
        let fail = |reason: &str| {
            Err(ModelError::Config {
                reason: reason.into(),
            })
        };
        let Some(first) = self.modalities.first() else {
            return fail("a model needs a modality of latents");
        };
        let reads_text = self.text_vocabulary > 0;
        if (self.writes || self.aligned) && !reads_text {
            return fail("text_vocabulary must be positive");
        }
        if self.text_vocabulary > MOST_TOKENS {
            return Err(ModelError::Config {
                reason: format!(
                    "text_vocabulary {} is above {MOST_TOKENS}",
                    self.text_vocabulary
                ),
            });
        }
        if self.classes == 0 && !reads_text {
            return fail("classes or text_vocabulary must be positive");
        }
        if !reads_text && self.modalities.iter().any(|own| own.frames == 0) {
            return fail(
                "frames must be positive where no text_vocabulary has a token for the end",
            );
        }
        let mut dims = self.modalities.iter().map(|own| own.latent_dim);
        if self.one_head && dims.any(|dim| dim != first.latent_dim) {
            return fail("one head draws latents of one size; the modalities' differ");
        }
        let mut modalities = self.modalities.iter();
        modalities.try_for_each(|own| self.sizes.validate(own.latent_dim, self.method))
    }

    /// Builds the model. Its parameters are drawn from the device's generator: seed that first.
    ///
    /// # Panics
    /// If [`validate`](Self::validate) fails.
    pub fn init(&self, device: &Device) -> LatentLm {
        if let Err(error) = self.validate() {
            panic!("{error}");
        }
        let (sizes, width) = (&self.sizes, self.sizes.width);
        let vocabulary = self.vocabulary();
        // Embeddings as large as embedded latents: much smaller ones vanish beside the first block's
        // output. A tied table must stay small, since logits are inner products with it.
        let std = if self.tied { 0.02 } else { 1.0 };
        let token = TokenAdapterConfig::new(vocabulary, width)
            .with_tied(self.tied)
            .with_embedding_std(std);
        let heads = if self.one_head {
            1
        } else {
            self.modalities.len()
        };
        let latents = self.modalities.iter();
        let heads = self.modalities.iter().take(heads);
        LatentLm {
            labels: (self.classes > 0)
                .then(|| LabelAdapterConfig::new(self.classes, width).init(device)),
            tokens: (self.text_vocabulary > 0).then(|| token.init(device)),
            latents: latents
                .map(|own| {
                    let adapter = LatentAdapterConfig::new(own.latent_dim, width);
                    adapter.with_on_sphere(self.on_sphere).init(device)
                })
                .collect(),
            said: self
                .aligned
                .then(|| EmbeddingConfig::new(vocabulary, width).init(device)),
            backbone: sizes.backbone().init(device),
            heads: heads
                .map(|own| sizes.head(own.latent_dim, self.method).init(device))
                .collect(),
            control: self.control(),
            document: self.writes.then_some(DocumentTokens {
                start: self.text_vocabulary as u32,
                stop: self.text_vocabulary as u32 + 1,
            }),
            frames: self.modalities.iter().map(|own| own.frames).collect(),
        }
    }

    /// The tokens around each modality's latents; they mean nothing in a model without text.
    fn control(&self) -> Vec<ControlTokens> {
        let count = self.modalities.len();
        if self.writes {
            return SpecialTokens::after(self.text_vocabulary, count).modalities;
        }
        (0..count)
            .map(|modality| modality * ControlTokens::COUNT)
            .map(|before| ControlTokens::after(self.text_vocabulary + before))
            .collect()
    }

    /// `V`, all tokens.
    fn vocabulary(&self) -> usize {
        let count = self.modalities.len();
        let special = if self.writes {
            SpecialTokens::count(count)
        } else {
            count * ControlTokens::COUNT
        };
        self.text_vocabulary + special
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrong_configurations_are_refused() {
        let sizes = LmSizes::new().with_width(32).with_depth(1).with_heads(4);
        let picture = |dim| Modality::new(dim, 3);
        for (config, part) in [
            (LatentLmConfig::mllm(8, vec![]), "needs a modality"),
            (
                LatentLmConfig::mllm(0, vec![picture(4)]),
                "text_vocabulary must",
            ),
            (LatentLmConfig::speech(0, 4, true), "text_vocabulary must"),
            (
                LatentLmConfig::mllm(8, vec![picture(4), picture(6)]),
                "one head",
            ),
            (LatentLmConfig::image(0, 3, 4), "classes or text_vocabulary"),
            (
                LatentLmConfig::speech(1 << 32, 4, true),
                "text_vocabulary 4294967296 is above",
            ),
            (LatentLmConfig::image(2, 0, 4), "frames must be positive"),
            (LatentLmConfig::image(2, 3, 0), "latent_dim"),
        ] {
            let message = config.with_sizes(sizes.clone()).validate().unwrap_err();
            assert!(message.to_string().contains(part), "{message}");
        }
        let both = LatentLmConfig::mllm(8, vec![picture(4), picture(6)]).with_one_head(false);
        both.with_sizes(sizes).validate().unwrap();
    }

    /// Behind the text come `<BOS>` and `<EOS>` of a model that writes, then each modality's tokens.
    #[test]
    fn special_tokens_stand_behind_the_text() {
        let two = vec![Modality::new(4, 3), Modality::new(4, 0)];
        let speech = LatentLmConfig::speech(8, 4, false);
        assert_eq!(speech.control(), [ControlTokens::after(8)]);
        assert_eq!(speech.vocabulary(), 11);
        let mllm = LatentLmConfig::mllm(8, two);
        assert_eq!(mllm.vocabulary(), 16);
        let expected = [10, 13].map(ControlTokens::after);
        assert_eq!(mllm.control(), expected);
    }
}
