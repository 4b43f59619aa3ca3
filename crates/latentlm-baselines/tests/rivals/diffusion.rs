//! DiT and Transfusion.

use burn::module::Module;
use burn::tensor::{Device, Int, Tensor};
use latentlm_baselines::{
    ClassConditional, DenoiserConfig, DenoiserSizes, Dit, DitNetwork, ImageDenoiser,
    MllmTransfusion, Transfusion, TransfusionNetwork,
};
use latentlm_core::conformance::{assert_close, module, seeded};
use latentlm_core::sequence::{Document, Segment};
use latentlm_core::{DiffusionDraws, Loss, RandomStream, SampleOptions, Sampler};
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
    let config = DenoiserConfig::new(CLASSES, TOKENS, DIM).with_sizes(sizes());
    seeded(5, device, |device| config.init(device))
}

fn transfusion(device: &Device) -> Transfusion {
    let config = DenoiserConfig::new(CLASSES, TOKENS, DIM).with_sizes(sizes());
    seeded(5, device, |device| config.init(device))
}

fn mllm(device: &Device) -> MllmTransfusion {
    let config = DenoiserConfig::new(7, TOKENS, DIM).with_sizes(sizes());
    seeded(5, device, |device| config.init_mllm(true, device))
}

/// The sum of both parts of a loss.
fn joint(mut loss: Loss) -> Tensor<1> {
    loss.token + loss.diffusion.remove(0)
}

fn words(tokens: &[u32], learned: bool) -> Segment {
    Segment::Text {
        tokens: tokens.to_vec(),
        learned,
    }
}

fn picture(learned: bool) -> Segment {
    Segment::Latents {
        modality: 0,
        frames: TOKENS,
        open_ended: false,
        said: Vec::new(),
        learned,
    }
}

/// A learned picture, a picture that is only read, text, and another learned picture. `<BOS>` is 7,
/// `<EOS>` is 8.
fn documents() -> Vec<Document> {
    [
        vec![words(&[7, 1, 2], true), picture(true), words(&[8], true)],
        vec![words(&[7], true), picture(false), words(&[3, 4, 8], true)],
        vec![words(&[7, 5, 6, 8], true)],
        vec![words(&[7, 3], true), picture(true)],
    ]
    .map(|segments| Document { segments })
    .to_vec()
}

/// The pictures of the documents, and timesteps and noise for the two that are learned.
fn mllm_batch(model: &MllmTransfusion, device: &Device) -> (Tensor<2>, DiffusionDraws) {
    let mut random = RandomStream::new(2);
    let images = random.normal([3, TOKENS * DIM], device);
    (images, model.image.draw(2, &mut random, device))
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
    // Labels with the null label, projection of the latents, the two scalars of the whitening.
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

/// The loss of a model that predicts zero is the mean square of its target.
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

    let model = moved(mllm(&device));
    let (images, draws) = mllm_batch(&model, &device);
    let loss = model.loss(&documents(), images, draws, &[1.0; 4]);
    let gradients = joint(loss).backward();
    module::gradient_reaches_every_parameter(&model, &gradients);
}

