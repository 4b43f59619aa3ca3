//! Verifies a text that VibeVoice-Realtime says with a saved voice.

use burn::tensor::Tensor;
use latentlm::SampleOptions;
use latentlm_data::TextTokenizer;
use latentlm_published::{WeightType, load_realtime};
use latentlm_vibevoice::{
    FrameNoise, RealtimeFrame, RealtimeOptions, RealtimeStep, RealtimeText, SavedVoice, TextWindow,
    VibeVoiceRealtime,
};
use serde::Deserialize;

use crate::case::{Case, Tensors};
use crate::error::VerifyError;
use crate::generation::{compare_with, different};
use crate::report::{GENERATION, Report};

/// One of a frame's tensors, by rows.
type OfFrame = fn(&RealtimeFrame) -> &Tensor<2>;

/// Settings of a case's run.
#[derive(Deserialize)]
struct Settings {
    text: String,
    guidance_scale: f64,
    num_diffusion_steps: usize,
    /// Latents that are heard. The original draws the window of the last one to its end.
    frames: usize,
}

pub(crate) fn check(case: &Case, report: &mut Report) -> Result<(), VerifyError> {
    let settings: Settings = case.json("case.json")?;
    let model = load_realtime(&case.folder, WeightType::Float32, &case.device)?;
    let voice = SavedVoice::read(&case.folder.join("voice.pt"))?;
    let mut tensors = case.tensors()?;
    check_voice(&voice, case, &mut tensors, report)?;
    let tokens = tokens(case, &settings.text)?;
    let made: Vec<i64> = tokens.iter().map(|token| i64::from(*token)).collect();
    let reference = tensors.integers("tts_text_ids")?;
    report.equal("tts_text_ids", different(&made, &reference));
    if tokens.iter().any(|id| *id as usize >= model.vocabulary()) {
        return Err(case.wrong("tokenizer.json", "is not the model's: it has more tokens"));
    }
    let options = RealtimeOptions {
        sample: SampleOptions {
            steps: settings.num_diffusion_steps,
            guidance_scale: settings.guidance_scale,
            ..SampleOptions::default()
        },
        ..RealtimeOptions::default()
    };
    let said = Said::new(&model, &voice, &tokens, options, tensors.float("noise")?)?;
    report.equal("frames", said.frames.len().abs_diff(settings.frames));
    said.check(&mut tensors, report)
}

/// The tokens of a text.
fn tokens(case: &Case, text: &str) -> Result<Vec<u32>, VerifyError> {
    let tokenizer = TextTokenizer::read(&case.folder.join("tokenizer.json"))?;
    let encode = |text: &str| tokenizer.encode_exact(text);
    let mut pushed = RealtimeText::default();
    let mut tokens = pushed.push(text, encode)?;
    tokens.extend(pushed.finish(encode)?);
    Ok(tokens)
}

/// Compares every tensor of a voice, also once it went through the other format.
fn check_voice(
    voice: &SavedVoice,
    case: &Case,
    io: &mut Tensors,
    report: &mut Report,
) -> Result<(), VerifyError> {
    let again = SavedVoice::from_bytes(&voice.to_safetensors()?, &case.folder.join("voice"))?;
    let changed = voice.tensors() != again.tensors();
    report.equal("voice as safetensors", usize::from(changed));
    for (name, data) in voice.tensors() {
        let name = format!("voice.{name}");
        let data = data.clone().convert::<f32>();
        if data.shape().len() == 3 {
            let own: Tensor<3> = Tensor::from_data(data, &case.device);
            report.compare(&name, own, io.float(&name)?, GENERATION);
        } else {
            let own: Tensor<4> = Tensor::from_data(data, &case.device);
            report.compare(&name, own, io.float(&name)?, GENERATION);
        }
    }
    Ok(())
}

/// Everything that was read and drawn.
#[derive(Default)]
struct Said {
    windows: Vec<TextWindow>,
    frames: Vec<RealtimeFrame>,
}

impl Said {
    fn new(
        model: &VibeVoiceRealtime,
        voice: &SavedVoice,
        tokens: &[u32],
        options: RealtimeOptions,
        noise: Tensor<2>,
    ) -> Result<Self, VerifyError> {
        let mut stream = model.speak(voice, options, FrameNoise::Given(noise))?;
        stream.push(tokens);
        stream.end_text();
        let mut said = Self::default();
        while let Some(step) = stream.next_step() {
            match step {
                RealtimeStep::Text(window) => said.windows.push(window),
                RealtimeStep::Frame(frame) => said.frames.push(frame),
                RealtimeStep::Waits => {}
            }
        }
        Ok(said)
    }

    fn check(&self, io: &mut Tensors, report: &mut Report) -> Result<(), VerifyError> {
        let text = self.windows.iter().map(|window| window.text_hidden.clone());
        compare_with(
            "text_lm",
            &text.collect::<Vec<_>>(),
            io.float("text_lm")?,
            report,
        );
        let speech = self
            .windows
            .iter()
            .map(|window| window.speech_hidden.clone());
        compare_with(
            "text_tts",
            &speech.collect::<Vec<_>>(),
            io.float("text_tts")?,
            report,
        );
        let of_frames: [(&str, OfFrame); 6] = [
            ("condition", |frame| &frame.condition),
            ("negative_condition", |frame| &frame.null_condition),
            ("latents", |frame| &frame.latents),
            ("chunks", |frame| &frame.sound),
            ("hidden", |frame| &frame.hidden),
            ("negative_hidden", |frame| &frame.null_hidden),
        ];
        for (name, of) in of_frames {
            let rows: Vec<Tensor<2>> = self.frames.iter().map(|frame| of(frame).clone()).collect();
            let reference: Tensor<2> = io.float(name)?;
            let heard = rows.len().min(reference.dims()[0]).max(1);
            compare_with(name, &rows, reference.narrow(0, 0, heard), report);
        }
        let reference: Tensor<1> = io.float("eos")?;
        let heard = self.frames.len().min(reference.dims()[0]).max(1);
        let stops: Vec<f32> = self.frames.iter().map(|frame| frame.stop).collect();
        let stops: Tensor<1> = Tensor::from_floats(stops.as_slice(), &reference.device());
        report.compare("eos", stops, reference.narrow(0, 0, heard), GENERATION);
        let reference: Tensor<1> = io.float("waveform")?;
        let sound: Vec<Tensor<2>> = self
            .frames
            .iter()
            .map(|frame| frame.sound.clone())
            .collect();
        if sound.is_empty() {
            report.equal("waveform", reference.dims()[0]);
        } else {
            let sound = Tensor::cat(sound, 1).squeeze_dim::<1>(0);
            report.compare("waveform", sound, reference, GENERATION);
        }
        Ok(())
    }
}
