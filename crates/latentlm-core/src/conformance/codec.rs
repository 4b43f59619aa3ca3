//! Tests of the contract of codecs: correct geometry, independent rows, parameters that can be cached, a
//! configuration that can be saved, and a loss that trains the codec and not the discriminator.

use std::collections::HashSet;

use burn::module::Module;
use burn::tensor::{Device, Tensor};

use super::assert_close;
use super::module::{gradient_reaches_every_parameter, no_gradient_reaches, some_gradient_reaches};
use crate::{
    CodecDiscriminator, CodecObjective, LatentCodec, LatentCodecConfig, LatentNoise, Posterior,
    RandomStream, SignalLayout, StreamingCodec,
};

/// Checks the contract on a batch of at least two signals.
pub fn check<const D: usize, C: LatentCodec<D>>(codec: &C, signals: Tensor<D>) {
    let spec = codec.spec();
    let batch = signals.dims()[0];
    assert!(batch >= 2, "the suite wants two signals or more");
    let mean = codec.encode(signals.clone()).mode();
    let [rows, tokens, dim] = mean.dims();
    assert_eq!((rows, dim), (batch, spec.dim), "latents of spec {spec:?}");
    if let Some(expected) = spec.tokens() {
        assert_eq!(tokens, expected, "tokens of spec {spec:?}");
    }
    assert_eq!(
        mean.dims(),
        spec.shape_of(&signals),
        "shape of spec {spec:?}"
    );
    check_parameters(codec, &signals);
    let decoded = codec.decode(mean.clone());
    assert_eq!(decoded.dims()[0], batch, "decoded batch");

    let alone = codec.encode(signals.narrow(0, 1, 1)).mode();
    assert_close(
        "a signal encoded alone",
        alone.clone(),
        mean.narrow(0, 1, 1),
        1e-5,
    );
    let decoded_alone = codec.decode(alone);
    assert_close(
        "a latent decoded alone",
        decoded_alone,
        decoded.narrow(0, 1, 1),
        1e-5,
    );
}

/// The parameters that a latent cache keeps give the same posterior as encoding, for a whole batch and for a single
/// signal.
fn check_parameters<const D: usize, C: LatentCodec<D>>(codec: &C, signals: &Tensor<D>) {
    let encoded = codec.encode(signals.clone());
    let parameters = codec.encode_parameters(signals.clone());
    let [batch, tokens, _] = parameters.dims();
    let device = signals.device();
    let shape = encoded.mean.dims();
    assert_eq!([batch, tokens], [shape[0], shape[1]], "parameters");
    let noise = LatentNoise::draw(shape, &mut RandomStream::new(3), &device);
    let sample =
        |posterior: &Posterior, noise: LatentNoise| posterior.sample(noise.scale, noise.eps);
    let expected = sample(&encoded, noise.clone());
    let all = codec.posterior(parameters.clone());
    assert_close("means of parameters", all.mode(), encoded.mode(), 1e-5);
    let drawn = sample(&all, noise.clone());
    assert_close("latents of parameters", drawn, expected.clone(), 1e-5);
    let last = batch - 1;
    let one = codec.posterior(parameters.narrow(0, last, 1));
    let drawn = sample(&one, noise.rows(last..batch));
    let expected = expected.narrow(0, last, 1);
    assert_close("latents of a row of parameters", drawn, expected, 1e-5);
}

/// Checks a configuration: it is the same after writing and reading, and its geometry is that of the codec. Its
/// default and the presets of the shipped recipes must be valid.
pub fn check_config<const D: usize, C: LatentCodecConfig<D>>(config: &C, device: &Device) {
    let valid = |config: &C| {
        if let Err(error) = config.validate() {
            panic!("{config:?}: {error}");
        }
    };
    valid(config);
    valid(&C::default());
    for recipe in [
        "image/mnist",
        "mllm/twemoji",
        "tts/voice",
        "video/digits",
        "video/large",
        "none/of/them",
    ] {
        valid(&C::preset(recipe));
    }
    let codec = config.init(device);
    assert_eq!(codec.spec(), config.spec(), "{config:?}");
    assert_eq!(
        config.parameter_count(device),
        codec.num_params(),
        "{config:?}"
    );
    let text = toml::to_string(config).expect("a configuration is TOML");
    let read: C = toml::from_str(&text).expect("a readable table");
    assert_eq!(read, *config);
}

