//! Reader of datasets of pictures or clips with a table: `metadata.jsonl` or `metadata.csv`, beside the samples or
//! in the folders `train` and `test`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path, PathBuf};

use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::allowed::{ALLOWS_OUTSIDE, allows_more};
use crate::csv;
use crate::error::DataError;
use crate::folder::{Broken, Entry, HELD_OUT_FOLDERS, Listing, Source};
use crate::kind::{Kind, PICTURES};
use crate::options::ReadOptions;
use crate::split::{Split, held_out};
use crate::walk::{LeftOut, WalkOptions, read_head, read_text, walk};

/// File names of tables; the first that exists is read.
const TABLES: [&str; 2] = ["metadata.jsonl", "metadata.csv"];
/// Largest size of a record in JSON: in memory a value is many times larger than its text.
const MOST_RECORD_BYTES: usize = 1 << 20;
/// Required keys of a record, for error messages.
const WANTED: &str = "needs `file_name`, or `sheet`, `sheet_x` and `sheet_y`";
/// Extensions of sound files. In tables of speech, `file_name` names such files.
const SOUNDS: [&str; 8] = ["wav", "flac", "mp3", "ogg", "opus", "m4a", "aac", "wma"];

/// A table of pictures or clips.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Table {
    kind: &'static Kind,
    path: PathBuf,
    /// Path of the table's folder relative to the dataset: empty, or such as `train/`.
    prefix: String,
    /// Split given by the folder's name.
    split: Option<Split>,
}

impl Table {
    /// Whether the table is a `metadata.csv`.
    pub(crate) fn is_csv(&self) -> bool {
        self.path.extension().is_some_and(|ending| ending == "csv")
    }
}

/// Finds the tables of a dataset: at most one per split.
///
/// # Errors
/// If a table has no column that names pictures.
pub(crate) fn tables(folder: &Path, kind: &'static Kind) -> Result<Vec<Table>, DataError> {
    let table = |folder: &Path, prefix: &str, split| table(folder, kind, prefix, split);
    if let Some(table) = table(folder, "", None)? {
        return Ok(vec![table]);
    }
    let train = table(&folder.join("train"), "train/", Some(Split::Train))?;
    let Some(mut train) = train else {
        return Ok(Vec::new());
    };
    for held_out in HELD_OUT_FOLDERS {
        let (below, prefix) = (folder.join(held_out), format!("{held_out}/"));
        if let Some(test) = table(&below, &prefix, Some(Split::Test))? {
            return Ok(vec![train, test]);
        }
    }
    // Without a held-out folder, the training folder is split by hash.
    train.split = None;
    Ok(vec![train])
}

fn table(
    folder: &Path,
    kind: &'static Kind,
    prefix: &str,
    split: Option<Split>,
) -> Result<Option<Table>, DataError> {
    let Some(name) = TABLES.into_iter().find(|name| folder.join(name).is_file()) else {
        return Ok(None);
    };
    let path = folder.join(name);
    if name.ends_with("csv") {
        let text = read_head(&path)?;
        let header = csv::header(&text);
        let has = |column: &str| header.iter().any(|own| own == column);
        if !has("file_name") && !has("sheet") {
            let found = header.join("`, `");
            let reason = format!(
                "names no pictures: its first line must name the columns, `file_name` among them, \
                 and `text`, `label` and `split` where there are such; found `{found}`. Speech is \
                 trained on with train-tts"
            );
            return Err(DataError::malformed(&path, reason));
        }
    }
    let prefix = prefix.to_owned();
    Ok(Some(Table {
        kind,
        path,
        prefix,
        split,
    }))
}

/// Whether a folder has a table whose first record names a picture.
pub(crate) fn names_pictures(folder: &Path) -> bool {
    let Ok(tables) = tables(folder, &PICTURES) else {
        return false;
    };
    let Some(table) = tables.first() else {
        return false;
    };
    let Ok(text) = read_head(&table.path) else {
        return false;
    };
    let first = rows(table, &text).find_map(|(_, record)| record.ok());
    first.is_some_and(|record| record.sheet.is_some() || record.file_name.is_some_and(no_sound))
}

fn no_sound(file: String) -> bool {
    !is_sound(&file)
}

fn is_sound(file: &str) -> bool {
    let ending = Path::new(file)
        .extension()
        .and_then(|ending| ending.to_str());
    ending.is_some_and(|ending| SOUNDS.contains(&ending.to_ascii_lowercase().as_str()))
}

