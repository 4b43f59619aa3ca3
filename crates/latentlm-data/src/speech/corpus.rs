//! Lists the recordings of a speech corpus with their transcripts, whatever its layout.

use std::collections::HashSet;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use latentlm_media::{open_regular, sound};
use serde::de::IgnoredAny;
use serde_json::{Map, Value};

use super::clip::{Listing, SpeechBounds, clip, name_of, within};
use super::columns::{self, Columns, Entry};
use super::finder::{Finder, leads_outside};
use super::table::{Rows, first_rows, for_each_line, plain_lines, read_table, separator};
use super::tree;
use crate::allowed::{ALLOWS_OUTSIDE, allows_more};
use crate::error::DataError;
use crate::split::Split;
use crate::walk::{WalkOptions, check_folder, walk};

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
/// Largest size of a record in JSON: in memory a value is many times larger than its text.
const MOST_RECORD_BYTES: usize = 1 << 20;
/// Number of faulty lines that are listed for all tables of a corpus.
const MOST_FAULTS: usize = 1000;
/// Speaker name where the corpus has none.
const NOBODY: &str = "speaker";

/// A JSON record.
type Record = Map<String, Value>;
/// Path of a table, and the split in its name.
pub(super) type Table = (PathBuf, Option<Split>);

/// Whether a folder is a corpus of speech: it has a table that names recordings, or a tree with
/// transcripts, or more sound files than pictures.
pub(super) fn is_corpus(folder: &Path) -> bool {
    tables(folder).iter().any(|group| is_of_sound(group)) || tree::is_tree(folder) || sounds(folder)
}

/// Whether a folder holds more sound files than pictures: albums have a picture of their cover.
fn sounds(folder: &Path) -> bool {
    let Ok(walk) = walk(folder, WalkOptions::default()) else {
        return false;
    };
    let (mut sounds, mut pictures) = (0, 0);
    for file in &walk.files {
        match columns::names_sound(&name_of(file)) {
            Some(true) => sounds += 1,
            Some(false) => pictures += 1,
            None => {}
        }
    }
    sounds > pictures
}

/// The tables of a folder, in groups: a group is one corpus, with a table for all or one per split.
pub(super) fn tables(folder: &Path) -> Vec<Vec<Table>> {
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
    let mut rows = first_rows(&head, separator);
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
    let ending = sound::ending(path);
    matches!(ending.as_deref(), Some("jsonl" | "json"))
}

/// Lists the recordings of a folder, whatever its layout.
pub(super) fn list(folder: &Path, bounds: SpeechBounds) -> Result<Listing, DataError> {
    check_folder(folder)?;
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
        speakers: HashSet::new(),
        lines: 0,
        listing: Listing::default(),
    };
    for (path, split) in &group {
        reader.read(path, *split)?;
    }
    reader.listing.tables = group.into_iter().map(|(path, _)| path).collect();
    Ok(reader.listing)
}

struct TableReader<'a> {
    folder: &'a Path,
    bounds: SpeechBounds,
    finder: Finder,
    /// The names of speakers so far: Common Voice's have 128 letters and thousands of recordings.
    speakers: HashSet<Arc<str>>,
    /// Number of lines of the tables so far.
    lines: usize,
    listing: Listing,
}

impl TableReader<'_> {
    /// Lists the recordings of a table.
    fn read(&mut self, path: &Path, split: Option<Split>) -> Result<(), DataError> {
        let text = read_table(path, self.bounds, &mut self.lines)?;
        let base = path.parent().unwrap_or(self.folder);
        if is_json(path) {
            self.read_json(path, base, split, text);
            return Ok(());
        }
        let separator = separator(&text);
        let Some(columns) = Columns::of(&first_rows(&text, separator), separator) else {
            return Err(DataError::malformed(path, columns::NO_COLUMNS));
        };
        let mut rows = Rows::new(text, separator);
        if columns.header {
            rows.next_row();
        }
        // Each row is dropped as soon as its recording is listed.
        while let Some(row) = rows.next_row() {
            let entry = columns.entry(&row).map(|entry| (entry, false));
            if let Err(reason) = self.add(base, split, entry) {
                self.fault(path, format!("line {}: {reason}", row.line));
            }
        }
        Ok(())
    }

    /// Lists the recordings of the table `path` in `base`: JSON lines or a JSON list.
    fn read_json(&mut self, path: &Path, base: &Path, split: Option<Split>, text: String) {
        if !text.trim_start().starts_with('[') {
            for_each_line(text, |number, line| {
                if line.trim().is_empty() {
                    return;
                }
                if let Err(reason) = self.add_record(base, split, line) {
                    self.fault(path, format!("line {number}: {reason}"));
                }
            });
            return;
        }
        match records(&text, self.bounds) {
            Ok(records) => {
                for (number, record) in (1..).zip(records) {
                    if let Err(reason) = self.add_record(base, split, record) {
                        self.fault(path, format!("record {number}: {reason}"));
                    }
                }
            }
            Err(reason) => self.fault(path, format!("the list: {reason}")),
        }
    }

    /// Adds the recording of a JSON record.
    fn add_record(&mut self, base: &Path, split: Option<Split>, text: &str) -> Result<(), String> {
        let entry = record_of(text).and_then(|record| columns::of_record(&record));
        self.add(base, split, entry.map(|entry| (entry, true)))
    }

    fn fault(&mut self, path: &Path, reason: String) {
        let reason = match self.listing.faults.len() {
            ..MOST_FAULTS => reason,
            MOST_FAULTS => format!("more lines than the first {MOST_FAULTS} are faulty"),
            _ => return,
        };
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
                "`{}` leads out of the corpus's folder: put the recording into it; {ALLOWS_OUTSIDE}",
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
        let speaker = self.speaker(entry.speaker.as_deref().unwrap_or(NOBODY));
        let made = clip(name, &entry.text, speaker);
        let mut made = made.in_split(entry.split.or(split));
        made.group = entry.group;
        made.duration_s = entry.duration_s;
        made.words = entry.words;
        self.listing.clips.push(made);
        Ok(())
    }

    /// The name of a speaker, which all recordings of the speaker share.
    fn speaker(&mut self, name: &str) -> Arc<str> {
        if let Some(known) = self.speakers.get(name) {
            return Arc::clone(known);
        }
        let speaker: Arc<str> = name.into();
        self.speakers.insert(Arc::clone(&speaker));
        speaker
    }
}

