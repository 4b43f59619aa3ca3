//! Contiguous inputs of kernels. The autodiff graph keeps them for the gradient.

use burn::backend::TensorMetadata;
use burn::backend::flex::FlexTensor;
use latentlm_convolutions::{
    CausalConv, Conv2d, ConvGradients, Depthwise, Signals, TapOrder, Wanted, Window, Winograd,
};
use latentlm_products::Precision;
use latentlm_products::rotary::Rotation;

use super::attention::{self, Attention};
use super::group_norm::GroupNorm;
use super::norm::{self, Affine, Norm};
use super::storage::{contiguous, numbers, sizes, tensor};
use super::swiglu::{Block, Frame};
use crate::types::HeadLayout;

/// Inputs of a feed-forward block.
#[derive(Debug, Clone)]
pub(super) struct BlockInputs {
    pub(super) x: FlexTensor,
    pub(super) norm_weight: Option<FlexTensor>,
    pub(super) modulation: Option<FlexTensor>,
    pub(super) gate: FlexTensor,
    pub(super) up: FlexTensor,
    pub(super) down: FlexTensor,
    pub(super) epsilon: f64,
    /// Precision of the factors in its products.
    pub(super) precision: Precision,
}

impl BlockInputs {
    /// The same inputs in contiguous memory, which [`Self::block`] needs.
    pub(super) fn contiguous(self) -> Self {
        Self {
            x: contiguous(self.x),
            norm_weight: self.norm_weight.map(contiguous),
            modulation: self.modulation.map(contiguous),
            gate: contiguous(self.gate),
            up: contiguous(self.up),
            down: contiguous(self.down),
            epsilon: self.epsilon,
            precision: self.precision,
        }
    }

    pub(super) fn block(&self) -> Block<'_> {
        let [width, inner] = sizes(&self.gate);
        Block {
            frame: Frame {
                x: numbers(&self.x),
                width,
                epsilon: self.epsilon as f32,
                norm_weight: self.norm_weight.as_ref().map(numbers),
                modulation: self.modulation.as_ref().map(numbers),
            },
            inner,
            gate: numbers(&self.gate),
            up: numbers(&self.up),
            down: numbers(&self.down),
            precision: self.precision,
        }
    }

    /// Numbers as a tensor of the shape of `x`.
    pub(super) fn like_x(&self, values: Vec<f32>) -> FlexTensor {
        tensor(values, self.x.shape())
    }
}

/// Contiguous inputs of an RMSNorm.
#[derive(Debug, Clone)]
pub(super) struct NormInputs {
    /// `[N, D]`
    pub(super) x: FlexTensor,
    /// `[D]`
    weight: Option<FlexTensor>,
    /// Shift and scale of each row, `[N, 2 D]`.
    pub(super) modulation: Option<FlexTensor>,
    epsilon: f64,
}

impl NormInputs {
    /// `affine` is weight and modulation.
    pub(super) fn new(x: FlexTensor, affine: [Option<FlexTensor>; 2], epsilon: f64) -> Self {
        let [weight, modulation] = affine.map(|given| given.map(contiguous));
        Self {
            x: contiguous(x),
            weight,
            modulation,
            epsilon,
        }
    }

    pub(super) fn norm(&self) -> Norm<'_> {
        let [_, width] = sizes(&self.x);
        Norm {
            x: numbers(&self.x),
            width,
            epsilon: self.epsilon as f32,
            affine: Affine {
                weight: self.weight.as_ref().map(numbers),
                modulation: self.modulation.as_ref().map(numbers),
                parts: 2,
            },
        }
    }

    pub(super) fn forward(&self) -> FlexTensor {
        tensor(norm::forward(self.norm()), self.x.shape())
    }
}

/// Contiguous inputs of attention.
#[derive(Debug, Clone)]
pub(super) struct AttentionInputs {
    pub(super) packed: FlexTensor,
    /// Cosines and sines of the rotation, if there is one.
    tables: Option<[FlexTensor; 2]>,
    heads: HeadLayout,
}

impl AttentionInputs {
    pub(super) fn new(
        packed: FlexTensor,
        cos: Option<FlexTensor>,
        sin: Option<FlexTensor>,
        heads: HeadLayout,
    ) -> Self {
        Self {
            packed: contiguous(packed),
            tables: cos
                .zip(sin)
                .map(|(cos, sin)| [contiguous(cos), contiguous(sin)]),
            heads,
        }
    }

