//! The first stage: the codec of pictures.

use burn::tensor::{Device, Tensor};
use latentlm::codec_image::{Codec, CodecLossConfig};
use latentlm::core::CodecObjectiveConfig;
use latentlm::{LatentCodec, RandomStream};
use latentlm_kernels::ROWS_A_PART;
use latentlm_pipelines::{
    HostBatch, ImageData, ImageRecipe, StageConfig, host_values, image_grid, save_png,
};

use super::batches::Batches;
use super::run::Context;
use crate::adversarial::CodecParts;
use crate::codec_stage;
use crate::codec_stage::{CodecTask, codec_parts};
use crate::error::TrainError;
use crate::stage::number;

/// Held-out pictures whose reconstruction is measured.
const SHOWN: usize = 64;

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
    const ROWS_A_PART: usize = ROWS_A_PART;

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

/// All latents of the training pictures: what the encoder puts out, once for each picture, and
/// once more mirrored where the recipe mirrors.
///
/// # Errors
/// If a picture can't be decoded.
pub fn encode_all(
    context: &mut Context,
    codec: &Codec,
) -> Result<(Vec<f32>, Vec<u32>), TrainError> {
    let count = context.data.train.len();
    let mut parameters = Vec::new();
    let mut labels = Vec::new();
    let mirrored: &[bool] = if context.recipe.data.horizontal_flip {
        &[false, true]
    } else {
        &[false]
    };
    for &flip in mirrored {
        for start in (0..count).step_by(100) {
            let indices: Vec<usize> = (start..count.min(start + 100)).collect();
            let flips = vec![flip; indices.len()];
            let mut random =
                RandomStream::for_step(context.recipe.seed, "stand-in-latents", start as u64);
            let train = &context.data.train;
            let batch = HostBatch::read_or_draw(train, &indices, &flips, &mut random)?;
            let pictures = batch.tensor(&context.device);
            parameters.extend(host_values(codec.encode_parameters(pictures)));
            labels.extend(indices.iter().map(|&i| context.data.train.label(i)));
        }
    }
    Ok((parameters, labels))
}
