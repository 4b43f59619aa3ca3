//! The optimizer of every stage: the gradients' scale, AdamW and the moving average of the weights, one
//! pass a parameter.

use std::collections::HashMap;

use burn::module::{Module, ModuleMapper, Param, ParamId};
use burn::optim::{AdamWState, AdaptiveMomentumState, DynState, GradientsParams};
use burn::tensor::Tensor;
use latentlm_kernels::{AdamWStep, Trained, adamw, blend};
use latentlm_pipelines::StageConfig;

const EPSILON: f64 = 1e-8;

/// AdamW with its state, which is that of Burn's AdamW.
pub struct AdamW {
    beta_1: f64,
    beta_2: f64,
    weight_decay: f64,
    pub(super) states: HashMap<ParamId, DynState>,
}

/// What changes from step to step.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    pub learning_rate: f64,
    /// What gradients are multiplied by first.
    pub gradient_scale: f64,
    /// What is kept of the moving average.
    pub average_decay: f64,
}

impl AdamW {
    pub fn new(config: &StageConfig) -> Self {
        Self {
            beta_1: config.beta_1,
            beta_2: config.beta_2,
            weight_decay: config.weight_decay,
            states: HashMap::new(),
        }
    }

    /// A step of the live weights, and the average after it. A parameter without a gradient stays as
    /// it is.
    ///
    /// Tensors are moved to where they are changed, not cloned: with a single owner that happens in
    /// place.
    pub fn step<M: Module>(
        &mut self,
        [live, average]: [M; 2],
        gradients: GradientsParams,
        pace: Pace,
    ) -> [M; 2] {
        let mut lent = Lent(GradientsParams::new());
        let live = live.map(&mut lent);
        let mut update = Update {
            optimizer: self,
            live: lent.0,
            gradients,
            pace,
        };
        let average = average.map(&mut update);
        [live.map(&mut GivenBack(update.live)), average]
    }

    fn step_of(&self, time: usize, pace: Pace) -> AdamWStep {
        AdamWStep {
            learning_rate: pace.learning_rate,
            beta_1: self.beta_1,
            beta_2: self.beta_2,
            epsilon: EPSILON,
            weight_decay: self.weight_decay,
            // Past 2^31 steps the corrections are 1 anyway.
            time: i32::try_from(time).unwrap_or(i32::MAX),
            gradient_scale: pace.gradient_scale,
            average_decay: pace.average_decay,
        }
    }

    /// The moments of a parameter and the number of its next step.
    fn take_state<const D: usize>(&mut self, id: ParamId, like: &Tensor<D>) -> AdamWState<D> {
        match self.states.remove(&id) {
            Some(state) => {
                let momentum = state.downcast::<AdamWState<D>>().momentum;
                AdamWState::new(momentum.to_device(&like.device()))
            }
            None => {
                let [first, second] = [like.zeros_like(), like.zeros_like()];
                AdamWState::new(AdaptiveMomentumState::new(0, first, second))
            }
        }
    }
}

/// Takes the weights out of a module by their ids (Burn's container for gradients is one for any
/// tensors), and leaves a number for each that wants gradients as they did.
struct Lent(GradientsParams);

impl ModuleMapper for Lent {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let (id, tensor, mapper) = param.consume();
        let place = Tensor::zeros([1; D], &tensor.device());
        let place = place.set_require_grad(tensor.is_require_grad());
        self.0.register(id, tensor.inner());
        Param::from_mapped_value(id, place, mapper)
    }
}

struct GivenBack(GradientsParams);

impl ModuleMapper for GivenBack {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let (id, place, mapper) = param.consume();
        let tensor = match self.0.remove::<D>(id) {
            Some(tensor) => Tensor::from_inner(tensor).set_require_grad(place.is_require_grad()),
            None => place,
        };
        Param::from_mapped_value(id, tensor, mapper)
    }
}

/// Goes over the averaged module.
struct Update<'a> {
    optimizer: &'a mut AdamW,
    live: GradientsParams,
    gradients: GradientsParams,
    pace: Pace,
}

impl Update<'_> {
    fn step<const D: usize>(
        &mut self,
        id: ParamId,
        [parameter, average, gradient]: [Tensor<D>; 3],
    ) -> [Tensor<D>; 2] {
        let momentum = self.optimizer.take_state(id, &gradient).momentum;
        let time = momentum.time + 1;
        let trained = Trained {
            parameter,
            average,
            moments: [momentum.moment_1, momentum.moment_2],
        };
        let trained = adamw(trained, gradient, self.optimizer.step_of(time, self.pace));
        let [first, second] = trained.moments;
        let state = AdamWState::new(AdaptiveMomentumState::new(time, first, second));
        self.optimizer.states.insert(id, DynState::create(state, D));
        [trained.parameter, trained.average]
    }
}

impl ModuleMapper for Update<'_> {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let id = param.id;
        let Some(live) = self.live.remove::<D>(id) else {
            return param;
        };
        param.map(|average| {
            let [live, average] = match self.gradients.remove::<D>(id) {
                Some(gradient) => self.step(id, [live, average, gradient]),
                None => {
                    let average = blend(average, live.clone(), self.pace.average_decay);
                    [live, average]
                }
            };
            self.live.register(id, live);
            average
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

    fn config() -> StageConfig {
        latentlm_pipelines::SpeechRecipe::default().codec_train
    }

    /// Burn's optimizer of the same numbers.
    fn burns() -> ModuleOptimizer {
        let config = config();
        AdamWConfig::new()
            .with_beta_1(config.beta_1 as f32)
            .with_beta_2(config.beta_2 as f32)
            .with_epsilon(EPSILON as f32)
            .with_weight_decay(config.weight_decay as f32)
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
        let mut optimizer = AdamW::new(&config());
        for step in 0..4 {
            let pace = Pace {
                learning_rate: 0.1,
                gradient_scale: 0.25,
                average_decay: 0.5,
            };
            let own = gradients(&live, step, 1.0);
            let scaled = gradients(&live, step, 0.25);
            [live, average] = optimizer.step([live, average], own, pace);
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
