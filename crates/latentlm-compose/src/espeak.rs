//! Synthesizes corpora of many voices with the program `espeak-ng`: any amount of speech with exact
//! transcripts, where no recorded corpus is at hand.

use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use latentlm_core::disk;
use latentlm_data::speech::Composition;
use latentlm_data::{DataError, Split, sha256};
use latentlm_media::sound::read_audio;
use latentlm_media::write_whole;
use rand::RngExt;
use serde_json::{Value, json};

use crate::begun::Begun;
use crate::composer::stream;
use crate::error::{io_error, malformed};

/// English accents of `espeak-ng`. Each sounds different with each variant.
const ACCENTS: [&str; 4] = ["en-us", "en", "en-gb-scotland", "en-gb-x-rp"];
/// Voice variants of `espeak-ng`, `m` male and `f` female. Their number and that of the accents are
/// coprime: stepping through both lists at once gives every pair before one repeats.
const VARIANTS: [&str; 11] = [
    "m1", "f1", "m2", "f2", "m3", "f3", "m4", "f4", "m5", "f5", "m7",
];
/// Number of different speakers.
const SPEAKERS: usize = ACCENTS.len() * VARIANTS.len();
/// Speaking rate in words per minute, drawn for each utterance.
const RATES: std::ops::RangeInclusive<u32> = 130..=190;
/// Pitch of a speaker on espeak's scale of 0 to 99; 50 is the variant's own pitch.
const PITCHES: std::ops::RangeInclusive<u32> = 35..=65;
/// Largest difference between the pitch of an utterance and that of its speaker.
const PITCH_SPREAD: u32 = 4;
/// Changes the seed for texts, so that texts and speakers are independent.
const TEXT_STREAM: u64 = 0x7465_7874;
/// One text in this many is held out.
const HELD_OUT: usize = 10;

/// Options of a synthesized corpus.
#[derive(Debug, Clone)]
pub struct EspeakOptions {
    /// Name or path of the program.
    pub program: PathBuf,
    /// Folder of the new corpus.
    pub folder: PathBuf,
    /// Number of utterances.
    pub utterances: usize,
    /// Number of speakers, at most 44.
    pub speakers: usize,
    /// Sentences, spoken in turn. If empty, numbers, dates and spelled words are spoken.
    pub sentences: Vec<String>,
    /// Random seed. Speaker, text, pitch and rate are a function of the seed and the utterance's index.
    pub seed: u64,
}

/// Size of a synthesized corpus.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct EspeakCorpus {
    /// Number of utterances.
    pub utterances: usize,
    /// Total length in seconds.
    pub seconds: f64,
}

/// An utterance to be spoken.
#[derive(Debug, PartialEq)]
struct Plan {
    text: String,
    split: Split,
    /// The program's name of the voice and variant.
    speaker: String,
    pitch: u32,
    words_a_minute: u32,
}

/// Synthesizes a corpus: writes `wavs/*.wav` and, last, `metadata.jsonl`. The same options and version of
/// the program give the same corpus. A call that was interrupted is continued by another with the same options. Calls
/// `spoken` with the index of each finished utterance.
///
/// # Errors
/// If the folder holds a corpus already, or a part of one with other options, or can't be written, options are out of
/// range, or the program is missing or fails.
pub fn espeak_corpus(
    options: &EspeakOptions,
    spoken: impl FnMut(usize),
) -> Result<EspeakCorpus, DataError> {
    let table = options.folder.join("metadata.jsonl");
    options.validate(&table)?;
    let begun = Begun::open(&options.folder, "wavs", &options.described())?;
    begun.end(options.speak_all(&table, spoken))
}

impl EspeakOptions {
    fn validate(&self, table: &Path) -> Result<(), DataError> {
        if table.exists() {
            let reason = "exists already: name a folder without a corpus";
            return Err(malformed(table, reason));
        }
        if !(1..=SPEAKERS).contains(&self.speakers) {
            let reason = format!("speakers must be 1 to {SPEAKERS}, not {}", self.speakers);
            return Err(malformed(&self.folder, reason));
        }
        if self.utterances < HELD_OUT {
            let reason = format!(
                "at least {HELD_OUT} utterances, of which one is held out, not {}",
                self.utterances
            );
            return Err(malformed(&self.folder, reason));
        }
        Ok(())
    }

