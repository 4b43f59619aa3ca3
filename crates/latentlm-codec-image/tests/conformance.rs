//! The codec contract for both architectures and every kind of noise, gradients included.

use std::ops::Range;

use burn::config::Config;
use burn::optim::{AdamConfig, GradientsParams};
use burn::tensor::{Device, Tensor};
use latentlm_codec_image::{
    Architecture, CodecConfig, CodecLoss, CodecLossConfig, ConvConfig, ImageSigmaVae,
    LatentsConfig, NoiseKind, VitConfig,
};
use latentlm_core::conformance::{codec, module, seeded};
use latentlm_core::{
    CodecObjective, CodecObjectiveConfig, LatentCodec, LatentCodecConfig, LatentNoise, PartConfig,
    RandomStream,
};

fn configs() -> Vec<CodecConfig> {
    let conv = ConvConfig::new()
        .with_base_width(4)
        .with_multipliers(vec![2, 2]);
    let vit = VitConfig::new()
        .with_patch_size(4)
        .with_encoder_width(16)
        .with_decoder_width(24)
        .with_encoder_depth(1)
        .with_decoder_depth(1);
    let base = CodecConfig::new(conv, vit)
        .with_channels(3)
        .with_image_size(8)
        .with_latent_dim(5);
    let noises = [
        NoiseKind::SigmaVae,
        NoiseKind::Fixed,
        NoiseKind::Learned,
        NoiseKind::Interpolated,
    ];
    [Architecture::Conv, Architecture::Vit]
        .into_iter()
        .flat_map(|architecture| {
            let base = base.clone().with_architecture(architecture);
            noises.map(move |noise| base.clone().with_noise(noise))
        })
        .collect()
}

/// Codecs of every architecture with other keys of `latents`.
fn with_latents(latents: &LatentsConfig) -> Vec<CodecConfig> {
    let mut configs = configs();
    configs.retain(|config| config.noise == NoiseKind::SigmaVae);
    let configs = configs.into_iter();
    configs
        .map(|config| config.with_latents(latents.clone()))
        .collect()
}

fn init(config: &CodecConfig, seed: u64, device: &Device) -> ImageSigmaVae {
    seeded(seed, device, |device| config.init(device))
}

fn pictures(device: &Device) -> Tensor<4> {
    RandomStream::new(1)
        .normal([4, 3, 8, 8], device)
        .clamp(-1.0, 1.0)
}

#[test]
fn codec_contract() {
    let device = Device::default();
    for config in configs() {
        codec::check(&init(&config, 1, &device), pictures(&device));
        codec::check_config(&config, &device);
    }
}

#[test]
fn weights_survive_a_file() {
    let device = Device::default();
    for config in configs() {
        module::save_load_is_bit_equal(&init(&config, 1, &device), || init(&config, 2, &device));
    }
}

#[test]
fn the_loss_moves_the_codec_and_the_discriminators_does_not() {
    let device = Device::default().autodiff();
    let mut loss = CodecLossConfig::default();
    loss.patches.weight = 0.5;
    (loss.patches.width, loss.patches.layers) = (4, 2);
    for config in configs() {
        let codec = init(&config, 1, &device);
        let objective = loss.init(&config, &device).unwrap();
        let discriminator = seeded(2, &device, |device| {
            loss.init_discriminator(&config, device)
        });
        let pictures = pictures(&device);
        codec::check_objective(&objective, &codec, discriminator.as_ref(), pictures);
    }
}

#[test]
fn gradient_agrees_with_finite_differences() {
    let device = Device::default().autodiff();
    for config in configs() {
        let codec = init(&config, 1, &device);
        let what = format!("{config:?}");
        module::gradient_agrees_with_finite_differences(&what, pictures(&device), |x| {
            codec.decode(codec.encode(x).mode()).square().mean()
        });
    }
}

/// What sigma-VAE noise is: one scale a picture, of deviation `noise_std / 0.8`, mean untouched.
#[test]
fn noise_has_one_scale_a_picture() {
    let device = Device::default();
    let codec = init(&configs()[0], 1, &device);
    let posterior = codec.encode(pictures(&device));
    let scale = Tensor::<1>::from_floats([0.0, 1.0, -1.0, 2.0], &device);
    let eps = RandomStream::new(3).normal(posterior.mean.dims(), &device);
    let added = posterior.sample(scale, eps.clone()) - posterior.mode();
    let std = 0.75 / 0.8;
    for (row, factor) in [0.0, 1.0, -1.0, 2.0].into_iter().enumerate() {
        let expected = eps.clone().narrow(0, row, 1).mul_scalar(factor * std);
        let got = added.clone().narrow(0, row, 1);
        assert!(got.all_close(expected, None, Some(1e-5)), "row {row}");
    }
}

#[test]
fn latents_on_a_sphere_have_one_norm_with_and_without_noise() {
    let device = Device::default();
    let latents = LatentsConfig {
        sphere: true,
        ..LatentsConfig::default()
    };
    for config in with_latents(&latents) {
        let codec = init(&config, 1, &device);
        assert!(config.on_sphere());
        codec::check(&codec, pictures(&device));
        codec::check_config(&config, &device);
        let posterior = codec.encode(pictures(&device));
        let noise = LatentNoise::draw([4, 4, 5], &mut RandomStream::new(3), &device);
        for latents in [posterior.mode(), posterior.sample(noise.scale, noise.eps)] {
            let norms: Vec<f32> = latents
                .square()
                .sum_dim(2)
                .sqrt()
                .into_data()
                .try_to_vec()
                .unwrap();
            for norm in norms {
                assert!((norm - 5f32.sqrt()).abs() < 1e-5, "{norm}");
            }
        }
    }
    assert!(!configs()[0].on_sphere());
}

