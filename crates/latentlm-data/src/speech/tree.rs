//! Reader of corpora with transcripts in a folder tree: LibriSpeech, LibriTTS, VCTK and Multilingual
//! LibriSpeech.

use std::path::{Path, PathBuf};

use super::clip::{Clip, Listing, SpeechBounds, clip, name_of, within};
use super::finder::Finder;
use super::table::read_table;
use crate::error::DataError;
use crate::skipped::Skipped;
use crate::split::Split;
use crate::walk::{WalkOptions, walk};

/// File name suffixes of transcripts: LibriSpeech's and LibriTTS's.
const TRANSCRIPTS: [&str; 2] = [".trans.txt", ".normalized.txt"];
/// VCTK's folders of recordings, and the file name suffix after a recording's id.
const VCTK: [(&str, &str); 5] = [
    ("wav48_silence_trimmed", "_mic1.flac"),
    ("wav48_silence_trimmed", "_mic2.flac"),
    ("wav48", ".wav"),
    ("wav22", ".wav"),
    ("wav16", ".wav"),
];

/// The corpus that a transcript belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    LibriSpeech,
    LibriTts,
    Vctk,
    Mls,
}

/// Whether there are transcripts below a folder.
pub(super) fn is_tree(folder: &Path) -> bool {
    transcripts(folder).is_ok_and(|found| !found.is_empty())
}

/// The transcript files below a folder, sorted.
fn transcripts(folder: &Path) -> Result<Vec<(PathBuf, Kind)>, DataError> {
    let vctk = folder.join("txt");
    let is_vctk = VCTK.iter().any(|(place, _)| folder.join(place).is_dir());
    let kind = |path: &Path| {
        let name = name_of(path);
        if name.ends_with(TRANSCRIPTS[0]) {
            Some(Kind::LibriSpeech)
        } else if name.ends_with(TRANSCRIPTS[1]) {
            Some(Kind::LibriTts)
        } else if name == "transcripts.txt" {
            let audio = path.with_file_name("audio");
            audio.is_dir().then_some(Kind::Mls)
        } else {
            let own = is_vctk && path.starts_with(&vctk) && name.ends_with(".txt");
            own.then_some(Kind::Vctk)
        }
    };
    let files = walk(folder, WalkOptions::default())?.files.into_iter();
    let found = files.filter_map(|path| kind(&path).map(|kind| (path, kind)));
    Ok(found.collect())
}

/// Lists the recordings of a tree; `None` if it has no transcripts.
pub(super) fn list(folder: &Path, bounds: SpeechBounds) -> Result<Option<Listing>, DataError> {
    let found = transcripts(folder)?;
    if found.is_empty() {
        return Ok(None);
    }
    let (mut listing, mut finder) = (Listing::default(), Finder::default());
    let mut lines = 0;
    for (path, kind) in found {
        listing.tables.push(path.clone());
        let text = match read_table(&path, bounds, &mut lines) {
            Ok(text) => text,
            // A larger bound reads it: nothing is wrong with the file.
            Err(error @ DataError::TooLarge { .. }) => return Err(error),
            Err(error) => {
                listing.skipped.push(Skipped::of(&path, &error));
                continue;
            }
        };
        match kind {
            Kind::LibriSpeech => {
                let clips = librispeech(folder, &path, &text, &mut finder);
                listing.clips.extend(clips);
            }
            Kind::LibriTts => {
                listing
                    .clips
                    .push(libritts(folder, &path, &text, &mut finder));
            }
            Kind::Vctk => listing.clips.push(vctk(folder, &path, &text)),
            Kind::Mls => mls(folder, &path, &text, &mut finder, &mut listing),
        }
    }
    // A split without another is the whole corpus: a hash divides it, as it does a single table.
    let is_training = |clip: &Clip| clip.is_given() && clip.split == Split::Train;
    if listing.clips.iter().all(is_training) {
        listing.clips.iter_mut().for_each(Clip::divide);
    }
    Ok(Some(listing))
}

/// The recording beside a transcript, with the usual extension of the corpus or another.
fn beside(transcript: &Path, id: &str, ending: &str, finder: &mut Finder) -> PathBuf {
    let known = transcript.with_file_name(format!("{id}.{ending}"));
    if known.is_file() {
        known
    } else {
        let found = finder.with_ending(&transcript.with_file_name(id));
        found.unwrap_or(known)
    }
}

/// LibriSpeech: `speaker/chapter/speaker-chapter.trans.txt` with lines `id text`, FLAC beside it.
fn librispeech(folder: &Path, transcript: &Path, text: &str, finder: &mut Finder) -> Vec<Clip> {
    let lines = text.lines().filter(|line| !line.trim().is_empty());
    lines
        .map(|line| {
            let line = line.trim();
            // A recording without text is listed too, so that it is reported by name.
            let (id, text) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
            let speaker = id.split('-').next().unwrap_or(id);
            let path = beside(transcript, id, "flac", finder);
            clip(within(folder, &path), text, speaker.into())
        })
        .collect()
}

/// LibriTTS: `speaker/chapter/id.normalized.txt` beside `id.wav`.
fn libritts(folder: &Path, transcript: &Path, text: &str, finder: &mut Finder) -> Clip {
    let name = name_of(transcript);
    let id = name.strip_suffix(TRANSCRIPTS[1]).unwrap_or(&name);
    let speaker = id.split('_').next().unwrap_or(id);
    let path = beside(transcript, id, "wav", finder);
    clip(within(folder, &path), text, speaker.into())
}

/// VCTK: `txt/speaker/id.txt`, and `wav48_silence_trimmed/speaker/id_mic1.flac` or
/// `wav48/speaker/id.wav`.
fn vctk(folder: &Path, transcript: &Path, text: &str) -> Clip {
    let name = name_of(transcript);
    let id = name.strip_suffix(".txt").unwrap_or(&name);
    let speaker = transcript.parent().map_or_else(String::new, name_of);
    let paths = VCTK.map(|(place, ending)| {
        let own = folder.join(place).join(&speaker);
        own.join(format!("{id}{ending}"))
    });
    let there = paths.iter().find(|path| path.is_file());
    let path = there.unwrap_or(&paths[0]);
    clip(within(folder, path), text, speaker.into())
}

/// Multilingual LibriSpeech: `transcripts.txt` with lines `speaker_book_number`, tab, text, and
/// `audio/speaker/book/id.flac` beside it (or Opus, which is reported as unsupported). The folders `train`,
/// `dev` and `test` are its splits.
fn mls(folder: &Path, transcript: &Path, text: &str, finder: &mut Finder, listing: &mut Listing) {
    let split = transcript.parent().filter(|own| *own != folder);
    let split = split.and_then(|own| match name_of(own).as_str() {
        "train" => Some(Split::Train),
        "dev" | "test" => Some(Split::Test),
        _ => None,
    });
    for (index, line) in text.lines().enumerate() {
        if line.trim().is_empty() {
            continue;
        }
        let Some((id, text)) = line.split_once('\t') else {
            let reason = format!("line {}: not an id, a tab and a text", index + 1);
            listing
                .faults
                .push(DataError::malformed(transcript, reason));
            continue;
        };
        let mut parts = id.trim().split('_');
        let (speaker, book) = (parts.next().unwrap_or(""), parts.next().unwrap_or(""));
        let place = transcript.with_file_name("audio").join(speaker).join(book);
        let path = beside(&place.join("transcripts.txt"), id.trim(), "flac", finder);
        let made = clip(within(folder, &path), text, speaker.into());
        listing.clips.push(made.in_split(split));
    }
}
