//! Recognition with tiny models of stirred weights.

use burn::module::Module;
use burn::tensor::Device;
use latentlm_backbone::RopeLayout;
use latentlm_core::conformance::{Stir, assert_close, seeded};
use latentlm_core::{CausalBackbone, RandomStream};

use super::*;

/// Samples a latent of [`model`].
const HOP: usize = 6;
/// Latents of a piece.
const PIECE: usize = 4;

fn model(seed: u64) -> VibeVoiceAsr {
    let encoder = |latent_dim| {
        CodecConfig::new()
            .with_width(4)
            .with_ratios(vec![2, 3])
            .with_depths(vec![1, 1, 1])
            .with_latent_dim(latent_dim)
    };
    let width = 32;
    let config = VibeVoiceAsrConfig {
        acoustic: encoder(4),
        semantic: encoder(3),
        tokens: TokenAdapterConfig::new(20, width),
        backbone: BackboneConfig::new(width, 2, 4)
            .with_kv_heads(2)
            .with_rope_layout(RopeLayout::HalfSplit)
            .with_condition_layer(false),
        piece_samples: PIECE * HOP,
    };
    let device = Device::default();
    let model = seeded(seed, &device, |device| config.init(device));
    assert_eq!(config.parameter_count(&device), model.num_params());
    model.map(&mut Stir(RandomStream::for_step(seed, "stir", 0)))
}

fn recording(samples: usize) -> Vec<f32> {
    let values = RandomStream::new(3).normal::<1>([samples], &Device::default());
    values.into_data().try_to_vec::<f32>().unwrap()
}

fn prompt(samples: usize) -> AsrPrompt {
    let sound = AsrSound {
        samples,
        sample_rate_hz: 60,
        hop_samples: HOP,
    };
    let mut tokens = vec![1, 2, 16];
    let first_frame = tokens.len();
    tokens.resize(first_frame + sound.frames(), 17);
    tokens.extend([18, 5]);
    AsrPrompt {
        tokens,
        first_frame,
        sound,
    }
}

fn options(ends: &[u32], max_tokens: usize) -> AsrOptions {
    AsrOptions {
        ends: ends.to_vec(),
        max_tokens,
        max_positions: 1000,
    }
}

/// Recordings of less than a piece, of whole pieces, and of some with a part of a hop.
#[test]
fn pieces_give_what_the_whole_gives() {
    let (model, device) = (model(1), Device::default());
    for samples in [1, HOP, PIECE * HOP, 2 * PIECE * HOP, 2 * PIECE * HOP + 7] {
        let sound = recording(samples);
        for rules in [Rules::ORIGINAL, Rules::TRANSFORMERS] {
            let heard = model.encode(&sound, None, rules);
            let mut padded = sound.clone();
            if rules == Rules::TRANSFORMERS {
                padded.resize(samples.next_multiple_of(HOP), 0.0);
            }
            let shape = [1, 1, padded.len()];
            let signal = Tensor::<3>::from_data(TensorData::new(padded, shape), &device);
            let what = format!("{samples} samples, {rules:?}");
            // The bound for streams of the codec: sums in another order.
            let whole = model.acoustic.forward_to_end(signal.clone());
            assert_close(&what, heard.acoustic_mean.clone(), whole, 1e-5);
            let whole = model.semantic.forward_to_end(signal);
            assert_close(&what, heard.semantic, whole, 1e-5);
            assert_eq!(heard.acoustic_mean.dims(), model.noise_shape(samples));
        }
    }
}

#[test]
fn noise_has_one_scale_for_a_recording() {
    let (model, device) = (model(2), Device::default());
    let sound = recording(5 * HOP);
    let mut random = RandomStream::new(4);
    let noise = LatentNoise::draw(model.noise_shape(sound.len()), &mut random, &device);
    let heard = model.encode(&sound, Some(noise.clone()), Rules::ORIGINAL);
    let scale = noise.scale.into_scalar::<f32>() * model.vae_std as f32;
    let expected = heard.acoustic_mean + noise.eps.mul_scalar(scale);
    assert_close("with noise", heard.acoustic.clone(), expected, 1e-6);
    let embedded = model.acoustic_connector.embed(heard.acoustic)
        + model.semantic_connector.embed(heard.semantic);
    assert_close("positions", heard.embedded.unsqueeze_dim(0), embedded, 1e-6);
}

/// Step by step as the whole sequence at once, with the likeliest token each time.
#[test]
fn an_answer_is_that_of_the_whole_sequence() {
    for seed in 0..4 {
        let model = model(seed);
        let samples = 6 * HOP - 1;
        let prompt = prompt(samples);
        let heard = model.encode(&recording(samples), None, Rules::ORIGINAL);
        let stream = model.transcribe(&prompt, heard.embedded.clone(), options(&[], 8));
        let mut stream = stream.unwrap();
        let mut x = model.embed_prompt(&prompt, heard.embedded);
        assert_eq!(x.dims(), [1, prompt.tokens.len(), 32]);
        while let Some(step) = stream.next_token() {
            let hidden = model.backbone.forward(x.clone());
            let last = hidden.narrow(1, x.dims()[1] - 1, 1);
            // Errors of the cache and of sums in another order; another token is off by 0.1 and more.
            assert_close("hidden", step.hidden, last.clone().squeeze_dim(1), 1e-3);
            let logits = model.tokens.logits(last);
            let best = logits.clone().argmax(2).into_data().convert::<i64>();
            let best = best.as_slice::<i64>().unwrap()[0];
            assert_eq!(i64::from(step.token), best);
            assert_close("logits", step.logits, logits.squeeze_dim(1), 1e-3);
            let ids = latentlm_adapters::packed::indices(&[best], &Device::default());
            x = Tensor::cat(vec![x, model.tokens.embed(ids.unsqueeze_dim(0))], 1);
        }
        assert_eq!(stream.end(), Some(AsrEnd::Tokens));
        assert_eq!(x.dims()[1], prompt.tokens.len() + 8);
    }
}

#[test]
fn an_answer_ends_where_it_should() {
    let model = model(0);
    let prompt = prompt(3 * HOP);
    let sound = model.encode(&recording(3 * HOP), None, Rules::ORIGINAL);
    let answer = |options: AsrOptions| {
        let stream = model.transcribe(&prompt, sound.embedded.clone(), options);
        let mut stream = stream.unwrap();
        let mut tokens = Vec::new();
        while let Some(step) = stream.next_token() {
            tokens.push(step.token);
        }
        assert!(stream.next_token().is_none());
        (tokens, stream.end())
    };
    let (first, _) = answer(options(&[], 3));
    assert_eq!(first.len(), 3);
    let (ended, end) = answer(options(&[19, first[0]], 3));
    assert_eq!((&ended[..], end), (&first[..1], Some(AsrEnd::Written)));
    let mut short = options(&[], 100);
    short.max_positions = prompt.tokens.len() + 2;
    let (cut, end) = answer(short.clone());
    assert_eq!((cut.len(), end), (3, Some(AsrEnd::Positions)));
    assert_eq!(cut, first);
    short.max_positions = prompt.tokens.len();
    let refused = model.transcribe(&prompt, sound.embedded.clone(), short);
    assert!(matches!(refused, Err(AsrError::TooLong { .. })));
}
