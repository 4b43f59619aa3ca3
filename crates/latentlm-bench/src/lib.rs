//! Workloads that are timed against PyTorch. Each is described by numbers, which the other side
//! builds the same work from, and run one unit at a time by whoever keeps the clock.
//!
//! ```no_run
//! use std::time::Instant;
//!
//! use latentlm_bench::WORKLOADS;
//!
//! # fn main() -> Result<(), latentlm::DeviceError> {
//! let device = latentlm::device("cpu")?; // with the feature `cpu` of `latentlm`
//! for (name, workload) in WORKLOADS {
//!     let mut unit = workload.prepare(&device);
//!     unit(); // the first warms up
//!     let started = Instant::now();
//!     unit();
//!     println!("{name}: {:.1} ms", started.elapsed().as_secs_f64() * 1e3);
//! }
//! # Ok(())
//! # }
//! ```
//!
//! Letters in shapes: `B` batch, `T` latents, `Z` numbers a latent.

mod decode;
mod image;
mod kernels;
mod mllm;
mod picture;
pub mod scaling;
mod speech;

pub use decode::{DecodeTimes, DecodeWork, decode_times};
pub use kernels::{KernelTimes, kernel_times};

use burn::tensor::Device;
use latentlm::core::Precision;
use serde::{Deserialize, Serialize};

/// Sizes of one workload.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Workload {
    /// A training step of the class-conditional image model: loss, gradients, clipping, AdamW,
    /// averaged weights.
    ImageLmStep(ImageSizes),
    /// The same of the model of text and pictures: a third of the documents draws a picture for a
    /// text, a third says what a picture shows, a third is text. All are of one length, so that
    /// neither side pads.
    MllmLmStep(MllmSizes),
    /// The same of the diffusion head alone: `batch * tokens * draws` rows.
    HeadStep(ImageSizes),
    /// A training step of a convolutional codec of pictures by their mean square error.
    PictureCodecStep(PictureSizes),
    /// Guided sampling of `batch` images with a KV cache and 20 solver steps.
    Sample(ImageSizes),
    /// The same with the head's products in bfloat16.
    SampleRounded(ImageSizes),
    /// A training step of the speech codec with the losses of its recipe: waveform, mel and STFT at
    /// several resolutions, KL.
    SpeechCodecStep(SpeechSizes),
    /// Decoding of one latent of a stream.
    SpeechDecode(SpeechSizes),
}

/// Sizes of an image model.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct ImageSizes {
    /// Classes.
    pub classes: usize,
    /// Images a step.
    pub batch: usize,
    /// Latents an image.
    pub tokens: usize,
    /// Numbers a latent.
    pub latent_dim: usize,
    /// Width of backbone and head.
    pub width: usize,
    /// Blocks.
    pub depth: usize,
    /// Query heads.
    pub heads: usize,
    /// Key/value heads.
    pub kv_heads: usize,
    /// Feed-forward ratio.
    pub mlp_ratio: f64,
    /// Layers of the head.
    pub head_depth: usize,
    /// Draws of noise and timestep a latent.
    pub draws: usize,
}

/// Sizes of a model of text and pictures.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct MllmSizes {
    /// Tokens of the text's vocabulary.
    pub vocabulary: usize,
    /// Documents of each kind a step.
    pub documents: usize,
    /// Tokens of a text beside a picture.
    pub text_tokens: usize,
    /// The model's sizes; `tokens` are the latents of a picture, `batch` and `classes` mean nothing.
    #[serde(flatten)]
    pub model: ImageSizes,
}

/// Sizes of a convolutional codec of pictures.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct PictureSizes {
    /// Pictures a step.
    pub batch: usize,
    /// Channels of a picture.
    pub channels: usize,
    /// Pixels a side.
    pub image_size: usize,
    /// Numbers a latent.
    pub latent_dim: usize,
    /// Channels at the finest resolution.
    pub width: usize,
    /// Channels of each halving, in units of the width.
    pub multipliers: [usize; 3],
    /// Residual blocks a halving.
    pub blocks: usize,
    /// Groups of the norms.
    pub norm_groups: usize,
}

