//! DiT and Transfusion.

use burn::module::Module;
use burn::tensor::{Device, Int, Tensor};
use latentlm_baselines::{
    ClassConditional, DenoiserSizes, Dit, DitConfig, ImageDenoiser, TextTransfusion, Transfusion,
    TransfusionConfig,
};
use latentlm_core::conformance::{assert_close, module};
use latentlm_core::{DiffusionDraws, ModalityAdapter, RandomStream, SampleOptions, Sampler};
use latentlm_diffusion::solver;

use crate::{block, learn, moved};

const CLASSES: usize = 3;
const TOKENS: usize = 4;
const DIM: usize = 2;
const WIDTH: usize = 32;

fn sizes() -> DenoiserSizes {
    DenoiserSizes::new()
        .with_width(WIDTH)
        .with_depth(2)
        .with_heads(4)
        .with_kv_heads(2)
        .with_mlp_ratio(3.0)
}

fn dit(device: &Device) -> Dit {
    device.seed(5);
    DitConfig::new(CLASSES, TOKENS, DIM)
        .with_sizes(sizes())
        .init(device)
}

fn transfusion(device: &Device) -> Transfusion {
    device.seed(5);
    TransfusionConfig::new(CLASSES, TOKENS, DIM)
        .with_sizes(sizes())
        .init(device)
}

fn text(device: &Device) -> TextTransfusion {
    device.seed(5);
    TransfusionConfig::new(7, TOKENS, DIM)
        .with_sizes(sizes())
        .init_text(device)
}

fn labels(device: &Device) -> Tensor<1, Int> {
    Tensor::from_ints([2, 0], device)
}

fn batch<M: ImageDenoiser>(
    model: &ClassConditional<M>,
    repeats: usize,
    device: &Device,
) -> (Tensor<3>, DiffusionDraws) {
    let mut random = RandomStream::new(2);
    let latents = random.normal([2, TOKENS, DIM], device);
    (latents, model.image.draw(2 * repeats, &mut random, device))
}

#[test]
fn parameters_are_those_of_the_closed_form() {
    let device = Device::default();
    // floor(32 * 3 * 2/3 / 64) * 64
    let (mlp_width, depth) = (64, 2);
    let inner = block(WIDTH, 4, 2, mlp_width);
    let timestep = 256 * WIDTH + WIDTH * WIDTH;
    // Labels with the null label, projection of the latents, the two numbers of the whitening.
    let adapters = (CLASSES + 1) * WIDTH + DIM * WIDTH + WIDTH + 2;
    let around = adapters + timestep + WIDTH * DIM;
    assert_eq!(
        transfusion(&device).num_params(),
        around + depth * inner,
        "Transfusion"
    );
    let modulation = 6 * WIDTH * WIDTH;
    assert_eq!(
        dit(&device).num_params(),
        around + depth * (inner + modulation) + 2 * WIDTH * WIDTH,
        "DiT"
    );
}

/// The error of a model that predicts zero is the mean square of its target.
fn check_beginning<M: ImageDenoiser>(model: &ClassConditional<M>, device: &Device) {
    let (latents, draws) = batch(model, 3, device);
    let condition = model.label.embed(labels(device));
    let noisy = model.image.latent.embed(latents.clone());
    let timesteps = Tensor::from_floats([20.0, 700.0], device);
    let out = model.image.denoiser.denoise(noisy, timesteps, condition);
    assert_eq!(out.abs().max().into_scalar::<f32>(), 0.0);
    let clean = latents.clone().reshape([2, TOKENS * DIM]).repeat_dim(0, 3);
    let schedule = model.image.denoiser.schedule();
    let target = schedule.target(clean, draws.noise.clone(), draws.timesteps.clone());
    let loss = model.loss(labels(device), latents, draws);
    assert_close("loss", loss, target.square().mean(), 1e-6);
}

#[test]
fn a_new_model_predicts_exactly_zero() {
    let device = Device::default();
    check_beginning(&dit(&device), &device);
    check_beginning(&transfusion(&device), &device);
}

#[test]
fn gradient_reaches_every_parameter() {
    let device = Device::default().autodiff();
    let (dit, transfusion) = (moved(dit(&device)), moved(transfusion(&device)));
    let (latents, draws) = batch(&dit, 2, &device);
    let loss = dit.loss(labels(&device), latents.clone(), draws.clone());
    module::gradient_reaches_every_parameter(&dit, &loss.backward());
    let loss = transfusion.loss(labels(&device), latents.clone(), draws.clone());
    module::gradient_reaches_every_parameter(&transfusion, &loss.backward());

    let model = moved(text(&device));
    let tokens = Tensor::<2, Int>::from_ints([[1, 2, 3, 0], [4, 5, 6, 0]], &device);
    let loss = model.loss(tokens, latents, draws);
    let gradients = (loss.token + loss.diffusion).backward();
    module::gradient_reaches_every_parameter(&model, &gradients);
}

