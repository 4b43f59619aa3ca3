//! The codec contract, streaming, causality, gradients.

use std::f64::consts::TAU;

use burn::config::Config;
use burn::module::Module;
use burn::optim::{AdamConfig, GradientsParams};
use burn::tensor::{Device, Tensor, TensorData};
use latentlm_codec_audio::{
    Codec, CodecConfig, CodecLossConfig, DecoderState, EncoderState, QuantizerConfig,
};
use latentlm_core::conformance::{assert_close, codec, module, seeded};
use latentlm_core::{
    CodecObjectiveConfig, LatentCodec, LatentCodecConfig, PartConfig, RandomStream, StreamingCodec,
};

/// Layer scales of 1: with the small ones that training starts with, a wrong layer would hide.
fn configs() -> Vec<CodecConfig> {
    let base = CodecConfig::new().with_width(4).with_layer_scale(1.0);
    vec![
        base.clone()
            .with_ratios(vec![2, 3])
            .with_depths(vec![1, 2, 1])
            .with_latent_dim(5),
        base.clone()
            .with_ratios(vec![3])
            .with_depths(vec![1, 1])
            .with_frames_per_latent(2)
            .with_latent_dim(6),
        base.with_ratios(vec![4])
            .with_depths(vec![1, 1])
            .with_latent_dim(9)
            .with_kernel_size(3)
            .with_channels(2),
    ]
}

fn init(config: &CodecConfig, seed: u64, device: &Device) -> Codec {
    seeded(seed, device, |device| config.init(device))
}

fn signals(config: &CodecConfig, frames: usize, device: &Device) -> Tensor<3> {
    let samples = frames * config.hop_samples();
    RandomStream::new(1).normal([2, config.channels, samples], device)
}

/// A codec of two codebooks.
fn quantized() -> CodecConfig {
    configs().remove(0).with_quantizer(QuantizerConfig {
        codebooks: 2,
        entries: 6,
        ..QuantizerConfig::default()
    })
}

/// A codec whose codebooks have learned from the signals of [`signals`].
fn taught(config: &CodecConfig, device: &Device) -> Codec {
    let codec = init(config, 1, device);
    let parameters = codec.encode_parameters(signals(config, 7, device));
    codec.learn_codebooks(parameters, &mut RandomStream::new(4))
}

#[test]
fn the_contract_with_codebooks() {
    let device = Device::default();
    let (config, codec) = (quantized(), taught(&quantized(), &device));
    codec::check(&codec, signals(&config, 7, &device));
    codec::check_config(&config, &device);
    codec::check_streaming(&codec, signals(&config, 7, &device));
    module::save_load_is_bit_equal(&codec, || init(&config, 2, &device));
    assert!(init(&configs()[0], 1, &device).quantizer().is_none());
}

/// Codes say all that the decoder gets, from whole signals and from streams.
#[test]
fn codes_are_the_latents() {
    let device = Device::default();
    let (config, codec) = (quantized(), taught(&quantized(), &device));
    let quantizer = codec.quantizer().unwrap();
    assert_eq!((quantizer.codebooks(), quantizer.entries()), (2, 6));
    let signal = signals(&config, 7, &device);
    let codes = quantizer.codes(codec.encode_parameters(signal.clone()));
    assert_eq!(codes.dims(), [2, 7, 2]);
    let latents = codec.encode(signal.clone()).mode();
    assert_close("latents", quantizer.latents(codes), latents.clone(), 0.0);
    let mut state = EncoderState::default();
    let mut parts = Vec::new();
    for frame in 0..7 {
        let hop = config.hop_samples();
        let chunk = signal.clone().narrow(2, frame * hop, hop);
        parts.push(quantizer.codes(codec.encode_parameters_step(chunk, &mut state)));
    }
    // Not the codes themselves: of two entries that are nearly alike, rounding decides.
    let streamed = quantizer.latents(Tensor::cat(parts, 1));
    assert_close("streamed", streamed, latents, 1e-5);
}

/// The commitment moves the encoder, and no gradient moves the codebooks.
#[test]
fn the_loss_with_codebooks_moves_the_codec() {
    let device = Device::default().autodiff();
    let loss = CodecLossConfig::new()
        .with_windows(vec![8, 16])
        .with_mel_bands(vec![2, 4]);
    let (config, codec) = (quantized(), taught(&quantized(), &device));
    let objective = loss.init(&config, &device).unwrap();
    codec::check_objective(&objective, &codec, None, signals(&config, 7, &device));
}