    /// What the utterances depend on.
    fn described(&self) -> Value {
        json!({
            "program": self.program.to_string_lossy(),
            "utterances": self.utterances,
            "speakers": self.speakers,
            "sentences": sha256(self.sentences.join("\n").as_bytes()),
            "seed": self.seed,
        })
    }

    /// Synthesizes all utterances that are not there yet, and writes the table.
    fn speak_all(
        &self,
        table: &Path,
        mut spoken: impl FnMut(usize),
    ) -> Result<EspeakCorpus, DataError> {
        let (mut lines, mut seconds) = (String::new(), 0.0);
        for index in 0..self.utterances {
            let plan = self.plan(index);
            let name = format!("wavs/{index:06}.wav");
            let path = self.folder.join(&name);
            seconds += match read_audio(&path) {
                // Written by a call that was interrupted.
                Ok(audio) => audio.seconds(),
                Err(_) => self.speak(&plan, &path)?,
            };
            let line = json!({
                "audio": name,
                "text": plan.text,
                "speaker": plan.speaker,
                "split": plan.split.name(),
            });
            lines += &format!("{line}\n");
            spoken(index);
        }
        // The table comes last: without it, an interrupted corpus is not taken for a complete one.
        write_whole(table, lines.as_bytes())?;
        Ok(EspeakCorpus {
            utterances: self.utterances,
            seconds,
        })
    }

    /// Speaker, text, pitch and rate of utterance `index`, independent of the number of utterances.
    fn plan(&self, index: usize) -> Plan {
        let mut random = stream(self.seed, index as u64);
        let speaker = random.random_range(0..self.speakers);
        let (text, split) = self.text(index);
        let span = (PITCHES.end() - PITCHES.start() + 1) as usize;
        // 11 and 31 are coprime: steps of 11 through a span of 31 reach every pitch before one repeats.
        let pitch = PITCHES.start() + (speaker * 11 % span) as u32;
        let (accent, variant) = (
            ACCENTS[speaker % ACCENTS.len()],
            VARIANTS[speaker % VARIANTS.len()],
        );
        Plan {
            text,
            split,
            speaker: format!("{accent}+{variant}"),
            pitch: pitch - PITCH_SPREAD + random.random_range(0..=2 * PITCH_SPREAD),
            words_a_minute: random.random_range(RATES),
        }
    }

    /// Text and split of utterance `index`.
    fn text(&self, index: usize) -> (String, Split) {
        // The last of every `count` texts is held out.
        let split_of = |place: usize, count: usize| {
            if place % count == count - 1 {
                Split::Test
            } else {
                Split::Train
            }
        };
        if self.sentences.is_empty() {
            let split = split_of(index, HELD_OUT);
            let kinds = Composition::ALL;
            // Shifted by one after every HELD_OUT texts, otherwise some kinds would never be held out.
            let kind = kinds[(index + index / HELD_OUT) % kinds.len()];
            let seed = self.seed ^ TEXT_STREAM;
            return (kind.text(split, seed, index as u64), split);
        }
        let place = index % self.sentences.len();
        let split = split_of(place, HELD_OUT.min(self.sentences.len()));
        (self.sentences[place].clone(), split)
    }

    /// Synthesizes an utterance into a temporary file and renames it. Returns its length in seconds.
    fn speak(&self, plan: &Plan, path: &Path) -> Result<f64, DataError> {
        let folder = path.parent().unwrap_or(&self.folder);
        // Readers of sound may go by the file name's extension.
        let file = disk::temporary_file_named(folder, ".wav");
        let file = file.map_err(io_error("write in", folder))?.into_temp_path();
        let mut command = Command::new(&self.program);
        command
            .args(["-v", &plan.speaker, "-s", &plan.words_a_minute.to_string()])
            .args(["-p", &plan.pitch.to_string(), "--stdin", "-w"])
            .arg(file.as_os_str());
        self.run(command, &plan.text)?;
        // The program's exit code does not tell when it can't write its file.
        let audio = read_audio(&file).map_err(|error| {
            self.failed(format!("spoke nothing of use for `{}`: {error}", plan.text))
        })?;
        file.persist(path)
            .map_err(|error| io_error("write", path)(error.error))?;
        Ok(audio.seconds())
    }

