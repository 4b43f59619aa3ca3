//! A codec that is not ours takes the place of ours: it implements the contract of
//! `latentlm-core`, passes its suite, and the model trains and generates with it unchanged.

use burn::module::{Module, Param, ParamId};
use burn::tensor::{Device, Tensor};
use latentlm::adapters::Whitening;
use latentlm::{ImageLmConfig, LatentCodec, LatentHead, LmSizes, RandomStream, SampleOptions};
use latentlm_core::conformance::{assert_close, codec, module, seeded};
use latentlm_core::{LatentSpec, NoiseScale, Posterior, SignalLayout};
use latentlm_pipelines::StageConfig;
use latentlm_tests::tiny_recipe;
use latentlm_train::Player;

/// Patches of 4x4 pixels, turned by an orthogonal matrix: a lossless linear codec.
#[derive(Module, Debug)]
struct PatchBasis {
    basis: Param<Tensor<2>>,
}

const PATCH: usize = 4;
const GRID: usize = 2;

impl PatchBasis {
    fn new(device: &Device) -> Self {
        // The Hadamard matrix of order 16 over 4: orthogonal, all entries 1/4 in size.
        let entry = |i: usize, j: usize| match (i & j).count_ones() % 2 {
            0 => 0.25f32,
            _ => -0.25,
        };
        let values: Vec<f32> = (0..256).map(|n| entry(n / 16, n % 16)).collect();
        let basis = Tensor::<1>::from_floats(values.as_slice(), device).reshape([16, 16]);
        Self {
            basis: Param::initialized(ParamId::new(), basis),
        }
    }
}

impl LatentCodec<4> for PatchBasis {
    fn spec(&self) -> LatentSpec {
        LatentSpec {
            dim: PATCH * PATCH,
            layout: SignalLayout::Grid {
                height: GRID,
                width: GRID,
            },
        }
    }

    fn encode(&self, signal: Tensor<4>) -> Posterior {
        let batch = signal.dims()[0];
        let patches = signal
            .reshape([batch, GRID, PATCH, GRID, PATCH])
            .permute([0, 1, 3, 2, 4])
            .reshape([batch, GRID * GRID, PATCH * PATCH]);
        Posterior {
            mean: patches.matmul(self.basis.val().unsqueeze()),
            noise: NoiseScale::Fixed { std: 0.1 },
        }
    }

    fn decode(&self, latents: Tensor<3>) -> Tensor<4> {
        let batch = latents.dims()[0];
        latents
            .matmul(self.basis.val().transpose().unsqueeze())
            .reshape([batch, GRID, GRID, PATCH, PATCH])
            .permute([0, 1, 3, 2, 4])
            .reshape([batch, 1, GRID * PATCH, GRID * PATCH])
    }
}

#[test]
fn passes_the_suite() {
    let device = Device::default();
    let other = PatchBasis::new(&device);
    let signals = RandomStream::new(1).normal([3, 1, 8, 8], &device);
    codec::check(&other, signals.clone());
    module::save_load_is_bit_equal(&other, || PatchBasis::new(&device));
    let decoded = other.decode(other.encode(signals.clone()).mode());
    assert_close("a lossless codec", decoded, signals, 1e-5);
}

/// Two classes, one bright and one dark: after some steps on this codec's latents the model draws
/// what it is asked for.
#[test]
fn the_model_trains_and_generates_with_it() {
    let device = Device::default().autodiff();
    let other = PatchBasis::new(&device);
    let spec = other.spec();
    let tokens = spec.tokens().unwrap();
    let sizes = LmSizes::new().with_width(32).with_depth(1).with_heads(2);
    let sizes = sizes.with_mlp_ratio(4.0);
    let config = ImageLmConfig::new(2, tokens, spec.dim).with_sizes(sizes);
    let mut model = seeded(1, &device, |device| config.init(device));
    let whitening = Whitening {
        bias: 0.0,
        scale: 1.0,
    };
    model.adapters.latent = model.adapters.latent.with_whitening(whitening);
    let stage = StageConfig {
        steps: 300,
        learning_rate: 3e-3,
        ..tiny_recipe(&[]).lm_train
    };
    let mut player = Player::new(model, &stage);
    let mut random = RandomStream::new(2);
    for _ in 0..stage.steps {
        let labels: Vec<i64> = (0..16).map(|i| i % 2).collect();
        let labels = Tensor::from_ints(labels.as_slice(), &device);
        let brightness = labels.clone().float().mul_scalar(1.0).sub_scalar(0.5);
        let pictures = brightness.reshape([16, 1, 1, 1]).expand([16, 1, 8, 8]);
        let latents = other.encode(pictures).mode();
        let draws = player
            .model()
            .head
            .draw(16 * tokens * 4, &mut random, &device);
        let loss = player.model().loss(labels, latents, draws);
        player.backward(loss);
    }
    let plain = Device::default();
    let labels = Tensor::from_ints([0, 1, 0, 1], &plain);
    let latents = player
        .model()
        .valid()
        .generate(labels, &SampleOptions::default(), &mut random);
    let pictures = other.valid().decode(latents);
    for (row, expected) in [-0.5, 0.5, -0.5, 0.5].into_iter().enumerate() {
        let mean = pictures
            .clone()
            .narrow(0, row, 1)
            .mean()
            .into_scalar::<f32>();
        assert!((mean - expected).abs() < 0.15, "row {row}: {mean}");
    }
}
