//! Dialogues of tiny models with stirred weights.

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use latentlm_adapters::packed::indices;
use latentlm_adapters::{LatentAdapterConfig, TokenAdapterConfig};
use latentlm_backbone::{BackboneConfig, RopeLayout};
use latentlm_codec_audio::CodecConfig;
use latentlm_core::conformance::{Stir, assert_close, seeded};
use latentlm_core::sequence::{ControlTokens, Layout};
use latentlm_core::{
    CausalBackbone, LatentCodec, LatentNoise, Prediction, RandomStream, SampleOptions,
};
use latentlm_diffusion::HeadConfig;

use super::*;

/// Errors of hidden states are handed on from frame to frame; another input is off by 0.1 and more.
const BOUND: f64 = 1e-3;

fn codec(latent_dim: usize) -> CodecConfig {
    CodecConfig::new()
        .with_width(4)
        .with_ratios(vec![2, 3])
        .with_depths(vec![1, 1, 1])
        .with_latent_dim(latent_dim)
}

fn model(seed: u64) -> VibeVoice {
    let width = 32;
    let connector = |dim| LatentAdapterConfig::new(dim, width).with_connector(true);
    let config = VibeVoiceConfig {
        codec: codec(4),
        semantic: codec(3),
        acoustic_connector: connector(4),
        semantic_connector: connector(3),
        tokens: TokenAdapterConfig::new(20, width),
        backbone: BackboneConfig::new(width, 2, 4)
            .with_kv_heads(2)
            .with_rope_layout(RopeLayout::HalfSplit)
            .with_condition_layer(false),
        head: HeadConfig::new(4, width)
            .with_depth(2)
            .with_prediction(Prediction::Velocity),
        control: ControlTokens {
            begin: 16,
            end: 17,
            more: 18,
        },
        end_of_text: 19,
    };
    let device = Device::default();
    let model = seeded(seed, &device, |device| config.init(device));
    model.map(&mut Stir(RandomStream::for_step(seed, "stir", 0)))
}

fn options(rules: Rules) -> SpeakOptions {
    SpeakOptions {
        rules,
        sample: SampleOptions {
            steps: 3,
            guidance_scale: 1.5,
            ..SampleOptions::default()
        },
        max_steps: 12,
        ..SpeakOptions::default()
    }
}

fn prompt(words: &[u32]) -> VibeVoicePrompt {
    let mut tokens = words.to_vec();
    tokens.push(16);
    VibeVoicePrompt {
        tokens,
        voice_positions: Vec::new(),
    }
}

fn noise(seed: u64) -> FrameNoise {
    FrameNoise::Drawn(RandomStream::new(seed))
}

fn all_steps(stream: &mut VibeVoiceStream<'_>) -> Vec<SpokenStep> {
    let mut all = Vec::new();
    while let Some(steps) = stream.next_step() {
        all.extend(steps);
    }
    all
}

/// Two pauses, one of which speech goes on behind without beginning anew.
fn dialogue() -> Vec<SpeechToken> {
    use SpeechToken::{Audio, End, Start, Stop};
    vec![
        Audio, Audio, Stop, Audio, Audio, Stop, Start, Audio, Start, Audio, Stop, End,
    ]
}

fn spoken(model: &VibeVoice, rules: Rules) -> Vec<SpokenStep> {
    let mut stream = model
        .speak(prompt(&[1, 2, 3]), None, options(rules), noise(7))
        .unwrap();
    stream.force(0, dialogue());
    let steps = all_steps(&mut stream);
    assert_eq!(stream.end_of(0), Some(End::Spoken));
    steps
}

fn embedding(model: &VibeVoice, token: SpeechToken) -> Tensor<2> {
    let ids = model.speech_tokens();
    let id = match token {
        SpeechToken::Start => ids.start,
        SpeechToken::Stop => ids.stop,
        SpeechToken::Audio => ids.audio,
        SpeechToken::End => ids.end,
    };
    let id = indices(&[i64::from(id)], &Device::default()).unsqueeze_dim(0);
    model.lm.token_adapter().embed(id).squeeze_dim(0)
}

/// The last hidden state of a sequence that is read at once, `[1, D]`.
fn last_hidden(model: &VibeVoice, read: &[Tensor<2>]) -> Tensor<2> {
    let x = Tensor::cat(read.to_vec(), 0).unsqueeze_dim(0);
    let hidden = model.lm.backbone.forward(x);
    hidden.narrow(1, read.len() - 1, 1).squeeze_dim(1)
}

