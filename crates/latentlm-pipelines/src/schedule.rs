//! The learning rate, and the decay of averaged weights, as functions of the step.
//!
//! Burn's schedulers hold a state that would have to be saved; a function of the step has none,
//! which makes a resume exact by construction.

/// Linear warm-up, then a cosine.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LearningRate {
    /// The largest rate.
    pub peak: f64,
    /// Steps of warm-up.
    pub warmup_steps: u64,
    /// Steps in all.
    pub total_steps: u64,
    /// Rate at the end, as a share of the peak.
    pub floor_ratio: f64,
}

impl LearningRate {
    /// The rate of step `step`, from 0.
    pub fn at(&self, step: u64) -> f64 {
        if step < self.warmup_steps {
            return self.peak * (step + 1) as f64 / self.warmup_steps as f64;
        }
        let span = self.total_steps.saturating_sub(self.warmup_steps).max(1) as f64;
        let progress = ((step - self.warmup_steps) as f64 / span).min(1.0);
        let cosine = 0.5 * (1.0 + (std::f64::consts::PI * progress).cos());
        self.peak * (self.floor_ratio + (1.0 - self.floor_ratio) * cosine)
    }
}

/// Decay of the moving average of the weights at step `step`, from 0: `min(largest, 1 - (1 + step)^-0.75)`. With
/// this power warm-up (spec §3) first weights are soon forgotten.
pub fn ema_decay(largest: f64, step: u64) -> f64 {
    largest.min(1.0 - (1.0 + step as f64).powf(-0.75))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 16^-0.75 is an eighth.
    #[test]
    fn the_average_forgets_its_start() {
        for (step, expected) in [(0, 0.0), (15, 0.875), (80, 0.9), (10_000, 0.9)] {
            assert!(
                (ema_decay(0.9, step) - expected).abs() < 1e-12,
                "step {step}"
            );
        }
    }

    #[test]
    fn end_points_and_middle() {
        let rate = LearningRate {
            peak: 2.0,
            warmup_steps: 4,
            total_steps: 104,
            floor_ratio: 0.1,
        };
        let cases = [
            (0, 0.5),
            (3, 2.0),
            (4, 2.0),
            (54, 1.1),
            (104, 0.2),
            (900, 0.2),
        ];
        for (step, expected) in cases {
            assert!((rate.at(step) - expected).abs() < 1e-12, "step {step}");
        }
    }
}
