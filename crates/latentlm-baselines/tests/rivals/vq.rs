//! The vector-quantized codec and the language model of its codes.

use burn::module::Module;
use burn::tensor::{Device, Int, Tensor};
use latentlm_backbone::BackboneConfig;
use latentlm_baselines::{
    CodebookConfig, MllmVqLm, MllmVqLmConfig, TokenOptions, VqCodec, VqCodecConfig, VqLm,
    VqLmConfig,
};
use latentlm_codec_image::{CodecConfig, CodecLossConfig, ConvConfig, VitConfig};
use latentlm_core::conformance::{assert_close, module, seeded};
use latentlm_core::sequence::{Document, Segment};
use latentlm_core::{
    CodecDiscriminator, CodecObjective, CodecObjectiveConfig, LatentCodecConfig, LatentNoise,
    RandomStream,
};

use crate::{block, host, learn, moved};

const CLASSES: usize = 3;
const TOKENS: usize = 5;
const CODES: usize = 11;
const WIDTH: usize = 32;

fn lm(device: &Device) -> VqLm {
    let backbone = BackboneConfig::new(WIDTH, 2, 4)
        .with_kv_heads(2)
        .with_mlp_ratio(3.0);
    let config = VqLmConfig::new(CLASSES, TOKENS, CODES, backbone.with_condition_layer(false));
    seeded(5, device, |device| config.init(device))
}

fn mllm(device: &Device) -> MllmVqLm {
    let backbone = BackboneConfig::new(WIDTH, 2, 4).with_kv_heads(2);
    let backbone = backbone.with_mlp_ratio(3.0).with_condition_layer(false);
    let config = MllmVqLmConfig::new(5, CODES, false, backbone);
    seeded(5, device, |device| config.init(device))
}

/// Two texts with their pictures, and a picture with its caption. `<BOS>` is 5, `<EOS>` is 6.
fn documents() -> Vec<Document> {
    let text = |tokens: &[u32]| Segment::Text {
        tokens: tokens.to_vec(),
        learned: true,
    };
    let picture = |learned| Segment::Latents {
        modality: 0,
        frames: TOKENS,
        open_ended: false,
        said: Vec::new(),
        learned,
    };
    [
        vec![text(&[5, 1, 2]), picture(true)],
        vec![text(&[5, 3]), picture(true), text(&[6])],
        vec![text(&[5]), picture(false), text(&[4, 0, 6])],
    ]
    .map(|segments| Document { segments })
    .to_vec()
}

/// Codes of the pictures of the three documents; the third has the first picture again.
fn mllm_codes() -> Vec<i64> {
    let codes = host(codes(&Device::default()));
    [&codes[..], &codes[..TOKENS]].concat()
}

fn codec_config() -> VqCodecConfig {
    let vit = VitConfig::new()
        .with_patch_size(4)
        .with_encoder_width(16)
        .with_decoder_width(16)
        .with_encoder_depth(1)
        .with_decoder_depth(1);
    let codec = CodecConfig::new(ConvConfig::new(), vit)
        .with_image_size(8)
        .with_latent_dim(4);
    VqCodecConfig::new(codec).with_codebook(CodebookConfig::new().with_codes(16))
}

fn codec(device: &Device) -> VqCodec {
    seeded(5, device, |device| codec_config().init(device))
}

fn pictures(device: &Device) -> Tensor<4> {
    RandomStream::new(1)
        .normal([2, 1, 8, 8], device)
        .clamp(-1.0, 1.0)
}

fn labels(device: &Device) -> Tensor<1, Int> {
    Tensor::from_ints([2, 0], device)
}

fn codes(device: &Device) -> Tensor<2, Int> {
    Tensor::from_ints([[1, 9, 3, 3, 0], [4, 10, 2, 7, 5]], device)
}

#[test]
fn parameters_are_those_of_the_closed_form() {
    let device = Device::default();
    let tables = (CLASSES + 1) * WIDTH + CODES * WIDTH;
    let expected = tables + 2 * block(WIDTH, 4, 2, 64);
    assert_eq!(lm(&device).num_params(), expected);
    let codec = codec(&device);
    let networks = codec_config().codec.init(&device).num_params();
    assert_eq!(codec.num_params(), networks + 16 * 4);
}

