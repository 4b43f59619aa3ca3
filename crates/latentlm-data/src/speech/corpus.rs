//! The layouts in which recordings with transcripts come.

use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use sha2::{Digest, Sha256};

use super::audio;
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
    let first = text.lines().find(|line| !line.trim().is_empty());
    first.is_some_and(|line| serde_json::from_str::<Record>(line).is_ok())
}

/// The recordings of a folder, whatever its layout.
pub(super) fn list(folder: &Path) -> Result<Vec<Clip>, DataError> {
    fs::read_dir(folder).map_err(io_error("open the dataset", folder))?;
    if folder.join("metadata.jsonl").is_file() {
        return list_lines(folder);
    }
    if folder.join("metadata.csv").is_file() {
        return list_ljspeech(folder);
    }
    let found = transcripts(folder)?;
    if found.is_empty() {
        return Err(DataError::NoSpeech {
            path: folder.to_owned(),
        });
    }
    let mut clips = Vec::new();
    for path in found {
        clips.extend(match name_of(&path).strip_suffix(".trans.txt") {
            Some(_) => list_librispeech(folder, &path)?,
            None => list_libritts(folder, &path)?,
        });
    }
    Ok(clips)
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
fn list_lines(folder: &Path) -> Result<Vec<Clip>, DataError> {
    let path = folder.join("metadata.jsonl");
    let text = fs::read_to_string(&path).map_err(io_error("read", &path))?;
    let lines = text.lines().enumerate();
    let records = lines.filter(|(_, line)| !line.trim().is_empty());
    records
        .map(|(index, line)| {
            let fault = |reason: String| {
                DataError::malformed(&path, format!("line {}: {reason}", index + 1))
            };
            let record: Record =
                serde_json::from_str(line).map_err(|e| fault(format!("not a record: {e}")))?;
            let split = match record.split.as_deref() {
                None => held_out(&record.audio),
                Some("train") => Split::Train,
                Some("test" | "val" | "validation") => Split::Test,
                Some(split) => {
                    return Err(fault(format!("split `{split}` is neither `train` nor `test`")));
                }
            };
            Ok(Clip {
                path: folder.join(&record.audio),
                name: record.audio,
                text: record.text,
                speaker: record.speaker.unwrap_or_else(|| NOBODY.into()),
                group: record.group,
                split,
            })
        })
        .collect()
}

/// LJSpeech: lines `id|text|normalised text`, recordings in `wavs`.
fn list_ljspeech(folder: &Path) -> Result<Vec<Clip>, DataError> {
    let path = folder.join("metadata.csv");
    let table = fs::read_to_string(&path).map_err(io_error("read", &path))?;
    let lines = table.lines().enumerate();
    lines
        .filter(|(_, line)| !line.trim().is_empty())
        .map(|(index, line)| {
            let mut columns = line.split('|');
            let (Some(id), Some(text)) = (columns.next(), columns.next()) else {
                let reason = format!("line {}: not `id|text` or `id|text|text`", index + 1);
                return Err(DataError::malformed(&path, reason));
            };
            let text = columns.next().filter(|text| !text.trim().is_empty()).unwrap_or(text);
            Ok(clip(folder, &format!("wavs/{id}.wav"), text, NOBODY))
        })
        .collect()
}

/// LibriSpeech: `speaker/chapter/speaker-chapter.trans.txt` with lines `id text`, FLAC beside it.
fn list_librispeech(folder: &Path, transcript: &Path) -> Result<Vec<Clip>, DataError> {
    let text = fs::read_to_string(transcript).map_err(io_error("read", transcript))?;
    let place = transcript.parent().unwrap_or(folder);
    let lines = text.lines().filter_map(|line| line.split_once(' '));
    Ok(lines
        .map(|(id, text)| {
            let speaker = id.split('-').next().unwrap_or(id);
            let name = within(folder, &place.join(format!("{id}.flac")));
            clip(folder, &name, text, speaker)
        })
        .collect())
}

/// LibriTTS: `speaker/chapter/id.normalized.txt` beside `id.wav`.
fn list_libritts(folder: &Path, transcript: &Path) -> Result<Vec<Clip>, DataError> {
    let text = fs::read_to_string(transcript).map_err(io_error("read", transcript))?;
    let name = name_of(transcript);
    let id = name.strip_suffix(".normalized.txt").unwrap_or(&name);
    let speaker = id.split('_').next().unwrap_or(id);
    let name = within(folder, &transcript.with_file_name(format!("{id}.wav")));
    Ok(vec![clip(folder, &name, &text, speaker)])
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
    let mut open = vec![folder.to_owned()];
    while let Some(folder) = open.pop() {
        let entries = fs::read_dir(&folder).map_err(io_error("read", &folder))?;
        for path in entries.flatten().map(|entry| entry.path()) {
            let name = name_of(&path);
            if path.is_dir() {
                open.push(path);
            } else if name.ends_with(".trans.txt") || name.ends_with(".normalized.txt") {
                found.push(path);
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
            Err(error) => return Some(error.to_string()),
        };
        let (least, most) = (seconds.start(), seconds.end());
        (!seconds.contains(&length))
            .then(|| format!("lasts {length:.2} s; the recipe takes {least} to {most} s"))
    }
}
