//! Verifies dialogues that VibeVoice says, from script and recordings to sound.

use burn::tensor::activation::log_softmax;
use burn::tensor::{Int, Tensor, TensorData};
use latentlm::core::{LatentNoise, SignalLayout};
use latentlm::{LatentCodec, SampleOptions};
use latentlm_data::TextTokenizer;
use latentlm_data::speech::read_audio;
use latentlm_published::load_vibevoice;
use latentlm_vibevoice::{
    EncodedVoices, FrameNoise, Rules, Script, SpeakOptions, SpeechToken, SpokenFrame, SpokenStep,
    VibeVoice, VibeVoicePrompt, VoiceLine, level_voice,
};
use serde::Deserialize;

use crate::case::{Case, Tensors};
use crate::error::VerifyError;
use crate::report::{GENERATION, Report};

const IO: &str = "io.safetensors";
const ORIGINAL: &str = "original.safetensors";
const SETTINGS: &str = "case.json";

/// Settings of a case's run.
#[derive(Deserialize)]
struct Settings {
    /// Recordings, of the speakers in the order in which they first speak.
    voices: Vec<String>,
    guidance_scale: f64,
    num_diffusion_steps: usize,
}

/// Inputs of a case.
struct Given<'a> {
    case: &'a Case,
    model: VibeVoice,
    script: Script,
    tokenizer: TextTokenizer,
    /// At the codec's rate and the loudness of voices.
    recordings: Vec<Vec<f32>>,
    sample: SampleOptions,
}

/// Rules of `transformers`, and of the original repository where the case has its numbers too.
pub(crate) fn check(case: &Case, report: &mut Report) -> Result<(), VerifyError> {
    let given = Given::read(case)?;
    let mut tensors = case.tensors()?;
    let rules = Rules::TRANSFORMERS;
    let features = given.check_voices(rules, &mut tensors, report)?;
    let steps = given.speak(rules, features, IO, report)?;
    given.check_steps(&steps, &mut tensors, report)?;
    check_frames(&steps, &mut tensors, report)?;
    if case.has(ORIGINAL) {
        given.check_original(ORIGINAL, report)?;
    }
    Ok(())
}

/// A case in the original's format, by its rules.
pub(crate) fn check_original(case: &Case, report: &mut Report) -> Result<(), VerifyError> {
    Given::read(case)?.check_original(IO, report)
}

impl<'a> Given<'a> {
    fn read(case: &'a Case) -> Result<Self, VerifyError> {
        let settings: Settings = case.json(SETTINGS)?;
        let model = load_vibevoice(&case.folder, &case.device)?;
        let script = Script::parse(&case.text("script.txt")?);
        let script = script.map_err(|error| case.wrong("script.txt", error))?;
        let rate_hz = sample_rate_hz(&model);
        let mut recordings = Vec::with_capacity(settings.voices.len());
        for voice in &settings.voices {
            let sound = read_audio(&case.folder.join(voice))?;
            let mut samples = sound.resampled(rate_hz).samples;
            level_voice(&mut samples);
            recordings.push(samples);
        }
        Ok(Self {
            case,
            model,
            script,
            tokenizer: TextTokenizer::read(&case.folder.join("tokenizer.json"))?,
            recordings,
            sample: SampleOptions {
                steps: settings.num_diffusion_steps,
                guidance_scale: settings.guidance_scale,
                ..SampleOptions::default()
            },
        })
    }

    /// The prompt of script and recordings.
    fn prompt(&self, rules: Rules) -> Result<VibeVoicePrompt, VerifyError> {
        let mut script = self.script.clone();
        if rules.lowers_numbers {
            script = script.lowered();
        }
        let speakers = script.speakers();
        let mut voices = Vec::with_capacity(self.recordings.len());
        for (place, recording) in self.recordings.iter().enumerate() {
            // QUIRK(vibevoice_processor.py): whatever the script's numbers, voices are counted from 0.
            let speaker = if rules.lowers_numbers {
                u32::try_from(place).ok()
            } else {
                speakers.get(place).copied()
            };
            let more = || self.case.wrong(SETTINGS, "has more voices than speakers");
            voices.push(VoiceLine {
                speaker: speaker.ok_or_else(more)?,
                frames: self.model.voice_frames(recording.len()),
            });
        }
        let special = self.model.speech_tokens();
        Ok(VibeVoicePrompt::new(
            &script.turns,
            &voices,
            special,
            |text| self.tokenizer.encode_exact(text),
        )?)
    }

    /// Encodes the recordings with the noise of `io`. `None` if there are none.
    fn voices(&self, rules: Rules, io: &mut Tensors) -> Result<Option<EncodedVoices>, VerifyError> {
        if self.recordings.is_empty() {
            return Ok(None);
        }
        let eps: Tensor<3> = io.float("prompt_noise")?;
        let shape = self.model.voice_shape(&self.recordings);
        if eps.dims() != shape {
            let reason = format!("`prompt_noise` is {:?}, voices take {shape:?}", eps.dims());
            return Err(self.case.wrong(IO, reason));
        }
        let scale = io.float("prompt_scale")?;
        let noise = LatentNoise { scale, eps };
        let (model, recordings) = (&self.model, &self.recordings);
        Ok(Some(model.encode_voices(recordings, Some(noise), rules)))
    }

