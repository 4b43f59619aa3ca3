//! Plans a corpus of many voices, has it spoken, and writes it.

use std::path::PathBuf;

use latentlm_core::disk;
use latentlm_data::{DataError, Split, held_out, sha256};
use latentlm_media::sound::write_wav;
use latentlm_media::write_whole;
use rand::RngExt;
use serde_json::{Value, json};

use super::finish::{VOICES_RATE_HZ, finish};
use super::journal::Journal;
use super::{Saying, Synthesizer, Unspoken, Voice};
use crate::composer::stream;
use crate::error::{io_error, malformed};

/// Folders of the two corpora.
const SEEN: &str = "seen";
const HELD_OUT: &str = "held-out";
/// What is already spoken.
const JOURNAL: &str = "made.jsonl";
/// Speed of an utterance, relative to the voice's usual one.
const SPEEDS: std::ops::Range<f64> = 0.9..1.1;
/// Changes the seed for the order of sentences, so that order and speeds are independent.
const ORDER_STREAM: u64 = 0x6f72_6465;
/// Number of sentences that may fail beside as many as were spoken. More mean that something else is wrong.
const MOST_FAILED: usize = 20;

/// Options of a corpus of many voices.
#[derive(Debug, Clone)]
pub struct VoicesOptions {
    /// Folder of the corpus. `seen` in it is for training, `held-out` has the voices that training never hears.
    pub folder: PathBuf,
    /// Length of all speech in hours.
    pub hours: f64,
    /// Names of the speakers; all if there is none.
    pub speakers: Vec<String>,
    /// Sentences, in words between single spaces. Each is spoken once before one is spoken again.
    pub sentences: Vec<String>,
    /// Random seed. Voice, sentence and speed are a function of the seed and the utterance's number.
    pub seed: u64,
}

/// Size of a corpus of many voices.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct VoicesCorpus {
    /// Number of utterances.
    pub utterances: usize,
    /// Number of utterances of held-out voices among them.
    pub held_out: usize,
    /// Number of sentences that a synthesizer could not say.
    pub failed: usize,
    /// Total length in seconds.
    pub seconds: f64,
}

impl VoicesCorpus {
    fn count(&mut self, entry: &Value) {
        match entry["folder"].as_str() {
            Some(folder) => {
                self.utterances += 1;
                self.held_out += usize::from(folder == HELD_OUT);
                self.seconds += entry["seconds"].as_f64().unwrap_or(0.0);
            }
            None => self.failed += 1,
        }
    }
}

/// An utterance to be spoken.
#[derive(Debug, PartialEq)]
struct Plan<'a> {
    /// Index of the voice.
    voice: usize,
    text: &'a str,
    speed: f64,
    seed: u32,
}

/// Synthesizes a corpus at 24 kHz: `seen` and `held-out` in the folder, each with `wavs/*.wav` and `metadata.jsonl`,
/// and a README. A second call goes on where the first was interrupted, or ends at once. Sentences that a
/// synthesizer can't say are left out and counted. Calls `spoken` after each utterance.
///
/// # Errors
/// If the folder holds a corpus of other options or can't be written, a synthesizer fails, or it can't say most
/// sentences.
pub fn compose_voices(
    options: &VoicesOptions,
    synthesizers: &mut [Box<dyn Synthesizer>],
    mut spoken: impl FnMut(&VoicesCorpus),
) -> Result<VoicesCorpus, DataError> {
    let voices = options.voices(synthesizers);
    if voices.is_empty() || options.sentences.is_empty() {
        let reason = "needs at least one voice and one sentence";
        return Err(malformed(&options.folder, reason));
    }
    for (_, voice) in &voices {
        let wavs = options.folder.join(folder_of(*voice)).join("wavs");
        disk::create_folders(&wavs).map_err(io_error("create", &wavs))?;
        // What an interrupted call left.
        disk::sweep(&wavs);
    }
    let path = options.folder.join(JOURNAL);
    let mut journal = Journal::open(&path, &options.header(&voices))?;
    let mut corpus = VoicesCorpus::default();
    for entry in journal.entries() {
        corpus.count(entry);
    }
    let order = options.order();
    while corpus.seconds < options.hours * 3600.0 {
        let index = journal.entries().len();
        let plan = options.plan(index, &order, voices.len());
        let (synthesizer, voice) = voices[plan.voice];
        let entry = options.speak(index, &plan, voice, &mut *synthesizers[synthesizer])?;
        corpus.count(&entry);
        if corpus.failed > corpus.utterances + MOST_FAILED {
            let reason = format!(
                "most sentences can't be said, the last because: {}",
                entry["failed"]
            );
            return Err(malformed(&options.folder, reason));
        }
        journal.add(entry)?;
        spoken(&corpus);
    }
    options.write_tables(journal.entries())?;
    let readme = readme(&corpus, &voices, synthesizers);
    write_whole(&options.folder.join("README.md"), readme.as_bytes())?;
    Ok(corpus)
}

