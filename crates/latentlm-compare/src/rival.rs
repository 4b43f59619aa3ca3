//! What a comparison asks of each model, and what an image is to it.

use std::path::Path;

use burn::module::Module;
use burn::tensor::{Device, Int, Tensor, TensorData};
use latentlm::adapters::LabelAdapter;
use latentlm::codec_image::Codec;
use latentlm::core::bundle::{BundleError, BundleWriter, load_module, save_module};
use latentlm::sequence::Document;
use latentlm::{Batch, LatentCodec, LatentHead, LatentLm, RandomStream, load_lm};
use latentlm_baselines::{ClassConditional, Dit, ImageDenoiser, Transfusion, VqCodec, VqLm};
use latentlm_data::{LatentCache, PICTURES};
use latentlm_pipelines::{draw_latents, label_tensor};
use latentlm_train::TrainError;
use latentlm_train::gather;

use super::recipe::{CompareRecipe, DenoiserRecipe};

/// A class-conditional model of encoded images.
pub(crate) trait Rival: Module {
    /// Name of its stage, curve and row.
    const NAME: &'static str;
    /// Encoded images: latents `[B, T, Z]` or codes `[B, T]`.
    type Encoded;

    /// Its labels.
    fn label(&self) -> &LabelAdapter;

    /// Loads its weights.
    ///
    /// # Errors
    /// If the file can't be read or does not fit.
    fn load(self, path: &Path) -> Result<Self, BundleError> {
        load_module(self, path)
    }

    /// The loss of a batch, `[1]`.
    fn loss(
        &self,
        labels: &[u32],
        encoded: Self::Encoded,
        recipe: &CompareRecipe,
        random: &mut RandomStream,
    ) -> Tensor<1>;

    /// Draws one image a label, as the recipe says.
    fn generate(
        &self,
        labels: &[u32],
        recipe: &CompareRecipe,
        random: &mut RandomStream,
        device: &Device,
    ) -> Self::Encoded;
}

impl Rival for LatentLm {
    const NAME: &'static str = "latentlm";
    type Encoded = Tensor<3>;

    fn label(&self) -> &LabelAdapter {
        self.label_adapter()
    }

    fn load(self, path: &Path) -> Result<Self, BundleError> {
        load_lm(self, path)
    }

    fn loss(
        &self,
        labels: &[u32],
        latents: Tensor<3>,
        recipe: &CompareRecipe,
        random: &mut RandomStream,
    ) -> Tensor<1> {
        let [batch, tokens, dim] = latents.dims();
        let count = batch * tokens;
        let rows = recipe.image.lm.batch_mul * count;
        let draws = self.head_of(PICTURES).draw(rows, random, &latents.device());
        let latents = self.latents[PICTURES].whiten(latents);
        let latents = latents.reshape([count, dim]);
        let documents = labels.iter();
        let documents = documents.map(|&label| Document::of_class(label, tokens));
        let batch = Batch::new(documents.collect(), vec![latents], vec![draws]);
        let mut loss = LatentLm::loss(self, batch);
        loss.diffusion.swap_remove(PICTURES)
    }

    fn generate(
        &self,
        labels: &[u32],
        recipe: &CompareRecipe,
        random: &mut RandomStream,
        _device: &Device,
    ) -> Tensor<3> {
        self.draw_images(labels, &recipe.image.sample_options(), random)
    }
}

fn denoising_loss<M: ImageDenoiser>(
    model: &ClassConditional<M>,
    labels: &[u32],
    latents: Tensor<3>,
    rival: &DenoiserRecipe,
    random: &mut RandomStream,
) -> Tensor<1> {
    let labels = label_tensor(labels, &latents.device());
    let images = rival.batch_mul * latents.dims()[0];
    let draws = model.image.draw(images, random, &latents.device());
    let latents = model.image.latent.whiten(latents);
    ClassConditional::loss(model, labels, latents, draws)
}

impl Rival for Dit {
    const NAME: &'static str = "dit";
    type Encoded = Tensor<3>;

    fn label(&self) -> &LabelAdapter {
        &self.label
    }

    fn loss(
        &self,
        labels: &[u32],
        latents: Tensor<3>,
        recipe: &CompareRecipe,
        random: &mut RandomStream,
    ) -> Tensor<1> {
        denoising_loss(self, labels, latents, &recipe.dit, random)
    }

    fn generate(
        &self,
        labels: &[u32],
        recipe: &CompareRecipe,
        random: &mut RandomStream,
        device: &Device,
    ) -> Tensor<3> {
        let labels = label_tensor(labels, device);
        let options = recipe.sample_options(&recipe.dit);
        ClassConditional::generate(self, labels, &options, random)
    }
}

impl Rival for Transfusion {
    const NAME: &'static str = "transfusion";
    type Encoded = Tensor<3>;

