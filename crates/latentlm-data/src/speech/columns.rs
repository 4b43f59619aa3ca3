//! Recognizes the columns and JSON keys of speech tables: recording, text, speaker, split.

use std::collections::{BTreeMap, HashMap, HashSet};

use latentlm_media::sound::{ENDINGS, OTHER_ENDINGS};
use serde_json::{Map, Value};

use super::clip::MOST_TEXT_BYTES;
use super::table::Row;
use super::timed::{TimedWord, timed_words};
use crate::folder::HELD_OUT_FOLDERS;
use crate::split::Split;

/// Keys that always hold the path of a recording.
const AUDIO: [&str; 6] = [
    "audio",
    "audio_filepath",
    "audio_file",
    "audio_path",
    "wav_path",
    "wav",
];
/// Keys that may hold the path of any file.
const FILES: [&str; 5] = ["file_name", "path", "file", "filename", "id"];
/// Keys of the text. The first that exists counts.
const TEXTS: [&str; 6] = [
    "text",
    "transcription",
    "sentence",
    "transcript",
    "normalized_text",
    "normalised_text",
];
/// Names of text columns in tables with a header, such as LJSpeech's: the text as spoken is preferred.
const SPOKEN: [&str; 6] = [
    "normalized_text",
    "normalised_text",
    "text",
    "transcription",
    "sentence",
    "transcript",
];
/// Keys of the speaker.
const SPEAKERS: [&str; 5] = ["speaker", "speaker_name", "speaker_id", "client_id", "spk"];
/// Extensions of pictures: a table that names such files is not about speech.
const PICTURES: [&str; 9] = [
    "png", "jpg", "jpeg", "webp", "gif", "bmp", "tif", "tiff", "avif",
];

/// Rows for each value of a column from which on the values are few.
const ROWS_OF_A_SPEAKER: usize = 4;

/// A recording as listed in a table.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Entry {
    pub(super) audio: String,
    pub(super) text: String,
    pub(super) speaker: Option<String>,
    pub(super) group: Option<String>,
    pub(super) split: Option<Split>,
    /// Length in seconds, if the table gives one.
    pub(super) duration_s: Option<f64>,
    /// The words with their times, if a record gives them.
    pub(super) words: Option<Box<[TimedWord]>>,
}

/// Whether a file name has the extension of a sound (`Some(true)`), of a picture (`Some(false)`), or of
/// neither.
pub(super) fn names_sound(name: &str) -> Option<bool> {
    let (_, ending) = name.trim().rsplit_once('.')?;
    let ending = ending.to_ascii_lowercase();
    let is = |list: &[&str]| list.contains(&ending.as_str());
    if is(&ENDINGS) || is(&OTHER_ENDINGS) {
        Some(true)
    } else {
        is(&PICTURES).then_some(false)
    }
}

/// Whether a JSON record is about a recording.
pub(super) fn is_record_of_sound(record: &Map<String, Value>) -> bool {
    if AUDIO.iter().any(|key| record.contains_key(*key)) {
        return true;
    }
    let name = FILES.iter().find_map(|key| word(record.get(*key)?));
    name.is_some_and(|name| names_sound(&name) == Some(true))
}

/// The value of a key as text: a string, a number, or Hugging Face's `{"path": ...}`.
fn word(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Object(map) => word(map.get("path")?),
        _ => None,
    }
}

/// Reads a recording from a JSON record.
pub(super) fn of_record(record: &Map<String, Value>) -> Result<Entry, String> {
    let value = |keys: &[&str]| keys.iter().find_map(|key| word(record.get(*key)?));
    let audio = value(&AUDIO).or_else(|| value(&FILES[..4]));
    let audio = audio.ok_or_else(|| missing("audio", &[&AUDIO[1..2], &FILES[..2]].concat()))?;
    let text = value(&TEXTS).ok_or_else(|| missing("text", &TEXTS[1..5]))?;
    let split = value(&["split"]);
    let seconds = |text: String| text.trim().parse::<f64>().ok();
    if let Some(offset) = value(&["offset"])
        && seconds(offset.clone()) != Some(0.0)
    {
        return Err(format!(
            "`offset` {offset}: recordings are read whole; cut each segment into a file of its own \
             (`ffmpeg -ss OFFSET -t DURATION -i IN OUT.flac`) and remove `offset`"
        ));
    }
    Ok(Entry {
        audio,
        text,
        speaker: value(&SPEAKERS),
        group: value(&["group"]),
        split: split.as_deref().map(split_of).transpose()?,
        duration_s: value(&["duration"]).and_then(seconds),
        words: record.get("words").map_or(Ok(None), timed_words)?,
    })
}

