//! The kernels as an extension of Burn's CPU backend, with and without autodiff around it.

use burn::backend::flex::FlexTensor;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, Dispatch, ExtensionType, Flex, TensorMetadata, backend_extension};
use burn::tensor::Tensor;
use latentlm_convolutions::{TapOrder, Window};

use super::activation;
use super::cross_entropy;
use super::group_norm;
use super::inputs::{
    AttentionInputs, CausalConvInputs, Conv2dInputs, DepthwiseInputs, GroupNormInputs, NormInputs,
};
use super::layer_norm;
use super::optimizer::{self, Weights};
use super::storage::{contiguous, numbers, owned, sizes, tensor};
use super::swiglu::{Inputs, Projections};
use super::weight::{Weight, biased_product};
use crate::types::{Activation, AdamWStep, HeadLayout};

/// An optional tensor. Burn's extensions need an own type for it.
#[derive(ExtensionType, Debug, Clone)]
pub(crate) enum Optional<B: Backend> {
    Given(FloatTensor<B>),
    Absent,
}

impl<B: Backend> Optional<B> {
    pub(super) fn into_option(self) -> Option<FloatTensor<B>> {
        match self {
            Self::Given(tensor) => Some(tensor),
            Self::Absent => None,
        }
    }
}

/// An optional tensor in the form that an extension takes.
pub(crate) fn optional<const D: usize>(tensor: Option<Tensor<D>>) -> Optional<Dispatch> {
    match tensor {
        Some(tensor) => Optional::Given(tensor.into_dispatch()),
        None => Optional::Absent,
    }
}

/// Inputs of a feed-forward block.
#[derive(ExtensionType, Debug, Clone)]
pub(crate) struct BlockTensors<B: Backend> {
    /// `[N, D]`
    pub(crate) x: FloatTensor<B>,
    /// `[D]`
    #[extension_type]
    pub(crate) norm_weight: Optional<B>,
    /// `[N, 3 D]`
    #[extension_type]
    pub(crate) modulation: Optional<B>,
    /// `[D, F]`
    pub(crate) gate: FloatTensor<B>,
    /// `[D, F]`
    pub(crate) up: FloatTensor<B>,
    /// `[F, D]`
    pub(crate) down: FloatTensor<B>,
    pub(crate) epsilon: f64,
}

/// A parameter with its moving average and its two moments, all of one shape.
#[derive(ExtensionType, Debug, Clone)]
pub(crate) struct TrainedTensors<B: Backend> {
    pub(crate) parameter: FloatTensor<B>,
    pub(crate) average: FloatTensor<B>,
    pub(crate) first_moment: FloatTensor<B>,
    pub(crate) second_moment: FloatTensor<B>,
}

/// Operations of the CPU backend. The functions of the crate's other modules say what they compute.
#[backend_extension(Flex, Autodiff)]
pub(crate) trait CpuKernels: Backend {
    /// `x` `[N, I]`, `weight` `[I, O]`, which without autodiff may be bfloat16, `bias` `[O]`.
    fn kernel_linear(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        #[extension_type] bias: Optional<Self>,
    ) -> FloatTensor<Self>;

    /// `x` `[N, D]`, `weight` `[D]`, `modulation` `[N, 2 D]`.
    fn kernel_rms_norm(
        x: FloatTensor<Self>,
        #[extension_type] weight: Optional<Self>,
        #[extension_type] modulation: Optional<Self>,
        epsilon: f64,
    ) -> FloatTensor<Self>;

    /// Returns `[N, D]`. Without autodiff the projections may be bfloat16.
    fn kernel_swiglu_block(#[extension_type] block: BlockTensors<Self>) -> FloatTensor<Self>;

    /// `x` of any shape.
    fn kernel_activation(x: FloatTensor<Self>, kind: Activation) -> FloatTensor<Self>;

    /// `packed` `[B, T, (H + 2 G) E]`, `cos` and `sin` `[T, E / 2]`.
    fn kernel_attention(
        packed: FloatTensor<Self>,
        #[extension_type] cos: Optional<Self>,
        #[extension_type] sin: Optional<Self>,
        heads: HeadLayout,
    ) -> FloatTensor<Self>;

    /// `x` `[B, T, C]`, `weight` `[C, 1, K]`, `bias` `[C]`, `past` `[B, K - 1, C]`, `K > 1` if there is one.
    fn kernel_depthwise(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        #[extension_type] past: Optional<Self>,
    ) -> FloatTensor<Self>;

    /// `x` `[B, T, D]`, `weight` `[K, D, O]`, `bias` `[O / n]`, which is repeated `n` times, `past` `[B, K - 1, D]`, `K > 1`
    /// if there is one.
    fn kernel_causal_conv(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        #[extension_type] past: Optional<Self>,
        order: TapOrder,
    ) -> FloatTensor<Self>;

    /// `x` `[B, C, H, W]`, `weight` `[O, C, KH, KW]`, `bias` `[O]`.
    fn kernel_conv2d(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        #[extension_type] bias: Optional<Self>,
        window: Window,
    ) -> FloatTensor<Self>;

    /// `logits` `[N, V]`, `N` target tokens.
    fn kernel_cross_entropy(logits: FloatTensor<Self>, answers: Vec<usize>) -> FloatTensor<Self>;

    /// `gradient` of the shape of the parameter. Returns the tensors after the step.
    fn kernel_adamw(
        #[extension_type] trained: TrainedTensors<Self>,
        gradient: FloatTensor<Self>,
        step: AdamWStep,
    ) -> TrainedTensors<Self>;

    /// `x` of any shape.
    fn kernel_square_sum(x: FloatTensor<Self>) -> FloatTensor<Self>;

    /// `x` `[N, D]`, `weight` and `bias` `[D]`.
    fn kernel_layer_norm(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        epsilon: f64,
    ) -> FloatTensor<Self>;

    /// `x` `[B, C, H, W]`, `weight` and `bias` `[C]`.
    fn kernel_group_norm(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        groups: usize,
        epsilon: f64,
    ) -> FloatTensor<Self>;
}

impl CpuKernels for Flex {
    fn kernel_linear(x: FlexTensor, weight: FlexTensor, bias: Optional<Self>) -> FlexTensor {
        let bias = bias.into_option().map(contiguous);
        biased_product(contiguous(x), &Weight::in_place(weight), bias)
    }