/// Sizes of a speech codec.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct SpeechSizes {
    /// Signals a step.
    pub batch: usize,
    /// Latents a signal.
    pub frames: usize,
    /// Numbers a latent.
    pub latent_dim: usize,
    /// Frames of the coarsest resolution in a latent.
    pub frames_per_latent: usize,
    /// Downsampling ratios.
    pub ratios: [usize; 3],
    /// Layers at every resolution, finest first.
    pub depths: [usize; 4],
    /// Channels at every resolution.
    pub widths: [usize; 4],
    /// Window lengths of the spectral losses.
    pub windows: [usize; 4],
    /// Mel bands of each window length.
    pub mel_bands: [usize; 4],
}

/// The model of `configs/image/mnist.toml`.
const DEFAULT: ImageSizes = ImageSizes {
    classes: 10,
    batch: 64,
    tokens: 16,
    latent_dim: 16,
    width: 128,
    depth: 4,
    heads: 4,
    kv_heads: 2,
    mlp_ratio: 4.0,
    head_depth: 3,
    draws: 4,
};

/// The published Base size at 256x256, one image at a time.
const BASE: ImageSizes = ImageSizes {
    classes: 1000,
    batch: 1,
    tokens: 256,
    latent_dim: 16,
    width: 768,
    depth: 12,
    heads: 12,
    kv_heads: 12,
    mlp_ratio: 6.0,
    head_depth: 3,
    draws: 4,
};

/// The model of `configs/mllm/twemoji.toml`, a pack of 1008 positions.
const MLLM: MllmSizes = MllmSizes {
    vocabulary: 1024,
    documents: 12,
    text_tokens: 8,
    model: ImageSizes {
        tokens: 16,
        width: 192,
        depth: 6,
        heads: 6,
        draws: 2,
        ..DEFAULT
    },
};

/// A codec of coloured pictures with wider layers than the recipes', eight latents a side.
const PICTURE: PictureSizes = PictureSizes {
    batch: 16,
    channels: 3,
    image_size: 64,
    latent_dim: 16,
    width: 32,
    multipliers: [2, 2, 4],
    blocks: 1,
    norm_groups: 8,
};

/// The codec of `configs/tts/voice.toml`, 25 latents a second, and a batch of its training.
const SPEECH: SpeechSizes = SpeechSizes {
    batch: 16,
    frames: 13,
    latent_dim: 256,
    frames_per_latent: 2,
    ratios: [20, 4, 4],
    depths: [0, 3, 4, 3],
    widths: [8, 64, 128, 256],
    windows: [256, 512, 1024, 2048],
    mel_bands: [20, 40, 80, 128],
};

/// The default model, sixteen images at a time.
const SIXTEEN: ImageSizes = ImageSizes {
    batch: 16,
    ..DEFAULT
};

/// All workloads by name, in the order of the table.
pub const WORKLOADS: [(&str, Workload); 11] = [
    ("image-lm-step", Workload::ImageLmStep(DEFAULT)),
    ("image-lm-step-base", Workload::ImageLmStep(BASE)),
    ("mllm-step", Workload::MllmLmStep(MLLM)),
    (
        "head-step",
        Workload::HeadStep(ImageSizes {
            width: 512,
            batch: 8,
            tokens: 64,
            ..DEFAULT
        }),
    ),
    ("sample-16", Workload::Sample(SIXTEEN)),
    ("sample-64", Workload::Sample(DEFAULT)),
    ("sample-16-bf16", Workload::SampleRounded(SIXTEEN)),
    ("sample-64-bf16", Workload::SampleRounded(DEFAULT)),
    ("conv-codec-step", Workload::PictureCodecStep(PICTURE)),
    ("speech-codec-step", Workload::SpeechCodecStep(SPEECH)),
    (
        "speech-decode",
        Workload::SpeechDecode(SpeechSizes { batch: 1, ..SPEECH }),
    ),
];