fn missing(key: &str, others: &[&str]) -> String {
    format!(
        "not a record: missing field `{key}` (or `{}`)",
        others.join("`, `")
    )
}

fn split_of(name: &str) -> Result<Split, String> {
    match name {
        "train" => Ok(Split::Train),
        held_out if HELD_OUT_FOLDERS.contains(&held_out) => Ok(Split::Test),
        _ => Err(format!("split `{name}` is neither `train` nor `test`")),
    }
}

/// Indices of the columns of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Columns {
    /// Whether the first row holds column names.
    pub(super) header: bool,
    /// Number of fields of a row: of the first line's names, or of most rows.
    width: usize,
    audio: usize,
    text: usize,
    /// Column of the text as spoken. Cells are empty where it is the same as `text`.
    spoken: Option<usize>,
    speaker: Option<usize>,
    split: Option<usize>,
}

/// Error message for a table whose columns can't be recognized.
pub(super) const NO_COLUMNS: &str = "says nowhere which of its columns is which: name them in the \
    first line (`file_name`, `audio_file` or `path`, and `text`, `sentence` or `transcription`; \
    perhaps `speaker` and `split`), or put | between them: `id|text`, `id|text|text as spoken`, \
    `id|speaker|text`";

impl Columns {
    /// Recognizes the columns of a table; `None` if that is impossible.
    pub(super) fn of(rows: &[Row], separator: char) -> Option<Self> {
        if let Some(columns) = rows.first().and_then(Self::named) {
            return Some(columns);
        }
        let width = usual_width(rows);
        let plain = Self {
            header: false,
            width,
            audio: 0,
            text: 1,
            spoken: None,
            speaker: None,
            split: None,
        };
        match (separator, width) {
            // Without a header, a comma may belong to the text.
            (',', _) => None,
            (_, 0..=2) => Some(plain),
            _ => Some(
                match (speaks(rows, width, 1, 2), speaks(rows, width, 2, 1)) {
                    (Some(second), third) if third.is_none_or(|third| second <= third) => Self {
                        text: 2,
                        speaker: Some(1),
                        ..plain
                    },
                    (_, Some(_)) => Self {
                        speaker: Some(2),
                        ..plain
                    },
                    _ => Self {
                        spoken: Some(2),
                        ..plain
                    },
                },
            ),
        }
    }

    /// Recognizes the columns by the names in the first row.
    fn named(row: &Row) -> Option<Self> {
        let fields = row.fields.iter();
        let names: Vec<String> = fields.map(|name| name.trim().to_lowercase()).collect();
        let column = |keys: &[&str]| {
            let mut keys = keys.iter();
            keys.find_map(|key| names.iter().position(|name| name == key))
        };
        let audio = column(&AUDIO).or_else(|| column(&FILES))?;
        let text = column(&SPOKEN)?;
        // Spreadsheets end lines with separators of empty columns.
        let last = names.iter().rposition(|name| !name.is_empty());
        Some(Self {
            header: true,
            width: last.map_or(0, |last| last + 1),
            audio,
            text,
            spoken: None,
            speaker: column(&SPEAKERS),
            split: column(&["split"]),
        })
    }

    /// Whether the table lists recordings, judged by its first row of content.
    pub(super) fn is_of_sound(&self, rows: &[Row]) -> bool {
        let first = rows.get(usize::from(self.header));
        let name = first.and_then(|row| row.fields.get(self.audio));
        let bare = match rows.first().and_then(|row| row.fields.get(self.audio)) {
            // Names without extensions count if the column's name is for recordings only, or if there is no
            // header.
            Some(key) if self.header => AUDIO.contains(&key.trim().to_lowercase().as_str()),
            _ => true,
        };
        name.and_then(|name| names_sound(name)).unwrap_or(bare)
    }

