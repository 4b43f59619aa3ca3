//! Texts said behind a recording of a speaker, for voices that training heard and others (the paper's cross-sentence
//! task): whether it is the same voice, how natural it is, and what a recognizer hears.

use std::collections::{BTreeMap, BTreeSet};

use latentlm_data::Split;
use latentlm_data::speech::SpeechDataset;
use latentlm_pipelines::{Speech, SpeechData};

use super::measuring::{Evaluation, Utterances};
use super::recognizer::Listener;
use super::speaker::Speaker;
use crate::error::Result;

/// Shortest recording that a voice is taken from, in seconds: longer than a latent at any rate that speech is compared at,
/// so that all models take the same one.
const VOICE_SECONDS: f64 = 0.25;

/// What a model says with the voice of one speaker.
struct Said {
    /// The recording that the voice is taken from.
    prompt: Vec<f32>,
    /// Other recordings of the speaker.
    originals: Vec<Vec<f32>>,
    /// The texts of these, said by the model.
    sounds: Vec<Vec<f32>>,
}

/// Similarities of voices to recordings of their speakers.
#[derive(Default)]
struct Similarities {
    /// Similarities of the model's speech.
    model: Vec<f64>,
    /// Similarities of other recordings of the same speaker.
    same: Vec<f64>,
    /// Similarities of recordings of other speakers.
    different: Vec<f64>,
}

/// The speakers of recordings.
pub(super) fn speakers(recordings: &SpeechDataset) -> BTreeSet<&str> {
    let all = 0..recordings.len();
    all.map(|own| recordings.speaker(own)).collect()
}

