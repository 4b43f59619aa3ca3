//! What a workload can't do without: operations of its matrix products, and bytes that it must read or write.

use latentlm::SampleOptions;
use latentlm::codec_audio::LEAST_BF16_NUMBERS;
use latentlm::core::Precision;
use latentlm::core::ops::swiglu_width;
use serde::Serialize;

use crate::Workload;
use crate::sizes::{
    AttentionSizes, CodecSizes, DecodeSizes, DecodeWeights, ImageSizes, MllmSizes, PictureSizes,
    SpeechSizes,
};

/// Bytes of a float32 number.
const NUMBER: f64 = 4.0;
/// Bytes of a bfloat16 number.
const ROUNDED_NUMBER: f64 = 2.0;
/// Numbers that the sinusoid of a timestep has.
const FREQUENCIES: f64 = 256.0;
/// Operations of the forward pass for one of a step: backwards, every product is two.
const PASSES: f64 = 3.0;
/// How often a training step reads or writes every parameter's numbers at least: the weight twice
/// read and once written, its gradient written and read, two moments and the average read and written.
const TOUCHES: f64 = 11.0;
/// Numbers that a training step holds for each parameter: weight, gradient, two moments, average.
const HELD: f64 = 5.0;
/// Width of the kernels of the speech codec that keep the resolution.
const SPEECH_KERNEL: f64 = 7.0;
/// Width of the feed-forward layers of the speech codec, in units of their input.
const SPEECH_EXPANSION: f64 = 4.0;

/// Lower bounds of what a unit of work computes, reads and writes.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize)]
pub struct Cost {
    /// Multiplications and additions of its matrix products and convolutions in float32. Convolutions are counted as
    /// they are defined: minimal filtering does fewer.
    pub operations: f64,
    /// Multiplications and additions of products with bfloat16 weights.
    pub bf16_operations: f64,
    /// Multiplications and additions of products with int8 and int4 weights.
    pub int8_operations: f64,
    /// Bytes that it reads or writes of weights, optimizer state and KV cache. Activations are not
    /// counted. What is read again counts again.
    pub bytes: f64,
    /// The same, each byte once: what a cache that holds them all reads from memory.
    pub distinct_bytes: f64,
}

impl Cost {
    /// Cost of a training step, from the multiplications of its forward pass and the number of parameters.
    fn of_step(multiplications: f64, parameters: f64) -> Self {
        Self {
            operations: PASSES * 2.0 * multiplications,
            bytes: TOUCHES * NUMBER * parameters,
            distinct_bytes: HELD * NUMBER * parameters,
            ..Self::default()
        }
    }
}

impl Workload {
    /// Lower bounds for one unit of the workload. Training that [has precisions](Self::has_precisions) has its matrix
    /// products in `precision`.
    pub fn cost(&self, precision: Precision) -> Cost {
        let cost = self.exact_cost();
        if precision == Precision::Bf16 && self.has_precisions() {
            Cost {
                operations: 0.0,
                bf16_operations: cost.operations,
                ..cost
            }
        } else {
            cost
        }
    }

    /// The cost if training is in float32.
    fn exact_cost(&self) -> Cost {
        match *self {
            Self::ImageLmStep(sizes) => image_step(sizes),
            Self::MllmLmStep(sizes) => mllm_step(sizes),
            Self::HeadStep(sizes) => head_step(sizes),
            Self::PictureCodecStep(sizes) => picture_step(sizes),
            Self::Sample(sizes) => sampling(sizes, false),
            Self::SampleRounded(sizes) => sampling(sizes, true),
            Self::SpeechCodecStep(sizes) => speech_step(sizes),
            Self::SpeechDecode(sizes) => {
                let decoder = SpeechCount::of(sizes, 1);
                Cost {
                    operations: 2.0 * sizes.batch as f64 * decoder.multiplications,
                    bytes: NUMBER * decoder.weights,
                    distinct_bytes: NUMBER * decoder.weights,
                    ..Cost::default()
                }
            }
            Self::BackboneDecode(sizes) => position(sizes),
            Self::CodecStream(sizes) => codec_latent(sizes),
            Self::Attention(sizes) => long_sequence(sizes),
        }
    }
}