/// The mask is one more parameter, which learns. Shards have their own rows of it.
#[test]
fn a_masked_codec_learns_its_token() {
    let device = Device::default().autodiff();
    let latents = LatentsConfig {
        masked_share: 0.9,
        ..LatentsConfig::default()
    };
    let plain = with_latents(&LatentsConfig::default());
    for (config, plain) in with_latents(&latents).iter().zip(plain) {
        let codec = init(config, 1, &device);
        codec::check_config(config, &device);
        let pixels = 3 * config.patch() * config.patch();
        let count = |config: &CodecConfig| config.parameter_count(&device);
        assert_eq!(count(config), count(&plain) + pixels);
        let objective = CodecLossConfig::default().init(config, &device).unwrap();
        let shape = config.spec().shape_of(&pictures(&device));
        let noise = LatentNoise::draw(shape, &mut RandomStream::new(3), &device);
        let loss = |objective: &CodecLoss| {
            let output = objective.loss(&codec, pictures(&device), noise.clone(), None);
            output.total
        };
        let unmasked = loss(&objective);
        let random = &mut RandomStream::new(4);
        let masked = objective.clone().for_batch(shape, random, &device);
        let gradients = loss(&masked).backward();
        module::gradient_reaches_every_parameter(&codec, &gradients);
        let [unmasked, whole] = [unmasked, loss(&masked)].map(|loss| loss.into_scalar::<f32>());
        assert_ne!(unmasked, whole);
        // All terms are means over pictures.
        let halves = [0..2, 2..4].map(|rows: Range<usize>| {
            let own = masked.clone().for_rows(rows.clone());
            let pictures = pictures(&device).narrow(0, rows.start, 2);
            let output = own.loss(&codec, pictures, noise.rows(rows), None);
            output.total.into_scalar::<f32>()
        });
        let mean = (halves[0] + halves[1]) / 2.0;
        assert!((mean - whole).abs() < 1e-5, "{mean} {whole}");
    }
}

/// Checkpoints of older versions have no table `latents`.
#[test]
fn a_configuration_without_latents_has_the_defaults() {
    let config = configs().remove(0);
    let text = config.to_string();
    let name = text.find("\"latents\"").unwrap();
    // With the comma before it: fields with a default come last, and this one is the last of them.
    let start = text[..name].rfind(',').unwrap();
    let end = start + text[start..].find('}').unwrap() + 1;
    let older = [&text[..start], &text[end..]].concat();
    assert!(!older.contains("masked_share"), "{older}");
    assert_eq!(CodecConfig::load_binary(older.as_bytes()).unwrap(), config);
    assert_eq!(CodecConfig::load_binary(text.as_bytes()).unwrap(), config);
}

#[test]
fn a_few_pictures_can_be_learned() {
    let device = Device::default().autodiff();
    for config in configs() {
        let mut codec = init(&config.with_noise_std(0.0), 1, &device);
        let mut optimizer = AdamConfig::new().init();
        let error = |codec: &ImageSigmaVae| {
            let decoded = codec.decode(codec.encode(pictures(&device)).mode());
            (decoded - pictures(&device)).square().mean()
        };
        let before = error(&codec).into_scalar::<f32>();
        for _ in 0..150 {
            let gradients = GradientsParams::from_grads(error(&codec).backward(), &codec);
            codec = optimizer.step(3e-3, codec, gradients);
        }
        let after = error(&codec).into_scalar::<f32>();
        assert!(after < before / 2.0, "{before} to {after}");
    }
}

#[test]
fn wrong_configurations_are_refused() {
    let base = configs().remove(0);
    let conv = base.conv.clone();
    let vit = base.clone().with_architecture(Architecture::Vit);
    let sizes = base.vit.clone();
    for (config, part) in [
        (base.clone().with_channels(2), "channels"),
        (base.clone().with_image_size(10), "not a multiple"),
        (base.clone().with_noise_std(-1.0), "noise_std"),
        (base.clone().with_latent_dim(0), "latent_dim"),
        (
            base.clone().with_latents(LatentsConfig {
                masked_share: 1.5,
                ..LatentsConfig::default()
            }),
            "latents.masked_share",
        ),
        (
            base.clone()
                .with_noise(NoiseKind::Learned)
                .with_latents(LatentsConfig {
                    sphere: true,
                    ..LatentsConfig::default()
                }),
            "latents.sphere has no learned variance",
        ),
        (
            CodecConfig {
                conv: conv.clone().with_norm_groups(3),
                ..base.clone()
            },
            "3 groups",
        ),
        (
            CodecConfig {
                conv: conv.with_multipliers(vec![]),
                ..base
            },
            "must be positive",
        ),
        (
            CodecConfig {
                vit: sizes.with_heads(5),
                ..vit
            },
            "vit.heads 5",
        ),
    ] {
        let message = config.validate().unwrap_err().to_string();
        assert!(message.contains(part), "{message}");
    }
}
