//! Recordings of a corpus before they are decoded: names, texts, splits, and what makes one unusable.

use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use latentlm_media::MediaError;
use latentlm_media::sound::{self, SoundLimits};
use sha2::{Digest, Sha256};

use crate::error::DataError;
use crate::normal::normal_text;
use crate::skipped::Skipped;
use crate::split::Split;

/// Limits for reading a corpus.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SpeechBounds {
    /// Whether tables may name recordings outside of their folder.
    pub outside: bool,
    /// Largest size of a table or transcript in bytes.
    pub table_bytes: u64,
    /// Largest length of a recording.
    pub sound: SoundLimits,
}

impl Default for SpeechBounds {
    /// Recordings inside the folder only, tables of 128 MiB (with a million lines, which is the most, a table
    /// takes up to a gigabyte of memory), default [`SoundLimits`].
    fn default() -> Self {
        Self {
            outside: false,
            table_bytes: 128 << 20,
            sound: SoundLimits::default(),
        }
    }
}

/// A recording that is not decoded yet.
#[derive(Debug, Clone)]
pub(super) struct Clip {
    /// Name within the corpus.
    pub(super) name: String,
    pub(super) path: PathBuf,
    pub(super) text: String,
    pub(super) speaker: String,
    pub(super) group: Option<String>,
    pub(super) split: Split,
    /// Length in seconds, if the table gives one.
    pub(super) duration_s: Option<f64>,
    /// Whether a hash of the name decides the split, because the corpus does not.
    hashed: bool,
}

/// All recordings of a corpus, and its problems.
#[derive(Debug, Default)]
pub(super) struct Listing {
    pub(super) clips: Vec<Clip>,
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

pub(super) fn clip(folder: &Path, name: &str, text: &str, speaker: &str) -> Clip {
    Clip {
        path: folder.join(name),
        split: held_out(name),
        name: name.into(),
        text: normal_text(text),
        speaker: speaker.into(),
        group: None,
        duration_s: None,
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
    /// The same recording in `split`, if the table gives one.
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

    /// The reason why the recording can't be used, judged by its header and text; `None` if it can.
    pub(super) fn fault(
        &self,
        seconds: RangeInclusive<f64>,
        limits: SoundLimits,
    ) -> Option<String> {
        if self.text.is_empty() {
            return Some("has no text".into());
        }
        if !self.path.is_file() {
            return Some(if self.path.exists() {
                "is no regular file".into()
            } else {
                "does not exist".into()
            });
        }
        let ending = sound::ending(&self.path).unwrap_or_default();
        if sound::OTHER_ENDINGS.contains(&ending.as_str()) {
            return Some(format!(
                "is a recording of the kind `{ending}`, which is not read: turn it into FLAC \
                 (`ffmpeg -i IN OUT.flac`)"
            ));
        }
        if !sound::ENDINGS.contains(&ending.as_str()) {
            return Some("is no WAV, FLAC, MP3 or OGG file".into());
        }
        let length = match sound::seconds(&self.path, limits) {
            Ok(length) => length,
            Err(MediaError::Malformed { reason, .. }) => return Some(reason),
            Err(error) => return Some(error.to_string()),
        };
        let (least, most) = (seconds.start(), seconds.end());
        if !seconds.contains(&length) {
            return Some(format!(
                "lasts {length:.2} s; the recipe takes {least} to {most} s"
            ));
        }
        (length == 0.0).then(|| "holds no sound: 0 samples".into())
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
