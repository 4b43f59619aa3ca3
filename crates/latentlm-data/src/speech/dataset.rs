//! One type for every corpus of speech.

use std::path::Path;
use std::sync::Arc;

use super::audio::{Audio, RATES_HZ, read_sound};
use super::corpus::{self, Clip, Listing, SpeechBounds};
use super::loudness::{normalise, trim_silence};
use super::mixer::SoundLimits;
use crate::dataset::{Split, hex_digest};
use crate::error::DataError;
use crate::skipped::Skipped;

/// Silence left at both ends where it is trimmed.
const KEPT_SECONDS: f64 = 0.05;
/// A recording may be longer by so much than its header says: that of an MP3 is an estimate.
const SPARE_SECONDS: f64 = 1.0;

/// What recordings are brought to.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SpeechSpec {
    /// Samples a second.
    pub sample_rate_hz: u32,
    /// Root mean square of what is not silent, in dB of full scale; as recorded if absent.
    pub loudness_dbfs: Option<f64>,
    /// Whether silence at both ends is cut.
    pub trim_silence: bool,
    /// Shorter recordings are left out.
    pub min_seconds: f64,
    /// Longer recordings are left out.
    pub max_seconds: f64,
}

impl SpeechSpec {
    /// A sound brought to rate and loudness, silence at its ends cut where that is asked for. Lengths
    /// are the caller's business.
    ///
    /// # Panics
    /// If a rate is 0.
    pub fn bring(&self, audio: Audio) -> Vec<f32> {
        let audio = audio.resampled(self.sample_rate_hz);
        let mut samples = if self.trim_silence {
            trim_silence(&audio.samples, self.sample_rate_hz, KEPT_SECONDS).to_vec()
        } else {
            audio.samples
        };
        if let Some(level) = self.loudness_dbfs {
            normalise(&mut samples, self.sample_rate_hz, level);
        }
        samples
    }

    fn validate(&self, path: &Path) -> Result<(), DataError> {
        let (least, most) = (self.min_seconds, self.max_seconds);
        let reason = if !RATES_HZ.contains(&self.sample_rate_hz) {
            let (low, high) = (RATES_HZ.start(), RATES_HZ.end());
            format!(
                "samples a second must be {low} to {high}, not {}",
                self.sample_rate_hz
            )
        } else if !(0.0 <= least && least <= most) {
            format!("lengths must be from 0 s up, not {least} to {most} s")
        } else if let Some(level) = self
            .loudness_dbfs
            .filter(|level| !(-90.0..=0.0).contains(level))
        {
            format!("loudness must be -90 to 0 dB of full scale, not {level}")
        } else {
            return Ok(());
        };
        let path = path.to_owned();
        Err(DataError::SpeechSpec { path, reason })
    }
}

/// A recording, ready to be trained on.
#[derive(Debug, Clone, PartialEq)]
pub struct Utterance {
    /// Samples in `[-1, 1]`.
    pub samples: Vec<f32>,
    /// What is said.
    pub text: String,
    /// Who says it.
    pub speaker: String,
}

/// An opened corpus. Recordings are decoded when asked for; a clone is cheap.
#[derive(Debug, Clone)]
pub struct SpeechDataset {
    clips: Arc<Vec<Clip>>,
    skipped: Arc<Vec<Skipped>>,
    folder: Arc<Path>,
    spec: SpeechSpec,
    sound: SoundLimits,
}

impl SpeechDataset {
    /// Opens whatever corpus `path` holds:
    /// - a `metadata.jsonl` whose lines have `audio` (a path) and `text`, and may have `speaker`,
    ///   `group` (what the word is to a [`Composer`](super::Composer)) and `split`; the manifests of
    ///   NeMo and of Hugging Face, which call them `audio_filepath`, `file_name`, `transcription` or
    ///   `sentence`, one for the whole or one a split;
    /// - tables between bars, tabs or commas: LJSpeech's, Piper's, Coqui's and F5's `metadata.csv`,
    ///   Common Voice's `train.tsv`, with a first line that names the columns or without;
    /// - trees as LibriSpeech's (`*.trans.txt` beside FLAC), LibriTTS's (`*.normalized.txt` beside
    ///   WAV), VCTK's and Multilingual LibriSpeech's.
    ///
    /// Where nothing is said of splits, one recording in twenty is held out by a hash of its name, at
    /// least one if there are two. Recordings that can't be used are left out and listed
    /// ([`skipped`](Self::skipped)), transcripts that can't be read with the training split. Texts are
    /// in their [normal form](crate::normal_text).
    ///
    /// # Errors
    /// If it holds none, or none of that split that can be used, if a line of its table can't be
    /// read or leads out of the folder, or if recordings can't be brought to `spec`.
    pub fn open(path: &Path, spec: SpeechSpec, split: Split) -> Result<Self, DataError> {
        Self::open_within(path, spec, split, SpeechBounds::default())
    }

