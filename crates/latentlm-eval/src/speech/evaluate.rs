//! Evaluation of a run of speech.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use burn::tensor::Device;
use latentlm::SampleOptions;
use latentlm::core::bundle::{io_error, write_atomically};
use latentlm::core::disk;
use latentlm_data::Split;
use latentlm_data::speech::{Audio, Composer, Composition, Skipped, Utterance, write_wav};
use latentlm_pipelines::{
    PipelineError, Recipe, RunFolder, SkippedList, SpeechData, SpeechPipeline, SpeechRecipe,
    reconstruct, skipped,
};

use super::metrics::{
    EditCount, Slips, characters, edit_rate, mel_distance_db, si_sdr_db, stoi, words,
};
use super::recognizer::Listener;
use super::speaker::Speaker;
use crate::error::Result;
use crate::evaluation;
use crate::report::write_speech_report;
use crate::statistics::{mean, median, share};

/// Sample rate of sound files for recognizers.
const LISTENING_RATE_HZ: u32 = 16_000;
/// Kind of held-out recordings, as opposed to the kinds of composed utterances.
const RECORDINGS: &str = "recordings";
/// Number of texts that are spoken behind the same prompt.
const PROMPTED: usize = 16;
/// Seconds that are cut off the end of a prompt: the silence there, and a part of the last word.
const CUT_SECONDS: f64 = 0.25;
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
    /// Called with the next phase of the evaluation, such as `speaking 50 digits`;
    /// [`unshown`](crate::unshown) ignores it.
    pub phase: fn(&str),
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
) -> Result<SpeechEvaluation> {
    let (run, recipe) = RunFolder::<SpeechRecipe>::open(path)?;
    let data = SpeechData::open(&recipe)?;
    let speaker = SpeechPipeline::from_run(path, device)?;
    let measured = evaluate_speaker(&run, &data, &speaker, options, device)?;
    write_speech_report(&run, &recipe)?;
    Ok(measured)
}

/// Measures what speaks, and writes `evaluation.json` and the sounds it was measured on into its run's folder, but no
/// report.
///
/// # Errors
/// If the data can't be read, a listener fails, or a file can't be written.
pub fn evaluate_speaker<R: Recipe, S: Speaker>(
    run: &RunFolder<R>,
    data: &SpeechData,
    speaker: &S,
    options: &EvaluateSpeechOptions,
    device: &Device,
) -> Result<SpeechEvaluation> {
    let folder = run.file("evaluation");
    disk::create_folders(&folder).map_err(io_error("create", &folder))?;
    let mut evaluation = Evaluation {
        speaker,
        options,
        folder,
        device,
        results: SpeechEvaluation::new(),
        skipped: SkippedList::default(),
    };
    evaluation.measure_codec(data)?;
    match &data.composer {
        Some(composer) => {
            for &kind in composer.kinds() {
                evaluation.measure_composed(composer, kind)?;
            }
        }
        None => evaluation.measure_recordings(data)?,
    }
    evaluation.measure_speed(data)?;
    evaluation.skipped.keep_in(&run.file(skipped::FILE))?;
    evaluation::write(run, &evaluation.results)?;
    Ok(evaluation.results)
}

/// An evaluation that is under way.
struct Evaluation<'a, S> {
    speaker: &'a S,
    options: &'a EvaluateSpeechOptions,
    /// Folder of the sounds.
    folder: PathBuf,
    device: &'a Device,
    results: SpeechEvaluation,
    skipped: SkippedList,
}

/// Texts of one kind with recordings of them.
#[derive(Default)]
struct Utterances {
    /// `recordings`, or a kind of composed utterances.
    kind: &'static str,
    texts: Vec<String>,
    /// Samples of each recording.
    originals: Vec<Vec<f32>>,
}

impl Utterances {
    fn new(kind: &'static str) -> Self {
        Self {
            kind,
            ..Self::default()
        }
    }
}