/// Weights of the matrices of a backbone's block.
fn block_weights(width: usize, heads: usize, kv_heads: usize, mlp_ratio: f64) -> f64 {
    let inner = swiglu_width(width, mlp_ratio) as f64;
    let width = width as f64;
    let key_value = width * width * kv_heads as f64 / heads as f64;
    2.0 * width * width + 2.0 * key_value + 3.0 * width * inner
}

/// Weights of the matrices that one position meets.
pub(crate) struct Weights {
    embedding: f64,
    backbone: f64,
    head: f64,
    timestep: f64,
}

impl Weights {
    pub(crate) fn of(sizes: ImageSizes) -> Self {
        let width = sizes.width as f64;
        let square = width * width;
        let inner = swiglu_width(sizes.width, sizes.mlp_ratio) as f64;
        let block = block_weights(sizes.width, sizes.heads, sizes.kv_heads, sizes.mlp_ratio);
        let layer = 3.0 * square + 3.0 * width * inner;
        let projection = sizes.latent_dim as f64 * width;
        Self {
            embedding: projection,
            backbone: sizes.depth as f64 * block + square,
            head: 2.0 * projection + sizes.head_depth as f64 * layer + 2.0 * square,
            timestep: FREQUENCIES * width + square,
        }
    }

    /// All parameters: the matrices, two biases and the labels' table.
    pub(crate) fn parameters(&self, sizes: ImageSizes) -> f64 {
        let table = (sizes.classes + 1) as f64 * sizes.width as f64;
        let biases = 2.0 * sizes.width as f64;
        self.embedding + self.backbone + self.head + self.timestep + biases + table
    }
}

/// Multiplications of causal attention over a document: scores, and sums over values.
fn attention(sizes: ImageSizes, positions: f64) -> f64 {
    let pairs = positions * (positions + 1.0) / 2.0;
    2.0 * sizes.width as f64 * pairs * sizes.depth as f64
}

fn image_step(sizes: ImageSizes) -> Cost {
    let weights = Weights::of(sizes);
    let tokens = sizes.tokens as f64;
    let positions = tokens * (weights.embedding + weights.backbone) + attention(sizes, tokens);
    let heads = tokens * sizes.draws as f64 * (weights.head + weights.timestep);
    let multiplications = sizes.batch as f64 * (positions + heads);
    Cost::of_step(multiplications, weights.parameters(sizes))
}

fn mllm_step(sizes: MllmSizes) -> Cost {
    let model = sizes.model;
    let weights = Weights::of(model);
    let (documents, tokens) = (sizes.documents as f64, model.tokens as f64);
    let words = sizes.text_tokens as f64;
    let length = words + tokens + 4.0;
    let backbone = 3.0 * (length * weights.backbone + attention(model, length));
    let embedding = 2.0 * tokens * weights.embedding;
    // Tokens that are learned: of a drawn picture's text, of a caption, of a text.
    let answers = (words + 2.0) + (words + 1.0) + (length - 1.0);
    // `SpecialTokens` are five.
    let table = (sizes.vocabulary as f64 + 5.0) * model.width as f64;
    let heads = tokens * model.draws as f64 * (weights.head + weights.timestep);
    let multiplications = documents * (backbone + embedding + answers * table + heads);
    let matrices = weights.embedding + weights.backbone + weights.head + weights.timestep;
    Cost::of_step(multiplications, matrices + 2.0 * table)
}

fn head_step(sizes: ImageSizes) -> Cost {
    let weights = Weights::of(sizes);
    let matrices = weights.head + weights.timestep;
    let rows = (sizes.batch * sizes.tokens * sizes.draws) as f64;
    Cost::of_step(rows * matrices, matrices)
}

