//! `compare`.

use clap::{Args, Subcommand};

use crate::number::whole;
use crate::shared::Trained;
use crate::{Judges, Training, guidance_scale};

/// Compares LatentLM with other models, codecs and heads with each other, and sampling settings
#[derive(Debug, Subcommand)]
#[command(after_help = "Examples:\n  \
    cargo xtask compare image --run rivals\n  \
    cargo xtask compare mllm --run rivals-mllm\n  \
    cargo xtask compare tts --run rivals-tts\n  \
    cargo xtask compare sigma --run sigma noise_stds=[0.25,0.75]\n  \
    cargo xtask compare heads --run heads\n  \
    cargo xtask compare latents --run latents\n  \
    cargo xtask compare fast-tts --run fast-voices\n  \
    cargo xtask compare fast-mllm --run fast-emojis\n  \
    cargo xtask compare sampling --run mnist")]
#[allow(
    missing_docs,
    reason = "the docs of each struct describe its command, also in the help"
)]
pub enum Compare {
    Image(CompareImage),
    Mllm(CompareMllm),
    Tts(CompareTts),
    Sigma(CompareSigma),
    Heads(CompareHeads),
    Latents(CompareLatents),
    FastTts(CompareFastTts),
    FastMllm(CompareFastMllm),
    Sampling(CompareSampling),
}

impl Compare {
    /// The training that the comparison starts, if it trains.
    pub(crate) fn trained(&self) -> Option<Trained<'_>> {
        let (training, run, command, table) = match self {
            Self::Image(args) => (
                &args.training,
                &args.run,
                "compare image",
                "latentlm-compare/image",
            ),
            Self::Mllm(args) => (
                &args.training,
                &args.run,
                "compare mllm",
                "latentlm-compare/mllm",
            ),
            Self::Tts(args) => (
                &args.training,
                &args.run,
                "compare tts",
                "latentlm-compare/tts",
            ),
            Self::Sigma(args) => (
                &args.training,
                &args.run,
                "compare sigma",
                "latentlm-compare/sigma",
            ),
            Self::Heads(args) => (
                &args.training,
                &args.run,
                "compare heads",
                "latentlm-compare/heads",
            ),
            Self::Latents(args) => (
                &args.training,
                &args.run,
                "compare latents",
                "latentlm-compare/latents",
            ),
            Self::FastTts(args) => (
                &args.training,
                &args.run,
                "compare fast-tts",
                "latentlm-compare/fast_tts",
            ),
            Self::FastMllm(args) => (
                &args.training,
                &args.run,
                "compare fast-mllm",
                "latentlm-compare/fast_mllm",
            ),
            Self::Sampling(_) => return None,
        };
        Some(Trained {
            training,
            run,
            command,
            table,
        })
    }
}

/// Trains LatentLM, DiT, Transfusion and a vector-quantized model on the same latents or pictures, with
/// the same number of steps and parameters, and measures them during training
///
/// The default recipe is the files in configs/compare; --config names a folder of such files, or one file
/// with all keys that differ.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    cargo xtask compare image\n  \
    cargo xtask compare image --run short image.lm_train.steps=400\n  \
    cargo xtask compare image --run short --resume")]
pub struct CompareImage {
    /// Name of the run, a folder under runs/
    #[arg(long, default_value = "compare")]
    pub run: String,
    /// Training options.
    #[command(flatten)]
    pub training: Training,
}

/// Trains LatentLM, Transfusion and a vector-quantized model on the same documents of text and pictures,
/// with the same number of steps and parameters, and measures them during training
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    cargo xtask compare mllm\n  \
    cargo xtask compare mllm --run short mllm.lm_train.steps=400\n  \
    cargo xtask compare mllm --run short --resume")]
pub struct CompareMllm {
    /// Name of the run, a folder under runs/
    #[arg(long, default_value = "compare-mllm")]
    pub run: String,
    /// Training options.
    #[command(flatten)]
    pub training: Training,
}

/// Trains LatentLM at several rates of latents and a language model of codes in groups of several sizes on the same
/// speech, for the same minutes and with as many parameters, and measures them
///
/// Each model is a run within the run's folder, for `speak` and `eval-tts`; the codec with codebooks is one for
/// `codec`. A run that continues repeats no finished training, and no finished measurement with the same commands; it
/// may have more rates, groups and minutes.
///
/// The commands that listen are those of `eval-tts`. Without them the table lacks word errors, similarity and
/// naturalness. `cargo xtask compare tts --judges` installs all of them below target/ and uses them; --python PYTHON
/// names a Python that has their packages already.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    cargo xtask compare tts\n  \
    cargo xtask compare tts --judges --run voices speech.data.path=speech-voices/seen speech.data.composed=0 evaluate.held_out_voices=speech-voices/held-out\n  \
    cargo xtask compare tts --run rates frames_per_latent=[3,6,10] groups=[1,2]\n  \
    cargo xtask compare tts --run rates --resume groups=[1,2,4]")]
pub struct CompareTts {
    /// Name of the run, a folder under runs/
    #[arg(long, default_value = "compare-tts")]
    pub run: String,
    /// Commands that listen.
    #[command(flatten)]
    pub judges: Judges,
    /// Training options.
    #[command(flatten)]
    pub training: Training,
}

