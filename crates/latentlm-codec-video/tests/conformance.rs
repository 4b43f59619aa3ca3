//! The codec contract, streaming, causality, pictures as clips of one frame, gradients, names of parameters.

use burn::optim::{AdamConfig, GradientsParams};
use burn::store::ModuleSnapshot;
use burn::tensor::{Device, Tensor};
use latentlm_codec_video::{
    Activation, Added, Codec, CodecConfig, CodecLossConfig, DecoderState, EncoderState,
};
use latentlm_core::conformance::{assert_close, codec, largest_error, module, seeded};
use latentlm_core::{
    CodecObjective, CodecObjectiveConfig, LatentCodec, LatentCodecConfig, LatentNoise, PartConfig,
    RandomStream, StreamingCodec,
};

fn configs() -> Vec<CodecConfig> {
    let base = CodecConfig::new()
        .with_image_size(8)
        .with_encoder_width(16)
        .with_decoder_width(24);
    vec![
        base.clone()
            .with_channels(3)
            .with_patch_size(2)
            .with_latent_patches(2)
            .with_latent_dim(8)
            .with_frames_per_group(2)
            .with_encoder_depth(1)
            .with_decoder_depth(2)
            .with_time_taps(2),
        base.clone()
            .with_patch_size(4)
            .with_latent_patches(1)
            .with_latent_dim(5)
            .with_frames_per_group(3)
            .with_encoder_depth(2)
            .with_decoder_depth(1)
            .with_activation(Activation::Relu),
        base.with_channels(3)
            .with_patch_size(4)
            .with_latent_patches(1)
            .with_later_patches(Added(2))
            .with_latent_dim(8)
            .with_frames_per_group(2)
            .with_encoder_depth(1)
            .with_decoder_depth(1)
            .with_motion_range(Added(3)),
    ]
}

fn init(config: &CodecConfig, seed: u64, device: &Device) -> Codec {
    seeded(seed, device, |device| config.init(device))
}

/// Frames of the first groups of a clip.
fn frames(config: &CodecConfig, groups: usize) -> usize {
    1 + (groups - 1) * config.frames_per_group
}

/// Latents of the first groups of a clip.
fn latents(config: &CodecConfig, groups: usize) -> usize {
    config.spec().layout.latents_of(groups)
}

/// Two clips of four groups.
fn clips(config: &CodecConfig, device: &Device) -> Tensor<5> {
    let size = config.image_size;
    let shape = [2, frames(config, 4), config.channels, size, size];
    RandomStream::new(1).normal(shape, device).clamp(-1.0, 1.0)
}

#[test]
fn codec_contract() {
    let device = Device::default();
    for config in configs() {
        codec::check(&init(&config, 1, &device), clips(&config, &device));
        codec::check_config(&config, &device);
    }
}

#[test]
fn streaming_equals_the_whole() {
    let device = Device::default();
    for config in configs() {
        codec::check_streaming(&init(&config, 1, &device), clips(&config, &device));
    }
}

/// What happens in a group changes its latents and later ones, and none before. The same for frames of latents.
#[test]
fn is_causal() {
    let device = Device::default();
    for config in configs() {
        let codec = init(&config, 1, &device);
        let whole = clips(&config, &device);
        let encoded = codec.encode(whole.clone()).mode();
        let decoded = codec.decode(encoded.clone());
        let length = whole.dims()[1];
        for group in 1..4 {
            let (frame, latent) = (frames(&config, group), latents(&config, group));
            // Only the last frame of the group: all of its latents may see it, and none before.
            let last = frame + config.frames_per_group - 1;
            let changed = Tensor::cat(
                vec![
                    whole.clone().narrow(1, 0, last),
                    whole.clone().narrow(1, last, length - last).neg(),
                ],
                1,
            );
            let other = codec.encode(changed).mode();
            let before = |x: &Tensor<3>| x.clone().narrow(1, 0, latent);
            assert_close("latents", before(&other), before(&encoded), 1e-6);
            let own = |x: &Tensor<3>| x.clone().narrow(1, latent, config.group_latents());
            assert!(largest_error(own(&other), own(&encoded)) > 1e-4);

            let rest = latents(&config, 4) - latent;
            let changed = Tensor::cat(
                vec![
                    before(&encoded),
                    encoded.clone().narrow(1, latent, rest).neg(),
                ],
                1,
            );
            let other = codec.decode(changed);
            let before = |x: &Tensor<5>| x.clone().narrow(1, 0, frame);
            assert_close("frames", before(&other), before(&decoded), 1e-6);
            let own = |x: &Tensor<5>| x.clone().narrow(1, frame, config.frames_per_group);
            assert!(largest_error(own(&other), own(&decoded)) > 1e-4);
        }
    }
}