#[test]
fn weights_survive_a_file() {
    let device = Device::default();
    module::save_load_is_bit_equal(&dit(&device), || dit(&device));
    module::save_load_is_bit_equal(&transfusion(&device), || transfusion(&device));
    module::save_load_is_bit_equal(&text(&device), || text(&device));
}

/// How far a change of the last latent moves the prediction of the first.
fn reach<M: ImageDenoiser>(model: &ClassConditional<M>, device: &Device) -> f32 {
    let (latents, _) = batch(model, 1, device);
    let predict = |latents: Tensor<3>| {
        let condition = model.label.embed(labels(device));
        let timesteps = Tensor::from_floats([20.0, 700.0], device);
        let noisy = model.image.latent.embed(latents);
        let out = model.image.denoiser.denoise(noisy, timesteps, condition);
        out.narrow(1, 0, 1)
    };
    let last = latents.clone().narrow(1, TOKENS - 1, 1) + 1.0;
    let first = latents.clone().narrow(1, 0, TOKENS - 1);
    let changed = Tensor::cat(vec![first, last], 1);
    (predict(latents) - predict(changed))
        .abs()
        .max()
        .into_scalar::<f32>()
}

#[test]
fn the_first_latent_sees_the_last() {
    let device = Device::default();
    let autodiff = device.clone().autodiff();
    assert!(reach(&moved(dit(&autodiff)).valid(), &device) > 1e-4);
    assert!(reach(&moved(transfusion(&autodiff)).valid(), &device) > 1e-4);
}

#[test]
fn the_prefix_is_causal_and_does_not_see_the_image() {
    let device = Device::default();
    let model = moved(text(&device.clone().autodiff())).valid();
    let mut random = RandomStream::new(3);
    let noisy: Tensor<3> = random.normal([2, TOKENS, WIDTH], &device);
    let prefix: Tensor<3> = random.normal([2, 5, WIDTH], &device);
    let timesteps = Tensor::<1>::from_floats([20.0, 700.0], &device);
    let hidden = |noisy: &Tensor<3>, prefix: &Tensor<3>| {
        let network = &model.image.denoiser;
        network.hidden(noisy.clone(), timesteps.clone(), prefix.clone())
    };
    let plain = hidden(&noisy, &prefix);
    let other_image = hidden(&(noisy.clone() + 1.0), &prefix);
    assert_close("the prefix", other_image.prefix, plain.prefix.clone(), 1e-6);
    let end = prefix.clone().narrow(1, 4, 1) + 1.0;
    let changed = Tensor::cat(vec![prefix.narrow(1, 0, 4), end], 1);
    let other_text = hidden(&noisy, &changed);
    assert_close(
        "what stands before a changed token",
        other_text.prefix.narrow(1, 0, 4),
        plain.prefix.narrow(1, 0, 4),
        1e-6,
    );
    let moved = (other_text.image - plain.image).abs().max();
    assert!(moved.into_scalar::<f32>() > 1e-4, "the image sees the text");
}

/// Draws repeat, an image does not depend on its company (threads share a batch out), and guided
/// sampling is the plain loop over the network.
fn check_sampling<M: ImageDenoiser>(model: &ClassConditional<M>, device: &Device) {
    let options = SampleOptions {
        steps: 4,
        guidance_scale: 2.5,
        ..SampleOptions::default()
    };
    let labels = Tensor::<1, Int>::from_ints([0, 1, 2, 0, 1, 2, 0, 1, 2], device);
    for sampler in [Sampler::DpmSolverPlusPlus, Sampler::Ddpm] {
        let options = SampleOptions { sampler, ..options };
        let draw = |seed| model.generate(labels.clone(), &options, &mut RandomStream::new(seed));
        assert_eq!(draw(1).into_data(), draw(1).into_data());
        assert_ne!(draw(1).into_data(), draw(2).into_data());
    }
    let mut random = RandomStream::new(6);
    let noise = random.normal([9, TOKENS, DIM], device);
    let all = model.generate_from(labels.clone(), noise.clone(), &options, &mut random);
    let (label, start) = (labels.narrow(0, 5, 1), noise.narrow(0, 5, 1));
    let alone = model.generate_from(label.clone(), start.clone(), &options, &mut random);
    // Products of other sizes round differently, and each solver step hands that on.
    assert_close("an image alone", alone, all.clone().narrow(0, 5, 1), 1e-4);

    let network = &model.image.denoiser;
    let plan = solver::plan(options.sampler, network.schedule(), options.steps);
    let start = start.reshape([1, TOKENS * DIM]);
    let expected = solver::integrate(&plan, start, &mut random, |step, x| {
        let predict = |label: Tensor<1, Int>| {
            let noisy = x.clone().reshape([1, TOKENS, DIM]);
            let noisy = model.image.latent.embed(noisy);
            let timestep = Tensor::<1>::from_floats([plan[step].timestep as f32], device);
            let out = network.denoise(noisy, timestep, model.label.embed(label));
            out.reshape([1, TOKENS * DIM])
        };
        let (cond, null) = (predict(label.clone()), predict(model.label.null(1, device)));
        null.clone() + (cond - null).mul_scalar(2.5)
    });
    let got = all.narrow(0, 5, 1).reshape([1, TOKENS * DIM]);
    assert_close("guided sampling", got, expected, 1e-4);
}

