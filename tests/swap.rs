//! A codec that is not ours takes the place of ours: it implements the contracts of
//! `latentlm-core`, passes their suite, is trained by the trainer, and the model trains and generates
//! with it unchanged.

use std::fmt;

use burn::config::Config;
use burn::module::{Module, Param, ParamId};
use burn::tensor::{Device, Tensor};
use latentlm::adapters::Whitening;
use latentlm::sequence::Document;
use latentlm::{
    Batch, LatentCodec, LatentHead, LatentLmConfig, LmSizes, RandomStream, SampleOptions,
};
use latentlm_core::conformance::{assert_close, codec, module, seeded};
use latentlm_core::{
    CodecObjective, CodecObjectiveConfig, LatentCodecConfig, LatentNoise, LatentSpec,
    NoDiscriminator, NoiseScale, ObjectiveOutput, PartConfig, PictureSpec, Posterior, SignalLayout,
};
use latentlm_pipelines::StageConfig;
use latentlm_tests::tiny_recipe;
use latentlm_train::{AdversarialTrainer, DataParallel, Trainer, codec_setup};

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

const PATCHES: LatentSpec = LatentSpec {
    dim: PATCH * PATCH,
    layout: SignalLayout::Grid {
        height: GRID,
        width: GRID,
    },
};

impl LatentCodec<4> for PatchBasis {
    fn spec(&self) -> LatentSpec {
        PATCHES
    }

    fn encode_parameters(&self, signal: Tensor<4>) -> Tensor<3> {
        let batch = signal.dims()[0];
        let patches = signal
            .reshape([batch, GRID, PATCH, GRID, PATCH])
            .permute([0, 1, 3, 2, 4])
            .reshape([batch, GRID * GRID, PATCH * PATCH]);
        patches.matmul(self.basis.val().unsqueeze())
    }

    fn posterior(&self, mean: Tensor<3>) -> Posterior {
        Posterior {
            mean,
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

/// What the foreign codec's table has: a key that ours does not know.
#[derive(Config, Debug, PartialEq)]
struct PatchBasisConfig {
    /// Factor of the orthogonal matrix.
    #[config(default = 1.0)]
    gain: f64,
}

#[derive(Debug)]
struct WrongGain(f64);

impl fmt::Display for WrongGain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "patch basis: gain must be positive, not {}", self.0)
    }
}

impl std::error::Error for WrongGain {}

impl Default for PatchBasisConfig {
    fn default() -> Self {
        Self::new()
    }
}

impl PartConfig for PatchBasisConfig {
    type Error = WrongGain;

    fn validate(&self) -> Result<(), WrongGain> {
        if self.gain > 0.0 {
            Ok(())
        } else {
            Err(WrongGain(self.gain))
        }
    }
}

impl LatentCodecConfig<4> for PatchBasisConfig {
    type Codec = PatchBasis;
    type Signal = PictureSpec;

    fn init(&self, device: &Device) -> PatchBasis {
        let basis = PatchBasis::new(device).basis.val().mul_scalar(self.gain);
        PatchBasis {
            basis: Param::from_tensor(basis.detach()),
        }
    }

    fn spec(&self) -> LatentSpec {
        PATCHES
    }

    fn signal(&self) -> PictureSpec {
        PictureSpec {
            channels: 1,
            height: GRID * PATCH,
            width: GRID * PATCH,
        }
    }
}

/// The mean square error, without further parts and without a discriminator.
#[derive(Config, Debug, PartialEq)]
struct SquaredErrorConfig {
    /// Weight of the error.
    #[config(default = 1.0)]
    weight: f64,
}

#[derive(Debug, Clone)]
struct SquaredError {
    weight: f64,
}

impl Default for SquaredErrorConfig {
    fn default() -> Self {
        Self::new()
    }
}

impl PartConfig for SquaredErrorConfig {
    type Error = WrongGain;

    fn validate(&self) -> Result<(), WrongGain> {
        Ok(())
    }
}

impl CodecObjectiveConfig<4> for SquaredErrorConfig {
    type CodecConfig = PatchBasisConfig;
    type Objective = SquaredError;

    fn init(&self, codec: &PatchBasisConfig, _: &Device) -> Result<SquaredError, WrongGain> {
        codec.validate()?;
        Ok(SquaredError {
            weight: self.weight,
        })
    }
}

impl CodecObjective<4> for SquaredError {
    type Codec = PatchBasis;
    type Discriminator = NoDiscriminator;

    fn to_device(self, _: &Device) -> Self {
        self
    }

