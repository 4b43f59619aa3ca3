//! The optimizer of every stage: scaling of gradients, AdamW and the moving average of the weights, in one
//! pass over the parameters.

use std::collections::HashMap;

use burn::module::{Module, ModuleMapper, Param, ParamId};
use burn::optim::{AdamWState, AdaptiveMomentumState, DynState, GradientsParams};
use burn::tensor::Tensor;
use latentlm_kernels::{AdamWStep, Trained, adamw, blend};

pub const EPSILON: f64 = 1e-8;

/// AdamW. Its state is that of Burn's AdamW.
#[derive(Default)]
pub struct AdamW {
    pub(super) states: HashMap<ParamId, DynState>,
}

impl AdamW {
    /// One step of the live weights, and the average after it. A parameter without a gradient stays as it
    /// is. The `time` of `settings` is not read: every parameter counts its own steps.
    ///
    /// Tensors are moved to where they are changed, not cloned: with a single owner that happens in
    /// place.
    pub fn step<M: Module>(
        &mut self,
        live: M,
        average: M,
        gradients: GradientsParams,
        settings: AdamWStep,
    ) -> (M, M) {
        let mut lent = Lent(GradientsParams::new());
        let live = live.map(&mut lent);
        let mut update = Update {
            optimizer: self,
            live: lent.0,
            gradients,
            settings,
        };
        let average = average.map(&mut update);
        (live.map(&mut Lent(update.live)), average)
    }
}

/// Takes the weights out of a module, by their ids, and leaves one number in each place; the second time it
/// puts them back. Burn's container for gradients holds any tensors.
struct Lent(GradientsParams);

impl ModuleMapper for Lent {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let (id, tensor, mapper) = param.consume();
        let require_grad = tensor.is_require_grad();
        let other: Tensor<D> = match self.0.remove::<D>(id) {
            Some(weights) => Tensor::from_inner(weights),
            None => {
                let place = Tensor::zeros([1; D], &tensor.device());
                self.0.register(id, tensor.inner());
                place
            }
        };
        Param::from_mapped_value(id, other.set_require_grad(require_grad), mapper)
    }
}

/// Goes over the averaged module.
struct Update<'a> {
    optimizer: &'a mut AdamW,
    live: GradientsParams,
    gradients: GradientsParams,
    settings: AdamWStep,
}

impl ModuleMapper for Update<'_> {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let id = param.id;
        let Some(live) = self.live.remove::<D>(id) else {
            return param;
        };
        param.map(|average| {
            let Some(gradient) = self.gradients.remove::<D>(id) else {
                let average = blend(average, live.clone(), self.settings.average_decay);
                self.live.register(id, live);
                return average;
            };
            let momentum = match self.optimizer.states.remove(&id) {
                Some(state) => {
                    let momentum = state.downcast::<AdamWState<D>>().momentum;
                    momentum.to_device(&gradient.device())
                }
                None => AdaptiveMomentumState::new(0, gradient.zeros_like(), gradient.zeros_like()),
            };
            let time = momentum.time + 1;
            let settings = AdamWStep {
                // Past 2^31 steps the corrections are 1 anyway.
                time: i32::try_from(time).unwrap_or(i32::MAX),
                ..self.settings
            };
            let trained = Trained {
                parameter: live,
                average,
                moments: [momentum.moment_1, momentum.moment_2],
            };
            let trained = adamw(trained, gradient, settings);
            let [first, second] = trained.moments;
            let state = AdamWState::new(AdaptiveMomentumState::new(time, first, second));
            let state = DynState::create(state, D);
            self.optimizer.states.insert(id, state);
            self.live.register(id, trained.parameter);
            trained.average
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::nn::{Linear, LinearConfig};
    use burn::optim::{AdamWConfig, ModuleOptimizer};
    use burn::tensor::Device;
    use latentlm::RandomStream;
    use latentlm::core::conformance::{assert_close, seeded};

    fn settings() -> AdamWStep {
        let config = latentlm_pipelines::SpeechRecipe::default().codec_train;
        AdamWStep {
            learning_rate: 0.1,
            beta_1: config.beta_1,
            beta_2: config.beta_2,
            epsilon: EPSILON,
            weight_decay: config.weight_decay,
            time: 0,
            gradient_scale: 0.25,
            average_decay: 0.5,
        }
    }

    /// Burn's optimizer of the same numbers.
    fn burns() -> ModuleOptimizer {
        let settings = settings();
        AdamWConfig::new()
            .with_beta_1(settings.beta_1 as f32)
            .with_beta_2(settings.beta_2 as f32)
            .with_epsilon(EPSILON as f32)
            .with_weight_decay(settings.weight_decay as f32)
            .init()
    }

    fn gradients(of: &Linear, step: u64, scale: f64) -> GradientsParams {
        let mut random = RandomStream::new(step);
        let mut gradients = GradientsParams::new();
        let device = of.weight.val().inner().device();
        let gradient: Tensor<2> = random.normal([3, 2], &device);
        gradients.register(of.weight.id, gradient.mul_scalar(scale));
        gradients
    }

    /// Weights against Burn's AdamW on gradients that were scaled before, the average against its
    /// closed form; the bias never gets a gradient.
    #[test]
    fn a_pass_is_scaling_and_burns_adamw_and_averaging() {
        let device = Device::default().autodiff();
        let mut live = seeded(1, &device, |device| LinearConfig::new(3, 2).init(device));
        let (mut burns_live, mut burns) = (live.clone(), burns());
        let mut average = live.valid();
        let mut expected = average.weight.val();
        let bias = live.bias.as_ref().unwrap().val().inner();
        let mut optimizer = AdamW::default();
        for step in 0..4 {
            let own = gradients(&live, step, 1.0);
            let scaled = gradients(&live, step, 0.25);
            (live, average) = optimizer.step(live, average, own, settings());
            burns_live = burns.step(0.1, burns_live, scaled);
            let [got, wanted] = [&live, &burns_live].map(|module| module.weight.val().inner());
            expected = (expected + wanted.clone()).mul_scalar(0.5);
            assert_close("weights", got, wanted, 1e-5);
            assert_close("average", average.weight.val(), expected.clone(), 1e-5);
        }
        let got = live.bias.as_ref().unwrap().val();
        assert!(got.is_require_grad() && live.weight.val().is_require_grad());
        assert_close("bias", got.inner(), bias.clone(), 0.0);
        let averaged = average.bias.as_ref().unwrap().val();
        assert_close("average of the bias", averaged, bias, 1e-6);
    }
}
