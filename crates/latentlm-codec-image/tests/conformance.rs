//! The codec contract for both architectures and every kind of noise, gradients included.

use burn::optim::{AdamConfig, GradientsParams};
use burn::tensor::{Device, Tensor};
use latentlm_codec_image::{
    Architecture, CodecConfig, CodecLossConfig, ConvConfig, ImageSigmaVae, NoiseKind, VitConfig,
};
use latentlm_core::conformance::{codec, module, seeded};
use latentlm_core::{
    CodecObjectiveConfig, LatentCodec, LatentCodecConfig, PartConfig, RandomStream,
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
    let noises = [NoiseKind::SigmaVae, NoiseKind::Fixed, NoiseKind::Learned];
    [Architecture::Conv, Architecture::Vit]
        .into_iter()
        .flat_map(|architecture| {
            let base = base.clone().with_architecture(architecture);
            noises.map(move |noise| base.clone().with_noise(noise))
        })
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
    let loss = CodecLossConfig::new()
        .with_adversarial_weight(0.5)
        .with_discriminator_width(4)
        .with_discriminator_layers(2);
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
