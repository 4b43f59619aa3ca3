//! The operations as a backend extension: on the CPU backend, and with gradients around it.

use burn::backend::flex::{FlexTensor, Layout};
use burn::backend::tensor::FloatTensor;
use burn::backend::{
    Backend, Dispatch, DispatchTensorKind, ExtensionType, Flex, TensorMetadata, backend_extension,
};
use burn::tensor::{Bytes, DType, Shape, Tensor};

use super::activation;
use super::cross_entropy;
use super::group_norm;
use super::inputs::{AttentionInputs, BlockInputs, Conv2dInputs, DepthwiseInputs, GroupNormInputs};
use super::layer_norm;
use super::matrix::{Matrix, product};
use super::norm::{self, Affine};
use super::optimizer::{self, Weights};
use crate::activation::Activation;
use crate::attention::HeadLayout;
use crate::conv2d::Window;
use crate::optimizer::AdamWStep;

/// Whether a tensor lies where these kernels work: on the CPU backend, in float32.
pub(crate) fn covers<const D: usize>(x: &Tensor<D>) -> bool {
    if x.dtype() != DType::F32 {
        return false;
    }
    match x.clone().into_dispatch().kind {
        DispatchTensorKind::Flex(_) => true,
        DispatchTensorKind::Autodiff(inner) => matches!(*inner, DispatchTensorKind::Flex(_)),
        #[allow(unreachable_patterns)] // Where no other backend is built in.
        _ => false,
    }
}

/// A tensor that need not be there.
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

/// An optional tensor on its way to a backend.
pub(crate) fn optional<const D: usize>(tensor: Option<Tensor<D>>) -> Optional<Dispatch> {
    match tensor {
        Some(tensor) => Optional::Given(tensor.into_dispatch()),
        None => Optional::Absent,
    }
}

/// Operations of the CPU backend. Shapes and meanings are those of the crate's functions.
#[backend_extension(Flex, Autodiff)]
pub(crate) trait CpuKernels: Backend {
    /// `x` `[N, I]`, `weight` `[I, O]`, `bias` `[O]`.
    fn kernel_linear(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        #[extension_type] bias: Optional<Self>,
    ) -> FloatTensor<Self>;

    /// `x` `[N, D]`, `weight` `[D]`.
    fn kernel_rms_norm(
        x: FloatTensor<Self>,
        #[extension_type] weight: Optional<Self>,
        epsilon: f64,
    ) -> FloatTensor<Self>;

    /// `x` `[N, D]`, `norm_weight` `[D]`, `modulation` `[N, 3 D]`, `gate`, `up` `[D, F]`, `down`
    /// `[F, D]`.
    fn kernel_swiglu_block(
        x: FloatTensor<Self>,
        #[extension_type] norm_weight: Optional<Self>,
        #[extension_type] modulation: Optional<Self>,
        gate: FloatTensor<Self>,
        up: FloatTensor<Self>,
        down: FloatTensor<Self>,
        epsilon: f64,
    ) -> FloatTensor<Self>;

    /// `x` of any shape.
    fn kernel_activation(x: FloatTensor<Self>, kind: Activation) -> FloatTensor<Self>;

    /// `packed` `[B, T, (H + 2 G) E]`, `cos` and `sin` `[T, E / 2]`.
    fn kernel_attention(
        packed: FloatTensor<Self>,
        #[extension_type] cos: Optional<Self>,
        #[extension_type] sin: Optional<Self>,
        heads: HeadLayout,
    ) -> FloatTensor<Self>;

    /// `x` `[B, T + K - 1, C]`, `weight` `[C, 1, K]`, `bias` `[C]`.
    fn kernel_depthwise(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
    ) -> FloatTensor<Self>;

    /// `x` `[B, C, H, W]`, `weight` `[O, C, KH, KW]`, `bias` `[O]`.
    fn kernel_conv2d(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        #[extension_type] bias: Optional<Self>,
        window: Window,
    ) -> FloatTensor<Self>;

    /// `logits` `[N, V]`, `N` answers.
    fn kernel_cross_entropy(logits: FloatTensor<Self>, answers: Vec<usize>) -> FloatTensor<Self>;

