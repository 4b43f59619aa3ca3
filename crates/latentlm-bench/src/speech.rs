//! Workloads of the speech codec.

use burn::tensor::{Device, Tensor};
use latentlm::codec_audio::{CodecConfig, CodecLossConfig, DecoderState};
use latentlm::core::{CodecObjectiveConfig, LatentCodecConfig, LatentNoise};
use latentlm::{RandomStream, StreamingCodec};
use latentlm_kernels::shards_of;
use latentlm_pipelines::SpeechRecipe;
use latentlm_train::{CodecShard, Trainer};

use crate::Unit;
use crate::image::wait;
use crate::sizes::SpeechSizes;

pub(super) fn config(sizes: SpeechSizes) -> CodecConfig {
    CodecConfig {
        latent_dim: sizes.latent_dim,
        frames_per_latent: sizes.frames_per_latent,
        ratios: sizes.ratios.to_vec(),
        depths: sizes.depths.to_vec(),
        widths: sizes.widths.to_vec(),
        ..SpeechRecipe::default().codec
    }
}

pub(super) fn loss(sizes: SpeechSizes) -> CodecLossConfig {
    CodecLossConfig {
        windows: sizes.windows.to_vec(),
        mel_bands: sizes.mel_bands.to_vec(),
        ..SpeechRecipe::default().codec_loss
    }
}

pub(super) fn codec_step(sizes: SpeechSizes, device: &Device) -> Unit {
    let device = device.clone().autodiff();
    let stage = SpeechRecipe::default().codec_train;
    let config = config(sizes);
    let loss = loss(sizes).init(&config, &device);
    let loss = loss.expect("the recipe's loss");
    let mut trainer = Trainer::new(config.init(&device), &stage);
    let samples = sizes.frames * config.hop_samples();
    let mut random = RandomStream::new(0);
    let signal: Tensor<3> = random.normal([sizes.batch, 1, samples], &device);
    Box::new(move || {
        let shape = [sizes.batch, sizes.frames, sizes.latent_dim];
        let noise = LatentNoise::draw(shape, &mut random, &device);
        let ranges = shards_of(&device, sizes.batch, 1);
        let shards = CodecShard::all(&signal, &noise, &loss, ranges);
        trainer.backward_shards(shards, |codec, shard| {
            let (loss, ..) = shard.loss(codec, None);
            (loss, ())
        });
        wait(&device);
    })
}

pub(super) fn decode(sizes: SpeechSizes, device: &Device) -> Unit {
    let device = device.clone();
    let codec = config(sizes).init(&device);
    let mut random = RandomStream::new(0);
    let mut state = DecoderState::default();
    Box::new(move || {
        let latent = random.normal([sizes.batch, 1, sizes.latent_dim], &device);
        codec.decode_step(latent, &mut state);
        wait(&device);
    })
}
