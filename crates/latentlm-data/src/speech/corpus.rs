//! Lists the recordings of a speech corpus with their transcripts, whatever its layout.

use std::fs;
use std::io::Read;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use super::audio;
use super::columns::{self, Columns, Entry};
use super::finder::{Finder, leads_outside};
use super::mixer::SoundLimits;
use super::table::{plain_lines, rows, separator};
use super::tree;
use crate::dataset::Split;
use crate::error::{DataError, io_error};
use crate::normal::normal_text;
use crate::skipped::Skipped;
use crate::walk::{WalkOptions, open_regular, read_text, walk};

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
    /// Recordings inside the folder only, tables of 256 MiB, default [`SoundLimits`].
    fn default() -> Self {
        Self {
            outside: false,
            table_bytes: 256 << 20,
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

/// File names of tables for a whole corpus, the most common first.
const TABLES: [&str; 5] = [
    "metadata.jsonl",
    "metadata.csv",
    "metadata.tsv",
    "manifest.jsonl",
    "manifest.json",
];
/// Split names in file names of tables.
const SPLITS: [(&str, Split); 7] = [
    ("train", Split::Train),
    ("test", Split::Test),
    ("val", Split::Test),
    ("valid", Split::Test),
    ("validation", Split::Test),
    ("dev", Split::Test),
    ("eval", Split::Test),
];
/// File names of tables for one split: the text before and after the split's name.
const SPLIT_TABLES: [(&str, &str); 13] = [
    ("", "/metadata.jsonl"),
    ("", "/metadata.csv"),
    ("metadata_", ".jsonl"),
    ("metadata_", ".csv"),
    ("", "_manifest.json"),
    ("", "_manifest.jsonl"),
    ("manifest_", ".json"),
    ("manifest_", ".jsonl"),
    ("", "/manifest.json"),
    ("", ".jsonl"),
    ("", ".json"),
    ("", ".tsv"),
    ("", ".csv"),
];
/// Number of bytes read to find out whether a table is about speech.
const HEAD_BYTES: u64 = 1 << 16;
/// Speaker name where the corpus has none.
const NOBODY: &str = "speaker";

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

/// A JSON record.
type Record = Map<String, Value>;
/// Path of a table, and the split in its name.
type Table = (PathBuf, Option<Split>);

/// Whether a folder is a corpus of speech: it has a table that names recordings, or a tree with
/// transcripts, or sound files and no pictures.
pub(super) fn is_corpus(folder: &Path) -> bool {
    tables(folder).iter().any(|group| is_of_sound(group)) || tree::is_tree(folder) || sounds(folder)
}

/// Whether a folder holds sound files and no pictures.
fn sounds(folder: &Path) -> bool {
    let Ok(walk) = walk(folder, WalkOptions::default()) else {
        return false;
    };
    let mut any = false;
    for file in &walk.files {
        match columns::names_sound(&name_of(file)) {
            Some(false) => return false,
            Some(true) => any = true,
            None => {}
        }
    }
    any
}

/// The tables of a folder, in groups: a group is one corpus, with a table for all or one per split.
fn tables(folder: &Path) -> Vec<Vec<Table>> {
    let whole = TABLES.map(|name| vec![(folder.join(name), None)]);
    let splits = SPLIT_TABLES.map(|(before, behind)| {
        let group = SPLITS.map(|(name, split)| {
            let path = folder.join(format!("{before}{name}{behind}"));
            (path, Some(split))
        });
        Vec::from(group)
    });
    let mut groups: Vec<Vec<Table>> = whole.into_iter().chain(splits).collect();
    for group in &mut groups {
        group.retain(|(path, _)| path.is_file());
        // A table of a single split without others is the whole corpus: it is split by hash.
        if let [(_, split)] = group.as_mut_slice() {
            *split = None;
        }
    }
    groups.retain(|group| !group.is_empty());
    groups
}

/// Whether the first table of a group lists recordings.
fn is_of_sound(group: &[Table]) -> bool {
    let head = |path: &Path| {
        let (mut bytes, file) = (Vec::new(), open_regular(path).ok()?);
        file.take(HEAD_BYTES).read_to_end(&mut bytes).ok()?;
        let head = String::from_utf8_lossy(&bytes);
        Some(plain_lines(head.trim_start_matches('\u{feff}')))
    };
    let Some((path, head)) = group
        .first()
        .and_then(|(path, _)| Some((path, head(path)?)))
    else {
        return false;
    };
    if is_json(path) {
        return first_record(&head).is_some_and(|record| columns::is_record_of_sound(&record));
    }
    let separator = separator(&head);
    let mut rows = rows(&head, separator);
    // The last line may be cut.
    if head.len() as u64 >= HEAD_BYTES {
        rows.pop();
    }
    match Columns::of(&rows, separator) {
        Some(columns) => columns.is_of_sound(&rows),
        None => rows.first().is_some_and(|row| {
            let mut names = row.fields.iter().map(|field| columns::names_sound(field));
            names.any(|sound| sound == Some(true))
        }),
    }
}

/// The first record in JSON lines or in a JSON list, which may be cut.
fn first_record(text: &str) -> Option<Record> {
    let mut lines = text.lines().map(serde_json::from_str);
    if let Some(record) = lines.find_map(Result::ok) {
        return Some(record);
    }
    let begin = text.find('{')?;
    let mut records = serde_json::Deserializer::from_str(&text[begin..]).into_iter();
    records.next()?.ok()
}

fn is_json(path: &Path) -> bool {
    let ending = audio::ending(path);
    matches!(ending.as_deref(), Some("jsonl" | "json"))
}

/// Lists the recordings of a folder, whatever its layout.
pub(super) fn list(folder: &Path, bounds: SpeechBounds) -> Result<Listing, DataError> {
    fs::read_dir(folder).map_err(io_error("open the dataset", folder))?;
    let mut groups = tables(folder);
    let group = match groups.iter().position(|group| is_of_sound(group)) {
        Some(place) => groups.swap_remove(place),
        None => match (tree::list(folder, bounds)?, groups.into_iter().next()) {
            (Some(listing), _) => return Ok(listing),
            // The table is not recognized as speech. Reading it gives a precise error.
            (None, Some(group)) => group,
            (None, None) => {
                return Err(DataError::NoSpeech {
                    path: folder.to_owned(),
                });
            }
        },
    };
    let mut reader = TableReader {
        folder,
        bounds,
        finder: Finder::default(),
        listing: Listing::default(),
    };
    for (path, split) in &group {
        reader.read(path, *split)?;
    }
    Ok(reader.listing)
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

struct TableReader<'a> {
    folder: &'a Path,
    bounds: SpeechBounds,
    finder: Finder,
    listing: Listing,
}

impl TableReader<'_> {
    /// Lists the recordings of a table.
    fn read(&mut self, path: &Path, split: Option<Split>) -> Result<(), DataError> {
        let text = plain_lines(&read_text(path, self.bounds.table_bytes)?);
        let base = path.parent().unwrap_or(self.folder);
        if is_json(path) {
            for (place, record) in records(&text) {
                let entry = record.and_then(|record| columns::of_record(&record));
                self.add(base, split, entry.map(|entry| (entry, true)))
                    .map_err(|reason| format!("{place}: {reason}"))
                    .unwrap_or_else(|reason| self.fault(path, reason));
            }
            return Ok(());
        }
        let separator = separator(&text);
        let rows = rows(&text, separator);
        let Some(columns) = Columns::of(&rows, separator) else {
            return Err(DataError::malformed(path, columns::NO_COLUMNS));
        };
        for row in rows.iter().skip(usize::from(columns.header)) {
            self.add(base, split, columns.entry(row).map(|entry| (entry, false)))
                .map_err(|reason| format!("line {}: {reason}", row.line))
                .unwrap_or_else(|reason| self.fault(path, reason));
        }
        Ok(())
    }

    fn fault(&mut self, path: &Path, reason: String) {
        self.listing.faults.push(DataError::malformed(path, reason));
    }

    /// Adds the recording of an entry of a table in `base`. The flag tells whether the entry comes from a
    /// JSON record, whose path is used as the recording's name where it is exact.
    fn add(
        &mut self,
        base: &Path,
        split: Option<Split>,
        entry: Result<(Entry, bool), String>,
    ) -> Result<(), String> {
        let (entry, exact) = entry?;
        if !self.bounds.outside && leads_outside(self.folder, base, &entry.audio) {
            return Err(format!(
                "`{}` leads out of the corpus's folder: put the recording into it, or allow \
                 recordings outside",
                entry.audio
            ));
        }
        let found = self.finder.recording(base, &entry.audio);
        let own = base.join(&entry.audio);
        let name = if exact && base == self.folder && (found == own || !found.exists()) {
            entry.audio
        } else {
            within(self.folder, &found)
        };
        let speaker = entry.speaker.as_deref().unwrap_or(NOBODY);
        let made = clip(self.folder, &name, &entry.text, speaker);
        let made = made.in_split(entry.split.or(split));
        self.listing.clips.push(Clip {
            group: entry.group,
            ..made
        });
        Ok(())
    }
}

/// The records of JSON lines or of a JSON list, each with its position for error messages.
fn records(text: &str) -> Vec<(String, Result<Record, String>)> {
    let wrong = |error: serde_json::Error| format!("not a record: {error}");
    if text.trim_start().starts_with('[') {
        let list: Result<Vec<Record>, _> = serde_json::from_str(text);
        return match list {
            Err(error) => vec![("the list".into(), Err(wrong(error)))],
            Ok(list) => {
                let places = (1..).map(|number: usize| format!("record {number}"));
                places.zip(list.into_iter().map(Ok)).collect()
            }
        };
    }
    let mut records = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        if !line.trim().is_empty() {
            let record = serde_json::from_str(line).map_err(wrong);
            records.push((format!("line {number}"), record));
        }
    }
    records
}

pub(super) fn clip(folder: &Path, name: &str, text: &str, speaker: &str) -> Clip {
    Clip {
        path: folder.join(name),
        split: held_out(name),
        name: name.into(),
        text: normal_text(text),
        speaker: speaker.into(),
        group: None,
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
        let ending = audio::ending(&self.path).unwrap_or_default();
        if audio::OTHER_ENDINGS.contains(&ending.as_str()) {
            return Some(format!(
                "is a recording of the kind `{ending}`, which is not read: turn it into FLAC \
                 (`ffmpeg -i IN OUT.flac`)"
            ));
        }
        if !audio::ENDINGS.contains(&ending.as_str()) {
            return Some("is no WAV, FLAC, MP3 or OGG file".into());
        }
        let length = match audio::seconds(&self.path, limits) {
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