/// A record of a table.
#[derive(Debug, Default, Deserialize)]
struct Record {
    file_name: Option<String>,
    sheet: Option<String>,
    sheet_x: Option<u32>,
    sheet_y: Option<u32>,
    text: Option<String>,
    still: Option<String>,
    label: Option<Label>,
    split: Option<String>,
    /// Keys of speech tables, to recognize those.
    audio: Option<IgnoredAny>,
    audio_filepath: Option<IgnoredAny>,
}

/// The class in a record. Numbers sort before names and by value: 2 before 10.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(
    untagged,
    expecting = "`label` must be a string or a whole number from 0"
)]
enum Label {
    Number(u32),
    Name(String),
}

impl Label {
    /// Turns `"7"` into `7`, so that both are one class.
    fn normal(self) -> Self {
        match self {
            Self::Name(name) => match name.parse::<u32>() {
                Ok(number) if number.to_string() == name => Self::Number(number),
                _ => Self::Name(name),
            },
            number => number,
        }
    }

    fn into_name(self) -> String {
        match self {
            Self::Name(name) => name,
            Self::Number(number) => number.to_string(),
        }
    }
}

/// Line number, and the record or the reason why it can't be read.
type Row = (usize, Result<Record, String>);

/// The records of a table's text with their line numbers, one at a time.
fn rows<'a>(table: &Table, text: &'a str) -> Box<dyn Iterator<Item = Row> + 'a> {
    if table.is_csv() {
        let header = csv::header(text);
        let rows = csv::rows(text).skip(1);
        return Box::new(rows.map(move |(line, row)| {
            let record = row.and_then(|row| Record::of_row(&header, row));
            (line, record)
        }));
    }
    let lines = (1..).zip(text.lines());
    let filled = lines.filter(|(_, line)| !line.trim().is_empty());
    Box::new(filled.map(|(number, line)| (number, Record::of_json(line))))
}

impl Record {
    /// Reads a line of JSON.
    fn of_json(line: &str) -> Result<Self, String> {
        if line.len() > MOST_RECORD_BYTES {
            return Err(format!(
                "is longer than {MOST_RECORD_BYTES} bytes, the most that a record may have"
            ));
        }
        serde_json::from_str(line).map_err(|error| format!("not a record: {error}"))
    }

    /// Reads a CSV row. Empty cells count as absent.
    fn of_row(header: &[String], row: Vec<String>) -> Result<Self, String> {
        if row.len() != header.len() {
            let (found, wanted) = (row.len(), header.len());
            return Err(format!("has {found} cells, the first line has {wanted}"));
        }
        let mut record = Self::default();
        for (column, cell) in header.iter().zip(row) {
            if cell.trim().is_empty() {
                continue;
            }
            let number = |cell: &str| {
                cell.trim()
                    .parse::<u32>()
                    .map_err(|_| format!("`{column}` must be a whole number from 0, not `{cell}`"))
            };
            match column.as_str() {
                "file_name" => record.file_name = Some(cell),
                "sheet" => record.sheet = Some(cell),
                "sheet_x" => record.sheet_x = Some(number(&cell)?),
                "sheet_y" => record.sheet_y = Some(number(&cell)?),
                "text" => record.text = Some(cell),
                "still" => record.still = Some(cell),
                "label" => record.label = Some(Label::Name(cell)),
                "split" => record.split = Some(cell),
                _ => {}
            }
        }
        Ok(record)
    }

    /// The sample's name inside the dataset, and the location of its pixels.
    fn source(
        &self,
        folder: &Path,
        table: &Table,
        options: &ReadOptions,
    ) -> Result<(String, Source), String> {
        let place = |file: &str| {
            let (name, inside) = (format!("{}{file}", table.prefix), Path::new(&table.prefix));
            if options.outside || stays_inside(&inside.join(file)) {
                Ok((name, folder.join(inside).join(file)))
            } else {
                Err(format!(
                    "{file} lies outside of the dataset; {ALLOWS_OUTSIDE}"
                ))
            }
        };
        match (&self.file_name, &self.sheet, self.sheet_x, self.sheet_y) {
            (Some(file), ..) if is_sound(file) => Err(format!(
                "{file} is a recording, no picture: speech is trained on with train-tts"
            )),
            (Some(file), ..) => {
                let (name, path) = place(file)?;
                if path.is_file() || (table.kind.folders && path.is_dir()) {
                    Ok((name, Source::File(path)))
                } else if path.exists() {
                    Err(format!("{} is no regular file", path.display()))
                } else {
                    Err(format!("{} does not exist", path.display()))
                }
            }
            (None, Some(_), ..) if table.kind.folders => Err("a cell of a sheet is no clip".into()),
            (None, Some(sheet), Some(column), Some(row)) => {
                let (_, sheet) = place(sheet)?;
                let source = Source::Cell { sheet, column, row };
                Ok((format!("{column},{row}"), source))
            }
            _ if self.audio.is_some() || self.audio_filepath.is_some() => Err(format!(
                "{WANTED}, and names a recording: speech is trained on with train-tts"
            )),
            _ => Err(WANTED.into()),
        }
    }

