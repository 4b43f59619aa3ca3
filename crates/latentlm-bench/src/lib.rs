//! Workloads that are timed against PyTorch. Numbers describe each of them, and the PyTorch script builds the same work
//! from these. The caller, which keeps the clock, runs one unit at a time.
//!
//! ```no_run
//! use std::time::Instant;
//!
//! use latentlm::core::Precision;
//! use latentlm_bench::WORKLOADS;
//!
//! # fn main() -> Result<(), latentlm::DeviceError> {
//! let device = latentlm::device("cpu")?; // with the feature `cpu` of `latentlm`
//! for (name, workload) in WORKLOADS {
//!     let mut unit = workload.prepare(Precision::F32, &device);
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

mod attention;
mod backbone;
mod caches;
mod checksum;
mod codec;
mod cost;
mod decode;
mod drawn;
mod image;
mod inputs;
mod kernels;
mod mllm;
mod picture;
mod probe;
mod products;
pub mod scaling;
mod sizes;
mod speech;

pub use backbone::{BackboneWork, PositionTimes, position_times};
pub use caches::{CacheFlush, Caches};
pub use checksum::{ChecksumTimes, checksum_times};
pub use cost::Cost;
pub use decode::{DecodeTimes, DecodeWork, decode_times};
pub use kernels::{KernelTimes, kernel_times};
pub use probe::{Limits, MOST_READ_BYTES, cache_note, probe_limits, reading_rate};
pub use products::{ProductRate, ProductRates, product_rates};
pub use sizes::{
    AttentionSizes, CodecHalves, CodecSizes, DecodeSizes, DecodeWeights, ImageSizes, MllmSizes,
    PictureSizes, SpeechSizes,
};

use burn::tensor::Device;
use latentlm::core::Precision;
use serde::{Deserialize, Serialize};

use crate::inputs::{Inputs, timed};
use crate::sizes::{BACKBONE, BASE, CODEC, DEFAULT, HEAD, LONG, MLLM, PICTURE, SIXTEEN, SPEECH};

/// A prepared workload: every call does one unit of work and waits for it.
pub type Unit = Box<dyn FnMut()>;

/// Sizes of one workload.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Workload {
    /// A training step of the class-conditional image model: loss, gradients, clipping, AdamW,
    /// averaged weights.
    ImageLmStep(ImageSizes),
    /// A training step of the mllm: a third of the documents draws a picture for a text, a third
    /// captions a picture, a third is text. All have one length, so no side pads.
    MllmLmStep(MllmSizes),
    /// A training step of the diffusion head alone, with `batch * tokens * draws` rows.
    HeadStep(ImageSizes),
    /// A training step of a convolutional image codec, with the mean square error as loss.
    PictureCodecStep(PictureSizes),
    /// Guided sampling of `batch` images with a KV cache and 20 solver steps.
    Sample(ImageSizes),
    /// [`Workload::Sample`] with the head's products in bfloat16.
    SampleRounded(ImageSizes),
    /// A training step of the speech codec with the losses of its recipe: waveform, mel and STFT at
    /// several resolutions, KL.
    SpeechCodecStep(SpeechSizes),
    /// Decoding of one latent of a stream.
    SpeechDecode(SpeechSizes),
    /// One position of a large backbone.
    BackboneDecode(DecodeSizes),
    /// One latent of a stream through the published speech codec.
    CodecStream(CodecSizes),
    /// A block of a backbone forward and backward over one long sequence.
    Attention(AttentionSizes),
}

/// All workloads by name, in the order of the table.
pub const WORKLOADS: [(&str, Workload); 21] = [
    ("image-lm-step", Workload::ImageLmStep(DEFAULT)),
    ("image-lm-step-base", Workload::ImageLmStep(BASE)),
    ("mllm-step", Workload::MllmLmStep(MLLM)),
    ("head-step", Workload::HeadStep(HEAD)),
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
    ("backbone-f32", backbone_with(DecodeWeights::F32)),
    ("backbone-bf16", backbone_with(DecodeWeights::Bf16)),
    ("backbone-int8", backbone_with(DecodeWeights::Int8)),
    ("backbone-int4", backbone_with(DecodeWeights::Int4)),
    (
        "codec-decode-f32",
        codec_with(CodecHalves::Decode, Precision::F32),
    ),
    (
        "codec-decode-bf16",
        codec_with(CodecHalves::Decode, Precision::Bf16),
    ),
    (
        "codec-encode-f32",
        codec_with(CodecHalves::Encode, Precision::F32),
    ),
    (
        "codec-encode-bf16",
        codec_with(CodecHalves::Encode, Precision::Bf16),
    ),
    (
        "codec-both-bf16",
        codec_with(CodecHalves::Both, Precision::Bf16),
    ),
    ("attention-16k", Workload::Attention(LONG)),
];

