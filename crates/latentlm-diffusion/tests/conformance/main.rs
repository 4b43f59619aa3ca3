//! The contracts of `latentlm-core` for the diffusion head, and its gradients.

use burn::module::{Module, ModuleMapper, Param};
use burn::tensor::{DType, Device, Tensor};
use latentlm_core::conformance::{assert_close, head, module, seeded};
use latentlm_core::{
    BetaSchedule, DistilledGuidance, HeadMethod, HeadSizes, LatentHead, LatentHeadConfig,
    Precision, RandomStream, SampleOptions, Sampler,
};
use latentlm_diffusion::{DiffusionHead, DiffusionHeadConfig, Prediction, solver};

mod methods;

fn config() -> DiffusionHeadConfig {
    DiffusionHeadConfig::new(3, 32)
        .with_depth(2)
        .with_mlp_ratio(6.0)
}

/// The image models' variant and VibeVoice's.
fn variants() -> [DiffusionHeadConfig; 2] {
    let speech = config()
        .with_mlp_width(48)
        .with_norm_weight(true)
        .with_input_bias(false)
        .with_condition_projection(true);
    [config(), speech]
}

fn init(config: &DiffusionHeadConfig, seed: u64, device: &Device) -> DiffusionHead {
    seeded(seed, device, |device| config.init(device))
}

/// A head whose parameters are no longer zero: noise is added to each.
fn moved(config: &DiffusionHeadConfig, seed: u64, device: &Device) -> DiffusionHead {
    let noise = RandomStream::for_step(seed, "noise", 0);
    init(config, seed, device).map(&mut Noise(noise))
}

struct Noise(RandomStream);

impl ModuleMapper for Noise {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let noise = self.0.normal(param.dims(), &param.device());
        param.map(|x| (x + noise.mul_scalar(0.1)).detach().require_grad())
    }
}

#[test]
fn head_contract() {
    let device = Device::default();
    for config in variants() {
        let head = moved(&config, 9, &device.clone().autodiff()).valid();
        head::check(&head, 32, &device);
    }
}

#[test]
fn weights_survive_a_file() {
    let device = Device::default();
    for config in variants() {
        module::save_load_is_bit_equal(&init(&config, 1, &device), || init(&config, 2, &device));
    }
}

fn learned_guidance() -> HeadMethod {
    HeadMethod {
        distilled_guidance: DistilledGuidance::Fixed,
        ..HeadMethod::default()
    }
}

#[test]
fn the_recipe_sizes_it() {
    let sizes = HeadSizes {
        latent_dim: 3,
        width: 32,
        depth: 2,
        mlp_ratio: 6.0,
        prediction: Prediction::Epsilon,
        schedule: BetaSchedule::Linear,
        num_train_timesteps: 500,
        method: learned_guidance(),
        recompute: true,
    };
    head::check_config::<DiffusionHeadConfig>(&sizes, &Device::default());
    let expected = config()
        .with_prediction(Prediction::Epsilon)
        .with_schedule(BetaSchedule::Linear)
        .with_num_train_timesteps(500)
        .with_method(learned_guidance())
        .with_recompute(true);
    assert_eq!(DiffusionHeadConfig::of(&sizes), expected);
}

#[test]
fn a_new_head_predicts_zero() {
    let device = Device::default();
    let head = init(&config(), 1, &device);
    let mut random = RandomStream::new(1);
    let out = head.denoise(
        random.normal([4, 3], &device),
        random.integers(4, 1000, &device).float(),
        random.normal([4, 32], &device),
    );
    assert_eq!(out.abs().max().into_scalar::<f32>(), 0.0);
}

fn loss(head: &DiffusionHead, device: &Device) -> Tensor<1> {
    let mut random = RandomStream::new(2);
    let latents = random.normal([8, 3], device);
    let condition = random.normal([8, 32], device);
    let draws = head.draw(8, &mut random, device);
    head.loss_at(latents, condition, draws)
}

#[test]
fn gradient_reaches_every_parameter() {
    let device = Device::default().autodiff();
    for config in variants() {
        let head = moved(&config, 9, &device);
        let gradients = loss(&head, &device).backward();
        module::gradient_reaches_every_parameter(&head, &gradients);
    }
}

/// The loss of an untrained head (it predicts zero) is the mean square of its target.
#[test]
fn loss_of_a_zero_head_is_the_mean_square_of_the_target() {
    let device = Device::default();
    for prediction in [Prediction::Epsilon, Prediction::Velocity] {
        let head = init(&config().with_prediction(prediction), 1, &device);
        let mut random = RandomStream::new(2);
        let latents = random.normal([8, 3], &device);
        let condition = random.normal([8, 32], &device);
        let draws = head.draw(8, &mut random, &device);
        let target = head.schedule().target(
            latents.clone(),
            draws.noise.clone(),
            draws.timesteps.clone(),
        );
        let expected = target.square().mean().into_scalar::<f32>();
        let got = head.loss_at(latents, condition, draws).into_scalar::<f32>();
        assert!(
            (got - expected).abs() < 1e-6,
            "{prediction:?}: {got} {expected}"
        );
    }
}

