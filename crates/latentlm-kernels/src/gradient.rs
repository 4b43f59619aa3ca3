//! Operations with a hand-written gradient, on any of Burn's backends. Such an operation decides itself what
//! the autodiff graph keeps for it and what the backward pass computes again.
//!
//! Each of Burn's own operations keeps what its gradient needs, so that a block of a model keeps the sum of
//! all its operations. Here a whole function of tensors becomes one node of the graph. The function runs
//! without a graph. A second function computes its gradients in the backward pass; it may build a small
//! graph and go backward through it, which Burn allows within a backward step.
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

/// Largest number of inputs of an operation.
pub(crate) const MOST_INPUTS: usize = 256;

/// Computes the gradients of an operation's inputs, in their order, from the gradient of its result. All
/// tensors are without autodiff.
pub(crate) type Backpropagate =
    Box<dyn FnOnce(DispatchTensor) -> Vec<Option<DispatchTensor>> + Send>;

/// A function that adds an operation to the graph of one backend.
type Record = fn(&[DispatchTensor], DispatchTensor, Backpropagate) -> DispatchTensor;

/// Whether a tensor belongs to a graph that [`record`] can add to.
pub(crate) fn is_recorded<const D: usize>(x: &Tensor<D>) -> bool {
    x.is_tracked() && recorder(&x.clone().into_dispatch()).is_some()
}

/// Whether [`record`] supports these inputs.
pub(crate) fn can_record(inputs: &[DispatchTensor]) -> bool {
    let known = inputs
        .first()
        .is_some_and(|first| recorder(first).is_some());
    known && inputs.len() <= MOST_INPUTS
}

/// Adds an operation to the graph.
///
/// # Shapes
/// - `inputs`: float tensors of the graph, any shapes, checked with [`can_record`]
/// - `output`: the result of the operation, computed without autodiff, any shape
/// - returns: `output` as part of the graph
pub(crate) fn record(
    inputs: &[DispatchTensor],
    output: DispatchTensor,
    gradient: Backpropagate,
) -> DispatchTensor {
    let record = inputs.first().and_then(recorder);
    let record = record.expect("callers check `can_record` first");
    record(inputs, output, gradient)
}

/// The function that records on the backend of a tensor. `None` if the tensor is not part of a graph, if
/// the graph uses Burn's own gradient checkpointing, or if this crate was built without the backend.
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

/// The tensor as a float tensor in the graph of backend `B`, if it is one.
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

/// The tensor as a float tensor of backend `B`, without autodiff.
fn plain<B>(x: DispatchTensor) -> FloatTensor<B>
where
    B: Backend,
    DispatchTensor: DispatchKindConversion<B>,
{
    let tensor = <DispatchTensor as DispatchKindConversion<B>>::try_into_backend(x);
    match tensor {
        Ok(tensor) => tensor.float(),
        Err(error) => panic!("a gradient lies on another backend than its tensor: {error}"),
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
        .map(|input| in_graph::<B>(input).expect("all inputs are in the graph of one backend"))
        .collect();
    let output = plain::<B>(output);
    // The number of inputs is part of a step's type, and each type is compiled on its own: a few sizes do.
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

/// Records a step with `N` inputs. The last given input fills up the missing ones, which get no gradient.
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

/// The closure of a backward step. It is taken out when it runs, which then frees the tensors that it
/// holds.
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
