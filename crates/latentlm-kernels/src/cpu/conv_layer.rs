//! The residual layer of a causal convolutional codec, without a graph and as one node of the autodiff graph.

use burn::backend::flex::FlexTensor;
use burn::backend::{DispatchTensor, TensorMetadata};
use burn::tensor::{DType, Tensor};
use latentlm_convolutions::{ConvLayer, LayerGradients, LayerKept, LayerVectors};
use latentlm_products::Precision;

use super::inputs::signals;
use super::plain::{flat, flat_option, wrapped};
use super::storage::{contiguous, numbers, sizes, tensor};
use super::weight::{Weight, place_of};
use crate::fallback::{is_training, precision};
use crate::gradient::{can_record, record};
use crate::support::has_kernels;
use crate::types::ConvLayerWeights;

/// Input and parameters in contiguous memory, without a graph.
struct Inputs {
    x: FlexTensor,
    past: Option<FlexTensor>,
    norm: FlexTensor,
    epsilon: f64,
    filter: FlexTensor,
    filter_bias: FlexTensor,
    gamma: FlexTensor,
    ffn_norm: FlexTensor,
    ffn_epsilon: f64,
    up: Weight,
    up_bias: FlexTensor,
    down: Weight,
    down_bias: FlexTensor,
    ffn_gamma: FlexTensor,
}

impl Inputs {
    /// `None` if the kernel does not support one of the tensors.
    fn new(x: &Tensor<3>, past: &Option<Tensor<3>>, weights: &ConvLayerWeights) -> Option<Self> {
        Some(Self {
            x: flat(&x.clone().inner())?,
            past: flat_option(&past.clone().map(Tensor::inner))?,
            norm: small(&weights.norm)?,
            epsilon: weights.epsilon,
            filter: small(&weights.filter)?,
            filter_bias: small(&weights.filter_bias)?,
            gamma: small(&weights.gamma)?,
            ffn_norm: small(&weights.ffn_norm)?,
            ffn_epsilon: weights.ffn_epsilon,
            up: Weight::of(&weights.up.clone().inner())?,
            up_bias: small(&weights.up_bias)?,
            down: Weight::of(&weights.down.clone().inner())?,
            down_bias: small(&weights.down_bias)?,
            ffn_gamma: small(&weights.ffn_gamma)?,
        })
    }

    fn layer(&self) -> ConvLayer<'_> {
        let [_, _, taps] = sizes(&self.filter);
        let [up, down] = [&self.up, &self.down].map(|weight| {
            let factor = weight.factor();
            factor.expect("a weight is taken where it lies, see `Weight::of`")
        });
        ConvLayer {
            signals: signals(&self.x, &self.past, taps),
            vectors: LayerVectors {
                norm: numbers(&self.norm),
                epsilon: self.epsilon as f32,
                filter: numbers(&self.filter),
                filter_bias: numbers(&self.filter_bias),
                gamma: numbers(&self.gamma),
                ffn_norm: numbers(&self.ffn_norm),
                ffn_epsilon: self.ffn_epsilon as f32,
                up_bias: numbers(&self.up_bias),
                down_bias: numbers(&self.down_bias),
                ffn_gamma: numbers(&self.ffn_gamma),
            },
            up,
            down,
        }
    }

    /// The gradients of [`parents`], in their order.
    fn gradients(&self, dout: &[f32], kept: LayerKept<'_>) -> [Option<DispatchTensor>; 12] {
        let LayerGradients {
            x,
            past,
            norm,
            filter,
            filter_bias,
            gamma,
            ffn_norm,
            up,
            up_bias,
            down,
            down_bias,
            ffn_gamma,
        } = self.layer().backward(dout, kept);
        let vector = |x: Vec<f32>| {
            let count = x.len();
            Some(wrapped::<1>(tensor(x, [count])).into_dispatch())
        };
        let cube = |values, like: &FlexTensor| {
            Some(wrapped::<3>(tensor(values, like.shape())).into_dispatch())
        };
        let matrix = |values, like: &Weight| {
            Some(wrapped::<2>(tensor(values, like.sizes())).into_dispatch())
        };
        [
            cube(x, &self.x),
            past.zip(self.past.as_ref())
                .and_then(|(values, like)| cube(values, like)),
            vector(norm),
            cube(filter, &self.filter),
            vector(filter_bias),
            vector(gamma),
            vector(ffn_norm),
            matrix(up, &self.up),
            vector(up_bias),
            matrix(down, &self.down),
            vector(down_bias),
            vector(ffn_gamma),
        ]
    }
}

