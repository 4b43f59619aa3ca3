//! The contracts of `latentlm-core`, run on every configuration that published models use.

use burn::tensor::{Device, Tensor};
use latentlm_backbone::{CacheNumbers, RopeLayout, Transformer, TransformerConfig};
use latentlm_core::conformance::{assert_close, backbone, module, seeded};
use latentlm_core::{
    BackboneSizes, CausalBackbone, CausalBackboneConfig, PartConfig, RandomStream,
};

fn configs() -> Vec<TransformerConfig> {
    let base = TransformerConfig::new(32, 2, 4);
    vec![
        base.clone(),
        base.clone().with_kv_heads(2),
        base.with_kv_heads(1)
            .with_norm_weight(true)
            .with_qkv_bias(true)
            .with_rope_layout(RopeLayout::HalfSplit)
            .with_rope_theta(1e6)
            .with_condition_layer(false),
    ]
}

fn init(config: &TransformerConfig, seed: u64, device: &Device) -> Transformer {
    seeded(seed, device, |device| config.init(device))
}

#[test]
fn backbone_contract() {
    let device = Device::default();
    for config in configs() {
        backbone::check(&init(&config, 1, &device), &device);
    }
}

#[test]
fn the_recipe_sizes_it() {
    let sizes = BackboneSizes {
        width: 32,
        depth: 2,
        heads: 4,
        kv_heads: 2,
        mlp_ratio: 4.0,
        recompute: true,
    };
    backbone::check_config::<TransformerConfig>(&sizes, &Device::default());
    let expected = TransformerConfig::new(32, 2, 4).with_kv_heads(2);
    assert_eq!(TransformerConfig::of(&sizes), expected.with_recompute(true));
}

#[test]
fn weights_survive_a_file() {
    let device = Device::default();
    for config in configs() {
        module::save_load_is_bit_equal(&init(&config, 1, &device), || init(&config, 2, &device));
    }
}

#[test]
fn gradient_reaches_every_parameter() {
    let device = Device::default().autodiff();
    for config in configs() {
        let backbone = init(&config, 1, &device);
        let x = RandomStream::new(1).normal([2, 5, 32], &device);
        let gradients = backbone.forward(x).powi_scalar(4).mean().backward();
        module::gradient_reaches_every_parameter(&backbone, &gradients);
    }
}

#[test]
#[should_panic(expected = "7 are taken and 1 more do not fit")]
fn a_full_cache_says_so() {
    let device = Device::default();
    let backbone = init(&configs()[0], 1, &device);
    let mut cache = backbone.init_state(1, 7, &device);
    let x = RandomStream::new(1).normal([1, 7, 32], &device);
    backbone.step(x.clone(), &mut cache);
    backbone.step(x.narrow(1, 0, 1), &mut cache);
}

/// Sequences of different lengths, stepped together with a cache each, give what each gives alone; a step
/// that is taken back leaves nothing behind; caches grow on the way.
#[test]
fn rows_with_caches_of_their_own_go_on_as_if_alone() {
    const STEPS: usize = 4;
    let device = Device::default();
    for config in configs() {
        let backbone = init(&config, 3, &device);
        let lengths = [5, 1, 3];
        let mut random = RandomStream::new(4);
        let mut inputs = Vec::new();
        let mut caches = Vec::new();
        for length in lengths {
            let x: Tensor<3> = random.normal([1, length + STEPS, 32], &device);
            let mut cache = backbone.init_state(1, length, &device);
            backbone.step(x.clone().narrow(1, 0, length), &mut cache);
            inputs.push(x);
            caches.push(cache);
        }
        for step in 0..STEPS {
            let other = random.normal([lengths.len(), 32], &device);
            let mut states: Vec<_> = caches.iter_mut().collect();
            for state in &mut states {
                state.reserve(2, 100);
            }
            backbone.step_rows(other, &mut states);
            let mut rows = Vec::new();
            for ((x, length), state) in inputs.iter().zip(lengths).zip(&mut states) {
                state.truncate(length + step);
                rows.push(x.clone().narrow(1, length + step, 1).squeeze_dim::<2>(1));
            }
            let hidden = backbone.step_rows(Tensor::cat(rows, 0), &mut states);
            for (row, (x, length)) in inputs.iter().zip(lengths).enumerate() {
                let at = length + step;
                let alone = backbone.forward(x.clone().narrow(1, 0, at + 1));
                let alone = alone.narrow(1, at, 1).squeeze_dim::<2>(1);
                let own = hidden.clone().narrow(0, row, 1);
                // The bound of the suite between cached and whole.
                assert_close(&format!("row {row} at {at}"), own, alone, 1e-4);
            }
        }
    }
}