#[test]
fn gradient_reaches_every_parameter() {
    let device = Device::default().autodiff();
    let model = moved(lm(&device));
    let gradients = model.loss(labels(&device), codes(&device)).backward();
    module::gradient_reaches_every_parameter(&model, &gradients);

    let codec = codec(&device);
    let pixels = codec_config()
        .init_loss(&CodecLossConfig::default(), &device)
        .unwrap();
    let loss = codec.loss(&pixels, pictures(&device), None);
    module::gradient_reaches_every_parameter(&codec, &loss.total.backward());
}

/// The objective is the codec's loss, whatever noise it is given; its names for the log are in order.
/// The discriminator's gradient stays in the discriminator.
#[test]
fn the_objective_is_the_loss_of_the_codec() {
    let device = Device::default().autodiff();
    let (config, codec) = (codec_config(), codec(&device));
    let mut losses = CodecLossConfig::default();
    losses.patches.weight = 1.0;
    (losses.patches.width, losses.patches.layers) = (4, 2);
    let discriminator = seeded(6, &device, |device| {
        losses.init_discriminator(&config.codec, device)
    });
    let pixels = config.init_loss(&losses, &device).unwrap();
    let objective = config.init_objective(&losses, &device).unwrap();
    for discriminator in [None, discriminator.as_ref()] {
        let expected = codec.loss(&pixels, pictures(&device), discriminator);
        let noise = LatentNoise::draw([2, 4, 4], &mut RandomStream::new(9), &device);
        let output = objective.loss(&codec, pictures(&device), noise, discriminator);
        assert_close("total", output.total, expected.total, 1e-6);
        assert_close(
            "decoded",
            output.decoded.clone(),
            expected.pixels.decoded,
            1e-6,
        );
        let names: Vec<&str> = output.values.iter().map(|(name, _)| *name).collect();
        let commitment = output.values[1].1.clone();
        let expected = expected.quantized.commitment_loss;
        assert_close("commitment", commitment, expected, 1e-6);
        let Some(discriminator) = discriminator else {
            assert_eq!(names, ["reconstruction", "commitment"]);
            continue;
        };
        assert_eq!(names, ["reconstruction", "commitment", "adversarial"]);
        let loss = CodecDiscriminator::loss(discriminator, pictures(&device), output.decoded);
        let gradients = loss.backward();
        module::no_gradient_reaches(&codec, &gradients);
        module::some_gradient_reaches(discriminator, &gradients);
    }
}

#[test]
fn weights_survive_a_file() {
    let device = Device::default();
    let graph = device.clone().autodiff();
    module::save_load_is_bit_equal(&moved(lm(&graph)).valid(), || lm(&device));
    module::save_load_is_bit_equal(&moved(codec(&graph)).valid(), || codec(&device));
}

/// The loss of an untrained model is near that of the uniform distribution.
#[test]
fn the_loss_begins_near_the_uniform_distribution() {
    let device = Device::default();
    let loss = lm(&device).loss(labels(&device), codes(&device));
    let loss = loss.into_scalar::<f32>();
    assert!((loss - (CODES as f32).ln()).abs() < 0.3, "{loss}");
}

#[test]
fn logits_do_not_depend_on_their_own_code() {
    let device = Device::default();
    let model = moved(lm(&device.clone().autodiff())).valid();
    let plain = model.logits(labels(&device), codes(&device));
    let changed = Tensor::<2, Int>::from_ints([[1, 9, 3, 8, 8], [4, 10, 2, 0, 0]], &device);
    let other = model.logits(labels(&device), changed);
    assert_close(
        "logits up to the first change",
        other.clone().narrow(1, 0, 4),
        plain.clone().narrow(1, 0, 4),
        1e-6,
    );
    let moved = (other - plain).abs().max().into_scalar::<f32>();
    assert!(moved > 1e-4, "the logit after a change differs");
}

