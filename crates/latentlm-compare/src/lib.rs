//! Comparisons on equal terms: LatentLM with its rivals (paper §3), the sigma-VAE with a learned
//! variance, heads, codecs, fast students, ways of sampling. Each trains with the stages of `latentlm-train` and writes a table and a
//! figure into its run's folder.
//!
//! ```no_run
//! use latentlm_compare::{CompareRecipe, compare_image};
//! use latentlm_pipelines::Recipe;
//! use latentlm_train::{Interrupter, ProgressMode, RunEnd, RunOptions};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let options = RunOptions {
//!     path: "runs/compare".into(),
//!     resume: false,
//!     accept_changed_data: false,
//!     device: latentlm::device("cpu")?, // with the feature `cpu` of `latentlm`
//!     more_devices: Vec::new(),
//!     progress: ProgressMode::Plain,
//!     interrupter: Interrupter::new(),
//!     within: String::new(),
//! };
//! if let RunEnd::Finished { report, .. } = compare_image(CompareRecipe::resolve(None, &[])?, options)? {
//!     println!("{}", report.display());
//! }
//! # Ok(())
//! # }
//! ```
//!
//! Letters in shapes: `B` batch, `C` channels, `H x W` pixels, `I` images, `T` latents, `Z` numbers a
//! latent, `N` rows of all latents of a batch.

mod begin;
mod class;
mod documents;
mod fast;
mod heads;
mod latents;
mod mllm;
mod mllm_measure;
mod recipe;
mod result;
mod rival;
mod run;
mod sampling;
mod sigma;
mod stage;
mod stage_vq;
mod stored;
mod students;
mod tts;
mod tts_budget;
mod tts_counts;
mod tts_recipe;
mod tts_result;
mod tts_rival;
mod tts_sizes;
mod tts_speaker;
mod tts_verdict;
mod variant;
mod variant_result;
mod variants;

pub use fast::{FastMllmRecipe, FastTtsRecipe, compare_fast_mllm, compare_fast_tts};
pub use heads::{HeadsRecipe, compare_heads};
pub use latents::{LatentsRecipe, compare_latents};
pub use recipe::{CompareMllmRecipe, CompareRecipe, DenoiserRecipe, EvaluateConfig, VqRecipe};
pub use result::{Comparison, RivalPoint, RivalResult};
pub use run::{compare_image, compare_mllm};
pub use sampling::{CompareSamplingOptions, SampledPoint, compare_sampling};
pub use sigma::{SigmaRecipe, SigmaResult, compare_sigma};
pub use students::{StudentResult, StudentRun, StudentsConfig};
pub use tts::{compare_tts, evaluate_code_speech};
pub use tts_counts::SpeechCounts;
pub use tts_recipe::{CodeSpeechConfig, CompareTtsRecipe, EvaluateTtsConfig};
pub use tts_result::{SpeechModelResult, TtsComparison};
pub use tts_speaker::{CodeSpeaker, CodeVoice};
pub use variant_result::{VariantResult, VariantRun};
pub use variants::VariantsConfig;