/// Checks the loss on a batch of signals, which must lie on an autodiff device as the codec does.
///
/// The gradient of the codec's loss reaches all parameters of the codec, with and without the discriminator. The
/// gradient of the discriminator's loss reaches the discriminator and not the codec. Names for the log are
/// unique.
pub fn check_objective<const D: usize, O: CodecObjective<D>>(
    objective: &O,
    codec: &O::Codec,
    discriminator: Option<&O::Discriminator>,
    signals: Tensor<D>,
) where
    O::Codec: LatentCodec<D>,
{
    let device = signals.device();
    let shape = codec.spec().shape_of(&signals);
    let noise = LatentNoise::draw(shape, &mut RandomStream::new(4), &device);
    let loss = |objective: &O, discriminator: Option<&O::Discriminator>| {
        objective.loss(codec, signals.clone(), noise.clone(), discriminator)
    };
    let alone = loss(objective, None);
    let names: Vec<&str> = alone.values.iter().map(|(name, _)| *name).collect();
    let different: HashSet<&str> = names.iter().copied().chain(["loss"]).collect();
    assert_eq!(different.len(), names.len() + 1, "names {names:?}");
    assert_eq!(alone.decoded.dims()[0], signals.dims()[0], "decoded batch");
    let moved = loss(&objective.clone().to_device(&device), None);
    assert_close("the loss moved", moved.total, alone.total.clone(), 1e-6);
    gradient_reaches_every_parameter(codec, &alone.total.backward());

    let Some(discriminator) = discriminator else {
        return;
    };
    let fixed = Module::no_grad(discriminator.clone());
    let judged = loss(objective, Some(&fixed));
    gradient_reaches_every_parameter(codec, &judged.total.backward());
    let own = CodecDiscriminator::loss(discriminator, signals, judged.decoded).backward();
    no_gradient_reaches(codec, &own);
    some_gradient_reaches(discriminator, &own);
}

/// Checks that streaming in chunks gives the same latents and signals as whole signals, for chunks of each size from
/// one step to all. A step is a hop of sound, or a group of frames.
pub fn check_streaming<const D: usize, C: StreamingCodec<D>>(codec: &C, signals: Tensor<D>) {
    let layout = codec.spec().layout;
    let axis = match layout {
        SignalLayout::Frames { .. } => D - 1,
        SignalLayout::Video { .. } => 1,
        SignalLayout::Grid { .. } => panic!("latents of a picture are no stream"),
    };
    let latents = codec.encode(signals.clone()).mode();
    let decoded = codec.decode(latents.clone());
    let tokens = latents.dims()[1];
    let steps = (1..=tokens).find(|&steps| layout.latents_of(steps) == tokens);
    let steps = steps.expect("latents of whole steps");
    for chunk in 1..=steps {
        let mut encoder = C::EncoderState::default();
        let mut decoder = C::DecoderState::default();
        for start in (0..steps).step_by(chunk) {
            let count = chunk.min(steps - start);
            let from = length_of(layout, start);
            let length = length_of(layout, start + count) - from;
            let signal = signals.clone().narrow(axis, from, length);
            let first = layout.latents_of(start);
            let own = layout.latents_of(start + count) - first;
            let expected = latents.clone().narrow(1, first, own);
            let got = codec.encode_step(signal, &mut encoder).mode();
            assert_close("latents of a chunk", got, expected.clone(), 1e-5);
            let got = codec.decode_step(expected, &mut decoder);
            let expected = decoded.clone().narrow(axis, from, length);
            assert_close("signal of a chunk", got, expected, 1e-5);
        }
    }
}

/// Samples or frames that the first steps of a stream stand for.
fn length_of(layout: SignalLayout, steps: usize) -> usize {
    match layout {
        SignalLayout::Frames { hop_samples, .. } => steps * hop_samples,
        SignalLayout::Video {
            frames_per_group, ..
        } if steps > 0 => 1 + (steps - 1) * frames_per_group,
        SignalLayout::Video { .. } | SignalLayout::Grid { .. } => 0,
    }
}
