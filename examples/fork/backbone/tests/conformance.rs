//! The contracts of `latentlm-core`, run on this backbone.

use burn::tensor::{Device, Tensor};
use fork_backbone::{Backbone, BackboneConfig, scan};
use latentlm_core::conformance::{assert_close, backbone, module, seeded};
use latentlm_core::{
    BackboneSizes, CausalBackbone, CausalBackboneConfig, PartConfig, RandomStream,
};

fn init(seed: u64, device: &Device) -> Backbone {
    let config = BackboneConfig::new().with_width(24).with_depth(2);
    seeded(seed, device, |device| config.init(device))
}

#[test]
fn backbone_contract() {
    let device = Device::default();
    backbone::check(&init(1, &device), &device);
}

#[test]
fn the_recipe_sizes_it() {
    let sizes = BackboneSizes {
        width: 32,
        depth: 2,
        heads: 4,
        kv_heads: 0,
        mlp_ratio: 4.0,
        recompute: false,
    };
    backbone::check_config::<BackboneConfig>(&sizes, &Device::default());
}

#[test]
fn weights_survive_a_file() {
    let device = Device::default();
    module::save_load_is_bit_equal(&init(1, &device), || init(2, &device));
}

#[test]
fn gradient_reaches_every_parameter() {
    let device = Device::default().autodiff();
    let backbone = init(1, &device);
    let x = RandomStream::new(1).normal([2, 5, 24], &device);
    let gradients = backbone.forward(x).powi_scalar(4).mean().backward();
    module::gradient_reaches_every_parameter(&backbone, &gradients);
}

/// The scan is the recurrence, for lengths that are powers of two and for others.
#[test]
fn the_scan_is_the_recurrence() {
    let (device, mut random) = (Device::default(), RandomStream::new(2));
    for length in [1, 2, 3, 4, 7, 8, 9] {
        let mut factors = || random.normal([2, length, 3], &device);
        let (a, b): (Tensor<3>, Tensor<3>) = (factors(), factors());
        let mut hidden = Tensor::<3>::zeros([2, 1, 3], &device);
        let steps = (0..length).map(|at| {
            let now = |x: &Tensor<3>| x.clone().narrow(1, at, 1);
            hidden = now(&a) * hidden.clone() + now(&b);
            hidden.clone()
        });
        let expected = Tensor::cat(steps.collect(), 1);
        assert_close("the scan", scan(a.clone(), b.clone()), expected, 1e-5);
    }
}

#[test]
fn impossible_configurations_are_refused() {
    for (config, part) in [
        (BackboneConfig::new().with_depth(0), "must be positive"),
        (BackboneConfig::new().with_width(16), "too small"),
    ] {
        let message = config.validate().unwrap_err().to_string();
        assert!(message.contains(part), "{message}");
    }
}
