//! Configuration of the diffusion head, with its checks.

use burn::config::Config;
use latentlm_core::ops::swiglu_width;
use latentlm_core::{
    BetaSchedule, DistilledGuidance, FewStep, HeadMethod, PartConfig, Prediction, Process,
    TimeSampling,
};

use crate::keys::KEYS;

/// Largest feed-forward width. Numbers of parameters do not overflow below it.
const MOST_MLP_WIDTH: usize = 1 << 24;

/// Configuration of a [`DiffusionHead`](crate::DiffusionHead). The defaults are those of the official image models.
#[derive(Config, Debug, PartialEq)]
pub struct DiffusionHeadConfig {
    /// `Z`, dimension of a latent.
    pub latent_dim: usize,
    /// `D`, width of the hidden state and of the head.
    pub width: usize,
    /// Number of layers.
    #[config(default = "KEYS.default(\"lm.head_depth\")")]
    pub depth: usize,
    /// Ratio of feed-forward width to `D`: the width is `floor(D * mlp_ratio * 2/3 / 64) * 64`.
    #[config(default = 4.0)]
    pub mlp_ratio: f64,
    /// Feed-forward width; 0 takes it from `mlp_ratio`.
    #[config(default = 0)]
    pub mlp_width: usize,
    /// Epsilon of the norms.
    #[config(default = 1e-6)]
    pub norm_epsilon: f64,
    /// Whether the norms of the layers have a weight (VibeVoice); the last norm never has one.
    #[config(default = false)]
    pub norm_weight: bool,
    /// Whether the input projection of the noisy latent has a bias (the image models).
    #[config(default = true)]
    pub input_bias: bool,
    /// Whether a linear layer `[D, D]` projects the hidden state first (VibeVoice).
    #[config(default = false)]
    pub condition_projection: bool,
    /// Size of the sinusoidal encoding of a timestep: half cosines, half sines.
    #[config(default = 256)]
    pub timestep_frequencies: usize,
    /// Longest period of the sinusoid.
    #[config(default = 10000.0)]
    pub timestep_max_period: f64,
    /// Noise schedule of the forward process.
    #[config(default = "KEYS.default(\"lm.schedule\")")]
    pub schedule: BetaSchedule,
    /// What the head predicts.
    #[config(default = "KEYS.default(\"lm.prediction\")")]
    pub prediction: Prediction,
    /// `T`, number of timesteps of the forward process.
    #[config(default = "KEYS.default(\"lm.num_train_timesteps\")")]
    pub num_train_timesteps: usize,
    /// How it is trained: by the paper's diffusion, or otherwise.
    #[config(default = "HeadMethod::default()")]
    pub method: HeadMethod,
    /// Gradient checkpointing: training keeps only the input of each layer and runs the layer again
    /// in the backward pass.
    #[config(default = false)]
    pub recompute: bool,
}

/// Errors of a head's configuration.
#[derive(Debug, thiserror::Error)]
pub enum DiffusionError {
    /// An impossible configuration.
    #[error("diffusion head: {reason}")]
    Config {
        /// What is wrong.
        reason: String,
    },
}

impl DiffusionHeadConfig {
    /// The feed-forward width, from `mlp_width` or `mlp_ratio`.
    pub(crate) fn inner_width(&self) -> usize {
        if self.mlp_width == 0 {
            swiglu_width(self.width, self.mlp_ratio)
        } else {
            self.mlp_width
        }
    }

    /// The contradiction between the method's keys, as a message; `None` if there is none.
    fn wrong_method(&self) -> Option<String> {
        let method = &self.method;
        if method.process == Process::Diffusion {
            if method.times != TimeSampling::Uniform {
                return Some("lm.times other than \"uniform\" needs lm.process = \"flow\"".into());
            }
            if method.few_step != FewStep::None {
                return Some("lm.few_step other than \"none\" needs lm.process = \"flow\"".into());
            }
            return None;
        }
        if self.prediction != Prediction::Velocity {
            return Some("lm.process = \"flow\" needs lm.prediction = \"Velocity\"".into());
        }
        if self.schedule != BetaSchedule::Cosine {
            return Some(
                "lm.process = \"flow\" has no lm.schedule: leave that at \"Cosine\"".into(),
            );
        }
        let divisions = method.shortcut_divisions;
        let fine =
            divisions.is_power_of_two() && (2..=self.num_train_timesteps).contains(&divisions);
        if method.few_step == FewStep::Shortcut && !fine {
            return Some(format!(
                "lm.shortcut_divisions must be a power of 2 from 2 to lm.num_train_timesteps, not {divisions}"
            ));
        }
        if method.few_step == FewStep::Energy && method.times != TimeSampling::Uniform {
            return Some(
                "lm.few_step = \"energy\" has one time, noise: leave lm.times at \"uniform\""
                    .into(),
            );
        }
        if method.few_step == FewStep::Energy
            && method.distilled_guidance != DistilledGuidance::None
        {
            return Some(
                "lm.few_step = \"energy\" learns from latents, not from a teacher: \
                 lm.distilled_guidance must be \"none\""
                    .into(),
            );
        }
        None
    }
}

