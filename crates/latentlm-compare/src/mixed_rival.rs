//! What a comparison asks of each model of text and pictures.

use std::ops::Range;
use std::path::Path;

use burn::module::Module;
use burn::tensor::{Device, Int, Tensor};
use latentlm::core::bundle::{BundleError, load_module};
use latentlm::core::{DiffusionDraws, LatentCodecConfig};
use latentlm::{
    Batch, GenerateOptions, LatentHead, LatentLm, Piece, Prompt, RandomStream, TextOptions, load_lm,
};
use latentlm_baselines::{MixedTransfusion, MixedVqLm};
use latentlm_data::PICTURES;
use latentlm_data::sequence::{Document, Layout};
use latentlm_train::{Portable, Share};

use super::mixed_recipe::CompareMixedRecipe;

/// Encoded pictures, `[I, ..]`.
pub(crate) trait Pictures: Portable + Clone + Send {
    /// Some of them.
    fn some(&self, pictures: Range<usize>) -> Self;
}

/// Latents, `[I, T, Z]`.
impl Pictures for Tensor<3> {
    fn some(&self, pictures: Range<usize>) -> Self {
        self.clone().slice(pictures)
    }
}

/// Codes, `[I, T]`.
impl Pictures for Tensor<2, Int> {
    fn some(&self, pictures: Range<usize>) -> Self {
        self.clone().slice(pictures)
    }
}

/// What the learned pictures of a pack are noised with.
pub(crate) struct Noise {
    pub(crate) draws: DiffusionDraws,
    /// Learned latents that a row of the draws is for.
    pub(crate) latents_a_row: usize,
}

/// The two parts of a model's loss, `[1]` each.
#[derive(Debug, Clone)]
pub(crate) struct RivalLoss {
    /// Mean cross entropy of the learned tokens of text, each as heavy as its document.
    pub(crate) token: Tensor<1>,
    /// Of the learned pictures: a denoising error, or the mean cross entropy of codes.
    pub(crate) picture: Tensor<1>,
}

/// A model of documents of text and encoded pictures.
pub(crate) trait MixedRival: Module {
    /// Name of its stage, curve and row.
    const NAME: &'static str;
    /// Encoded pictures: latents `[I, T, Z]` or codes `[I, T]`.
    type Encoded: Pictures;

    /// Loads its weights.
    ///
    /// # Errors
    /// If the file can't be read or does not fit.
    fn load(self, path: &Path) -> Result<Self, BundleError> {
        load_module(self, path)
    }

    /// What so many learned latents are noised with, at least one row of it; `None` of a model that
    /// denoises nothing.
    fn noise(
        &self,
        latents: usize,
        recipe: &CompareMixedRecipe,
        random: &mut RandomStream,
        device: &Device,
    ) -> Option<Noise>;

    /// The loss of some documents of a pack and their pictures, with their rows of the pack's noise.
    fn loss(
        &self,
        share: &Share,
        pictures: Self::Encoded,
        noise: Option<DiffusionDraws>,
    ) -> RivalLoss;

    /// `-log p` of every learned token of documents whose pictures are not learned, `[M]`.
    fn surprise(
        &self,
        documents: &[Document],
        pictures: Self::Encoded,
        device: &Device,
    ) -> Tensor<1>;

    /// Draws a picture for each text, as the recipe says.
    fn draw(
        &self,
        texts: &[Vec<u32>],
        recipe: &CompareMixedRecipe,
        random: &mut RandomStream,
        device: &Device,
    ) -> Self::Encoded;
}

/// Latents one after the other, `[N, Z]`.
fn flat(latents: Tensor<3>) -> Tensor<2> {
    let [pictures, tokens, dim] = latents.dims();
    latents.reshape([pictures * tokens, dim])
}

impl MixedRival for LatentLm {
    const NAME: &'static str = "latentlm";
    type Encoded = Tensor<3>;

    fn load(self, path: &Path) -> Result<Self, BundleError> {
        load_lm(self, path)
    }

    fn noise(
        &self,
        latents: usize,
        recipe: &CompareMixedRecipe,
        random: &mut RandomStream,
        device: &Device,
    ) -> Option<Noise> {
        let rows = recipe.mixed.lm.batch_mul * latents.max(1);
        Some(Noise {
            draws: self.head_of(PICTURES).draw(rows, random, device),
            latents_a_row: 1,
        })
    }

    fn loss(&self, share: &Share, pictures: Tensor<3>, noise: Option<DiffusionDraws>) -> RivalLoss {
        let latents = vec![flat(self.latents[PICTURES].whiten(pictures))];
        let noise = noise.into_iter().collect();
        let batch = Batch {
            weights: share.weights.clone(),
            ..Batch::new(share.documents.clone(), latents, noise)
        };
        let loss = LatentLm::loss(self, batch);
        RivalLoss {
            token: loss.token,
            // Of the one modality there is.
            picture: Tensor::cat(loss.diffusion, 0).sum(),
        }
    }