/// Recipes in checkpoints of older versions have no codebooks.
#[test]
fn a_table_without_codebooks_is_read() {
    let json = CodecConfig::new().to_string();
    let (before, _) = json.split_once("\"quantizer\"").unwrap();
    let older = format!("{}}}", before.trim_end().trim_end_matches(','));
    let read = CodecConfig::load_binary(older.as_bytes()).unwrap();
    assert_eq!(read, CodecConfig::new());
}

#[test]
fn codec_contract() {
    let device = Device::default();
    for config in configs() {
        codec::check(&init(&config, 1, &device), signals(&config, 7, &device));
        codec::check_config(&config, &device);
    }
}

#[test]
fn streaming_equals_the_whole() {
    let device = Device::default();
    for config in configs() {
        codec::check_streaming(&init(&config, 1, &device), signals(&config, 7, &device));
    }
}

/// A last hop that is not whole has a latent too, and changes none before it. It is not what silence behind
/// the signal would give.
#[test]
fn a_signal_is_encoded_to_its_end() {
    let device = Device::default();
    for config in configs() {
        let codec = init(&config, 1, &device);
        let (signal, hop) = (signals(&config, 3, &device), config.hop_samples());
        let whole = codec.encode(signal.clone()).mode();
        let same = codec.encode_to_end(signal.clone()).mode();
        assert_close("whole hops", same, whole.clone(), 1e-6);
        let cut = signal.narrow(2, 0, 3 * hop - 1);
        let to_end = codec.encode_to_end(cut.clone()).mode();
        assert_eq!(to_end.dims()[1], 3);
        let before = to_end.clone().narrow(1, 0, 2);
        assert_close("before the last", before, whole.narrow(1, 0, 2), 1e-6);
        let silence = Tensor::zeros([2, config.channels, 1], &device);
        let silent = codec.encode(Tensor::cat(vec![cut, silence], 2)).mode();
        let difference = (silent - to_end).abs().max().into_scalar::<f32>();
        assert!(difference > 0.0, "{config:?}");
    }
}

/// What comes later changes nothing before; what comes after the last whole hop changes nothing.
#[test]
fn is_causal() {
    let device = Device::default();
    for config in configs() {
        let codec = init(&config, 1, &device);
        let whole = signals(&config, 6, &device);
        let latents = codec.encode(whole.clone()).mode();
        let cut = 3 * config.hop_samples() + 1;
        let start = codec.encode(whole.narrow(2, 0, cut)).mode();
        assert_close("latents", start, latents.clone().narrow(1, 0, 3), 1e-6);
        let sound = codec.decode(latents.clone());
        let start = codec.decode(latents.narrow(1, 0, 3));
        let expected = sound.narrow(2, 0, 3 * config.hop_samples());
        assert_close("sound", start, expected, 1e-6);
    }
}

/// Streams of one batch do not mix, and a state goes on where it was left.
#[test]
fn states_are_values() {
    let device = Device::default();
    let config = &configs()[0];
    let codec = init(config, 1, &device);
    let hop = config.hop_samples();
    let signal = signals(config, 3, &device);
    let mut state = EncoderState::default();
    codec.encode_step(signal.clone().narrow(2, 0, hop), &mut state);
    let mut twin = state.clone();
    let next = signal.narrow(2, hop, hop);
    let a = codec.encode_step(next.clone(), &mut state).mode();
    let b = codec.encode_step(next, &mut twin).mode();
    assert_eq!(a.into_data(), b.into_data());
    let latents = RandomStream::new(2).normal([2, 1, 5], &device);
    let mut state = DecoderState::default();
    let both = codec.decode_step(latents.clone(), &mut state);
    let second = codec.decode_step(latents.narrow(0, 1, 1), &mut DecoderState::default());
    assert_close("a stream alone", second, both.narrow(0, 1, 1), 1e-6);
}

