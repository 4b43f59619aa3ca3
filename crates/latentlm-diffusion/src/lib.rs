//! Next-token diffusion (paper §2.2): the noise schedule, solvers of the reverse process, and the
//! small AdaLN head that denoises one latent given the backbone's hidden state. Beside the paper's diffusion it learns
//! flow matching, to draw in few steps (`few_step`) and from teachers (`guidance`).
//!
//! ```
//! use burn::tensor::{Device, Tensor};
//! use latentlm_core::{LatentHead, LatentHeadConfig, RandomStream, SampleOptions};
//! use latentlm_diffusion::DiffusionHeadConfig;
//!
//! let device = Device::flex(); // the CPU: Burn's feature `flex`
//! let head = DiffusionHeadConfig::new(8, 64).init(&device);
//! let mut random = RandomStream::new(0);
//! let hidden = random.normal([2, 64], &device);
//! let noise = random.normal([2, 8], &device);
//! let latents = head.sample(hidden, None, noise, &SampleOptions::default(), &mut random);
//! assert_eq!(latents.dims(), [2, 8]);
//! ```
//!
//! Letters in shapes: `N` rows (batch times positions, flattened), `Z` latent dimension, `D` width
//! of hidden state and head, `S` solver steps.

mod config;
mod draws;
mod few_step;
mod guidance;
mod head;
mod keys;
mod layer;
mod modulations;
mod rows;
mod schedule;
pub mod solver;
mod timestep;

pub use config::{DiffusionError, DiffusionHeadConfig};
pub use head::DiffusionHead;
pub use keys::KEYS;
pub use latentlm_core::{BetaSchedule, Prediction, Process};
pub use schedule::NoiseSchedule;
pub use timestep::TimestepEmbedding;

pub use DiffusionError as HeadError;
pub use DiffusionHead as Head;
pub use DiffusionHeadConfig as HeadConfig;
