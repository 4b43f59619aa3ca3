//! Lists the recordings of a speech corpus with their transcripts, whatever its layout.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use latentlm_media::{open_regular, sound};
use serde_json::{Map, Value};

use super::clip::{Listing, SpeechBounds, clip, name_of, within};
use super::columns::{self, Columns, Entry};
use super::finder::{Finder, leads_outside};
use super::table::{plain_lines, rows, separator};
use super::tree;
use crate::error::{DataError, io_error};
use crate::split::Split;
use crate::walk::{WalkOptions, read_text, walk};

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
/// Largest number of lines of a table: the rows in memory are larger than the text of short lines.
const MOST_LINES: usize = 16_000_000;
/// Number of faulty lines that are listed for all tables of a corpus.
const MOST_FAULTS: usize = 1000;
/// Speaker name where the corpus has none.
const NOBODY: &str = "speaker";

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
    let ending = sound::ending(path);
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
        check_lines(path, &text)?;
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
        let mut made = made.in_split(entry.split.or(split));
        made.group = entry.group;
        made.duration_s = entry.duration_s;
        self.listing.clips.push(made);
        Ok(())
    }
}

fn check_lines(path: &Path, text: &str) -> Result<(), DataError> {
    if text.lines().count() <= MOST_LINES {
        return Ok(());
    }
    let reason = format!("has more than {MOST_LINES} lines, the most that are read");
    Err(DataError::malformed(path, reason))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_have_a_largest_size_and_name_it() {
        let text = "\n".repeat(MOST_LINES);
        assert!(check_lines(Path::new("a"), &text).is_ok());
        let message = check_lines(Path::new("a"), &(text + "x")).unwrap_err();
        let expected = "a: has more than 16000000 lines, the most that are read";
        assert_eq!(message.to_string(), expected);

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