/// Guided sampling; with a `rounded` head in bfloat16.
fn sampling(sizes: ImageSizes, rounded: bool) -> Cost {
    let weights = Weights::of(sizes);
    let tokens = sizes.tokens as f64;
    let pairs = tokens * (tokens + 1.0) / 2.0;
    let positions = tokens * (weights.embedding + weights.backbone) + attention(sizes, tokens);
    // With guidance every image is two rows.
    let rows = 2.0 * sizes.batch as f64;
    let steps = SampleOptions::default().steps as f64;
    let solver = tokens * steps * weights.head;
    let cached = 2.0 * sizes.width as f64 * sizes.kv_heads as f64 / sizes.heads as f64;
    let cache = cached * pairs * sizes.depth as f64 * rows;
    let bytes = NUMBER * (tokens * weights.backbone + cache);
    let filled_cache = cached * tokens * sizes.depth as f64 * rows;
    let distinct = NUMBER * (weights.backbone + filled_cache);
    let exact = 2.0 * rows * positions;
    let of_head = 2.0 * rows * solver;
    let (number, exact_head, rounded_head) = if rounded {
        (ROUNDED_NUMBER, 0.0, of_head)
    } else {
        (NUMBER, of_head, 0.0)
    };
    Cost {
        operations: exact + exact_head,
        bf16_operations: rounded_head,
        bytes: bytes + number * solver,
        distinct_bytes: distinct + number * weights.head,
        ..Cost::default()
    }
}

/// A codec of pictures: a layer is `(weights, pixels)`.
fn picture_step(sizes: PictureSizes) -> Cost {
    let base = sizes.width as f64;
    let (channels, latent_dim) = (sizes.channels as f64, sizes.latent_dim as f64);
    let mut side = sizes.image_size as f64;
    let area = side * side;
    // The first layer of the encoder and the last of the decoder.
    let mut layers = vec![(9.0 * channels * base, area), (9.0 * base * channels, area)];
    let mut fine = base;
    for multiplier in sizes.multipliers {
        let coarse = base * multiplier as f64;
        let (before, after) = (side * side, side * side / 4.0);
        layers.push((16.0 * fine * coarse, after));
        // Of encoder and decoder, two convolutions each.
        layers.push((4.0 * sizes.blocks as f64 * 9.0 * coarse * coarse, after));
        layers.push((9.0 * coarse * fine, before));
        side /= 2.0;
        fine = coarse;
    }
    layers.push((2.0 * fine * latent_dim, side * side));
    let parameters = layers.iter().map(|(weights, _)| weights).sum();
    let multiplications: f64 = layers
        .iter()
        .map(|(weights, pixels)| weights * pixels)
        .sum();
    Cost::of_step(sizes.batch as f64 * multiplications, parameters)
}

/// Sizes of the decoder of a speech codec. Its encoder has the same weights in reverse order.
struct SpeechHalf<'a> {
    /// Numbers of a frame of the coarsest resolution.
    frame_dim: usize,
    ratios: &'a [usize],
    depths: &'a [usize],
    widths: &'a [usize],
}

/// Equal weights of a half of a speech codec.
struct SpeechWeights {
    count: f64,
    /// Numbers of one of them.
    numbers: f64,
    /// How many frames each number is multiplied with.
    frames: f64,
    /// Whether it is the matrix of a layer or between resolutions. Others stay float32.
    is_matrix: bool,
}

impl SpeechWeights {
    fn all_numbers(&self) -> f64 {
        self.count * self.numbers
    }

    fn multiplications(&self) -> f64 {
        self.all_numbers() * self.frames
    }

    /// Whether it is in bfloat16 if weights are.
    fn is_rounded(&self) -> bool {
        self.is_matrix && self.numbers >= LEAST_BF16_NUMBERS as f64
    }
}