    fn kernel_rms_norm(
        x: FlexTensor,
        weight: Optional<Self>,
        modulation: Optional<Self>,
        epsilon: f64,
    ) -> FlexTensor {
        let affine = [weight, modulation].map(Optional::into_option);
        NormInputs::new(x, affine, epsilon).forward()
    }

    fn kernel_swiglu_block(block: BlockTensors<Self>) -> FlexTensor {
        let inputs = Inputs {
            x: contiguous(block.x),
            norm_weight: block.norm_weight.into_option().map(contiguous),
            modulation: block.modulation.into_option().map(contiguous),
            epsilon: block.epsilon,
        };
        let projections = Projections {
            gate: Weight::in_place(block.gate),
            up: Weight::in_place(block.up),
            down: Weight::in_place(block.down),
        };
        tensor(inputs.frame().infer(&projections), inputs.x.shape())
    }

    fn kernel_activation(x: FlexTensor, kind: Activation) -> FlexTensor {
        let x = contiguous(x);
        tensor(activation::forward(kind, numbers(&x)), x.shape())
    }

    fn kernel_attention(
        packed: FlexTensor,
        cos: Optional<Self>,
        sin: Optional<Self>,
        heads: HeadLayout,
    ) -> FlexTensor {
        AttentionInputs::new(packed, cos.into_option(), sin.into_option(), heads).forward()
    }

    fn kernel_cross_entropy(logits: FlexTensor, answers: Vec<usize>) -> FlexTensor {
        let out = cross_entropy::forward(numbers(&contiguous(logits)), &answers);
        tensor(out, [answers.len()])
    }

    fn kernel_adamw(
        trained: TrainedTensors<Self>,
        gradient: FlexTensor,
        step: AdamWStep,
    ) -> TrainedTensors<Self> {
        let mut trained = TrainedTensors::<Self> {
            parameter: owned(trained.parameter),
            average: owned(trained.average),
            first_moment: owned(trained.first_moment),
            second_moment: owned(trained.second_moment),
        };
        let weights = Weights {
            parameter: trained.parameter.storage_mut(),
            average: trained.average.storage_mut(),
            first_moment: trained.first_moment.storage_mut(),
            second_moment: trained.second_moment.storage_mut(),
        };
        optimizer::adamw(weights, numbers(&contiguous(gradient)), step);
        trained
    }

    fn kernel_square_sum(x: FlexTensor) -> FlexTensor {
        tensor(vec![optimizer::square_sum(numbers(&contiguous(x)))], [1])
    }

    fn kernel_depthwise(
        x: FlexTensor,
        weight: FlexTensor,
        bias: FlexTensor,
        past: Optional<Self>,
    ) -> FlexTensor {
        DepthwiseInputs::new(x, weight, past.into_option()).forward(contiguous(bias))
    }

    fn kernel_causal_conv(
        x: FlexTensor,
        weight: FlexTensor,
        bias: FlexTensor,
        past: Optional<Self>,
        order: TapOrder,
    ) -> FlexTensor {
        let inputs = CausalConvInputs::new(x, weight, past.into_option(), order);
        inputs.forward(&contiguous(bias))
    }

    fn kernel_conv2d(
        x: FlexTensor,
        weight: FlexTensor,
        bias: Optional<Self>,
        window: Window,
    ) -> FlexTensor {
        Conv2dInputs::new(x, weight, window).forward(bias.into_option())
    }

    fn kernel_layer_norm(
        x: FlexTensor,
        weight: FlexTensor,
        bias: FlexTensor,
        epsilon: f64,
    ) -> FlexTensor {
        let [x, weight, bias] = [x, weight, bias].map(contiguous);
        let [rows, width] = sizes(&x);
        let (weight, bias) = (numbers(&weight), numbers(&bias));
        let y = layer_norm::forward(numbers(&x), width, epsilon as f32, weight, bias);
        tensor(y, [rows, width])
    }

    fn kernel_group_norm(
        x: FlexTensor,
        weight: FlexTensor,
        bias: FlexTensor,
        groups: usize,
        epsilon: f64,
    ) -> FlexTensor {
        let inputs = GroupNormInputs::new(x, weight, groups, epsilon);
        let y = group_norm::forward(inputs.norm(), numbers(&contiguous(bias)));
        tensor(y, inputs.x.shape())
    }
}