#[test]
fn weights_survive_a_file() {
    let device = Device::default();
    let graph = device.clone().autodiff();
    module::save_load_is_bit_equal(&moved(dit(&graph)).valid(), || dit(&device));
    let changed = moved(transfusion(&graph)).valid();
    module::save_load_is_bit_equal(&changed, || transfusion(&device));
    module::save_load_is_bit_equal(&moved(mllm(&graph)).valid(), || mllm(&device));
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
    let model = moved(mllm(&device.clone().autodiff())).valid();
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

/// Sampling is repeatable, an image does not depend on the others in its batch, although threads
/// split the batch, and guided sampling agrees with a plain loop over the network.
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
    // Matrix products of other sizes round differently, and each solver step passes that on.
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

/// The model can overfit two images with fixed noise.
fn check_learning<M: ImageDenoiser>(what: &str, model: ClassConditional<M>, device: &Device)
where
    ClassConditional<M>: Module,
{
    let (latents, draws) = batch(&model, 1, device);
    let loss =
        |model: &ClassConditional<M>| model.loss(labels(device), latents.clone(), draws.clone());
    let (before, after, _) = learn(model, 80, 1e-2, loss);
    assert!(after < before / 4.0, "{what}: {before} to {after}");
}

#[test]
fn two_points_can_be_learned() {
    let device = Device::default().autodiff();
    check_learning("DiT", dit(&device), &device);
    check_learning("Transfusion", transfusion(&device), &device);

    let model = mllm(&device);
    let (images, draws) = mllm_batch(&model, &device);
    let (before, after, _) = learn(model, 80, 1e-2, |model: &MllmTransfusion| {
        joint(model.loss(&documents(), images.clone(), draws.clone(), &[1.0; 4]))
    });
    assert!(after < before / 4.0, "text and images: {before} to {after}");
}

/// An untrained softmax head is near the uniform distribution, an untrained network predicts zero.
#[test]
fn the_joint_loss_begins_at_its_closed_forms() {
    let device = Device::default();
    let model = mllm(&device);
    let (images, draws) = mllm_batch(&model, &device);
    let loss = model.loss(&documents(), images.clone(), draws.clone(), &[1.0; 4]);
    let token = loss.token.into_scalar::<f32>();
    assert!((token - 12f32.ln()).abs() < 0.3, "{token} for 12 tokens");
    let drawn = [images.clone().narrow(0, 0, 1), images.narrow(0, 2, 1)];
    let schedule = model.image.denoiser.schedule();
    let target = schedule.target(Tensor::cat(drawn.to_vec(), 0), draws.noise, draws.timesteps);
    let diffusion = loss.diffusion[0].clone();
    assert_close("diffusion", diffusion, target.square().mean(), 1e-6);
}

/// The documents have four, three, three and two learned tokens. The second document has weight 5.
#[test]
fn a_document_weighs_as_much_as_it_is_told() {
    let device = Device::default();
    let model = moved(mllm(&device.clone().autodiff())).valid();
    let (images, draws) = mllm_batch(&model, &device);
    let documents = documents();
    let token = |weights: &[f64]| {
        let loss = model.loss(&documents, images.clone(), draws.clone(), weights);
        loss.token.into_scalar::<f32>()
    };
    let layout = model.layout(&documents);
    assert_eq!(layout.document_answers, [4, 3, 3, 2]);
    let alone = |index: usize| {
        let weights: Vec<f64> = (0..4).map(|i| f64::from(u8::from(i == index))).collect();
        token(&weights)
    };
    let sums = [0, 1, 2, 3].map(|i| alone(i) * layout.document_answers[i] as f32);
    let weighted = (sums[0] + 5.0 * sums[1] + sums[2] + sums[3]) / (4.0 + 15.0 + 3.0 + 2.0);
    assert!((token(&[1.0, 5.0, 1.0, 1.0]) - weighted).abs() < 1e-4);
    let plain = sums.iter().sum::<f32>() / 12.0;
    assert!((token(&[1.0; 4]) - plain).abs() < 1e-4);
}

#[test]
#[should_panic(expected = "a document with several pictures")]
fn a_document_has_one_picture() {
    let device = Device::default();
    let model = mllm(&device);
    let two = [Document {
        segments: vec![
            words(&[7], true),
            picture(false),
            words(&[1], true),
            picture(true),
        ],
    }];
    let images = Tensor::zeros([2, TOKENS * DIM], &device);
    let times = Tensor::zeros([2], &device);
    model.hidden(&two, &model.layout(&two), images, times);
}

/// Packing does not change hidden states. A document of a prompt and its picture has the hidden
/// states that the network gives to a prefix and an image.
#[test]
fn documents_are_what_each_is_alone() {
    let device = Device::default();
    let model = moved(mllm(&device.clone().autodiff())).valid();
    let (images, _) = mllm_batch(&model, &device);
    let times = Tensor::<1>::from_floats([20.0, 0.0, 700.0], &device);
    let hidden = |documents: &[Document], images: Tensor<2>, times: Tensor<1>| {
        model.hidden(documents, &model.layout(documents), images, times)
    };
    let documents = documents();
    let packed = hidden(&documents, images.clone(), times.clone());
    let (mut position, mut seen) = (0, 0);
    for document in &documents {
        let (length, count) = (document.positions(), document.frames(0) / TOKENS);
        let own = (images.clone(), times.clone());
        let own = (
            own.0.slice(seen..seen + count),
            own.1.slice(seen..seen + count),
        );
        let alone = hidden(std::slice::from_ref(document), own.0, own.1);
        let within = packed.clone().narrow(0, position, length);
        assert_close("a document's hidden states", within, alone, 1e-5);
        (position, seen) = (position + length, seen + count);
    }
    let request = [Document {
        segments: vec![words(&[7, 3], false), picture(true)],
    }];
    let (image, time) = (images.narrow(0, 2, 1), times.narrow(0, 2, 1));
    let begin = Tensor::<2, Int>::from_ints([[7, 3, 9]], &device);
    let prefix = model.token.embed(begin);
    let noisy = model
        .image
        .latent
        .embed(image.clone().reshape([1, TOKENS, DIM]));
    let expected = model.image.denoiser.hidden(noisy, time.clone(), prefix);
    let found = hidden(&request, image, time).unsqueeze_dim::<3>(0);
    let image = found.clone().narrow(1, 3, TOKENS);
    assert_close("image", image, expected.image, 1e-5);
    assert_close("prefix", found.narrow(1, 0, 3), expected.prefix, 1e-5);
}

/// Pictures for texts of different lengths: each is the same as alone, and agrees with a plain loop.
#[test]
fn pictures_are_drawn_for_texts() {
    let device = Device::default();
    let model = moved(mllm(&device.clone().autodiff())).valid();
    let options = SampleOptions {
        steps: 4,
        guidance_scale: 2.5,
        ..SampleOptions::default()
    };
    let texts: Vec<Vec<u32>> = vec![vec![1, 2, 3], vec![4], vec![]];
    let draw = |texts: &[Vec<u32>], seed| {
        model.generate(texts, &options, &mut RandomStream::new(seed), &device)
    };
    let all = draw(&texts, 1);
    assert_eq!(all.to_data(), draw(&texts, 1).into_data());
    assert_ne!(all.to_data(), draw(&texts, 2).into_data());
    // The first picture's noise is the stream's first.
    assert_close(
        "alone",
        draw(&texts[..1], 1),
        all.clone().narrow(0, 0, 1),
        1e-4,
    );

    let mut random = RandomStream::new(1);
    let noise = random.normal([3, TOKENS * DIM], &device).narrow(0, 0, 1);
    let network = &model.image.denoiser;
    let plan = solver::plan(options.sampler, network.schedule(), options.steps);
    let expected = solver::integrate(&plan, noise, &mut random, |step, x| {
        let predict = |tokens: &[i32]| {
            let prefix = Tensor::<1, Int>::from_ints(tokens, &device).unsqueeze_dim(0);
            let prefix = model.token.embed(prefix);
            let noisy = x.clone().reshape([1, TOKENS, DIM]);
            let noisy = model.image.latent.embed(noisy);
            let time = Tensor::<1>::from_floats([plan[step].timestep as f32], &device);
            let out = network.denoise(noisy, time, prefix);
            out.reshape([1, TOKENS * DIM])
        };
        let (cond, null) = (predict(&[7, 1, 2, 3, 9]), predict(&[7, 9]));
        null.clone() + (cond - null).mul_scalar(2.5)
    });
    let found = all.narrow(0, 0, 1).reshape([1, TOKENS * DIM]);
    assert_close("guided sampling", found, expected, 1e-4);
}

#[test]
fn impossible_configurations_are_refused() {
    let config = |tokens, sizes| DenoiserConfig::new(CLASSES, tokens, DIM).with_sizes(sizes);
    let refused = |config: DenoiserConfig| {
        let refused = config.validate::<DitNetwork>();
        refused.unwrap_err().to_string()
    };
    let dit = |tokens, sizes: DenoiserSizes| refused(config(tokens, sizes));
    let one_timestep = config(4, sizes()).with_num_train_timesteps(1);
    let cases = [
        (dit(5, sizes()), "square grid"),
        (dit(0, sizes()), "must be positive"),
        (dit(4, sizes().with_width(30)), "not a multiple of heads"),
        (refused(one_timestep), "2 or more"),
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
    let config = DenoiserConfig::new(0, TOKENS, DIM).with_sizes(sizes());
    let message = config.validate::<TransfusionNetwork>().unwrap_err();
    let message = message.to_string();
    assert!(message.starts_with("Transfusion: classes"), "{message}");
}
