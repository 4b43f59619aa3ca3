//! The loop that every stage of training goes through.

use burn::tensor::Tensor;
use latentlm::core::bundle::{BundleError, BundleWriter};
use latentlm_pipelines::{
    Found, Manifest, PipelineError, Recipe, StageConfig, TrainingData, Wanted,
};

use crate::context::Context;
use crate::error::{Result, TrainError};
use crate::optimize::StepReport;
use crate::skips::Skips;

/// Result of a round: a report if it ended a step, and the output for the log.
pub type Round<O> = Result<(Option<StepReport>, O)>;

/// The parts of a stage that [`run`] calls.
pub trait Stage<R, D> {
    /// Output of a round, for the log.
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

/// Runs a stage from its beginning or its newest checkpoint, which `open` gets. Returns whether it is finished: a
/// stop leaves it unfinished.
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
    let total = config.steps;
    if step > total {
        let reason = format!(
            "has taken {step} steps, more than {key}.steps={total}: continue it with as many or more"
        );
        return Err(context.run.error(reason).into());
    }
    for note in latest.iter().flat_map(|found| &found.notes) {
        context.note(note);
    }
    if step == total {
        return Ok(true);
    }
    // It may have more steps than before.
    context.run.set_recipe(&context.recipe)?;
    let mut stage = match open(context, latest.as_ref()) {
        Err(TrainError::Stopped) => return Ok(false),
        opened => opened?,
    };
    context.begin(S::NAME, step, total)?;
    let mut skips = latest.as_ref().map_or_else(Skips::default, |found| {
        Skips::resumed(&found.manifest.skipped_steps, step)
    });
    let accumulation = config.grad_accumulation as u64;
    for round in step * accumulation..total * accumulation {
        let (report, output) = stage.round(context, round)?;
        let Some(report) = report else { continue };
        step += 1;
        skips.count(report.skipped, S::NAME, &key, step)?;
        let last = step == total;
        if last {
            skips.end(S::NAME, &key, total)?;
        }
        let stop = context.options.interrupter.should_stop();
        let log = last || step.is_multiple_of(config.log_every);
        // A skipped step changed no weight: saving it would only remove an older checkpoint.
        let due = step.is_multiple_of(config.checkpoint_every) && !report.skipped;
        let save = last || stop || due;
        // Nothing is saved over the last good checkpoint before the loss is known to be a number; weights
        // and averages are looked at as they are written.
        if log || save {
            let mut values = stage.values(output);
            if !values.iter().all(|(_, value)| value.is_finite()) {
                return Err(not_finite("the loss is", S::NAME, &key, step));
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
        let mut shown = Ok(());
        if last || step.is_multiple_of(config.sample_every) {
            shown = show(&mut stage, context, step);
        }
        // A run that is killed between saving and showing shows the step again. If showing fails, the step is saved
        // already.
        if save {
            save_checkpoint(&stage, context, step, &key, &skips)?;
        }
        shown?;
        if stop {
            break;
        }
    }
    context.end();
    Ok(step >= total)
}

/// Shows samples. Ones that a model can't draw yet end no training.
fn show<R: Recipe, D: TrainingData, S: Stage<R, D>>(
    stage: &mut S,
    context: &mut Context<R, D>,
    step: u64,
) -> Result<()> {
    match stage.show(context, step) {
        Err(error @ TrainError::Pipeline(PipelineError::NotFiniteLatents)) => {
            context.note(&format!("no samples of step {step}: {error}"));
            Ok(())
        }
        shown => shown,
    }
}

/// Saves a checkpoint and brings the report up to date.
fn save_checkpoint<R: Recipe, D: TrainingData, S: Stage<R, D>>(
    stage: &S,
    context: &mut Context<R, D>,
    step: u64,
    key: &str,
    skips: &Skips,
) -> Result<()> {
    let manifest = Manifest {
        whitening: stage.whitening(),
        skipped_steps: skips.saved(),
        ..context.manifest(S::NAME, step)
    };
    context.sync_log()?;
    let saved = context
        .run
        .checkpoint(&manifest, |bundle| stage.save(bundle));
    let folder = saved.map_err(|error| match error {
        TrainError::Bundle(BundleError::NotFinite { .. }) => {
            not_finite("weights are", S::NAME, key, step)
        }
        error => error,
    })?;
    context.note(&format!("saved {}", folder.display()));
    context.write_report();
    Ok(())
}

/// The error for a loss or weights that are not finite.
fn not_finite(what: &str, stage: &str, key: &str, step: u64) -> TrainError {
    let advice = format!("try a smaller {key}.learning_rate");
    let reason = format!("{stage}: {what} not finite at step {step}; {advice}");
    TrainError::NotFinite(reason)
}

/// The number of a loss, read from its device.
pub fn number(x: Tensor<1>) -> f64 {
    f64::from(x.into_scalar::<f32>())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;
    use crate::context::NoData;
    use crate::options::{ProgressMode, RunOptions};
    use burn::tensor::Device;
    use burn::train::Interrupter;
    use latentlm::core::conformance::power_cut;
    use latentlm_pipelines::{ImageRecipe, MetricsLog, RunFolder};

    /// A stage that skips steps and fails as it is told.
    #[derive(Default)]
    struct Scripted {
        skipped: Vec<u64>,
        fails_at: Option<u64>,
        /// The step that can't be shown, and whether because its latents are not finite.
        shows_not: Option<(u64, bool)>,
    }

    impl Stage<ImageRecipe, NoData> for Scripted {
        type Output = ();
        const NAME: &'static str = "lm";
        const TABLE: &'static str = "lm_train";

        fn round(&mut self, _: &Context<ImageRecipe, NoData>, round: u64) -> Round<()> {
            let step = round + 1;
            if self.fails_at == Some(step) {
                return Err(TrainError::config("the end"));
            }
            let report = StepReport {
                learning_rate: 0.1,
                gradient_norm: 1.0,
                skipped: self.skipped.contains(&step),
            };
            Ok((Some(report), ()))
        }

        fn values(&self, (): ()) -> Vec<(&'static str, f64)> {
            vec![("loss", 1.0)]
        }

        fn show(&mut self, _: &mut Context<ImageRecipe, NoData>, step: u64) -> Result<()> {
            match self.shows_not {
                Some((own, true)) if own == step => Err(PipelineError::NotFiniteLatents.into()),
                Some((own, false)) if own == step => Err(TrainError::config("a broken picture")),
                _ => Ok(()),
            }
        }

        fn save(&self, bundle: &BundleWriter) -> Result<()> {
            Ok(bundle.write("x", b"y")?)
        }
    }

    /// Opens a run of so many steps, each with a checkpoint.
    fn opened(
        path: &Path,
        steps: u64,
        resume: bool,
        interrupter: Interrupter,
    ) -> Context<ImageRecipe, NoData> {
        let options = RunOptions {
            path: path.into(),
            resume,
            accept_changed_data: false,
            device: Device::default(),
            more_devices: Vec::new(),
            progress: ProgressMode::Silent,
            interrupter,
            within: String::new(),
        };
        let mut recipe = ImageRecipe::default();
        recipe.lm_train.steps = steps;
        recipe.lm_train.checkpoint_every = 1;
        recipe.lm_train.sample_every = 2;
        recipe.lm_train.log_every = 1;
        recipe.lm_train.grad_accumulation = 1;
        Context::open(recipe, options, |_| Ok(NoData)).unwrap()
    }

    /// Six steps of a stage, each with a checkpoint. Returns how it ended, and the steps that are kept.
    fn six_steps(
        open: impl FnOnce() -> Result<Scripted>,
        interrupter: Interrupter,
    ) -> (Result<bool>, Vec<u64>) {
        let dir = tempfile::tempdir().unwrap();
        let mut context = opened(&dir.path().join("r"), 6, false, interrupter);
        let config = context.recipe.lm_train.clone();
        let ended = run(&mut context, &config, |_, _| open());
        let folder = context.run.file("checkpoints/lm");
        let kept = (1..=6).filter(|step| folder.join(format!("step-{step}")).is_dir());
        (ended, kept.collect())
    }

    #[test]
    fn skipped_steps_replace_no_checkpoint() {
        let stage = |skipped: &[u64], fails_at| Scripted {
            skipped: skipped.to_vec(),
            fails_at,
            ..Scripted::default()
        };
        let (ended, kept) = six_steps(|| Ok(stage(&[3, 4, 5], Some(6))), Interrupter::new());
        assert!(ended.is_err());
        assert_eq!(kept, [1, 2]);
        // The last step is saved all the same, and so is one that a stop ends with.
        let (ended, kept) = six_steps(|| Ok(stage(&[3, 4, 5, 6], None)), Interrupter::new());
        assert!(ended.unwrap());
        assert_eq!(kept, [2, 6]);
        // Unless nothing was learned at all.
        let (ended, kept) = six_steps(|| Ok(stage(&[1, 2, 3, 4, 5, 6], None)), Interrupter::new());
        assert!(ended.unwrap_err().to_string().contains("none of its 6"));
        assert!(kept.is_empty());
        let interrupter = Interrupter::new();
        interrupter.stop(None);
        let (ended, kept) = six_steps(|| Ok(stage(&[1], None)), interrupter);
        assert!(!ended.unwrap());
        assert_eq!(kept, [1]);
    }

    /// A stage that skips some steps, in one call or in one a step. Returns how it ended, and its log.
    fn to_its_end(steps: u64, skipped: &[u64], one_by_one: bool) -> (String, String) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("r");
        for call in 0..steps {
            let interrupter = Interrupter::new();
            if one_by_one {
                interrupter.stop(None);
            }
            let mut context = opened(&path, steps, call > 0, interrupter);
            let config = context.recipe.lm_train.clone();
            let ended = run(&mut context, &config, |_, _| {
                Ok(Scripted {
                    skipped: skipped.to_vec(),
                    ..Scripted::default()
                })
            });
            let told: String = match ended {
                Ok(false) => continue,
                Ok(true) => "finished".into(),
                Err(error) => error.to_string(),
            };
            let log = fs::read_to_string(path.join("metrics.jsonl")).unwrap();
            return (told, log);
        }
        panic!("it does not end");
    }

    /// The numbers of skipped steps in the log, and the end of a training that learns nothing, do not depend on how often
    /// it is stopped.
    #[test]
    fn skipped_steps_are_counted_across_resumes() {
        let in_a_row: Vec<u64> = (3..=30).collect();
        for (steps, skipped, end, last) in [
            (
                30,
                &in_a_row[..],
                "20 of the last 22 steps up to step 22",
                19,
            ),
            (5, &[1, 2, 3, 4, 5][..], "none of its 5 steps", 4),
            (5, &[2, 4][..], "finished", 2),
        ] {
            let whole = to_its_end(steps, skipped, false);
            assert!(whole.0.contains(end), "{}", whole.0);
            assert_eq!(to_its_end(steps, skipped, true), whole);
            let line = whole.1.lines().last().unwrap();
            let counted = format!("\"skipped_steps\":{last}.0");
            assert!(line.contains(&counted), "{line}");
        }
    }

    /// Whenever the power goes: the log has every step up to the newest checkpoint, and no line twice.
    #[test]
    fn a_power_cut_leaves_no_checkpoint_that_is_newer_than_its_log() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("r");
        let mut context = opened(&path, 3, false, Interrupter::new());
        let config = context.recipe.lm_train.clone();
        let (ended, recording) = power_cut::record(dir.path(), || {
            run(&mut context, &config, |_, _| Ok(Scripted::default()))
        });
        assert!(ended.unwrap());
        let mut newest = Vec::new();
        for left in recording.remains() {
            let dir = tempfile::tempdir().unwrap();
            left.restore(dir.path());
            let path = dir.path().join("r");
            let (run, _) = RunFolder::<ImageRecipe>::open(&path).unwrap();
            let found = run.latest("lm", Wanted::Everything).unwrap();
            let step = found.map_or(0, |found| found.manifest.step);
            let lines = MetricsLog::read(&run.file("metrics.jsonl")).unwrap();
            let logged: Vec<u64> = lines.iter().map(|line| line.step).collect();
            let whole: Vec<u64> = (1..=step).collect();
            assert!(logged.starts_with(&whole), "{logged:?} up to step {step}");
            newest.push(step);
        }
        assert_eq!((newest[0], newest[newest.len() - 1]), (0, 3));
        newest.sort_unstable();
        newest.dedup();
        assert_eq!(newest, [0, 1, 2, 3]);
    }

    #[test]
    fn a_step_that_cannot_be_shown_is_saved() {
        let stage = |shows_not| Scripted {
            shows_not: Some(shows_not),
            ..Scripted::default()
        };
        let (ended, kept) = six_steps(|| Ok(stage((4, false))), Interrupter::new());
        assert!(ended.unwrap_err().to_string().contains("a broken picture"));
        assert_eq!(kept, [3, 4]);
        let (ended, kept) = six_steps(|| Ok(stage((4, true))), Interrupter::new());
        assert!(ended.unwrap(), "a model that can't draw yet goes on");
        assert_eq!(kept, [5, 6]);
    }

    #[test]
    fn a_stop_before_the_first_step_is_no_error() {
        let (ended, kept) = six_steps(|| Err(TrainError::Stopped), Interrupter::new());
        assert!(!ended.unwrap());
        assert!(kept.is_empty());
    }
}