/// All three contexts, step by step with takings back, give what each gives that reads its own sequence at
/// once and has never read anything else.
#[test]
fn a_step_that_is_taken_back_was_never_taken() {
    for seed in 0..4 {
        let model = model(seed);
        let words = indices(&[1, 2, 3], &Device::default()).unsqueeze_dim(0);
        let words = model.lm.token_adapter().embed(words).squeeze_dim::<2>(0);
        let start = embedding(&model, SpeechToken::Start);
        let mut own: Vec<Tensor<2>> = (0..3usize)
            .map(|at| words.clone().narrow(0, at, 1))
            .collect();
        let (mut null, mut tokens) = (Vec::new(), Vec::new());
        let mut next = start.clone();
        let mut next_token = start;
        for (index, step) in spoken(&model, Rules::TRANSFORMERS).into_iter().enumerate() {
            own.push(next.clone());
            tokens.push(next_token);
            let what = format!("model {seed}, step {index}");
            assert_close(&what, step.hidden, last_hidden(&model, &own), BOUND);
            let token_hidden = step.token_hidden.unwrap();
            assert_close(&what, token_hidden, last_hidden(&model, &tokens), BOUND);
            next_token = embedding(&model, step.token);
            if let Some(frame) = step.frame {
                null.push(next);
                assert_close(&what, step.null_hidden, last_hidden(&model, &null), BOUND);
                next = frame.embedded;
            } else {
                next = next_token.clone();
            }
            if step.token == SpeechToken::Start {
                null.clear();
            }
        }
    }
}

/// KV caches have room for 256 positions behind the prompt at first, and grow.
#[test]
fn a_context_that_grows_is_that_of_the_whole() {
    let model = model(6);
    let words = indices(&[1, 2, 3], &Device::default()).unsqueeze_dim(0);
    let words = model.lm.token_adapter().embed(words).squeeze_dim::<2>(0);
    let options = SpeakOptions {
        max_steps: 300,
        ..options(Rules::ORIGINAL)
    };
    let mut stream = model
        .speak(prompt(&[1, 2, 3]), None, options, noise(7))
        .unwrap();
    stream.force(0, vec![SpeechToken::Audio; 300]);
    let mut null = Vec::new();
    let mut next = embedding(&model, SpeechToken::Start);
    for (index, step) in all_steps(&mut stream).into_iter().enumerate() {
        null.push(next);
        if [255, 256, 257, 299].contains(&index) {
            let what = format!("step {index}");
            let mut own = vec![words.clone()];
            own.extend(null.iter().cloned());
            let rows = Tensor::cat(own, 0);
            let count = rows.dims()[0];
            let hidden = model.lm.backbone.forward(rows.unsqueeze_dim(0));
            let last = hidden.narrow(1, count - 1, 1).squeeze_dim::<2>(1);
            assert_close(&what, step.hidden, last, BOUND);
            assert_close(&what, step.null_hidden, last_hidden(&model, &null), BOUND);
        }
        next = step.frame.expect("a latent of each step").embedded;
    }
    assert_eq!((null.len(), stream.end_of(0)), (300, Some(End::Forced)));
}

/// Sound comes frame by frame; decoded at once, the same latents give the same. Where speech stops, the
/// original begins with silence again.
#[test]
fn streamed_sound_is_that_of_all_latents_at_once() {
    let model = model(1);
    for rules in [Rules::TRANSFORMERS, Rules::ORIGINAL] {
        let mut runs: Vec<Vec<SpokenFrame>> = vec![Vec::new()];
        for step in spoken(&model, rules) {
            if step.token == SpeechToken::Stop && rules.resets_at_stop {
                runs.push(Vec::new());
            }
            if let Some(frame) = step.frame {
                runs.last_mut().unwrap().push(frame);
            }
        }
        runs.retain(|run| !run.is_empty());
        assert_eq!(runs.len(), if rules.resets_at_stop { 3 } else { 1 });
        for run in runs {
            let latents = run.iter().map(|frame| frame.decoder_latents.clone());
            let latents = Tensor::cat(latents.collect(), 0).unsqueeze_dim::<3>(0);
            let sound = run.iter().map(|frame| frame.sound.clone());
            let sound = Tensor::cat(sound.collect(), 1).unsqueeze_dim::<3>(1);
            let decoded = model.codec.decode(latents);
            // As the codec's own suite, with louder sound.
            assert_close("sound", sound.clone(), decoded, 1e-4);
            let semantic = run.iter().map(|frame| frame.semantic.clone());
            let semantic = Tensor::cat(semantic.collect(), 0).unsqueeze_dim::<3>(0);
            assert_close("semantic", semantic, model.semantic.forward(sound), 1e-4);
        }
    }
}

