//! The stage of each model of a comparison: that of every language model, measured on the way.

use std::marker::PhantomData;
use std::time::Instant;

use burn::tensor::{Device, Int, Tensor};
use latentlm::RandomStream;
use latentlm_eval::Judge;
use latentlm_pipelines::{Recipe, image_grid, save_png};
use latentlm_train::{Coding, Context, LmTask, TrainError, train_lm};

use super::rival::{Pictures, Rival, Subject};

/// What all models of a comparison share but the way in which pictures are encoded.
pub(crate) struct Common<'a, S> {
    pub(crate) subject: &'a S,
    pub(crate) judge: &'a Judge,
}

struct RivalTask<'a, S, M> {
    common: &'a Common<'a, S>,
    coding: &'a dyn Pictures,
    model: PhantomData<M>,
}

/// Trains a model or takes up where it was left. Returns whether it is finished.
///
/// # Errors
/// If the loss is not finite, or a checkpoint can't be read or written.
pub(crate) fn train<S: Subject, M: Rival<S>>(
    context: &mut Context<S::Recipe, S::Data>,
    common: &Common<'_, S>,
    coding: &dyn Pictures,
) -> Result<bool, TrainError> {
    train_lm::<RivalTask<'_, S, M>>(context, |context, _| {
        let task = RivalTask {
            common,
            coding,
            model: PhantomData,
        };
        Ok((task, common.subject.parts(&context.recipe)))
    })
}

impl<S: Subject, M: Rival<S>> LmTask for RivalTask<'_, S, M> {
    type Recipe = S::Recipe;
    type Data = S::Data;
    type Model = M;
    const NAME: &'static str = M::NAME;
    const INIT: &'static str = M::NAME;
    const DROPPED: Option<&'static str> = Some(S::DROPPED);
    const JOINT: bool = true;

    fn init(&self, recipe: &S::Recipe, device: &Device) -> M {
        M::init(recipe, self.common.subject.size(), device)
    }

    fn coding(&self) -> &dyn Coding {
        self.coding
    }

    /// Measures the averaged model, and keeps some of the pictures that it draws.
    fn show(
        &self,
        context: &mut Context<S::Recipe, S::Data>,
        model: &M,
        step: u64,
    ) -> Result<(), TrainError> {
        let Common { subject, judge } = self.common;
        let question = subject.question(context)?;
        let (drawn, seconds) = self.draw(context, model, &question.asked);
        let verdict = judge.measure(drawn.clone(), &question.labels);
        let measured = subject.measure(context, (model, self.coding), &drawn)?;
        let count = question.asked.len() as f64;
        let mut values = vec![
            ("class_agreement", verdict.class_agreement),
            ("worst_class_agreement", verdict.worst_class_agreement),
            ("frechet_distance", verdict.frechet_distance),
            ("images_per_second", count / seconds),
        ];
        let known = measured.into_iter();
        values.extend(known.filter_map(|(name, value)| Some((name, value?))));
        context.log(M::NAME, step, &values)?;
        let rows = Tensor::<1, Int>::from_ints(question.shown.as_slice(), &drawn.device());
        let grid = image_grid(drawn.select(0, rows), question.columns, 2);
        let name = format!("samples/{}-step-{step}.png", M::NAME);
        Ok(save_png(&grid, &context.run.file(&name))?)
    }
}

impl<S: Subject, M: Rival<S>> RivalTask<'_, S, M> {
    /// Pictures, the same noise each time, and the seconds that they took.
    fn draw(
        &self,
        context: &Context<S::Recipe, S::Data>,
        model: &M,
        asked: &[S::Asked],
    ) -> (Tensor<4>, f64) {
        let (recipe, device) = (&context.recipe, &context.device);
        let started = Instant::now();
        let batches = asked.chunks(S::BATCH).enumerate().map(|(index, asked)| {
            let seed = Recipe::seed(recipe);
            let mut random = RandomStream::for_step(seed, "samples", index as u64);
            self.coding
                .decode(model.draw(asked, recipe, &mut random, device))
        });
        let pictures = Tensor::cat(batches.collect(), 0);
        // A device that fails here fails again at the next read.
        let _ = device.sync();
        (pictures, started.elapsed().as_secs_f64())
    }
}
