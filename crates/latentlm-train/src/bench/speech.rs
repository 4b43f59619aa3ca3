//! Workloads of the speech codec.

use burn::tensor::Device;
use latentlm::codec_audio::{Codec, CodecConfig, DecoderState};
use latentlm::{LatentCodec, RandomStream, StreamingCodec};

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
    let signal = random.normal([sizes.batch, 1, samples], &device);
    Box::new(move || {
        let codec = player.model();
        let posterior = codec.encode(signal.clone());
        let shape = posterior.mean.dims();
        let scale = random.normal([sizes.batch], &device);
        let latents = posterior.sample(scale, random.normal(shape, &device));
        let error = (codec.decode(latents) - signal.clone()).square().mean();
        player.backward(error);
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
