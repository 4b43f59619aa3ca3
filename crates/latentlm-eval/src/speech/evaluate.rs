//! Evaluation of a run of speech.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use burn::tensor::Device;
use latentlm::SampleOptions;
use latentlm::core::bundle::{io_error, write_atomically};
use latentlm_data::Split;
use latentlm_data::speech::{Audio, Composer, Composition, Skipped, write_wav};
use latentlm_pipelines::{
    PipelineError, RunFolder, SkippedList, Speech, SpeechData, SpeechPipeline, SpeechRecipe,
    reconstruct, skipped,
};

use super::metrics::{EditCount, characters, edit_rate, mel_distance_db, si_sdr_db, stoi, words};
use super::recognizer::Listener;
use super::report::write_speech_report;
use crate::error::EvalError;

/// Sample rate of sound files for recognizers.
const LISTENING_RATE_HZ: u32 = 16_000;
/// Number of texts whose generation is timed.
const TIMED: usize = 8;

/// Options of the evaluation.
#[derive(Debug, Clone)]
pub struct EvaluateSpeechOptions {
    /// Number of utterances of each kind.
    pub samples: usize,
    /// Seed of texts and generated speech.
    pub seed: u64,
    /// Sampling options of generated speech.
    pub sample: SampleOptions,
    /// Recognizer of composed utterances.
    pub recognizer: Option<Listener>,
    /// Recognizer of held-out recordings, whose vocabulary is open.
    pub open_recognizer: Option<Listener>,
    /// Command that gives each file the similarity of its voice to that of the first file, 1 for
    /// the same voice.
    pub speaker_judge: Option<Listener>,
    /// Command that takes pairs of a recording and its reconstruction by the codec, and gives the
    /// quality of the reconstruction (PESQ).
    pub pesq_judge: Option<Listener>,
}

/// Measurements by name.
pub type SpeechEvaluation = BTreeMap<String, f64>;

/// Measures a run and writes `evaluation.json`, the sounds it was measured on, and the report.
/// Recordings that are broken, and texts beyond the model's vocabulary, are added to the run's list
/// of skipped data.
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
    let mut evaluation = Evaluation {
        speaker: SpeechPipeline::from_run(path, device)?,
        options,
        folder,
        device,
        results: SpeechEvaluation::new(),
        skipped: SkippedList::default(),
    };
    evaluation.measure_codec(&data)?;
    match &data.composer {
        Some(composer) => {
            for &kind in composer.kinds() {
                evaluation.measure_composed(composer, kind)?;
            }
        }
        None => evaluation.measure_recordings(&data)?,
    }
    evaluation.measure_speed(&data)?;
    evaluation.skipped.keep_in(&run.file(skipped::FILE))?;
    let results = evaluation.results;
    let json = serde_json::to_vec_pretty(&results).unwrap_or_default();
    write_atomically(&run.file("evaluation.json"), &json)?;
    write_speech_report(&run, &recipe)?;
    Ok(results)
}

/// An evaluation that is under way.
struct Evaluation<'a> {
    speaker: SpeechPipeline,
    options: &'a EvaluateSpeechOptions,
    /// Folder of the sounds.
    folder: PathBuf,
    device: &'a Device,
    results: SpeechEvaluation,
    skipped: SkippedList,
}

/// Utterances to be recognized.
struct Utterances<'a> {
    /// Kind of the texts: `recordings`, or a kind of composed utterances.
    kind: &'a str,
    /// Origin of the sounds: `original`, `codec` or `model`.
    version: &'a str,
    texts: &'a [String],
    /// Samples of each utterance.
    sounds: &'a [Vec<f32>],
}