    /// Opens a corpus that may ask more of the machine, or less.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn open_within(
        path: &Path,
        spec: SpeechSpec,
        split: Split,
        bounds: SpeechBounds,
    ) -> Result<Self, DataError> {
        spec.validate(path)?;
        let Listing {
            mut clips,
            mut skipped,
            faults,
        } = corpus::list(path, bounds)?;
        if let Some(fault) = faults.into_iter().next() {
            return Err(fault);
        }
        // What split a transcript that can't be read belongs to, nobody knows: it is listed once.
        if split != Split::Train {
            skipped.clear();
        }
        let sound = bounds.sound.and_seconds(spec.max_seconds + SPARE_SECONDS);
        let fault = |clip: &Clip| clip.fault(spec.min_seconds..=spec.max_seconds, sound);
        corpus::hold_out(&mut clips, |clip| fault(clip).is_none());
        clips.retain(|clip| clip.split == split);
        clips.retain(|clip| match fault(clip) {
            None => true,
            Some(reason) => {
                skipped.push(Skipped {
                    path: clip.path.clone(),
                    reason,
                });
                false
            }
        });
        if clips.is_empty() {
            return Err(match skipped.into_iter().next() {
                Some(Skipped { path, reason }) => DataError::malformed(
                    &path,
                    format!(
                        "{reason}; of the {} split nothing else is left",
                        split.name()
                    ),
                ),
                None => DataError::EmptySpeechSplit {
                    path: path.to_owned(),
                    split: split.name(),
                },
            });
        }
        Ok(Self {
            clips: Arc::new(clips),
            skipped: Arc::new(skipped),
            folder: path.into(),
            spec,
            sound,
        })
    }

    /// Whether a folder holds speech (and not pictures).
    pub fn is_speech(path: &Path) -> bool {
        corpus::is_corpus(path)
    }

    /// The folder that was opened.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Number of recordings.
    pub fn len(&self) -> usize {
        self.clips.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.clips.is_empty()
    }

    /// What recordings are brought to.
    pub fn spec(&self) -> SpeechSpec {
        self.spec
    }

    /// Recordings that were left out, and why.
    pub fn skipped(&self) -> &[Skipped] {
        &self.skipped
    }

    /// What a recording says.
    ///
    /// # Panics
    /// If `index` is out of range.
    pub fn text(&self, index: usize) -> &str {
        &self.clips[index].text
    }

    /// Who speaks in it.
    ///
    /// # Panics
    /// If `index` is out of range.
    pub fn speaker(&self, index: usize) -> &str {
        &self.clips[index].speaker
    }

    /// What kind of word it is, if it is one.
    ///
    /// # Panics
    /// If `index` is out of range.
    pub fn group(&self, index: usize) -> Option<&str> {
        self.clips[index].group.as_deref()
    }

    /// Its file.
    ///
    /// # Panics
    /// If `index` is out of range.
    pub fn path(&self, index: usize) -> &Path {
        &self.clips[index].path
    }

    /// Decodes a recording and brings it to the specification.
    ///
    /// # Errors
    /// If it can't be decoded, holds more sound than its header says and the specification takes, or
    /// nothing can be heard in it.
    ///
    /// # Panics
    /// If `index` is out of range.
    pub fn get(&self, index: usize) -> Result<Utterance, DataError> {
        let clip = &self.clips[index];
        let sound = read_sound(&clip.path, self.sound)?;
        if let Some(reason) = sound.silence() {
            return Err(DataError::malformed(&clip.path, reason));
        }
        Ok(Utterance {
            samples: self.spec.bring(sound.audio),
            text: clip.text.clone(),
            speaker: clip.speaker.clone(),
        })
    }

    /// A hash of names, sizes, texts, speakers and groups, and of what recordings are brought to. It goes into
    /// checkpoints and caches: a change of it makes caches anew.
    pub fn fingerprint(&self) -> String {
        let clips = self.clips.iter().map(|clip| {
            let size = std::fs::metadata(&clip.path).map_or(0, |m| m.len());
            // Debug quotes the strings: no two lists read alike.
            let (name, text, speaker, group) = (&clip.name, &clip.text, &clip.speaker, &clip.group);
            format!("{name:?} {size} {text:?} {speaker:?} {group:?}\n")
        });
        hex_digest([format!("{:?}", self.spec)].into_iter().chain(clips))
    }
}
