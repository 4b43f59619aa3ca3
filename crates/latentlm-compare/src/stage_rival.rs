//! One rival's stage: trained on encoded images, measured on the way.

use std::time::Instant;

use burn::tensor::{Device, Int, Tensor};
use latentlm::RandomStream;
use latentlm_data::BatchOrder;
use latentlm_eval::{Judge, even_labels};
use latentlm_pipelines::{ImageData, image_grid, save_png};
use latentlm_train::stage::{self, Stage, number};
use latentlm_train::{Player, StepReport, TrainError};

use super::recipe::CompareRecipe;
use super::rival::{Coding, Rival};
use super::run::Context;

/// Pictures drawn at once, and of each class in a grid.
const BATCH: usize = 100;
const SHOWN: usize = 10;

/// What all rivals share.
pub(crate) struct Common<'a, C> {
    pub(crate) coding: &'a C,
    pub(crate) judge: &'a Judge,
}

struct RivalStage<'a, M: Rival, C> {
    context: &'a mut Context,
    model: Player<M>,
    common: &'a Common<'a, C>,
    order: BatchOrder,
    device: Device,
}

/// Trains a rival or takes up where it was left. Returns whether it is finished.
///
/// # Errors
/// If the loss is not finite, or a checkpoint can't be read or written.
pub(crate) fn train<M: Rival, C: Coding<Encoded = M::Encoded>>(
    context: &mut Context,
    common: &Common<'_, C>,
    init: impl FnOnce(&Device) -> M,
) -> Result<bool, TrainError> {
    let image = context.recipe.image.clone();
    let (config, seed) = (&image.lm_train, image.seed);
    let device = context.device.clone().autodiff();
    device.seed(RandomStream::for_step(seed, M::NAME, 0).seed());
    let mut model = Player::new(init(&device), config);
    if let Some((folder, manifest)) = context.run.latest(M::NAME)? {
        model.restore_with("model", &folder, manifest.step, M::load)?;
    }
    let samples = common.coding.labels().len();
    let stage = RivalStage {
        order: BatchOrder::new(samples, config.batch_size, seed),
        context,
        model,
        common,
        device,
    };
    stage::run(stage, config)
}

impl<M: Rival, C: Coding<Encoded = M::Encoded>> RivalStage<'_, M, C> {
    /// Pictures of the averaged model, the same noise each time, and the seconds that they took.
    fn draw(&self, labels: &[u32]) -> (Tensor<4>, f64) {
        let (recipe, device) = (&self.context.recipe, &self.context.device);
        let model = self.model.ema();
        let started = Instant::now();
        let batches = labels.chunks(BATCH).enumerate().map(|(index, labels)| {
            let mut random = RandomStream::for_step(recipe.image.seed, "samples", index as u64);
            let encoded = model.generate(labels, recipe, &mut random, device);
            self.common.coding.decode(encoded)
        });
        let pictures = Tensor::cat(batches.collect(), 0);
        // A device that fails here fails again at the next read.
        let _ = device.sync();
        (pictures, started.elapsed().as_secs_f64())
    }
}

impl<M: Rival, C: Coding<Encoded = M::Encoded>> Stage for RivalStage<'_, M, C> {
    type Recipe = CompareRecipe;
    type Data = ImageData;
    type Output = Tensor<1>;
    const NAME: &'static str = M::NAME;
    const TABLE: &'static str = "lm_train";

    fn context(&mut self) -> &mut Context {
        self.context
    }

    fn step(&self) -> u64 {
        self.model.step()
    }

    /// The same pictures with the same labels dropped, whatever the rival.
    fn round(&mut self, round: u64) -> Result<(Option<StepReport>, Tensor<1>), TrainError> {
        let indices = self.order.batch(round);
        let recipe = &self.context.recipe;
        let (model, coding) = (self.model.model(), self.common.coding);
        let all = coding.labels();
        let mut labels: Vec<u32> = indices.iter().map(|&index| all[index]).collect();
        let mut random = RandomStream::for_step(recipe.image.seed, "labels", round);
        let dropout = recipe.image.lm.condition_dropout;
        model.label().drop_labels(&mut labels, dropout, &mut random);
        let mut random = RandomStream::for_step(recipe.image.seed, "lm-noise", round);
        let encoded = coding.gather(&indices, &mut random, &self.device);
        let loss = model.loss(&labels, encoded, recipe, &mut random);
        Ok((self.model.backward(loss.clone()), loss))
    }

    fn values(loss: Tensor<1>) -> Vec<(&'static str, f64)> {
        vec![("loss", number(loss))]
    }

    /// Measures the averaged model, and draws a grid of it, a row a class.
    fn show(&mut self, step: u64) -> Result<(), TrainError> {
        let classes = self.context.data.train.classes().len();
        let labels = even_labels(self.context.recipe.evaluate.samples, classes);
        let (pictures, seconds) = self.draw(&labels);
        let verdict = self.common.judge.measure(pictures.clone(), &labels);
        let values = [
            ("class_agreement", verdict.class_agreement),
            ("worst_class_agreement", verdict.worst_class_agreement),
            ("frechet_distance", verdict.frechet_distance),
            ("images_per_second", labels.len() as f64 / seconds),
        ];
        self.context.log(M::NAME, step, &values)?;
        let per_class = labels.len() / classes;
        let shown = SHOWN.min(per_class);
        let indices = (0..classes).flat_map(|class| {
            let first = class * per_class;
            (first..first + shown).map(|index| index as i64)
        });
        let indices: Vec<i64> = indices.collect();
        let indices = Tensor::<1, Int>::from_ints(indices.as_slice(), &pictures.device());
        let name = format!("samples/{}-step-{step}.png", M::NAME);
        let grid = image_grid(pictures.select(0, indices), shown, 2);
        Ok(save_png(&grid, &self.context.run.file(&name))?)
    }

    fn save(&mut self, step: u64) -> Result<(), TrainError> {
        let manifest = self.context.manifest(M::NAME, step);
        let folder = self.context.run.checkpoint(&manifest, |bundle| {
            self.model.save("model", bundle)?;
            self.common.coding.save(bundle)
        })?;
        self.context.note(&format!("saved {}", folder.display()));
        Ok(())
    }
}
