//! What a run is started with.

use std::path::PathBuf;

use burn::tensor::Device;
use burn::train::Interrupter;

/// How progress is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProgressMode {
    /// The dashboard on a terminal, lines elsewhere.
    Auto,
    /// Lines.
    Plain,
    /// Nothing.
    Silent,
}

/// Options of a run.
#[derive(Clone)]
pub struct RunOptions {
    /// The run's folder.
    pub path: PathBuf,
    /// Whether to continue a run.
    pub resume: bool,
    /// Whether a run may continue on data that changed since it began.
    pub accept_changed_data: bool,
    /// Where to compute.
    pub device: Device,
    /// Further devices for training steps: each gets a shard of every batch.
    pub more_devices: Vec<Device>,
    /// How progress is shown.
    pub progress: ProgressMode,
    /// Stops the run early, with a checkpoint.
    pub interrupter: Interrupter,
    /// Prefix of this run's keys in the user's recipe, e.g. `image.` where a comparison trains an
    /// image model; else empty. Errors put it before names of keys.
    pub within: String,
}

impl RunOptions {
    /// Where training steps are computed.
    pub fn devices(&self) -> impl Iterator<Item = &Device> {
        std::iter::once(&self.device).chain(&self.more_devices)
    }

    /// Sets the prefix of keys, for a recipe that is a table of another, e.g. `image.`.
    pub fn within(self, within: &str) -> Self {
        Self {
            within: within.into(),
            ..self
        }
    }

    /// Options of a run in a folder of this run. If it has begun, it is continued.
    pub fn part(&self, name: &str) -> Self {
        let path = self.path.join(name);
        Self {
            resume: path.join("config.toml").is_file(),
            path,
            ..self.clone()
        }
    }
}
