//! What a run of speech is worth, in numbers.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use burn::tensor::Device;
use latentlm::SampleOptions;
use latentlm::core::bundle::{io_error, write_atomically};
use latentlm_data::Split;
use latentlm_data::speech::{Audio, Composer, Composition, Skipped, write_wav};
use latentlm_pipelines::{
    PipelineError, RunFolder, SkippedList, Speaker, Speech, SpeechData, SpeechRecipe, reconstruct,
    skipped,
};

use super::metrics::{EditCount, characters, edit_rate, mel_distance_db, si_sdr_db, stoi, words};
use super::recognizer::Listener;
use super::report::write_speech_report;
use crate::error::EvalError;

/// Rate that recognizers are given sound at.
const LISTENING_RATE_HZ: u32 = 16_000;
/// Texts that times are taken of.
const TIMED: usize = 8;

/// How a run is measured.
#[derive(Debug, Clone)]
pub struct EvaluateSpeechOptions {
    /// Utterances of each kind.
    pub samples: usize,
    /// Seed of texts and speech.
    pub seed: u64,
    /// How speech is drawn.
    pub sample: SampleOptions,
    /// What listens to composed utterances.
    pub recognizer: Option<Listener>,
    /// What listens to held-out recordings, whose vocabulary is open.
    pub open_recognizer: Option<Listener>,
    /// What says how alike the voices of files are to that of the first, 1 for the same.
    pub speaker_judge: Option<Listener>,
    /// What says how much a recording suffered, of pairs of it and what the codec made of it (PESQ).
    pub pesq_judge: Option<Listener>,
}

/// Measurements by name.
pub type SpeechEvaluation = BTreeMap<String, f64>;

/// Measures a run and writes `evaluation.json`, the sounds it was measured on, and the report. What
/// can't be measured, being broken or beyond the model's vocabulary, is added to the run's list of what
/// was left out.
///
/// # Errors
/// If the run has no finished checkpoint, its data can't be read, a listener fails, or a file can't
/// be written.
pub fn evaluate_speech(
    path: &Path,
    options: &EvaluateSpeechOptions,
    device: &Device,
) -> Result<SpeechEvaluation, EvalError> {
    let (run, recipe) = RunFolder::<SpeechRecipe>::open(path)?;
    let data = SpeechData::open(&recipe)?;
    let folder = run.file("evaluation");
    fs::create_dir_all(&folder).map_err(io_error("create", &folder))?;
    let mut measuring = Measuring {
        speaker: Speaker::from_run(path, device)?,
        options,
        folder,
        device,
        results: SpeechEvaluation::new(),
        skipped: SkippedList::default(),
    };
    measuring.codec(&data)?;
    match &data.composer {
        Some(composer) => {
            for &kind in composer.kinds() {
                measuring.composed(composer, kind)?;
            }
        }
        None => measuring.recorded(&data)?,
    }
    measuring.times(&data)?;
    measuring.skipped.keep_in(&run.file(skipped::FILE))?;
    let results = measuring.results;
    let json = serde_json::to_vec_pretty(&results).unwrap_or_default();
    write_atomically(&run.file("evaluation.json"), &json)?;
    write_speech_report(&run, &recipe)?;
    Ok(results)
}

struct Measuring<'a> {
    speaker: Speaker,
    options: &'a EvaluateSpeechOptions,
    folder: PathBuf,
    device: &'a Device,
    results: SpeechEvaluation,
    skipped: SkippedList,
}

