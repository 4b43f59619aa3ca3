//! Sizes of workloads, and those of the recipes and of published models.

use latentlm::core::Precision;
use latentlm_kernels::WEIGHT_GROUP;
use serde::{Deserialize, Serialize};

/// Bytes of a scale.
const SCALE_BYTES: f64 = 2.0;

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
    /// Whether training steps recompute blocks and layers of the head in the backward pass. Descriptions of
    /// earlier versions lack it.
    #[serde(default)]
    pub recompute: bool,
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

/// Weights of a backbone in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DecodeWeights {
    /// float32.
    F32,
    /// bfloat16.
    Bf16,
    /// 8 bits, with a scale for each group of 32 inputs.
    Int8,
    /// 4 bits, with a scale for each group of 32 inputs.
    Int4,
}

impl DecodeWeights {
    /// Bytes of a weight with its part of a scale.
    pub(crate) fn bytes(self) -> f64 {
        let scale = SCALE_BYTES / WEIGHT_GROUP as f64;
        match self {
            Self::F32 => 4.0,
            Self::Bf16 => 2.0,
            Self::Int8 => 1.0 + scale,
            Self::Int4 => 0.5 + scale,
        }
    }
}

/// Sizes of a backbone that computes one position after another.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct DecodeSizes {
    /// Width.
    pub width: usize,
    /// Blocks.
    pub depth: usize,
    /// Query heads.
    pub heads: usize,
    /// Key/value heads.
    pub kv_heads: usize,
    /// Feed-forward ratio.
    pub mlp_ratio: f64,
    /// Positions that the KV cache has room for.
    pub positions: usize,
    /// Weights in memory.
    pub weights: DecodeWeights,
}

/// Sizes of a block of a backbone that reads one long sequence.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct AttentionSizes {
    /// Positions.
    pub positions: usize,
    /// Width.
    pub width: usize,
    /// Query heads.
    pub heads: usize,
    /// Key/value heads.
    pub kv_heads: usize,
    /// Feed-forward ratio.
    pub mlp_ratio: f64,
}

/// The model of `configs/image/mnist.toml`.
pub const DEFAULT: ImageSizes = ImageSizes {
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
    recompute: false,
};

/// The published Base size at 256x256, one image at a time.
pub const BASE: ImageSizes = ImageSizes {
    classes: 1000,
    batch: 1,
    tokens: 256,
    width: 768,
    depth: 12,
    heads: 12,
    kv_heads: 12,
    mlp_ratio: 6.0,
    ..DEFAULT
};

/// The head alone, wider than the default model's.
pub const HEAD: ImageSizes = ImageSizes {
    width: 512,
    batch: 8,
    tokens: 64,
    ..DEFAULT
};

/// The model of `configs/mllm/twemoji.toml`, a pack of 1008 positions.
pub const MLLM: MllmSizes = MllmSizes {
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
pub const PICTURE: PictureSizes = PictureSizes {
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
pub const SPEECH: SpeechSizes = SpeechSizes {
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
pub const SIXTEEN: ImageSizes = ImageSizes {
    batch: 16,
    ..DEFAULT
};

/// Eight of the 28 blocks of VibeVoice-1.5B's backbone: 375 million weights, more than any cache holds.
pub const BACKBONE: DecodeSizes = DecodeSizes {
    width: 1536,
    depth: 8,
    heads: 12,
    kv_heads: 2,
    mlp_ratio: 8.75,
    positions: 256,
    weights: DecodeWeights::F32,
};

/// Which halves of a codec work on a latent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CodecHalves {
    /// The decoder makes sound of a latent.
    Decode,
    /// The semantic encoder makes a latent of sound.
    Encode,
    /// The decoder, then the semantic encoder on what was decoded, as between two latents of a dialogue.
    Both,
}

impl CodecHalves {
    /// Whether the decoder works.
    pub(crate) fn decodes(self) -> bool {
        self != Self::Encode
    }

    /// Whether the semantic encoder works.
    pub(crate) fn encodes(self) -> bool {
        self != Self::Decode
    }
}

/// Sizes of a published speech codec that works on one latent of a stream after the other.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct CodecSizes {
    /// Numbers of a latent that is decoded.
    pub latent_dim: usize,
    /// Numbers of a latent that the semantic encoder makes.
    pub semantic_dim: usize,
    /// Channels at the finest resolution; they double at each ratio.
    pub width: usize,
    /// Downsampling ratios, finest first.
    pub ratios: [usize; 6],
    /// Layers at every resolution, finest first.
    pub depths: [usize; 7],
    /// What works on a latent.
    pub halves: CodecHalves,
    /// Type of the matrices in memory.
    pub weights: Precision,
}

/// VibeVoice's codec: 3,200 samples a latent, 344 million weights in the decoder, 345 million in the semantic encoder.
pub const CODEC: CodecSizes = CodecSizes {
    latent_dim: 64,
    semantic_dim: 128,
    width: 32,
    ratios: [2, 2, 4, 5, 5, 8],
    depths: [3, 3, 3, 3, 3, 3, 8],
    halves: CodecHalves::Both,
    weights: Precision::F32,
};

/// A block over 16,384 positions, whose attention is three quarters of the products.
pub const LONG: AttentionSizes = AttentionSizes {
    positions: 16_384,
    width: 512,
    heads: 8,
    kv_heads: 2,
    mlp_ratio: 4.0,
};
