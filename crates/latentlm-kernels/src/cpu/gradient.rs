//! The kernels in Burn's autodiff graph: what each operation keeps, and its gradients.

use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, NodeGuard, Ops, OpsKind};
use burn::backend::flex::FlexTensor;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, AutodiffBackend, Flex, TensorMetadata};
use latentlm_convolutions::{TapOrder, Window};
use latentlm_products::tasks::{Rows, sum_of_rows};
use latentlm_products::{Matrix, Precision};

use super::activation;
use super::attention;
use super::backend::{BlockTensors, CpuKernels, Optional, TrainedTensors};
use super::conv_steps::{CausalConvStep, Conv2dStep, DepthwiseStep};
use super::cross_entropy;
use super::group_norm;
use super::inputs::{
    AttentionInputs, BlockInputs, CausalConvInputs, Conv2dInputs, DepthwiseInputs, GroupNormInputs,
    NormInputs,
};
use super::layer_norm;
use super::norm;
use super::storage::{contiguous, numbers, owned, sizes, tensor};
use super::swiglu::{Gated, Kept};
use crate::fallback::precision;
use crate::types::{Activation, AdamWStep, HeadLayout};

/// Registers the gradient of an input, if the input needs one.
macro_rules! register {
    ($grads:expr, $parent:expr, $gradient:expr) => {
        if let Some(node) = $parent {
            $grads.register::<Flex>(node.id, $gradient);
        }
    };
}

impl<C: CheckpointStrategy> CpuKernels for Autodiff<Flex, C> {
    fn kernel_linear(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: Optional<Self>,
    ) -> FloatTensor<Self> {
        let (x, x_node) = x.into_parts();
        let (weight, weight_node) = weight.into_parts();
        let state = LinearState {
            x: contiguous(x),
            weight: contiguous(weight),
            precision: precision(),
        };
        let forward = |bias| Flex::kernel_linear(state.x.clone(), state.weight.clone(), bias);
        match bias.into_option() {
            Some(bias) => {
                let (bias, node) = bias.into_parts();
                let y = forward(Optional::Given(bias));
                record::<_, C, 3>(LinearStep, [x_node, weight_node, node], state, y)
            }
            None => {
                let y = forward(Optional::Absent);
                record::<_, C, 2>(LinearStep, [x_node, weight_node], state, y)
            }
        }
    }

    fn kernel_rms_norm(
        x: FloatTensor<Self>,
        weight: Optional<Self>,
        modulation: Optional<Self>,
        epsilon: f64,
    ) -> FloatTensor<Self> {
        let affine = [weight, modulation].map(Optional::into_option);
        // The graph wants a node for each input. Absent inputs have that of `x` and register no gradient.
        let [weight, modulation] = affine.each_ref().map(|x| x.as_ref());
        let nodes = [Some(&x), weight, modulation].map(|given| given.unwrap_or(&x).node());
        let affine = affine.map(|given| given.map(|tensor| tensor.into_primitive()));
        let inputs = NormInputs::new(x.into_primitive(), affine, epsilon);
        let y = inputs.forward();
        record::<_, C, 3>(NormStep, nodes, inputs, y)
    }

    fn kernel_swiglu_block(block: BlockTensors<Self>) -> FloatTensor<Self> {
        let BlockTensors {
            x,
            norm_weight,
            modulation,
            gate,
            up,
            down,
            epsilon,
        } = block;
        // As in a norm, absent inputs have the node of `x`.
        let [norm_weight, modulation] = [norm_weight, modulation].map(Optional::into_option);
        let nodes = [
            &x,
            norm_weight.as_ref().unwrap_or(&x),
            modulation.as_ref().unwrap_or(&x),
            &gate,
            &up,
            &down,
        ];
        let nodes = nodes.map(|tensor| tensor.node());
        let inputs = BlockInputs {
            x: x.into_primitive(),
            norm_weight: norm_weight.map(|tensor| tensor.into_primitive()),
            modulation: modulation.map(|tensor| tensor.into_primitive()),
            gate: gate.into_primitive(),
            up: up.into_primitive(),
            down: down.into_primitive(),
            epsilon,
            precision: precision(),
        };
        let inputs = inputs.contiguous();
        let found = inputs.block().forward();
        let out = inputs.like_x(found.out);
        let flat = |values: Vec<f32>| {
            let len = values.len();
            tensor(values, [len])
        };
        let state = BlockState {
            inputs,
            a: flat(found.a),
            b: flat(found.b),
            y: flat(found.y),
        };
        record::<_, C, 6>(BlockStep, nodes, state, out)
    }