impl Evaluation<'_> {
    fn put(&mut self, name: &str, value: f64) {
        self.results.insert(name.into(), value);
    }

    /// Measures held-out recordings through the codec, without noise.
    fn measure_codec(&mut self, data: &SpeechData) -> Result<(), EvalError> {
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
            self.measure_pesq(&judge, &originals, &decoded)?;
        }
        let Some(listener) = self.options.open_recognizer.clone() else {
            return Ok(());
        };
        for (version, sounds) in [("original", originals), ("codec", decoded)] {
            let utterances = Utterances {
                kind: "recordings",
                version,
                texts: &texts,
                sounds: &sounds,
            };
            self.recognize(&listener, &utterances)?;
        }
        Ok(())
    }

    /// Mean PESQ over recordings. Recordings that are too short or too silent have no value.
    fn measure_pesq(
        &mut self,
        judge: &Listener,
        originals: &[Vec<f32>],
        copies: &[Vec<f32>],
    ) -> Result<(), EvalError> {
        let originals = self.write("recordings-original", originals)?;
        let copies = self.write("recordings-codec", copies)?;
        let pairs: Vec<[PathBuf; 2]> = originals
            .into_iter()
            .zip(copies)
            .map(|(original, copy)| [original, copy])
            .collect();
        let answers = judge.compare("recordings", &pairs)?;
        let values: Vec<f64> = answers
            .iter()
            .filter_map(|answer| answer.trim().parse::<f64>().ok())
            .filter(|value| value.is_finite())
            .collect();
        let mean = values.iter().sum::<f64>() / values.len() as f64;
        self.put("codec_pesq", mean);
        Ok(())
    }

    /// Whether the model can say a text. If not, the text is listed as skipped, with its source.
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

    /// Measures composed held-out utterances: as composed, through the codec, and generated by the
    /// model.
    fn measure_composed(
        &mut self,
        composer: &Composer,
        kind: Composition,
    ) -> Result<(), EvalError> {
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
        let spoken = self.generate(kind.name(), &texts, &originals)?;
        if let Some(listener) = self.options.recognizer.clone() {
            for (version, sounds) in [
                ("original", &originals),
                ("codec", &codec),
                ("model", &spoken),
            ] {
                let utterances = Utterances {
                    kind: kind.name(),
                    version,
                    texts: &texts,
                    sounds,
                };
                self.recognize(&listener, &utterances)?;
            }
        }
        self.measure_speaker_similarity(kind.name(), &originals, &spoken)
    }

    /// Measures speech that the model generates for the texts of held-out recordings.
    fn measure_recordings(&mut self, data: &SpeechData) -> Result<(), EvalError> {
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
        let spoken = self.generate("recordings", &texts, &originals)?;
        if let Some(listener) = self.options.open_recognizer.clone() {
            let utterances = Utterances {
                kind: "recordings",
                version: "model",
                texts: &texts,
                sounds: &spoken,
            };
            self.recognize(&listener, &utterances)?;
        }
        self.measure_speaker_similarity("recordings", &originals, &spoken)
    }

    /// Generates speech for texts. Measures how often it does not end by itself, and its length
    /// relative to recordings of the same texts.
    fn generate(
        &mut self,
        kind: &str,
        texts: &[String],
        originals: &[Vec<f32>],
    ) -> Result<Vec<Vec<f32>>, EvalError> {
        let (sample, seed) = (self.options.sample, self.options.seed);
        let spoken = self.speaker.say(texts, None, &sample, seed)?;
        let cut = spoken.iter().filter(|speech| speech.was_cut).count();
        self.put(&format!("{kind}_without_end"), cut as f64);
        self.measure_lengths(kind, &spoken, originals);
        Ok(spoken.into_iter().map(|speech| speech.samples).collect())
    }

    /// Length of generated speech divided by that of the recordings of the same texts.
    fn measure_lengths(&mut self, kind: &str, spoken: &[Speech], originals: &[Vec<f32>]) {
        let ratios: Vec<f64> = spoken
            .iter()
            .zip(originals)
            .map(|(speech, original)| speech.samples.len() as f64 / original.len() as f64)
            .collect();
        let longest = ratios.iter().copied().fold(0.0, f64::max);
        let mean = ratios.iter().sum::<f64>() / ratios.len() as f64;
        self.put(&format!("{kind}_length_ratio"), mean);
        self.put(&format!("{kind}_longest_ratio"), longest);
    }

    /// Measures word and character errors of a recognizer, and writes what it recognized.
    fn recognize(
        &mut self,
        listener: &Listener,
        utterances: &Utterances<'_>,
    ) -> Result<(), EvalError> {
        let Utterances {
            kind,
            version,
            texts,
            sounds,
        } = *utterances;
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
        let fraction = right as f64 / texts.len().max(1) as f64;
        self.put(&format!("{kind}_understood_{version}"), fraction);
        let lines: String = pairs().map(|(t, h)| format!("{t}\t{h}\n")).collect();
        let list = self.folder.join(format!("{kind}-{version}.tsv"));
        write_atomically(&list, lines.as_bytes())?;
        Ok(())
    }

    /// Similarity of the model's voice to that of the recordings.
    fn measure_speaker_similarity(
        &mut self,
        kind: &str,
        originals: &[Vec<f32>],
        spoken: &[Vec<f32>],
    ) -> Result<(), EvalError> {
        let Some(judge) = self.options.speaker_judge.clone() else {
            return Ok(());
        };
        // One long file for each voice, since a single word says little about a voice.
        let sounds = [originals.concat(), spoken.concat()];
        let files = self.write(&format!("{kind}-voices"), &sounds)?;
        let answers = judge.listen(kind, &files)?;
        let similarity = answers.last().and_then(|answer| answer.trim().parse().ok());
        self.put(
            &format!("{kind}_speaker_similarity"),
            similarity.unwrap_or(f64::NAN),
        );
        Ok(())
    }

    /// Writes sounds as WAV files for recognizers. Returns their paths.
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

    /// Measures streaming speed: medians over some texts. A first text warms up and is not counted.
    fn measure_speed(&mut self, data: &SpeechData) -> Result<(), EvalError> {
        let sample = self.options.sample;
        let texts = data.examples(|text| {
            let texts = [text.to_owned()];
            self.speaker.accepts(&texts, None, &sample).is_ok()
        });
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

/// The median; NaN if there are no values.
fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