/// Trains codec and language model for several noise scales of the sigma-VAE and for a learned variance,
/// and measures each
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    cargo xtask compare sigma\n  \
    cargo xtask compare sigma --run few noise_stds=[0.25,0.75] image.lm_train.steps=600")]
pub struct CompareSigma {
    /// Name of the run, a folder under runs/
    #[arg(long, default_value = "sigma")]
    pub run: String,
    /// Training options.
    #[command(flatten)]
    pub training: Training,
}

/// Trains heads on one codec and draws with them in different ways, each with several training seeds, and
/// measures quality and speed
///
/// A run that continues repeats no finished training or measurement, and may have other variants and seeds. Seeds may be
/// runs of their own (`heads.skip_seeds`): another run takes over their measurements, the files VARIANT-SEED.json, if they
/// are copied into its folder.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    cargo xtask compare heads\n  \
    cargo xtask compare heads --run few heads.variants=default,steps-4 heads.seeds=1\n  \
    cargo xtask compare heads --run few --resume heads.variants=default,fast-2 heads.seeds=3")]
pub struct CompareHeads {
    /// Name of the run, a folder under runs/
    #[arg(long, default_value = "heads")]
    pub run: String,
    /// Training options.
    #[command(flatten)]
    pub training: Training,
}

/// Trains codecs whose latents are made to be generated, each with its language model and with several
/// training seeds, and measures quality
///
/// A run that continues repeats no finished training or measurement, and may have other variants and seeds, as that of
/// `compare heads`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    cargo xtask compare latents\n  \
    cargo xtask compare latents --run few latents.variants=default,sphere latents.seeds=1\n  \
    cargo xtask compare latents --run few --resume latents.seeds=3")]
pub struct CompareLatents {
    /// Name of the run, a folder under runs/
    #[arg(long, default_value = "latents")]
    pub run: String,
    /// Training options.
    #[command(flatten)]
    pub training: Training,
}

/// Trains the default voice and its fast student on one codec, each with several training seeds, and measures both
///
/// A run that continues repeats no finished training, and no finished measurement with the same commands. The commands
/// that listen are those of `eval-tts`; `cargo xtask compare fast-tts --judges` installs all of them below target/ and
/// uses them. Each training is a run within the run's folder, for `speak` and `eval-tts`. A run that continues may have
/// other seeds. Seeds may be runs of their own (`fast_tts.skip_seeds`): another run takes over their measurements, the
/// files default-SEED.json and fast-SEED.json, if they are copied into its folder.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    cargo xtask compare fast-tts --judges\n  \
    cargo xtask compare fast-tts --run short fast_tts.seeds=1 speech.lm_train.steps=3500\n  \
    cargo xtask compare fast-tts --run second fast_tts.skip_seeds=1 fast_tts.seeds=1\n  \
    cargo xtask compare fast-tts --resume --judges")]
pub struct CompareFastTts {
    /// Name of the run, a folder under runs/
    #[arg(long, default_value = "fast-tts")]
    pub run: String,
    /// Commands that listen.
    #[command(flatten)]
    pub judges: Judges,
    /// Training options.
    #[command(flatten)]
    pub training: Training,
}

/// Trains the default emoji and their fast student on one codec, each with several training seeds, and measures both
///
/// A run that continues repeats no finished training or measurement. Each training is a run within the run's folder,
/// for `generate` and `eval-mllm`. Other seeds, and seeds that are runs of their own: as of `compare fast-tts`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    cargo xtask compare fast-mllm\n  \
    cargo xtask compare fast-mllm --run short fast_mllm.seeds=1 mllm.lm_train.steps=3000\n  \
    cargo xtask compare fast-mllm --resume fast_mllm.seeds=3")]
pub struct CompareFastMllm {
    /// Name of the run, a folder under runs/
    #[arg(long, default_value = "fast-mllm")]
    pub run: String,
    /// Training options.
    #[command(flatten)]
    pub training: Training,
}

/// Measures a finished image run for several numbers of solver steps and guidance scales
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  cargo xtask compare sampling --run mnist --steps 5,10,20 --guidance 1,2,4"
)]
pub struct CompareSampling {
    /// Name of the run, a folder under runs/
    #[arg(long, default_value = "mnist")]
    pub run: String,
    /// Numbers of solver steps
    #[arg(
        long,
        value_delimiter = ',',
        default_values_t = [2usize, 3, 5, 10, 20, 50],
        value_parser = whole(1..=999)
    )]
    pub steps: Vec<usize>,
    /// Guidance scales
    #[arg(
        long,
        value_delimiter = ',',
        default_values_t = [1.0f64, 1.5, 2.0, 3.0, 4.0, 6.0],
        value_parser = guidance_scale
    )]
    pub guidance: Vec<f64>,
    /// Number of pictures for each measurement
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u64).range(2..=100_000))]
    pub samples: u64,
    /// Random seed; the same seed gives the same samples
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// cpu, wgpu, vulkan or cuda; wgpu:N is the N-th
    #[arg(long, default_value = "cpu")]
    pub device: String,
}
