//! Recordings of a corpus before they are decoded: names, texts, splits, and what makes one unusable.

use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use latentlm_media::sound::{self, SoundLimits};
use sha2::{Digest, Sha256};

use super::timed::TimedWord;
use crate::allowed::allows;
use crate::error::DataError;
use crate::normal::normal_text;
use crate::skipped::Skipped;
use crate::split::Split;

/// Largest size of the text of a recording in bytes: in memory there are several copies, while it is read.
pub(super) const MOST_TEXT_BYTES: usize = 1 << 20;

/// Limits for reading a corpus.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SpeechBounds {
    /// Whether tables may name recordings outside of their folder.
    pub outside: bool,
    /// Largest size of a table or transcript in bytes.
    pub table_bytes: u64,
    /// Largest number of lines of the tables of a corpus.
    pub table_lines: usize,
    /// Largest length of a recording.
    pub sound: SoundLimits,
}

impl Default for SpeechBounds {
    /// Recordings inside the folder only, tables of 448 MiB (Common Voice's English one has about 350) and 1.5 million
    /// lines: together they take less than a gigabyte of memory, a recording more than a short line. Default
    /// [`SoundLimits`].
    fn default() -> Self {
        Self {
            outside: false,
            table_bytes: 448 << 20,
            table_lines: 1_500_000,
            sound: SoundLimits::default(),
        }
    }
}

impl SpeechBounds {
    /// Largest size of a list in JSON in bytes: it is in memory as a whole, beside the recordings that it becomes.
    /// Records in lines are freed as they are read.
    pub(super) fn list_bytes(&self) -> u64 {
        self.table_bytes / 7 * 3
    }

    /// The error of `count` lines, or records, that are too many.
    pub(super) fn too_many(&self, lines: &str, count: usize) -> String {
        let more = allows("data.max_lines", count as u64);
        let most = self.table_lines;
        format!("has more than {most} {lines}, the most that are read; {more}")
    }
}

/// A recording that is not decoded yet. A large corpus has more than a million of them.
#[derive(Debug, Clone)]
pub(super) struct Clip {
    /// Name within the corpus: its path, relative to the folder.
    pub(super) name: String,
    pub(super) text: String,
    /// Recordings of a speaker may share the name.
    pub(super) speaker: Arc<str>,
    pub(super) group: Option<String>,
    pub(super) split: Split,
    /// Length in seconds, if the table gives one.
    pub(super) duration_s: Option<f64>,
    /// The words with their times, if the table gives them.
    pub(super) words: Option<Box<[TimedWord]>>,
    /// Whether its text is longer than any that is kept.
    has_long_text: bool,
    /// Whether a hash of the name decides the split, because the corpus does not.
    hashed: bool,
}

/// All recordings of a corpus, and its problems.
#[derive(Debug, Default)]
pub(super) struct Listing {
    pub(super) clips: Vec<Clip>,
    /// The tables and transcripts that were read.
    pub(super) tables: Vec<PathBuf>,
    /// Recordings whose transcripts can't be read.
    pub(super) skipped: Vec<Skipped>,
    /// Errors in lines of tables. Opening a corpus fails at the first; `data check` reports all.
    pub(super) faults: Vec<DataError>,
}

fn digest(name: &str) -> Vec<u8> {
    Sha256::digest(name.as_bytes()).to_vec()
}

/// The split by a hash of the recording's name: one in twenty is held out. Adding files does not move
/// other recordings.
fn held_out(name: &str) -> Split {
    match digest(name)[0] % 20 {
        0 => Split::Test,
        _ => Split::Train,
    }
}

pub(super) fn clip(name: String, text: &str, speaker: Arc<str>) -> Clip {
    let has_long_text = text.len() > MOST_TEXT_BYTES;
    let kept = if has_long_text { "" } else { text };
    Clip {
        split: held_out(&name),
        name,
        text: normal_text(kept),
        speaker,
        group: None,
        duration_s: None,
        words: None,
        has_long_text,
        hashed: true,
    }
}

pub(super) fn within(folder: &Path, path: &Path) -> String {
    let name = path.strip_prefix(folder).unwrap_or(path);
    name.to_string_lossy().into_owned()
}

pub(super) fn name_of(path: &Path) -> String {
    path.file_name()
        .map_or_else(String::new, |name| name.to_string_lossy().into_owned())
}

impl Clip {
    /// The file of the recording, in the corpus's folder.
    pub(super) fn path(&self, folder: &Path) -> PathBuf {
        folder.join(&self.name)
    }

    /// Sets the split, if the table gives one.
    pub(super) fn in_split(self, split: Option<Split>) -> Self {
        match split {
            Some(split) => Self {
                split,
                hashed: false,
                ..self
            },
            None => self,
        }
    }