/// A picture is encoded and decoded as the first frame of any clip that begins with it.
#[test]
fn a_picture_is_a_clip_of_one_frame() {
    let device = Device::default();
    for config in configs() {
        let codec = init(&config, 1, &device);
        let (whole, grid) = (clips(&config, &device), config.first_latents());
        let latents = codec.encode(whole.clone()).mode();
        let alone = codec.encode(whole.narrow(1, 0, 1)).mode();
        let first = latents.clone().narrow(1, 0, grid);
        // Float32's rounding of sums over other numbers of rows.
        assert_close("latents", alone.clone(), first, 1e-5);
        let first = codec.decode(latents).narrow(1, 0, 1);
        assert_close("frame", codec.decode(alone), first, 1e-5);
    }
}

/// Later groups are decoded with the groups before them in mind, not alone.
#[test]
fn groups_see_those_before_them() {
    let device = Device::default();
    for config in configs() {
        let codec = init(&config, 1, &device);
        let (grid, next) = (config.first_latents(), config.group_latents());
        let latents = codec.encode(clips(&config, &device)).mode();
        let changed = Tensor::cat(
            vec![
                latents.clone().narrow(1, 0, grid).neg(),
                latents.clone().narrow(1, grid, next),
            ],
            1,
        );
        let second = |x| codec.decode(x).narrow(1, 1, config.frames_per_group);
        let error = largest_error(second(changed), second(latents.narrow(1, 0, grid + next)));
        assert!(error > 1e-4, "{error}");
    }
}

/// Streams of one batch do not mix, and a state goes on where it was left.
#[test]
fn states_are_values() {
    let device = Device::default();
    for config in configs() {
        let codec = init(&config, 1, &device);
        let (clips, grid) = (clips(&config, &device), config.first_latents());
        let mut state = EncoderState::default();
        codec.encode_step(clips.clone().narrow(1, 0, 1), &mut state);
        let mut twin = state.clone();
        let next = clips.clone().narrow(1, 1, config.frames_per_group);
        let a = codec.encode_step(next.clone(), &mut state).mode();
        let b = codec.encode_step(next, &mut twin).mode();
        assert_eq!(a.into_data(), b.into_data());
        let latents = codec.encode(clips).mode().narrow(1, 0, grid);
        let mut state = DecoderState::default();
        let both = codec.decode_step(latents.clone(), &mut state);
        let second = codec.decode_step(latents.narrow(0, 1, 1), &mut DecoderState::default());
        assert_close("a clip alone", second, both.narrow(0, 1, 1), 1e-5);
    }
}

/// A stream remembers a fixed number of groups, however many it has seen. Older ones have no influence.
#[test]
fn old_groups_are_forgotten() {
    let device = Device::default();
    // A block sees the group before its own, so two blocks see two groups.
    let config = configs().remove(0);
    let codec = init(&config, 1, &device);
    let grid = config.first_latents();
    let latents = codec.encode(clips(&config, &device)).mode();
    let changed = Tensor::cat(
        vec![
            latents.clone().narrow(1, 0, grid).neg(),
            latents.clone().narrow(1, grid, 3 * grid),
        ],
        1,
    );
    let last = |x| {
        let start = frames(&config, 3);
        codec.decode(x).narrow(1, start, config.frames_per_group)
    };
    assert_close("last group", last(changed), last(latents), 1e-6);
}

#[test]
fn weights_survive_a_file() {
    let device = Device::default();
    for config in configs() {
        module::save_load_is_bit_equal(&init(&config, 1, &device), || init(&config, 2, &device));
    }
}