    /// Compares the recordings on their way into the prompt. Returns their features.
    fn check_voices(
        &self,
        rules: Rules,
        io: &mut Tensors,
        report: &mut Report,
    ) -> Result<Option<Tensor<2>>, VerifyError> {
        let Some(voices) = self.voices(rules, io)? else {
            return Ok(None);
        };
        let length = voices.signal.dims()[2];
        let mut mask = Vec::with_capacity(self.recordings.len() * length);
        for recording in &self.recordings {
            mask.extend((0..length).map(|sample| i64::from(sample < recording.len())));
        }
        let reference = io.float("input_values")?;
        report.compare("input_values", voices.signal, reference, GENERATION);
        let reference = io.integers("padding_mask")?;
        report.equal("padding_mask", different(&mask, &reference));
        let reference = io.float("prompt_mean")?;
        report.compare("prompt_mean", voices.mean, reference, GENERATION);
        let reference = io.float("prompt_features")?;
        let features = voices.features;
        report.compare("prompt_features", features.clone(), reference, GENERATION);
        let embedded = self.model.lm.latents[0].embed(features.clone());
        let reference = io.float("prompt_embeds")?;
        report.compare("prompt_embeds", embedded, reference, GENERATION);
        Ok(Some(features))
    }

    /// Compares the prompt with that of a file, speaks it with the file's noise, and compares the tokens.
    fn speak(
        &self,
        rules: Rules,
        voices: Option<Tensor<2>>,
        file: &str,
        report: &mut Report,
    ) -> Result<Vec<SpokenStep>, VerifyError> {
        let title = title(file);
        let mut tensors = self.case.tensors_of(file)?;
        let wanted = tensors.integers("input_ids")?;
        let made: Vec<i64> = self
            .prompt(rules)?
            .tokens
            .into_iter()
            .map(i64::from)
            .collect();
        report.equal(&format!("{title}input_ids"), different(&made, &wanted));

        let special = self.model.speech_tokens();
        let ids: Vec<u32> = wanted.iter().map(|id| *id as u32).collect();
        let prompt = VibeVoicePrompt::of_tokens(ids, special.audio);
        let (places, given) = (prompt.voice_positions.len(), rows_of(voices.as_ref()));
        if places != given {
            let reason =
                format!("`input_ids` has places for {places} latents of voices, not {given}");
            return Err(self.case.wrong(file, reason));
        }
        let wanted = tensors.integers("tokens")?;
        let options = SpeakOptions {
            rules,
            sample: self.sample,
            max_steps: wanted.len(),
            ..SpeakOptions::default()
        };
        let noise = FrameNoise::Given(tensors.float("noise")?);
        let stream = self.model.speak(prompt, voices, options, noise);
        let mut stream = stream.map_err(|error| self.case.wrong(file, error))?;
        let mut all = Vec::new();
        while let Some(steps) = stream.next_step() {
            all.extend(steps);
        }
        let mut chosen = Vec::with_capacity(all.len());
        for step in &all {
            chosen.push(i64::from(match step.token {
                SpeechToken::Start => special.start,
                SpeechToken::Stop => special.stop,
                SpeechToken::Audio => special.audio,
                SpeechToken::End => special.end,
            }));
        }
        report.equal(&format!("{title}tokens"), different(&chosen, &wanted));
        Ok(all)
    }

    /// Compares the results of every step.
    fn check_steps(
        &self,
        steps: &[SpokenStep],
        io: &mut Tensors,
        report: &mut Report,
    ) -> Result<(), VerifyError> {
        let hidden: Vec<Tensor<2>> = steps.iter().map(|step| step.hidden.clone()).collect();
        compare_rows("hidden", &hidden, io, report)?;
        let logits: Vec<Tensor<2>> = hidden.into_iter().map(|row| self.logits(row)).collect();
        compare_rows("logits", &logits, io, report)?;
        let tokens = self.model.speech_tokens();
        let tokens = [tokens.start, tokens.stop, tokens.audio, tokens.end];
        let columns = TensorData::new(tokens.map(i64::from).to_vec(), [tokens.len()]);
        let columns: Tensor<1, Int> = Tensor::from_data(columns, &self.case.device);
        let mut scores = Vec::with_capacity(steps.len());
        for (step, logits) in steps.iter().zip(logits) {
            let given = log_softmax(logits, 1);
            let scored = match &step.token_hidden {
                Some(alone) => {
                    let alone = log_softmax(self.logits(alone.clone()), 1);
                    let guidance = self.sample.guidance_scale;
                    alone.clone() + (given - alone).mul_scalar(guidance)
                }
                None => given,
            };
            scores.push(scored.select(1, columns.clone()));
        }
        compare_rows("token_scores", &scores, io, report)
    }