    /// The sample's split, and whether the record or its table defines it. Otherwise a hash of the name
    /// does.
    fn split(&self, name: &str, table: &Table) -> Result<(Split, bool), String> {
        match (self.split.as_deref(), table.split) {
            (None, None) => Ok((held_out(name), false)),
            (None, Some(split)) => Ok((split, true)),
            (Some("train"), _) => Ok((Split::Train, true)),
            (Some(split), _) if HELD_OUT_FOLDERS.contains(&split) => Ok((Split::Test, true)),
            (Some(split), _) => Err(format!("split `{split}` is neither `train` nor `test`")),
        }
    }

    /// The sample and its class. The entry's class number is set later, when all classes are known.
    fn entry(
        self,
        folder: &Path,
        table: &Table,
        options: &ReadOptions,
    ) -> Result<(Entry, Label), String> {
        let (name, source) = self.source(folder, table, options)?;
        let (split, given) = self.split(&name, table)?;
        let label = self.label.unwrap_or(Label::Name("all".into())).normal();
        let entry = Entry {
            name,
            source,
            split,
            given,
            label: 0,
            text: self.text,
            still: self.still,
        };
        Ok((entry, label))
    }
}

/// Whether a relative path stays inside its folder. Symbolic links may lead out: the user put them
/// there on purpose.
pub(crate) fn stays_inside(path: &Path) -> bool {
    let mut depth = 0_usize;
    path.components().all(|component| match component {
        Component::Normal(_) => {
            depth += 1;
            true
        }
        Component::CurDir => true,
        Component::ParentDir => match depth.checked_sub(1) {
            Some(above) => {
                depth = above;
                true
            }
            None => false,
        },
        Component::RootDir | Component::Prefix(_) => false,
    })
}

/// Lists the samples of a dataset with tables. Without labels there is one class, `all`.
pub(crate) fn list_metadata(
    folder: &Path,
    tables: &[Table],
    options: &ReadOptions,
) -> Result<Listing, DataError> {
    let mut listing = Listing {
        kind: tables.first().map(|table| table.kind).unwrap_or_default(),
        ..Listing::default()
    };
    // Numbers of the classes in the order in which they come.
    let mut found = BTreeMap::new();
    for table in tables {
        let text = read_text(&table.path, options.table_limit())?;
        for (line, record) in rows(table, &text) {
            check_count(table, listing.entries.len(), listing.broken.len(), options)?;
            let entry = record.and_then(|record| record.entry(folder, table, options));
            match entry {
                Ok((mut entry, label)) => {
                    let next = found.len();
                    entry.label = *found.entry(label).or_insert(next as u32);
                    listing.entries.push(entry);
                }
                Err(reason) => {
                    let reason = format!("line {line}: {reason}");
                    listing.broken.push(Broken {
                        name: format!("{}:{line}", table.path.display()).into(),
                        error: DataError::malformed(&table.path, reason),
                    });
                }
            }
        }
    }
    // Their numbers are those of the sorted classes.
    let mut numbers = vec![0; found.len()];
    for (number, came) in (0..).zip(found.values()) {
        numbers[*came as usize] = number;
    }
    for entry in &mut listing.entries {
        entry.label = numbers[entry.label as usize];
    }
    listing.classes = found.into_keys().map(Label::into_name).collect();
    Ok(listing)
}