impl Measuring<'_> {
    fn put(&mut self, name: &str, value: f64) {
        self.results.insert(name.into(), value);
    }

    /// Held-out recordings through the codec, without noise.
    fn codec(&mut self, data: &SpeechData) -> Result<(), EvalError> {
        let rate = self.speaker.sample_rate_hz();
        let (mut texts, mut originals, mut decoded) = (Vec::new(), Vec::new(), Vec::new());
        let mut measures: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
        for index in 0..data.test.len() {
            let utterance = match data.test.get(index) {
                Ok(utterance) => utterance,
                Err(error) => {
                    let path = data.test.path(index);
                    self.skipped.add(Skipped::of(path, &error));
                    continue;
                }
            };
            let (original, copy) =
                reconstruct(self.speaker.codec(), utterance.samples, self.device);
            let mut measure = |name, value: f64| measures.entry(name).or_default().push(value);
            measure(
                "codec_mel_distance_db",
                mel_distance_db(&original, &copy, rate),
            );
            measure("codec_si_sdr_db", si_sdr_db(&original, &copy));
            if let Some(value) = stoi(&original, &copy, rate) {
                measure("codec_stoi", value);
            }
            texts.push(utterance.text);
            originals.push(original);
            decoded.push(copy);
        }
        for (name, values) in measures {
            self.put(name, values.iter().sum::<f64>() / values.len() as f64);
        }
        if texts.is_empty() {
            return Ok(());
        }
        if let Some(judge) = self.options.pesq_judge.clone() {
            self.pesq(&judge, &originals, &decoded)?;
        }
        let Some(listener) = self.options.open_recognizer.clone() else {
            return Ok(());
        };
        for (version, sounds) in [("original", originals), ("codec", decoded)] {
            self.hear(&listener, ("recordings", version), &texts, &sounds)?;
        }
        Ok(())
    }

    /// The mean over recordings; too short or too silent ones have no number.
    fn pesq(
        &mut self,
        judge: &Listener,
        originals: &[Vec<f32>],
        copies: &[Vec<f32>],
    ) -> Result<(), EvalError> {
        let originals = self.write("recordings-original", originals)?;
        let copies = self.write("recordings-codec", copies)?;
        let pairs = originals.into_iter().zip(copies);
        let pairs: Vec<[PathBuf; 2]> = pairs.map(|(first, second)| [first, second]).collect();
        let answers = judge.compare("recordings", &pairs)?;
        let numbers = answers.iter().filter_map(|a| a.trim().parse::<f64>().ok());
        let numbers: Vec<f64> = numbers.filter(|number| number.is_finite()).collect();
        let mean = numbers.iter().sum::<f64>() / numbers.len() as f64;
        self.put("codec_pesq", mean);
        Ok(())
    }

    /// Whether the model can say a text; if not, that is listed.
    fn can_say(&mut self, text: &str, source: &Path) -> Result<bool, EvalError> {
        let texts = [text.to_owned()];
        match self.speaker.accepts(&texts, None, &self.options.sample) {
            Ok(()) => Ok(true),
            Err(error @ (PipelineError::Data(_) | PipelineError::Prompt { .. })) => {
                self.skipped.add(Skipped {
                    path: source.to_owned(),
                    reason: error.to_string(),
                });
                Ok(false)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Composed held-out texts: as composed, through the codec, and as the model says them.
    fn composed(&mut self, composer: &Composer, kind: Composition) -> Result<(), EvalError> {
        let (mut texts, mut originals) = (Vec::new(), Vec::new());
        for index in 0..self.options.samples as u64 {
            let composed = composer.utterance(kind, Split::Test, self.options.seed, index);
            if self.can_say(&composed.text, Path::new(skipped::COMPOSED))? {
                texts.push(composed.text);
                originals.push(composed.samples);
            }
        }
        if texts.is_empty() {
            return Ok(());
        }
        let codec = originals
            .iter()
            .map(|sound| reconstruct(self.speaker.codec(), sound.clone(), self.device).1)
            .collect::<Vec<_>>();
        let spoken = self.say(kind.name(), &texts)?;
        self.lengths(kind.name(), &spoken, &originals);
        let spoken: Vec<Vec<f32>> = spoken.into_iter().map(|speech| speech.samples).collect();
        let versions = [("original", originals), ("codec", codec), ("model", spoken)];
        self.hear_versions(kind.name(), &texts, versions)
    }

    /// Held-out recordings' texts as the model says them.
    fn recorded(&mut self, data: &SpeechData) -> Result<(), EvalError> {
        let (mut texts, mut originals) = (Vec::new(), Vec::new());
        for index in 0..data.test.len().min(self.options.samples) {
            let path = data.test.path(index);
            match data.test.get(index) {
                Ok(utterance) => {
                    if self.can_say(&utterance.text, path)? {
                        texts.push(utterance.text);
                        originals.push(utterance.samples);
                    }
                }
                Err(error) => self.skipped.add(Skipped::of(path, &error)),
            }
        }
        if texts.is_empty() {
            return Ok(());
        }
        let spoken = self.say("recordings", &texts)?;
        self.lengths("recordings", &spoken, &originals);
        let spoken: Vec<Vec<f32>> = spoken.into_iter().map(|speech| speech.samples).collect();
        if let Some(listener) = self.options.open_recognizer.clone() {
            self.hear(&listener, ("recordings", "model"), &texts, &spoken)?;
        }
        self.voices("recordings", &originals, &spoken)
    }

    fn say(&mut self, kind: &str, texts: &[String]) -> Result<Vec<Speech>, EvalError> {
        let (sample, seed) = (self.options.sample, self.options.seed);
        let spoken = self.speaker.say(texts, None, &sample, seed)?;
        let cut = spoken.iter().filter(|speech| speech.was_cut).count();
        self.put(&format!("{kind}_without_end"), cut as f64);
        Ok(spoken)
    }

    /// How long speech is beside the recordings of the same words.
    fn lengths(&mut self, kind: &str, spoken: &[Speech], originals: &[Vec<f32>]) {
        let ratios = spoken.iter().zip(originals);
        let ratios: Vec<f64> = ratios
            .map(|(speech, original)| speech.samples.len() as f64 / original.len() as f64)
            .collect();
        let longest = ratios.iter().copied().fold(0.0, f64::max);
        let mean = ratios.iter().sum::<f64>() / ratios.len() as f64;
        self.put(&format!("{kind}_length_ratio"), mean);
        self.put(&format!("{kind}_longest_ratio"), longest);
    }

    fn hear_versions(
        &mut self,
        kind: &str,
        texts: &[String],
        versions: [(&str, Vec<Vec<f32>>); 3],
    ) -> Result<(), EvalError> {
        if let Some(listener) = self.options.recognizer.clone() {
            for (version, sounds) in &versions {
                self.hear(&listener, (kind, version), texts, sounds)?;
            }
        }
        let [(_, originals), _, (_, spoken)] = versions;
        self.voices(kind, &originals, &spoken)
    }

    fn hear(
        &mut self,
        listener: &Listener,
        (kind, version): (&str, &str),
        texts: &[String],
        sounds: &[Vec<f32>],
    ) -> Result<(), EvalError> {
        let files = self.write(&format!("{kind}-{version}"), sounds)?;
        let heard = listener.listen(kind, &files)?;
        let pairs = || texts.iter().zip(&heard);
        let errors: EditCount = pairs().map(|(t, h)| edit_rate(&words(t), &words(h))).sum();
        self.put(&format!("{kind}_word_error_rate_{version}"), errors.rate());
        let errors: EditCount = pairs()
            .map(|(t, h)| edit_rate(&characters(t), &characters(h)))
            .sum();
        self.put(
            &format!("{kind}_character_error_rate_{version}"),
            errors.rate(),
        );
        let right = pairs().filter(|(t, h)| words(t) == words(h)).count();
        let share = right as f64 / texts.len().max(1) as f64;
        self.put(&format!("{kind}_understood_{version}"), share);
        let lines: String = pairs().map(|(t, h)| format!("{t}\t{h}\n")).collect();
        let list = self.folder.join(format!("{kind}-{version}.tsv"));
        write_atomically(&list, lines.as_bytes())?;
        Ok(())
    }

    /// How alike the model's voice is to the recordings'.
    fn voices(
        &mut self,
        kind: &str,
        originals: &[Vec<f32>],
        spoken: &[Vec<f32>],
    ) -> Result<(), EvalError> {
        let Some(judge) = self.options.speaker_judge.clone() else {
            return Ok(());
        };
        // One long file each: a single word says little of a voice.
        let sounds = [originals.concat(), spoken.concat()];
        let files = self.write(&format!("{kind}-voices"), &sounds)?;
        let answers = judge.listen(kind, &files)?;
        let likeness = answers.last().and_then(|answer| answer.trim().parse().ok());
        self.put(
            &format!("{kind}_speaker_similarity"),
            likeness.unwrap_or(f64::NAN),
        );
        Ok(())
    }

    fn write(&self, name: &str, sounds: &[Vec<f32>]) -> Result<Vec<PathBuf>, EvalError> {
        let rate = self.speaker.sample_rate_hz();
        let mut files = Vec::with_capacity(sounds.len());
        for (index, samples) in sounds.iter().enumerate() {
            let audio = Audio {
                samples: samples.clone(),
                sample_rate_hz: rate,
            };
            let path = self.folder.join(format!("{name}-{index:03}.wav"));
            let samples = audio.resampled(LISTENING_RATE_HZ).samples;
            write_wav(&path, &samples, LISTENING_RATE_HZ)?;
            files.push(path);
        }
        Ok(files)
    }

    /// Streaming: medians over some texts, the first of which only warms up.
    fn times(&mut self, data: &SpeechData) -> Result<(), EvalError> {
        let sample = self.options.sample;
        let can_be_said = |text: &str| {
            let texts = [text.to_owned()];
            self.speaker.accepts(&texts, None, &sample).is_ok()
        };
        let texts = data.examples(can_be_said);
        let (mut first, mut factor) = (Vec::new(), Vec::new());
        for round in 0..=TIMED {
            let Some(text) = texts.get(round % texts.len().max(1)) else {
                break;
            };
            let options = (&self.options.sample, self.options.seed + round as u64);
            let times = self
                .speaker
                .stream(text, None, options, |_| Ok::<(), EvalError>(()))?;
            if round > 0 && times.speech_s > 0.0 {
                first.push(times.first_audio_s);
                factor.push(times.total_s / times.speech_s);
            }
        }
        self.put("latents_a_second", self.speaker.recipe().frame_rate_hz());
        self.put("first_audio_ms", 1e3 * median(first));
        self.put("real_time_factor", median(factor));
        Ok(())
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