/// A cache of fewer bits, which grows on the way, gives nearly what whole sequences give; so does one of float32 that
/// is rounded in the middle.
#[test]
fn smaller_caches_give_nearly_the_same() {
    let device = Device::default();
    for config in configs() {
        let exact = init(&config, 3, &device);
        let x: Tensor<3> = RandomStream::new(4).normal([2, 9, 32], &device);
        let expected = exact.forward(x.clone());
        let size = expected.clone().square().mean().into_scalar::<f32>();
        // Numbers are off by half a step at most: a 256th of themselves in bfloat16, a 254th of their row's largest in
        // int8. That goes into keys and values of two layers, and their sum with a residual is normalized.
        for (numbers, bound) in [(CacheNumbers::Bf16, 8e-3), (CacheNumbers::Int8, 1.6e-2)] {
            for rounds in [false, true] {
                let mut small = exact.clone();
                if !rounds {
                    small.set_cache_numbers(numbers);
                }
                let mut cache = small.init_state(2, 4, &device);
                let mut parts = vec![small.step(x.clone().narrow(1, 0, 4), &mut cache)];
                if rounds {
                    cache = cache.rounded(numbers);
                }
                cache.reserve(5, 100);
                for at in 4..9 {
                    parts.push(small.step(x.clone().narrow(1, at, 1), &mut cache));
                }
                let error = (Tensor::cat(parts, 1) - expected.clone()).square().mean();
                let error = (error.into_scalar::<f32>() / size).sqrt();
                assert!(error > 0.0 && error < bound, "{numbers:?}: {error}");
            }
        }
    }
}

#[test]
#[should_panic(expected = "8 positions in a KV cache of at most 7")]
fn a_cache_does_not_grow_beyond_its_bound() {
    let device = Device::default();
    let mut cache = init(&configs()[0], 1, &device).init_state(1, 2, &device);
    cache.reserve(7, 7);
    assert_eq!(cache.capacity(), 7);
    cache.reserve(8, 7);
}

#[test]
fn impossible_configurations_are_refused() {
    for (config, part) in [
        (TransformerConfig::new(30, 1, 4), "not a multiple of heads"),
        (
            TransformerConfig::new(32, 1, 4).with_kv_heads(3),
            "kv_heads 3",
        ),
        (TransformerConfig::new(32, 0, 4), "must be positive"),
        (TransformerConfig::new(32, 1, 16), "even and 4 or more"),
        (TransformerConfig::new(16, 1, 2), "too small"),
        (
            TransformerConfig::new(32, 1, 4).with_mlp_width(1 << 40),
            "feed-forward width of 1099511627776",
        ),
        (
            TransformerConfig::new(32, 1, 4).with_mlp_ratio(1e300),
            "feed-forward width",
        ),
        (
            TransformerConfig::new(32, 1, 4).with_norm_epsilon(0.0),
            "norm_epsilon 0",
        ),
        (
            TransformerConfig::new(32, 1, 4).with_rope_theta(f64::NAN),
            "rope_theta",
        ),
    ] {
        let message = config.validate().unwrap_err().to_string();
        assert!(message.contains(part), "{message}");
    }
}