fn folder_of(voice: Voice) -> &'static str {
    if voice.held_out { HELD_OUT } else { SEEN }
}

impl VoicesOptions {
    /// The wanted voices, each with the index of its synthesizer.
    fn voices(&self, synthesizers: &[Box<dyn Synthesizer>]) -> Vec<(usize, Voice)> {
        let mut voices = Vec::new();
        for (index, synthesizer) in synthesizers.iter().enumerate() {
            for voice in synthesizer.voices() {
                let is_named = self.speakers.iter().any(|name| name == voice.speaker);
                if self.speakers.is_empty() || is_named {
                    voices.push((index, *voice));
                }
            }
        }
        voices
    }

    /// What the utterances depend on: a corpus of something else is not continued.
    fn header(&self, voices: &[(usize, Voice)]) -> Value {
        let speakers: Vec<String> = voices
            .iter()
            .map(|(_, voice)| format!("{} {}", voice.speaker, voice.name))
            .collect();
        json!({
            "seed": self.seed,
            "voices": speakers,
            "sentences": sha256(self.sentences.join("\n").as_bytes()),
        })
    }

    /// The sentences' indices, shuffled.
    fn order(&self) -> Vec<usize> {
        let mut random = stream(self.seed ^ ORDER_STREAM, 0);
        let mut order: Vec<usize> = (0..self.sentences.len()).collect();
        for place in (1..order.len()).rev() {
            order.swap(place, random.random_range(0..=place));
        }
        order
    }

    /// Voice, sentence and speed of utterance `index`, independent of the number of utterances. Voices take turns;
    /// in the next round of all sentences another voice says a sentence.
    fn plan(&self, index: usize, order: &[usize], voices: usize) -> Plan<'_> {
        let mut random = stream(self.seed, index as u64);
        let round = index / order.len();
        Plan {
            voice: (index + round * usize::from(order.len().is_multiple_of(voices))) % voices,
            text: &self.sentences[order[index % order.len()]],
            speed: random.random_range(SPEEDS),
            seed: random.random_range(0..=u32::MAX >> 1),
        }
    }

    /// Has an utterance spoken and writes its file. Returns its line of the journal.
    fn speak(
        &self,
        index: usize,
        plan: &Plan<'_>,
        voice: Voice,
        synthesizer: &mut dyn Synthesizer,
    ) -> Result<Value, DataError> {
        let words: Vec<&str> = plan.text.split_whitespace().collect();
        let saying = Saying {
            voice: voice.name,
            text: plan.text,
            speed: plan.speed,
            seed: plan.seed,
        };
        let said = match synthesizer.say(&saying) {
            Ok(spoken) => finish(spoken, words.len()),
            Err(Unspoken::Sentence(reason)) => Err(reason),
            Err(Unspoken::Synthesizer(error)) => return Err(error),
        };
        let finished = match said {
            Ok(finished) => finished,
            Err(reason) => {
                let text = plan.text;
                return Ok(json!({"failed": reason, "speaker": voice.speaker, "text": text}));
            }
        };
        let folder = folder_of(voice);
        let audio = format!("wavs/{index:06}.wav");
        let path = self.folder.join(folder).join(&audio);
        write_wav(&path, &finished.samples, VOICES_RATE_HZ)?;
        let seconds = |samples: usize| {
            let milliseconds = samples as f64 * 1000.0 / f64::from(VOICES_RATE_HZ);
            milliseconds.round() / 1000.0
        };
        let timed = words.iter().zip(&finished.ends);
        let timed: Vec<Value> = timed
            .map(|(word, end)| json!({"text": word, "end": seconds(*end)}))
            .collect();
        Ok(json!({
            "folder": folder,
            "seconds": seconds(finished.samples.len()),
            "line": {
                "audio": audio,
                "text": plan.text,
                "speaker": voice.speaker,
                "split": split_of(plan.text, voice).name(),
                "words": timed,
            },
        }))
    }

    /// Writes the tables. They come last: without them, an interrupted corpus is not taken for a complete one.
    fn write_tables(&self, entries: &[Value]) -> Result<(), DataError> {
        for folder in [SEEN, HELD_OUT] {
            let mut lines = String::new();
            for entry in entries {
                if entry["folder"] == folder {
                    lines += &format!("{}\n", entry["line"]);
                }
            }
            if !lines.is_empty() {
                let table = self.folder.join(folder).join("metadata.jsonl");
                write_whole(&table, lines.as_bytes())?;
            }
        }
        Ok(())
    }
}

