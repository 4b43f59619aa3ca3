//! Workloads of the speech codec.

use burn::tensor::{Device, Tensor};
use latentlm::codec_audio::{Codec, CodecConfig, DecoderState};
use latentlm::{LatentCodec, RandomStream, StreamingCodec};
use latentlm_kernels::parts_of;

use super::SpeechSizes;
use super::image::wait;
use crate::image::ImageRecipe;
use crate::optimize::Player;

fn codec(sizes: SpeechSizes, device: &Device) -> Codec {
    CodecConfig::new()
        .with_sample_rate_hz(16_000)
        .with_latent_dim(sizes.latent_dim)
        .with_width(sizes.width)
        .with_ratios(sizes.ratios.to_vec())
        .with_depths(sizes.depths.to_vec())
        .init(device)
}

pub(super) fn codec_step(sizes: SpeechSizes, device: &Device) -> Box<dyn FnMut()> {
    let device = device.clone().autodiff();
    let stage = ImageRecipe::default().codec_train;
    let mut player = Player::new(codec(sizes, &device), &stage);
    let samples = sizes.frames * sizes.ratios.iter().product::<usize>();
    let mut random = RandomStream::new(0);
    let signal: Tensor<3> = random.normal([sizes.batch, 1, samples], &device);
    Box::new(move || {
        let shape = [sizes.batch, sizes.frames, sizes.latent_dim];
        let scale: Tensor<1> = random.normal([sizes.batch], &device);
        let noise: Tensor<3> = random.normal(shape, &device);
        let parts = parts_of(&device, sizes.batch, 1).into_iter().map(|own| {
            let (start, count) = (own.start, own.len());
            (
                count as f64 / sizes.batch as f64,
                signal.clone().narrow(0, start, count),
                scale.clone().narrow(0, start, count),
                noise.clone().narrow(0, start, count),
            )
        });
        player.backward_parts(parts.collect(), |codec, (share, signal, scale, noise)| {
            let latents = codec.encode(signal.clone()).sample(scale, noise);
            let error = (codec.decode(latents) - signal).square().mean();
            (error.mul_scalar::<f64>(share), ())
        });
        wait(&device);
    })
}

pub(super) fn decode(sizes: SpeechSizes, device: &Device) -> Box<dyn FnMut()> {
    let device = device.clone();
    let codec = codec(sizes, &device);
    let mut random = RandomStream::new(0);
    let mut state = DecoderState::default();
    Box::new(move || {
        let latent = random.normal([sizes.batch, 1, sizes.latent_dim], &device);
        codec.decode_step(latent, &mut state);
        wait(&device);
    })
}
