//! The step of a convolutional codec of pictures.

use burn::tensor::{Device, Tensor};
use latentlm::codec_image::{Architecture, CodecConfig, ConvConfig};
use latentlm::core::LatentCodecConfig;
use latentlm::{LatentCodec, RandomStream};
use latentlm_kernels::shards;
use latentlm_pipelines::ImageRecipe;
use latentlm_train::Trainer;

use crate::image::wait;
use crate::sizes::PictureSizes;

fn config(sizes: PictureSizes) -> CodecConfig {
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

pub(super) fn codec_step(sizes: PictureSizes, device: &Device) -> Box<dyn FnMut()> {
    let device = device.clone().autodiff();
    let config = config(sizes);
    let mut trainer = Trainer::new(config.init(&device), &ImageRecipe::default().codec_train);
    let mut random = RandomStream::new(0);
    let side = sizes.image_size;
    let pictures: Tensor<4> = random.normal([sizes.batch, sizes.channels, side, side], &device);
    Box::new(move || {
        let scale: Tensor<1> = random.normal([sizes.batch], &device);
        let shape = [sizes.batch, config.tokens(), sizes.latent_dim];
        let noise: Tensor<3> = random.normal(shape, &device);
        let shards = shards(&device, sizes.batch).into_iter().map(|own| {
            let (start, count) = (own.start, own.len());
            let share = count as f64 / sizes.batch as f64;
            let pictures = pictures.clone().narrow(0, start, count);
            let scale = scale.clone().narrow(0, start, count);
            let noise = noise.clone().narrow(0, start, count);
            ((share, pictures), (scale, noise))
        });
        trainer.backward_shards(
            shards.collect(),
            |codec, ((share, pictures), (scale, noise))| {
                let latents = codec.encode(pictures.clone()).sample(scale, noise);
                let error = (codec.decode(latents) - pictures).square().mean();
                (error.mul_scalar::<f64>(share), ())
            },
        );
        wait(&device);
    })
}