impl Workload {
    /// Builds what the workload needs; every call of the result does one unit of work and waits for
    /// it.
    pub fn prepare(self, device: &Device) -> Box<dyn FnMut()> {
        self.prepare_in(Precision::F32, device)
    }

    /// As [`prepare`](Self::prepare), with training's matrix products in a precision. Workloads that
    /// do not train a language model or its head compute in what they say.
    pub fn prepare_in(self, precision: Precision, device: &Device) -> Box<dyn FnMut()> {
        match self {
            Self::ImageLmStep(sizes) => image::lm_step(sizes, precision, device),
            Self::MllmLmStep(sizes) => mllm::lm_step(sizes, precision, device),
            Self::HeadStep(sizes) => image::head_step(sizes, precision, device),
            Self::PictureCodecStep(sizes) => picture::codec_step(sizes, device),
            Self::Sample(sizes) => image::sample(sizes, Precision::F32, device),
            Self::SampleRounded(sizes) => image::sample(sizes, Precision::Bf16, device),
            Self::SpeechCodecStep(sizes) => speech::codec_step(sizes, device),
            Self::SpeechDecode(sizes) => speech::decode(sizes, device),
        }
    }

    /// Whether it trains in the precision that it is prepared in.
    pub fn has_precisions(self) -> bool {
        matches!(
            self,
            Self::ImageLmStep(_) | Self::MllmLmStep(_) | Self::HeadStep(_)
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two units of every kind at small sizes: the second goes on from the first's state.
    #[test]
    fn every_kind_runs() {
        let image = ImageSizes {
            batch: 2,
            tokens: 4,
            width: 32,
            depth: 1,
            head_depth: 1,
            ..DEFAULT
        };
        let speech = SpeechSizes {
            batch: 1,
            frames: 2,
            widths: [2; 4],
            ..SPEECH
        };
        for workload in [
            Workload::ImageLmStep(image),
            Workload::MllmLmStep(MllmSizes {
                documents: 2,
                model: image,
                ..MLLM
            }),
            Workload::HeadStep(image),
            Workload::PictureCodecStep(PictureSizes {
                batch: 2,
                image_size: 16,
                ..PICTURE
            }),
            Workload::Sample(image),
            Workload::SampleRounded(image),
            Workload::SpeechCodecStep(speech),
            Workload::SpeechDecode(speech),
        ] {
            let mut unit = workload.prepare(&Device::default());
            unit();
            unit();
            if workload.has_precisions() {
                let mut unit = workload.prepare_in(Precision::Bf16, &Device::default());
                unit();
                unit();
            }
        }
    }

    /// What describes a workload to another process makes it again.
    #[test]
    fn descriptions_read_back() {
        for (name, workload) in WORKLOADS {
            let text = serde_json::to_string(&workload).unwrap();
            let read: Workload = serde_json::from_str(&text).unwrap();
            assert_eq!(read, workload, "{name}");
        }
    }

    /// The workloads have the sizes of the default recipes.
    #[test]
    fn the_default_is_the_recipe() {
        let recipe = latentlm_pipelines::ImageRecipe::default();
        let expected = recipe.model(DEFAULT.classes);
        assert_eq!(image::config(DEFAULT), expected);
        assert_eq!(recipe.lm_train.batch_size, DEFAULT.batch);
        assert_eq!(recipe.lm.batch_mul, DEFAULT.draws);
        let recipe = latentlm_pipelines::MllmRecipe::default();
        let vocabulary = recipe.text.vocabulary;
        assert_eq!(mllm::config(MLLM), recipe.model(vocabulary));
        assert_eq!(recipe.lm.batch_mul, MLLM.model.draws);
        let recipe = latentlm_pipelines::SpeechRecipe::default();
        assert_eq!(speech::config(SPEECH), recipe.codec);
        assert_eq!(speech::loss(SPEECH), recipe.codec_loss);
        assert_eq!(recipe.codec_train.batch_size, SPEECH.batch);
        assert_eq!(recipe.codec_frames(), SPEECH.frames);
    }
}
