//! The progress of encoding all training samples, which may take hours.

use std::time::{Duration, Instant};

use burn::train::Interrupter;

use crate::context::RunOptions;
use crate::error::{Result, TrainError};
use crate::progress::{self, ProgressMode};

/// Lines come at most this often.
const LINE_EVERY: Duration = Duration::from_secs(5);

/// Counts encoded samples, shows how many there are, and ends the work when a stop comes.
pub struct Encoding {
    total: usize,
    done: usize,
    last_line: Instant,
    mode: ProgressMode,
    interrupter: Interrupter,
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
            mode: options.progress,
            interrupter: options.interrupter.clone(),
            stopped_before: options.interrupter.should_stop(),
        }
    }

    /// Counts `count` more samples as done.
    ///
    /// # Errors
    /// [`TrainError::Stopped`] if a stop came since the first sample.
    pub fn count(&mut self, count: usize) -> Result<()> {
        self.done += count;
        if self.interrupter.should_stop() && !self.stopped_before {
            return Err(TrainError::Stopped);
        }
        if self.last_line.elapsed() >= LINE_EVERY {
            self.last_line = Instant::now();
            progress::say(&self.line(), self.mode);
        }
        Ok(())
    }

    fn line(&self) -> String {
        format!("encoding latents, {} of {}", self.done, self.total)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::Device;

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