impl SpeechHalf<'_> {
    /// All weights, for a signal of `frames` frames of the coarsest resolution.
    fn weights(&self, frames: usize) -> Vec<SpeechWeights> {
        let widths: Vec<f64> = self.widths.iter().map(|width| *width as f64).collect();
        let mut frames = frames as f64;
        let weights = |count: usize, numbers, frames, is_matrix| SpeechWeights {
            count: count as f64,
            numbers,
            frames,
            is_matrix,
        };
        let coarsest = widths.len() - 1;
        let stem = SPEECH_KERNEL * self.frame_dim as f64 * widths[coarsest];
        let mut all = vec![weights(1, stem, frames, false)];
        for (index, &depth) in self.depths.iter().enumerate().rev() {
            let width = widths[index];
            let matrix = SPEECH_EXPANSION * width * width;
            all.push(weights(depth, SPEECH_KERNEL * width, frames, false));
            all.push(weights(2 * depth, matrix, frames, true));
            if index > 0 {
                let ratio = self.ratios[index - 1] as f64;
                let matrix = 2.0 * ratio * width * widths[index - 1];
                all.push(weights(1, matrix, frames, true));
                frames *= ratio;
            }
        }
        all.push(weights(1, SPEECH_KERNEL * widths[0], frames, false));
        all
    }
}

/// Counts of the decoder of a speech codec. Its encoder has the same.
struct SpeechCount {
    weights: f64,
    multiplications: f64,
}

impl SpeechCount {
    /// Counts for a signal of `latents` latents.
    fn of(sizes: SpeechSizes, latents: usize) -> Self {
        let half = SpeechHalf {
            frame_dim: sizes.latent_dim / sizes.frames_per_latent,
            ratios: &sizes.ratios,
            depths: &sizes.depths,
            widths: &sizes.widths,
        };
        let weights = half.weights(latents * sizes.frames_per_latent);
        Self {
            weights: weights.iter().map(SpeechWeights::all_numbers).sum(),
            multiplications: weights.iter().map(SpeechWeights::multiplications).sum(),
        }
    }
}

/// One latent of a stream. The last inputs of convolutions, which it keeps, are left out: they are small beside the
/// weights.
fn codec_latent(sizes: CodecSizes) -> Cost {
    let widths: Vec<usize> = (0..sizes.depths.len())
        .map(|index| sizes.width << index)
        .collect();
    let mut cost = Cost::default();
    for (works, frame_dim) in [
        (sizes.halves.decodes(), sizes.latent_dim),
        (sizes.halves.encodes(), sizes.semantic_dim),
    ] {
        if !works {
            continue;
        }
        let half = SpeechHalf {
            frame_dim,
            ratios: &sizes.ratios,
            depths: &sizes.depths,
            widths: &widths,
        };
        for weights in half.weights(1) {
            let operations = 2.0 * weights.multiplications();
            if sizes.weights == Precision::Bf16 && weights.is_rounded() {
                cost.bf16_operations += operations;
                cost.bytes += ROUNDED_NUMBER * weights.all_numbers();
            } else {
                cost.operations += operations;
                cost.bytes += NUMBER * weights.all_numbers();
            }
        }
    }
    cost.distinct_bytes = cost.bytes;
    cost
}

/// Without the spectra of the losses.
fn speech_step(sizes: SpeechSizes) -> Cost {
    let half = SpeechCount::of(sizes, sizes.frames);
    let multiplications = 2.0 * sizes.batch as f64 * half.multiplications;
    Cost::of_step(multiplications, 2.0 * half.weights)
}