/// Refuses a dataset to learn texts from, if no sample has one (`has_text`) and there is one class alone: all samples would
/// have the same caption.
///
/// # Errors
/// As said, with the keys of the table, or what a table needs if there is none; or if the table can't be read.
pub fn check_texts(path: &Path, classes: &[String], has_text: bool) -> Result<(), DataError> {
    if has_text || classes.len() > 1 {
        return Ok(());
    }
    // Pictures and clips have the same tables.
    let tables = tables(path, &PICTURES)?;
    let Some(table) = tables.first() else {
        // Captions may lie there in files that are not read: `1.txt`, `captions.csv`, `metadata.parquet`.
        let reason = "no captions were found, and all samples are of one class: every sample would have the same \
                      caption. Captions are read from `metadata.jsonl` in this folder, a line for each sample with \
                      `file_name` and `text`, such as {\"file_name\": \"1.png\", \"text\": \"a cat\"}";
        return Err(DataError::malformed(path, reason));
    };
    let head = read_head(&table.path)?;
    let keys = if table.is_csv() {
        csv::header(&head)
    } else {
        let mut records = head.lines().map(serde_json::from_str);
        let first: Option<BTreeMap<String, IgnoredAny>> = records.find_map(Result::ok);
        first.unwrap_or_default().into_keys().collect()
    };
    let reason = format!(
        "no record has a `text`, and all are of one class: every sample would have the same caption. Its keys are \
         `{}`: call the one of the captions `text`",
        keys.join("`, `")
    );
    Err(DataError::malformed(&table.path, reason))
}

/// Refuses more records than may be kept: `entries` that can be used, `broken` that can't.
fn check_count(
    table: &Table,
    entries: usize,
    broken: usize,
    options: &ReadOptions,
) -> Result<(), DataError> {
    let (most, most_broken) = (options.max_records, options.most_broken());
    let reason = if entries + broken >= most {
        format!("has more than {most} records, the most that are read")
    } else if broken >= most_broken {
        format!("has more than {most_broken} records that can't be used, the most that are listed")
    } else {
        return Ok(());
    };
    let reason = format!("{reason}; {}", allows_more("data.max_records"));
    Err(DataError::malformed(&table.path, reason))
}

/// The files in the folder that no table names.
pub(crate) fn unnamed(
    folder: &Path,
    tables: &[Table],
    entries: &[Entry],
) -> Result<Vec<LeftOut>, DataError> {
    let mut named: BTreeSet<PathBuf> = entries.iter().map(|entry| plain(entry.path())).collect();
    named.extend(tables.iter().map(|table| plain(&table.path)));
    let kind = tables.first().map(|table| table.kind).unwrap_or_default();
    let walked = walk(folder, WalkOptions::default())?;
    let mut left_out = walked.left_out;
    left_out.retain(|left| !named.contains(&plain(&left.path)));
    for path in walked.files {
        let own = plain(&path);
        // A frame of a clip is named by its folder.
        let in_clip = own.parent().is_some_and(|folder| named.contains(folder));
        if !(named.contains(&own) || kind.folders && in_clip) {
            left_out.push(kind.unused(path, kind.unnamed));
        }
    }
    Ok(left_out)
}