    /// Whether the corpus gives the split.
    pub(super) fn is_given(&self) -> bool {
        !self.hashed
    }

    /// Lets a hash of the name decide the split.
    pub(super) fn divide(&mut self) {
        self.split = held_out(&self.name);
        self.hashed = true;
    }

    /// Length of the recording in seconds.
    ///
    /// # Errors
    /// With the reason why it can't be decoded, judged by its header.
    pub(super) fn seconds(&self, folder: &Path, limits: SoundLimits) -> Result<f64, String> {
        let path = self.path(folder);
        if !path.is_file() {
            return Err(if path.exists() {
                "is no regular file".into()
            } else {
                "does not exist".into()
            });
        }
        let ending = sound::ending(&path).unwrap_or_default();
        if sound::OTHER_ENDINGS.contains(&ending.as_str()) {
            return Err(format!(
                "is a recording of the kind `{ending}`, which is not read: turn it into FLAC \
                 (`ffmpeg -i IN OUT.flac`)"
            ));
        }
        if !sound::ENDINGS.contains(&ending.as_str()) {
            return Err("is no WAV, FLAC, MP3 or OGG file".into());
        }
        sound::seconds(&path, limits).map_err(|error| match DataError::from(error) {
            DataError::Malformed { reason, .. } => reason,
            error => error.to_string(),
        })
    }

    /// What is wrong with the `duration` in the table if the recording lasts `seconds`; `None` if they differ by at most
    /// `spare_seconds` and the fraction `spare` of the duration.
    pub(super) fn wrong_duration(
        &self,
        seconds: f64,
        spare_seconds: f64,
        spare: f64,
    ) -> Option<String> {
        let named = self.duration_s?;
        ((named - seconds).abs() > spare_seconds.max(spare * named)).then(|| {
            format!(
                "lasts {seconds:.2} s, its table says `duration` {named:.2}: recordings are read whole; cut \
                 the recording or set its length right"
            )
        })
    }

    /// The reason why the recording can't be used, judged by its header and text; `None` if it can.
    pub(super) fn fault(
        &self,
        folder: &Path,
        seconds: RangeInclusive<f64>,
        limits: SoundLimits,
    ) -> Option<String> {
        self.usable(folder, seconds, limits).err()
    }

    /// Length in seconds of a recording that can be used, judged by its header and text.
    ///
    /// # Errors
    /// With the reason why it can't be used.
    pub(super) fn usable(
        &self,
        folder: &Path,
        seconds: RangeInclusive<f64>,
        limits: SoundLimits,
    ) -> Result<f64, String> {
        if self.has_long_text {
            return Err(format!(
                "has a text of more than {MOST_TEXT_BYTES} bytes, the most that a recording may have"
            ));
        }
        if self.text.is_empty() {
            return Err("has no text".into());
        }
        let length = self.seconds(folder, limits)?;
        let (least, most) = (seconds.start(), seconds.end());
        if !seconds.contains(&length) {
            return Err(format!(
                "lasts {length:.2} s; the recipe takes {least} to {most} s"
            ));
        }
        if length == 0.0 {
            return Err("holds no sound: 0 samples".into());
        }
        Ok(length)
    }
}

/// Makes sure that both splits have a usable recording, if the splits are by hash and there are two usable
/// recordings. Moves the recording with the smallest hash into an empty split.
pub(super) fn hold_out(clips: &mut [Clip], usable: impl Fn(&Clip) -> bool) {
    for (lacking, other) in [(Split::Test, Split::Train), (Split::Train, Split::Test)] {
        let is_there = |clip: &Clip| clip.split == lacking && (!clip.hashed || usable(clip));
        if clips.iter().any(is_there) {
            continue;
        }
        let hashed = |place: &usize| clips[*place].hashed && clips[*place].split == other;
        let mut places: Vec<usize> = (0..clips.len()).filter(hashed).collect();
        places.sort_by_cached_key(|place| digest(&clips[*place].name));
        places.retain(|place| usable(&clips[*place]));
        // A split never gives away its last recording.
        if let [first, _, ..] = places[..] {
            clips[first].split = lacking;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_longer_than_any_is_named_and_not_kept() {
        let dir = tempfile::tempdir().unwrap();
        let fault = |text: &str| {
            let made = clip("a.wav".into(), text, "anna".into());
            assert!(made.text.len() <= MOST_TEXT_BYTES);
            made.fault(dir.path(), 0.0..=1.0, SoundLimits::default())
        };
        let most = "a ".repeat(MOST_TEXT_BYTES / 2);
        assert_eq!(fault(&most).unwrap(), "does not exist");
        let told = fault(&(most + "a")).unwrap();
        assert!(
            told.starts_with("has a text of more than 1048576 bytes"),
            "{told}"
        );
    }
}
