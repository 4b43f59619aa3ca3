//! AdamW over one kernel a parameter. Its state is that of Burn's AdamW, on disk too.

use burn::optim::{AdamWState, AdaptiveMomentumState, LearningRate, Optimizer};
use burn::tensor::{Device, Tensor};
use latentlm_kernels::{AdamWStep, adamw};

use crate::recipe::StageConfig;

const EPSILON: f64 = 1e-8;

/// The optimizer of every stage.
#[derive(Debug, Clone, Copy)]
pub(crate) struct AdamW {
    beta_1: f64,
    beta_2: f64,
    weight_decay: f64,
}

impl AdamW {
    pub(crate) fn new(config: &StageConfig) -> Self {
        Self {
            beta_1: config.beta_1,
            beta_2: config.beta_2,
            weight_decay: config.weight_decay,
        }
    }
}

impl Optimizer for AdamW {
    type State<const D: usize> = AdamWState<D>;

    fn step<const D: usize>(
        &self,
        learning_rate: LearningRate,
        parameter: Tensor<D>,
        gradient: Tensor<D>,
        state: Option<AdamWState<D>>,
    ) -> (Tensor<D>, Option<AdamWState<D>>) {
        let (time, moments) = match state {
            Some(state) => {
                let momentum = state.momentum;
                (momentum.time, [momentum.moment_1, momentum.moment_2])
            }
            None => (0, [gradient.zeros_like(), gradient.zeros_like()]),
        };
        let time = time + 1;
        let step = AdamWStep {
            learning_rate,
            beta_1: self.beta_1,
            beta_2: self.beta_2,
            epsilon: EPSILON,
            weight_decay: self.weight_decay,
            // Past 2^31 steps the corrections are 1 anyway.
            time: i32::try_from(time).unwrap_or(i32::MAX),
        };
        let (parameter, [first, second]) = adamw(parameter, gradient, moments, step);
        let momentum = AdaptiveMomentumState::new(time, first, second);
        (parameter, Some(AdamWState::new(momentum)))
    }

    fn to_device<const D: usize>(mut state: AdamWState<D>, device: &Device) -> AdamWState<D> {
        state.momentum = state.momentum.to_device(device);
        state
    }
}
