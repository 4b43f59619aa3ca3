//! The loop that every stage of training goes through.

use burn::tensor::Tensor;
use latentlm::core::bundle::BundleWriter;
use latentlm_pipelines::{Found, Manifest, Recipe, StageConfig, TrainingData, Wanted};

use crate::context::Context;
use crate::error::{Result, TrainError};
use crate::optimize::StepReport;
use crate::skips::Skips;

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
/// If the loss or too many gradients are not finite, more steps were taken than the recipe has, a
/// checkpoint can't be read or written, or what the stage does fails.
pub fn run<R: Recipe, D: TrainingData, S: Stage<R, D>>(
    context: &mut Context<R, D>,
    config: &StageConfig,
    open: impl FnOnce(&mut Context<R, D>, Option<&Found<R>>) -> Result<S>,
) -> Result<bool> {
    let latest = context.run.latest(S::NAME, Wanted::Everything)?;
    let mut step = latest.as_ref().map_or(0, |found| found.manifest.step);
    let key = format!("{}{}", context.options.within, S::TABLE);
    context.check_steps(&key, step, config.steps)?;
    if step == config.steps {
        return Ok(true);
    }
    context.keep_recipe()?;
    for note in latest.iter().flat_map(|found| &found.notes) {
        context.note(note);
    }
    let mut stage = open(context, latest.as_ref())?;
    context.begin(S::NAME, step, config.steps)?;
    let mut skips = Skips::default();
    let accumulation = config.grad_accumulation as u64;
    for round in step * accumulation..config.steps * accumulation {
        let (report, output) = stage.round(context, round)?;
        let Some(report) = report else { continue };
        step += 1;
        skips.count(report.skipped, S::NAME, &key, step)?;
        let last = step == config.steps;
        let stop = context.options.interrupter.should_stop();
        let log = last || step.is_multiple_of(config.log_every);
        let save = last || stop || step.is_multiple_of(config.checkpoint_every);
        // Nothing is saved over the last good checkpoint before the loss is known to be a number; weights
        // and averages are looked at as they are written.
        if log || save {
            let mut values = stage.values(output);
            if !values.iter().all(|(_, value)| value.is_finite()) {
                return Err(TrainError::NotFinite {
                    what: "the loss is",
                    stage: S::NAME,
                    key,
                    step,
                });
            }
            values.push(("lr", report.learning_rate));
            values.push(("gradient_norm", f64::from(report.gradient_norm)));
            if skips.total > 0 {
                values.push(("skipped_steps", skips.total as f64));
            }
            if log {
                context.log(S::NAME, step, &values)?;
            }
        }
        if last || step.is_multiple_of(config.sample_every) {
            stage.show(context, step)?;
        }
        if save {
            save_checkpoint(&stage, context, step, &key)?;
        }
        if stop {
            break;
        }
    }
    context.end();
    Ok(step >= config.steps)
}

/// Saves a checkpoint and brings the report up to date.
fn save_checkpoint<R: Recipe, D: TrainingData, S: Stage<R, D>>(
    stage: &S,
    context: &mut Context<R, D>,
    step: u64,
    key: &str,
) -> Result<()> {
    let manifest = Manifest {
        whitening: stage.whitening(),
        ..context.manifest(S::NAME, step)
    };
    let saved = context
        .run
        .checkpoint(&manifest, |bundle| stage.save(bundle));
    let folder = saved.map_err(|error| {
        if !error.is_of_weights() {
            return error;
        }
        TrainError::NotFinite {
            what: "weights are",
            stage: S::NAME,
            key: key.into(),
            step,
        }
    })?;
    context.note(&format!("saved {}", folder.display()));
    context.write_report();
    Ok(())
}

/// The number of a loss, read from its device.
pub fn number(x: Tensor<1>) -> f64 {
    f64::from(x.into_scalar::<f32>())
}