    fn label(&self) -> &LabelAdapter {
        &self.label
    }

    fn loss(
        &self,
        labels: &[u32],
        latents: Tensor<3>,
        recipe: &CompareRecipe,
        random: &mut RandomStream,
    ) -> Tensor<1> {
        denoising_loss(self, labels, latents, &recipe.transfusion, random)
    }

    fn generate(
        &self,
        labels: &[u32],
        recipe: &CompareRecipe,
        random: &mut RandomStream,
        device: &Device,
    ) -> Tensor<3> {
        let labels = label_tensor(labels, device);
        let options = recipe.sample_options(&recipe.transfusion);
        ClassConditional::generate(self, labels, &options, random)
    }
}

impl Rival for VqLm {
    const NAME: &'static str = "vq";
    type Encoded = Tensor<2, Int>;

    fn label(&self) -> &LabelAdapter {
        &self.label
    }

    fn loss(
        &self,
        labels: &[u32],
        codes: Tensor<2, Int>,
        _recipe: &CompareRecipe,
        _random: &mut RandomStream,
    ) -> Tensor<1> {
        let labels = label_tensor(labels, &codes.device());
        VqLm::loss(self, labels, codes)
    }

    fn generate(
        &self,
        labels: &[u32],
        recipe: &CompareRecipe,
        random: &mut RandomStream,
        device: &Device,
    ) -> Tensor<2, Int> {
        let labels = label_tensor(labels, device);
        VqLm::generate(self, labels, &recipe.token_options(), random)
    }
}

/// All training pictures encoded, and the way back to pictures.
pub(crate) trait Coding {
    /// Encoded images.
    type Encoded;

    /// The class of each picture.
    fn labels(&self) -> &[u32];

    /// Some pictures, with the noise that they are trained with.
    fn gather(
        &self,
        indices: &[usize],
        random: &mut RandomStream,
        device: &Device,
    ) -> Self::Encoded;

    /// Pictures `[B, C, H, W]` as they are read, without noise.
    fn encode(&self, pictures: Tensor<4>) -> Self::Encoded;

    /// Pictures, `[B, C, H, W]`.
    fn decode(&self, encoded: Self::Encoded) -> Tensor<4>;

    /// Adds the codec to a checkpoint: with it, the folder alone is enough to sample from.
    fn save(&self, bundle: &BundleWriter) -> Result<(), TrainError>;
}

/// Continuous latents of the image codec.
pub(crate) struct Latents {
    pub(crate) codec: Codec,
    pub(crate) cache: LatentCache,
}

impl Coding for Latents {
    type Encoded = Tensor<3>;

    fn labels(&self) -> &[u32] {
        &self.cache.labels
    }

    fn gather(&self, indices: &[usize], random: &mut RandomStream, device: &Device) -> Tensor<3> {
        if indices.is_empty() {
            let tokens = self.cache.lengths[0] as usize;
            return Tensor::zeros([0, tokens, self.codec.spec().dim], device);
        }
        let posterior = self.codec.posterior(gather(&self.cache, indices, device));
        draw_latents(&posterior, random)
    }

    fn encode(&self, pictures: Tensor<4>) -> Tensor<3> {
        self.codec.encode(pictures).mode()
    }

    fn decode(&self, latents: Tensor<3>) -> Tensor<4> {
        self.codec.decode(latents)
    }

    fn save(&self, bundle: &BundleWriter) -> Result<(), TrainError> {
        Ok(save_module(&self.codec, &bundle.path("codec.safetensors"))?)
    }
}

/// Codes of the vector-quantized codec.
pub(crate) struct Codes {
    pub(crate) codec: VqCodec,
    /// All codes, picture after picture.
    pub(crate) codes: Vec<i64>,
    pub(crate) labels: Vec<u32>,
}

impl Coding for Codes {
    type Encoded = Tensor<2, Int>;

    fn labels(&self) -> &[u32] {
        &self.labels
    }

    fn gather(
        &self,
        indices: &[usize],
        _random: &mut RandomStream,
        device: &Device,
    ) -> Tensor<2, Int> {
        let tokens = self.codes.len() / self.labels.len();
        let picture = |&index: &usize| &self.codes[index * tokens..(index + 1) * tokens];
        let codes: Vec<i64> = indices.iter().flat_map(picture).copied().collect();
        Tensor::from_data(TensorData::new(codes, [indices.len(), tokens]), device)
    }

    fn encode(&self, pictures: Tensor<4>) -> Tensor<2, Int> {
        self.codec.encode(pictures)
    }

    fn decode(&self, codes: Tensor<2, Int>) -> Tensor<4> {
        self.codec.decode(codes)
    }

    fn save(&self, bundle: &BundleWriter) -> Result<(), TrainError> {
        Ok(save_module(&self.codec, &bundle.path("codec.safetensors"))?)
    }
}
