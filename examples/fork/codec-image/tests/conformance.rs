//! The contracts of `latentlm-core`, run on this codec.

use burn::tensor::{Device, Tensor};
use fork_codec_image::{CodecConfig, CodecLossConfig};
use latentlm_core::conformance::{assert_close, codec, module};
use latentlm_core::{
    CodecObjectiveConfig, LatentCodec, LatentCodecConfig, PartConfig, RandomStream,
};

fn config() -> CodecConfig {
    CodecConfig::new()
        .with_channels(3)
        .with_image_size(8)
        .with_block(4)
        .with_coefficients(6)
}

fn pictures(device: &Device) -> Tensor<4> {
    RandomStream::new(1).normal([3, 3, 8, 8], device)
}

#[test]
fn codec_contract() {
    let device = Device::default();
    let codec = config().init(&device);
    codec::check(&codec, pictures(&device));
    codec::check_config(&config(), &device);
    let other = config().with_block(2).with_coefficients(4);
    codec::check_config(&other, &device);
}

#[test]
fn weights_survive_a_file() {
    let device = Device::default();
    // Larger blocks begin with other gains.
    let fresh = || config().with_block(8).init(&device);
    module::save_load_is_bit_equal(&config().init(&device), fresh);
}

#[test]
fn the_loss_moves_every_gain() {
    let device = Device::default().autodiff();
    let loss = CodecLossConfig::new().init(&config(), &device).unwrap();
    codec::check_objective(&loss, &config().init(&device), None, pictures(&device));
}

/// With all coefficients nothing is lost.
#[test]
fn the_whole_transform_is_lossless() {
    let device = Device::default();
    let codec = config().with_coefficients(16).init(&device);
    let decoded = codec.decode(codec.encode(pictures(&device)).mode());
    assert_close("all coefficients", decoded, pictures(&device), 1e-5);
}

/// A picture of one colour is the first coefficient of each block and nothing else.
#[test]
fn a_flat_picture_has_one_coefficient() {
    let device = Device::default();
    let codec = config().init(&device);
    let flat = Tensor::<4>::full([1, 3, 8, 8], 0.5, &device);
    let latents = codec.encode(flat.clone()).mode(); // [1, 4, 18]
    for channel in 0..3 {
        let rest = latents.clone().narrow(2, 6 * channel + 1, 5);
        assert!(rest.abs().max().into_scalar::<f32>() < 1e-6);
    }
    assert_close("a flat picture", codec.decode(latents), flat, 1e-6);
}

#[test]
fn impossible_configurations_are_refused() {
    for (config, part) in [
        (config().with_channels(2), "channels must be 1 or 3"),
        (config().with_block(3), "not a multiple of block 3"),
        (config().with_block(0), "not a multiple of block 0"),
        (config().with_coefficients(17), "has no 17 coefficients"),
        (config().with_noise_std(-1.0), "must not be negative"),
    ] {
        let message = config.validate().unwrap_err().to_string();
        assert!(message.contains(part), "{message}");
    }
}