/// Motion adds these to the keys of a checkpoint, and to the parameters.
#[test]
fn motion_adds_two_layers() {
    let device = Device::default();
    let still = CodecConfig::new();
    let moving = still.clone().with_motion_range(Added(5));
    let names = |config: &CodecConfig| -> Vec<String> {
        let tensors = config.init(&device).collect(None, None, false);
        tensors.into_iter().map(|tensor| tensor.name).collect()
    };
    let (before, mut added) = (names(&still), names(&moving));
    added.retain(|name| !before.contains(name));
    added.sort();
    let layers = [
        "first_shift.bias",
        "first_shift.weight",
        "keep.bias",
        "keep.weight",
    ];
    assert_eq!(added, layers.map(|name| format!("decoder.motion.{name}")));
    // Four frames: 11 shifts down and 11 across, and a share for each of 64 pixels.
    let more = 129 * 4 * 22 + 129 * 4 * 64;
    let count = |config: &CodecConfig| config.parameter_count(&device);
    assert_eq!(count(&moving), count(&still) + more);
}

/// These names are keys of checkpoints.
#[test]
fn parameters_keep_their_names() {
    let device = Device::default();
    let config = configs().remove(0).with_decoder_depth(0);
    let codec = init(&config, 1, &device);
    let mut names: Vec<String> = codec
        .collect(None, None, false)
        .into_iter()
        .map(|tensor| tensor.name.clone())
        .collect();
    names.sort();
    let block = [
        "fc1.bias",
        "fc1.weight",
        "fc2.bias",
        "fc2.weight",
        "norm1.gamma",
        "norm2.gamma",
        "proj.bias",
        "proj.weight",
        "qkv.bias",
        "qkv.weight",
        "time.bias",
        "time.weight",
        "time_norm.gamma",
    ];
    let mut expected: Vec<String> = [
        "decoder.first.bias",
        "decoder.first.weight",
        "decoder.hidden.bias",
        "decoder.hidden.weight",
        "decoder.input.bias",
        "decoder.input.weight",
        "decoder.later.bias",
        "decoder.later.weight",
        "decoder.trunk.norm.gamma",
        "decoder.trunk.position",
        "encoder.first.bias",
        "encoder.first.weight",
        "encoder.later.bias",
        "encoder.later.weight",
        "encoder.output.bias",
        "encoder.output.weight",
        "encoder.trunk.norm.gamma",
        "encoder.trunk.position",
    ]
    .map(str::to_owned)
    .to_vec();
    expected.extend(block.map(|name| format!("encoder.trunk.blocks.0.{name}")));
    expected.sort();
    assert_eq!(names, expected);
}

#[test]
fn gradient_reaches_every_parameter() {
    let device = Device::default().autodiff();
    for config in configs() {
        let codec = init(&config, 1, &device);
        let latents = codec.encode(clips(&config, &device)).mode();
        let gradients = codec.decode(latents).square().mean().backward();
        module::gradient_reaches_every_parameter(&codec, &gradients);
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
        let clips = clips(&config, &device);
        codec::check_objective(&objective, &codec, discriminator.as_ref(), clips);
    }
}

#[test]
fn gradient_agrees_with_finite_differences() {
    let device = Device::default().autodiff();
    for config in configs() {
        let codec = init(&config, 1, &device);
        let objective = CodecLossConfig::default().init(&config, &device).unwrap();
        let clips = clips(&config, &device);
        let shape = codec.spec().shape_of(&clips);
        let noise = LatentNoise::draw(shape, &mut RandomStream::new(2), &device);
        let what = format!("{config:?}");
        module::gradient_agrees_with_finite_differences(&what, clips, |x| {
            objective.loss(&codec, x, noise.clone(), None).total
        });
    }
}

/// What sigma-VAE noise is: one scale a clip, of deviation `noise_std / 0.8`, mean untouched.
#[test]
fn noise_has_one_scale_a_clip() {
    let device = Device::default();
    let config = configs().remove(0);
    let posterior = init(&config, 1, &device).encode(clips(&config, &device));
    let scale = Tensor::<1>::from_floats([2.0, -1.0], &device);
    let eps = RandomStream::new(3).normal(posterior.mean.dims(), &device);
    let added = posterior.sample(scale, eps.clone()) - posterior.mode();
    let std = 0.75 / 0.8;
    for (row, factor) in [2.0, -1.0].into_iter().enumerate() {
        let expected = eps.clone().narrow(0, row, 1).mul_scalar(factor * std);
        assert_close(
            "noise",
            added.clone().narrow(0, row, 1),
            expected,
            // Float32's rounding of what is added to the mean and subtracted again.
            1e-5,
        );
    }
}

