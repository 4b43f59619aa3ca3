//! Evaluation of a run of speech.

use std::path::{Path, PathBuf};

use burn::tensor::Device;
use latentlm::LatentCodec;
use latentlm::core::bundle::io_error;
use latentlm::core::disk;
use latentlm_data::Skipped;
use latentlm_data::speech::{Composer, Composition};
use latentlm_pipelines::{
    HeldOutUtterance, PipelineError, Recipe, RunFolder, SkippedList, SpeechData, SpeechPipeline,
    SpeechRecipe, hop_samples, reconstruct, signal, skipped,
};

use super::codes::CodeUsage;
use super::continued::BEGINNING_SECONDS;
use super::hard::heard_words;
use super::measuring::{EvaluateSpeechOptions, Evaluation, SpeechEvaluation, Utterances, finite};
use super::metrics::{Slips, mel_distance_db, si_sdr_db, stoi, words};
use super::recognizer::Listener;
use super::speaker::Speaker;
use super::voices::speakers;
use crate::error::Result;
use crate::evaluation;
use crate::report::write_speech_report;
use crate::statistics::median;

/// Kind of held-out recordings, as opposed to the kinds of composed utterances.
const RECORDINGS: &str = "recordings";
/// Number of texts that are spoken behind the same prompt.
const PROMPTED: usize = 16;
/// Seconds that are cut off the end of a prompt: the silence there, and a part of the last word.
const CUT_SECONDS: f64 = 0.25;
/// Shortest piece of speech whose voice is compared, in seconds, if there is as much: a single word says little of a voice.
const PIECE_SECONDS: f64 = 5.0;
/// Number of texts whose generation is timed.
const TIMED: usize = 8;

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
    let speaker = speaker.with_small_weights(options.weights);
    let measured = evaluate_speaker(&run, &data, &speaker, options, device)?;
    write_speech_report(&run, &recipe)?;
    Ok(measured)
}

/// Measures what speaks, and writes `evaluation.json` and the sounds it was measured on into its run's folder, but no
/// report. `options.weights` say what weights `speaker` has already.
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
        results: SpeechEvaluation {
            weights: options.weights.into(),
            ..SpeechEvaluation::default()
        },
        skipped: SkippedList::default(),
        one_voice: speakers(&data.train).len() < 2,
        refused: 0,
        cut: Vec::new(),
    };
    let recordings = evaluation.recordings(data)?;
    evaluation.measure_codec(&recordings)?;
    match &data.composer {
        Some(composer) => {
            for &kind in composer.kinds() {
                evaluation.measure_composed(composer, kind)?;
            }
        }
        None => {
            evaluation.measure_model(&recordings, options.judges.open_recognizer.as_ref())?;
            evaluation.measure_trained(data)?;
            evaluation.measure_voices(data)?;
            evaluation.measure_continuation(data, BEGINNING_SECONDS)?;
        }
    }
    evaluation.measure_hard_texts(data)?;
    evaluation.measure_speed(data)?;
    evaluation.put_texts();
    evaluation.skipped.keep_in(&run.file(skipped::FILE))?;
    evaluation::write(run, &evaluation.results, device)?;
    Ok(evaluation.results)
}

