//! The loop that every stage of training goes through, and the two players of a codec's.

use std::ops::Range;
use std::path::Path;

use burn::module::Module;
use burn::optim::GradientsParams;
use burn::tensor::Tensor;
use latentlm::core::bundle::BundleWriter;
use latentlm_kernels::at_once;
use latentlm_pipelines::{Recipe, StageConfig, TrainingData};

use crate::context::Context;
use crate::error::TrainError;
use crate::optimize::{Player, StepReport, carry, fork};
use crate::spread::{Portable, Spread};

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
    fn values(output: Self::Output) -> Vec<(&'static str, f64)>;

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
    let mut values = S::values(output);
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

/// Cuts a pack between documents, into at most `parts` of about as many positions each.
pub fn share_out<T>(
    documents: &[T],
    parts: usize,
    positions: impl Fn(&T) -> usize,
) -> Vec<Range<usize>> {
    let total: usize = documents.iter().map(&positions).sum();
    let (mut position, mut counts) = (0, vec![0; parts]);
    for document in documents {
        let middle = position + positions(document) / 2;
        position += positions(document);
        counts[(middle * parts / total.max(1)).min(parts - 1)] += 1;
    }
    let mut start = 0;
    let ranges = counts.into_iter().map(|count| {
        let range = start..start + count;
        start = range.end;
        range
    });
    ranges.filter(|range| !range.is_empty()).collect()
}

/// Of a batch in parts: what each left, and its share of the whole.
pub type Shares<T> = Vec<(f64, T)>;

/// The mean over a batch in parts of a number that each part gives; `None` where they give none.
pub fn mean<T>(parts: &Shares<T>, value: impl Fn(&T) -> Option<&Tensor<1>>) -> Option<f64> {
    let weighted = |(share, part): &(f64, T)| Some(share * number(value(part)?.clone()));
    parts.iter().map(weighted).sum()
}

/// A codec, and the discriminator that judges it from some step on.
pub struct Rivals<C: Module, D: Module> {
    /// The codec.
    pub codec: Player<C>,
    discriminator: Option<Player<D>>,
    /// Step at which the discriminator sets in.
    start: u64,
}

impl<C: Module, D: Module> Rivals<C, D> {
    /// Both players at step 0. The discriminator sets in at step `start`.
    pub fn new(
        codec: C,
        discriminator: Option<D>,
        start: u64,
        config: &StageConfig,
        spread: Spread,
    ) -> Self {
        Self {
            codec: Player::new(codec, config).with_spread(spread),
            discriminator: discriminator.map(|discriminator| Player::new(discriminator, config)),
            start,
        }
    }

    /// Teaches the codec, and the discriminator if it has set in, by a batch in parts, each on a
    /// thread of its own. `codec_loss` gives a part's share of the codec's loss, something for the
    /// log, and what `discriminator_loss` takes: what is real, and what was made of it.
    pub fn backward_parts<T: Portable + Send, R: Send, S>(
        &mut self,
        parts: Vec<T>,
        codec_loss: impl Fn(&C, Option<&D>, T) -> (Tensor<1>, R, S) + Sync,
        discriminator_loss: impl Fn(&D, S) -> Tensor<1> + Sync,
    ) -> (Option<StepReport>, Vec<R>)
    where
        C: Send,
        D: Send,
    {
        let judges = self.codec.step() >= self.start;
        let judge = self.discriminator.as_ref().filter(|_| judges);
        let judge = judge.map(|player| player.model());
        let spread = self.codec.spread();
        let inputs = parts.into_iter().enumerate().map(|(index, part)| {
            let device = spread.device(index);
            let judge = judge.map(|judge| fork(judge, device));
            (fork(self.codec.model(), device), judge, carry(part, device))
        });
        let done = at_once(inputs.collect(), |(codec, judge, part)| {
            // The codec's loss needs no gradient of the judge's weights.
            let fixed = judge.clone().map(Module::no_grad);
            let (loss, result, made) = codec_loss(&codec, fixed.as_ref(), part);
            let codec = GradientsParams::from_grads(loss.backward(), &codec);
            let judge = judge.map(|judge| {
                let loss = discriminator_loss(&judge, made);
                GradientsParams::from_grads(loss.backward(), &judge)
            });
            (codec, judge, result)
        });
        let (mut codec, mut judge, mut results) = (vec![], vec![], vec![]);
        for (index, part) in done.into_iter().enumerate() {
            let (own, judged) = match (spread.device(index), &self.discriminator) {
                (None, _) => (part.0, part.1),
                (Some(_), player) => {
                    let home = |own| player.as_ref().map(|player| player.bring_home(own));
                    (self.codec.bring_home(part.0), part.1.and_then(home))
                }
            };
            codec.push(own);
            judge.extend(judged);
            results.push(part.2);
        }
        if let Some(player) = self.discriminator.as_mut().filter(|_| judges) {
            player.gather(judge);
        }
        (self.codec.gather(codec), results)
    }

    /// Writes both into a checkpoint under construction.
    ///
    /// # Errors
    /// If a file can't be written.
    pub fn save(&self, bundle: &BundleWriter) -> Result<(), TrainError> {
        self.codec.save("model", bundle)?;
        match &self.discriminator {
            Some(discriminator) => discriminator.save("discriminator", bundle),
            None => Ok(()),
        }
    }

    /// Takes up a saved state.
    ///
    /// # Errors
    /// If a file can't be read or belongs to another model.
    pub fn restore(&mut self, folder: &Path, step: u64) -> Result<(), TrainError> {
        self.codec.restore("model", folder, step)?;
        match &mut self.discriminator {
            // It has sat out the steps before it set in.
            Some(discriminator) => {
                let step = step.saturating_sub(self.start);
                discriminator.restore("discriminator", folder, step)
            }
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pack_is_cut_where_positions_are_halved() {
        let cut = |lengths: &[usize], parts| share_out(lengths, parts, |length| *length);
        let lengths = [10, 5, 10, 5];
        assert_eq!(cut(&lengths, 1), vec![0..4]);
        assert_eq!(cut(&lengths, 2), vec![0..2, 2..4], "10 + 5 and 10 + 5");
        let each: Vec<usize> = cut(&[10, 1, 2, 8], 9).into_iter().flatten().collect();
        assert_eq!(each, [0, 1, 2, 3], "none twice, none left out");
        assert_eq!(cut(&lengths[..1], 3), vec![0..1]);
    }
}
