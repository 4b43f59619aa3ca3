//! The contracts of `latentlm-core`, run on this head.

use burn::module::{Module, ModuleMapper, Param};
use burn::tensor::{Device, Tensor};
use fork_head::{Head, HeadConfig};
use latentlm_core::conformance::{assert_close, head, module, seeded};
use latentlm_core::{
    BetaSchedule, HeadMethod, HeadSizes, LatentHead, LatentHeadConfig, PartConfig, Prediction,
    RandomStream, SampleOptions,
};

fn init(seed: u64, device: &Device) -> Head {
    let config = HeadConfig::new().with_latent_dim(3).with_width(8);
    seeded(seed, device, |device| config.init(device))
}

#[test]
fn head_contract() {
    let device = Device::default();
    head::check(&init(1, &device), 8, &device);
}

#[test]
fn the_recipe_sizes_it() {
    let sizes = HeadSizes {
        latent_dim: 5,
        width: 16,
        depth: 1,
        mlp_ratio: 4.0,
        prediction: Prediction::Velocity,
        schedule: BetaSchedule::Cosine,
        num_train_timesteps: 1000,
        method: HeadMethod::default(),
        recompute: false,
    };
    head::check_config::<HeadConfig>(&sizes, &Device::default());
}

#[test]
fn weights_survive_a_file() {
    let device = Device::default();
    module::save_load_is_bit_equal(&init(1, &device), || init(2, &device));
}

#[test]
fn gradient_reaches_every_parameter() {
    let device = Device::default().autodiff();
    let (head, mut random) = (init(1, &device), RandomStream::new(1));
    let draws = head.draw(6, &mut random, &device);
    let latents = random.normal([6, 3], &device);
    let loss = head.loss_at(latents, random.normal([6, 8], &device), draws);
    module::gradient_reaches_every_parameter(&head, &loss.backward());
}

/// Multiplies all parameters by 0: mean 0, variance 1.
struct Zero;

impl ModuleMapper for Zero {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        param.map(|tensor| tensor.mul_scalar(0.0))
    }
}

/// The standard normal: the loss is half the mean square, and a draw is its noise.
#[test]
fn a_head_of_zeros_is_the_standard_normal() {
    let (device, mut random) = (Device::default(), RandomStream::new(3));
    let head = init(1, &device).map(&mut Zero);
    let latents: Tensor<2> = random.normal([6, 3], &device);
    let condition: Tensor<2> = random.normal([6, 8], &device);
    let draws = head.draw(6, &mut random, &device);
    let loss = head.loss_at(latents.clone(), condition.clone(), draws);
    let expected = latents.clone().square().mean().mul_scalar(0.5);
    assert_close("the loss", loss, expected, 1e-6);
    let options = SampleOptions {
        noise_temperature: 0.5,
        ..SampleOptions::default()
    };
    let drawn = head.sample(condition, None, latents.clone(), &options, &mut random);
    assert_close("a draw", drawn, latents.mul_scalar(0.5), 1e-6);
}

#[test]
fn impossible_configurations_are_refused() {
    for config in [
        HeadConfig::new().with_latent_dim(0),
        HeadConfig::new().with_width(0),
    ] {
        let message = config.validate().unwrap_err().to_string();
        assert!(message.contains("must be positive"), "{message}");
    }
}