/// The sampler, which computes the modulations of many solver steps at once, agrees with a plain loop
/// over `denoise`.
#[test]
fn sampling_agrees_with_the_plain_loop() {
    let device = Device::default();
    for config in variants() {
        let head = moved(&config, 9, &device.clone().autodiff()).valid();
        check_sampling(&head, &device);
    }
}

fn check_sampling(head: &DiffusionHead, device: &Device) {
    let mut random = RandomStream::new(3);
    let condition = random.normal([5, 32], device);
    let null = random.normal([5, 32], device);
    let noise = random.normal([5, 3], device);
    let options = SampleOptions {
        steps: 7,
        guidance_scale: 2.5,
        ..SampleOptions::default()
    };
    let got = head.sample(
        condition.clone(),
        Some(null.clone()),
        noise.clone(),
        &options,
        &mut random,
    );
    let plan = solver::plan(options.sampler, head.schedule(), options.steps);
    let expected = solver::integrate(&plan, noise, &mut random, |step, x| {
        let t = Tensor::<1>::from_floats([plan[step].timestep as f32; 5], device);
        let cond = head.denoise(x.clone(), t.clone(), condition.clone());
        let uncond = head.denoise(x, t, null.clone());
        uncond.clone() + (cond - uncond).mul_scalar(2.5)
    });
    assert_close("guided sampling", got, expected, 1e-5);
}

/// Samples `rows` latents; the seed gives condition and noise.
fn sampled(
    head: &DiffusionHead,
    seed: u64,
    rows: usize,
    options: &SampleOptions,
    device: &Device,
) -> Tensor<2> {
    let mut random = RandomStream::new(seed);
    let condition = random.normal([rows, 32], device);
    let null = random.normal([rows, 32], device);
    let noise = random.normal([rows, 3], device);
    head.sample(condition, Some(null), noise, options, &mut random)
}

/// The kernel for a whole solver run agrees with the steps one by one. A head without autodiff takes
/// the kernel, a head with autodiff the steps. The numbers of rows cover one thread and several, one
/// block of rows and many.
#[test]
fn all_steps_at_once_are_the_steps() {
    let device = Device::default();
    let graph = device.clone().autodiff();
    let linear = config().with_depth(0);
    for config in variants().into_iter().chain([linear]) {
        for prediction in [Prediction::Velocity, Prediction::Epsilon] {
            let head = moved(&config.clone().with_prediction(prediction), 9, &graph);
            for (rows, steps, guidance_scale) in [
                (1, 1, 1.0),
                (1, 20, 3.0),
                (5, 2, 1.0),
                (5, 7, 2.5),
                (60, 20, 1.5),
                (200, 3, 1.0),
            ] {
                for sampler in [
                    Sampler::DpmSolverPlusPlus,
                    Sampler::Ddim,
                    Sampler::Ddpm,
                    Sampler::SdeDpmSolverPlusPlus,
                ] {
                    let options = SampleOptions {
                        sampler,
                        steps,
                        guidance_scale,
                        ..SampleOptions::default()
                    };
                    let got = sampled(&head.valid(), 4, rows, &options, &device);
                    let expected = sampled(&head, 4, rows, &options, &graph).inner();
                    let what = format!("{prediction:?}, {rows} rows, {options:?}");
                    assert_close(&what, got, expected, 1e-5);
                }
            }
        }
    }
}

/// Products in bfloat16 (eight bits of mantissa) are near float32 and not equal to it, for any number
/// of rows. Without bfloat16 instructions the two are equal.
///
/// A single latent may happen to be small, so the error is relative to the size of many latents:
/// both are root mean squares over many heads. A number rounded to eight bits has an error of up to
/// 2^-9 of itself, 1.1e-3 in the root mean square; a product of two has 1.6e-3. A solver step has
/// ten consecutive products (the input, four in each of two layers, the modulation, the output),
/// which makes 5e-3. Guidance of 1.5 takes 1.5 times one prediction and half of another, which
/// makes 8e-3. The weights are rounded alike in every step, so errors add up over steps as
/// predictions do. The bound is two and a half times that; a product of wrong numbers would have an
/// error of 1.
#[test]
fn bfloat16_is_near_float32() {
    const SEEDS: u64 = 24;
    let (device, graph) = (Device::default(), Device::default().autodiff());
    let options = SampleOptions {
        guidance_scale: 1.5,
        ..SampleOptions::default()
    };
    let rounded = SampleOptions {
        precision: Precision::Bf16,
        ..options
    };
    let square = |x: Tensor<2>| f64::from(x.square().mean().into_scalar::<f32>());
    for config in variants() {
        for rows in [1, 5, 60] {
            let (mut errors, mut sizes) = (0.0, 0.0);
            for seed in 0..SEEDS {
                let head = moved(&config, seed, &graph).valid();
                let expected = sampled(&head, seed, rows, &options, &device);
                let got = sampled(&head, seed, rows, &rounded, &device);
                sizes += square(expected.clone());
                errors += square(got - expected);
            }
            let error = (errors / sizes).sqrt();
            let bounds = if latentlm_kernels::has_bf16_head() {
                1e-4..2e-2
            } else {
                0.0..f64::MIN_POSITIVE
            };
            assert!(
                bounds.contains(&error),
                "{rows} rows: {error} of {bounds:?}"
            );
        }
    }
}