    fn loss(
        &self,
        codec: &PatchBasis,
        signal: Tensor<4>,
        noise: LatentNoise,
        _: Option<&NoDiscriminator>,
    ) -> ObjectiveOutput<4> {
        let latents = codec.encode(signal.clone()).sample(noise.scale, noise.eps);
        let decoded = codec.decode(latents);
        let error = (decoded.clone() - signal).square().mean();
        let values = [("error", Some(error.clone()))];
        ObjectiveOutput::new(error.mul_scalar(self.weight), decoded, values)
    }
}

/// With a gain of 2, encoding and decoding multiply a picture by 4. Training brings that back to 1.
#[test]
fn the_trainer_trains_it() {
    let device = Device::default().autodiff();
    let (config, loss) = (
        PatchBasisConfig::new().with_gain(2.0),
        SquaredErrorConfig::new().with_weight(1.0),
    );
    let stage = StageConfig {
        steps: 200,
        learning_rate: 2e-2,
        warmup_steps: 0,
        grad_accumulation: 1,
        ..tiny_recipe(&[]).codec_train
    };
    let setup = codec_setup(&config, &loss, &device).unwrap();
    let latents = setup.latents;
    let mut trainer = AdversarialTrainer::new(setup, &stage, DataParallel::default());
    let mut random = RandomStream::new(3);
    let (mut first, mut last) = (0.0, 0.0);
    for step in 0..stage.steps {
        let pictures: Tensor<4> = random.normal([6, 1, 8, 8], &device);
        let noise = LatentNoise::draw(latents.shape_of(&pictures), &mut random, &device);
        let (report, results) = trainer.backward(&pictures, &noise, vec![0..2, 2..6]);
        assert!(report.is_some(), "a step a batch");
        let shares: Vec<f64> = results.iter().map(|(share, _)| *share).collect();
        assert!((shares[0] - 2.0 / 6.0).abs() < 1e-12 && shares.len() == 2);
        let mut error = 0.0;
        for (share, values) in results {
            let names: Vec<&str> = values.iter().map(|(name, _)| *name).collect();
            assert_eq!(names, ["loss", "error"]);
            error += share * f64::from(values[1].1.clone().into_scalar::<f32>());
        }
        if step == 0 {
            first = error;
        }
        last = error;
    }
    // Decoded is four times the picture: an error of 3^2 at the beginning, noise aside.
    assert!((7.0..12.0).contains(&first), "{first}");
    assert!(last < 0.3, "{first} to {last}");
}

#[test]
fn passes_the_suite() {
    let device = Device::default();
    let other = PatchBasis::new(&device);
    let signals = RandomStream::new(1).normal([3, 1, 8, 8], &device);
    codec::check(&other, signals.clone());
    codec::check_config(&PatchBasisConfig::new().with_gain(0.5), &device);
    let message = PatchBasisConfig::new().with_gain(0.0).validate();
    assert!(message.unwrap_err().to_string().contains("gain"));
    let graph = device.clone().autodiff();
    let config = PatchBasisConfig::new();
    let loss = SquaredErrorConfig::new().init(&config, &graph).unwrap();
    let pictures = RandomStream::new(1).normal([3, 1, 8, 8], &graph);
    codec::check_objective(&loss, &config.init(&graph), None, pictures);
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
    let config = LatentLmConfig::image(2, tokens, spec.dim).with_sizes(sizes);
    let model = seeded(1, &device, |device| config.init(device));
    let whitening = Whitening {
        bias: 0.0,
        scale: 1.0,
    };
    let model = model.with_whitening(0, whitening);
    let stage = StageConfig {
        steps: 300,
        learning_rate: 3e-3,
        ..tiny_recipe(&[]).lm_train
    };
    let mut trainer = Trainer::new(model, &stage);
    let mut random = RandomStream::new(2);
    for _ in 0..stage.steps {
        let labels: Vec<u32> = (0..16).map(|i| i % 2).collect();
        let brightness: Vec<f32> = labels.iter().map(|&label| label as f32 - 0.5).collect();
        let brightness = Tensor::<1>::from_floats(brightness.as_slice(), &device);
        let pictures = brightness.reshape([16, 1, 1, 1]).expand([16, 1, 8, 8]);
        let latents = other.encode(pictures).mode();
        let latents = latents.reshape([16 * tokens, spec.dim]);
        let model = trainer.model();
        let head = model.head_of(0);
        let draws = head.draw(16 * tokens * 4, &mut random, &device);
        let documents = labels.iter();
        let documents = documents.map(|&label| Document::of_class(label, tokens));
        let batch = Batch::new(documents.collect(), vec![latents], vec![draws]);
        let loss = model.loss(batch).diffusion.remove(0);
        trainer.backward(loss);
    }
    let model = trainer.model().valid();
    let latents = model.draw_images(&[0, 1, 0, 1], &SampleOptions::default(), &mut random);
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