impl<S: Speaker> Evaluation<'_, S> {
    fn put(&mut self, name: impl Into<String>, value: f64) {
        self.results.insert(name.into(), value);
    }

    fn tell(&self, phase: &str) {
        (self.options.phase)(phase);
    }

    /// A held-out recording; `None` if it is broken, which is then listed.
    fn recording(&mut self, data: &SpeechData, index: usize) -> Option<Utterance> {
        let recording = data.test.get(index);
        if let Err(error) = &recording {
            self.skipped.add(Skipped::of(&data.test.path(index), error));
        }
        recording.ok()
    }

    /// Measures held-out recordings through the codec, without noise.
    fn measure_codec(&mut self, data: &SpeechData) -> Result<()> {
        let rate = self.speaker.sample_rate_hz();
        self.tell(&format!(
            "measuring the codec on {} recordings",
            data.test.len()
        ));
        let mut recordings = Utterances::new(RECORDINGS);
        let (mut mel, mut si_sdr, mut intelligible) = (Vec::new(), Vec::new(), Vec::new());
        let mut copies = Vec::new();
        for index in 0..data.test.len() {
            let Some(utterance) = self.recording(data, index) else {
                continue;
            };
            let (original, copy) =
                reconstruct(self.speaker.codec(), utterance.samples, self.device);
            mel.push(mel_distance_db(&original, &copy, rate));
            si_sdr.push(si_sdr_db(&original, &copy));
            intelligible.extend(stoi(&original, &copy, rate));
            recordings.texts.push(utterance.text);
            recordings.originals.push(original);
            copies.push(copy);
        }
        for (name, values) in [
            ("codec_mel_distance_db", mel),
            ("codec_si_sdr_db", si_sdr),
            ("codec_stoi", intelligible),
        ] {
            if let Some(mean) = mean(values) {
                self.put(name, mean);
            }
        }
        if copies.is_empty() {
            return Ok(());
        }
        let options = self.options;
        if let Some(judge) = &options.pesq_judge {
            self.measure_pesq(judge, &recordings.originals, &copies)?;
        }
        if let Some(listener) = &options.open_recognizer {
            self.recognize(listener, &recordings, "original", &recordings.originals)?;
            self.recognize(listener, &recordings, "codec", &copies)?;
        }
        Ok(())
    }

    /// Mean PESQ over recordings. Recordings that are too short or too silent have no value.
    fn measure_pesq(
        &mut self,
        judge: &Listener,
        originals: &[Vec<f32>],
        copies: &[Vec<f32>],
    ) -> Result<()> {
        let originals = self.write("recordings-original", originals)?.into_iter();
        let copies = self.write("recordings-codec", copies)?;
        let pairs: Vec<[PathBuf; 2]> = originals.zip(copies).map(<[PathBuf; 2]>::from).collect();
        let answers = judge.compare(RECORDINGS, &pairs)?;
        let values = answers
            .iter()
            .filter_map(|text| text.trim().parse::<f64>().ok())
            .filter(|value| value.is_finite());
        self.put("codec_pesq", mean(values).unwrap_or(f64::NAN));
        Ok(())
    }

    /// Adds an utterance, if the model can say its text. If not, its source is listed as skipped.
    fn add(
        &mut self,
        utterances: &mut Utterances,
        source: &Path,
        text: String,
        samples: Vec<f32>,
    ) -> Result<()> {
        let texts = [text];
        match self.speaker.accepts(&texts, None, &self.options.sample) {
            Ok(()) => {
                utterances.texts.extend(texts);
                utterances.originals.push(samples);
            }
            Err(error @ (PipelineError::Data(_) | PipelineError::Prompt { .. })) => {
                self.skipped.add(Skipped {
                    path: source.to_owned(),
                    reason: error.to_string(),
                });
            }
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }

    /// Measures composed held-out utterances.
    fn measure_composed(&mut self, composer: &Composer, kind: Composition) -> Result<()> {
        let options = self.options;
        let mut utterances = Utterances::new(kind.name());
        for index in 0..options.samples as u64 {
            let made = composer.utterance(kind, Split::Test, options.seed, index);
            let source = Path::new(skipped::COMPOSED);
            self.add(&mut utterances, source, made.text, made.samples)?;
        }
        self.measure_model(&utterances, options.recognizer.as_ref())
    }

    /// Measures held-out recordings.
    fn measure_recordings(&mut self, data: &SpeechData) -> Result<()> {
        let options = self.options;
        let mut utterances = Utterances::new(RECORDINGS);
        for index in 0..data.test.len().min(options.samples) {
            if let Some(recording) = self.recording(data, index) {
                let source = data.test.path(index);
                self.add(&mut utterances, &source, recording.text, recording.samples)?;
            }
        }
        self.measure_model(&utterances, options.open_recognizer.as_ref())
    }

    /// Generates speech for texts. Measures how often speech does not end by itself, its length relative to
    /// the recordings, its voice, and the errors of a listener. For composed utterances, the listener also
    /// hears the originals and their reconstructions by the codec.
    fn measure_model(
        &mut self,
        utterances: &Utterances,
        listener: Option<&Listener>,
    ) -> Result<()> {
        let (kind, originals) = (utterances.kind, &utterances.originals);
        if originals.is_empty() {
            return Ok(());
        }
        let options = self.options;
        let (sample, seed) = (options.sample, options.seed);
        self.tell(&format!("speaking {} {kind}", originals.len()));
        let spoken = self.speaker.say(&utterances.texts, None, &sample, seed)?;
        let cut = spoken.iter().filter(|speech| speech.was_cut).count();
        self.put(format!("{kind}_without_end"), cut as f64);
        let pairs = spoken.iter().zip(originals);
        let ratios = pairs.map(|(own, original)| own.samples.len() as f64 / original.len() as f64);
        let longest = ratios.clone().fold(0.0, f64::max);
        self.put(
            format!("{kind}_length_ratio"),
            mean(ratios).unwrap_or(f64::NAN),
        );
        self.put(format!("{kind}_longest_ratio"), longest);
        let spoken: Vec<_> = spoken.into_iter().map(|speech| speech.samples).collect();
        if let Some(listener) = listener {
            // Recordings were recognized when the codec was measured.
            if kind != RECORDINGS {
                let codec = self.speaker.codec();
                let copies: Vec<_> = originals
                    .iter()
                    .map(|sound| reconstruct(codec, sound.clone(), self.device).1)
                    .collect();
                self.recognize(listener, utterances, "original", originals)?;
                self.recognize(listener, utterances, "codec", &copies)?;
            }
            self.recognize(listener, utterances, "model", &spoken)?;
            self.measure_prompted(utterances, listener)?;
        }
        if let Some(judge) = &options.speaker_judge {
            // One long file for each voice, since a single word says little about a voice.
            let voices = [originals.concat(), spoken.concat()];
            let files = self.write(&format!("{kind}-voices"), &voices)?;
            let answers = judge.listen(kind, &files)?;
            let similarity = answers.last().and_then(|answer| answer.trim().parse().ok());
            let similarity = similarity.unwrap_or(f64::NAN);
            self.put(format!("{kind}_speaker_similarity"), similarity);
        }
        Ok(())
    }

    /// Speaks the texts behind recordings of others, which are cut in their last word, and counts the words
    /// that a listener hears twice or not at all. Texts with too long a prompt are left out.
    fn measure_prompted(&mut self, utterances: &Utterances, listener: &Listener) -> Result<()> {
        let (options, kind, count) = (self.options, utterances.kind, utterances.texts.len());
        if count < 2 {
            return Ok(());
        }
        self.tell(&format!("speaking {count} {kind} behind prompts"));
        let mut prompted = Utterances::new(kind);
        let (mut sounds, mut before) = (Vec::new(), Vec::new());
        for start in (0..count).step_by(PROMPTED) {
            let texts = &utterances.texts[start..count.min(start + PROMPTED)];
            let prompt = (start + count - 1) % count;
            let text = &utterances.texts[prompt];
            let recording = &utterances.originals[prompt];
            let recording = cut_in_word(recording, self.speaker.sample_rate_hz());
            let Ok(voice) = self.speaker.voice(text, recording.to_vec()) else {
                continue;
            };
            let sample = &options.sample;
            if self.speaker.accepts(texts, Some(&voice), sample).is_err() {
                continue;
            }
            let spoken = self
                .speaker
                .say(texts, Some(&voice), sample, options.seed)?;
            sounds.extend(spoken.into_iter().map(|speech| speech.samples));
            prompted.texts.extend_from_slice(texts);
            before.resize(prompted.texts.len(), words(text).pop());
        }
        if sounds.is_empty() {
            return Ok(());
        }
        let heard = self.recognize(listener, &prompted, "prompted", &sounds)?;
        let utterances = prompted.texts.iter().zip(&heard).zip(&before);
        let slips: Slips = utterances
            .map(|((text, heard), before)| {
                Slips::count(&words(text), &words(heard), before.as_deref())
            })
            .sum();
        for (measure, value) in [
            ("words", slips.expected),
            ("doubled", slips.doubled),
            ("dropped", slips.dropped),
        ] {
            self.put(format!("{kind}_{measure}_behind_prompt"), value as f64);
        }
        Ok(())
    }

    /// Measures word and character errors of a recognizer, and writes what it recognized, which is returned.
    /// `version` is the origin of the sounds: `original`, `codec`, `model` or `prompted`.
    fn recognize(
        &mut self,
        listener: &Listener,
        utterances: &Utterances,
        version: &str,
        sounds: &[Vec<f32>],
    ) -> Result<Vec<String>> {
        let kind = utterances.kind;
        self.tell(&format!("recognizing {} {kind}, {version}", sounds.len()));
        let files = self.write(&format!("{kind}-{version}"), sounds)?;
        let heard = listener.listen(kind, &files)?;
        let pairs = || utterances.texts.iter().zip(&heard);
        let by_word: EditCount = pairs().map(|(t, h)| edit_rate(&words(t), &words(h))).sum();
        let by_character = pairs().map(|(t, h)| edit_rate(&characters(t), &characters(h)));
        let by_character: EditCount = by_character.sum();
        let understood = share(pairs().map(|(t, h)| words(t) == words(h)));
        for (measure, value) in [
            ("word_error_rate", by_word.rate()),
            ("character_error_rate", by_character.rate()),
            ("understood", understood.unwrap_or_default()),
        ] {
            self.put(format!("{kind}_{measure}_{version}"), value);
        }
        let lines: String = pairs().map(|(t, h)| format!("{t}\t{h}\n")).collect();
        let list = self.folder.join(format!("{kind}-{version}.tsv"));
        write_atomically(&list, lines.as_bytes())?;
        Ok(heard)
    }

    /// Writes sounds as WAV files for recognizers. Returns their paths.
    fn write(&self, name: &str, sounds: &[Vec<f32>]) -> Result<Vec<PathBuf>> {
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
    fn measure_speed(&mut self, data: &SpeechData) -> Result<()> {
        self.tell("timing speech");
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
            let seed = self.options.seed + round as u64;
            let times = self.speaker.time(text, &sample, seed)?;
            if round > 0 && times.speech_s > 0.0 {
                first.push(times.first_audio_s);
                factor.push(times.total_s / times.speech_s);
            }
        }
        self.put("latents_a_second", self.speaker.frame_rate_hz());
        self.put("first_audio_ms", 1e3 * median(first));
        self.put("real_time_factor", median(factor));
        Ok(())
    }
}

/// A recording without its end; at least half of it remains.
fn cut_in_word(samples: &[f32], sample_rate_hz: u32) -> &[f32] {
    let cut = (CUT_SECONDS * f64::from(sample_rate_hz)) as usize;
    &samples[..samples.len() - cut.min(samples.len() / 2)]
}
