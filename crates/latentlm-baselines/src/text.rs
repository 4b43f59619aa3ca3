//! Transfusion on text and an image: the joint loss of next tokens and diffusion.

use burn::module::Module;
use burn::tensor::activation::log_softmax;
use burn::tensor::{Int, Tensor};
use latentlm_adapters::TokenAdapter;
use latentlm_core::{DiffusionDraws, ModalityAdapter, RandomStream, SampleOptions};

use crate::denoiser::{ImageDenoiser, ImageDiffusion};
use crate::transfusion::TransfusionNetwork;

/// A text and the image that it describes, in one Transformer. The text's last token is the one that
/// opens the image.
#[derive(Module, Debug)]
pub struct TextTransfusion {
    /// Tokens, and the softmax head.
    pub token: TokenAdapter,
    /// Diffusion over the image's latents.
    pub image: ImageDiffusion<TransfusionNetwork>,
}

/// The two parts of the joint loss `L_LM + lambda L_diff`, `[1]` each.
#[derive(Debug, Clone)]
pub struct TransfusionLoss {
    /// Cross entropy of every token but the first.
    pub token: Tensor<1>,
    /// The denoising error of the image.
    pub diffusion: Tensor<1>,
}

impl TextTransfusion {
    /// Both losses, from one pass over text and noisy image. Rows `[K, B]` of `draws`: the text is
    /// read again for each, since one Transformer does both.
    ///
    /// # Shapes
    /// - `text`: `[B, P]`, two tokens or more; `latents`: `[B, T, Z]`, whitened
    /// - `draws`: `K * B` rows of `T * Z` numbers ([`ImageDiffusion::draw`])
    ///
    /// # Panics
    /// If the rows of `draws` are no multiple of `B`, or the text has one token.
    pub fn loss(
        &self,
        text: Tensor<2, Int>,
        latents: Tensor<3>,
        draws: DiffusionDraws,
    ) -> TransfusionLoss {
        let [_, length] = text.dims();
        assert!(length > 1, "a text of one token has none to predict");
        let noised = self.image.noised(latents, draws);
        let text = text.repeat_dim(0, noised.repeats); // [K*B, P]
        let prefix = self.token.embed(text.clone());
        let noisy = self.image.embed(noised.noisy);
        let hidden = self.image.denoiser.hidden(noisy, noised.timesteps, prefix);
        let prediction = self.image.denoiser.predict(hidden.image);
        let error = prediction.reshape(noised.target.dims()) - noised.target;
        let logits = self.token.logits(hidden.prefix.narrow(1, 0, length - 1));
        TransfusionLoss {
            token: cross_entropy(logits, text.narrow(1, 1, length - 1)),
            diffusion: error.square().mean(),
        }
    }

    /// Draws the latents of one image a text. `null` is what guidance leads away from, of the same
    /// length as the text.
    ///
    /// # Shapes
    /// - `text`, `null`: `[B, P]`
    /// - returns: `[B, T, Z]`, as the codec decodes them (whitening undone)
    pub fn generate(
        &self,
        text: Tensor<2, Int>,
        null: Option<Tensor<2, Int>>,
        options: &SampleOptions,
        random: &mut RandomStream,
    ) -> Tensor<3> {
        let dim = self.image.denoiser.latent_dim();
        let shape = [text.dims()[0], self.image.tokens, dim];
        let noise = random.normal(shape, &text.device());
        let null = null.map(|null| self.token.embed(null));
        let condition = self.token.embed(text);
        let latents = self.image.sample(condition, null, noise, options, random);
        self.image.latent.unwhiten(latents)
    }
}

/// The mean cross entropy of tokens under their scores.
///
/// # Shapes
/// - `logits`: `[B, T, V]`; `tokens`: `[B, T]`
/// - returns: `[1]`
pub(crate) fn cross_entropy(logits: Tensor<3>, tokens: Tensor<2, Int>) -> Tensor<1> {
    log_softmax(logits, 2)
        .gather(2, tokens.unsqueeze_dim(2))
        .mean()
        .neg()
}
