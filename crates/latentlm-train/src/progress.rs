//! What a person sees of a stage: Burn's terminal dashboard on a terminal, plain lines in a pipe. Also the progress
//! of what comes before its steps: opening data, and encoding all training samples, which may take hours.

use std::io::{IsTerminal, Write};
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use burn::train::metric::{
    MetricAttributes, MetricDefinition, MetricEntry, MetricId, NumericAttributes, NumericEntry,
    SerializedEntry,
};
use burn::train::renderer::{MetricState, MetricsRenderer, default_renderer};
use latentlm_data::{ReadCount, Stop};
use latentlm_eval::unshown;
use latentlm_pipelines::printable;

use crate::error::{Result, TrainError};
use crate::options::{ProgressMode, RunOptions};

/// The progress of one stage, or what is shown between stages.
pub struct Progress {
    stage: &'static str,
    total: u64,
    first: u64,
    started: Instant,
    last_line: Option<Instant>,
    options: RunOptions,
    /// Without one there are lines, if anything is shown.
    dashboard: Option<Box<dyn MetricsRenderer>>,
}

/// Lines come at most this often.
const LINE_EVERY: Duration = Duration::from_secs(5);

impl Progress {
    /// Begins at step `first` of `total`. Between stages, where `total` is 0, only notes are shown, as lines.
    pub fn new(stage: &'static str, first: u64, total: u64, options: &RunOptions) -> Self {
        let mut dashboard = None;
        if total > 0 && options.progress == ProgressMode::Auto && std::io::stdout().is_terminal() {
            let mut renderer = default_renderer(options.interrupter.clone(), None);
            renderer.start(1, 1, Some(total as usize), Some(stage));
            renderer.start_split("train", total as usize);
            dashboard = Some(renderer);
        }
        Self {
            stage,
            total,
            first,
            started: Instant::now(),
            last_line: None,
            options: options.clone(),
            dashboard,
        }
    }

    /// Shows that `step` steps are done.
    pub fn step(&mut self, step: u64, values: &[(&str, f64)]) {
        let due = self.last_line.is_none_or(|t| t.elapsed() >= LINE_EVERY);
        if let Some(renderer) = &mut self.dashboard {
            for (name, value) in values {
                show(renderer.as_mut(), name, *value);
            }
            renderer.update_split(step as usize);
        } else if due || step == self.total {
            self.last_line = Some(Instant::now());
            say(&self.line(step, values), self.options.progress);
        }
    }

    fn line(&self, step: u64, values: &[(&str, f64)]) -> String {
        let mut line = format!("{} {step}/{}", self.stage, self.total);
        for (name, value) in values {
            let value = if value.abs() < 0.01 {
                format!("{value:.1e}")
            } else {
                format!("{value:.4}")
            };
            line += &format!("  {name} {value}");
        }
        let done = step.saturating_sub(self.first).max(1) as f64;
        let step_s = self.started.elapsed().as_secs_f64() / done;
        let left = minutes(step_s * self.total.saturating_sub(step) as f64);
        line + &format!("  {:.0} ms/step  {left} left", step_s * 1e3)
    }

    /// Tells of an event.
    pub fn note(&mut self, event: &str) {
        match &mut self.dashboard {
            Some(renderer) => renderer.log_event_training(printable(event)),
            None => say(event, self.options.progress),
        }
    }

    /// Ends the stage; the dashboard gives the terminal back.
    pub fn finish(&mut self) {
        if let Some(mut renderer) = self.dashboard.take() {
            renderer.end_split();
            renderer.end();
            // The dashboard forgets a stop as it ends, one that came on the stage's last step too.
            let stopped = self.options.interrupter.should_stop();
            let _ = renderer.on_train_end(None);
            if stopped {
                self.options.interrupter.stop(None);
            }
        }
    }
}

/// Counts encoded samples, shows how many there are, and ends the work when a stop comes.
pub struct Encoding {
    total: usize,
    done: usize,
    last_line: Instant,
    options: RunOptions,
    /// Whether the stop came before: it belongs to the step that is taken next.
    stopped_before: bool,
}

