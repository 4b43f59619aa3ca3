//! VibeVoice-Realtime from its folder: texts that arrive in pieces, limits, and voices of other models.

use std::path::{Path, PathBuf};

use burn::tensor::{DType, Device, Tensor};
use latentlm::RandomStream;
use latentlm_core::conformance::seeded;
use latentlm_data::TextTokenizer;
use latentlm_published::{WeightType, load_realtime, read_realtime_config};
use latentlm_vibevoice::{
    End, FrameNoise, RealtimeConfig, RealtimeOptions, RealtimeStep, RealtimeStream, RealtimeText,
    SavedVoice, VibeVoiceRealtime,
};

fn fixture() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/vibevoice-realtime-one")
}

fn voice() -> SavedVoice {
    SavedVoice::read(&fixture().join("voice.pt")).unwrap()
}

fn model() -> VibeVoiceRealtime {
    let load = |device: &Device| load_realtime(&fixture(), WeightType::Float32, device).unwrap();
    seeded(1, &Device::default(), load)
}

fn options(frames: usize) -> RealtimeOptions {
    RealtimeOptions {
        forced_frames: Some(frames),
        ..RealtimeOptions::default()
    }
}

fn noise() -> FrameNoise {
    FrameNoise::Drawn(RandomStream::new(3))
}

fn tokenizer() -> TextTokenizer {
    TextTokenizer::read(&fixture().join("tokenizer.json")).unwrap()
}

const TEXT: &str =
    "  It's 12 o'clock, na\u{ef}ve e\u{301}t al. say: \u{4f60}\u{597d}\u{ff0c}yes ... \n no?\t ";

/// What was read and heard of a text that comes in pieces of so many characters, each when the stream waits.
fn spoken(model: &VibeVoiceRealtime, size: usize) -> (Vec<u32>, Vec<f32>) {
    let tokenizer = tokenizer();
    let encode = |text: &str| tokenizer.encode_exact(text);
    let characters: Vec<char> = TEXT.chars().collect();
    let mut pieces = characters.chunks(size);
    let mut text = Some(RealtimeText::default());
    let mut stream = model.speak(&voice(), options(300), noise()).unwrap();
    let (mut read, mut heard) = (Vec::new(), Vec::new());
    while let Some(step) = stream.next_step() {
        match step {
            RealtimeStep::Text(window) => read.extend(window.tokens),
            RealtimeStep::Frame(frame) => {
                heard.extend(frame.sound.into_data().try_to_vec::<f32>().unwrap());
            }
            RealtimeStep::Waits => {
                let open = text
                    .as_mut()
                    .expect("a stream does not wait behind the end");
                if let Some(piece) = pieces.next() {
                    let piece: String = piece.iter().collect();
                    stream.push(&open.push(&piece, encode).unwrap());
                } else if let Some(text) = text.take() {
                    stream.push(&text.finish(encode).unwrap());
                    stream.end_text();
                }
            }
        }
    }
    assert_eq!(stream.end(), Some(End::Forced));
    (read, heard)
}

#[test]
fn it_does_not_matter_when_text_comes() {
    let model = model();
    let whole = spoken(&model, usize::MAX);
    let at_once = tokenizer().encode_exact(&format!("{}\n", TEXT.trim()));
    assert_eq!(whole.0, at_once.unwrap());
    assert_eq!(whole.1.len(), 300 * model.hop_samples());
    for size in [1, 2, 7] {
        assert!(spoken(&model, size) == whole, "pieces of {size}");
    }
}

/// Frames of a text without end: while it is open, windows alternate, and the stream waits in between.
#[test]
fn windows_of_text_and_speech_alternate() {
    let model = model();
    let mut stream = model.speak(&voice(), options(100), noise()).unwrap();
    let kinds = |stream: &mut RealtimeStream<'_>| -> String {
        let mut kinds = String::new();
        loop {
            match stream.next_step() {
                Some(RealtimeStep::Text(window)) => {
                    kinds.push_str(&window.tokens.len().to_string())
                }
                Some(RealtimeStep::Frame(_)) => kinds.push('f'),
                Some(RealtimeStep::Waits) | None => return kinds,
            }
        }
    };
    stream.push(&[1, 2, 3, 4]);
    assert_eq!(kinds(&mut stream), "");
    stream.push(&[5, 6, 7]);
    assert_eq!(kinds(&mut stream), "5ffffff");
    assert_eq!(kinds(&mut stream), "");
    stream.push(&[8]);
    stream.end_text();
    let rest = kinds(&mut stream);
    assert!(rest.starts_with("3ffffffffffff"), "{rest}");
    assert_eq!(rest.matches('f').count(), 94);
}