/// Scripts of different lengths, which stop at different times, spoken together and each alone.
#[test]
fn a_script_does_not_hear_its_neighbours() {
    let scripts: [&[u32]; 3] = [&[1, 2, 3, 4, 5], &[6], &[7, 8]];
    let forced = [dialogue(), vec![SpeechToken::Audio; 3], dialogue()];
    for rules in [Rules::ORIGINAL, Rules::TRANSFORMERS] {
        let model = model(2);
        let requests = scripts.iter().zip(0..).map(|(words, seed)| SpeakRequest {
            prompt: prompt(words),
            voices: None,
            noise: noise(seed),
        });
        let mut together = model.speak_all(requests.collect(), options(rules)).unwrap();
        for (script, tokens) in forced.iter().enumerate() {
            together.force(script, tokens.clone());
        }
        let all = all_steps(&mut together);
        for (script, seed) in (0..scripts.len()).zip(0..) {
            let words = prompt(scripts[script]);
            let mut alone = model
                .speak(words, None, options(rules), noise(seed))
                .unwrap();
            alone.force(0, forced[script].clone());
            let alone = all_steps(&mut alone);
            let own: Vec<&SpokenStep> = all.iter().filter(|s| s.script == script).collect();
            assert_eq!(alone.len(), own.len());
            for (alone, own) in alone.into_iter().zip(own) {
                assert_close("hidden", own.hidden.clone(), alone.hidden, BOUND);
                if let (Some(alone), Some(own)) = (alone.frame, &own.frame) {
                    assert_close("latents", own.latents.clone(), alone.latents, BOUND);
                    assert_close("sound", own.sound.clone(), alone.sound, BOUND);
                    assert_close("semantic", own.semantic.clone(), alone.semantic, BOUND);
                }
            }
        }
        let ends: Vec<_> = (0..3).map(|script| together.end_of(script)).collect();
        assert_eq!(ends, [End::Spoken, End::Forced, End::Spoken].map(Some));
    }
}

/// The token is the one with the largest logit of the four, guided or not.
#[test]
fn tokens_are_chosen_among_four() {
    for rules in [Rules::ORIGINAL, Rules::TRANSFORMERS] {
        for seed in 0..10 {
            let model = model(seed);
            let prompt = prompt(&[1, 2]);
            let mut stream = model.speak(prompt, None, options(rules), noise(1)).unwrap();
            for step in all_steps(&mut stream) {
                let scores = |hidden: Tensor<2>| -> Vec<f32> {
                    let logits = model.lm.token_adapter().logits(hidden.unsqueeze_dim(0));
                    let logits = logits.squeeze_dim::<2>(0);
                    let logits = burn::tensor::activation::log_softmax(logits, 1);
                    logits.into_data().try_into_vec().unwrap()
                };
                let mut guided = scores(step.hidden);
                if let Some(hidden) = step.token_hidden {
                    for (score, alone) in guided.iter_mut().zip(scores(hidden)) {
                        *score = alone + 1.5 * (*score - alone);
                    }
                }
                let best = (16..20usize).max_by(|&a, &b| guided[a].total_cmp(&guided[b]));
                assert_eq!(SpeechToken::ALL[best.unwrap() - 16], step.token);
            }
        }
    }
}

#[test]
fn limits_cut() {
    let model = model(3);
    let frames = vec![SpeechToken::Audio; 6];
    let given = || FrameNoise::Given(RandomStream::new(1).normal([4, 4], &Device::default()));
    let base = options(Rules::ORIGINAL);
    let cases = [
        (
            SpeakOptions {
                max_frames: 2,
                ..base
            },
            2,
            End::Frames,
        ),
        (
            SpeakOptions {
                max_steps: 3,
                ..base
            },
            3,
            End::Steps,
        ),
        // Three of the prompt, with the one that is read in the first step.
        (
            SpeakOptions {
                max_positions: 5,
                ..base
            },
            3,
            End::Positions,
        ),
        (base, 4, End::Frames),
    ];
    for (options, count, end) in cases {
        let mut stream = model
            .speak(prompt(&[1, 2]), None, options, given())
            .unwrap();
        stream.force(0, frames.clone());
        assert_eq!(all_steps(&mut stream).len(), count, "{end:?}");
        assert_eq!(stream.end_of(0), Some(end));
    }
    let options = SpeakOptions {
        max_positions: 2,
        ..base
    };
    let error = model
        .speak(prompt(&[1, 2]), None, options, noise(1))
        .unwrap_err();
    assert!(
        error
            .to_string()
            .contains("take 3 positions, the model reads 2")
    );
}