/// Temperature 0 takes the most likely code. Each must have the largest guided logit in a pass
/// without cache over the sampled codes.
#[test]
fn generation_agrees_with_the_parallel_pass() {
    let device = Device::default();
    let model = moved(lm(&device.clone().autodiff())).valid();
    let options = TokenOptions {
        temperature: 0.0,
        guidance_scale: 2.0,
        ..TokenOptions::default()
    };
    let drawn = model.generate(labels(&device), &options, &mut RandomStream::new(1));
    let cond = model.logits(labels(&device), drawn.clone());
    let null = model.logits(model.label.null(2, &device), drawn.clone());
    let best = (null.clone() + (cond - null).mul_scalar(2.0)).argmax(2);
    assert_eq!(host(best.reshape([2, TOKENS])), host(drawn));
}

#[test]
fn draws_repeat() {
    let device = Device::default();
    let model = moved(lm(&device.clone().autodiff())).valid();
    let labels = Tensor::<1, Int>::from_ints([0, 1, 2, 0, 1, 2, 0, 1, 2], &device);
    let options = TokenOptions {
        top_k: 8,
        ..TokenOptions::default()
    };
    let draw = |seed| {
        let mut random = RandomStream::new(seed);
        host(model.generate(labels.clone(), &options, &mut random))
    };
    assert_eq!(draw(1), draw(1));
    assert_ne!(draw(1), draw(2));
}

#[test]
fn two_sequences_can_be_learned() {
    let device = Device::default().autodiff();
    let (before, after, model) = learn(lm(&device), 80, 1e-2, |model: &VqLm| {
        model.loss(labels(&device), codes(&device))
    });
    assert!(after < before / 10.0, "{before} to {after}");
    let plain = Device::default();
    let options = TokenOptions {
        temperature: 0.0,
        ..TokenOptions::default()
    };
    let drawn = model
        .valid()
        .generate(labels(&plain), &options, &mut RandomStream::new(1));
    assert_eq!(host(drawn), host(codes(&plain)));
}

#[test]
fn two_pictures_can_be_learned() {
    let device = Device::default().autodiff();
    let codec = codec(&device);
    let pixels = codec_config()
        .init_loss(&CodecLossConfig::default(), &device)
        .unwrap();
    // As at the start of training: codes are replaced by latents.
    let latents = codec.encode_latents(pictures(&device));
    let all: Vec<usize> = (0..codec.quantizer.codes()).collect();
    let mut random = RandomStream::new(2);
    let codec = codec.restart(&all, latents, &mut random);
    let loss = |codec: &VqCodec| codec.loss(&pixels, pictures(&device), None).total;
    let (before, after, codec) = learn(codec, 150, 5e-3, loss);
    assert!(after < before / 2.0, "{before} to {after}");
    let codec = codec.valid();
    let pictures = pictures(&Device::default());
    let decoded = codec.decode(codec.encode(pictures.clone()));
    let error = (decoded - pictures).square().mean().into_scalar::<f32>();
    assert!(
        error < before / 2.0,
        "codes alone carry the picture: {error}"
    );
}

/// The model can overfit texts of different lengths with their pictures, and a caption that follows
/// its picture.
#[test]
fn texts_and_their_pictures_can_be_learned() {
    let device = Device::default().autodiff();
    let model = moved(mllm(&device));
    let loss = |model: &MllmVqLm| model.surprise(&documents(), &mllm_codes(), &device).mean();
    module::gradient_reaches_every_parameter(&model, &loss(&model).backward());
    let (before, after, model) = learn(mllm(&device), 150, 1e-2, loss);
    let uniform = (5.0 + 5.0 + CODES as f32).ln();
    assert!((before - uniform).abs() < 0.3, "{before} for {uniform}");
    // Nothing predicts which of the three texts comes: that costs ln 3 for each document.
    assert!(after < before / 8.0, "{before} to {after}");
    let plain = Device::default();
    let options = TokenOptions {
        temperature: 0.0,
        ..TokenOptions::default()
    };
    let mut random = RandomStream::new(1);
    let texts = [vec![1, 2], vec![3]];
    let model = model.valid();
    let drawn = model.generate(&texts, TOKENS, &options, &mut random, &plain);
    assert_eq!(host(drawn), host(codes(&plain)));
    let read = &documents()[2..];
    let known = host(codes(&plain));
    let right = model.surprise(read, &known[..TOKENS], &plain).max();
    assert!(right.into_scalar::<f32>() < 0.5, "the caption is known");
    module::save_load_is_bit_equal(&model, || mllm(&plain));
}

