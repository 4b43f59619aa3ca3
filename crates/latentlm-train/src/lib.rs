//! Training of LatentLM: recipes, stages, checkpoints, evaluation, reports.
//!
//! The step loop is this crate's own (`docs/decisions/0001-step-loop.md`); Burn's training crate
//! gives the terminal dashboard and the interrupter, its optimizer crate AdamW and gradient
//! accumulation.

mod adamw;
mod adamw_record;
mod bench;
mod clip;
mod compare;
mod context;
mod decode_bench;
mod error;
mod image;
mod memory;
mod metrics;
mod mixed;
mod optimize;
mod plot;
mod precision;
mod progress;
mod recipe;
mod report;
mod run;
mod schedule;
mod speech;
mod spread;
mod stage;

pub use bench::{ImageSizes, KernelTimes, SpeechSizes, WORKLOADS, Workload, kernel_times, scaling};
pub use burn::train::Interrupter;
pub use compare::{
    CompareMixedRecipe, CompareRecipe, CompareSamplingOptions, Comparison, DenoiserRecipe,
    EvaluateConfig, RivalPoint, RivalResult, SampledPoint, SigmaRecipe, SigmaResult, VqRecipe,
    compare_image, compare_mixed, compare_sampling, compare_sigma,
};
pub use context::{RunEnd, RunOptions};
pub use decode_bench::{DecodeTimes, decode_times};
pub use error::TrainError;
pub use image::{
    DataConfig, EvaluateOptions, FeatureStats, Generator, ImageEvaluation, ImageRecipe,
    SampleConfig, Verdict, evaluate_image, frechet_distance, image_grid, png_bytes, psnr, save_png,
    ssim, train_image,
};
pub use memory::peak_memory_bytes;
pub use metrics::{MetricLine, MetricsLog};
pub use mixed::{
    Artist, EvaluateMixedOptions, Generated, Made, MixConfig, MixedEvaluation, MixedRecipe,
    MixedSampleConfig, MixedTextConfig, PromptPiece, evaluate_mixed, train_mixed,
};
pub use optimize::{Player, StepReport};
pub use precision::Precision;
pub use progress::{ProgressMode, minutes};
pub use recipe::{LmConfig, Recipe, StageConfig};
pub use run::{Manifest, RunFolder};
pub use schedule::{EmaDecay, LearningRate};
pub use speech::{
    EditCount, EvaluateSpeechOptions, Listener, SpeakConfig, Speaker, SpeakingTimes, Speech,
    SpeechCodec, SpeechDataConfig, SpeechEvaluation, SpeechRecipe, TextConfig, Voice, characters,
    edit_rate, evaluate_speech, mel_distance_db, sentences, si_sdr_db, stoi, train_speech, words,
};
pub use spread::{Portable, Spread};
