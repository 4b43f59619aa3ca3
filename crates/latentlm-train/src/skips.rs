//! Steps that changed no weight because their gradients were not finite.

use std::collections::VecDeque;

use latentlm_pipelines::SkippedSteps;

use crate::error::{Result, TrainError};

/// Steps in a row that may be left out.
const IN_A_ROW: usize = 20;
/// Recent steps that are looked at.
const RECENT: u64 = 1000;
/// Number of recent steps that may be left out: one in twenty.
const OF_RECENT: usize = RECENT as usize / 20;

/// Counts the steps of a stage that were left out, and ends a run that learns nothing.
#[derive(Debug, Default)]
pub struct Skips {
    /// Steps that were left out since the stage began.
    pub total: u64,
    /// Those among the last steps, in order.
    recent: VecDeque<u64>,
}

impl Skips {
    /// Goes on after a step with what its checkpoint says.
    pub fn resumed(saved: &SkippedSteps, step: u64) -> Self {
        let recent = saved.recent.iter().copied();
        let mut recent: Vec<u64> = recent
            .filter(|own| *own <= step && step - *own < RECENT)
            .collect();
        recent.sort_unstable();
        recent.dedup();
        Self {
            total: saved.total.min(step),
            recent: recent.into(),
        }
    }

    /// What a checkpoint says of the steps so far.
    pub fn saved(&self) -> SkippedSteps {
        SkippedSteps {
            total: self.total,
            recent: self.recent.iter().copied().collect(),
        }
    }

    /// Takes a step into account. Steps come in order.
    ///
    /// # Errors
    /// If too many were left out: 20 in a row, or 5 % of the last 1,000. `key` is the table of the recipe
    /// that says how the stage is trained.
    pub fn count(&mut self, skipped: bool, stage: &str, key: &str, step: u64) -> Result<()> {
        while self.recent.front().is_some_and(|own| step - own >= RECENT) {
            self.recent.pop_front();
        }
        if !skipped {
            return Ok(());
        }
        self.total += 1;
        self.recent.push_back(step);
        let recent = self.recent.len();
        let back = self.recent.iter().rev().zip(0_u64..);
        let in_a_row = back.take_while(|(own, back)| **own + back == step).count();
        if in_a_row < IN_A_ROW && recent < OF_RECENT {
            return Ok(());
        }
        Err(TrainError::NotFinite(format!(
            "{stage}: {recent} of the last {} steps up to step {step} changed nothing, because their \
             gradients are not finite; try a smaller {key}.learning_rate, in a new run",
            step.min(RECENT)
        )))
    }

    /// Looks back after the last step of a stage, which may have too few for [`count`](Self::count) to end it.
    ///
    /// # Errors
    /// If all of its steps were left out.
    pub fn end(&self, stage: &str, key: &str, steps: u64) -> Result<()> {
        if self.total < steps || steps == 0 {
            return Ok(());
        }
        Err(TrainError::NotFinite(format!(
            "{stage}: none of its {steps} steps changed anything, because their gradients are not finite; try a \
             smaller {key}.learning_rate, in a new run"
        )))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ends_at(skipped: impl Fn(u64) -> bool) -> Option<u64> {
        let mut skips = Skips::default();
        (1..=5000).find(|&step| skips.count(skipped(step), "lm", "lm_train", step).is_err())
    }

    #[test]
    fn a_run_of_skipped_steps_ends_training() {
        assert_eq!(ends_at(|_| true), Some(20));
        assert_eq!(ends_at(|step| step > 100), Some(120));
        // Nineteen in a row, then one that counts, now and then.
        assert_eq!(ends_at(|step| step % 1000 < 19), None);
    }

    #[test]
    fn one_step_in_twenty_is_too_many() {
        assert_eq!(ends_at(|step| step % 21 == 0), None);
        assert_eq!(ends_at(|step| step % 20 == 0), Some(1000));
        assert_eq!(ends_at(|step| step % 2 == 0), Some(100));
        assert_eq!(ends_at(|_| false), None);
    }

    #[test]
    fn a_stage_of_few_steps_that_learns_nothing_fails() {
        let ends = |skipped: u64, steps: u64| {
            let mut skips = Skips::default();
            for step in 1..=steps {
                skips.count(step <= skipped, "lm", "lm_train", step)?;
            }
            skips.end("lm", "lm_train", steps)
        };
        let told = ends(6, 6).unwrap_err().to_string();
        assert!(told.contains("none of its 6 steps"), "{told}");
        assert!(ends(5, 6).is_ok() && ends(0, 6).is_ok() && ends(0, 0).is_ok());
    }

    /// At whatever step a run is stopped. What an untrusted checkpoint says is cut to what can be.
    #[test]
    fn counts_go_on_where_they_stood() {
        for every in [1_u64, 2, 20] {
            let mut skips = Skips::default();
            let mut saves = Vec::new();
            let ended = (1..=2000_u64).find(|&step| {
                skips = Skips::resumed(&skips.saved(), step - 1);
                saves.push(skips.saved());
                let skipped = step > 500 && step.is_multiple_of(every);
                skips.count(skipped, "lm", "lm_train", step).is_err()
            });
            let expected = ends_at(|step| step > 500 && step.is_multiple_of(every));
            assert_eq!(ended, expected, "{every}");
            assert!(saves.iter().all(|saved| saved.recent.len() < 50));
        }
        let wrong = SkippedSteps {
            total: u64::MAX,
            recent: vec![7, u64::MAX, 3, 7, 12, 0],
        };
        let told = Skips::resumed(&wrong, 10).saved();
        assert_eq!((told.total, told.recent), (10, vec![0, 3, 7]));
        assert_eq!(Skips::resumed(&wrong, 1005).saved().recent, [7, 12]);
    }

    #[test]
    fn the_message_says_what_to_change() {
        let mut skips = Skips::default();
        let ended = (1..=20).find_map(|step| skips.count(true, "lm", "mllm.lm_train", step).err());
        let told = ended.unwrap().to_string();
        assert!(told.contains("20 of the last 20 steps"), "{told}");
        assert!(told.contains("mllm.lm_train.learning_rate"), "{told}");
    }
}