    /// Logits of the whole vocabulary, `[1, V]`, of a hidden state `[1, D]`.
    fn logits(&self, hidden: Tensor<2>) -> Tensor<2> {
        let logits = self
            .model
            .lm
            .token_adapter()
            .logits(hidden.unsqueeze_dim(0));
        logits.squeeze_dim(0)
    }

    /// Compares a run by the original's rules with the numbers in `file`.
    fn check_original(&self, file: &str, report: &mut Report) -> Result<(), VerifyError> {
        let (rules, title) = (Rules::ORIGINAL, title(file));
        let mut reference = self.case.tensors_of(file)?;
        let voices = self.voices(rules, &mut self.case.tensors()?)?;
        let features = voices.map(|voices| voices.features);
        if let Some(features) = &features {
            let name = format!("{title}prompt_features");
            let expected = reference.float("prompt_features")?;
            report.compare(&name, features.clone(), expected, GENERATION);
        }
        let steps = self.speak(rules, features, file, report)?;
        let latents = frames(&steps, |frame| &frame.latents);
        let expected: Tensor<2> = reference.float("latents")?;
        compare_with(&format!("{title}latents"), &latents, expected, report);
        let expected = reference.float("waveform")?;
        compare_sound(&format!("{title}waveform"), &steps, expected, report);
        Ok(())
    }
}

/// Prefix of a tensor's name.
fn title(file: &str) -> &'static str {
    if file == ORIGINAL { "original." } else { "" }
}

fn sample_rate_hz(model: &VibeVoice) -> u32 {
    match model.codec.spec().layout {
        SignalLayout::Frames { sample_rate_hz, .. } => sample_rate_hz,
        SignalLayout::Grid { .. } | SignalLayout::Video { .. } => 0,
    }
}

/// Compares what is computed from every latent.
fn check_frames(
    steps: &[SpokenStep],
    io: &mut Tensors,
    report: &mut Report,
) -> Result<(), VerifyError> {
    let spoken = steps.iter().filter(|step| step.frame.is_some());
    let (mut condition, mut null) = (Vec::new(), Vec::new());
    for step in spoken {
        condition.push(step.hidden.clone());
        null.push(step.null_hidden.clone());
    }
    compare_rows("condition", &condition, io, report)?;
    compare_rows("negative_condition", &null, io, report)?;
    let latents = frames(steps, |frame| &frame.latents);
    compare_rows("latents", &latents, io, report)?;
    let decoded = frames(steps, |frame| &frame.decoder_latents);
    compare_rows("decoder_latents", &decoded, io, report)?;
    let chunks = frames(steps, |frame| &frame.sound);
    compare_rows("chunks", &chunks, io, report)?;
    let semantic = frames(steps, |frame| &frame.semantic);
    compare_rows("semantic", &semantic, io, report)?;
    let embedded = frames(steps, |frame| &frame.embedded);
    compare_rows("embeds", &embedded, io, report)?;
    compare_sound("waveform", steps, io.float("waveform")?, report);
    Ok(())
}

/// One tensor of each frame.
fn frames(steps: &[SpokenStep], of: fn(&SpokenFrame) -> &Tensor<2>) -> Vec<Tensor<2>> {
    let frames = steps.iter().filter_map(|step| step.frame.as_ref());
    frames.map(|frame| of(frame).clone()).collect()
}

fn compare_rows(
    name: &str,
    rows: &[Tensor<2>],
    io: &mut Tensors,
    report: &mut Report,
) -> Result<(), VerifyError> {
    compare_with(name, rows, io.float(name)?, report);
    Ok(())
}

pub(crate) fn compare_with(
    name: &str,
    rows: &[Tensor<2>],
    reference: Tensor<2>,
    report: &mut Report,
) {
    if rows.is_empty() {
        report.equal(name, reference.dims()[0]);
    } else {
        report.compare(name, Tensor::cat(rows.to_vec(), 0), reference, GENERATION);
    }
}

/// Compares all sound, `[F * H]`.
fn compare_sound(name: &str, steps: &[SpokenStep], reference: Tensor<1>, report: &mut Report) {
    let sound = frames(steps, |frame| &frame.sound);
    if sound.is_empty() {
        report.equal(name, reference.dims()[0]);
    } else {
        let sound = Tensor::cat(sound, 1).squeeze_dim::<1>(0);
        report.compare(name, sound, reference, GENERATION);
    }
}

fn rows_of(tensor: Option<&Tensor<2>>) -> usize {
    tensor.map_or(0, |tensor| tensor.dims()[0])
}

/// Places where two lists differ.
pub(crate) fn different(ours: &[i64], reference: &[i64]) -> usize {
    let pairs = ours.iter().zip(reference);
    let changed = pairs.filter(|(ours, reference)| ours != reference).count();
    changed + ours.len().abs_diff(reference.len())
}
