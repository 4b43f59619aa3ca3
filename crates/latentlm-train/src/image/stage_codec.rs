//! The first stage: the codec of pictures.

use burn::tensor::{Device, Tensor};
use latentlm::codec_image::{Codec, CodecLossConfig};
use latentlm::core::CodecObjectiveConfig;
use latentlm::{LatentCodec, RandomStream};
use latentlm_kernels::ROWS_A_SHARD;
use latentlm_pipelines::{HostBatch, ImageData, ImageRecipe, StageConfig, image_grid, save_png};

use super::batches::Batches;
use super::run::Context;
use crate::adversarial::CodecParts;
use crate::codec_stage;
use crate::codec_stage::{CodecTask, codec_parts};
use crate::error::TrainError;
use crate::stage::number;

/// Held-out pictures whose reconstruction is measured.
const SHOWN: usize = 64;
/// Pictures that are encoded at once.
const BATCH: usize = 100;

/// Training of a codec of pictures.
struct PictureTask {
    batches: Batches,
}

/// Trains the codec or takes up where it was left. Returns whether it is finished: a stop leaves
/// it unfinished.
///
/// # Errors
/// If data can't be read, the loss is not finite, or a checkpoint can't be written.
pub fn train(context: &mut Context) -> Result<bool, TrainError> {
    codec_stage::train::<PictureTask, 4>(context)
}

impl CodecTask<4> for PictureTask {
    type Recipe = ImageRecipe;
    type Data = ImageData;
    type Objective = <CodecLossConfig as CodecObjectiveConfig<4>>::Objective;
    const NAME: &'static str = "codec";
    const ROWS_A_SHARD: usize = ROWS_A_SHARD;

    fn config(recipe: &ImageRecipe) -> &StageConfig {
        &recipe.codec_train
    }

    fn parts(
        recipe: &ImageRecipe,
        device: &Device,
    ) -> Result<CodecParts<Self::Objective, 4>, TrainError> {
        Ok(codec_parts(&recipe.codec, &recipe.codec_loss, device)?)
    }

    fn open(context: &mut Context, first_step: u64) -> Result<Self, TrainError> {
        let (recipe, train) = (&context.recipe, context.data.train.clone());
        let (data, config) = (&recipe.data, &recipe.codec_train);
        let batches = Batches::start(train, data, config, recipe.seed, first_step);
        Ok(Self { batches })
    }

    fn batch(
        &mut self,
        context: &Context,
        _round: u64,
        device: &Device,
    ) -> Result<Tensor<4>, TrainError> {
        self.batches.next_batch(&context.run, device)
    }

    /// Held-out pictures, what the codec makes of them, and the PSNR of that.
    fn show(&mut self, context: &mut Context, codec: &Codec, step: u64) -> Result<(), TrainError> {
        let count = SHOWN.min(context.data.test.len());
        let indices: Vec<usize> = (0..count).collect();
        let batch = HostBatch::read(&context.data.test, &indices, &[])?;
        let pictures = batch.tensor(&context.device);
        let decoded = codec.decode(codec.encode(pictures.clone()).mode());
        let values = [(
            "held_out_psnr_db",
            psnr_db(decoded.clone(), pictures.clone()),
        )];
        context.log(Self::NAME, step, &values)?;
        let shown = count.min(16);
        let pairs = Tensor::cat(
            vec![pictures.narrow(0, 0, shown), decoded.narrow(0, 0, shown)],
            0,
        );
        let path = context.run.file(&format!("samples/codec-step-{step}.png"));
        Ok(save_png(&image_grid(pairs, shown, 2), &path)?)
    }
}

/// Peak signal-to-noise ratio of all pictures together, in decibels.
///
/// # Shapes
/// - `decoded`, `pictures`: `[B, C, H, W]`, in `[-1, 1]`; the first is clamped to that
pub fn psnr_db(decoded: Tensor<4>, pictures: Tensor<4>) -> f64 {
    let error = (decoded.clamp(-1.0, 1.0) - pictures).square().mean();
    -10.0 * (number(error) / 4.0).log10()
}

/// Hands over every training picture once, and once more mirrored where the recipe mirrors, in batches
/// with their classes. Others stand in for pictures that can't be decoded.
///
/// # Shapes
/// - `each`: `[B, C, H, W]`, in `[-1, 1]`; `B`
///
/// # Errors
/// If none of many pictures can be decoded.
pub fn each_batch(
    recipe: &ImageRecipe,
    data: &ImageData,
    device: &Device,
    mut each: impl FnMut(Tensor<4>, &[u32]),
) -> Result<(), TrainError> {
    let train = &data.train;
    let mirrored: &[bool] = if recipe.data.horizontal_flip {
        &[false, true]
    } else {
        &[false]
    };
    for &flip in mirrored {
        for start in (0..train.len()).step_by(BATCH) {
            let indices: Vec<usize> = (start..train.len().min(start + BATCH)).collect();
            let flips = vec![flip; indices.len()];
            let mut random = RandomStream::for_step(recipe.seed, "stand-in-latents", start as u64);
            let batch = HostBatch::read_or_draw(train, &indices, &flips, &mut random)?;
            let labels: Vec<u32> = indices.iter().map(|&index| train.label(index)).collect();
            each(batch.tensor(device), &labels);
        }
    }
    Ok(())
}
