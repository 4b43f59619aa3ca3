//! The layouts in which recordings with transcripts come.

use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use sha2::{Digest, Sha256};

use super::audio;
use super::dataset::Skipped;
use crate::dataset::Split;
use crate::error::{DataError, io_error};

/// One recording, not opened yet.
#[derive(Debug, Clone)]
pub(super) struct Clip {
    /// Its name within the corpus.
    pub(super) name: String,
    pub(super) path: PathBuf,
    pub(super) text: String,
    pub(super) speaker: String,
    pub(super) group: Option<String>,
    pub(super) split: Split,
}

/// A whole corpus: what can be used of it, and what can't.
#[derive(Debug, Default)]
pub(super) struct Listing {
    pub(super) clips: Vec<Clip>,
    /// Recordings whose transcripts can't be read.
    pub(super) skipped: Vec<Skipped>,
    /// Lines that say nothing usable: opening refuses the first, checking reports them all.
    pub(super) faults: Vec<DataError>,
}

/// Folders below folders that are searched for transcripts: LibriSpeech needs three. A link to a
/// folder above must not be followed for ever.
const DEPTH: usize = 6;
/// Endings of transcripts: LibriSpeech's and LibriTTS's.
const TRANSCRIPTS: [&str; 2] = [".trans.txt", ".normalized.txt"];
/// Speaker of recordings that do not say whose they are.
const NOBODY: &str = "speaker";

/// One recording in twenty is held out, by a hash of its name: adding files moves no other.
fn held_out(name: &str) -> Split {
    match Sha256::digest(name.as_bytes())[0] % 20 {
        0 => Split::Test,
        _ => Split::Train,
    }
}

/// Whether a folder is a corpus of speech.
pub(super) fn is_corpus(folder: &Path) -> bool {
    folder.join("metadata.csv").is_file()
        || has_audio_lines(&folder.join("metadata.jsonl"))
        || transcripts(folder).is_ok_and(|found| !found.is_empty())
}

/// Whether the first record of a `metadata.jsonl` names a recording.
fn has_audio_lines(path: &Path) -> bool {
    let text = fs::read_to_string(path).unwrap_or_default();
    let mut records = text
        .lines()
        .filter_map(|line| serde_json::from_str(line).ok());
    records
        .next()
        .is_some_and(|record: serde_json::Value| record.get("audio").is_some())
}

/// The recordings of a folder, whatever its layout.
pub(super) fn list(folder: &Path) -> Result<Listing, DataError> {
    fs::read_dir(folder).map_err(io_error("open the dataset", folder))?;
    if folder.join("metadata.jsonl").is_file() {
        return list_table(&folder.join("metadata.jsonl"), |line| {
            line_clip(folder, line)
        });
    }
    if folder.join("metadata.csv").is_file() {
        return list_table(&folder.join("metadata.csv"), |line| {
            ljspeech_clip(folder, line)
        });
    }
    let found = transcripts(folder)?;
    if found.is_empty() {
        return Err(DataError::NoSpeech {
            path: folder.to_owned(),
        });
    }
    let mut listing = Listing::default();
    for path in found {
        match fs::read_to_string(&path) {
            Ok(text) if name_of(&path).ends_with(TRANSCRIPTS[0]) => {
                listing
                    .clips
                    .extend(librispeech_clips(folder, &path, &text));
            }
            Ok(text) => listing.clips.push(libritts_clip(folder, &path, &text)),
            Err(error) => listing.skipped.push(Skipped {
                reason: format!("cannot be read: {error}"),
                path,
            }),
        }
    }
    Ok(listing)
}

/// A file of one recording a line.
fn list_table(
    path: &Path,
    clip: impl Fn(&str) -> Result<Clip, String>,
) -> Result<Listing, DataError> {
    let text = fs::read_to_string(path).map_err(io_error("read", path))?;
    let mut listing = Listing::default();
    // Some editors put a mark before the first line.
    let lines = text.trim_start_matches('\u{feff}').lines().enumerate();
    for (index, line) in lines.filter(|(_, line)| !line.trim().is_empty()) {
        match clip(line) {
            Ok(clip) => listing.clips.push(clip),
            Err(reason) => {
                let reason = format!("line {}: {reason}", index + 1);
                listing.faults.push(DataError::malformed(path, reason));
            }
        }
    }
    Ok(listing)
}

#[derive(Debug, Deserialize)]
struct Record {
    audio: String,
    text: String,
    speaker: Option<String>,
    group: Option<String>,
    split: Option<String>,
}

