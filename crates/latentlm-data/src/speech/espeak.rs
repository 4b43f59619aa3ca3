//! Corpora of many voices, spoken by the program `espeak-ng`: as much speech as is wanted, with
//! exact transcripts, where no corpus is at hand.

use std::fs;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rand::RngExt;
use serde_json::json;

use super::audio::read_audio;
use super::compose::{Composition, stream};
use super::table::plain_lines;
use crate::dataset::Split;
use crate::error::{DataError, io_error};
use crate::latents::write_whole;
use crate::normal::normal_text;
use crate::walk::read_text;

/// Pronunciations of English that sound different with every variant.
const ACCENTS: [&str; 4] = ["en-us", "en", "en-gb-scotland", "en-gb-x-rp"];
/// Voices of the program, `m` of men and `f` of women. Their number has no divisor in common with
/// that of the accents: counting on in both lists meets every pair before one comes again.
const VARIANTS: [&str; 11] = [
    "m1", "f1", "m2", "f2", "m3", "f3", "m4", "f4", "m5", "f5", "m7",
];
/// Different speakers there are.
const SPEAKERS: usize = ACCENTS.len() * VARIANTS.len();
/// Words a minute, drawn for every utterance.
const RATES: std::ops::RangeInclusive<u32> = 130..=190;
/// The pitch of a speaker: 50 of 0 to 99 is the variant's own.
const PITCHES: std::ops::RangeInclusive<u32> = 35..=65;
/// How far an utterance's pitch lies from its speaker's.
const PITCH_SPREAD: u32 = 4;
/// Texts are drawn from another stream than who says them, or the two would go together.
const TEXT_STREAM: u64 = 0x7465_7874;
/// Bytes of a file of sentences.
const TEXT_BYTES: u64 = 256 << 20;
/// One text in so many is held out.
const HELD_OUT: usize = 10;

/// What is to be spoken.
#[derive(Debug, Clone)]
pub struct EspeakOptions {
    /// The program, by name or path.
    pub program: PathBuf,
    /// The folder that becomes the corpus.
    pub folder: PathBuf,
    /// How many utterances.
    pub utterances: usize,
    /// How many speakers, at most 44.
    pub speakers: usize,
    /// Sentences to be spoken in turn; numbers, dates and spelled words if there are none.
    pub sentences: Vec<String>,
    /// Who says what and how is a function of this and of the utterance's number.
    pub seed: u64,
}

/// What was spoken.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct EspeakCorpus {
    /// Utterances.
    pub utterances: usize,
    /// Their length together.
    pub seconds: f64,
}

/// One utterance before it is spoken.
#[derive(Debug, PartialEq)]
struct Plan {
    text: String,
    split: Split,
    /// The program's name of the voice, with its variant.
    speaker: String,
    pitch: u32,
    words_a_minute: u32,
}

/// Different sentences of a file, one a line.
///
/// # Errors
/// If the file can't be read or has fewer than two: one is to be trained on, one to be held out.
pub fn read_sentences(path: &Path) -> Result<Vec<String>, DataError> {
    let text = plain_lines(&read_text(path, TEXT_BYTES)?);
    let mut sentences: Vec<String> = Vec::new();
    let mut seen = std::collections::HashSet::new();
    let lines = text.lines().map(normal_text);
    for line in lines.filter(|line| !line.is_empty()) {
        if seen.insert(line.clone()) {
            sentences.push(line);
        }
    }
    if sentences.len() < 2 {
        return Err(DataError::malformed(
            path,
            "needs two different sentences or more, one a line",
        ));
    }
    Ok(sentences)
}

/// Has a corpus spoken: `wavs/*.wav` and, last, `metadata.jsonl`. The same options make the same
/// corpus with one version of the program. `spoken` is called with the number of each utterance that
/// is there.
///
/// # Errors
/// If the folder holds a corpus already or can't be written, numbers are out of range, or the program
/// is missing or speaks nothing.
pub fn espeak_corpus(
    options: &EspeakOptions,
    mut spoken: impl FnMut(usize),
) -> Result<EspeakCorpus, DataError> {
    let table = options.folder.join("metadata.jsonl");
    options.validate(&table)?;
    let wavs = options.folder.join("wavs");
    fs::create_dir_all(&wavs).map_err(io_error("create", &wavs))?;
    let (mut lines, mut seconds) = (String::new(), 0.0);
    for index in 0..options.utterances {
        let plan = options.plan(index);
        let name = format!("wavs/{index:06}.wav");
        seconds += options.speak(&plan, &options.folder.join(&name))?;
        let line = json!({
            "audio": name,
            "text": plan.text,
            "speaker": plan.speaker,
            "split": plan.split.name(),
        });
        lines += &format!("{line}\n");
        spoken(index);
    }
    // A folder without it is no corpus: what was broken off is not taken for one.
    write_whole(&table, lines.as_bytes())?;
    Ok(EspeakCorpus {
        utterances: options.utterances,
        seconds,
    })
}