    /// Reads the recording of a row.
    pub(super) fn entry(&self, row: &Row) -> Result<Entry, String> {
        self.check_width(row)?;
        let field = |place: usize| row.fields.get(place).map(|field| field.trim());
        let named = |place: Option<usize>| field(place?).filter(|field| !field.is_empty());
        let audio = field(self.audio).filter(|audio| !audio.is_empty());
        let (Some(audio), Some(text)) = (audio, field(self.text)) else {
            return Err("not `id|text` or `id|text|text`".into());
        };
        Ok(Entry {
            audio: audio.into(),
            text: named(self.spoken).unwrap_or(text).into(),
            speaker: named(self.speaker).map(str::to_owned),
            group: None,
            split: named(self.split).map(split_of).transpose()?,
            duration_s: None,
            words: None,
        })
    }

    /// Checks the number of fields of a row. LJSpeech's text as spoken may be missing, and empty fields at the
    /// end of a row do no harm.
    fn check_width(&self, row: &Row) -> Result<(), String> {
        let found = row.fields.len();
        if found == 0 {
            return Err(format!(
                "is longer than {MOST_TEXT_BYTES} bytes, the most that a row may have"
            ));
        }
        let mut surplus = row.fields.iter().skip(self.width);
        let is_blank = surplus.all(|field| field.trim().is_empty());
        let least = match self.spoken {
            Some(spoken) if spoken + 1 == self.width => spoken,
            _ => self.width,
        };
        if found >= least && is_blank {
            return Ok(());
        }
        let others = if self.header {
            "the first line has"
        } else {
            "most lines have"
        };
        Err(format!(
            "has {found} fields, {others} {}: fill in what is missing, and put a text that holds the \
             separator into quotes",
            self.width
        ))
    }
}

/// The number of fields that most rows have, at least 2; the larger one if two numbers are equally common.
fn usual_width(rows: &[Row]) -> usize {
    let mut counts: BTreeMap<usize, usize> = BTreeMap::new();
    for row in rows {
        *counts.entry(row.fields.len()).or_default() += 1;
    }
    let most = counts.into_iter().max_by_key(|&(_, count)| count);
    most.map_or(2, |(width, _)| width.max(2))
}

/// Decides whether column `speakers` holds speakers and column `texts` their texts, judged by the rows of
/// `width` fields that have both. At least one speaker has two different texts. (A text and its spoken form, in
/// contrast, correspond one to one.) Where the speakers are few, their names may have spaces and be said in
/// some texts; otherwise they are single words that no text of theirs holds. Returns the number of speakers,
/// or `None`.
fn speaks(rows: &[Row], width: usize, speakers: usize, texts: usize) -> Option<usize> {
    let mut first: HashMap<&str, &str> = HashMap::new();
    let mut different: HashSet<&str> = HashSet::new();
    let (mut several, mut spaced) = (false, false);
    let (mut all, mut said) = (0, 0);
    for row in rows.iter().filter(|row| row.fields.len() == width) {
        let (speaker, text) = (row.fields[speakers].trim(), row.fields[texts].trim());
        if speaker.is_empty() || text.is_empty() {
            continue;
        }
        all += 1;
        spaced |= speaker.contains(char::is_whitespace);
        said += usize::from(words(text).contains(&words(speaker)));
        different.insert(text);
        several |= *first.entry(speaker).or_insert(text) != text;
    }
    let count = first.len();
    let few = count * ROWS_OF_A_SPEAKER <= all && count * 2 <= different.len();
    let are_names = if few {
        said * 4 <= all
    } else {
        said == 0 && !spaced
    };
    (several && are_names).then_some(count)
}