/// A path with `.` and `..` components resolved.
fn plain(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for component in path.components() {
        match component {
            Component::CurDir => {}
            Component::ParentDir if plain.file_name().is_some() => {
                plain.pop();
            }
            other => plain.push(other),
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_that_leave_the_folder_are_seen() {
        for inside in ["a.png", "./a.png", "b/../a.png", "train/../b/a.png", "..a"] {
            assert!(stays_inside(Path::new(inside)), "{inside}");
        }
        for outside in ["../a.png", "a/../../b.png", "/etc/passwd", "b/../../b/a"] {
            assert!(!stays_inside(Path::new(outside)), "{outside}");
        }
        assert_eq!(plain(Path::new("a/./b/../c")), Path::new("a/c"));
        assert_eq!(plain(Path::new("../a")), Path::new("../a"));
    }

    /// What a table may hold, and what is refused before it takes memory.
    #[test]
    fn tables_have_a_largest_number_of_records() {
        let dir = tempfile::tempdir().unwrap();
        let list = |name: &str, text: &str| {
            std::fs::write(dir.path().join(name), text).unwrap();
            let tables = tables(dir.path(), &PICTURES).unwrap();
            list_metadata(dir.path(), &tables, &ReadOptions::default())
        };
        let cell = "{\"sheet\":\"a\",\"sheet_x\":1,\"sheet_y\":1}\n";
        // One record of a list that takes sixteen times as much memory as its text.
        let long = format!("{{\"audio\": [{}0]}}\n", "0,".repeat(MOST_RECORD_BYTES / 2));
        let listing = list("metadata.jsonl", &(long + cell)).unwrap();
        assert_eq!((listing.entries.len(), listing.broken.len()), (1, 1));
        let told = listing.broken[0].error.to_string();
        assert!(
            told.contains("line 1: is longer than 1048576 bytes"),
            "{told}"
        );
        let table = &tables(dir.path(), &PICTURES).unwrap()[0];
        let options = ReadOptions::default();
        let count = |entries, broken| check_count(table, entries, broken, &options);
        count(1_999_999, 0).unwrap();
        let told = count(1_999_999, 1).unwrap_err();
        let part = "has more than 2000000 records, the most that are read; data.max_records (of `data \
                    check`: --max-records) allows more";
        assert!(told.to_string().ends_with(part), "{told}");
        count(1, 499_999).unwrap();
        let told = count(0, 500_000).unwrap_err();
        let part = "has more than 500000 records that can't be used, the most that are listed; ";
        assert!(told.to_string().contains(part), "{told}");
        assert!(told.to_string().contains("data.max_records"), "{told}");
    }

    /// The keys that the errors name.
    #[test]
    fn options_allow_larger_tables() {
        let dir = tempfile::tempdir().unwrap();
        let cell = "{\"sheet\":\"a\",\"sheet_x\":1,\"sheet_y\":1}\n";
        let path = dir.path().join("metadata.jsonl");
        let list = |options: &ReadOptions| {
            let tables = tables(dir.path(), &PICTURES).unwrap();
            list_metadata(dir.path(), &tables, options)
        };
        std::fs::write(&path, cell.repeat(5)).unwrap();
        let of = |max_records| ReadOptions {
            max_records,
            ..ReadOptions::default()
        };
        assert_eq!(list(&of(5)).unwrap().entries.len(), 5);
        let told = list(&of(4)).unwrap_err().to_string();
        assert!(told.contains("has more than 4 records"), "{told}");
        // Longer than a megabyte, and than the part that tells what kind of table it is.
        let blank = " ".repeat(1 << 20) + "\n";
        std::fs::write(&path, cell.to_owned() + &blank.repeat(3) + cell).unwrap();
        let of = |max_table_mb| ReadOptions {
            max_table_mb,
            ..ReadOptions::default()
        };
        assert!(names_pictures(dir.path()));
        assert_eq!(list(&of(4)).unwrap().entries.len(), 2);
        let told = list(&of(3)).unwrap_err().to_string();
        let part = "is larger than 3145728 bytes, the most that is read; data.max_table_mb (of `data \
                    check`: --max-table-mb) allows more: 4 at least";
        assert!(told.ends_with(part), "{told}");
    }

    #[test]
    fn data_of_one_caption_are_refused_with_what_captions_need() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).unwrap();
        let classes = ["all".to_owned(), "cat".to_owned()];
        let check = |count: usize, has_text| check_texts(dir.path(), &classes[..count], has_text);
        let told = check(1, false).unwrap_err().to_string();
        for part in ["no captions were found", "`metadata.jsonl`", "`text`"] {
            assert!(told.contains(part), "{told}");
        }
        check(1, true).unwrap();
        check(2, false).unwrap();
        for (name, text) in [
            (
                "metadata.csv",
                "file_name,prompt,split\na.png,a cat,train\n",
            ),
            (
                "metadata.jsonl",
                "\n{\"split\": \"train\", \"prompt\": \"a\", \"file_name\": \"a.png\"}\n",
            ),
        ] {
            write(name, text);
            let told = check(1, false).unwrap_err().to_string();
            let keys =
                "Its keys are `file_name`, `prompt`, `split`: call the one of the captions `text`";
            assert!(told.contains(name) && told.ends_with(keys), "{told}");
            check(1, true).unwrap();
            check(2, false).unwrap();
        }
    }

    #[test]
    fn a_table_of_speech_is_no_table_of_pictures() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).unwrap();
        write("metadata.csv", "LJ001-0001|Printing|Printing\n");
        let message = tables(dir.path(), &PICTURES).unwrap_err().to_string();
        assert!(message.contains("`file_name` among them"), "{message}");
        assert!(!names_pictures(dir.path()));
        write(
            "metadata.csv",
            "\u{feff}file_name,text\r\na.png,\"a, b\"\r\n",
        );
        assert!(names_pictures(dir.path()));
        write("metadata.csv", "file_name,transcription\na.wav,words\n");
        assert!(!names_pictures(dir.path()));
        write("metadata.jsonl", "{\"audio_filepath\": \"a.wav\"}\n");
        assert!(!names_pictures(dir.path()));
        write("metadata.jsonl", "\u{feff}{\"file_name\": \"a.png\"}\n");
        assert!(names_pictures(dir.path()));
    }
}
