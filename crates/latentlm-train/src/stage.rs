//! The loop that every stage of training goes through.

use burn::tensor::Tensor;
use latentlm_pipelines::{Recipe, StageConfig, TrainingData};

use crate::context::Context;
use crate::error::TrainError;
use crate::optimize::StepReport;

/// What a stage does; [`run`] says when.
pub trait Stage {
    /// The recipe of its run.
    type Recipe: Recipe;
    /// What its run is trained on.
    type Data: TrainingData;
    /// What a round leaves for the log.
    type Output;
    /// Name in logs and of the folder of its checkpoints.
    const NAME: &'static str;
    /// Table of the recipe that says how it is trained.
    const TABLE: &'static str;

    /// The run that it belongs to.
    fn context(&mut self) -> &mut Context<Self::Recipe, Self::Data>;

    /// Optimizer steps taken.
    fn step(&self) -> u64;

    /// One forward and backward pass; a report where it ended a step.
    fn round(&mut self, round: u64) -> Result<(Option<StepReport>, Self::Output), TrainError>;

    /// Numbers for the log, the loss first.
    fn values(&self, output: Self::Output) -> Vec<(&'static str, f64)>;

    /// Samples of what was learned.
    fn show(&mut self, step: u64) -> Result<(), TrainError>;

    /// A checkpoint.
    fn save(&mut self, step: u64) -> Result<(), TrainError>;
}

/// Runs a stage from where it stands. Returns whether it is finished: a stop leaves it unfinished.
///
/// # Errors
/// If the loss is not finite, or what the stage does fails.
pub fn run<S: Stage>(mut stage: S, config: &StageConfig) -> Result<bool, TrainError> {
    let first = stage.step();
    if first >= config.steps {
        return Ok(true);
    }
    stage.context().begin(S::NAME, first, config.steps)?;
    let accumulation = config.grad_accumulation as u64;
    for round in first * accumulation..config.steps * accumulation {
        let (report, output) = stage.round(round)?;
        let Some(report) = report else { continue };
        let step = stage.step();
        let due = stage.context().due(config, step);
        if due.log {
            log(&mut stage, step, report, output)?;
        }
        if due.show {
            stage.show(step)?;
        }
        if due.save {
            stage.save(step)?;
        }
        if due.stop {
            break;
        }
    }
    stage.context().end();
    Ok(stage.step() >= config.steps)
}

fn log<S: Stage>(
    stage: &mut S,
    step: u64,
    report: StepReport,
    output: S::Output,
) -> Result<(), TrainError> {
    let mut values = stage.values(output);
    if !values.iter().all(|(_, value)| value.is_finite()) {
        return Err(TrainError::NotFinite {
            stage: S::NAME,
            key: stage.context().key(S::TABLE),
            step,
        });
    }
    values.push(("lr", report.learning_rate));
    values.push(("gradient_norm", f64::from(report.gradient_norm)));
    stage.context().log(S::NAME, step, &values)
}

/// The number of a loss, read from its device.
pub fn number(x: Tensor<1>) -> f64 {
    f64::from(x.into_scalar::<f32>())
}