impl Encoding {
    /// Begins with the first of `total` samples.
    pub fn begin(total: usize, options: &RunOptions) -> Self {
        Self {
            total,
            done: 0,
            last_line: Instant::now(),
            options: options.clone(),
            stopped_before: options.interrupter.should_stop(),
        }
    }

    /// Counts `count` more samples as done.
    ///
    /// # Errors
    /// [`TrainError::Stopped`] if a stop came since the first sample.
    pub fn count(&mut self, count: usize) -> Result<()> {
        self.done += count;
        if self.options.interrupter.should_stop() && !self.stopped_before {
            return Err(TrainError::Stopped);
        }
        if self.last_line.elapsed() >= LINE_EVERY {
            self.last_line = Instant::now();
            say(&self.line(), self.options.progress);
        }
        Ok(())
    }

    fn line(&self) -> String {
        format!("encoding latents, {} of {}", self.done, self.total)
    }
}

/// Does long work that ends at its next sample or phase when a stop comes ([`latentlm_data::check_stop`]). A stop that came
/// before belongs to the step that is taken next.
///
/// # Errors
/// [`TrainError::Stopped`] if the work was stopped, or those of `work`.
pub fn stoppable<T, E: Into<TrainError>>(
    options: &RunOptions,
    work: impl FnOnce() -> Result<T, E>,
) -> Result<T> {
    let interrupter = options.interrupter.clone();
    let done = if interrupter.should_stop() {
        work()
    } else {
        Stop::new(move || interrupter.should_stop()).during(work)
    };
    done.map_err(|error| {
        let error: TrainError = error.into();
        if error.is_stop() {
            TrainError::Stopped
        } else {
            error
        }
    })
}

/// Does work that reads a whole dataset, such as opening it. While it takes long, lines say so, and how many samples are read.
pub fn reading<T>(what: &str, mode: ProgressMode, work: impl FnOnce() -> T) -> T {
    if mode == ProgressMode::Silent {
        return work();
    }
    reading_shown(what, LINE_EVERY, &|line: &str| say(line, mode), work)
}

/// [`reading`] with a line to `show` after each time of `every`.
fn reading_shown<T>(
    what: &str,
    every: Duration,
    show: &(dyn Fn(&str) + Sync),
    work: impl FnOnce() -> T,
) -> T {
    let count = ReadCount::default();
    let (done, ended) = mpsc::channel::<()>();
    thread::scope(|scope| {
        let (started, own) = (Instant::now(), count.clone());
        scope.spawn(move || {
            while ended.recv_timeout(every) == Err(RecvTimeoutError::Timeout) {
                show(&reading_line(what, own.so_far(), started.elapsed()));
            }
        });
        let result = count.during(work);
        // Ends the other thread, as a panic of `work` does.
        drop(done);
        result
    })
}

fn reading_line(what: &str, [read, total]: [usize; 2], elapsed: Duration) -> String {
    let seconds = minutes(elapsed.as_secs_f64());
    if read < total {
        format!("{what}, {read} of {total} samples, {seconds}")
    } else {
        // Between two passes, or in one over what has no samples.
        format!("{what}, {seconds}")
    }
}

fn show(renderer: &mut dyn MetricsRenderer, name: &str, value: f64) {
    let name = Arc::new(name.to_owned());
    let id = MetricId::new(name.clone());
    // A metric that is there already stays as it is.
    renderer.register_metric(MetricDefinition {
        metric_id: id.clone(),
        name,
        description: None,
        attributes: MetricAttributes::Numeric(NumericAttributes {
            unit: None,
            higher_is_better: false,
        }),
    });
    let text = SerializedEntry::new(format!("{value:.4}"), value.to_string());
    let entry = MetricEntry::new(id, text);
    let value = Some(NumericEntry::Value(value));
    renderer.update_train(MetricState::Numeric(entry, value));
}

/// Writes a line, unless nothing is shown.
pub fn say(event: &str, mode: ProgressMode) {
    if mode != ProgressMode::Silent {
        // Standard error: a closed pipe or terminal must not end a training run.
        let _ = writeln!(std::io::stderr(), "{}", printable(event));
    }
}