    /// All of one shape; parameter, average and moments after the step.
    fn kernel_adamw(
        parameter: FloatTensor<Self>,
        average: FloatTensor<Self>,
        first: FloatTensor<Self>,
        second: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        step: AdamWStep,
    ) -> (
        FloatTensor<Self>,
        FloatTensor<Self>,
        FloatTensor<Self>,
        FloatTensor<Self>,
    );

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

pub(super) fn contiguous(tensor: FlexTensor) -> FlexTensor {
    match tensor.as_slice::<f32>() {
        Some(_) => tensor,
        None => tensor.to_contiguous(),
    }
}

/// A tensor whose storage is exactly its numbers, to be written in place; storage that someone else
/// holds too is copied at the first write.
pub(super) fn owned(tensor: FlexTensor) -> FlexTensor {
    let len = tensor.layout().num_elements();
    match tensor.as_slice::<f32>() {
        Some(_) if tensor.storage::<f32>().len() == len => tensor,
        _ => tensor.to_contiguous(),
    }
}

pub(super) fn numbers(tensor: &FlexTensor) -> &[f32] {
    tensor
        .as_slice()
        .expect("kernels are given contiguous tensors")
}

pub(super) fn tensor(values: Vec<f32>, shape: impl Into<Shape>) -> FlexTensor {
    let layout = Layout::contiguous(shape.into());
    FlexTensor::new(Bytes::from_elems(values), layout, DType::F32)
}

pub(super) fn sizes<const D: usize>(tensor: &FlexTensor) -> [usize; D] {
    tensor.shape().dims()
}

impl CpuKernels for Flex {
    fn kernel_linear(x: FlexTensor, weight: FlexTensor, bias: Optional<Self>) -> FlexTensor {
        let (x, weight) = (contiguous(x), contiguous(weight));
        let [rows, input] = sizes(&x);
        let [_, output] = sizes(&weight);
        let x = Matrix::new(numbers(&x), rows, input);
        let weight = Matrix::new(numbers(&weight), input, output);
        let mut y = product(x, weight);
        if let Some(bias) = bias.into_option().map(contiguous) {
            let bias = numbers(&bias);
            super::rows::each_row(&mut y, output, |_, y| {
                for (y, bias) in y.iter_mut().zip(bias) {
                    *y += bias;
                }
            });
        }
        tensor(y, [rows, output])
    }

    fn kernel_rms_norm(x: FlexTensor, weight: Optional<Self>, epsilon: f64) -> FlexTensor {
        let x = contiguous(x);
        let weight = weight.into_option().map(contiguous);
        let [rows, width] = sizes(&x);
        let affine = weight_alone(&weight);
        let y = norm::forward(numbers(&x), width, epsilon as f32, affine);
        tensor(y, [rows, width])
    }

    fn kernel_swiglu_block(
        x: FlexTensor,
        norm_weight: Optional<Self>,
        modulation: Optional<Self>,
        gate: FlexTensor,
        up: FlexTensor,
        down: FlexTensor,
        epsilon: f64,
    ) -> FlexTensor {
        let (norm_weight, modulation) = (norm_weight.into_option(), modulation.into_option());
        let inputs = BlockInputs::new(x, norm_weight, modulation, [gate, up, down], epsilon);
        inputs.like_x(inputs.block().infer())
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
        AttentionInputs::new(packed, [cos.into_option(), sin.into_option()], heads).forward()
    }

    fn kernel_cross_entropy(logits: FlexTensor, answers: Vec<usize>) -> FlexTensor {
        let out = cross_entropy::forward(numbers(&contiguous(logits)), &answers);
        tensor(out, [answers.len()])
    }

    fn kernel_adamw(
        parameter: FlexTensor,
        average: FlexTensor,
        first: FlexTensor,
        second: FlexTensor,
        gradient: FlexTensor,
        step: AdamWStep,
    ) -> (FlexTensor, FlexTensor, FlexTensor, FlexTensor) {
        let [mut parameter, mut average] = [parameter, average].map(owned);
        let [mut first, mut second] = [first, second].map(owned);
        let weights = Weights {
            parameter: parameter.storage_mut(),
            average: average.storage_mut(),
            moments: [first.storage_mut(), second.storage_mut()],
        };
        optimizer::adamw(weights, numbers(&contiguous(gradient)), step);
        (parameter, average, first, second)
    }

    fn kernel_square_sum(x: FlexTensor) -> FlexTensor {
        tensor(vec![optimizer::square_sum(numbers(&contiguous(x)))], [1])
    }

    fn kernel_depthwise(x: FlexTensor, weight: FlexTensor, bias: FlexTensor) -> FlexTensor {
        DepthwiseInputs::new([x, weight]).forward(contiguous(bias))
    }

    fn kernel_conv2d(
        x: FlexTensor,
        weight: FlexTensor,
        bias: Optional<Self>,
        window: Window,
    ) -> FlexTensor {
        Conv2dInputs::new([x, weight], window).forward(bias.into_option())
    }

    fn kernel_layer_norm(
        x: FlexTensor,
        weight: FlexTensor,
        bias: FlexTensor,
        epsilon: f64,
    ) -> FlexTensor {
        let [x, weight, bias] = [x, weight, bias].map(contiguous);
        let [rows, width] = sizes(&x);
        let affine = [numbers(&weight), numbers(&bias)];
        let y = layer_norm::forward(numbers(&x), width, epsilon as f32, affine);
        tensor(y, [rows, width])
    }

    fn kernel_group_norm(
        x: FlexTensor,
        weight: FlexTensor,
        bias: FlexTensor,
        groups: usize,
        epsilon: f64,
    ) -> FlexTensor {
        let inputs = GroupNormInputs::new([x, weight], groups, epsilon);
        let y = group_norm::forward(inputs.norm(), numbers(&contiguous(bias)));
        tensor(y, inputs.x.shape())
    }
}

pub(super) fn weight_alone(weight: &Option<FlexTensor>) -> Affine<'_> {
    Affine {
        weight: weight.as_ref().map(numbers),
        modulation: None,
        parts: 0,
    }
}
