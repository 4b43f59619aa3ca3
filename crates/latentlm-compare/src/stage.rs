//! The training stage of each model of a comparison: the stage of all language models, with measurements
//! during training.

use std::marker::PhantomData;
use std::time::Instant;

use burn::tensor::{Device, Int, Tensor};
use latentlm::RandomStream;
use latentlm::core::LatentCodecConfig;
use latentlm_pipelines::{Recipe, image_grid, save_png};
use latentlm_train::{Coding, Demand, LmRecipe, LmTask, Result, train_lm};

use super::rival::{Common, Entry, Pictures, Reader, Request, Rival, Run, Subject};

/// Keys that sizes of the models follow from.
const SIZES: [&str; 2] = ["evaluate.parameter_tolerance", "the sizes of the models"];
/// Bytes of a number.
const NUMBER_BYTES: u64 = 4;

impl<S: Subject> Entry<S> {
    /// The entry of a type of model.
    pub(crate) fn of<M: Rival<S>>() -> Self {
        Self {
            name: M::NAME,
            parameters: |recipe, size, device| M::init(recipe, size, device).num_params(),
            demand: demand::<S, M>,
            train: train::<S, M>,
        }
    }
}

/// The least memory that training a model of so many parameters takes: activations come on top.
fn demand<S: Subject, M: Rival<S>>(recipe: &S::Recipe, parameters: usize) -> Demand {
    let image = S::images(recipe).image;
    let dim = match (S::has_pictures(recipe), M::READS_CODES) {
        (false, _) => 0,
        (true, true) => 1,
        (true, false) => image.codec.spec().dim,
    };
    let latents = (image.tokens() as u64)
        .saturating_mul(dim as u64)
        .saturating_mul(NUMBER_BYTES);
    let noise = latents.saturating_mul(M::noises(recipe) as u64);
    Demand {
        parameters: parameters as u64,
        sample_bytes: latents.saturating_add(noise),
        host_bytes: latents.max(noise),
        activation_bytes: 0,
        batch_size: recipe.lm().train().batch_size as u64,
        parameter_keys: &SIZES,
        sample_keys: M::SAMPLE_KEYS,
        batch_key: S::BATCH_KEY,
    }
}

struct RivalTask<'a, S, M> {
    common: &'a Common<'a>,
    coding: &'a dyn Pictures,
    of: PhantomData<(S, M)>,
}

/// Trains a model, or continues its training; before it the vector-quantized codec if it reads codes. Returns whether
/// it is finished.
///
/// # Errors
/// If data can't be read, the loss is not finite, or a checkpoint can't be read or written.
fn train<S: Subject, M: Rival<S>>(context: &mut Run<S>, common: &Common<'_>) -> Result<bool> {
    let codes;
    let coding: &dyn Pictures = if M::READS_CODES {
        let Some(own) = S::codes(context, common.vq_codec.clone())? else {
            return Ok(false);
        };
        codes = own;
        &codes
    } else {
        common.encoded
    };
    train_lm::<RivalTask<'_, S, M>>(context, |context, _| {
        let task = RivalTask {
            common,
            coding,
            of: PhantomData,
        };
        let setup = context.data.setup(&context.recipe, common.encoded);
        Ok((task, setup))
    })
}

impl<S: Subject, M: Rival<S>> LmTask for RivalTask<'_, S, M> {
    type Recipe = S::Recipe;
    type Data = S;
    type Model = M;
    const NAME: &'static str = M::NAME;
    const INIT: &'static str = M::NAME;
    const DROPPED: Option<&'static str> = Some(S::DROPPED);
    const JOINT: bool = true;

    fn init(&self, recipe: &S::Recipe, device: &Device) -> M {
        M::init(recipe, self.common.size, device)
    }

    fn coding(&self) -> &dyn Coding {
        self.coding
    }

    /// Measures the averaged model, and saves some of the pictures that it draws.
    fn show(&self, context: &mut Run<S>, model: &M, step: u64) -> Result<()> {
        let Common { judge, gallery, .. } = self.common;
        let question = context.data.question(&context.recipe);
        let started = Instant::now();
        let pictures = self.draw(context, model, &question.asked);
        // A device that fails here fails again at the next read.
        let _ = context.device.sync();
        let speed = question.labels.len() as f64 / started.elapsed().as_secs_f64();
        let verdict = judge.measure(pictures.clone(), &question.labels);
        let mut values = vec![
            ("class_agreement", verdict.class_agreement),
            ("worst_class_agreement", verdict.worst_class_agreement),
            ("frechet_distance", verdict.frechet_distance),
            ("images_per_second", speed),
        ];
        let reader = Reader {
            model,
            coding: self.coding,
            gallery: gallery.as_ref(),
            device: &context.device,
        };
        for (name, value) in context.data.measure(&reader, &pictures)? {
            values.extend(value.map(|value| (name, value)));
        }
        context.log(M::NAME, step, &values)?;
        let shown = select(&pictures, &question.shown);
        let grid = image_grid(shown, question.columns, 2);
        let path = context.sample_file(M::NAME, step, "png");
        Ok(save_png(&grid, &path)?)
    }
}

