//! Tests for modules: weights are the same after saving and loading, and gradients are correct and reach all of them.

use burn::module::{Module, ModuleVisitor, Param};
use burn::store::ModuleSnapshot;
use burn::tensor::{Gradients, Tensor};

use crate::{RandomStream, bundle};

/// Saves a module, loads the file into a fresh module, and compares all parameters bit by bit. The fresh module
/// should have other weights, such as those of another seed.
pub fn save_load_is_bit_equal<M: Module>(module: &M, fresh: impl FnOnce() -> M) {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let path = dir.path().join("module.safetensors");
    bundle::save_module(module, &path).expect("the module saves");
    let loaded = bundle::load_module(fresh(), &path).expect("the module loads");
    let (a, b) = (parameters(module), parameters(&loaded));
    assert!(!a.is_empty(), "the module has no parameters");
    assert_eq!(a, b, "a parameter changed on its way through the file");
}

/// All parameters as `(name, bytes)`, sorted by name.
fn parameters<M: Module>(module: &M) -> Vec<(String, Vec<u8>)> {
    let mut list: Vec<(String, Vec<u8>)> = module
        .collect(None, None, false)
        .into_iter()
        .map(|tensor| {
            let bytes = tensor.to_bytes().expect("a readable parameter");
            (tensor.name.clone(), bytes.to_vec())
        })
        .collect();
    list.sort();
    list
}

/// Panics unless each parameter has a gradient that is finite and not all zero.
///
/// The loss must depend on all parameters. A head whose output layer starts as zero, for example, passes no gradient
/// to the layers below until that layer has been trained.
pub fn gradient_reaches_every_parameter<M: Module>(module: &M, gradients: &Gradients) {
    for (name, norm) in gradient_norms(module, gradients) {
        let norm = norm.unwrap_or_else(|| panic!("no gradient reaches `{name}`"));
        assert!(
            norm.is_finite() && norm > 0.0,
            "gradient of `{name}`: {norm}"
        );
    }
}

/// Panics if a gradient reaches any parameter of the module.
pub fn no_gradient_reaches<M: Module>(module: &M, gradients: &Gradients) {
    let norms = gradient_norms(module, gradients);
    let reached = norms.iter().find(|(_, norm)| norm.is_some());
    assert!(reached.is_none(), "a gradient reaches `{reached:?}`");
}

/// Panics unless each parameter has a finite gradient, and not all gradients are zero. Single ones may be: in a hinge
/// loss, the gradients of the last bias from real and fake signals can cancel.
pub fn some_gradient_reaches<M: Module>(module: &M, gradients: &Gradients) {
    let norms = gradient_norms(module, gradients);
    let mut sum = 0.0;
    for (name, norm) in norms {
        sum += norm.unwrap_or_else(|| panic!("no gradient reaches `{name}`"));
    }
    assert!(sum.is_finite() && sum > 0.0, "sum of norms: {sum}");
}

/// The squared norm of the gradient of each trained parameter, or `None` if it has no gradient.
fn gradient_norms<M: Module>(module: &M, gradients: &Gradients) -> Vec<(String, Option<f32>)> {
    let mut visitor = GradientNorms {
        gradients,
        path: Vec::new(),
        norms: Vec::new(),
    };
    module.visit(&mut visitor);
    assert!(!visitor.norms.is_empty(), "the module has no parameters");
    visitor.norms
}

/// Panics unless the slope of `loss` along a random direction, computed from its gradient at `x`, equals the finite
/// difference. The bound is a twentieth of the gradient's norm, the usual size of such slopes, and not of the slope
/// itself, which may happen to be near zero. `x` must lie on an autodiff device.
pub fn gradient_agrees_with_finite_differences<const D: usize>(
    what: &str,
    x: Tensor<D>,
    loss: impl Fn(Tensor<D>) -> Tensor<1>,
) {
    const STEP: f32 = 1e-2;
    let x = x.detach().require_grad();
    let direction = RandomStream::new(7).normal(x.dims(), &x.device());
    let gradients = loss(x.clone()).backward();
    let gradient = x.grad(&gradients).expect("the loss depends on x");
    let norm = gradient.clone().square().sum().sqrt().into_scalar::<f32>();
    let slope = (gradient * direction.clone().inner()).sum();
    let slope = slope.into_scalar::<f32>();
    let at = |step: f32| {
        let moved = x.clone().detach() + direction.clone().mul_scalar(step);
        loss(moved).into_scalar::<f32>()
    };
    let numeric = (at(STEP) - at(-STEP)) / (2.0 * STEP);
    let usual = norm.max(numeric.abs());
    let error = (slope - numeric).abs();
    assert!(
        usual > 0.0 && error < 0.05 * usual,
        "{what}: slope {slope} for {numeric}, gradient of norm {norm}"
    );
}

struct GradientNorms<'a> {
    gradients: &'a Gradients,
    path: Vec<String>,
    norms: Vec<(String, Option<f32>)>,
}

impl ModuleVisitor for GradientNorms<'_> {
    fn enter_module(&mut self, name: &str, _container_type: &str) {
        self.path.push(name.to_owned());
    }

    fn exit_module(&mut self, _name: &str, _container_type: &str) {
        self.path.pop();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if !param.is_require_grad() {
            return;
        }
        let gradient = param.val().grad(self.gradients);
        let norm = gradient.map(|gradient| gradient.square().sum().into_scalar::<f32>());
        self.norms.push((self.path.join("."), norm));
    }
}