/// What shows the phases of an evaluation between two trainings, a line each.
pub fn phases(mode: ProgressMode) -> fn(&str) {
    if mode == ProgressMode::Silent {
        unshown
    } else {
        show_phase
    }
}

fn show_phase(phase: &str) {
    say(&format!("{phase} ..."), ProgressMode::Plain);
}

/// `75.0` as `1m15s`.
pub fn minutes(seconds: f64) -> String {
    let seconds = seconds.round() as u64;
    match (seconds / 3600, seconds / 60 % 60, seconds % 60) {
        (0, 0, s) => format!("{s}s"),
        (0, m, s) => format!("{m}m{s:02}s"),
        (h, m, _) => format!("{h}h{m:02}m"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::Device;
    use burn::train::Interrupter;
    use latentlm_data::{DataError, check_stop};
    use latentlm_eval::EvalError;
    use latentlm_pipelines::PipelineError;

    #[test]
    fn notes_cannot_steer_the_terminal() {
        let event = "left out:\n\t1.png\u{1b}[2J\r";
        assert_eq!(printable(event), "left out:\n\t1.png\\u{1b}[2J\\r");
    }

    fn options(interrupter: &Interrupter) -> RunOptions {
        RunOptions {
            path: "r".into(),
            resume: false,
            accept_changed_data: false,
            device: Device::default(),
            more_devices: Vec::new(),
            progress: ProgressMode::Silent,
            interrupter: interrupter.clone(),
            within: String::new(),
        }
    }

    #[test]
    fn data_that_take_long_are_told_until_they_are_read() {
        let (told, lines) = mpsc::channel();
        let told = std::sync::Mutex::new(told);
        let show = |line: &str| told.lock().unwrap().send(line.to_owned()).unwrap();
        // Ends only if there are lines while the work goes on.
        let two = reading_shown("opening data", Duration::from_millis(1), &show, || {
            [lines.recv().unwrap(), lines.recv().unwrap()]
        });
        assert!(two.iter().all(|line| line.starts_with("opening data, ")));
        let seconds = Duration::from_secs(75);
        let line = |counts| reading_line("checking data", counts, seconds);
        assert_eq!(line([0, 0]), "checking data, 1m15s");
        assert_eq!(line([7, 40]), "checking data, 7 of 40 samples, 1m15s");
        assert_eq!(line([40, 40]), "checking data, 1m15s");
        let failed = std::panic::catch_unwind(|| {
            reading::<()>("opening data", ProgressMode::Plain, || panic!("no data"));
        });
        assert!(failed.is_err(), "and it ends");
    }

    #[test]
    fn a_stop_ends_the_encoding_of_latents() {
        let interrupter = Interrupter::new();
        let mut encoding = Encoding::begin(250, &options(&interrupter));
        encoding.count(100).unwrap();
        assert_eq!(encoding.line(), "encoding latents, 100 of 250");
        interrupter.stop(None);
        let stopped = encoding.count(100);
        assert!(matches!(stopped, Err(TrainError::Stopped)));
        // A stop of the step before is heeded after the step that follows.
        let mut encoding = Encoding::begin(250, &options(&interrupter));
        encoding.count(250).unwrap();
    }

    #[test]
    fn a_stop_ends_long_work_and_nothing_else() {
        let interrupter = Interrupter::new();
        let own = options(&interrupter);
        let ended = stoppable(&own, || {
            check_stop()?;
            interrupter.stop(None);
            check_stop()
        });
        assert!(matches!(ended, Err(TrainError::Stopped)), "{ended:?}");
        // One that came before, and work that was done all the same.
        stoppable(&own, check_stop).unwrap();
        interrupter.reset();
        let done = stoppable(&own, || {
            interrupter.stop(None);
            Ok::<_, TrainError>(7)
        });
        assert_eq!(done.unwrap(), 7);
        interrupter.reset();
        let failed = stoppable(&own, || {
            interrupter.stop(None);
            Err::<(), _>(TrainError::config("wrong"))
        });
        assert_eq!(failed.unwrap_err().to_string(), "recipe: wrong");
        let of_phase = EvalError::from(PipelineError::from(DataError::Stopped));
        assert!(TrainError::from(of_phase).is_stop());
    }
}