impl<S: Speaker> Evaluation<'_, S> {
    /// The first held-out recordings: the codec, the model and those who listen all get the same ones. In a corpus of words
    /// the model says none of them, so that all are taken.
    pub(super) fn recordings(&mut self, data: &SpeechData) -> Result<Utterances> {
        let mut recordings = Utterances::new(RECORDINGS);
        for index in 0..data.test.len().min(self.options.samples) {
            let read = HeldOutUtterance::recorded(&data.test, index, &mut self.skipped);
            match read {
                Some(recording) if data.composer.is_some() => {
                    recordings.texts.push(recording.text);
                    recordings.originals.push(recording.samples);
                }
                Some(recording) => self.add(&mut recordings, recording)?,
                None => {}
            }
        }
        Ok(recordings)
    }

    /// Measures held-out recordings through the codec, without noise, and how many entries of its codebooks are in use.
    pub(super) fn measure_codec(&mut self, recordings: &Utterances) -> Result<()> {
        let (rate, originals) = (self.speaker.sample_rate_hz(), &recordings.originals);
        self.tell(&format!(
            "measuring the codec on {} recordings",
            originals.len()
        ))?;
        let (mut mel, mut si_sdr, mut intelligible) = (Vec::new(), Vec::new(), Vec::new());
        let mut copies = Vec::with_capacity(originals.len());
        let speaker = self.speaker;
        let codec = speaker.codec();
        let mut usage = codec.quantizer().map(CodeUsage::new);
        for original in originals {
            if let Some(usage) = &mut usage {
                let sound = signal(original.clone(), hop_samples(codec), self.device);
                usage.count(codec.encode_parameters(sound));
            }
            let (_, copy) = reconstruct(codec, original.clone(), self.device);
            mel.push(mel_distance_db(original, &copy, rate));
            si_sdr.push(si_sdr_db(original, &copy));
            intelligible.extend(stoi(original, &copy, rate));
            copies.push(copy);
        }
        for (name, values) in [
            ("codec_mel_distance_db", mel),
            ("codec_si_sdr_db", si_sdr),
            ("codec_stoi", intelligible),
        ] {
            if !values.is_empty() {
                self.put_mean(name, &values);
            }
        }
        if copies.is_empty() {
            return Ok(());
        }
        if let Some(quantizer) = codec.quantizer() {
            self.put("code_entries", quantizer.entries() as f64);
        }
        for (name, value) in usage.iter().flat_map(CodeUsage::perplexities) {
            self.put(name, value);
        }
        let judges = &self.options.judges;
        if let Some(judge) = &judges.pesq {
            self.measure_pesq(judge, originals, &copies)?;
        }
        if let Some(listener) = &judges.open_recognizer {
            self.recognize(listener, recordings, "original", originals)?;
            self.recognize(listener, recordings, "codec", &copies)?;
        }
        self.measure_naturalness(RECORDINGS, "original", originals)?;
        self.measure_naturalness(RECORDINGS, "codec", &copies)
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
        let values = finite(&judge.compare(RECORDINGS, &pairs)?);
        self.put_mean("codec_pesq", &values);
        Ok(())
    }

    /// Adds an utterance, if the model can say its text. If not, it counts as refused, and its source is listed as skipped.
    fn add(&mut self, utterances: &mut Utterances, held_out: HeldOutUtterance) -> Result<()> {
        let texts = [held_out.text];
        match self.speaker.accepts(&texts, None, &self.options.sample) {
            Ok(()) => {
                utterances.texts.extend(texts);
                utterances.originals.push(held_out.samples);
            }
            Err(
                error @ (PipelineError::Data(_)
                | PipelineError::Prompt { .. }
                | PipelineError::LongText { .. }),
            ) => {
                self.refused += 1;
                self.skipped.add(Skipped {
                    path: held_out.source,
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
            let made = HeldOutUtterance::composed(composer, kind, options.seed, index);
            self.add(&mut utterances, made)?;
        }
        self.measure_model(&utterances, options.judges.recognizer.as_ref())
    }

    /// Generates speech for texts. Measures how often speech does not end by itself, its length relative to
    /// the recordings, its voice, and the errors of a listener. For composed utterances, the listener also
    /// hears the originals and their reconstructions by the codec.
    pub(super) fn measure_model(
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
        self.tell(&format!("speaking {} {kind}", originals.len()))?;
        let spoken = self.speaker.say(&utterances.texts, None, &sample, seed)?;
        let cut = spoken.iter().map(|speech| usize::from(speech.was_cut));
        self.put_cut(kind, &cut.collect::<Vec<usize>>());
        let pairs = spoken.iter().zip(originals);
        let ratios = pairs.map(|(own, original)| own.samples.len() as f64 / original.len() as f64);
        let ratios: Vec<f64> = ratios.collect();
        self.put_mean(format!("{kind}_length_ratio"), &ratios);
        self.put_over(format!("{kind}_longest_ratio"), ratios.len(), |drawn| {
            let ratios = drawn.iter().map(|&index| ratios[index]);
            ratios.fold(0.0, f64::max)
        });
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
        // Recordings were rated when the codec was measured.
        if kind != RECORDINGS {
            self.measure_naturalness(kind, "original", originals)?;
        }
        self.measure_naturalness(kind, "model", &spoken)?;
        // Speech without a prompt has any of several voices; theirs are measured behind recordings.
        let judge = options.judges.speaker.as_ref();
        match judge.filter(|_| self.one_voice) {
            Some(judge) => self.measure_one_voice(judge, utterances, &spoken),
            None => Ok(()),
        }
    }

    /// Measures how alike the voice of speech is to the one voice of all recordings together: the mean over pieces of several
    /// utterances each.
    fn measure_one_voice(
        &mut self,
        judge: &Listener,
        utterances: &Utterances,
        spoken: &[Vec<f32>],
    ) -> Result<()> {
        let kind = utterances.kind;
        let least = (PIECE_SECONDS * f64::from(self.speaker.sample_rate_hz())) as usize;
        let mut voices = vec![utterances.originals.concat()];
        voices.extend(pieces(spoken, least));
        let files = self.write(&format!("{kind}-voices"), &voices)?;
        let answers = judge.listen(kind, &files)?;
        // The first is that of the recordings themselves.
        self.put_mean(format!("{kind}_speaker_similarity"), &finite(&answers[1..]));
        Ok(())
    }

    /// Speaks the texts behind recordings of others, which are cut in their last word, and counts the words
    /// that a listener hears twice or not at all. Texts that are refused behind their prompt are left out.
    fn measure_prompted(&mut self, utterances: &Utterances, listener: &Listener) -> Result<()> {
        let (options, kind, count) = (self.options, utterances.kind, utterances.texts.len());
        if count < 2 {
            return Ok(());
        }
        self.tell(&format!("speaking {count} {kind} behind prompts"))?;
        let mut prompted = Utterances::new(kind);
        let (mut sounds, mut before) = (Vec::new(), Vec::new());
        for start in (0..count).step_by(PROMPTED) {
            let texts = &utterances.texts[start..count.min(start + PROMPTED)];
            let prompt = (start + count - 1) % count;
            let text = &utterances.texts[prompt];
            let recording = &utterances.originals[prompt];
            let recording = cut_in_word(recording, self.speaker.sample_rate_hz());
            let Ok(voice) = self.speaker.voice(text, recording.to_vec()) else {
                self.refused += texts.len();
                continue;
            };
            let (sample, mut texts) = (&options.sample, texts.to_vec());
            self.keep_accepted(&mut texts, Some(&voice));
            let spoken = self
                .speaker
                .say(&texts, Some(&voice), sample, options.seed)?;
            sounds.extend(spoken.into_iter().map(|speech| speech.samples));
            prompted.texts.extend(texts);
            before.resize(prompted.texts.len(), words(text).pop());
        }
        if sounds.is_empty() {
            return Ok(());
        }
        let heard = self.recognize(listener, &prompted, "prompted", &sounds)?;
        let utterances = prompted.texts.iter().zip(&heard).zip(&before);
        let slips = utterances.map(|((text, heard), before)| {
            let expected = words(text);
            Slips::count(&expected, &heard_words(&expected, heard), before.as_deref())
        });
        let slips: Vec<Slips> = slips.collect();
        for (measure, counts) in [
            ("words", counts(&slips, |own| own.expected)),
            ("doubled", counts(&slips, |own| own.doubled)),
            ("dropped", counts(&slips, |own| own.dropped)),
        ] {
            self.put_sum(format!("{kind}_{measure}_behind_prompt"), &counts);
        }
        Ok(())
    }

    /// Measures streaming speed: medians over some texts. A first text warms up and is not counted.
    fn measure_speed(&mut self, data: &SpeechData) -> Result<()> {
        self.tell("timing speech")?;
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
        let frames = match self.speaker.codec().quantizer() {
            Some(_) => "frames_a_second",
            None => "latents_a_second",
        };
        self.put(frames, self.speaker.frame_rate_hz());
        for (name, times, unit) in [
            ("first_audio_ms", first, 1e3),
            ("real_time_factor", factor, 1.0),
        ] {
            self.put_over(name, times.len(), |drawn| {
                let times = drawn.iter().map(|&index| times[index]);
                unit * median(times.collect())
            });
        }
        Ok(())
    }
}

/// A count of each utterance.
fn counts(slips: &[Slips], count: fn(&Slips) -> usize) -> Vec<usize> {
    slips.iter().map(count).collect()
}

/// Sounds one after the other, joined to pieces of `least` samples or more. What is left at the end is a part of the last piece.
fn pieces(sounds: &[Vec<f32>], least: usize) -> Vec<Vec<f32>> {
    let mut pieces: Vec<Vec<f32>> = Vec::new();
    for sound in sounds {
        match pieces.last_mut() {
            Some(last) if last.len() < least => last.extend(sound),
            _ => pieces.push(sound.clone()),
        }
    }
    if let [.., whole, rest] = &mut pieces[..]
        && rest.len() < least
    {
        whole.append(rest);
        pieces.pop();
    }
    pieces
}

/// A recording without its end; at least half of it remains.
fn cut_in_word(samples: &[f32], sample_rate_hz: u32) -> &[f32] {
    let cut = (CUT_SECONDS * f64::from(sample_rate_hz)) as usize;
    &samples[..samples.len() - cut.min(samples.len() / 2)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_long_enough() {
        let sounds = [2, 1, 1, 4, 1, 0, 1].map(|count| vec![count as f32; count]);
        let lengths = |least| {
            let pieces = pieces(&sounds, least);
            assert_eq!(pieces.concat(), sounds.concat(), "nothing is lost");
            pieces.iter().map(Vec::len).collect::<Vec<usize>>()
        };
        // 2 + 1, 1 + 4, and 1 + 0 + 1 is too little.
        assert_eq!(lengths(3), [3, 7]);
        assert_eq!(lengths(2), [2, 2, 4, 2]);
        assert_eq!(lengths(100), [10], "there is no more");
        assert!(pieces(&[], 3).is_empty());
    }
}