/// Two clips of a white square of 2 x 2 pixels on black, which moves to the right or down, a pixel a frame.
fn moving_squares(config: &CodecConfig, device: &Device) -> Tensor<5> {
    let (length, size) = (frames(config, 3), config.image_size);
    let mut values = Vec::with_capacity(2 * length * config.channels * size * size);
    for clip in 0..2 {
        for frame in 0..length {
            let at = frame.min(size - 2);
            let (top, left) = if clip == 0 { (2, at) } else { (at, 4) };
            for pixel in 0..config.channels * size * size {
                let (row, column) = (pixel / size % size, pixel % size);
                let inside = (top..top + 2).contains(&row) && (left..left + 2).contains(&column);
                values.push(if inside { 1.0_f32 } else { -1.0 });
            }
        }
    }
    Tensor::<1>::from_floats(values.as_slice(), device).reshape([
        2,
        length,
        config.channels,
        size,
        size,
    ])
}

#[test]
fn motion_can_be_learned() {
    let device = Device::default().autodiff();
    for config in configs() {
        let mut codec = init(&config, 1, &device);
        let clips = moving_squares(&config, &device);
        let mut optimizer = AdamConfig::new().init();
        let error = |codec: &Codec| {
            let decoded = codec.decode(codec.encode(clips.clone()).mode());
            (decoded - clips.clone()).square().mean()
        };
        for _ in 0..200 {
            let gradients = GradientsParams::from_grads(error(&codec).backward(), &codec);
            codec = optimizer.step(3e-3, codec, gradients);
        }
        // A clip of the mean colour alone has an error of 4 p (1 - p), where p = 4 / 64 is white.
        let after = error(&codec).into_scalar::<f32>();
        let still = 4.0 * (1.0 / 16.0) * (15.0 / 16.0);
        assert!(after < still / 2.0, "{after} of {still}");
    }
}

/// The default: 20 latents of 64 numbers for 17 frames. Parameters counted by hand, for a width of 128.
#[test]
fn default_sizes() {
    let config = CodecConfig::new();
    let groups = 1 + 16 / config.frames_per_group;
    assert_eq!(latents(&config, groups), 20);
    assert_eq!(config.latent_dim, 64);
    let linear = |input: usize, output: usize| input * output + output;
    let block = 3 * 128
        + linear(3 * 128, 128)
        + linear(128, 384)
        + linear(128, 128)
        + linear(128, 512)
        + linear(512, 128);
    // Embeddings of places and a norm.
    let trunk = 16 * 128 + 128;
    let encoder = linear(64, 128) + linear(256, 128) + linear(128, 16);
    let decoder = linear(16, 128) + linear(128, 128) + linear(128, 64) + linear(128, 256);
    let expected = encoder + decoder + 2 * trunk + 5 * block;
    assert_eq!(config.parameter_count(&Device::default()), expected);
}

#[test]
#[should_panic(expected = "3 frames are not 1 and groups of 4")]
fn a_broken_group_is_refused() {
    let device = Device::default();
    let codec = CodecConfig::new().init(&device);
    codec.encode(Tensor::zeros([1, 3, 1, 32, 32], &device));
}

#[test]
#[should_panic(expected = "frames of 1 x 32 x 16 for a codec of 1 x 32 x 32")]
fn frames_of_another_size_are_refused() {
    let device = Device::default();
    let codec = CodecConfig::new().init(&device);
    codec.encode(Tensor::zeros([1, 1, 1, 32, 16], &device));
}

#[test]
#[should_panic(expected = "6 latents are no groups of 4")]
fn a_broken_grid_is_refused() {
    let device = Device::default();
    let codec = CodecConfig::new().init(&device);
    codec.decode(Tensor::zeros([1, 6, 64], &device));
}

#[test]
fn wrong_configurations_are_refused() {
    let base = CodecConfig::new();
    for (config, part) in [
        (base.clone().with_channels(2), "channels"),
        (base.clone().with_image_size(36), "multiple of patch_size 8"),
        (
            base.clone().with_latent_patches(3),
            "multiple of latent_patches 3",
        ),
        (base.clone().with_latent_dim(6), "the 4 patches"),
        (base.clone().with_frames_per_group(0), "frames_per_group"),
        (base.clone().with_time_taps(0), "time_taps"),
        (base.clone().with_heads(5), "heads 5"),
        (base.clone().with_decoder_width(0), "decoder_width 0"),
        (base.with_noise_std(f64::NAN), "noise_std"),
    ] {
        let message = config.validate().unwrap_err().to_string();
        assert!(message.contains(part), "{message}");
    }
}