    fn kernel_activation(x: FloatTensor<Self>, kind: Activation) -> FloatTensor<Self> {
        let (x, node) = x.into_parts();
        let x = contiguous(x);
        let y = Flex::kernel_activation(x.clone(), kind);
        record::<_, C, 1>(ActivationStep, [node], (x, kind), y)
    }

    fn kernel_attention(
        packed: FloatTensor<Self>,
        cos: Optional<Self>,
        sin: Optional<Self>,
        heads: HeadLayout,
    ) -> FloatTensor<Self> {
        let (packed, node) = packed.into_parts();
        let [cos, sin] = [cos, sin].map(|table| Some(table.into_option()?.into_primitive()));
        let inputs = AttentionInputs::new(packed, cos, sin, heads);
        let out = inputs.forward();
        record::<_, C, 1>(AttentionStep, [node], inputs, out)
    }

    fn kernel_cross_entropy(logits: FloatTensor<Self>, answers: Vec<usize>) -> FloatTensor<Self> {
        let (logits, node) = logits.into_parts();
        let logits = contiguous(logits);
        let out = Flex::kernel_cross_entropy(logits.clone(), answers.clone());
        record::<_, C, 1>(CrossEntropyStep, [node], (logits, answers), out)
    }

    // The optimizer works on tensors without a graph; its results start a new graph.

    fn kernel_adamw(
        trained: TrainedTensors<Self>,
        gradient: FloatTensor<Self>,
        step: AdamWStep,
    ) -> TrainedTensors<Self> {
        let trained = TrainedTensors::<Flex> {
            parameter: trained.parameter.into_primitive(),
            average: trained.average.into_primitive(),
            first_moment: trained.first_moment.into_primitive(),
            second_moment: trained.second_moment.into_primitive(),
        };
        let trained = Flex::kernel_adamw(trained, gradient.into_primitive(), step);
        TrainedTensors {
            parameter: Self::from_inner(trained.parameter),
            average: Self::from_inner(trained.average),
            first_moment: Self::from_inner(trained.first_moment),
            second_moment: Self::from_inner(trained.second_moment),
        }
    }

    fn kernel_square_sum(x: FloatTensor<Self>) -> FloatTensor<Self> {
        Self::from_inner(Flex::kernel_square_sum(x.into_primitive()))
    }

    fn kernel_depthwise(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        past: Optional<Self>,
    ) -> FloatTensor<Self> {
        let (nodes, past) = nodes_with_past([&x, &weight, &bias], past);
        let inputs = DepthwiseInputs::new(x.into_primitive(), weight.into_primitive(), past);
        let y = inputs.forward(contiguous(bias.into_primitive()));
        record::<_, C, 4>(DepthwiseStep, nodes, inputs, y)
    }

    fn kernel_causal_conv(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        past: Optional<Self>,
        order: TapOrder,
    ) -> FloatTensor<Self> {
        let (nodes, past) = nodes_with_past([&x, &weight, &bias], past);
        let (x, weight) = (x.into_primitive(), weight.into_primitive());
        let inputs = CausalConvInputs::new(x, weight, past, order);
        let bias = contiguous(bias.into_primitive());
        let [channels] = sizes(&bias);
        let y = inputs.forward(&bias);
        record::<_, C, 4>(CausalConvStep, nodes, (inputs, channels), y)
    }

    fn kernel_conv2d(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: Optional<Self>,
        window: Window,
    ) -> FloatTensor<Self> {
        let (x, x_node) = x.into_parts();
        let (weight, weight_node) = weight.into_parts();
        let inputs = Conv2dInputs::new(x, weight, window);
        match bias.into_option() {
            Some(bias) => {
                let (bias, node) = bias.into_parts();
                let y = inputs.forward(Some(bias));
                record::<_, C, 3>(Conv2dStep, [x_node, weight_node, node], inputs, y)
            }
            None => {
                let y = inputs.forward(None);
                record::<_, C, 2>(Conv2dStep, [x_node, weight_node], inputs, y)
            }
        }
    }

    fn kernel_layer_norm(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        epsilon: f64,
    ) -> FloatTensor<Self> {
        let nodes = [x.node(), weight.node(), bias.node()];
        let [x, weight, bias] = [x, weight, bias].map(|t| contiguous(t.into_primitive()));
        let y = Flex::kernel_layer_norm(x.clone(), weight.clone(), bias, epsilon);
        record::<_, C, 3>(LayerNormStep, nodes, (x, weight, epsilon), y)
    }

    fn kernel_group_norm(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        groups: usize,
        epsilon: f64,
    ) -> FloatTensor<Self> {
        let nodes = [x.node(), weight.node(), bias.node()];
        let [x, weight, bias] = [x, weight, bias].map(|tensor| tensor.into_primitive());
        let inputs = GroupNormInputs::new(x, weight, groups, epsilon);
        let y = group_norm::forward(inputs.norm(), numbers(&contiguous(bias)));
        let y = tensor(y, inputs.x.shape());
        record::<_, C, 3>(GroupNormStep, nodes, inputs, y)
    }
}

