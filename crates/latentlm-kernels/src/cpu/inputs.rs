//! What a kernel works on, contiguous, and what its gradient needs of it later.

use burn::backend::TensorMetadata;
use burn::backend::flex::FlexTensor;

use super::attention::{self, Rotation};
use super::backend::{contiguous, numbers, sizes, tensor};
use super::conv2d::Conv2d;
use super::depthwise::Depthwise;
use super::group_norm::GroupNorm;
use super::swiglu::Block;
use crate::attention::{HeadLayout, Sight};
use crate::conv2d::Window;

/// Inputs of a feed-forward block, contiguous.
#[derive(Debug, Clone)]
pub(super) struct BlockInputs {
    x: FlexTensor,
    pub(super) norm_weight: Option<FlexTensor>,
    pub(super) modulation: Option<FlexTensor>,
    pub(super) gate: FlexTensor,
    pub(super) up: FlexTensor,
    pub(super) down: FlexTensor,
    epsilon: f64,
}

impl BlockInputs {
    pub(super) fn new(
        x: FlexTensor,
        norm_weight: Option<FlexTensor>,
        modulation: Option<FlexTensor>,
        weights: [FlexTensor; 3],
        epsilon: f64,
    ) -> Self {
        let [gate, up, down] = weights.map(contiguous);
        Self {
            x: contiguous(x),
            norm_weight: norm_weight.map(contiguous),
            modulation: modulation.map(contiguous),
            gate,
            up,
            down,
            epsilon,
        }
    }

    pub(super) fn block(&self) -> Block<'_> {
        let [width, inner] = sizes(&self.gate);
        Block {
            x: numbers(&self.x),
            width,
            inner,
            epsilon: self.epsilon as f32,
            norm_weight: self.norm_weight.as_ref().map(numbers),
            modulation: self.modulation.as_ref().map(numbers),
            gate: numbers(&self.gate),
            up: numbers(&self.up),
            down: numbers(&self.down),
        }
    }

    pub(super) fn like_x(&self, values: Vec<f32>) -> FlexTensor {
        tensor(values, self.x.shape())
    }
}

/// Inputs of attention, contiguous.
#[derive(Debug, Clone)]
pub(super) struct AttentionInputs {
    pub(super) packed: FlexTensor,
    /// Cosines and sines, where there is a rotation.
    tables: Option<[FlexTensor; 2]>,
    heads: HeadLayout,
}

impl AttentionInputs {
    pub(super) fn new(
        packed: FlexTensor,
        tables: [Option<FlexTensor>; 2],
        heads: HeadLayout,
    ) -> Self {
        Self {
            packed: contiguous(packed),
            tables: match tables {
                [Some(cos), Some(sin)] => Some([cos, sin].map(contiguous)),
                _ => None,
            },
            heads,
        }
    }

    pub(super) fn shape(&self) -> attention::Shape {
        let [batch, length, packed] = sizes(&self.packed);
        let (heads, kv_heads) = (self.heads.heads, self.heads.kv_heads);
        attention::Shape {
            batch,
            length,
            heads,
            kv_heads,
            head_dim: packed / (heads + 2 * kv_heads),
        }
    }

    pub(super) fn documents(&self) -> &[Sight] {
        &self.heads.documents
    }

    pub(super) fn rotation(&self) -> Option<Rotation<'_>> {
        let [cos, sin] = self.tables.as_ref()?;
        Some(Rotation {
            cos: numbers(cos),
            sin: numbers(sin),
            interleaved: self.heads.interleaved,
        })
    }

    pub(super) fn forward(&self) -> FlexTensor {
        let shape = self.shape();
        let packed = numbers(&self.packed);
        let out = attention::forward(packed, self.rotation(), shape, self.documents());
        let width = shape.heads * shape.head_dim;
        tensor(out, [shape.batch, shape.length, width])
    }
}

/// Inputs of a depthwise convolution, contiguous; all but the bias, which no gradient needs.
#[derive(Debug, Clone)]
pub(super) struct DepthwiseInputs {
    pub(super) x: FlexTensor,
    pub(super) weight: FlexTensor,
}

impl DepthwiseInputs {
    pub(super) fn new(tensors: [FlexTensor; 2]) -> Self {
        let [x, weight] = tensors.map(contiguous);
        Self { x, weight }
    }

    pub(super) fn convolution(&self) -> Depthwise<'_> {
        let [batch, length, channels] = sizes(&self.x);
        let [_, _, kernel] = sizes(&self.weight);
        Depthwise {
            x: numbers(&self.x),
            weight: numbers(&self.weight),
            batch,
            length,
            channels,
            kernel,
        }
    }

    pub(super) fn forward(&self, bias: FlexTensor) -> FlexTensor {
        let convolution = self.convolution();
        let shape = [
            convolution.batch,
            convolution.frames(),
            convolution.channels,
        ];
        tensor(convolution.forward(numbers(&bias)), shape)
    }
}

/// Inputs of a convolution of pictures, contiguous; all but the bias, which no gradient needs.
#[derive(Debug, Clone)]
pub(super) struct Conv2dInputs {
    pub(super) x: FlexTensor,
    pub(super) weight: FlexTensor,
    window: Window,
}

impl Conv2dInputs {
    pub(super) fn new(tensors: [FlexTensor; 2], window: Window) -> Self {
        let [x, weight] = tensors.map(contiguous);
        Self { x, weight, window }
    }

    pub(super) fn convolution(&self) -> Conv2d<'_> {
        let [batch, input, height, width] = sizes(&self.x);
        let [output, channels, kernel_rows, kernel_columns] = sizes(&self.weight);
        assert_eq!(input, channels, "channels of the pictures");
        Conv2d {
            x: numbers(&self.x),
            weight: numbers(&self.weight),
            batch,
            input,
            output,
            size: [height, width],
            kernel: [kernel_rows, kernel_columns],
            window: self.window,
        }
    }

    pub(super) fn forward(&self, bias: Option<FlexTensor>) -> FlexTensor {
        let bias = bias.map(contiguous);
        let convolution = self.convolution();
        let [height, width] = convolution.out_size();
        let shape = [convolution.batch, convolution.output, height, width];
        tensor(convolution.forward(bias.as_ref().map(numbers)), shape)
    }
}

/// Inputs of a GroupNorm, contiguous; all but the bias, which no gradient needs.
#[derive(Debug, Clone)]
pub(super) struct GroupNormInputs {
    pub(super) x: FlexTensor,
    weight: FlexTensor,
    groups: usize,
    epsilon: f64,
}

impl GroupNormInputs {
    pub(super) fn new(tensors: [FlexTensor; 2], groups: usize, epsilon: f64) -> Self {
        let [x, weight] = tensors.map(contiguous);
        Self {
            x,
            weight,
            groups,
            epsilon,
        }
    }

    pub(super) fn norm(&self) -> GroupNorm<'_> {
        let [_, channels, height, width] = sizes(&self.x);
        GroupNorm {
            x: numbers(&self.x),
            channels,
            plane: height * width,
            groups: self.groups,
            epsilon: self.epsilon as f32,
            weight: numbers(&self.weight),
        }
    }
}