impl Default for DiffusionHeadConfig {
    /// The official Base size, for latents of 16 numbers.
    fn default() -> Self {
        Self::new(16, 768)
    }
}

impl PartConfig for DiffusionHeadConfig {
    type Error = DiffusionError;

    /// # Errors
    /// If a size is zero or too small.
    fn validate(&self) -> Result<(), DiffusionError> {
        let fail = |reason: String| Err(DiffusionError::Config { reason });
        if self.latent_dim == 0 || self.width == 0 || self.num_train_timesteps < 2 {
            return fail(
                "latent_dim and width must be positive, num_train_timesteps 2 or more".into(),
            );
        }
        if self.depth > 0 && self.inner_width() == 0 {
            return fail(format!(
                "width {} times mlp_ratio {} is too small for a feed-forward width of 64",
                self.width, self.mlp_ratio
            ));
        }
        if self.inner_width() > MOST_MLP_WIDTH {
            return fail(format!(
                "a feed-forward width of {} is above {MOST_MLP_WIDTH}",
                self.inner_width()
            ));
        }
        if !(self.norm_epsilon > 0.0 && self.norm_epsilon.is_finite()) {
            return fail(format!(
                "norm_epsilon {} must be positive",
                self.norm_epsilon
            ));
        }
        let frequencies = self.timestep_frequencies;
        if frequencies == 0 || !frequencies.is_multiple_of(2) {
            return fail(format!(
                "timestep_frequencies {frequencies} must be even and positive: half are cosines, half sines"
            ));
        }
        if !(self.timestep_max_period > 0.0 && self.timestep_max_period.is_finite()) {
            return fail(format!(
                "timestep_max_period {} must be positive",
                self.timestep_max_period
            ));
        }
        if let Some(reason) = self.wrong_method() {
            return fail(reason);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn impossible_configurations_are_refused() {
        let config = || DiffusionHeadConfig::new(3, 32);
        config().validate().unwrap();
        for (config, part) in [
            (config().with_mlp_width(1 << 40), "width of 1099511627776"),
            (config().with_mlp_ratio(1e300), "feed-forward width"),
            (config().with_norm_epsilon(0.0), "norm_epsilon 0"),
            (config().with_norm_epsilon(f64::NAN), "norm_epsilon NaN"),
            (config().with_timestep_frequencies(0), "even and positive"),
            (
                config().with_timestep_frequencies(7),
                "timestep_frequencies 7 must be even",
            ),
            (config().with_timestep_max_period(0.0), "max_period 0"),
        ] {
            let message = config.validate().unwrap_err().to_string();
            assert!(message.contains(part), "{message}");
        }
    }

    #[test]
    fn methods_that_contradict_themselves_are_refused() {
        let flow = HeadMethod {
            process: Process::Flow,
            ..HeadMethod::default()
        };
        let diffusion = HeadMethod::default();
        let config = |method| DiffusionHeadConfig::new(3, 32).with_method(method);
        config(flow).validate().unwrap();
        let shortcut = HeadMethod {
            few_step: FewStep::Shortcut,
            ..flow
        };
        config(shortcut).validate().unwrap();
        let energy = HeadMethod {
            few_step: FewStep::Energy,
            ..flow
        };
        config(energy).validate().unwrap();
        let times = TimeSampling::Stratified;
        let distilled_guidance = DistilledGuidance::Fixed;
        for (config, part) in [
            (
                config(flow).with_prediction(Prediction::Epsilon),
                "needs lm.prediction",
            ),
            (
                config(flow).with_schedule(BetaSchedule::Linear),
                "has no lm.schedule",
            ),
            (
                config(HeadMethod { times, ..diffusion }),
                "lm.times other than",
            ),
            (
                config(HeadMethod {
                    process: Process::Diffusion,
                    ..shortcut
                }),
                "lm.few_step other than",
            ),
            (
                config(HeadMethod {
                    shortcut_divisions: 100,
                    ..shortcut
                }),
                "lm.shortcut_divisions must be",
            ),
            (
                config(shortcut).with_num_train_timesteps(64),
                "lm.shortcut_divisions must be",
            ),
            (config(HeadMethod { times, ..energy }), "has one time"),
            (
                config(HeadMethod {
                    distilled_guidance,
                    ..energy
                }),
                "lm.distilled_guidance must be",
            ),
        ] {
            let message = config.validate().unwrap_err().to_string();
            assert!(message.contains(part), "{message}");
        }
    }
}