/// The nodes of input, weight and bias of a causal convolution and that of its past, and the past itself. An absent one has
/// the node of the input, and registers no gradient.
fn nodes_with_past<C: CheckpointStrategy>(
    given: [&FloatTensor<Autodiff<Flex, C>>; 3],
    past: Optional<Autodiff<Flex, C>>,
) -> ([NodeGuard; 4], Option<FlexTensor>) {
    let [x, weight, bias] = given;
    let (past, node) = match past.into_option() {
        Some(past) => {
            let (past, node) = past.into_parts();
            (Some(past), node)
        }
        None => (None, x.node()),
    };
    ([x.node(), weight.node(), bias.node(), node], past)
}

/// Adds the result of an operation to the graph, with the state that its backward step needs.
// "Compute bound" tells Burn's own gradient checkpointing not to run the operation again.
fn record<S, C, const N: usize>(
    step: S,
    nodes: [NodeGuard; N],
    state: S::State,
    result: FlexTensor,
) -> FloatTensor<Autodiff<Flex, C>>
where
    S: Backward<Flex, N>,
    C: CheckpointStrategy,
{
    match step.prepare::<C>(nodes).compute_bound().stateful() {
        OpsKind::Tracked(prep) => prep.finish(state, result),
        OpsKind::UnTracked(prep) => prep.finish(result),
    }
}

#[derive(Debug)]
struct LinearStep;

#[derive(Debug, Clone)]
struct LinearState {
    x: FlexTensor,
    weight: FlexTensor,
    /// Precision of the products, forward and backward.
    precision: Precision,
}

impl<const N: usize> Backward<Flex, N> for LinearStep {
    type State = LinearState;

    fn backward(self, ops: Ops<LinearState, N>, grads: &mut Gradients, _: &mut Checkpointer) {
        let precision = ops.state.precision;
        let LinearState { x, weight, .. } = ops.state;
        let gradient = contiguous(grads.consume::<Flex>(&ops.node));
        let [rows, input] = sizes(&x);
        let [_, output] = sizes(&weight);
        let dy = Matrix::new(numbers(&gradient), rows, output);
        // A parent is `None` where nobody asks for its gradient, as for data at the model's entrance: then its
        // product is saved.
        let mut parents = ops.parents.into_iter();
        if let Some(node) = parents.next().flatten() {
            let weight = Matrix::new(numbers(&weight), input, output);
            let dx = precision.product(dy, weight.transposed());
            grads.register::<Flex>(node.id, tensor(dx, [rows, input]));
        }
        if let Some(node) = parents.next().flatten() {
            let x = Matrix::new(numbers(&x), rows, input);
            let dw = precision.product(x.transposed(), dy);
            grads.register::<Flex>(node.id, tensor(dw, [input, output]));
        }
        if let Some(node) = parents.next().flatten() {
            let db = sum_of_rows(numbers(&gradient), output);
            grads.register::<Flex>(node.id, tensor(db, [output]));
        }
    }
}

#[derive(Debug)]
struct NormStep;

impl Backward<Flex, 3> for NormStep {
    type State = NormInputs;

    fn backward(self, ops: Ops<NormInputs, 3>, grads: &mut Gradients, _: &mut Checkpointer) {
        let mut inputs = ops.state;
        let mut dx = owned(grads.consume::<Flex>(&ops.node));
        // Overwritten, as that of a block.
        let mut modulation = inputs.modulation.take().map(owned);
        let [_, width] = sizes(&inputs.x);
        let gradients = norm::Gradients {
            x: dx.storage_mut(),
            modulation: modulation.as_mut().map(|modulation| Rows {
                numbers: modulation.storage_mut(),
                width: 2 * width,
            }),
        };
        let dw = norm::backward(inputs.norm(), gradients, None);
        let [for_x, for_weight, for_modulation] = ops.parents;
        register!(grads, for_x, dx);
        if let Some(dw) = dw {
            register!(grads, for_weight, tensor(dw, [width]));
        }
        if let Some(modulation) = modulation {
            register!(grads, for_modulation, modulation);
        }
    }
}

#[derive(Debug)]
struct BlockStep;

#[derive(Debug, Clone)]
struct BlockState {
    inputs: BlockInputs,
    /// Numbers of `swiglu::Found`, from the forward pass.
    a: FlexTensor,
    b: FlexTensor,
    y: FlexTensor,
}

impl Backward<Flex, 6> for BlockStep {
    type State = BlockState;

