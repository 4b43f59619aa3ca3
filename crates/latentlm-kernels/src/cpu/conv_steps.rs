//! Backward steps of convolutions in Burn's autodiff graph.

use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops};
use burn::backend::{Flex, TensorMetadata};
use latentlm_convolutions::{CausalWanted, Wanted};
use latentlm_products::tasks::sum_of_rows;

use super::inputs::{CausalConvInputs, Conv2dInputs, DepthwiseInputs};
use super::storage::{contiguous, numbers, tensor};

#[derive(Debug)]
pub(super) struct DepthwiseStep;

impl Backward<Flex, 4> for DepthwiseStep {
    type State = DepthwiseInputs;

    fn backward(self, ops: Ops<DepthwiseInputs, 4>, grads: &mut Gradients, _: &mut Checkpointer) {
        let inputs = ops.state;
        let gradient = contiguous(grads.consume::<Flex>(&ops.node));
        let (convolution, dout) = (inputs.convolution(), numbers(&gradient));
        let [x, weight, bias, past] = ops.parents;
        if let Some(node) = x {
            let dx = tensor(convolution.x_gradient(dout), inputs.x.shape());
            grads.register::<Flex>(node.id, dx);
        }
        if let Some(node) = weight {
            let dw = tensor(convolution.weight_gradient(dout), inputs.weight.shape());
            grads.register::<Flex>(node.id, dw);
        }
        if let Some(node) = bias {
            let db = convolution.bias_gradient(dout);
            let channels = db.len();
            grads.register::<Flex>(node.id, tensor(db, [channels]));
        }
        if let (Some(node), Some(past)) = (past, &inputs.past) {
            let dpast = tensor(convolution.past_gradient(dout), past.shape());
            grads.register::<Flex>(node.id, dpast);
        }
    }
}

#[derive(Debug)]
pub(super) struct CausalConvStep;

impl Backward<Flex, 4> for CausalConvStep {
    /// The inputs, and the length of the bias.
    type State = (CausalConvInputs, usize);

    fn backward(self, ops: Ops<Self::State, 4>, grads: &mut Gradients, _: &mut Checkpointer) {
        let (inputs, channels) = ops.state;
        let gradient = contiguous(grads.consume::<Flex>(&ops.node));
        let dout = numbers(&gradient);
        let [x, weight, bias, past] = ops.parents;
        let wanted = CausalWanted {
            x: x.is_some(),
            past: past.is_some() && inputs.past.is_some(),
            weight: weight.is_some(),
        };
        let found = inputs.convolution().gradients(dout, wanted);
        if let (Some(node), Some(dx)) = (x, found.x) {
            grads.register::<Flex>(node.id, tensor(dx, inputs.x.shape()));
        }
        if let (Some(node), Some(dw)) = (weight, found.weight) {
            grads.register::<Flex>(node.id, tensor(dw, inputs.weight.shape()));
        }
        if let Some(node) = bias {
            let db = tensor(sum_of_rows(dout, channels), [channels]);
            grads.register::<Flex>(node.id, db);
        }
        if let (Some(node), Some(dpast), Some(like)) = (past, found.past, &inputs.past) {
            grads.register::<Flex>(node.id, tensor(dpast, like.shape()));
        }
    }
}

#[derive(Debug)]
pub(super) struct Conv2dStep;

impl<const N: usize> Backward<Flex, N> for Conv2dStep {
    type State = Conv2dInputs;

    fn backward(self, ops: Ops<Conv2dInputs, N>, grads: &mut Gradients, _: &mut Checkpointer) {
        let inputs = ops.state;
        let gradient = contiguous(grads.consume::<Flex>(&ops.node));
        let (convolution, dout) = (inputs.convolution(), numbers(&gradient));
        let mut parents = ops.parents.into_iter();
        let x = parents.next().flatten();
        let weight = parents.next().flatten();
        let wanted = Wanted {
            x: x.is_some(),
            weight: weight.is_some(),
        };
        let found = inputs.gradients(dout, wanted);
        if let (Some(node), Some(dx)) = (x, found.x) {
            grads.register::<Flex>(node.id, tensor(dx, inputs.x.shape()));
        }
        if let (Some(node), Some(dw)) = (weight, found.weight) {
            grads.register::<Flex>(node.id, tensor(dw, inputs.weight.shape()));
        }
        if let Some(node) = parents.next().flatten() {
            let db = tensor(convolution.bias_gradient(dout), [convolution.output]);
            grads.register::<Flex>(node.id, db);
        }
    }
}