/// Voices of different lengths, the second of which is no multiple of the hop of 6 samples.
#[test]
fn voices_are_encoded_as_if_alone_and_stand_in_their_places() {
    let model = model(4);
    let device = Device::default();
    let samples = |seed, count| -> Vec<f32> {
        let sound = RandomStream::new(seed).normal([count], &device);
        sound.into_data().try_into_vec().unwrap()
    };
    let recordings = [samples(1, 12), samples(2, 25)];
    assert_eq!(model.voice_shape(&recordings), [2, 5, 4]);
    let mut random = RandomStream::new(3);
    let noise = LatentNoise::draw([2, 5, 4], &mut random, &device);
    let voices = model.encode_voices(&recordings, Some(noise.clone()), Rules::TRANSFORMERS);
    assert_eq!(voices.frames, [2, 5]);
    assert_eq!(voices.signal.dims(), [2, 1, 30]);
    for (voice, first) in [(0usize, 0usize), (1, 2)] {
        let mut padded = recordings[voice].clone();
        padded.resize(voices.frames[voice] * 6, 0.0);
        let sound = Tensor::<1>::from_floats(padded.as_slice(), &device);
        let mean = model
            .codec
            .encode(sound.reshape([1, 1, padded.len()]))
            .mode();
        let frames = voices.frames[voice];
        let scale = noise.scale.clone().narrow(0, voice, 1).mul_scalar(0.625);
        let eps = noise.eps.clone().narrow(0, voice, 1).narrow(1, 0, frames);
        let latents = mean + eps * scale.reshape([1, 1, 1]);
        let expected = model.lm.latents[0].whiten(latents).squeeze_dim::<2>(0);
        let own = voices.features.clone().narrow(0, first, frames);
        assert_close("features", own, expected, 1e-5);
    }
    let original = model.encode_voices(&recordings, Some(noise), Rules::ORIGINAL);
    assert_eq!(original.signal.dims(), [2, 1, 25]);
    let kept = |voices: &EncodedVoices| voices.features.clone().narrow(0, 0, 6);
    assert_close("but the last", kept(&original), kept(&voices), 1e-5);

    for (rules, voices) in [(Rules::ORIGINAL, &original), (Rules::TRANSFORMERS, &voices)] {
        let sound = voices.signal.clone().narrow(0, 1, 1);
        let expected = voices.mean.clone().narrow(0, 1, 1);
        for piece in [1, 12, 20, 24] {
            let mean = model.voice_mean(sound.clone(), piece, rules);
            assert_close("in pieces", mean, expected.clone(), 1e-5);
        }
    }

    let tokens: Vec<u32> = vec![1, 18, 18, 2, 18, 18, 18, 18, 18, 16];
    let prompt = VibeVoicePrompt::of_tokens(tokens, 18);
    let x = model.embed_prompt(&prompt, Some(voices.features.clone()));
    let positions = model.lm.latents[0]
        .embed(voices.features)
        .unsqueeze_dim::<3>(0);
    let second = x.clone().narrow(1, 4, 5);
    assert_close("a voice", second, positions.narrow(1, 2, 5), 1e-6);
    let start = embedding(&model, SpeechToken::Start).unsqueeze_dim::<3>(0);
    assert_close("the beginning", x.narrow(1, 9, 1), start, 1e-6);
}

/// Positions behind others that were read before.
#[test]
fn positions_are_read_in_pieces() {
    let model = model(5);
    let backbone = &model.lm.backbone;
    let device = Device::default();
    let x = RandomStream::new(1).normal([1, 7, 32], &device);
    let before = RandomStream::new(2).normal([1, 2, 32], &device);
    let last = |piece: usize| {
        let mut state = backbone.init_state(1, 9, &device);
        backbone.step(before.clone(), &mut state);
        let hidden = read_positions(backbone, &x, &mut state, piece);
        assert_eq!(state.len(), 9);
        hidden
    };
    let whole = last(7);
    assert_eq!(whole.dims(), [1, 1, 32]);
    for piece in [1, 2, 3, 6] {
        assert_close("in pieces", last(piece), whole.clone(), 1e-5);
    }
}

#[test]
fn latents_stand_in_the_place_of_audio_tokens() {
    let document = document(&[1, 9, 9, 2, 3, 9], 9);
    let layout = Layout::new(&[document], &[ControlTokens::after(10)]);
    assert_eq!(layout.tokens, [1, 2, 3]);
    assert_eq!(layout.rows, [0, 3, 4, 1, 2, 5]);
}
