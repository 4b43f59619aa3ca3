//! The loop that every stage of training goes through.

use std::path::PathBuf;

use burn::tensor::Tensor;
use latentlm::core::bundle::BundleWriter;
use latentlm_pipelines::{Manifest, Recipe, StageConfig, TrainingData};

use crate::context::Context;
use crate::error::{Result, TrainError};
use crate::optimize::StepReport;

/// What came of a round: a report where it ended a step, and what it leaves for the log.
pub type Round<O> = Result<(Option<StepReport>, O)>;

/// What a stage does; [`run`] says when.
pub trait Stage<R, D> {
    /// What a round leaves for the log.
    type Output;
    /// Name in logs and of the folder of its checkpoints.
    const NAME: &'static str;
    /// Table of the recipe that says how it is trained.
    const TABLE: &'static str;

    /// One forward and backward pass.
    fn round(&mut self, context: &Context<R, D>, round: u64) -> Round<Self::Output>;

    /// Numbers for the log, the loss first.
    fn values(&self, output: Self::Output) -> Vec<(&'static str, f64)>;

    /// Samples of what was learned.
    fn show(&mut self, context: &mut Context<R, D>, step: u64) -> Result<()>;

    /// Bias and scale of the latents' whitening, if the stage has one.
    fn whitening(&self) -> Option<[f32; 2]> {
        None
    }

    /// Writes the files of a checkpoint.
    fn save(&self, bundle: &BundleWriter) -> Result<()>;
}

/// Runs a stage from where it stands. `open` makes it ready, with its newest checkpoint if there is one.
/// Returns whether it is finished: a stop leaves it unfinished.
///
/// # Errors
/// If the loss is not finite, a checkpoint can't be read or written, or what the stage does fails.
pub fn run<R: Recipe, D: TrainingData, S: Stage<R, D>>(
    context: &mut Context<R, D>,
    config: &StageConfig,
    open: impl FnOnce(&mut Context<R, D>, Option<&(PathBuf, Manifest<R>)>) -> Result<S>,
) -> Result<bool> {
    let latest = context.run.latest(S::NAME)?;
    let mut step = latest.as_ref().map_or(0, |(_, manifest)| manifest.step);
    if step >= config.steps {
        return Ok(true);
    }
    let mut stage = open(context, latest.as_ref())?;
    context.begin(S::NAME, step, config.steps)?;
    let accumulation = config.grad_accumulation as u64;
    for round in step * accumulation..config.steps * accumulation {
        let (report, output) = stage.round(context, round)?;
        let Some(report) = report else { continue };
        step += 1;
        let last = step == config.steps;
        let stop = context.options.interrupter.should_stop();
        if last || step.is_multiple_of(config.log_every) {
            let mut values = stage.values(output);
            if !values.iter().all(|(_, value)| value.is_finite()) {
                return Err(TrainError::NotFinite {
                    stage: S::NAME,
                    key: format!("{}{}", context.options.within, S::TABLE),
                    step,
                });
            }
            values.push(("lr", report.learning_rate));
            values.push(("gradient_norm", f64::from(report.gradient_norm)));
            context.log(S::NAME, step, &values)?;
        }
        if last || step.is_multiple_of(config.sample_every) {
            stage.show(context, step)?;
        }
        if last || stop || step.is_multiple_of(config.checkpoint_every) {
            let manifest = Manifest {
                whitening: stage.whitening(),
                ..context.manifest(S::NAME, step)
            };
            let folder = context
                .run
                .checkpoint(&manifest, |bundle| stage.save(bundle))?;
            context.note(&format!("saved {}", folder.display()));
        }
        if stop {
            break;
        }
    }
    context.end();
    Ok(step >= config.steps)
}

/// The number of a loss, read from its device.
pub fn number(x: Tensor<1>) -> f64 {
    f64::from(x.into_scalar::<f32>())
}
