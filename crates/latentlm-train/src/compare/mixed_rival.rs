//! What a comparison asks of each model of text and pictures.

use burn::module::Module;
use burn::tensor::{Device, Int, Tensor};
use latentlm::{
    GenerateOptions, LatentHead, MixedLm, MixedPrompt, Piece, RandomStream, TextOptions,
};
use latentlm_baselines::{MixedTransfusion, MixedVqLm};
use latentlm_data::PICTURES;
use latentlm_data::sequence::{Document, Layout};

use super::mixed_recipe::CompareMixedRecipe;

/// A model of documents of text and encoded pictures.
pub(crate) trait MixedRival: Module {
    /// Name of its stage, curve and row.
    const NAME: &'static str;
    /// Encoded pictures: latents `[I, T, Z]` or codes `[I, T]`.
    type Encoded;

    /// The loss of a pack, `[1]`.
    fn loss(
        &self,
        documents: &[Document],
        pictures: Self::Encoded,
        recipe: &CompareMixedRecipe,
        random: &mut RandomStream,
    ) -> Tensor<1>;

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

impl MixedRival for MixedLm {
    const NAME: &'static str = "latentlm";
    type Encoded = Tensor<3>;

    fn loss(
        &self,
        documents: &[Document],
        pictures: Tensor<3>,
        recipe: &CompareMixedRecipe,
        random: &mut RandomStream,
    ) -> Tensor<1> {
        let device = pictures.device();
        let layout: Layout = self.layout(documents);
        let rows = recipe.mixed.lm.batch_mul * layout.learned[PICTURES].latents.len().max(1);
        let draws = self.head_of(PICTURES).draw(rows, random, &device);
        let latents = self.adapters.latents[PICTURES].whiten(pictures);
        let loss = MixedLm::loss(self, documents, &[flat(latents)], vec![draws]);
        let token = loss.token.mul_scalar(recipe.mixed.text.loss_weight);
        loss.diffusion.into_iter().fold(token, |sum, own| sum + own)
    }

    fn surprise(&self, documents: &[Document], pictures: Tensor<3>, _: &Device) -> Tensor<1> {
        let layout: Layout = self.layout(documents);
        let latents = self.adapters.latents[PICTURES].whiten(pictures);
        let hidden = self.hidden(documents, &layout, &[flat(latents)]);
        MixedLm::surprise(self, &layout, hidden)
    }

    fn draw(
        &self,
        texts: &[Vec<u32>],
        recipe: &CompareMixedRecipe,
        random: &mut RandomStream,
        device: &Device,
    ) -> Tensor<3> {
        let (tokens, dim) = (recipe.mixed.codec.tokens(), recipe.mixed.codec.latent_dim);
        let prompts = texts.iter().map(|text| MixedPrompt {
            pieces: vec![Piece::Text(text.clone())],
            open: Some(PICTURES),
            seed: random.seed(),
        });
        let prompts: Vec<MixedPrompt> = prompts.collect();
        let options = GenerateOptions {
            text: TextOptions::GREEDY,
            sample: recipe.mixed.sample_options(),
            frames: vec![tokens],
            max_positions: tokens + 1,
        };
        let made = self.generate(&prompts, &options, device).into_iter();
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

    fn loss(
        &self,
        documents: &[Document],
        pictures: Tensor<3>,
        recipe: &CompareMixedRecipe,
        random: &mut RandomStream,
    ) -> Tensor<1> {
        let device = pictures.device();
        let learned = self.layout(documents).learned.swap_remove(PICTURES);
        let drawn = learned.latents.len() / self.image.tokens;
        let draws = self.image.draw(drawn, random, &device);
        let pictures = rows(self, pictures);
        let loss = MixedTransfusion::loss(self, documents, pictures, draws);
        loss.token.mul_scalar(recipe.mixed.text.loss_weight) + loss.diffusion
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

    fn loss(
        &self,
        documents: &[Document],
        pictures: Tensor<2, Int>,
        _recipe: &CompareMixedRecipe,
        _random: &mut RandomStream,
    ) -> Tensor<1> {
        let device = pictures.device();
        let codes = host_codes(pictures);
        MixedVqLm::surprise(self, documents, &codes, &device).mean()
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
        let tokens = recipe.mixed.codec.tokens();
        self.generate(texts, tokens, &recipe.token_options(), (random, device))
    }
}