/// JSON lines: `audio` and `text`, perhaps `speaker`, `group` and `split`.
fn line_clip(folder: &Path, line: &str) -> Result<Clip, String> {
    let record: Record = serde_json::from_str(line).map_err(|e| format!("not a record: {e}"))?;
    let split = match record.split.as_deref() {
        None => held_out(&record.audio),
        Some("train") => Split::Train,
        Some("test" | "val" | "validation") => Split::Test,
        Some(split) => return Err(format!("split `{split}` is neither `train` nor `test`")),
    };
    let speaker = record.speaker.as_deref().unwrap_or(NOBODY);
    Ok(Clip {
        group: record.group,
        split,
        ..clip(folder, &record.audio, &record.text, speaker)
    })
}

/// LJSpeech: lines `id|text|normalised text`, recordings in `wavs`.
fn ljspeech_clip(folder: &Path, line: &str) -> Result<Clip, String> {
    let mut columns = line.split('|');
    let (Some(id), Some(text)) = (columns.next(), columns.next()) else {
        return Err("not `id|text` or `id|text|text`".into());
    };
    let normalised = columns.next().filter(|text| !text.trim().is_empty());
    let name = format!("wavs/{}.wav", id.trim());
    Ok(clip(folder, &name, normalised.unwrap_or(text), NOBODY))
}

/// LibriSpeech: `speaker/chapter/speaker-chapter.trans.txt` with lines `id text`, FLAC beside it.
fn librispeech_clips(folder: &Path, transcript: &Path, text: &str) -> Vec<Clip> {
    let lines = text.lines().filter(|line| !line.trim().is_empty());
    lines
        .map(|line| {
            let line = line.trim();
            // What has no text is listed, to be left out by name.
            let (id, text) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
            let speaker = id.split('-').next().unwrap_or(id);
            let name = within(folder, &transcript.with_file_name(format!("{id}.flac")));
            clip(folder, &name, text, speaker)
        })
        .collect()
}

/// LibriTTS: `speaker/chapter/id.normalized.txt` beside `id.wav`.
fn libritts_clip(folder: &Path, transcript: &Path, text: &str) -> Clip {
    let name = name_of(transcript);
    let id = name.strip_suffix(TRANSCRIPTS[1]).unwrap_or(&name);
    let speaker = id.split('_').next().unwrap_or(id);
    let name = within(folder, &transcript.with_file_name(format!("{id}.wav")));
    clip(folder, &name, text, speaker)
}

fn clip(folder: &Path, name: &str, text: &str, speaker: &str) -> Clip {
    Clip {
        path: folder.join(name),
        split: held_out(name),
        name: name.into(),
        text: text.trim().into(),
        speaker: speaker.into(),
        group: None,
    }
}

/// Files with transcripts below a folder, sorted.
fn transcripts(folder: &Path) -> Result<Vec<PathBuf>, DataError> {
    let mut found = Vec::new();
    let mut open = vec![(folder.to_owned(), 0)];
    while let Some((folder, depth)) = open.pop() {
        let entries = fs::read_dir(&folder).map_err(io_error("read", &folder))?;
        for path in entries.flatten().map(|entry| entry.path()) {
            let name = name_of(&path);
            // macOS lays `._` files beside those that it copies.
            if name.starts_with('.') {
                continue;
            }
            if TRANSCRIPTS.iter().any(|ending| name.ends_with(ending)) {
                found.push(path);
            } else if depth < DEPTH && path.is_dir() {
                open.push((path, depth + 1));
            }
        }
    }
    found.sort();
    Ok(found)
}

fn within(folder: &Path, path: &Path) -> String {
    let name = path.strip_prefix(folder).unwrap_or(path);
    name.to_string_lossy().into_owned()
}

fn name_of(path: &Path) -> String {
    path.file_name()
        .map_or_else(String::new, |name| name.to_string_lossy().into_owned())
}

impl Clip {
    /// Why the recording can't be used, if so, by its header and text.
    pub(super) fn fault(&self, seconds: std::ops::RangeInclusive<f64>) -> Option<String> {
        if self.text.trim().is_empty() {
            return Some("has no text".into());
        }
        if !self.path.is_file() {
            return Some("does not exist".into());
        }
        let known = |ending: String| audio::ENDINGS.contains(&ending.as_str());
        if !audio::ending(&self.path).is_some_and(known) {
            return Some("is no WAV, FLAC, MP3 or OGG file".into());
        }
        let length = match audio::seconds(&self.path) {
            Ok(length) => length,
            Err(DataError::Malformed { reason, .. }) => return Some(reason),
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