/// Tokens and codes have a mean each, and the weights of documents apply to tokens.
#[test]
fn the_joint_loss_is_of_words_and_of_codes() {
    let device = Device::default();
    let model = moved(mllm(&device.clone().autodiff())).valid();
    let (documents, codes) = (documents(), mllm_codes());
    let nats = host_floats(model.surprise(&documents, &codes, &device));
    // Words: 1, 2 and <BOD>; 3, <BOD> and stop; 4, 0 and stop. Codes: two pictures.
    let sum = |from: usize, to: usize| nats[from..to].iter().sum::<f32>();
    assert_eq!(nats.len(), 9 + 2 * TOKENS);
    let loss = |weights: &[f64]| {
        let loss = model.loss(&documents, &codes, weights, &device);
        [loss.token, loss.diffusion[0].clone()].map(|part| part.into_scalar::<f32>())
    };
    let expected = [
        (sum(0, 6) + 4.0 * sum(6, 9)) / (6.0 + 4.0 * 3.0),
        sum(9, 9 + 2 * TOKENS) / (2 * TOKENS) as f32,
    ];
    for (found, expected) in loss(&[1.0, 1.0, 4.0]).iter().zip(expected) {
        assert!((found - expected).abs() < 1e-4, "{found} for {expected}");
    }
    assert!((loss(&[1.0; 3])[0] - sum(0, 9) / 9.0).abs() < 1e-4);
}

/// Greedy codes have the largest guided logits in a pass over whole documents.
#[test]
fn guided_pictures_agree_with_whole_documents() {
    let device = Device::default();
    let model = moved(mllm(&device.clone().autodiff())).valid();
    let options = TokenOptions {
        temperature: 0.0,
        guidance_scale: 2.0,
        ..TokenOptions::default()
    };
    let texts = [vec![1, 2, 3], vec![4]];
    let mut random = RandomStream::new(1);
    let drawn = model.generate(&texts, TOKENS, &options, &mut random, &device);
    let drawn = host(drawn);
    let logits = |text: &[u32], codes: &[i64]| {
        // With a code in the last place, log p of that code is its logit up to a constant.
        let start = [&[5], text].concat();
        let logit = |code: i64| {
            let text = Segment::Text {
                tokens: start.clone(),
                learned: false,
            };
            let picture = Segment::Latents {
                modality: 0,
                frames: codes.len() + 1,
                open_ended: false,
                said: Vec::new(),
                learned: true,
            };
            let document = Document {
                segments: vec![text, picture],
            };
            let codes = [codes, &[code]].concat();
            let surprise = model.surprise(&[document], &codes, &device);
            -host_floats(surprise)[codes.len() - 1]
        };
        (0..CODES as i64).map(logit).collect::<Vec<f32>>()
    };
    for (text, drawn) in texts.iter().zip(drawn.chunks(TOKENS)) {
        for position in 0..TOKENS {
            let before = &drawn[..position];
            let (cond, null) = (logits(text, before), logits(&[], before));
            let guided = |code: &usize| null[*code] + 2.0 * (cond[*code] - null[*code]);
            let best = (0..CODES).max_by(|a, b| guided(a).total_cmp(&guided(b)));
            assert_eq!(best, Some(drawn[position] as usize));
        }
    }
}

fn host_floats(x: Tensor<1>) -> Vec<f32> {
    x.into_data().convert::<f32>().try_into_vec().unwrap()
}

#[test]
fn impossible_configurations_are_refused() {
    let backbone = BackboneConfig::new(WIDTH, 2, 4);
    let lm = VqLmConfig::new(CLASSES, TOKENS, 1, backbone);
    let codebook = CodebookConfig::new();
    let codec = codec_config().with_codebook(codebook.with_commitment_weight(0.0));
    let small = codec_config().with_codebook(codebook.with_codes(1));
    for (message, part) in [
        (lm.validate().unwrap_err().to_string(), "codes 2 or more"),
        (
            codec.validate().unwrap_err().to_string(),
            "must be positive",
        ),
        (small.validate().unwrap_err().to_string(), "2 or more"),
    ] {
        assert!(message.contains(part), "{message}");
    }
}