    fn run(&self, mut command: Command, text: &str) -> Result<(), DataError> {
        let child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn();
        let mut child = child.map_err(|error| match error.kind() {
            ErrorKind::NotFound => self.failed(
                "is not installed: `apt install espeak-ng` or `brew install espeak-ng` does, or \
                 name it with --program"
                    .into(),
            ),
            _ => self.failed(format!("cannot be started: {error}")),
        })?;
        if let Some(mut input) = child.stdin.take() {
            // If the program does not read its input, it fails below with a message.
            let _ = writeln!(input, "{text}");
        }
        let output = child.wait_with_output();
        let output = output.map_err(|error| self.failed(format!("cannot be heard: {error}")))?;
        if output.status.success() {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&output.stderr);
        Err(self.failed(format!("failed ({}): {}", output.status, said.trim())))
    }

    fn failed(&self, reason: String) -> DataError {
        DataError::Program {
            program: self.program.clone(),
            reason,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::{BTreeMap, BTreeSet};
    use std::fs;

    fn options(folder: &Path, sentences: &[&str]) -> EspeakOptions {
        EspeakOptions {
            program: "espeak-ng-that-is-not-there".into(),
            folder: folder.into(),
            utterances: 40,
            speakers: 12,
            sentences: sentences.iter().map(ToString::to_string).collect(),
            seed: 7,
        }
    }

    #[test]
    fn plans_repeat_and_differ_by_seed() {
        let one = options(Path::new("a"), &[]);
        let more = EspeakOptions {
            utterances: 400,
            ..one.clone()
        };
        let other = EspeakOptions {
            seed: 8,
            ..one.clone()
        };
        let plans = |options: &EspeakOptions| (0..40).map(|i| options.plan(i)).collect::<Vec<_>>();
        assert_eq!(plans(&one), plans(&more));
        assert_ne!(plans(&one), plans(&other));
    }

    #[test]
    fn every_speaker_is_another() {
        let all = EspeakOptions {
            speakers: SPEAKERS,
            ..options(Path::new("a"), &[])
        };
        let plans: Vec<Plan> = (0..4000).map(|i| all.plan(i)).collect();
        let mut pitches: BTreeMap<&str, BTreeSet<u32>> = BTreeMap::new();
        for plan in &plans {
            pitches.entry(&plan.speaker).or_default().insert(plan.pitch);
            assert!(RATES.contains(&plan.words_a_minute) && plan.pitch < 100);
        }
        assert_eq!(pitches.len(), SPEAKERS);
        for (speaker, pitches) in pitches {
            let spread = pitches.last().unwrap() - pitches.first().unwrap();
            assert_eq!(spread, 2 * PITCH_SPREAD, "{speaker}");
        }
    }

    /// No text is in both splits, and both have every kind.
    #[test]
    fn a_text_is_in_one_split() {
        let sentences = ["one two", "three", "four five six"];
        let none: &[&str] = &[];
        for (list, tests) in [(&sentences[..], 13), (none, 4)] {
            let options = options(Path::new("a"), list);
            let texts = |split: Split| {
                let plans = (0..40).map(|i| options.plan(i));
                let own = plans.filter(|plan| plan.split == split);
                own.map(|plan| plan.text).collect::<Vec<_>>()
            };
            let (train, test) = (texts(Split::Train), texts(Split::Test));
            assert_eq!(test.len(), tests);
            assert!(train.iter().all(|text| !test.contains(text)));
        }
    }

    #[test]
    fn what_cannot_be_spoken_is_one_clear_line() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("corpus");
        let good = options(&folder, &[]);
        let message = |options: &EspeakOptions| {
            let error = espeak_corpus(options, |_| ()).unwrap_err();
            error.to_string()
        };
        let missing = message(&good);
        assert!(missing.contains("is not installed: `apt"), "{missing}");
        assert!(!missing.contains('\n') && !folder.exists(), "{missing}");
        for (speakers, utterances, part) in [(0, 40, "1 to 44"), (45, 40, "1 to 44"), (2, 9, "10")]
        {
            let wrong = EspeakOptions {
                speakers,
                utterances,
                ..good.clone()
            };
            assert!(message(&wrong).contains(part), "{}", message(&wrong));
        }
        fs::create_dir(&folder).unwrap();
        fs::write(folder.join("metadata.jsonl"), "").unwrap();
        assert!(message(&good).contains("exists already"));
    }

    /// A stand-in for the real program: it checks its arguments and copies the file `sound.wav` of the folder.
    #[cfg(unix)]
    fn stand_in(folder: &Path) -> EspeakOptions {
        let program = folder.join("program");
        let script = format!(
            "#!/bin/sh\ntest \"$1$3$5$7$8\" = -v-s-p--stdin-w && cat > /dev/null && cp '{}' \"$9\"\n",
            folder.join("sound.wav").display()
        );
        crate::stand_in::write_program(&program, &script);
        EspeakOptions {
            program,
            ..options(&folder.join("corpus"), &[])
        }
    }

    /// A panic stands for the kill. What the call that goes on speaks is twice as long.
    #[cfg(unix)]
    #[test]
    fn an_interrupted_corpus_goes_on_and_is_not_mixed_with_another() {
        use latentlm_data::speech::write_wav;
        use std::panic::{AssertUnwindSafe, catch_unwind};

        let dir = tempfile::tempdir().unwrap();
        let sound = dir.path().join("sound.wav");
        write_wav(&sound, &[0.1; 1600], 16_000).unwrap();
        let options = stand_in(dir.path());
        let interrupted = catch_unwind(AssertUnwindSafe(|| {
            espeak_corpus(&options, |index| assert!(index < 9, "a kill"))
        }));
        assert!(interrupted.is_err());
        write_wav(&sound, &[0.1; 3200], 16_000).unwrap();
        let count = || fs::read_dir(options.folder.join("wavs")).unwrap().count();
        assert_eq!(count(), 10);
        for other in [
            EspeakOptions {
                seed: 8,
                ..options.clone()
            },
            EspeakOptions {
                utterances: 12,
                ..options.clone()
            },
            EspeakOptions {
                sentences: vec!["one".into()],
                ..options.clone()
            },
        ] {
            let told = espeak_corpus(&other, |_| ()).unwrap_err().to_string();
            assert!(
                told.contains("other options") && !told.contains('\n'),
                "{told}"
            );
        }
        assert_eq!(count(), 10);
        let corpus = espeak_corpus(&options, |_| ()).unwrap();
        assert!(
            (corpus.seconds - (10.0 * 0.1 + 30.0 * 0.2)).abs() < 1e-9,
            "{corpus:?}"
        );
        assert_eq!(count(), 40);
        let left = fs::read_dir(&options.folder).unwrap().count();
        assert_eq!(left, 2, "recordings and their table");
    }

    #[cfg(unix)]
    #[test]
    fn what_is_spoken_opens_as_a_corpus() {
        use latentlm_data::speech::{SpeechDataset, SpeechSpec, write_wav};

        let dir = tempfile::tempdir().unwrap();
        write_wav(&dir.path().join("sound.wav"), &[0.1; 1600], 16_000).unwrap();
        let options = stand_in(dir.path());
        let mut spoken = 0;
        let corpus = espeak_corpus(&options, |_| spoken += 1).unwrap();
        assert_eq!((corpus.utterances, spoken), (40, 40));
        assert!((corpus.seconds - 4.0).abs() < 1e-9);
        let spec = SpeechSpec {
            sample_rate_hz: 16_000,
            loudness_dbfs: None,
            trim_silence: false,
            min_seconds: 0.0,
            max_seconds: 10.0,
        };
        let open = |split| SpeechDataset::open(&options.folder, spec, split).unwrap();
        let (train, test) = (open(Split::Train), open(Split::Test));
        assert_eq!((train.len(), test.len()), (36, 4));
        let plan = options.plan(0);
        assert_eq!(
            (train.text(0), train.speaker(0)),
            (&*plan.text, &*plan.speaker)
        );
        assert!(train.skipped().is_empty() && train.get(0).is_ok());
    }
}
