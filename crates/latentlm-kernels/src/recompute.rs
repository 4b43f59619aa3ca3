//! Parts of a model that are run again in the backward pass: of such a part the graph keeps the inputs
//! alone.

use burn::backend::DispatchTensor;
use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::tensor::{Gradients, Tensor};

use crate::fallback::Choice;
use crate::gradient::{can_record, record};

/// Runs a module so that the graph keeps its inputs and nothing from within it: the backward pass runs
/// it once more. The result and all gradients, of inputs and parameters, are those of `run` itself.
///
/// `run` must compute the same each time, of the module and the inputs that it is given alone: what else
/// it holds, it holds as constants, without autodiff. Outside of training, and on devices in whose graph
/// this crate can't put operations of its own, it is just called.
///
/// ```
/// use burn::nn::{Linear, LinearConfig};
/// use burn::tensor::{Device, Tensor, activation::gelu};
/// use latentlm_kernels::recomputed;
///
/// let device = Device::default().autodiff();
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
/// - `inputs` and result: of any shape, all of one rank
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
    let of_inputs = inputs.iter().filter(|x| x.is_tracked());
    let mut parameters = Parameters {
        tracked: of_inputs.map(|x| x.clone().into_dispatch()).collect(),
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
    let part = Part {
        module: module.valid(),
        inputs: inputs.map(Tensor::inner),
        wanted,
        wanted_parameters,
        run,
    };
    let output = (part.run)(&part.module, part.inputs.clone()).inner();
    let kernels = Choice::of_this_thread();
    let gradient = move |gradient| {
        let gradient = Tensor::from_dispatch(gradient);
        kernels.hold(|| part.gradients(gradient))
    };
    let output = record(&tracked, output.into_dispatch(), Box::new(gradient));
    Tensor::from_dispatch(output)
}

/// A module, what goes into it, and of what gradients are wanted, all without autodiff.
struct Part<M, F, const D: usize, const K: usize> {
    module: M,
    inputs: [Tensor<D>; K],
    wanted: [bool; K],
    wanted_parameters: Vec<bool>,
    run: F,
}

impl<M, F, const D: usize, const K: usize> Part<M, F, D, K>
where
    M: Module,
    F: Fn(&M, [Tensor<D>; K]) -> Tensor<D>,
{
    /// The gradients of what is wanted, inputs first, from the result's: the part is run again in a
    /// graph of its own, of which nothing is left behind.
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
        // The gradient of this number is the result's gradient brought back.
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

/// The same numbers as the begin of a graph, if a gradient of them is wanted.
fn leaf<const D: usize>(x: Tensor<D>, wanted: bool) -> Tensor<D> {
    match wanted {
        true => x.autodiff().require_grad(),
        false => x,
    }
}

/// Collects the parameters within the graph, and of each whether it is.
struct Parameters {
    tracked: Vec<DispatchTensor>,
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

/// Makes leaves of the parameters that want a gradient.
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
    /// None where the result depends on none of them.
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