/// A small parameter, which may be stored in another precision.
fn small<const D: usize>(x: &Tensor<D>) -> Option<FlexTensor> {
    flat(&x.clone().inner().cast(DType::F32))
}

/// The tensors whose gradients are wanted.
fn parents(
    x: &Tensor<3>,
    past: &Option<Tensor<3>>,
    weights: &ConvLayerWeights,
) -> [Option<DispatchTensor>; 12] {
    fn tracked<const D: usize>(x: &Tensor<D>) -> Option<DispatchTensor> {
        x.is_tracked().then(|| x.clone().into_dispatch())
    }
    [
        tracked(x),
        past.as_ref().and_then(tracked),
        tracked(&weights.norm),
        tracked(&weights.filter),
        tracked(&weights.filter_bias),
        tracked(&weights.gamma),
        tracked(&weights.ffn_norm),
        tracked(&weights.up),
        tracked(&weights.up_bias),
        tracked(&weights.down),
        tracked(&weights.down_bias),
        tracked(&weights.ffn_gamma),
    ]
}

/// The layer; `None` if the kernel can't compute it as its composition would.
pub(crate) fn conv_layer(
    x: &Tensor<3>,
    past: &Option<Tensor<3>>,
    weights: &ConvLayerWeights,
) -> Option<Tensor<3>> {
    let mut projections = [&weights.up, &weights.down].into_iter();
    let whole = projections.all(|weight| weight.dtype() == DType::F32);
    let in_graph = x.is_autodiff() || weights.up.is_autodiff();
    // Where factors of products are rounded, `linear` does it.
    let rounds = precision() != Precision::F32 || (!whole && (in_graph || is_training()));
    if rounds || !has_kernels(x) || x.dims().contains(&0) {
        return None;
    }
    let parents = parents(x, past, weights);
    let wanted = parents.each_ref().map(Option::is_some);
    let tracked: Vec<DispatchTensor> = parents.into_iter().flatten().collect();
    if tracked.is_empty() {
        let inputs = Inputs::new(x, past, weights)?;
        let y: Tensor<3> = wrapped(tensor(inputs.layer().infer(), inputs.x.shape()));
        return Some(if in_graph { y.autodiff() } else { y });
    }
    // A gradient has the precision of its tensor.
    let is_float32 = |x: &DispatchTensor| x.dtype() == DType::F32;
    if !tracked.iter().all(is_float32) || !can_record(&tracked) {
        return None;
    }
    let inputs = Inputs::new(x, past, weights)?;
    let found = inputs.layer().forward();
    let out: Tensor<3> = wrapped(tensor(found.out, inputs.x.shape()));
    let (mixed, wide) = (found.mixed, found.wide);
    let gradient = move |gradient: DispatchTensor| {
        let gradient = place_of(&Tensor::<3>::from_dispatch(gradient));
        let gradient = contiguous(gradient.expect("a gradient lies where its tensor does"));
        let kept = LayerKept {
            mixed: &mixed,
            wide: &wide,
        };
        let found = inputs.gradients(numbers(&gradient), kept);
        let found = found.into_iter().zip(wanted);
        let found = found.filter(|(_, wanted)| *wanted);
        found.map(|(gradient, _)| gradient).collect::<Vec<_>>()
    };
    let recorded = record(&tracked, out.into_dispatch(), Box::new(gradient));
    Some(Tensor::from_dispatch(recorded))
}