    fn backward(self, ops: Ops<BlockState, 6>, grads: &mut Gradients, _: &mut Checkpointer) {
        let BlockState {
            mut inputs,
            mut a,
            mut b,
            mut y,
        } = ops.state;
        let gradient = contiguous(grads.consume::<Flex>(&ops.node));
        // Nobody reads the modulation or the results of the forward pass after this step, so that gradients take their
        // memory. If another tensor shares it after all, writing copies it first.
        let mut modulation = inputs.modulation.take().map(owned);
        let gated = modulation.as_mut().map(|modulation| Gated {
            modulation: modulation.storage_mut(),
            y: y.storage_mut(),
        });
        let kept = Kept {
            a: a.storage_mut(),
            b: b.storage_mut(),
            gated,
        };
        let found = inputs.block().backward(numbers(&gradient), kept);
        let [for_x, for_norm, for_modulation, for_gate, for_up, for_down] = ops.parents;
        register!(grads, for_x, inputs.like_x(found.x));
        if let (Some(values), Some(like)) = (found.norm_weight, &inputs.norm_weight) {
            register!(grads, for_norm, tensor(values, like.shape()));
        }
        if let Some(modulation) = modulation {
            register!(grads, for_modulation, modulation);
        }
        register!(grads, for_gate, tensor(found.gate, inputs.gate.shape()));
        register!(grads, for_up, tensor(found.up, inputs.up.shape()));
        register!(grads, for_down, tensor(found.down, inputs.down.shape()));
    }
}

#[derive(Debug)]
struct ActivationStep;

impl Backward<Flex, 1> for ActivationStep {
    type State = (FlexTensor, Activation);

    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        let (x, kind) = ops.state;
        let gradient = contiguous(grads.consume::<Flex>(&ops.node));
        let dx = activation::backward(kind, numbers(&x), numbers(&gradient));
        let [parent] = ops.parents;
        register!(grads, parent, tensor(dx, x.shape()));
    }
}

#[derive(Debug)]
struct AttentionStep;

impl Backward<Flex, 1> for AttentionStep {
    type State = AttentionInputs;

    fn backward(self, ops: Ops<AttentionInputs, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        let inputs = ops.state;
        let gradient = contiguous(grads.consume::<Flex>(&ops.node));
        let dx = attention::backward(inputs.attention(), numbers(&gradient));
        let [parent] = ops.parents;
        register!(grads, parent, tensor(dx, inputs.packed.shape()));
    }
}

#[derive(Debug)]
struct CrossEntropyStep;

impl Backward<Flex, 1> for CrossEntropyStep {
    type State = (FlexTensor, Vec<usize>);

    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        let (logits, answers) = ops.state;
        let gradient = contiguous(grads.consume::<Flex>(&ops.node));
        let found = cross_entropy::backward(numbers(&logits), &answers, numbers(&gradient));
        let [parent] = ops.parents;
        register!(grads, parent, tensor(found, logits.shape()));
    }
}

#[derive(Debug)]
struct LayerNormStep;

impl Backward<Flex, 3> for LayerNormStep {
    type State = (FlexTensor, FlexTensor, f64);

    fn backward(self, ops: Ops<Self::State, 3>, grads: &mut Gradients, _: &mut Checkpointer) {
        let (x, weight, epsilon) = ops.state;
        let gradient = contiguous(grads.consume::<Flex>(&ops.node));
        let [rows, width] = sizes(&x);
        let (values, dy) = (numbers(&x), numbers(&gradient));
        let [dx, dw, db] =
            layer_norm::backward(values, width, epsilon as f32, numbers(&weight), dy);
        let [for_x, for_weight, for_bias] = ops.parents;
        register!(grads, for_x, tensor(dx, [rows, width]));
        register!(grads, for_weight, tensor(dw, [width]));
        register!(grads, for_bias, tensor(db, [width]));
    }
}

#[derive(Debug)]
struct GroupNormStep;

impl Backward<Flex, 3> for GroupNormStep {
    type State = GroupNormInputs;

    fn backward(self, ops: Ops<GroupNormInputs, 3>, grads: &mut Gradients, _: &mut Checkpointer) {
        let inputs = ops.state;
        let gradient = contiguous(grads.consume::<Flex>(&ops.node));
        let norm = inputs.norm();
        let [dx, dw, db] = group_norm::backward(norm, numbers(&gradient));
        let [for_x, for_weight, for_bias] = ops.parents;
        register!(grads, for_x, tensor(dx, inputs.x.shape()));
        register!(grads, for_weight, tensor(dw, [norm.channels]));
        register!(grads, for_bias, tensor(db, [norm.channels]));
    }
}