impl<S: Speaker> Evaluation<'_, S> {
    /// Measures voices of a corpus of several speakers, if anybody listens: those of the training recordings in held-out
    /// texts, and those that training never heard.
    pub(super) fn measure_voices(&mut self, data: &SpeechData) -> Result<()> {
        let (options, judges) = (self.options, &self.options.judges);
        let listens = [
            &judges.open_recognizer,
            &judges.second_recognizer,
            &judges.speaker,
            &judges.naturalness,
        ];
        let known = speakers(&data.train);
        if known.len() < 2 || listens.iter().all(|own| own.is_none()) {
            return Ok(());
        }
        let others = match &options.held_out_voices {
            Some(folder) => SpeechDataset::open(folder, data.test.spec(), Split::Test)?,
            None => data.test.clone(),
        };
        self.measure_speakers("seen_voices", &data.test, |own| known.contains(own))?;
        self.measure_speakers("held_out_voices", &others, |own| !known.contains(own))
    }

    /// Measures some speakers of a corpus, each behind a recording of it. Speakers of a single recording are left out.
    fn measure_speakers(
        &mut self,
        kind: &'static str,
        recordings: &SpeechDataset,
        is_wanted: impl Fn(&str) -> bool,
    ) -> Result<()> {
        let mut speakers: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
        for index in 0..recordings.len() {
            let speaker = recordings.speaker(index);
            if is_wanted(speaker) {
                speakers.entry(speaker).or_default().push(index);
            }
        }
        speakers.retain(|_, own| own.len() > 1);
        if speakers.is_empty() {
            return Ok(());
        }
        self.tell(&format!("speaking with {} {kind}", speakers.len()))?;
        let each = self.options.samples.div_ceil(speakers.len());
        let (mut all, mut said, mut cut) = (Utterances::new(kind), Vec::new(), Vec::new());
        for own in speakers.values() {
            let before = all.texts.len();
            let Some((prompt, sounds)) = self.say_behind(recordings, own, each, &mut all)? else {
                continue;
            };
            cut.extend(sounds.iter().map(|speech| usize::from(speech.was_cut)));
            said.push(Said {
                prompt,
                originals: all.originals[before..].to_vec(),
                sounds: sounds.into_iter().map(|speech| speech.samples).collect(),
            });
        }
        if said.is_empty() {
            return Ok(());
        }
        self.put_cut(kind, &cut);
        let judges = &self.options.judges;
        if let Some(judge) = &judges.speaker {
            self.measure_similarity(judge, kind, &said)?;
        }
        let sounds: Vec<Vec<f32>> = said.into_iter().flat_map(|own| own.sounds).collect();
        self.recognize_open(&all, &sounds)?;
        self.measure_naturalness(kind, "original", &all.originals)?;
        self.measure_naturalness(kind, "model", &sounds)
    }

    /// Takes the voice of the first recording that has one, and says the texts of the `most` recordings behind it, which
    /// are added to `all`. Broken recordings are left out. A text that is refused is counted, and none takes its place:
    /// other models say it. `None` if nothing is said.
    fn say_behind(
        &mut self,
        recordings: &SpeechDataset,
        own: &[usize],
        most: usize,
        all: &mut Utterances,
    ) -> Result<Option<(Vec<f32>, Vec<Speech>)>> {
        let (options, speaker) = (self.options, self.speaker);
        let shortest = (VOICE_SECONDS * f64::from(speaker.sample_rate_hz())) as usize;
        let mut left = own.iter().filter_map(|&index| recordings.get(index).ok());
        let found = left.find_map(|recording| {
            if recording.samples.len() < shortest {
                return None;
            }
            let voice = speaker.voice(&recording.text, recording.samples.clone());
            Some((recording.samples, voice.ok()?))
        });
        let Some((prompt, voice)) = found else {
            return Ok(None);
        };
        let mut texts = Vec::new();
        for recording in left.take(most) {
            let text = [recording.text];
            if speaker
                .accepts(&text, Some(&voice), &options.sample)
                .is_err()
            {
                self.refused += 1;
                continue;
            }
            texts.extend(text);
            all.originals.push(recording.samples);
        }
        if texts.is_empty() {
            return Ok(None);
        }
        let said = speaker.say(&texts, Some(&voice), &options.sample, options.seed)?;
        all.texts.extend(texts);
        Ok(Some((prompt, said)))
    }

    /// Measures how alike the voices of speech and recordings are, with pairs of recordings of the same speaker and of
    /// different ones to compare with.
    fn measure_similarity(
        &mut self,
        judge: &Listener,
        kind: &'static str,
        said: &[Said],
    ) -> Result<()> {
        self.tell(&format!("comparing {} {kind}", said.len()))?;
        let mut found = Similarities::default();
        for (place, own) in said.iter().enumerate() {
            let others = said.iter().enumerate().filter(|(other, _)| *other != place);
            let others = others.map(|(_, other)| other.prompt.clone());
            let mut sounds = vec![own.prompt.clone()];
            sounds.extend_from_slice(&own.sounds);
            sounds.extend_from_slice(&own.originals);
            sounds.extend(others);
            let files = self.write(&format!("{kind}-{place}"), &sounds)?;
            let answers = judge.listen(kind, &files)?;
            let numbers = answers
                .iter()
                .map(|text| text.trim().parse().unwrap_or(f64::NAN));
            // The first is the prompt itself.
            let numbers: Vec<f64> = numbers.skip(1).collect();
            let (model, real) = numbers.split_at(own.sounds.len());
            let (same, different) = real.split_at(own.originals.len());
            for (all, values) in [
                (&mut found.model, model),
                (&mut found.same, same),
                (&mut found.different, different),
            ] {
                all.extend(values.iter().filter(|value| value.is_finite()));
            }
        }
        for (name, values) in [
            ("speaker_similarity", found.model),
            ("similarity_of_same", found.same),
            ("similarity_of_different", found.different),
        ] {
            if !values.is_empty() {
                self.put_mean(format!("{kind}_{name}"), &values);
            }
        }
        Ok(())
    }
}

#[cfg(all(test, unix))]
mod tests {
    use std::path::Path;

    use burn::tensor::Device;
    use latentlm::SampleOptions;
    use latentlm::codec_audio::{Codec, CodecConfig};
    use latentlm::core::LatentCodecConfig;
    use latentlm_core::conformance::seeded;
    use latentlm_data::speech::write_wav;
    use latentlm_pipelines::{PipelineError, Recipe, SkippedList, SpeakingTimes, SpeechRecipe};

    use super::*;
    use crate::evaluation::MeasuredWeights;
    use crate::speech::{EvaluateSpeechOptions, SpeechEvaluation, SpeechJudges};

    const RATE_HZ: u32 = 16_000;

    /// Says every text as the recording that it is given. The text `endless` does not end, `unsayable` is refused.
    struct Parrot(Codec);

    impl Speaker for Parrot {
        type Voice = Vec<f32>;

        fn codec(&self) -> &Codec {
            &self.0
        }

        fn sample_rate_hz(&self) -> u32 {
            RATE_HZ
        }