    pub(super) fn attention(&self) -> Attention<'_> {
        let [batch, length, packed] = sizes(&self.packed);
        let (heads, kv_heads) = (self.heads.heads, self.heads.kv_heads);
        let rotation = self.tables.as_ref().map(|[cos, sin]| Rotation {
            cos: numbers(cos),
            sin: numbers(sin),
            interleaved: self.heads.interleaved,
        });
        Attention {
            packed: numbers(&self.packed),
            rotation,
            shape: attention::Shape {
                batch,
                length,
                heads,
                kv_heads,
                head_dim: packed / (heads + 2 * kv_heads),
            },
            documents: &self.heads.documents,
        }
    }

    pub(super) fn forward(&self) -> FlexTensor {
        let attention = self.attention();
        let shape = attention.shape;
        let width = shape.heads * shape.head_dim;
        let out = attention::forward(attention);
        tensor(out, [shape.batch, shape.length, width])
    }
}

/// Contiguous inputs of a depthwise convolution, except the bias, which no gradient needs.
#[derive(Debug, Clone)]
pub(super) struct DepthwiseInputs {
    pub(super) x: FlexTensor,
    pub(super) weight: FlexTensor,
    pub(super) past: Option<FlexTensor>,
}

impl DepthwiseInputs {
    pub(super) fn new(x: FlexTensor, weight: FlexTensor, past: Option<FlexTensor>) -> Self {
        Self {
            x: contiguous(x),
            weight: contiguous(weight),
            past: past.map(contiguous),
        }
    }

    pub(super) fn convolution(&self) -> Depthwise<'_> {
        let [_, _, taps] = sizes(&self.weight);
        Depthwise {
            signals: signals(&self.x, &self.past, taps),
            weight: numbers(&self.weight),
        }
    }

    pub(super) fn forward(&self, bias: FlexTensor) -> FlexTensor {
        let y = self.convolution().forward(numbers(&bias));
        tensor(y, self.x.shape())
    }
}

/// Signals `[B, T, C]` with the frames before them, for a number of taps.
pub(super) fn signals<'a>(
    x: &'a FlexTensor,
    past: &'a Option<FlexTensor>,
    taps: usize,
) -> Signals<'a> {
    let [batch, frames, width] = sizes(x);
    Signals {
        x: numbers(x),
        past: past.as_ref().map(numbers),
        batch,
        frames,
        width,
        reach: taps - 1,
    }
}

/// Contiguous inputs of a causal convolution, except the bias, which no gradient needs.
#[derive(Debug, Clone)]
pub(super) struct CausalConvInputs {
    pub(super) x: FlexTensor,
    pub(super) weight: FlexTensor,
    pub(super) past: Option<FlexTensor>,
    order: TapOrder,
}

impl CausalConvInputs {
    pub(super) fn new(
        x: FlexTensor,
        weight: FlexTensor,
        past: Option<FlexTensor>,
        order: TapOrder,
    ) -> Self {
        Self {
            x: contiguous(x),
            weight: contiguous(weight),
            past: past.map(contiguous),
            order,
        }
    }

    pub(super) fn convolution(&self) -> CausalConv<'_> {
        let [taps, _, output] = sizes(&self.weight);
        CausalConv {
            signals: signals(&self.x, &self.past, taps),
            weight: numbers(&self.weight),
            output,
            order: self.order,
        }
    }

    pub(super) fn forward(&self, bias: &FlexTensor) -> FlexTensor {
        let convolution = self.convolution();
        let signals = convolution.signals;
        let shape = [signals.batch, signals.frames, convolution.output];
        tensor(convolution.forward(numbers(bias)), shape)
    }
}

/// Contiguous inputs of a convolution of pictures, except the bias, which no gradient needs.
#[derive(Debug, Clone)]
pub(super) struct Conv2dInputs {
    pub(super) x: FlexTensor,
    pub(super) weight: FlexTensor,
    window: Window,
}

impl Conv2dInputs {
    pub(super) fn new(x: FlexTensor, weight: FlexTensor, window: Window) -> Self {
        Self {
            x: contiguous(x),
            weight: contiguous(weight),
            window,
        }
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
        let bias = bias.as_ref().map(numbers);
        let y = match Winograd::of(convolution) {
            Some(winograd) => winograd.forward(bias),
            None => convolution.forward(bias),
        };
        tensor(y, shape)
    }

    /// The gradients of the input and of the weight, as far as they are wanted.
    pub(super) fn gradients(&self, dout: &[f32], wanted: Wanted) -> ConvGradients {
        let convolution = self.convolution();
        match Winograd::of(convolution) {
            Some(winograd) => winograd.gradients(dout, wanted),
            None => convolution.gradients(dout, wanted),
        }
    }
}

/// Contiguous inputs of a GroupNorm, except the bias, which no gradient needs.
#[derive(Debug, Clone)]
pub(super) struct GroupNormInputs {
    pub(super) x: FlexTensor,
    weight: FlexTensor,
    groups: usize,
    epsilon: f64,
}

impl GroupNormInputs {
    pub(super) fn new(x: FlexTensor, weight: FlexTensor, groups: usize, epsilon: f64) -> Self {
        Self {
            x: contiguous(x),
            weight: contiguous(weight),
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
