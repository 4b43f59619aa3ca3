//! The step of a convolutional codec of pictures.

use burn::tensor::{Device, Tensor};
use latentlm::codec_image::{Architecture, CodecConfig, ConvConfig};
use latentlm::core::{LatentCodecConfig, LatentNoise};
use latentlm::{LatentCodec, RandomStream};
use latentlm_kernels::shards;
use latentlm_pipelines::ImageRecipe;
use latentlm_train::Trainer;

use crate::Unit;
use crate::image::wait;
use crate::sizes::PictureSizes;

pub(super) fn config(sizes: PictureSizes) -> CodecConfig {
    let conv = ConvConfig::new()
        .with_base_width(sizes.width)
        .with_multipliers(sizes.multipliers.to_vec())
        .with_blocks(sizes.blocks)
        .with_norm_groups(sizes.norm_groups);
    CodecConfig {
        channels: sizes.channels,
        image_size: sizes.image_size,
        latent_dim: sizes.latent_dim,
        architecture: Architecture::Conv,
        conv,
        ..CodecConfig::default()
    }
}

pub(super) fn codec_step(sizes: PictureSizes, device: &Device) -> Unit {
    let device = device.clone().autodiff();
    let config = config(sizes);
    let mut trainer = Trainer::new(config.init(&device), &ImageRecipe::default().codec_train);
    let mut random = RandomStream::new(0);
    let side = sizes.image_size;
    let pictures: Tensor<4> = random.normal([sizes.batch, sizes.channels, side, side], &device);
    Box::new(move || {
        let shape = [sizes.batch, config.tokens(), sizes.latent_dim];
        let noise = LatentNoise::draw(shape, &mut random, &device);
        trainer.backward_shards(shards(&device, sizes.batch), |codec, own| {
            let share = own.len() as f64 / sizes.batch as f64;
            let pictures = pictures.clone().slice(own.clone());
            let LatentNoise { scale, eps } = noise.rows(own);
            let latents = codec.encode(pictures.clone()).sample(scale, eps);
            let error = (codec.decode(latents) - pictures).square().mean();
            (error.mul_scalar::<f64>(share), ())
        });
        wait(&device);
    })
}
