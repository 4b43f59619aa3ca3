//! Operations on Burn's tensors with a gradient of their own, whatever backend they lie on: what the
//! graph keeps for such an operation, and what it computes anew, is the operation's affair.
//!
//! An operation of Burn's keeps what its own gradient needs, one by one: a block of a model as much as
//! all its operations together. Here a whole function of tensors becomes one node of the graph. It is
//! computed without a graph; its gradients are found by another function when they are asked for, which
//! may build a small graph for the purpose and go backward through it: Burn allows that within a step.
#![cfg_attr(
    not(any(feature = "cpu", feature = "wgpu", feature = "cuda")),
    allow(
        dead_code,
        unused_variables,
        reason = "there is no backend to record on"
    )
)]

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::NoCheckpointing;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, BackendTensor, DispatchKindConversion, DispatchTensor};
use burn::tensor::Tensor;

/// Inputs that an operation may have.
pub(crate) const MOST_INPUTS: usize = 256;

/// Finds the gradients of an operation's inputs, in their order, from the gradient of its result. All
/// are without autodiff.
pub(crate) type Backpropagate =
    Box<dyn FnOnce(DispatchTensor) -> Vec<Option<DispatchTensor>> + Send>;

/// Puts an operation into the graph of one backend.
type Record = fn(&[DispatchTensor], DispatchTensor, Backpropagate) -> DispatchTensor;

/// Whether a tensor belongs to a graph that [`record`] can add to.
pub(crate) fn is_recorded<const D: usize>(x: &Tensor<D>) -> bool {
    x.is_tracked() && recorder(&x.clone().into_dispatch()).is_some()
}

/// Whether [`record`] takes these inputs.
pub(crate) fn can_record(inputs: &[DispatchTensor]) -> bool {
    let known = inputs
        .first()
        .is_some_and(|first| recorder(first).is_some());
    known && inputs.len() <= MOST_INPUTS
}

/// Puts an operation into the graph.
///
/// # Shapes
/// - `inputs`: float tensors of the graph, of any shapes, [`can_record`]
/// - `output`: what the operation makes of them, computed without autodiff
/// - returns: `output`, within the graph
pub(crate) fn record(
    inputs: &[DispatchTensor],
    output: DispatchTensor,
    gradient: Backpropagate,
) -> DispatchTensor {
    let record = inputs.first().and_then(recorder);
    let record = record.expect("whoever records has asked whether that is possible");
    record(inputs, output, gradient)
}

/// How to record where a tensor lies: nowhere but in a graph, without Burn's own recomputation, of a
/// backend that this crate was built for.
fn recorder(x: &DispatchTensor) -> Option<Record> {
    #[cfg(feature = "cpu")]
    if in_graph::<burn::backend::Flex>(x).is_some() {
        return Some(record_on::<burn::backend::Flex>);
    }
    #[cfg(any(feature = "wgpu", feature = "cuda"))]
    if in_graph::<burn::backend::Cube>(x).is_some() {
        return Some(record_on::<burn::backend::Cube>);
    }
    None
}

/// A float tensor of a backend's graph, if it is one.
fn in_graph<B>(x: &DispatchTensor) -> Option<FloatTensor<Autodiff<B>>>
where
    B: Backend,
    DispatchTensor: DispatchKindConversion<Autodiff<B>>,
{
    let tensor =
        <DispatchTensor as DispatchKindConversion<Autodiff<B>>>::try_into_backend(x.clone());
    match tensor {
        Ok(BackendTensor::Float(tensor)) => Some(tensor),
        _ => None,
    }
}

/// A backend's own tensor.
fn plain<B>(x: DispatchTensor) -> FloatTensor<B>
where
    B: Backend,
    DispatchTensor: DispatchKindConversion<B>,
{
    let tensor = <DispatchTensor as DispatchKindConversion<B>>::try_into_backend(x);
    match tensor {
        Ok(tensor) => tensor.float(),
        Err(error) => panic!("gradients lie elsewhere than what they are for: {error}"),
    }
}

fn record_on<B>(
    inputs: &[DispatchTensor],
    output: DispatchTensor,
    gradient: Backpropagate,
) -> DispatchTensor
where
    B: Backend,
    DispatchTensor: DispatchKindConversion<B> + DispatchKindConversion<Autodiff<B>>,
{
    let inputs: Vec<_> = inputs
        .iter()
        .map(|input| in_graph::<B>(input).expect("all inputs are of one graph's backend"))
        .collect();
    let output = plain::<B>(output);
    // A step's number of inputs is part of its type: a few will do.
    let recorded = match inputs.len() {
        0..=1 => record_among::<B, 1>(&inputs, output, gradient),
        2..=4 => record_among::<B, 4>(&inputs, output, gradient),
        5..=16 => record_among::<B, 16>(&inputs, output, gradient),
        17..=64 => record_among::<B, 64>(&inputs, output, gradient),
        _ => record_among::<B, MOST_INPUTS>(&inputs, output, gradient),
    };
    let recorded: BackendTensor<Autodiff<B>> = BackendTensor::Float(recorded);
    <DispatchTensor as DispatchKindConversion<Autodiff<B>>>::from_backend(recorded)
}

/// A step with `N` inputs, of which those beyond the given ones are the last one again: no gradient is
/// handed to them.
fn record_among<B, const N: usize>(
    inputs: &[FloatTensor<Autodiff<B>>],
    output: FloatTensor<B>,
    gradient: Backpropagate,
) -> FloatTensor<Autodiff<B>>
where
    B: Backend,
    DispatchTensor: DispatchKindConversion<B>,
{
    let nodes = std::array::from_fn(|index| inputs[index.min(inputs.len() - 1)].node());
    let step = <OwnStep as Backward<B, N>>::prepare::<NoCheckpointing>(OwnStep, nodes);
    match step.compute_bound().stateful() {
        OpsKind::Tracked(step) => step.finish(Pending::new(gradient), output),
        OpsKind::UnTracked(step) => step.finish(output),
    }
}

/// The work of a backward step until it is done, and what it holds until then.
#[derive(Clone)]
struct Pending(Arc<Mutex<Option<Backpropagate>>>);

impl Pending {
    fn new(work: Backpropagate) -> Self {
        Self(Arc::new(Mutex::new(Some(work))))
    }

    fn take(self) -> Option<Backpropagate> {
        let mut work = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        work.take()
    }
}

impl fmt::Debug for Pending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Pending")
    }
}

#[derive(Debug)]
struct OwnStep;

impl<B, const N: usize> Backward<B, N> for OwnStep
where
    B: Backend,
    DispatchTensor: DispatchKindConversion<B>,
{
    type State = Pending;

    fn backward(self, ops: Ops<Pending, N>, grads: &mut Gradients, _: &mut Checkpointer) {
        let gradient: BackendTensor<B> = BackendTensor::Float(grads.consume::<B>(&ops.node));
        let gradient = <DispatchTensor as DispatchKindConversion<B>>::from_backend(gradient);
        let Some(work) = ops.state.take() else {
            return;
        };
        for (parent, found) in ops.parents.into_iter().zip(work(gradient)) {
            if let (Some(parent), Some(found)) = (parent, found) {
                grads.register::<B>(parent.id, plain::<B>(found));
            }
        }
    }
}