        fn frame_rate_hz(&self) -> f64 {
            1.0
        }

        fn voice(&self, _: &str, samples: Vec<f32>) -> Result<Vec<f32>, PipelineError> {
            Ok(samples)
        }

        fn accepts(
            &self,
            texts: &[String],
            _: Option<&Vec<f32>>,
            _: &SampleOptions,
        ) -> Result<(), PipelineError> {
            if texts.iter().any(|text| text == "unsayable") {
                return Err(PipelineError::LongText {
                    tokens: 2,
                    limit: 1,
                });
            }
            Ok(())
        }

        fn say(
            &self,
            texts: &[String],
            voice: Option<&Vec<f32>>,
            _: &SampleOptions,
            _: u64,
        ) -> Result<Vec<Speech>, PipelineError> {
            let said = texts.iter().map(|text| Speech {
                samples: voice.cloned().unwrap_or_else(|| vec![0.1; 4000]),
                was_cut: text == "endless",
            });
            Ok(said.collect())
        }

        fn time(&self, _: &str, _: &SampleOptions, _: u64) -> Result<SpeakingTimes, PipelineError> {
            Ok(SpeakingTimes {
                first_audio_s: 0.0,
                total_s: 0.0,
                speech_s: 1.0,
                was_cut: false,
            })
        }
    }

    /// A corpus of tones: speaker, split and text of each recording. A speaker has a pitch. Several words have times.
    fn corpus(folder: &Path, recordings: &[[&str; 3]]) {
        std::fs::create_dir(folder).unwrap();
        let mut lines = String::new();
        for (index, [speaker, split, text]) in recordings.iter().enumerate() {
            let pitch = 0.05 * speaker.len() as f32;
            let tone: Vec<f32> = (0..8000).map(|i| 0.2 * (i as f32 * pitch).sin()).collect();
            write_wav(&folder.join(format!("{index}.wav")), &tone, RATE_HZ).unwrap();
            let mut words = String::new();
            if let Some((first, second)) = text.split_once(' ') {
                words = format!(
                    r#", "words": [{{"text": "{first}", "end": 0.25}}, {{"text": "{second}", "end": 0.5}}]"#
                );
            }
            lines += &format!(
                r#"{{"audio": "{index}.wav", "text": "{text}", "speaker": "{speaker}", "split": "{split}"{words}}}"#
            );
            lines += "\n";
        }
        std::fs::write(folder.join("metadata.jsonl"), lines).unwrap();
    }

    /// A command that runs a script on all files.
    fn listener(folder: &Path, name: &str, script: &str) -> Option<Listener> {
        let path = folder.join(name);
        std::fs::write(&path, script).unwrap();
        Some(Listener::parse(&format!("sh \"{}\"", path.display())).unwrap())
    }

    fn parrot(device: &Device) -> Parrot {
        let codec = CodecConfig::new()
            .with_ratios(vec![4])
            .with_depths(vec![1, 1])
            .with_width(4)
            .with_latent_dim(3);
        Parrot(seeded(1, device, |device| codec.init(device)))
    }