/// Two streams in a batch: the second begins one latent later, and goes on when the first has ended.
#[test]
fn streams_enter_and_leave_a_batch() {
    let device = Device::default();
    for config in configs() {
        let codec = init(&config, 1, &device);
        let (hop, signal) = (config.hop_samples(), signals(&config, 3, &device));
        let latents = codec.encode(signal.clone()).mode(); // [2, 3, Z]
        // Some hops of a stream's signal.
        let sound = |stream: usize, first: usize, hops: usize| {
            let own = signal.clone().narrow(0, stream, 1);
            own.narrow(2, first * hop, hops * hop)
        };
        let latent = |stream: usize, first: usize, count: usize| {
            let own = latents.clone().narrow(0, stream, 1);
            own.narrow(1, first, count)
        };
        let expected = [(0usize, 3usize), (1, 2)].map(|(stream, count)| {
            let decoded = codec.decode(latent(stream, 0, count));
            let encoded = codec.encode(sound(stream, 0, count)).mode();
            (decoded, encoded)
        });

        let mut encoders = [EncoderState::default(), EncoderState::default()];
        let mut decoders = [DecoderState::default(), DecoderState::default()];
        // The latent of each stream that is next, if it has one.
        for next in [
            [Some(0usize), None],
            [Some(1), Some(0)],
            [None, Some(1)],
            [Some(2), None],
        ] {
            let present: Vec<(usize, usize)> = (0..2usize)
                .filter_map(|stream| Some((stream, next[stream]?)))
                .collect();
            let own_encoders = present.iter().map(|(stream, _)| encoders[*stream].clone());
            let own_decoders = present.iter().map(|(stream, _)| decoders[*stream].clone());
            let mut encoder = EncoderState::join(own_encoders.collect());
            let mut decoder = DecoderState::join(own_decoders.collect());
            let signal = present.iter().map(|&(stream, at)| sound(stream, at, 1));
            let given = present.iter().map(|&(stream, at)| latent(stream, at, 1));
            let encoded = codec.encode_step(Tensor::cat(signal.collect(), 0), &mut encoder);
            let decoded = codec.decode_step(Tensor::cat(given.collect(), 0), &mut decoder);
            let states = encoder
                .split(present.len())
                .into_iter()
                .zip(decoder.split(present.len()));
            for (place, (&(stream, at), (encoder, decoder))) in
                present.iter().zip(states).enumerate()
            {
                (encoders[stream], decoders[stream]) = (encoder, decoder);
                let (sound, mean) = &expected[stream];
                // As close as any stream is to the whole signal.
                let own = decoded.clone().narrow(0, place, 1);
                assert_close("sound", own, sound.clone().narrow(2, at * hop, hop), 1e-5);
                let own = encoded.mode().narrow(0, place, 1);
                assert_close("latent", own, mean.clone().narrow(1, at, 1), 1e-5);
            }
        }
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
fn gradient_reaches_every_parameter() {
    let device = Device::default().autodiff();
    for config in configs() {
        let codec = init(&config, 1, &device);
        let latents = codec.encode(signals(&config, 4, &device)).mode();
        let gradients = codec.decode(latents).square().mean().backward();
        module::gradient_reaches_every_parameter(&codec, &gradients);
    }
}

#[test]
fn the_loss_moves_the_codec_and_the_discriminators_does_not() {
    let device = Device::default().autodiff();
    let loss = CodecLossConfig::new()
        .with_windows(vec![8, 16])
        .with_mel_bands(vec![2, 4])
        .with_adversarial_weight(1.0)
        .with_discriminator_windows(vec![16])
        .with_discriminator_width(4)
        .with_discriminator_layers(2);
    for config in configs() {
        let codec = init(&config, 1, &device);
        let objective = loss.init(&config, &device).unwrap();
        let discriminator = seeded(2, &device, |device| {
            loss.init_discriminator(&config, device)
        });
        let signals = signals(&config, 7, &device);
        codec::check_objective(&objective, &codec, discriminator.as_ref(), signals);
    }
}

#[test]
fn gradient_agrees_with_finite_differences() {
    let device = Device::default().autodiff();
    for config in configs() {
        let codec = init(&config, 1, &device);
        let what = format!("{config:?}");
        let x = signals(&config, 4, &device);
        module::gradient_agrees_with_finite_differences(&what, x, |x| {
            // At the level of speech, that the codec begins with: louder, steps along x are too long.
            let level = 0.1;
            let decoded = codec.decode(codec.encode(x.mul_scalar(level)).mode());
            decoded.div_scalar(level).square().mean()
        });
    }
}

/// What training begins with: a cosine transform that keeps low frequencies and drops high ones.
#[test]
fn an_untrained_codec_passes_low_frequencies() {
    let device = Device::default();
    let config = CodecConfig::new()
        .with_ratios(vec![5, 4])
        .with_depths(vec![0, 1, 1])
        .with_widths(vec![4, 16, 32])
        .with_latent_dim(10);
    let codec = init(&config, 1, &device);
    // Half of the 20 coefficients of a block stay: frequencies up to a quarter of the sample rate.
    let kept = |cycles_a_sample: f64| {
        let tone = (0..400).map(|i| (TAU * cycles_a_sample * f64::from(i)).sin() as f32 * 0.1);
        let values: Vec<f32> = tone.collect();
        let tone = Tensor::<3>::from_data(TensorData::new(values, [1, 1, 400]), &device);
        let decoded = codec.decode(codec.encode(tone.clone()).mode());
        let error = (decoded - tone.clone()).square().mean() / tone.square().mean();
        1.0 - error.into_scalar::<f32>()
    };
    let (low, high) = (kept(0.02), kept(0.4));
    assert!(low > 0.9, "{low} of a low tone");
    assert!(high < 0.2, "{high} of a high tone");
}

#[test]
fn a_short_sound_can_be_learned() {
    let device = Device::default().autodiff();
    let config = configs().remove(0).with_layer_scale(1e-2);
    let mut codec = init(&config, 1, &device);
    let signal = signals(&config, 4, &device);
    let mut optimizer = AdamConfig::new().init();
    let error = |codec: &Codec| {
        let decoded = codec.decode(codec.encode(signal.clone()).mode());
        (decoded - signal.clone()).square().mean()
    };
    let before = error(&codec).into_scalar::<f32>();
    for _ in 0..150 {
        let gradients = GradientsParams::from_grads(error(&codec).backward(), &codec);
        codec = optimizer.step(3e-3, codec, gradients);
    }
    let after = error(&codec).into_scalar::<f32>();
    assert!(after < before / 2.0, "{before} to {after}");
}

/// The published tokenizers: 7.5 latents a second.
#[test]
fn published_sizes() {
    let config = CodecConfig::new();
    assert_eq!(config.hop_samples(), 3200);
    assert_eq!(
        config.sample_rate_hz as usize * 2 / config.hop_samples(),
        15
    );
}

/// Counted by hand: the stem 3 * 1 * 2 + 2 and the head 3 * 2 * 4 + 4 of the encoder, those of the decoder
/// 3 * 4 * 2 + 2 and 3 * 2 * 1 + 1, and a layer each: 8 for norms and scales, 3 * 2 + 2 for the mixer,
/// 2 * 8 + 8 and 8 * 2 + 2 for the feed-forward network.
#[test]
fn parameters_are_counted_without_a_codec() {
    let device = Device::default();
    let config = CodecConfig::new()
        .with_ratios(vec![])
        .with_depths(vec![1])
        .with_width(2)
        .with_kernel_size(3)
        .with_latent_dim(4);
    let layer = 8 + 8 + 24 + 18;
    assert_eq!(config.encoder_parameter_count(), 8 + 28 + layer);
    assert_eq!(config.parameter_count(&device), 8 + 28 + 26 + 7 + 2 * layer);
    for config in configs() {
        let encoder = seeded(1, &device, |device| config.init_encoder(device));
        assert_eq!(config.encoder_parameter_count(), encoder.num_params());
    }
    // The largest valid sizes do not overflow, and take no memory.
    let huge = CodecConfig::new()
        .with_width(1 << 14)
        .with_depths(vec![256; 7])
        .with_kernel_size(1024);
    assert!(huge.parameter_count(&device) > 1 << 50);
}

#[test]
fn wrong_configurations_are_refused() {
    for (config, part) in [
        (
            CodecConfig::new().with_depths(vec![1]),
            "1 depths for 6 ratios",
        ),
        (CodecConfig::new().with_width(0), "width"),
        (
            CodecConfig::new().with_frames_per_latent(3),
            "no multiple of frames_per_latent",
        ),
        (CodecConfig::new().with_ratios(vec![0]), "ratios"),
        (CodecConfig::new().with_widths(vec![8, 16]), "widths must"),
        (CodecConfig::new().with_vae_std(f64::NAN), "vae_std"),
        (
            CodecConfig::new().with_quantizer(QuantizerConfig {
                codebooks: 1,
                entries: 1,
                ..QuantizerConfig::default()
            }),
            "quantizer.entries",
        ),
        (CodecConfig::new().with_norm_epsilon(0.0), "norm_epsilon"),
        (
            CodecConfig::new().with_norm_epsilon(f64::INFINITY),
            "norm_epsilon",
        ),
        (
            CodecConfig::new().with_width(1 << 15),
            "2097152 channels after 6 downsamplings",
        ),
        (
            // More doublings than a number has bits.
            CodecConfig::new()
                .with_ratios(vec![1; 70])
                .with_depths(vec![0; 71]),
            "channels after",
        ),
    ] {
        let message = config.validate().unwrap_err().to_string();
        assert!(message.contains(part), "{message}");
    }
}
