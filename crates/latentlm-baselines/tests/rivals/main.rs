//! Tests of all baselines: number of parameters in closed form, gradients, attention masks,
//! repeatable sampling, and that they learn.

mod diffusion;
mod speech;
mod vq;

use burn::module::{Module, ModuleMapper, Param};
use burn::optim::{AdamConfig, GradientsParams};
use burn::tensor::{Int, Tensor};
use latentlm_core::RandomStream;

/// A module whose parameters are no longer zero: noise is added to each that is trained.
fn moved<M: Module>(module: M) -> M {
    module.map(&mut Noise(RandomStream::new(9)))
}

struct Noise(RandomStream);

impl ModuleMapper for Noise {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        if !param.is_require_grad() {
            return param;
        }
        let noise = self.0.normal(param.dims(), &param.device());
        param.map(|x| (x + noise.mul_scalar(0.1)).detach().require_grad())
    }
}

/// Takes some steps of Adam. Returns the loss before and after, and the model.
fn learn<M: Module>(
    mut model: M,
    steps: usize,
    learning_rate: f64,
    loss: impl Fn(&M) -> Tensor<1>,
) -> (f32, f32, M) {
    let mut optimizer = AdamConfig::new().init();
    let before = loss(&model).into_scalar::<f32>();
    for _ in 0..steps {
        let gradients = GradientsParams::from_grads(loss(&model).backward(), &model);
        model = optimizer.step(learning_rate, model, gradients);
    }
    let after = loss(&model).into_scalar::<f32>();
    (before, after, model)
}

fn host<const D: usize>(tensor: Tensor<D, Int>) -> Vec<i64> {
    tensor.into_data().convert::<i64>().try_into_vec().unwrap()
}

/// Number of parameters of a block: attention and feed-forward network.
fn block(width: usize, heads: usize, kv_heads: usize, mlp_width: usize) -> usize {
    let head_dim = width / heads;
    width * (width + 2 * kv_heads * head_dim) + width * width + 3 * width * mlp_width
}
