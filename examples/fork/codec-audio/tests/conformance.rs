//! The contracts of `latentlm-core`, run on this codec.

use burn::tensor::{Device, Tensor};
use fork_codec_audio::{CodecConfig, CodecLossConfig};
use latentlm_core::conformance::{assert_close, codec, module};
use latentlm_core::{
    CodecObjectiveConfig, LatentCodec, LatentCodecConfig, PartConfig, RandomStream,
};

fn config() -> CodecConfig {
    CodecConfig::new()
        .with_hop_samples(12)
        .with_overlap_samples(5)
        .with_coefficients(7)
}

/// Two signals of six hops and a bit.
fn signals(device: &Device) -> Tensor<3> {
    let noise: Tensor<3> = RandomStream::new(1).normal([2, 1, 77], device);
    noise.mul_scalar(0.1)
}

/// The same without the bit.
fn whole_hops(device: &Device) -> Tensor<3> {
    signals(device).narrow(2, 0, 72)
}

#[test]
fn codec_contract() {
    let device = Device::default();
    codec::check(&config().init(&device), signals(&device));
    codec::check_config(&config(), &device);
}

#[test]
fn streaming_equals_the_whole() {
    let device = Device::default();
    codec::check_streaming(&config().init(&device), whole_hops(&device));
}

#[test]
fn weights_survive_a_file() {
    let device = Device::default();
    // Gains that begin elsewhere.
    let fresh = || config().with_signal_rms(1.0).init(&device);
    module::save_load_is_bit_equal(&config().init(&device), fresh);
}

#[test]
fn the_loss_moves_every_gain() {
    let device = Device::default().autodiff();
    let loss = CodecLossConfig::new().init(&config(), &device).unwrap();
    codec::check_objective(&loss, &config().init(&device), None, signals(&device));
}

/// With all coefficients nothing is lost, and nothing is late.
#[test]
fn the_whole_transform_is_lossless() {
    let device = Device::default();
    let codec = config().with_coefficients(12).init(&device);
    let decoded = codec.decode(codec.encode(signals(&device)).mode());
    assert_close("all coefficients", decoded, whole_hops(&device), 1e-5);
}

/// Latents and sound depend on nothing that comes later.
#[test]
fn is_causal() {
    let device = Device::default();
    let codec = config().init(&device);
    let latents = codec.encode(signals(&device)).mode();
    let start = codec.encode(signals(&device).narrow(2, 0, 3 * 12)).mode();
    assert_close("latents", start, latents.clone().narrow(1, 0, 3), 1e-6);
    let sound = codec.decode(latents.clone());
    let start = codec.decode(latents.narrow(1, 0, 3));
    assert_close("sound", start, sound.narrow(2, 0, 3 * 12), 1e-6);
}

/// Why there is an overlap: a steady sound needs fewer coefficients with it.
#[test]
fn the_overlap_saves_coefficients() {
    let device = Device::default();
    let wave: Vec<f32> = (0..72).map(|at| 0.1 * (at as f32 * 0.2).cos()).collect();
    let wave = Tensor::<1>::from_floats(wave.as_slice(), &device).reshape([1, 1, 72]);
    let error = |overlap: usize| {
        let codec = config().with_overlap_samples(overlap).init(&device);
        let decoded = codec.decode(codec.encode(wave.clone()).mode());
        let later = (decoded - wave.clone()).narrow(2, 12, 60);
        later.square().mean().into_scalar::<f32>()
    };
    assert!(error(6) < 0.5 * error(1), "{} {}", error(6), error(1));
}

#[test]
fn impossible_configurations_are_refused() {
    for (config, part) in [
        (config().with_overlap_samples(7), "at most half"),
        (config().with_overlap_samples(0), "must be positive"),
        (config().with_coefficients(13), "has no 13 coefficients"),
        (config().with_signal_rms(0.0), "signal_rms 0"),
        (config().with_noise_std(f64::NAN), "must not be negative"),
    ] {
        let message = config.validate().unwrap_err().to_string();
        assert!(message.contains(part), "{message}");
    }
}
