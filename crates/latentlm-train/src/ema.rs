//! The moving average of a module's weights.

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::optim::GradientsParams;
use burn::tensor::Tensor;
use latentlm_kernels::blend;

/// An exponential moving average with power warm-up (spec §3): at step `n` the decay is
/// `min(largest, 1 - (1 + n)^-0.75)`, so that the first weights are soon forgotten.
#[derive(Debug, Clone)]
pub struct Ema<M: Module> {
    average: Option<M>,
    largest_decay: f64,
}

impl<M: Module> Ema<M> {
    /// Starts at the module's weights.
    pub fn new(module: &M, largest_decay: f64) -> Self {
        Self {
            average: Some(module.valid()),
            largest_decay,
        }
    }

    /// The decay at a step.
    pub fn decay(&self, step: u64) -> f64 {
        self.largest_decay
            .min(1.0 - (1.0 + step as f64).powf(-0.75))
    }

    /// Takes in the weights that step `step` (from 0) ended with.
    pub fn update(&mut self, module: &M, step: u64) {
        let mut live = Collect(GradientsParams::new());
        module.visit(&mut live);
        let decay = self.decay(step);
        let mut blend = Blend {
            live: live.0,
            decay,
        };
        // Moved, not cloned: tensors with a single owner are blended in place.
        self.average = self.average.take().map(|module| module.map(&mut blend));
    }

    /// The averaged module, without autodiff.
    pub fn module(&self) -> &M {
        self.average
            .as_ref()
            .expect("the average is absent only while it is updated")
    }

    /// Takes up a saved average.
    pub fn set_module(&mut self, module: M) {
        self.average = Some(module);
    }
}

/// Gathers tensors by parameter id; Burn's container for gradients is one for any tensors.
struct Collect(GradientsParams);

impl ModuleVisitor for Collect {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        self.0.register(param.id, param.val().inner());
    }
}

struct Blend {
    live: GradientsParams,
    decay: f64,
}

impl ModuleMapper for Blend {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        match self.live.remove::<D>(param.id) {
            Some(live) => param.map(|average| blend(average, live, self.decay)),
            None => param,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::module::Module;
    use burn::nn::{Linear, LinearConfig};
    use burn::tensor::Device;

    struct Set(f32);

    impl ModuleMapper for Set {
        fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
            param.map(|x| (x.detach() * 0.0 + self.0).detach().require_grad())
        }
    }

    fn weight(module: &Linear) -> f64 {
        f64::from(module.weight.val().mean().into_scalar::<f32>())
    }

    #[test]
    fn follows_the_closed_form() {
        let device = Device::default().autodiff();
        let module = LinearConfig::new(2, 3).init(&device).map(&mut Set(5.0));
        let mut ema = Ema::new(&module, 0.6);
        let mut expected = 5.0;
        for step in 0..6u64 {
            let value = 1.0 + step as f32;
            let module = module.clone().map(&mut Set(value));
            ema.update(&module, step);
            let decay = (1.0 - (1.0 + step as f64).powf(-0.75)).min(0.6);
            expected = expected * decay + f64::from(value) * (1.0 - decay);
            assert!(
                (weight(ema.module()) - expected).abs() < 1e-5,
                "step {step}"
            );
        }
    }
}