impl EspeakOptions {
    fn validate(&self, table: &Path) -> Result<(), DataError> {
        if table.exists() {
            let reason = "exists already: name a folder without a corpus";
            return Err(DataError::malformed(table, reason));
        }
        if !(1..=SPEAKERS).contains(&self.speakers) {
            let reason = format!("speakers must be 1 to {SPEAKERS}, not {}", self.speakers);
            return Err(DataError::malformed(&self.folder, reason));
        }
        if self.utterances < HELD_OUT {
            let reason = format!(
                "at least {HELD_OUT} utterances, of which one is held out, not {}",
                self.utterances
            );
            return Err(DataError::malformed(&self.folder, reason));
        }
        Ok(())
    }

    /// Who says what, and how: a function of seed and number, whatever the number of utterances.
    fn plan(&self, index: usize) -> Plan {
        let mut random = stream(self.seed, index as u64);
        let speaker = random.random_range(0..self.speakers);
        let (text, split) = self.text(index);
        let span = (PITCHES.end() - PITCHES.start() + 1) as usize;
        // Steps of 11 through a span of 31 come to every pitch before one comes again.
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

    fn text(&self, index: usize) -> (String, Split) {
        let last_of = |place: usize, count: usize| {
            if place % count == count - 1 {
                Split::Test
            } else {
                Split::Train
            }
        };
        if self.sentences.is_empty() {
            let split = last_of(index, HELD_OUT);
            let kinds = Composition::ALL;
            // Shifted in every round, or some kinds would never be held out.
            let kind = kinds[(index + index / HELD_OUT) % kinds.len()];
            let seed = self.seed ^ TEXT_STREAM;
            return (kind.text(split, seed, index as u64), split);
        }
        let place = index % self.sentences.len();
        let held_out = last_of(place, HELD_OUT.min(self.sentences.len()));
        (self.sentences[place].clone(), held_out)
    }

    /// Speaks one utterance to a file, which gets its name when it is whole. Returns its seconds.
    fn speak(&self, plan: &Plan, path: &Path) -> Result<f64, DataError> {
        let folder = path.parent().unwrap_or(&self.folder);
        // What reads it goes by the ending.
        let file = tempfile::Builder::new().suffix(".wav").tempfile_in(folder);
        let file = file.map_err(io_error("write in", folder))?.into_temp_path();
        let mut command = Command::new(&self.program);
        command
            .args(["-v", &plan.speaker, "-s", &plan.words_a_minute.to_string()])
            .args(["-p", &plan.pitch.to_string(), "--stdin", "-w"])
            .arg(file.as_os_str());
        self.run(command, &plan.text)?;
        // The program says nothing by its exit code if it can't write.
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
            // Who does not listen fails below, and says why.
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
    fn sentences_are_lines() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("texts.txt");
        fs::write(&path, "\u{feff}One.\r\n\n  Two. \nOne.\n").unwrap();
        assert_eq!(read_sentences(&path).unwrap(), ["One.", "Two."]);
        fs::write(&path, "One.\nOne.\n").unwrap();
        let message = read_sentences(&path).unwrap_err().to_string();
        assert!(message.contains("two different sentences"), "{message}");
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
        assert!(!missing.contains('\n') && !folder.join("metadata.jsonl").exists());
        let wavs = fs::read_dir(folder.join("wavs")).unwrap().count();
        assert_eq!(wavs, 0, "nothing is left behind");
        for (speakers, utterances, part) in [(0, 40, "1 to 44"), (45, 40, "1 to 44"), (2, 9, "10")]
        {
            let wrong = EspeakOptions {
                speakers,
                utterances,
                ..good.clone()
            };
            assert!(message(&wrong).contains(part), "{}", message(&wrong));
        }
        fs::write(folder.join("metadata.jsonl"), "").unwrap();
        assert!(message(&good).contains("exists already"));
    }

    /// A program in the place of the real one: it checks its arguments and copies a sound.
    #[cfg(unix)]
    #[test]
    fn what_is_spoken_opens_as_a_corpus() {
        use super::super::{SpeechDataset, SpeechSpec, write_wav};
        use std::os::unix::fs::PermissionsExt;

        let dir = tempfile::tempdir().unwrap();
        let sound = dir.path().join("sound.wav");
        write_wav(&sound, &[0.1; 1600], 16_000).unwrap();
        let program = dir.path().join("program");
        let script = format!(
            "#!/bin/sh\ntest \"$1$3$5$7$8\" = -v-s-p--stdin-w && cat > /dev/null && cp '{}' \"$9\"\n",
            sound.display()
        );
        fs::write(&program, script).unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        let options = EspeakOptions {
            program,
            ..options(&dir.path().join("corpus"), &[])
        };
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