    /// An evaluation of speech of one voice, before anything is measured.
    fn evaluation<'a>(
        speaker: &'a Parrot,
        options: &'a EvaluateSpeechOptions,
        device: &'a Device,
        folder: &Path,
    ) -> Evaluation<'a, Parrot> {
        Evaluation {
            speaker,
            options,
            folder: folder.to_owned(),
            device,
            results: SpeechEvaluation::default(),
            skipped: SkippedList::default(),
            one_voice: true,
            refused: 0,
            cut: Vec::new(),
        }
    }

    fn options(judges: SpeechJudges) -> EvaluateSpeechOptions {
        EvaluateSpeechOptions {
            samples: 3,
            seed: 1,
            sample: SampleOptions::default(),
            judges,
            hard_texts: 6,
            held_out_voices: None,
            weights: None,
            phase: crate::unshown,
        }
    }

    fn measured(folder: &Path) -> SpeechEvaluation {
        let (seen, held_out) = (folder.join("seen"), folder.join("held-out"));
        let spoken = ["ann", "train", "one"];
        let others = [
            ["robert", "train", "two"],
            ["ann", "test", "three"],
            ["ann", "test", "endless"],
            ["robert", "test", "four"],
            ["robert", "test", "five"],
            ["robert", "test", "unsayable"],
            ["robert", "test", "six seven"],
        ];
        corpus(&seen, &[&[spoken][..], &others].concat());
        let strangers = [["josephine", "test", "six"], ["josephine", "test", "seven"]];
        corpus(&held_out, &strangers);
        let path = format!("data.path={}", seen.display());
        let changes = [path, "data.composed=0".to_owned()];
        let data = SpeechData::open(&SpeechRecipe::resolve(None, &changes).unwrap()).unwrap();
        // The same bytes are the same voice.
        let alike = "for f in \"$@\"; do s=0.25; cmp -s \"$1\" \"$f\" && s=1
            printf '%s\\t%s\\n' \"$f\" $s; done";
        let deaf = "for f in \"$@\"; do printf '%s\\tthree\\n' \"$f\"; done";
        // Hears the recordings of voices that training heard, what continues one, and half of what is said with these voices.
        let second = "for f in \"$@\"; do case \"$f\" in
            *seen_voices-*-000.wav) w=endless;; *seen_voices-original-001.wav) w=five;;
            *continued-*) w=seven;; *) w=three;; esac
            printf '%s\\t%s\\n' \"$f\" $w; done";
        let rated = "for f in \"$@\"; do printf '%s\\t3.5\\n' \"$f\"; done";
        let judges = SpeechJudges {
            open_recognizer: listener(folder, "deaf.sh", deaf),
            second_recognizer: listener(folder, "second.sh", second),
            speaker: listener(folder, "alike.sh", alike),
            naturalness: listener(folder, "rated.sh", rated),
            ..SpeechJudges::default()
        };
        let options = EvaluateSpeechOptions {
            held_out_voices: Some(held_out),
            ..options(judges)
        };
        let device = Device::default();
        let speaker = parrot(&device);
        let mut evaluation = evaluation(&speaker, &options, &device, folder);
        evaluation.one_voice = speakers(&data.train).len() < 2;
        let recordings = evaluation.recordings(&data).unwrap();
        evaluation.measure_codec(&recordings).unwrap();
        let listener = options.judges.open_recognizer.as_ref();
        evaluation.measure_model(&recordings, listener).unwrap();
        evaluation.measure_trained(&data).unwrap();
        evaluation.measure_voices(&data).unwrap();
        evaluation.measure_continuation(&data, 0.2).unwrap();
        evaluation.measure_hard_texts(&data).unwrap();
        evaluation.put_texts();
        evaluation.results
    }

    #[test]
    fn voices_are_told_from_each_other() {
        let dir = tempfile::tempdir().unwrap();
        let measured = measured(dir.path());
        let value = |name: &str| measured.values.get(name).copied();
        // Behind a recording of each speaker its other one is said: `endless` by ann, and `five`.
        for (name, expected) in [
            ("seen_voices_without_end", 1.0),
            ("seen_voices_speaker_similarity", 1.0),
            ("seen_voices_similarity_of_same", 1.0),
            ("seen_voices_similarity_of_different", 0.25),
            ("seen_voices_naturalness_model", 3.5),
            ("seen_voices_word_error_rate_model", 1.0),
            ("texts_refused", 1.0),
            // Three recordings, two training texts, two behind voices that were heard, one behind another, six hard texts,
            // and the rest of a recording.
            ("texts_said", 15.0),
            ("trained_word_error_rate_codec", 1.0),
            ("trained_word_error_rate_model", 1.0),
            ("continued_without_end", 0.0),
            ("continued_speaker_similarity", 1.0),
            ("continued_similarity_of_same", 0.25),
            ("continued_word_error_rate_model", 1.0),
            ("continued_naturalness_original", 3.5),
            ("continued_naturalness_model", 3.5),
            ("held_out_voices_without_end", 0.0),
            ("held_out_voices_similarity_of_same", 1.0),
            ("held_out_voices_naturalness_original", 3.5),
        ] {
            assert_eq!(value(name), Some(expected), "{name}: {measured:?}");
        }
        // Recordings of all speakers together have no voice.
        assert_eq!(value("recordings_speaker_similarity"), None);
        // There is one held-out speaker.
        assert_eq!(value("held_out_voices_similarity_of_different"), None);
        let interval = measured.intervals["seen_voices_speaker_similarity"];
        assert_eq!(interval, [1.0, 1.0]);
        assert_eq!(measured.intervals["seen_voices_without_end"], [0.0, 2.0]);
        let json = serde_json::to_string(&measured).unwrap();
        let read: SpeechEvaluation = serde_json::from_str(&json).unwrap();
        assert_eq!(read.intervals.len(), measured.intervals.len());
        let different = read.values["seen_voices_similarity_of_different"];
        assert_eq!(different, 0.25);
        // Files of earlier versions do not say what weights were measured.
        let older: SpeechEvaluation = serde_json::from_str(r#"{"codec_stoi": 0.75}"#).unwrap();
        assert_eq!(older.values["codec_stoi"], 0.75);
        assert_eq!(older.weights, MeasuredWeights::F32);
    }

    /// What sums up several utterances has an interval, and what counts texts needs none.
    #[test]
    fn every_figure_has_an_interval() {
        let dir = tempfile::tempdir().unwrap();
        let measured = measured(dir.path());
        assert!(measured.values.len() > 40, "{measured:?}");
        for (name, value) in &measured.values {
            let counts = [
                "hard_texts",
                "hard_texts_beyond",
                "longest_trained_text",
                "texts_said",
                "texts_refused",
            ];
            if counts.contains(&&name[..]) || name.ends_with("_recognizers") {
                continue;
            }
            let interval = measured.intervals.get(name);
            let holds = interval.is_some_and(|[low, high]| low <= value && value <= high);
            assert!(holds || value.is_nan(), "{name}: {value} {interval:?}");
        }
        // `endless` is said once as the text of a recording, and once with a voice.
        assert_eq!(measured.values["texts_cut"], 2.0 / 15.0);
    }

    /// 45 utterances of a quarter of a second are two pieces of five seconds or more. One recording is half as long.
    #[test]
    fn one_voice_is_compared_in_pieces() {
        let dir = tempfile::tempdir().unwrap();
        let alike = "for f in \"$@\"; do case \"$f\" in *-001.wav) s=0.5;; *-002.wav) s=0.75;; *) s=1;; esac
            printf '%s\\t%s\\n' \"$f\" $s; done";
        let options = options(SpeechJudges {
            speaker: listener(dir.path(), "alike.sh", alike),
            ..SpeechJudges::default()
        });
        let device = Device::default();
        let speaker = parrot(&device);
        let mut evaluation = evaluation(&speaker, &options, &device, dir.path());
        let mut utterances = Utterances::new("digits");
        utterances.texts = vec!["one".to_owned(); 45];
        utterances.originals = vec![vec![0.1; 4000]; 45];
        utterances.originals[7].truncate(2000);
        evaluation.measure_model(&utterances, None).unwrap();
        let SpeechEvaluation {
            values, intervals, ..
        } = evaluation.results;
        assert_eq!(values["digits_speaker_similarity"], 0.625);
        assert_eq!(intervals["digits_speaker_similarity"], [0.5, 0.75]);
        // More than a third of the resamples lack the short recording.
        assert_eq!(values["digits_longest_ratio"], 2.0);
        assert_eq!(intervals["digits_longest_ratio"], [1.0, 2.0]);
        assert!(!dir.path().join("digits-voices-003.wav").exists());
    }

    /// A second recognizer does not hear speech of voices whose recordings it hears wrong.
    #[test]
    fn a_second_recognizer_counts_where_it_hears_recordings() {
        let dir = tempfile::tempdir().unwrap();
        let measured = measured(dir.path());
        let value = |name: &str| measured.values.get(name).copied();
        for (name, expected) in [
            ("second_seen_voices_word_error_rate_original", Some(0.0)),
            ("second_seen_voices_word_error_rate_model", Some(0.5)),
            ("second_seen_voices_understood_model", Some(0.5)),
            ("seen_voices_recognizers", Some(2.0)),
            ("second_held_out_voices_word_error_rate_original", Some(1.0)),
            ("second_held_out_voices_word_error_rate_model", None),
            ("held_out_voices_recognizers", Some(1.0)),
            ("second_continued_word_error_rate_original", Some(0.0)),
            ("second_continued_word_error_rate_model", Some(0.0)),
            ("continued_recognizers", Some(2.0)),
            // The first one is deaf, and counts.
            ("continued_word_error_rate_original", Some(1.0)),
            ("continued_word_error_rate_model", Some(1.0)),
            // Only voices and what is continued are heard twice.
            ("recordings_recognizers", None),
            ("second_recordings_word_error_rate_original", None),
        ] {
            assert_eq!(value(name), expected, "{name}: {measured:?}");
        }
        let interval = measured.intervals["second_seen_voices_word_error_rate_model"];
        assert_eq!(interval, [0.0, 1.0], "one of two words");
        let heard = |list: &str| std::fs::read_to_string(dir.path().join(list)).unwrap();
        let own = heard("second_seen_voices-model.tsv");
        assert_eq!(own, "endless\tendless\nfive\tthree\n");
        let first = heard("seen_voices-model.tsv");
        assert_eq!(first, "endless\tthree\nfive\tthree\n");
    }

    /// Neighbouring rows of the table are of the same recordings: as many as there are samples, not all held-out ones.
    #[test]
    fn originals_copies_and_speech_have_the_same_texts() {
        let dir = tempfile::tempdir().unwrap();
        measured(dir.path());
        for version in ["original", "codec", "model"] {
            let file = dir.path().join(format!("recordings-{version}.tsv"));
            let list = std::fs::read_to_string(file).unwrap();
            let texts = list.lines().filter_map(|line| line.split('\t').next());
            assert_eq!(
                texts.collect::<Vec<&str>>(),
                ["three", "endless", "four"],
                "{version}"
            );
        }
    }

    /// Three texts of at most five characters, and two longer ones that fare worse.
    #[test]
    fn robustness_beyond_training_is_told_apart() {
        let dir = tempfile::tempdir().unwrap();
        let (options, device) = (options(SpeechJudges::default()), Device::default());
        let speaker = parrot(&device);
        let mut evaluation = evaluation(&speaker, &options, &device, dir.path());
        let said = [
            ("one", "one", 0),
            ("red red red red", "red red", 1),
            ("a b", "a", 0),
            ("one two three four", "one two two three four", 1),
            ("two", "two", 0),
        ];
        let texts = said.map(|(text, _, _)| text.to_owned());
        let heard = said.map(|(_, heard, _)| heard.to_owned());
        let parts = evaluation.put_lengths(&texts, &said.map(|(_, _, cut)| cut), 5);
        for part in &parts {
            evaluation.put_slips(part, &texts, &heard);
        }
        let SpeechEvaluation {
            values, intervals, ..
        } = evaluation.results;
        for (name, expected) in [
            ("longest_trained_text", 5.0),
            ("hard_texts_beyond", 2.0),
            ("hard_without_end_within", 0.0),
            ("hard_without_end_beyond", 2.0),
            // Of 12 words two are missing in one text, and one in another.
            ("hard_words_dropped", 3.0 / 12.0),
            ("hard_words_dropped_within", 1.0 / 4.0),
            ("hard_words_dropped_beyond", 2.0 / 8.0),
            ("hard_words_doubled_within", 0.0),
            ("hard_words_doubled_beyond", 1.0 / 8.0),
            ("hard_word_error_rate_model", 4.0 / 12.0),
            ("hard_word_error_rate_model_within", 1.0 / 4.0),
            ("hard_word_error_rate_model_beyond", 3.0 / 8.0),
        ] {
            assert_eq!(values.get(name), Some(&expected), "{name}: {values:?}");
        }
        // One of the two texts, twice, or the other.
        let interval = intervals["hard_words_dropped_beyond"];
        assert_eq!(interval, [0.0, 0.5]);
    }

    /// The recognizer hears one word in each text. None of them is `three` alone, so that words are dropped.
    #[test]
    fn hard_texts_are_counted() {
        let dir = tempfile::tempdir().unwrap();
        let measured = measured(dir.path());
        assert_eq!(measured.values["hard_texts"], 6.0);
        // All hard texts are longer than `one` and `two`, and none is of another part.
        assert_eq!(measured.values["longest_trained_text"], 3.0);
        assert_eq!(measured.values["hard_texts_beyond"], 6.0);
        assert!(!measured.values.contains_key("hard_without_end_beyond"));
        assert_eq!(measured.values["hard_without_end"], 0.0);
        assert_eq!(measured.values["hard_words_doubled"], 0.0);
        let dropped = measured.values["hard_words_dropped"];
        assert!((0.5..1.0).contains(&dropped), "{dropped}");
        let [low, high] = measured.intervals["hard_words_dropped"];
        assert!(low <= dropped && dropped <= high);
        let list = std::fs::read_to_string(dir.path().join("hard-model.tsv")).unwrap();
        assert_eq!(list.lines().count(), 6);
    }
}