/// One position of a backbone. The KV cache is left out: it is small beside the weights.
fn position(sizes: DecodeSizes) -> Cost {
    let block = block_weights(sizes.width, sizes.heads, sizes.kv_heads, sizes.mlp_ratio);
    let weights = sizes.depth as f64 * block;
    let bytes = sizes.weights.bytes() * weights;
    let cost = Cost {
        bytes,
        distinct_bytes: bytes,
        ..Cost::default()
    };
    let operations = 2.0 * weights;
    match sizes.weights {
        DecodeWeights::F32 => Cost { operations, ..cost },
        DecodeWeights::Bf16 => Cost {
            bf16_operations: operations,
            ..cost
        },
        DecodeWeights::Int8 | DecodeWeights::Int4 => Cost {
            int8_operations: operations,
            ..cost
        },
    }
}

/// A block forward and backward over one sequence. Weights are read in both passes, and their gradients are written.
fn long_sequence(sizes: AttentionSizes) -> Cost {
    let weights = block_weights(sizes.width, sizes.heads, sizes.kv_heads, sizes.mlp_ratio);
    let positions = sizes.positions as f64;
    let pairs = positions * (positions + 1.0) / 2.0;
    // Scores, and sums over values.
    let attention = 2.0 * sizes.width as f64 * pairs;
    Cost {
        operations: PASSES * 2.0 * (positions * weights + attention),
        bytes: 3.0 * NUMBER * weights,
        distinct_bytes: 2.0 * NUMBER * weights,
        ..Cost::default()
    }
}

#[cfg(test)]
mod tests {
    use burn::module::Module;
    use burn::tensor::Device;
    use latentlm::core::{CausalBackboneConfig, LatentCodecConfig};

    use super::*;
    use crate::sizes::{CODEC, CodecHalves, DEFAULT, LONG, MLLM, PICTURE, SPEECH};
    use crate::{attention, codec, image, mllm, picture, speech};

    /// What the products are counted from is the model that runs.
    #[test]
    fn every_weight_is_counted() {
        let small = ImageSizes {
            width: 64,
            depth: 2,
            ..DEFAULT
        };
        for sizes in [DEFAULT, small] {
            let model = image::config(sizes).init(&Device::default());
            // The two numbers of the whitening are in no product.
            let expected = model.num_params() as f64 - 2.0;
            assert_eq!(Weights::of(sizes).parameters(sizes), expected);
        }
    }

    /// Biases, norms and scales are not counted: less than a fiftieth.
    #[test]
    fn nearly_all_weights_of_other_models_are_counted() {
        let device = Device::default();
        let picture = picture::config(PICTURE).init(&device).num_params() as f64;
        let speech = speech::config(SPEECH).init(&device).num_params() as f64;
        let mllm = mllm::config(MLLM).init(&device).num_params() as f64;
        for (cost, parameters) in [
            (picture_step(PICTURE), picture),
            (speech_step(SPEECH), speech),
            (mllm_step(MLLM), mllm),
        ] {
            let counted = cost.bytes / (TOUCHES * NUMBER);
            assert!(counted <= parameters, "{counted} of {parameters}");
            assert!(counted > 0.98 * parameters, "{counted} of {parameters}");
        }
    }

    /// One latent of one frame, ratios of 1, a layer of width 1 at each resolution.
    #[test]
    fn the_speech_decoder_is_counted_as_by_hand() {
        let sizes = SpeechSizes {
            batch: 3,
            frames: 1,
            latent_dim: 2,
            frames_per_latent: 1,
            ratios: [1, 1, 2],
            depths: [1; 4],
            widths: [1; 4],
            ..SPEECH
        };
        // Depthwise, up and down.
        let layer = 7.0 + 8.0;
        let weights = 7.0 * 2.0 + 4.0 * layer + (4.0 + 2.0 + 2.0) + 7.0;
        // The ratio of 2 doubles the length for all but the first layers and the products that double.
        let at_one = 7.0 * 2.0 + layer + 4.0;
        let cost = Workload::SpeechDecode(sizes).cost(Precision::F32);
        assert_eq!(cost.bytes, 4.0 * weights);
        assert_eq!(cost.operations, 6.0 * (at_one + 2.0 * (weights - at_one)));
    }