#[test]
fn sampling_repeats_and_is_the_plain_loop() {
    let device = Device::default();
    let autodiff = device.clone().autodiff();
    check_sampling(&moved(dit(&autodiff)).valid(), &device);
    check_sampling(&moved(transfusion(&autodiff)).valid(), &device);
}

/// Two images with their noise can be learned by heart.
fn check_learning<M: ImageDenoiser>(what: &str, model: ClassConditional<M>, device: &Device)
where
    ClassConditional<M>: Module,
{
    let (latents, draws) = batch(&model, 1, device);
    let loss =
        |model: &ClassConditional<M>| model.loss(labels(device), latents.clone(), draws.clone());
    let (before, after, _) = learn(model, (80, 1e-2), loss);
    assert!(after < before / 4.0, "{what}: {before} to {after}");
}

#[test]
fn two_points_can_be_learned() {
    let device = Device::default().autodiff();
    check_learning("DiT", dit(&device), &device);
    check_learning("Transfusion", transfusion(&device), &device);

    let model = text(&device);
    let tokens = Tensor::<2, Int>::from_ints([[1, 2, 3, 0], [4, 5, 6, 0]], &device);
    let mut random = RandomStream::new(2);
    let latents: Tensor<3> = random.normal([2, TOKENS, DIM], &device);
    let draws = model.image.draw(2, &mut random, &device);
    let (before, after, _) = learn(model, (80, 1e-2), |model: &TextTransfusion| {
        let loss = model.loss(tokens.clone(), latents.clone(), draws.clone());
        loss.token + loss.diffusion
    });
    assert!(after < before / 4.0, "text: {before} to {after}");
}

/// An untrained softmax head is near the uniform distribution.
#[test]
fn the_text_loss_begins_at_its_closed_form() {
    let device = Device::default();
    let model = text(&device);
    let tokens = Tensor::<2, Int>::from_ints([[1, 2, 3, 0], [4, 5, 6, 0]], &device);
    let mut random = RandomStream::new(2);
    let latents: Tensor<3> = random.normal([2, TOKENS, DIM], &device);
    let draws = model.image.draw(4, &mut random, &device);
    let token = model
        .loss(tokens, latents, draws)
        .token
        .into_scalar::<f32>();
    assert!((token - 7f32.ln()).abs() < 0.3, "{token}");
}

#[test]
fn impossible_configurations_are_refused() {
    let dit = |tokens, sizes: DenoiserSizes| {
        let config = DitConfig::new(CLASSES, tokens, DIM).with_sizes(sizes);
        config.validate().unwrap_err().to_string()
    };
    let cases = [
        (dit(5, sizes()), "square grid"),
        (dit(0, sizes()), "must be positive"),
        (dit(4, sizes().with_width(30)), "not a multiple of heads"),
        (dit(4, sizes().with_num_train_timesteps(1)), "2 or more"),
        (
            dit(
                4,
                sizes()
                    .with_width(18)
                    .with_heads(3)
                    .with_kv_heads(3)
                    .with_mlp_ratio(9.0),
            ),
            "4 divides",
        ),
    ];
    for (message, part) in cases {
        assert!(message.contains(part), "{message}");
    }
    let config = TransfusionConfig::new(0, TOKENS, DIM).with_sizes(sizes());
    let message = config.validate().unwrap_err().to_string();
    assert!(message.starts_with("Transfusion: classes"), "{message}");
}
