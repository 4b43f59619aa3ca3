//! Workloads of the speech codec.

use burn::tensor::Tensor;
use latentlm::StreamingCodec;
use latentlm::codec_audio::{CodecConfig, CodecLossConfig, DecoderState};
use latentlm::core::{LatentCodecConfig, LatentNoise};
use latentlm_kernels::shards_of;
use latentlm_pipelines::SpeechRecipe;
use latentlm_train::{AdversarialTrainer, DataParallel, codec_setup};

use crate::Unit;
use crate::inputs::Inputs;
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

pub(super) fn codec_step(sizes: SpeechSizes, mut inputs: Inputs) -> Unit {
    let stage = SpeechRecipe::default().codec_train;
    let config = config(sizes);
    let setup = codec_setup::<CodecLossConfig, 3>(&config, &loss(sizes), &inputs.device);
    let setup = setup.expect("the recipe's loss");
    // The recipe has no discriminator; a test holds that.
    let mut trainer = AdversarialTrainer::new(setup, &stage, DataParallel::default());
    let samples = sizes.frames * config.hop_samples();
    let signal: Tensor<3> = inputs.normal([sizes.batch, 1, samples]);
    let shape = [sizes.batch, sizes.frames, sizes.latent_dim];
    Box::new(move || {
        let noise = LatentNoise::draw(shape, &mut inputs.random, &inputs.device);
        let ranges = shards_of(&inputs.device, sizes.batch, 1);
        trainer.backward(&signal, &noise, ranges);
    })
}

pub(super) fn decode(sizes: SpeechSizes, mut inputs: Inputs) -> Unit {
    let codec = config(sizes).init(&inputs.device);
    let mut state = DecoderState::default();
    Box::new(move || {
        let latent = inputs.normal([sizes.batch, 1, sizes.latent_dim]);
        codec.decode_step(latent, &mut state);
    })
}