    /// A head in bfloat16 has the same operations, half the bytes of its weights.
    #[test]
    fn rounding_moves_the_heads_operations() {
        let exact = Workload::Sample(DEFAULT).cost(Precision::F32);
        let rounded = Workload::SampleRounded(DEFAULT).cost(Precision::F32);
        assert_eq!(
            rounded.operations + rounded.bf16_operations,
            exact.operations
        );
        let head = 16.0 * 20.0 * Weights::of(DEFAULT).head;
        assert_eq!(exact.bytes - rounded.bytes, 2.0 * head);
        let once = exact.distinct_bytes - rounded.distinct_bytes;
        assert_eq!(once, 2.0 * Weights::of(DEFAULT).head);
    }

    /// One solver step for one latent reads every weight once, and so does a cache that holds them all.
    #[test]
    fn weights_that_stay_in_a_cache_are_read_once() {
        let sample = |tokens| {
            let sizes = ImageSizes { tokens, ..DEFAULT };
            Workload::Sample(sizes).cost(Precision::F32)
        };
        let weights = Weights::of(DEFAULT);
        // Keys and values of 64 numbers each, 4 blocks, 128 rows.
        let cache = 2.0 * 64.0 * 4.0 * 128.0;
        let once = weights.backbone + weights.head;
        assert_eq!(sample(1).distinct_bytes, 4.0 * (once + cache));
        assert_eq!(sample(9).distinct_bytes, 4.0 * (once + 9.0 * cache));
        assert!(sample(9).bytes > 9.0 * 20.0 * 4.0 * weights.head);
    }

    /// Training in bfloat16 has the same operations; workloads without precisions stay as they are.
    #[test]
    fn precisions_move_the_operations_of_training() {
        for workload in [Workload::HeadStep(DEFAULT), Workload::Sample(DEFAULT)] {
            let exact = workload.cost(Precision::F32);
            let rounded = workload.cost(Precision::Bf16);
            if workload.has_precisions() {
                assert_eq!(rounded.bf16_operations, exact.operations);
                assert_eq!((rounded.operations, rounded.bytes), (0.0, exact.bytes));
            } else {
                assert_eq!(rounded, exact);
            }
        }
    }

    /// Three passes over the block's weights at two positions, and over three pairs of four numbers, scores and sums.
    #[test]
    fn a_long_sequence_is_counted_as_by_hand() {
        let sizes = AttentionSizes {
            positions: 2,
            width: 4,
            heads: 2,
            kv_heads: 1,
            mlp_ratio: 24.0,
        };
        let weights = 32.0 + 16.0 + 3.0 * 4.0 * 64.0;
        let cost = Workload::Attention(sizes).cost(Precision::F32);
        assert_eq!(cost.operations, 6.0 * (2.0 * weights + 3.0 * 4.0 * 2.0));
        assert_eq!(
            (cost.bytes, cost.distinct_bytes),
            (12.0 * weights, 8.0 * weights)
        );
        // Nothing but matrices.
        let block = attention::config(LONG).init(&Device::default());
        let cost = Workload::Attention(LONG).cost(Precision::F32);
        assert_eq!(cost.bytes, 12.0 * block.num_params() as f64);
    }

    #[test]
    fn a_position_reads_every_weight_once() {
        let sizes = DecodeSizes {
            width: 4,
            depth: 2,
            heads: 2,
            kv_heads: 1,
            mlp_ratio: 24.0,
            positions: 8,
            weights: DecodeWeights::Int8,
        };
        let weights = 2.0 * (32.0 + 16.0 + 3.0 * 4.0 * 64.0);
        let cost = Workload::BackboneDecode(sizes).cost(Precision::F32);
        assert_eq!(cost.bytes, weights * (1.0 + 2.0 / 32.0));
        assert_eq!(cost.int8_operations, 2.0 * weights);
        assert_eq!(cost.operations, 0.0);
    }

