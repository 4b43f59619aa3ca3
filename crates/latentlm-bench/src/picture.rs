//! The step of a convolutional codec of pictures.

use burn::tensor::Tensor;
use latentlm::LatentCodec;
use latentlm::codec_image::{Architecture, CodecConfig, ConvConfig, VitConfig};
use latentlm::core::{LatentCodecConfig, LatentNoise};
use latentlm_kernels::shards;
use latentlm_pipelines::ImageRecipe;
use latentlm_train::Trainer;

use crate::Unit;
use crate::inputs::Inputs;
use crate::sizes::PictureSizes;

pub(super) fn config(sizes: PictureSizes) -> CodecConfig {
    let conv = ConvConfig::new()
        .with_base_width(sizes.width)
        .with_multipliers(sizes.multipliers.to_vec())
        .with_blocks(sizes.blocks)
        .with_norm_groups(sizes.norm_groups);
    CodecConfig::new(conv, VitConfig::new())
        .with_channels(sizes.channels)
        .with_image_size(sizes.image_size)
        .with_latent_dim(sizes.latent_dim)
        .with_architecture(Architecture::Conv)
}

pub(super) fn codec_step(sizes: PictureSizes, mut inputs: Inputs) -> Unit {
    let config = config(sizes);
    let stage = ImageRecipe::default().codec_train;
    let mut trainer = Trainer::new(config.init(&inputs.device), &stage);
    let side = sizes.image_size;
    let pictures: Tensor<4> = inputs.normal([sizes.batch, sizes.channels, side, side]);
    Box::new(move || {
        let shape = [sizes.batch, config.tokens(), sizes.latent_dim];
        let noise = LatentNoise::draw(shape, &mut inputs.random, &inputs.device);
        trainer.backward_shards(shards(&inputs.device, sizes.batch), |codec, own| {
            let share = own.len() as f64 / sizes.batch as f64;
            let pictures = pictures.clone().slice(own.clone());
            let LatentNoise { scale, eps } = noise.rows(own);
            let latents = codec.encode(pictures.clone()).sample(scale, eps);
            let error = (codec.decode(latents) - pictures).square().mean();
            (error.mul_scalar::<f64>(share), ())
        });
    })
}