/// Rounds matrices to bfloat16 and keeps them in a precision. Vectors stay float32.
struct Rounded(DType);

impl ModuleMapper for Rounded {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        if D == 2 {
            param.map(|weight| weight.cast(DType::BF16).cast(self.0))
        } else {
            param
        }
    }
}

/// A head whose weights are stored in bfloat16 against one that has the same weights in float32, in one operation and
/// step by step. Only the other factors of products are rounded, which makes less than the bound of
/// [`bfloat16_is_near_float32`].
#[test]
fn weights_stored_in_bfloat16_sample_the_same_latents() {
    const SEEDS: u64 = 12;
    let (device, graph) = (Device::default(), Device::default().autodiff());
    let square = |x: Tensor<2>| f64::from(x.square().mean().into_scalar::<f32>());
    for sampler in [Sampler::DpmSolverPlusPlus, Sampler::Ddpm] {
        let options = SampleOptions {
            sampler,
            guidance_scale: 1.5,
            ..SampleOptions::default()
        };
        for config in variants() {
            for rows in [1, 60] {
                let (mut errors, mut sizes) = (0.0, 0.0);
                for seed in 0..SEEDS {
                    let head = moved(&config, seed, &graph).valid();
                    let [expected, got] = [DType::F32, DType::BF16].map(|dtype| {
                        let head = head.clone().map(&mut Rounded(dtype));
                        sampled(&head, seed, rows, &options, &device)
                    });
                    assert_eq!(got.dtype(), DType::F32);
                    sizes += square(expected.clone());
                    errors += square(got - expected);
                }
                let error = (errors / sizes).sqrt();
                assert!(error < 2e-2, "{sampler:?}, {rows} rows: {error}");
            }
        }
    }
}

/// Makes all parameters larger.
struct Grow;

impl ModuleMapper for Grow {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        param.map(|x| x.mul_scalar(1.25))
    }
}

/// A head that keeps its layouts draws the very latents of one that does not: once more, in another precision, and
/// after its weights have changed. At width 320 float32 weights are laid out in panels.
#[test]
fn a_prepared_head_draws_the_same_latents() {
    let (device, graph) = (Device::default(), Device::default().autodiff());
    for width in [32, 320] {
        let config = DiffusionHeadConfig::new(3, width).with_depth(2);
        // Each with weights of its own in memory.
        let [mut head, mut prepared] = [(); 2].map(|()| moved(&config, 9, &graph).valid());
        prepared.prepare_sampling();
        let mut random = RandomStream::new(4);
        let condition: Tensor<2> = random.normal([2, width], &device);
        let noise: Tensor<2> = random.normal([1, 3], &device);
        let draw = |head: &DiffusionHead, precision: Precision| {
            let options = SampleOptions {
                steps: 3,
                guidance_scale: 1.5,
                precision,
                ..SampleOptions::default()
            };
            let cond = condition.clone().narrow(0, 0, 1);
            let null = condition.clone().narrow(0, 1, 1);
            let random = &mut RandomStream::new(0);
            let latents = head.sample(cond, Some(null), noise.clone(), &options, random);
            latents.into_data()
        };
        let mut before = None;
        for _ in 0..2 {
            for precision in [Precision::F32, Precision::F32, Precision::Bf16] {
                let got = draw(&prepared, precision);
                assert_eq!(got, draw(&head, precision), "{width}, {precision:?}");
            }
            let now = draw(&prepared, Precision::F32);
            assert_ne!(before, Some(now.clone()), "other weights, other latents");
            before = Some(now);
            head = head.map(&mut Grow);
            prepared = prepared.map(&mut Grow);
        }
    }
}

/// The temperature scales the initial noise and nothing else.
#[test]
fn temperature_scales_the_noise() {
    let device = Device::default();
    let head = moved(&config(), 9, &device.clone().autodiff()).valid();
    let options = SampleOptions {
        steps: 5,
        ..SampleOptions::default()
    };
    let cool = SampleOptions {
        noise_temperature: 0.5,
        ..options
    };
    let mut random = RandomStream::new(1);
    let condition: Tensor<2> = random.normal([3, config().width], &device);
    let noise: Tensor<2> = random.normal([3, config().latent_dim], &device);
    let draw = |noise: Tensor<2>, options: &SampleOptions| {
        let random = &mut RandomStream::new(0);
        head.sample(condition.clone(), None, noise, options, random)
    };
    let got = draw(noise.clone(), &cool);
    let expected = draw(noise.clone().mul_scalar(0.5), &options);
    assert_close("half the noise", got.clone(), expected, 1e-6);
    let difference = (got - draw(noise, &options)).abs().max();
    assert!(
        difference.into_scalar::<f32>() > 1e-2,
        "nothing has changed"
    );
}