impl<S: Subject, M: Rival<S>> RivalTask<'_, S, M> {
    /// Draws pictures, with the same noise each time, `[B, C, H, W]`.
    fn draw(&self, context: &Run<S>, model: &M, asked: &[S::Asked]) -> Tensor<4> {
        let mut pictures = Vec::new();
        for (index, asked) in asked.chunks(S::BATCH).enumerate() {
            let seed = context.recipe.seed();
            let request = Request {
                asked,
                recipe: &context.recipe,
                random: &mut RandomStream::for_step(seed, "samples", index as u64),
                device: &context.device,
            };
            pictures.push(self.coding.decode(model.draw(request)));
        }
        Tensor::cat(pictures, 0)
    }
}

/// Pictures at some indices.
///
/// # Shapes
/// - `pictures`: `[B, C, H, W]`
/// - returns: `[I, C, H, W]`, for `I` indices
pub(crate) fn select(pictures: &Tensor<4>, indices: &[usize]) -> Tensor<4> {
    let rows: Vec<i64> = indices.iter().map(|&index| index as i64).collect();
    let rows = Tensor::<1, Int>::from_ints(rows.as_slice(), &pictures.device());
    pictures.clone().select(0, rows)
}

#[cfg(test)]
mod tests {
    use latentlm::LatentLm;
    use latentlm_baselines::{ClassConditional, DitNetwork, MllmTransfusion, VqLm};
    use latentlm_pipelines::ImageData;

    use super::*;
    use crate::documents::Documents;
    use crate::recipe::{CompareMllmRecipe, CompareRecipe};

    /// By hand: 16 latents of 16 numbers a picture, in float32.
    #[test]
    fn batches_of_rivals_count_as_memory() {
        let changes = [
            "image.lm.batch_mul=2",
            "image.lm_train.batch_size=10",
            "dit.batch_mul=3",
        ];
        let recipe = CompareRecipe::resolve(None, &changes.map(String::from)).unwrap();
        let picture = 4 * 16 * 16;
        let own = demand::<ImageData, LatentLm>(&recipe, 7);
        assert_eq!((own.parameters, own.batch_size), (7, 10));
        assert_eq!(
            (own.sample_bytes, own.host_bytes),
            (3 * picture, 2 * picture)
        );
        let dit = demand::<ImageData, ClassConditional<DitNetwork>>(&recipe, 7);
        assert_eq!(
            (dit.sample_bytes, dit.host_bytes),
            (4 * picture, 3 * picture)
        );
        assert_eq!(dit.sample_keys, ["image.codec.*", "dit.batch_mul"]);
        assert_eq!(dit.batch_key, "image.lm_train.batch_size");
        // Weights of five numbers each, and seven pictures.
        assert_eq!(dit.bytes(7), 7 * 20 + 7 * 4 * picture);
        // A code is one number.
        let vq = demand::<ImageData, VqLm>(&recipe, 7);
        assert_eq!((vq.sample_bytes, vq.host_bytes), (4 * 16, 4 * 16));
        let recipe = CompareMllmRecipe::default();
        let tokens = recipe.mllm.tokens() as u64;
        let dim = recipe.mllm.codec.spec().dim as u64;
        let both = demand::<Documents, MllmTransfusion>(&recipe, 7);
        assert_eq!(both.sample_bytes, 4 * tokens * dim * 2);
    }
}