/// The words of a text in lower case, with a space before and after each.
fn words(text: &str) -> String {
    let mut words = String::from(" ");
    for word in text.split(|c: char| !c.is_alphanumeric()) {
        if !word.is_empty() {
            words += &word.to_lowercase();
            words.push(' ');
        }
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::speech::table::first_rows;

    fn entries(text: &str, separator: char) -> Vec<(String, String, Option<String>)> {
        let rows = first_rows(text, separator);
        let columns = Columns::of(&rows, separator).unwrap();
        let rows = rows.iter().skip(usize::from(columns.header));
        let entries = rows.map(|row| columns.entry(row).unwrap());
        let parts = entries.map(|entry| (entry.audio, entry.text, entry.speaker));
        parts.collect()
    }

    fn said(audio: &str, text: &str, speaker: Option<&str>) -> (String, String, Option<String>) {
        (audio.into(), text.into(), speaker.map(str::to_owned))
    }

    #[test]
    fn columns_are_told_by_what_is_in_them() {
        let lj = "a|In 1455|In fourteen fifty-five\nb|Dr.|Doctor\nc|3|three\nd|3|three\ne|raw| \n";
        let expected = [
            said("a", "In fourteen fifty-five", None),
            said("b", "Doctor", None),
            said("c", "three", None),
            said("d", "three", None),
            said("e", "raw", None),
        ];
        assert_eq!(entries(lj, '|'), expected);
        let piper = "a|bert|one two\nb|anna|three\nc|bert|four\n";
        let expected = [
            said("a", "one two", Some("bert")),
            said("b", "three", Some("anna")),
            said("c", "four", Some("bert")),
        ];
        assert_eq!(entries(piper, '|'), expected);
        let xtts = "a.wav|one two|0\nb.wav|three|1\nc.wav|four|0\n";
        let expected = [
            said("a.wav", "one two", Some("0")),
            said("b.wav", "three", Some("1")),
            said("c.wav", "four", Some("0")),
        ];
        assert_eq!(entries(xtts, '|'), expected);
        // Two speakers who say the same three words.
        let words = "a|one|ann\nb|two|ann\nc|three|ann\nd|one|bob\ne|two|bob\nf|three|bob\n";
        assert_eq!(entries(words, '|')[3], said("d", "one", Some("bob")));
        assert_eq!(entries("a|one|more|than", '|'), [said("a", "more", None)]);
    }

    #[test]
    fn rows_of_another_number_of_fields_are_faults() {
        let faults = |text: &str, separator| {
            let rows = first_rows(text, separator);
            let columns = Columns::of(&rows, separator).unwrap();
            let rows = rows.iter().skip(usize::from(columns.header));
            let faults = rows.filter_map(|row| Some((row.line, columns.entry(row).err()?)));
            faults.collect::<Vec<_>>()
        };
        let piper = "a|bert|one two\nb|anna|three\nc|bert|four\nd|eve\n";
        let found = faults(piper, '|');
        let [(4, reason)] = &found[..] else {
            panic!("{found:?}");
        };
        assert!(
            reason.starts_with("has 2 fields, most lines have 3: "),
            "{reason}"
        );
        let table = "file_name,transcription\na.wav,one, two\nb.wav,\"three, four\"\nc.wav,five,\n";
        let found = faults(table, ',');
        let [(2, reason)] = &found[..] else {
            panic!("{found:?}");
        };
        assert!(
            reason.starts_with("has 3 fields, the first line has 2: "),
            "{reason}"
        );
        // LJSpeech: the text as spoken may be missing; a bar too many is a fault.
        let lj = "a|In 1455|In fourteen fifty-five\nb|raw\nc|x y|x | y\nd|3|three\n";
        let lines: Vec<usize> = faults(lj, '|').iter().map(|fault| fault.0).collect();
        assert_eq!(lines, [3]);
        assert_eq!(faults("a|one\nb|two|three\nc|four\n", '|')[0].0, 2);
    }

    #[test]
    fn few_values_in_many_rows_are_speakers() {
        let mut table = String::new();
        let mut turned = String::new();
        for index in 0..8 {
            let text = if index == 3 {
                "speaker 1 says three".to_owned()
            } else {
                format!("sentence number {index}")
            };
            table += &format!("u{index}|Speaker {}|{text}\n", index % 2);
            turned += &format!("u{index}|{text}|Speaker {}\n", index % 2);
        }
        for table in [&table, &turned] {
            let found = entries(table, '|');
            assert_eq!(found[2], said("u2", "sentence number 2", Some("Speaker 0")));
            assert_eq!(
                found[3],
                said("u3", "speaker 1 says three", Some("Speaker 1"))
            );
        }
        // Few texts, each in two ways of writing, are no speakers.
        let mut table = String::new();
        for index in 0..12 {
            let raw = ["21", "Twenty-one"][index % 2];
            table += &format!("u{index}|{raw}|twenty one\n");
        }
        assert_eq!(entries(&table, '|')[0], said("u0", "twenty one", None));
    }

    #[test]
    fn segments_of_recordings_are_refused() {
        let entry = |json: &str| of_record(&serde_json::from_str(json).unwrap());
        let whole = r#"{"audio_filepath": "a.wav", "text": "one", "offset": 0.0, "duration": 1.5}"#;
        assert_eq!(entry(whole).unwrap().duration_s, Some(1.5));
        let part = r#"{"audio_filepath": "a.wav", "text": "one", "offset": 2.5, "duration": 1.5}"#;
        let message = entry(part).unwrap_err();
        assert!(
            message.starts_with("`offset` 2.5: ") && message.contains("ffmpeg"),
            "{message}"
        );
    }

    #[test]
    fn columns_are_told_by_their_names() {
        let table = "Audio_File | text|speaker_name\nwavs/a.wav|one|7\n";
        let expected = [said("wavs/a.wav", "one", Some("7"))];
        assert_eq!(entries(table, '|'), expected);
        let table = "client_id\tpath\tsentence\nx9\ta.mp3\tOne, two.\n";
        let expected = [said("a.mp3", "One, two.", Some("x9"))];
        assert_eq!(entries(table, '\t'), expected);
        let table = "file_name,transcription\nb.wav,\"one, two\"\n";
        assert_eq!(entries(table, ','), [said("b.wav", "one, two", None)]);
        let table = first_rows("a.wav,one\n", ',');
        assert_eq!(Columns::of(&table, ','), None);
    }

    #[test]
    fn tables_of_pictures_are_none_of_sound() {
        let of_sound = |text: &str, separator| {
            let rows = first_rows(text, separator);
            Columns::of(&rows, separator).is_some_and(|columns| columns.is_of_sound(&rows))
        };
        assert!(!of_sound("file_name,text\n001.PNG,a cat\n", ','));
        assert!(!of_sound("file_name,text\n001,a cat\n", ','));
        assert!(of_sound("file_name,text\n001.WAV,a cat\n", ','));
        assert!(of_sound("audio_file|text\n001|a cat\n", '|'));
        assert!(of_sound("001|a cat\n", '|'));
        assert!(!of_sound("001.jpg|a cat\n", '|'));
    }

    #[test]
    fn records_have_many_keys() {
        let entry = |json: &str| of_record(&serde_json::from_str(json).unwrap());
        let said = |json: &str| entry(json).map(|e| (e.audio, e.text, e.speaker));
        for json in [
            r#"{"audio": "a.wav", "text": "one", "speaker": "7"}"#,
            r#"{"audio_filepath": "a.wav", "text": "one", "duration": 1.0, "speaker": 7}"#,
            r#"{"file_name": "a.wav", "transcription": "one", "speaker_id": 7}"#,
            r#"{"audio": {"path": "a.wav", "bytes": null}, "sentence": "one", "client_id": "7"}"#,
        ] {
            let record = serde_json::from_str(json).unwrap();
            assert!(is_record_of_sound(&record), "{json}");
            let expected = ("a.wav".to_owned(), "one".to_owned(), Some("7".to_owned()));
            assert_eq!(said(json), Ok(expected), "{json}");
        }
        for (json, part) in [
            (
                r#"{"audio": "a.wav"}"#,
                "missing field `text` (or `transcription`",
            ),
            (
                r#"{"text": "a"}"#,
                "missing field `audio` (or `audio_filepath`",
            ),
            (
                r#"{"audio": "a", "text": "b", "split": "tset"}"#,
                "split `tset`",
            ),
        ] {
            let message = entry(json).unwrap_err();
            assert!(message.contains(part), "{message}");
        }
        let picture = serde_json::from_str(r#"{"file_name": "a.png", "text": "x"}"#).unwrap();
        assert!(!is_record_of_sound(&picture));
    }
}
