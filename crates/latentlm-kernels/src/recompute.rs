//! Recomputation (gradient checkpointing) of parts of a model: the graph keeps only their inputs, and the
//! backward pass runs them again.

use burn::backend::DispatchTensor;
use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::tensor::{Gradients, Tensor};

use crate::fallback::{Choice, in_training};
use crate::gradient::{can_record, record};

/// Runs a module so that the graph keeps its inputs but no intermediate results: the backward pass runs the
/// module once more. The result, and the gradients of inputs and parameters, are the same as those of
/// calling `run` directly.
///
/// `run` must compute the same result each time, and only from the module and the inputs that it is given.
/// Tensors that it captures must be constants without autodiff. If nothing tracks a gradient, if there are
/// more than 256 inputs and parameters, or if the crate was built without the feature for the device, `run`
/// is called directly.
///
/// ```
/// use burn::nn::{Linear, LinearConfig};
/// use burn::tensor::{Device, Tensor, activation::gelu};
/// use latentlm_kernels::recomputed;
///
/// let device = Device::flex().autodiff(); // the CPU: Burn's feature `flex`
/// let layer = LinearConfig::new(3, 3).init(&device);
/// let x = Tensor::<2>::ones([5, 3], &device);
/// let run = |layer: &Linear, [x]: [Tensor<2>; 1]| gelu(layer.forward(x));
/// let y = recomputed(&layer, [x.clone()], run);
/// let gradient = |y: Tensor<2>| layer.weight.val().grad(&y.sum().backward()).unwrap();
/// let expected = gradient(gelu(layer.forward(x)));
/// assert!(gradient(y).all_close(expected, None, Some(1e-6)));
/// ```
///
/// # Shapes
/// - `inputs` and result: any shapes, all of the same rank
pub fn recomputed<M, F, const D: usize, const K: usize>(
    module: &M,
    inputs: [Tensor<D>; K],
    run: F,
) -> Tensor<D>
where
    M: Module + 'static,
    F: Fn(&M, [Tensor<D>; K]) -> Tensor<D> + Send + 'static,
{
    let wanted = inputs.each_ref().map(Tensor::is_tracked);
    let mut parameters = Parameters {
        tracked: inputs
            .iter()
            .filter(|x| x.is_tracked())
            .map(|x| x.clone().into_dispatch())
            .collect(),
        wanted: Vec::new(),
    };
    module.visit(&mut parameters);
    let Parameters {
        tracked,
        wanted: wanted_parameters,
    } = parameters;
    if !can_record(&tracked) {
        return run(module, inputs);
    }
    // Everything that the second run sees is without autodiff: it runs while the backward pass holds the lock of
    // the graph, and an operation on a tensor of that graph would wait for the lock forever.
    let call = Call {
        module: module.valid(),
        inputs: inputs.map(Tensor::inner),
        wanted,
        wanted_parameters,
        run,
    };
    let output = in_training(|| (call.run)(&call.module, call.inputs.clone())).inner();
    let kernels = Choice::of_this_thread();
    let gradient = move |gradient| {
        let gradient = Tensor::from_dispatch(gradient);
        kernels.apply(|| in_training(|| call.gradients(gradient)))
    };
    let output = record(&tracked, output.into_dispatch(), Box::new(gradient));
    Tensor::from_dispatch(output)
}

/// A call of a module that can be repeated, all tensors without autodiff.
struct Call<M, F, const D: usize, const K: usize> {
    module: M,
    inputs: [Tensor<D>; K],
    /// Which inputs need a gradient.
    wanted: [bool; K],
    /// Which parameters need a gradient, in the order of visiting the module.
    wanted_parameters: Vec<bool>,
    run: F,
}

impl<M, F, const D: usize, const K: usize> Call<M, F, D, K>
where
    M: Module,
    F: Fn(&M, [Tensor<D>; K]) -> Tensor<D>,
{
    /// The wanted gradients, inputs first and then parameters, from the gradient of the result. The module
    /// runs again in a temporary graph.
    fn gradients(self, gradient: Tensor<D>) -> Vec<Option<DispatchTensor>> {
        let mut leaves = Leaves {
            wanted: self.wanted_parameters.into_iter(),
        };
        let module = self.module.map(&mut leaves);
        let wanted = self.wanted;
        let mut index = 0;
        let inputs = self.inputs.map(|x| {
            index += 1;
            leaf(x, wanted[index - 1])
        });
        let output = (self.run)(&module, inputs.clone());
        // Burn's backward pass starts from a gradient of ones. From this sum it brings back `gradient`.
        let along = (output * gradient).sum();
        let mut found = Found {
            gradients: along.is_tracked().then(|| along.backward()),
            tensors: Vec::new(),
        };
        for x in &inputs {
            found.take(x);
        }
        module.visit(&mut found);
        found.tensors
    }
}

/// The tensor as a leaf of a new graph, if its gradient is wanted, or else as it is.
fn leaf<const D: usize>(x: Tensor<D>, wanted: bool) -> Tensor<D> {
    if wanted {
        x.autodiff().require_grad()
    } else {
        x
    }
}

/// Collects the parameters that are part of the graph.
struct Parameters {
    /// Tracked tensors: inputs, then parameters.
    tracked: Vec<DispatchTensor>,
    /// For each parameter whether it is tracked.
    wanted: Vec<bool>,
}

impl ModuleVisitor for Parameters {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let tensor = param.val();
        let wanted = tensor.is_tracked();
        self.wanted.push(wanted);
        if wanted {
            self.tracked.push(tensor.into_dispatch());
        }
    }
}

/// Makes leaves of the parameters whose gradient is wanted.
struct Leaves {
    wanted: std::vec::IntoIter<bool>,
}

impl ModuleMapper for Leaves {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let wanted = self.wanted.next().unwrap_or(false);
        param.map(|tensor| leaf(tensor, wanted))
    }
}

/// Takes the gradients of leaves, in the order of visiting.
struct Found {
    /// `None` if the result depends on none of the leaves.
    gradients: Option<Gradients>,
    tensors: Vec<Option<DispatchTensor>>,
}

impl Found {
    fn take<const D: usize>(&mut self, leaf: &Tensor<D>) {
        if leaf.is_require_grad() {
            let gradients = self.gradients.as_mut();
            let gradient = gradients.and_then(|gradients| leaf.grad_remove(gradients));
            self.tensors.push(gradient.map(Tensor::into_dispatch));
        }
    }
}

impl ModuleVisitor for Found {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        self.take(&param.val());
    }
}