    fn surprise(&self, documents: &[Document], pictures: Tensor<3>, _: &Device) -> Tensor<1> {
        let layout: Layout = self.layout(documents);
        let latents = self.latents[PICTURES].whiten(pictures);
        let hidden = self.hidden(&layout, &[flat(latents)]);
        LatentLm::surprise(self, &layout, hidden)
    }

    fn draw(
        &self,
        texts: &[Vec<u32>],
        recipe: &CompareMixedRecipe,
        random: &mut RandomStream,
        device: &Device,
    ) -> Tensor<3> {
        let (tokens, dim) = (recipe.mixed.tokens(), recipe.mixed.codec.spec().dim);
        let prompts = texts.iter().map(|text| Prompt {
            pieces: vec![Piece::Text(text.clone())],
            open: Some(PICTURES),
            seed: random.seed(),
            ..Prompt::default()
        });
        let prompts: Vec<Prompt> = prompts.collect();
        let options = GenerateOptions {
            text: TextOptions::GREEDY,
            sample: recipe.mixed.sample_options(),
            max_positions: tokens + 1,
        };
        let made = self.generate(&prompts, &options).into_iter();
        let drawn = made.map(|made| match made.pieces.into_iter().next() {
            Some(Piece::Latents { latents, .. }) => latents.unsqueeze_dim::<3>(0),
            _ => Tensor::zeros([1, tokens, dim], device),
        });
        Tensor::cat(drawn.collect(), 0)
    }
}

/// Pictures as rows, `[I, T * Z]`, whitened.
fn rows(model: &MixedTransfusion, pictures: Tensor<3>) -> Tensor<2> {
    let [count, tokens, dim] = pictures.dims();
    let latents = model.image.latent.whiten(pictures);
    latents.reshape([count, tokens * dim])
}

impl MixedRival for MixedTransfusion {
    const NAME: &'static str = "transfusion";
    type Encoded = Tensor<3>;

    fn noise(
        &self,
        latents: usize,
        _recipe: &CompareMixedRecipe,
        random: &mut RandomStream,
        device: &Device,
    ) -> Option<Noise> {
        let latents_a_row = self.image.tokens;
        let pictures = (latents / latents_a_row).max(1);
        Some(Noise {
            draws: self.image.draw(pictures, random, device),
            latents_a_row,
        })
    }

    fn loss(&self, share: &Share, pictures: Tensor<3>, noise: Option<DiffusionDraws>) -> RivalLoss {
        let noise = noise.expect("Transfusion noises its pictures");
        let pictures = rows(self, pictures);
        let (documents, weights) = (&share.documents, &share.weights);
        let loss = MixedTransfusion::loss(self, documents, pictures, noise, weights);
        RivalLoss {
            token: loss.token,
            picture: loss.diffusion,
        }
    }

    fn surprise(&self, documents: &[Document], pictures: Tensor<3>, device: &Device) -> Tensor<1> {
        let layout: Layout = self.layout(documents);
        let times = Tensor::zeros([pictures.dims()[0]], device);
        let pictures = rows(self, pictures);
        let hidden = self.hidden(documents, &layout, (pictures, times));
        MixedTransfusion::surprise(self, &layout, hidden)
    }

    fn draw(
        &self,
        texts: &[Vec<u32>],
        recipe: &CompareMixedRecipe,
        random: &mut RandomStream,
        device: &Device,
    ) -> Tensor<3> {
        self.generate(texts, &recipe.sample_options(), (random, device))
    }
}

fn host_codes(codes: Tensor<2, Int>) -> Vec<i64> {
    let data = codes.into_data().convert::<i64>();
    data.try_into_vec().unwrap_or_default()
}

impl MixedRival for MixedVqLm {
    const NAME: &'static str = "vq";
    type Encoded = Tensor<2, Int>;

    fn noise(
        &self,
        _latents: usize,
        _recipe: &CompareMixedRecipe,
        _random: &mut RandomStream,
        _device: &Device,
    ) -> Option<Noise> {
        None
    }

    fn loss(
        &self,
        share: &Share,
        pictures: Tensor<2, Int>,
        _noise: Option<DiffusionDraws>,
    ) -> RivalLoss {
        let device = pictures.device();
        let codes = host_codes(pictures);
        let (documents, weights) = (&share.documents, &share.weights);
        let loss = MixedVqLm::loss(self, documents, &codes, weights, &device);
        RivalLoss {
            token: loss.token,
            picture: loss.code,
        }
    }

    fn surprise(
        &self,
        documents: &[Document],
        pictures: Tensor<2, Int>,
        device: &Device,
    ) -> Tensor<1> {
        MixedVqLm::surprise(self, documents, &host_codes(pictures), device)
    }

    fn draw(
        &self,
        texts: &[Vec<u32>],
        recipe: &CompareMixedRecipe,
        random: &mut RandomStream,
        device: &Device,
    ) -> Tensor<2, Int> {
        let tokens = recipe.mixed.tokens();
        self.generate(texts, tokens, &recipe.token_options(), (random, device))
    }
}