/// Euclidean distance of tensors, as a part of the size of the second.
fn distance(a: Tensor<2>, b: Tensor<2>) -> f32 {
    let size: f32 = b.clone().square().sum().sqrt().into_scalar();
    let distance: f32 = (a - b).square().sum().sqrt().into_scalar();
    distance / size
}

/// Weights in bfloat16, as the published file has them, under positions in float32.
#[test]
fn weights_may_stay_in_bfloat16() {
    let load = |weights| load_realtime(&fixture(), weights, &Device::default()).unwrap();
    let [exact, stored] = [WeightType::Float32, WeightType::Bfloat16].map(load);
    let steps = |model: &VibeVoiceRealtime| {
        let mut stream = model.speak(&voice(), options(3), noise()).unwrap();
        stream.push(&[1, 2, 3, 4, 5]);
        stream.end_text();
        let mut steps = Vec::new();
        while let Some(step) = stream.next_step() {
            steps.push(step);
        }
        assert_eq!(stream.end(), Some(End::Forced));
        steps
    };
    let both = steps(&stored).into_iter().zip(steps(&exact));
    let mut frames = 0;
    for (got, expected) in both {
        match (got, expected) {
            (RealtimeStep::Text(got), RealtimeStep::Text(expected)) => {
                assert_eq!(got.speech_hidden.dtype(), DType::F32);
                // Weights and inputs of a few products in a row are rounded to 8 bits.
                let text = distance(got.text_hidden, expected.text_hidden);
                let speech = distance(got.speech_hidden, expected.speech_hidden);
                assert!(text < 0.05 && speech < 0.2, "{text} {speech}");
            }
            (RealtimeStep::Frame(got), RealtimeStep::Frame(_)) => {
                assert_eq!(got.sound.dtype(), DType::F32);
                let sum: f32 = got.sound.sum().into_scalar();
                assert!(sum.is_finite());
                frames += 1;
            }
            _ => panic!("the steps differ"),
        }
    }
    assert_eq!(frames, 3);
}

/// Limits end the stream, each by its name.
#[test]
fn limits_are_kept() {
    let model = model();
    let end = |options: RealtimeOptions, noise: FrameNoise| {
        let mut stream = model.speak(&voice(), options, noise).unwrap();
        stream.push(&[1, 2, 3]);
        stream.end_text();
        let mut frames = 0;
        while let Some(step) = stream.next_step() {
            frames += usize::from(matches!(step, RealtimeStep::Frame(_)));
        }
        (frames, stream.end().unwrap())
    };
    let forced = options(1000);
    let few = RealtimeOptions {
        max_frames: 2,
        ..forced
    };
    assert_eq!(end(few, noise()), (2, End::Frames));
    let given = FrameNoise::Given(Tensor::zeros([4, 6], &Device::default()));
    assert_eq!(end(forced, given), (4, End::Frames));
    // The voice takes 10 positions, the text 3.
    let short = RealtimeOptions {
        max_positions: 20,
        ..forced
    };
    assert_eq!(end(short, noise()), (7, End::Positions));
    let tiny = RealtimeOptions {
        max_positions: 9,
        ..forced
    };
    let refused = model.speak(&voice(), tiny, noise()).unwrap_err();
    let message = refused.to_string();
    assert!(
        message.ends_with("takes 10 positions, the model reads 9"),
        "{message}"
    );
    let nan = Tensor::full([4, 6], f32::NAN, &Device::default());
    let (_, why) = end(forced, FrameNoise::Given(nan));
    assert_eq!(why, End::NotFinite);
}

#[test]
fn a_voice_of_another_model_is_refused_with_both_shapes() {
    let config = read_realtime_config(&fixture()).unwrap().model();
    let device = Device::default();
    let refusal = |config: RealtimeConfig| {
        let model = seeded(1, &device, |device| config.init(device));
        let refused = model.speak(&voice(), RealtimeOptions::default(), noise());
        refused.map(drop).unwrap_err().to_string()
    };
    let mut heads = config.clone();
    heads.backbone.kv_heads = 4;
    let message = refusal(heads);
    let part = "`lm` has 1 layers of [1, 2, 3, 12], the model 1 layers of [1, 4, 3, 12]";
    assert!(message.contains(part), "{message}");
    let mut layers = config.clone();
    layers.backbone.depth = 4;
    layers.speech_depth = 3;
    let message = refusal(layers);
    let part = "`tts_lm` has 2 layers of [1, 2, 10, 12], the model 3 layers of [1, 2, 10, 12]";
    assert!(message.contains(part), "{message}");
}