    /// Biases, norms and scales are not counted: less than a thousandth at the published sizes.
    #[test]
    fn nearly_all_weights_of_the_published_codec_are_counted() {
        let count = |halves| {
            let sizes = CodecSizes { halves, ..CODEC };
            let cost = Workload::CodecStream(sizes).cost(Precision::F32);
            assert_eq!(cost.distinct_bytes, cost.bytes);
            cost.bytes / NUMBER
        };
        let [decoder, encoder] = [CodecHalves::Decode, CodecHalves::Encode].map(count);
        let acoustic = codec::config(CODEC, CODEC.latent_dim).decoder_parameter_count() as f64;
        let semantic = codec::config(CODEC, CODEC.semantic_dim).encoder_parameter_count() as f64;
        for (counted, parameters) in [(decoder, acoustic), (encoder, semantic)] {
            assert!(counted <= parameters, "{counted} of {parameters}");
            assert!(counted > 0.999 * parameters, "{counted} of {parameters}");
        }
        assert_eq!(count(CodecHalves::Both), decoder + encoder);
    }

    /// Channels from 256 down to 4, a layer at the coarsest resolution alone, and one ratio of 2, behind it.
    #[test]
    fn a_latent_is_counted_as_by_hand() {
        let sizes = CodecSizes {
            latent_dim: 3,
            width: 4,
            ratios: [1, 1, 1, 1, 1, 2],
            depths: [0, 0, 0, 0, 0, 0, 1],
            halves: CodecHalves::Decode,
            ..CODEC
        };
        // Of one frame: the first convolution and the depthwise one; up and down, and the convolution to 128 channels.
        let (small, large) = (
            7.0 * 256.0 * (3.0 + 1.0),
            8.0 * 256.0 * 256.0 + 4.0 * 256.0 * 128.0,
        );
        // Of two frames.
        let between = 128.0 * 64.0 + 64.0 * 32.0 + 32.0 * 16.0 + 16.0 * 8.0 + 8.0 * 4.0;
        let fine = 2.0 * between + 7.0 * 4.0;
        let cost = Workload::CodecStream(sizes).cost(Precision::F32);
        assert_eq!(cost.bytes, 4.0 * (small + large + fine));
        assert_eq!(cost.operations, 2.0 * (small + large + 2.0 * fine));
        let rounded = Workload::CodecStream(CodecSizes {
            weights: Precision::Bf16,
            ..sizes
        });
        let rounded = rounded.cost(Precision::F32);
        assert_eq!(rounded.bytes, cost.bytes - 2.0 * large);
        assert_eq!(rounded.bf16_operations, 2.0 * large);
        assert_eq!(
            rounded.operations + rounded.bf16_operations,
            cost.operations
        );
    }

    /// What small matrices take in float32 beyond bfloat16, as a part of all bytes of the published codec.
    #[test]
    fn small_matrices_take_less_than_a_percent() {
        let with = |weights| {
            let sizes = CodecSizes { weights, ..CODEC };
            Workload::CodecStream(sizes).cost(Precision::F32).bytes
        };
        let widths = [32, 64, 128, 256, 512, 1024, 2048];
        let mut small = 0.0;
        for frame_dim in [CODEC.latent_dim, CODEC.semantic_dim] {
            let half = SpeechHalf {
                frame_dim,
                ratios: &CODEC.ratios,
                depths: &CODEC.depths,
                widths: &widths,
            };
            let all = half.weights(1);
            let kept = all
                .iter()
                .filter(|weights| weights.is_matrix && !weights.is_rounded());
            small += kept.map(SpeechWeights::all_numbers).sum::<f64>();
        }
        let beyond = (NUMBER - ROUNDED_NUMBER) * small;
        assert!(beyond > 0.0 && beyond < 0.01 * with(Precision::Bf16));
        assert!(with(Precision::Bf16) < 0.51 * with(Precision::F32));
    }
}
