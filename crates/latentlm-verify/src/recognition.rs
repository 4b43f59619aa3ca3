//! Verifies recordings that VibeVoice transcribes, from recording to tokens.

use burn::tensor::{Tensor, TensorData};
use latentlm::core::LatentNoise;
use latentlm_data::TextTokenizer;
use latentlm_data::speech::read_audio;
use latentlm_published::{AsrJson, WeightType, load_asr, read_asr_config};
use latentlm_vibevoice::{
    AsrOptions, AsrPrompt, AsrSound, AsrTokens, Rules, VibeVoiceAsr, level_voice,
};
use serde::Deserialize;
use serde_json::Value;

use crate::case::{Case, Tensors};
use crate::error::VerifyError;
use crate::generation::different;
use crate::report::{GENERATION, Report};

const SETTINGS: &str = "case.json";
const GENERATION_CONFIG: &str = "generation_config.json";
const AUDIO: &str = "audio.wav";

/// Settings of a case's run.
#[derive(Deserialize)]
struct Settings {
    /// Names and words that may occur in the recording.
    context: Option<String>,
    sample_rate_hz: u32,
}

pub(crate) fn check(case: &Case, report: &mut Report) -> Result<(), VerifyError> {
    let json = read_asr_config(&case.folder)?;
    let model = load_asr(&case.folder, WeightType::Float32, &case.device)?;
    let settings: Settings = case.json(SETTINGS)?;
    let tokenizer = TextTokenizer::read(&case.folder.join("tokenizer.json"))?;
    let tokens = tokens(case, &json, &tokenizer)?;
    let sound = read_audio(&case.folder.join(AUDIO))?;
    let mut recording = sound.resampled(settings.sample_rate_hz).samples;
    level_voice(&mut recording);
    let size = AsrSound {
        samples: recording.len(),
        sample_rate_hz: settings.sample_rate_hz,
        hop_samples: model.hop_samples(),
    };
    let context = settings.context.as_deref();
    let prompt = AsrPrompt::new(size, context, &tokens, |text| tokenizer.encode_exact(text))?;

    let mut io = case.tensors()?;
    let made: Vec<i64> = prompt.tokens.iter().map(|id| i64::from(*id)).collect();
    report.equal("input_ids", different(&made, &io.integers("input_ids")?));
    let embedded = check_sound(&model, &recording, &mut io, report)?;
    let wanted = io.integers("tokens")?;
    let options = AsrOptions {
        ends: tokens.ends,
        max_tokens: wanted.len(),
        max_positions: json.max_positions(),
    };
    let stream = model.transcribe(&prompt, embedded, options);
    let mut stream = stream.map_err(|error| case.wrong(AUDIO, error))?;
    let (mut chosen, mut hidden, mut logits) = (Vec::new(), Vec::new(), Vec::new());
    while let Some(step) = stream.next_token() {
        chosen.push(i64::from(step.token));
        hidden.push(step.hidden);
        logits.push(step.logits);
    }
    report.equal("tokens", different(&chosen, &wanted));
    if hidden.is_empty() {
        return Err(case.wrong(SETTINGS, "no token could be chosen"));
    }
    let reference = io.float("hidden")?;
    report.compare("hidden", Tensor::cat(hidden, 0), reference, GENERATION);
    let reference = io.float("logits")?;
    report.compare("logits", Tensor::cat(logits, 0), reference, GENERATION);
    Ok(())
}

/// The token in whose places sound is heard.
pub(crate) fn audio_token(case: &Case) -> Result<i64, VerifyError> {
    let json = read_asr_config(&case.folder)?;
    let tokenizer = TextTokenizer::read(&case.folder.join("tokenizer.json"))?;
    Ok(i64::from(tokens(case, &json, &tokenizer)?.audio))
}

fn tokens(
    case: &Case,
    json: &AsrJson,
    tokenizer: &TextTokenizer,
) -> Result<AsrTokens, VerifyError> {
    let generation: Value = if case.has(GENERATION_CONFIG) {
        case.json(GENERATION_CONFIG)?
    } else {
        Value::Null
    };
    let tokens = json.tokens(&generation, |name| tokenizer.id_of(name));
    tokens.map_err(|error| case.wrong("tokenizer.json", error))
}

/// Compares what the model hears, by the rules of `transformers`. Returns what the language model reads.
fn check_sound(
    model: &VibeVoiceAsr,
    recording: &[f32],
    io: &mut Tensors,
    report: &mut Report,
) -> Result<Tensor<2>, VerifyError> {
    let mut samples = recording.to_vec();
    samples.resize(samples.len().next_multiple_of(model.hop_samples()), 0.0);
    let mask: Vec<i64> = (0..samples.len())
        .map(|sample| i64::from(sample < recording.len()))
        .collect();
    let shape = [1, 1, samples.len()];
    let device = model.device();
    let signal = Tensor::<3>::from_data(TensorData::new(samples, shape), &device);
    let reference = io.float("input_values")?;
    report.compare("input_values", signal, reference, GENERATION);
    let reference = io.integers("padding_mask")?;
    report.equal("padding_mask", different(&mask, &reference));
    let noise = LatentNoise {
        scale: io.float("scale")?,
        eps: io.float("noise")?,
    };
    let heard = model.encode(recording, Some(noise), Rules::TRANSFORMERS);
    for (name, ours) in [
        ("acoustic_mean", heard.acoustic_mean),
        ("acoustic", heard.acoustic),
        ("semantic", heard.semantic),
    ] {
        report.compare(name, ours, io.float(name)?, GENERATION);
    }
    let reference = io.float("embeds")?;
    report.compare("embeds", heard.embedded.clone(), reference, GENERATION);
    Ok(heard.embedded)
}