/// Finds the records of a JSON list; they are not parsed yet.
fn records(text: &str, bounds: SpeechBounds) -> Result<Vec<&str>, String> {
    let most = bounds.list_bytes();
    if text.len() as u64 > most {
        return Err(format!(
            "is larger than {most} bytes, the most that a list may have: write a record a line; {}",
            allows_more("data.max_table_mb")
        ));
    }
    // Takes no memory. A list that is valid can be cut into its elements.
    let list: Vec<IgnoredAny> = serde_json::from_str(text).map_err(|error| no_record(&error))?;
    if list.len() > bounds.table_lines {
        return Err(bounds.too_many("records", list.len()));
    }
    Ok(elements(text))
}

fn record_of(text: &str) -> Result<Record, String> {
    if text.len() > MOST_RECORD_BYTES {
        return Err(format!(
            "is longer than {MOST_RECORD_BYTES} bytes, the most that a record may have"
        ));
    }
    serde_json::from_str(text).map_err(|error| no_record(&error))
}

fn no_record(error: &serde_json::Error) -> String {
    format!("not a record: {error}")
}

/// The texts of the elements of a JSON list, which must be valid.
fn elements(list: &str) -> Vec<&str> {
    let inside = list.trim().strip_prefix('[').unwrap_or_default();
    let inside = inside.strip_suffix(']').unwrap_or_default();
    let (mut elements, mut start, mut depth) = (Vec::new(), 0, 0_usize);
    let mut bytes = inside.bytes().enumerate();
    while let Some((at, byte)) = bytes.next() {
        match byte {
            b'"' => skip_string(&mut bytes),
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth = depth.saturating_sub(1),
            b',' if depth == 0 => {
                elements.push(inside[start..at].trim());
                start = at + 1;
            }
            _ => {}
        }
    }
    let last = inside[start..].trim();
    elements.extend((!last.is_empty()).then_some(last));
    elements
}

/// Skips a string of JSON whose opening quote was read.
fn skip_string(bytes: &mut impl Iterator<Item = (usize, u8)>) {
    while let Some((_, byte)) = bytes.next() {
        match byte {
            b'"' => return,
            b'\\' => {
                bytes.next();
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn lists_are_cut_into_their_records() {
        let list = r#" [ {"a": "x, ]\"}"}, {"b": [1, {"c": "\\"}]} , 7,[[]],"," ] "#;
        let expected = [
            r#"{"a": "x, ]\"}"}"#,
            r#"{"b": [1, {"c": "\\"}]}"#,
            "7",
            "[[]]",
            "\",\"",
        ];
        assert_eq!(elements(list), expected);
        assert!(elements("[]").is_empty() && elements(" [ ] ").is_empty());
        let bounds = SpeechBounds::default();
        let records = |text| super::records(text, bounds);
        assert_eq!(records("[{\"a\": 1}, 7]").unwrap(), ["{\"a\": 1}", "7"]);
        assert!(record_of("{\"a\": 1}").is_ok());
        let told = record_of("7").unwrap_err();
        assert!(told.starts_with("not a record: "), "{told}");
        let told = records("[{\"a\": 1},, 7]").unwrap_err();
        assert!(told.starts_with("not a record: "), "{told}");
        let few = SpeechBounds {
            table_bytes: 28,
            table_lines: 2,
            ..bounds
        };
        assert_eq!(super::records("[0,1]", few).unwrap(), ["0", "1"]);
        let told = super::records("[0,1,2]", few).unwrap_err();
        assert!(
            told.starts_with("has more than 2 records, the most that are read; data.max_lines"),
            "{told}"
        );
        let told = super::records("[0,          1]", few).unwrap_err();
        assert!(told.starts_with("is larger than 12 bytes"), "{told}");
        assert!(told.contains("data.max_table_mb"), "{told}");
        assert_eq!(bounds.list_bytes(), 192 << 20);
        // In memory it would take sixteen times as much.
        let long = format!("{{\"a\": [{}0]}}", "0,".repeat(MOST_RECORD_BYTES / 2));
        let told = record_of(&long).unwrap_err();
        assert!(told.starts_with("is longer than 1048576 bytes"), "{told}");
    }

    #[test]
    fn tables_have_a_largest_size_and_name_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("metadata.csv");
        let bounds = SpeechBounds::default();
        let file = fs::File::create(&path).unwrap();
        file.set_len(bounds.table_bytes + 1).unwrap();
        let message = list(folder.path(), bounds).unwrap_err().to_string();
        let told = format!("larger than {} bytes", bounds.table_bytes);
        assert!(message.contains(&told), "{message}");

        let table = "a|one\nb|two\n".to_owned() + &"c|d|e\n".repeat(MOST_FAULTS + 5);
        let table = table + &"f|three\n".repeat(MOST_FAULTS + 5);
        fs::write(&path, table).unwrap();
        let listing = list(folder.path(), bounds).unwrap();
        assert_eq!(listing.faults.len(), MOST_FAULTS + 1);
        let last = listing.faults[MOST_FAULTS].to_string();
        assert!(last.contains("than the first 1000 are faulty"), "{last}");
    }
}