const fn backbone_with(weights: DecodeWeights) -> Workload {
    Workload::BackboneDecode(DecodeSizes {
        weights,
        ..BACKBONE
    })
}

const fn codec_with(halves: CodecHalves, weights: Precision) -> Workload {
    Workload::CodecStream(CodecSizes {
        halves,
        weights,
        ..CODEC
    })
}

impl Workload {
    /// Builds what the workload needs, with training's matrix products in a precision. Workloads that
    /// do not train a language model or its head compute in what they say.
    pub fn prepare(self, precision: Precision, device: &Device) -> Unit {
        let device = device.clone();
        let [inputs, with_gradients] = [device.clone(), device.clone().autodiff()].map(Inputs::on);
        let mut unit = match self {
            Self::ImageLmStep(sizes) => image::lm_step(sizes, precision, with_gradients),
            Self::MllmLmStep(sizes) => mllm::lm_step(sizes, precision, with_gradients),
            Self::HeadStep(sizes) => image::head_step(sizes, precision, with_gradients),
            Self::PictureCodecStep(sizes) => picture::codec_step(sizes, with_gradients),
            Self::Sample(sizes) => image::sample(sizes, Precision::F32, inputs),
            Self::SampleRounded(sizes) => image::sample(sizes, Precision::Bf16, inputs),
            Self::SpeechCodecStep(sizes) => speech::codec_step(sizes, with_gradients),
            Self::SpeechDecode(sizes) => speech::decode(sizes, inputs),
            Self::BackboneDecode(sizes) => backbone::decode(sizes, inputs),
            Self::CodecStream(sizes) => codec::stream(sizes, inputs),
            Self::Attention(sizes) => attention::step(sizes, with_gradients),
        };
        Box::new(move || {
            timed(&device, &mut unit);
        })
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
        let backbone = DecodeSizes {
            width: 64,
            depth: 1,
            heads: 2,
            kv_heads: 1,
            // The second unit begins anew.
            positions: 1,
            weights: DecodeWeights::Int8,
            ..BACKBONE
        };
        let codec = CodecSizes {
            width: 2,
            ratios: [1, 1, 1, 1, 1, 2],
            depths: [1; 7],
            weights: Precision::Bf16,
            ..CODEC
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
            Workload::BackboneDecode(backbone),
            Workload::CodecStream(codec),
            Workload::Attention(AttentionSizes {
                positions: 5,
                width: 32,
                heads: 4,
                ..LONG
            }),
        ] {
            let mut unit = workload.prepare(Precision::F32, &Device::default());
            unit();
            unit();
            if workload.has_precisions() {
                let mut unit = workload.prepare(Precision::Bf16, &Device::default());
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

    /// Descriptions of earlier versions had no `recompute`.
    #[test]
    fn descriptions_without_recompute_read() {
        let recomputed = ImageSizes {
            recompute: true,
            ..DEFAULT
        };
        assert!(image::config(recomputed).sizes.recompute);
        let text = serde_json::to_string(&Workload::ImageLmStep(recomputed)).unwrap();
        let older = text.replace(",\"recompute\":true", "");
        assert_ne!(older, text);
        let read: Workload = serde_json::from_str(&older).unwrap();
        assert_eq!(read, Workload::ImageLmStep(DEFAULT));
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
        let vocabulary = recipe.text.tokenizer.vocabulary;
        assert_eq!(mllm::config(MLLM), recipe.model(vocabulary));
        assert_eq!(recipe.lm.batch_mul, MLLM.model.draws);
        let recipe = latentlm_pipelines::SpeechRecipe::default();
        assert_eq!(speech::config(SPEECH), recipe.codec);
        assert_eq!(speech::loss(SPEECH), recipe.codec_loss);
        // The timed step has no discriminator.
        assert_eq!(recipe.codec_loss.adversarial_weight, 0.0);
        assert_eq!(recipe.codec_train.batch_size, SPEECH.batch);
        assert_eq!(recipe.codec_frames(), SPEECH.frames);
    }
}
