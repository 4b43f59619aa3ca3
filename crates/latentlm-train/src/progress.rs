//! What a person sees of a stage: Burn's terminal dashboard on a terminal, plain lines in a pipe. Also the progress
//! of encoding all training samples, which may take hours.

use std::io::{IsTerminal, Write};
use std::sync::Arc;
use std::time::{Duration, Instant};

use burn::train::metric::{
    MetricAttributes, MetricDefinition, MetricEntry, MetricId, NumericAttributes, NumericEntry,
    SerializedEntry,
};
use burn::train::renderer::{MetricState, MetricsRenderer, default_renderer};
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
}