/// One sentence in ten is held out, by a hash, and all of a held-out voice.
fn split_of(text: &str, voice: Voice) -> Split {
    if voice.held_out {
        Split::Test
    } else {
        held_out(text)
    }
}

/// Says what the corpus is, for people who find its folder.
fn readme(
    corpus: &VoicesCorpus,
    voices: &[(usize, Voice)],
    synthesizers: &[Box<dyn Synthesizer>],
) -> String {
    let mut text = format!(
        "# English speech of many voices\n\n\
         All of this speech is synthetic: no person said these sentences. {} utterances, {:.2} hours at 24 kHz, \
         made by `cargo xtask data voices`. {} sentences were left out because a synthesizer could not say them or \
         did not tell its word times.\n\n\
         - `seen`: for training; one sentence in ten is held out (`split`).\n\
         - `held-out`: {} utterances of voices that `seen` has not.\n\
         - `words` in `metadata.jsonl`: the words with the time in seconds at which each ends in its file.\n\
         - `made.jsonl`: what is done, for a call that goes on.\n\n\
         Sentences: examples of WordNet 3.0 (Princeton University, WordNet licence), unless other texts were named \
         with `--texts`.\n\n\
         | speaker | synthesizer | its voice | |\n| --- | --- | --- | --- |\n",
        corpus.utterances,
        corpus.seconds / 3600.0,
        corpus.failed,
        corpus.held_out,
    );
    for (index, voice) in voices {
        let synthesizer = synthesizers[*index].name();
        let kept = if voice.held_out { "held out" } else { "" };
        text += &format!(
            "| `{}` | {synthesizer} | `{}` | {kept} |\n",
            voice.speaker, voice.name
        );
    }
    text += "\n## Origins and licences\n\n";
    for (index, synthesizer) in synthesizers.iter().enumerate() {
        if voices.iter().any(|(own, _)| *own == index) {
            text += &format!("- {}: {}.\n", synthesizer.name(), synthesizer.origin());
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::fs;
    use std::path::Path;

    use latentlm_data::speech::{SpeechDataset, SpeechSpec};
    use latentlm_media::sound::Audio;

    use super::super::Spoken;
    use super::*;

    /// Each word is 0.2 s of a tone, and each sentence begins with 0.1 s of silence. Sentences with "zebra" fail.
    struct Fake {
        name: &'static str,
        voices: Vec<Voice>,
        /// Sentences until it breaks.
        left: usize,
    }

    impl Synthesizer for Fake {
        fn name(&self) -> &str {
            self.name
        }

        fn voices(&self) -> &[Voice] {
            &self.voices
        }

        fn origin(&self) -> &str {
            "a tone, public domain"
        }

        fn say(&mut self, saying: &Saying<'_>) -> Result<Spoken, Unspoken> {
            if self.left == 0 {
                return Err(Unspoken::Synthesizer(malformed(Path::new("fake"), "broke")));
            }
            self.left -= 1;
            if saying.text.contains("zebra") {
                return Err(Unspoken::Sentence("no zebras".into()));
            }
            let words = saying.text.split(' ').count();
            let mut samples = vec![0.0; 1600];
            let pitch = 0.05 + f64::from(saying.seed % 100) * 1e-4 * saying.speed;
            samples.extend((0..3200 * words).map(|i| (i as f64 * pitch).sin() as f32 * 0.5));
            let ends_s = (1..=words).map(|word| 0.1 + 0.2 * word as f64);
            Ok(Spoken {
                audio: Audio {
                    samples,
                    sample_rate_hz: 16_000,
                },
                ends_s: ends_s.collect(),
            })
        }
    }

    const fn voice(speaker: &'static str, held_out: bool) -> Voice {
        Voice {
            speaker,
            name: "tone",
            held_out,
        }
    }

    fn fakes(left: usize) -> Vec<Box<dyn Synthesizer>> {
        let one = vec![voice("voice-01", false), voice("voice-02", true)];
        let two = vec![voice("voice-03", false)];
        let mut fakes: Vec<Box<dyn Synthesizer>> = Vec::new();
        for (name, voices) in [("one", one), ("two", two)] {
            fakes.push(Box::new(Fake { name, voices, left }));
        }
        fakes
    }

    fn options(folder: &Path) -> VoicesOptions {
        let number = [
            "one", "two", "three", "four", "five", "six", "seven", "eight",
        ];
        let mut sentences = vec!["A zebra can not be said.".to_owned()];
        for first in number {
            for second in number {
                sentences.push(format!("Now say {first} {second}."));
            }
        }
        VoicesOptions {
            folder: folder.join("corpus"),
            // About 60 sentences of 0.8 s and more.
            hours: 55.0 / 3600.0,
            speakers: Vec::new(),
            sentences,
            seed: 3,
        }
    }

    /// All files of a folder by their names within it.
    fn files(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
        let mut found = BTreeMap::new();
        let mut folders = vec![folder.to_owned()];
        while let Some(open) = folders.pop() {
            for entry in fs::read_dir(open).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                } else {
                    let name = path.strip_prefix(folder).unwrap().to_owned();
                    found.insert(name, fs::read(path).unwrap());
                }
            }
        }
        found
    }

    #[test]
    fn a_call_that_goes_on_gives_the_same_files() {
        let dir = tempfile::tempdir().unwrap();
        let at_once = options(&dir.path().join("a"));
        let made = compose_voices(&at_once, &mut fakes(1000), |_| ()).unwrap();
        assert!(made.seconds >= 55.0 && made.seconds < 57.0, "{made:?}");
        let in_parts = options(&dir.path().join("b"));
        let error = compose_voices(&in_parts, &mut fakes(10), |_| ()).unwrap_err();
        assert!(error.to_string().contains("broke"), "{error}");
        let table = in_parts.folder.join("seen/metadata.jsonl");
        assert!(!table.exists(), "an interrupted corpus is none");
        let again = compose_voices(&in_parts, &mut fakes(1000), |_| ()).unwrap();
        assert_eq!(again, made);
        assert_eq!(files(&in_parts.folder), files(&at_once.folder));
        // Complete: nothing is spoken again.
        let mut calls = 0;
        compose_voices(&in_parts, &mut fakes(0), |_| calls += 1).unwrap();
        assert_eq!(calls, 0);
        let other = VoicesOptions {
            seed: 4,
            ..in_parts
        };
        let error = compose_voices(&other, &mut fakes(1000), |_| ()).unwrap_err();
        assert!(error.to_string().contains("another seed"), "{error}");
    }

    #[test]
    fn voices_and_sentences_are_held_out() {
        let dir = tempfile::tempdir().unwrap();
        let options = options(dir.path());
        let made = compose_voices(&options, &mut fakes(1000), |_| ()).unwrap();
        let spec = SpeechSpec {
            sample_rate_hz: 24_000,
            loudness_dbfs: None,
            trim_silence: true,
            min_seconds: 0.0,
            max_seconds: 10.0,
        };
        let open = |folder: &str, split| {
            SpeechDataset::open(&options.folder.join(folder), spec, split).unwrap()
        };
        let train = open("seen", Split::Train);
        let test = open("seen", Split::Test);
        let other = open("held-out", Split::Test);
        assert_eq!(train.len() + test.len() + other.len(), made.utterances);
        assert_eq!(other.len(), made.held_out);
        assert!(made.utterances / 4 < other.len() && !test.is_empty());
        let texts = |set: &SpeechDataset| -> Vec<String> {
            (0..set.len()).map(|i| set.text(i).to_owned()).collect()
        };
        let known = texts(&train);
        for text in texts(&test) {
            assert!(!known.contains(&text), "{text}");
        }
        for index in 0..train.len() {
            assert_ne!(train.speaker(index), "voice-02");
        }
        assert_eq!(other.speaker(0), "voice-02");
        // 0.05 s of silence are left, and a word is 0.2 s.
        let words = train.words(0).unwrap();
        let said: Vec<&str> = words.iter().map(|word| word.text.as_str()).collect();
        assert_eq!(said.join(" "), train.text(0));
        for (place, word) in words.iter().enumerate() {
            let expected = 24_000 * (25 + 20 * place) / 100;
            // Frames of energy have 10 ms.
            assert!(word.end.abs_diff(expected) <= 480, "{words:?}");
        }
        assert_eq!(train.get(0).unwrap().samples.len(), {
            let path = train.path(0);
            latentlm_media::sound::read_audio(&path)
                .unwrap()
                .samples
                .len()
        });
    }

    #[test]
    fn what_cannot_be_said_is_counted_and_told() {
        let dir = tempfile::tempdir().unwrap();
        let all = options(dir.path());
        let long = VoicesOptions {
            hours: 80.0 / 3600.0,
            ..all.clone()
        };
        let made = compose_voices(&long, &mut fakes(1000), |_| ()).unwrap();
        assert!(made.failed >= 1, "{made:?}");
        let readme = fs::read_to_string(long.folder.join("README.md")).unwrap();
        for part in [
            "All of this speech is synthetic",
            &format!("{} sentences were left out", made.failed),
            "| `voice-02` | one | `tone` | held out |",
            "two: a tone, public domain.",
        ] {
            assert!(readme.contains(part), "{part}: {readme}");
        }
        let hopeless = VoicesOptions {
            folder: dir.path().join("hopeless"),
            sentences: vec!["Two zebras can not be said.".into()],
            ..all.clone()
        };
        let error = compose_voices(&hopeless, &mut fakes(1000), |_| ()).unwrap_err();
        assert!(error.to_string().contains("no zebras"), "{error}");
        let nobody = VoicesOptions {
            speakers: vec!["voice-99".into()],
            ..all
        };
        assert!(compose_voices(&nobody, &mut fakes(1000), |_| ()).is_err());
    }

    #[test]
    fn one_voice_alone_says_every_sentence_once() {
        let dir = tempfile::tempdir().unwrap();
        let one = VoicesOptions {
            speakers: vec!["voice-03".into()],
            ..options(dir.path())
        };
        let voices = one.voices(&fakes(0));
        assert_eq!(voices, [(1, voice("voice-03", false))]);
        let order = one.order();
        let mut texts: Vec<&str> = (0..order.len())
            .map(|index| one.plan(index, &order, 1).text)
            .collect();
        texts.sort_unstable();
        texts.dedup();
        assert_eq!(texts.len(), one.sentences.len());
        // In the next round of 65 sentences each is said by another of five voices.
        let first = one.plan(7, &order, 5);
        let again = one.plan(7 + order.len(), &order, 5);
        assert_eq!(first.text, again.text);
        assert_ne!(first.voice, again.voice);
    }
}
