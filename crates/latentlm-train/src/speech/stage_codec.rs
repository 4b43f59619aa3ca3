//! The first stage: the speech codec.

use burn::tensor::{Device, Tensor};
use latentlm::codec_audio::{Codec, CodecLossConfig};
use latentlm::core::{CodecObjectiveConfig, LatentCodecConfig};
use latentlm_data::speech::write_wav;
use latentlm_eval::{mel_distance_db, save_spectrograms, stoi};
use latentlm_pipelines::{SpeechData, SpeechRecipe, StageConfig, reconstruct};

use super::pieces::Pieces;
use super::run::Context;
use crate::adversarial::CodecParts;
use crate::codec_stage;
use crate::codec_stage::{CodecTask, codec_parts};
use crate::error::TrainError;

/// Held-out recordings that are heard as training goes.
const HEARD: usize = 4;

/// Training of a codec of sound.
struct SoundTask {
    pieces: Pieces,
}

/// Trains the codec or takes up where it was left. Returns whether it is finished: a stop leaves
/// it unfinished.
///
/// # Errors
/// If data can't be read, the loss is not finite, or a checkpoint can't be written.
pub fn train(context: &mut Context) -> Result<bool, TrainError> {
    codec_stage::train::<SoundTask, 3>(context)
}

impl CodecTask<3> for SoundTask {
    type Recipe = SpeechRecipe;
    type Data = SpeechData;
    type Objective = <CodecLossConfig as CodecObjectiveConfig<3>>::Objective;
    const NAME: &'static str = "codec";
    /// A signal is long enough to be worth a thread alone.
    const ROWS_A_SHARD: usize = 1;

    fn config(recipe: &SpeechRecipe) -> &StageConfig {
        &recipe.codec_train
    }

    fn parts(
        recipe: &SpeechRecipe,
        device: &Device,
    ) -> Result<CodecParts<Self::Objective, 3>, TrainError> {
        Ok(codec_parts(&recipe.codec, &recipe.codec_loss, device)?)
    }

    fn open(context: &mut Context, _first_step: u64) -> Result<Self, TrainError> {
        let recipe = &context.recipe;
        let samples = recipe.codec_frames() * recipe.codec.signal().hop_samples;
        let (batch_size, seed) = (recipe.codec_train.batch_size, recipe.seed);
        let pieces = Pieces::new(&mut context.data, batch_size, samples, seed)?;
        Ok(Self { pieces })
    }

    fn batch(
        &mut self,
        _context: &Context,
        round: u64,
        device: &Device,
    ) -> Result<Tensor<3>, TrainError> {
        Ok(self.pieces.batch(round, device))
    }

    /// Held-out recordings through the codec, without noise: numbers, a picture, a sound.
    fn show(&mut self, context: &mut Context, codec: &Codec, step: u64) -> Result<(), TrainError> {
        let (mut sounds, mut distance, mut likeness) = (Vec::new(), 0.0, 0.0);
        let rate = context.recipe.codec.signal().sample_rate_hz;
        for index in 0..context.data.test.len().min(HEARD) {
            // A recording that turns out to be broken is not heard.
            let Ok(original) = context.data.test.get(index) else {
                continue;
            };
            let (original, decoded) = reconstruct(codec, original.samples, &context.device);
            distance += mel_distance_db(&original, &decoded, rate);
            likeness += stoi(&original, &decoded, rate).unwrap_or_default();
            sounds.extend([original, decoded]);
        }
        let pairs = sounds.len() / 2;
        if pairs == 0 {
            return Ok(());
        }
        let count = pairs as f64;
        let values = [
            ("held_out_mel_distance_db", distance / count),
            ("held_out_stoi", likeness / count),
        ];
        context.log(Self::NAME, step, &values)?;
        let file = |ending: &str| {
            let name = format!("samples/codec-step-{step}.{ending}");
            context.run.file(&name)
        };
        save_spectrograms(&sounds[..2], &file("png"))?;
        write_wav(&file("wav"), &sounds[1], rate)?;
        Ok(())
    }
}
