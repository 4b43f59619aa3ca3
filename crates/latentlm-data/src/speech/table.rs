//! Reader of tables as they are found in speech corpora: columns separated by bars, tabs or commas, with or
//! without quotes, with any line ends.

use std::borrow::Cow;
use std::path::Path;

use super::clip::{MOST_TEXT_BYTES, SpeechBounds};
use crate::error::DataError;
use crate::options::SizeLimit;
use crate::walk::read_text;

/// Number of fields after which no more rows are looked at to recognize the columns.
const FIRST_FIELDS: usize = 1_000_000;
/// Largest number of fields of a row; those behind are dropped. An empty field takes more memory than its separator.
const MOST_FIELDS: usize = 4096;
/// Number of bytes after which the part of a table that was read is freed.
const PIECE_BYTES: usize = 16 << 20;

/// A row of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Row<'a> {
    /// Number of its first line, from 1.
    pub(super) line: usize,
    /// Empty if the row has more than [`MOST_TEXT_BYTES`].
    pub(super) fields: Vec<Cow<'a, str>>,
}

/// Reads a table or transcript, with plain line ends. `lines` is the number of lines of those before it; its own are
/// added.
///
/// # Errors
/// If the file can't be read, is not UTF-8, or is too large, alone or with those before it.
pub(super) fn read_table(
    path: &Path,
    bounds: SpeechBounds,
    lines: &mut usize,
) -> Result<String, DataError> {
    let limit = SizeLimit {
        bytes: bounds.table_bytes,
        key: Some("data.max_table_mb"),
    };
    let mut text = read_text(path, limit)?;
    if text.contains('\r') {
        text = plain_lines(&text);
    }
    let own = text.lines().count();
    *lines += own;
    if *lines > bounds.table_lines {
        let what = if own > bounds.table_lines {
            "lines"
        } else {
            "lines with the tables before it"
        };
        return Err(DataError::too_large(path, bounds.too_many(what, *lines)));
    }
    Ok(text)
}

/// Replaces line ends of Windows and of old Macs by `\n`.
pub(super) fn plain_lines(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    for (number, part) in text.split('\r').enumerate() {
        if number == 0 {
            plain.push_str(part);
        } else {
            plain.push('\n');
            plain.push_str(part.strip_prefix('\n').unwrap_or(part));
        }
    }
    plain
}

/// Frees the beginning of a text that was read.
fn free_beginning(text: &mut String, bytes: usize) {
    text.drain(..bytes);
    text.shrink_to_fit();
}

/// The separator of the columns, found in the first line that is not empty.
pub(super) fn separator(text: &str) -> char {
    let first = text.lines().find(|line| !line.trim().is_empty());
    let first = first.unwrap_or_default();
    let mut separators = ['|', '\t', ','].into_iter();
    separators.find(|c| first.contains(*c)).unwrap_or('|')
}

/// The first rows of a table, without empty ones: all, or as many as are enough to recognize the columns.
///
/// A field is quoted if it begins and ends with a quote and all quotes inside are doubled. LJSpeech has
/// texts that begin and end with a quotation: those quotes belong to the text. A quoted field may span
/// lines only in comma-separated tables, or if the first field of the table is quoted.
pub(super) fn first_rows(text: &str, separator: char) -> Vec<Row<'_>> {
    let mut reader = Reader::new(text, separator);
    let (mut rows, mut fields) = (Vec::new(), 0);
    while fields < FIRST_FIELDS {
        let Some(row) = reader.next_row() else {
            break;
        };
        fields += row.fields.len();
        rows.push(row);
    }
    rows
}

/// The rows of a table, one at a time. The text is freed as it is read: the recordings that it becomes take memory
/// too.
pub(super) struct Rows {
    text: String,
    /// Where the next row begins, in bytes.
    at: usize,
    /// Number of its first line.
    line: usize,
    separator: char,
    whole: bool,
}

impl Rows {
    pub(super) fn new(text: String, separator: char) -> Self {
        let whole = Reader::new(&text, separator).whole;
        Self {
            text,
            at: 0,
            line: 1,
            separator,
            whole,
        }
    }

    /// The next row that is not empty.
    pub(super) fn next_row(&mut self) -> Option<Row<'_>> {
        if self.at > PIECE_BYTES {
            free_beginning(&mut self.text, self.at);
            self.at = 0;
        }
        let mut reader = Reader {
            text: &self.text,
            at: self.at,
            line: self.line,
            separator: self.separator,
            whole: self.whole,
        };
        let row = reader.next_row();
        (self.at, self.line) = (reader.at, reader.line);
        row
    }
}

/// Calls a function with each line of a text and its number. The text is freed as it is read.
pub(super) fn for_each_line(mut text: String, mut read: impl FnMut(usize, &str)) {
    let mut number = 0;
    while !text.is_empty() {
        let mut at = 0;
        for line in text.split_inclusive('\n') {
            number += 1;
            at += line.len();
            read(number, line.trim_end_matches('\n'));
            if at > PIECE_BYTES {
                break;
            }
        }
        free_beginning(&mut text, at);
    }
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
    line: usize,
    separator: char,
    /// Whether quotes around a field are always removed, and quoted fields may span lines.
    whole: bool,
}

impl<'a> Reader<'a> {
    fn new(text: &'a str, separator: char) -> Self {
        let quoted = text.trim_start().starts_with('"');
        Self {
            text,
            at: 0,
            line: 1,
            separator,
            // If the first field has no quotes, quotes around a text are part of the text.
            whole: quoted || separator == ',',
        }
    }

    /// The next row that is not empty.
    fn next_row(&mut self) -> Option<Row<'a>> {
        while self.at < self.text.len() {
            let (line, begin) = (self.line, self.at);
            let mut fields = self.row();
            if self.at - begin > MOST_TEXT_BYTES {
                let fields = Vec::new();
                return Some(Row { line, fields });
            }
            if fields.iter().any(|field| !field.trim().is_empty()) {
                fields.shrink_to_fit();
                return Some(Row { line, fields });
            }
        }
        None
    }

    /// Reads a row. If it has too many fields, one more than the most is kept.
    fn row(&mut self) -> Vec<Cow<'a, str>> {
        let mut fields = Vec::new();
        loop {
            let field: Cow<'a, str> = match self.quoted() {
                Some(field) => field.into(),
                None => self.bare().into(),
            };
            if fields.len() <= MOST_FIELDS {
                fields.push(field);
            }
            let rest = &self.text[self.at..];
            match rest.chars().next() {
                Some(c) if c == self.separator => self.at += c.len_utf8(),
                Some(c) => {
                    self.at += c.len_utf8();
                    self.line += 1;
                    return fields;
                }
                None => return fields,
            }
        }
    }

    /// Reads a field up to the separator or the end of the line.
    fn bare(&mut self) -> &'a str {
        let text = self.text;
        let rest = &text[self.at..];
        let end = rest.find([self.separator, '\n']).unwrap_or(rest.len());
        self.at += end;
        &rest[..end]
    }

    /// Reads a quoted field and removes its quotes. Returns `None` and reads nothing if there is none.
    fn quoted(&mut self) -> Option<String> {
        let inside = self.text[self.at..].strip_prefix('"')?;
        let (mut field, mut from, mut doubled) = (String::new(), 0, false);
        let end = loop {
            let found = inside[from..].find(['"', '\n'])? + from;
            if inside[found..].starts_with('\n') && !self.whole {
                return None;
            }
            // A quotation mark that is left open does not take the rest of the table.
            if found > MOST_TEXT_BYTES {
                return None;
            }
            let next = inside[found + 1..].chars().next();
            if inside[found..].starts_with('\n') {
                field.push_str(&inside[from..=found]);
                from = found + 1;
            } else if next == Some('"') {
                field.push_str(&inside[from..=found]);
                doubled = true;
                from = found + 2;
            } else if next.is_none_or(|c| c == self.separator || c == '\n') {
                field.push_str(&inside[from..found]);
                break found + 1;
            } else {
                return None;
            }
        };
        if !(self.whole || doubled || field.contains(self.separator)) {
            return None;
        }
        self.line += inside[..end].matches('\n').count();
        self.at += 1 + end;
        Some(field)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(text: &str, separator: char) -> Vec<Vec<Cow<'_, str>>> {
        let rows = first_rows(text, separator).into_iter();
        rows.map(|row| row.fields).collect()
    }

    #[test]
    fn quotes_are_taken_off_where_they_are_the_tables_own() {
        // LJSpeech: quotations belong to the text.
        let text = "a|\"No,\" he said, \"now.\"|\"No.\"\n\nb|say \"no\"|x\n";
        let expected = [
            ["a", "\"No,\" he said, \"now.\"", "\"No.\""],
            ["b", "say \"no\"", "x"],
        ];
        assert_eq!(fields(text, '|'), expected);
        // All fields are quoted, or only those that need it.
        let text = "\"u0\"|\"He said \"\"no\"\" to me\"|\"x\ny\"\n\"u1\"|\"\"|\"a|b\"";
        let expected = [["u0", "He said \"no\" to me", "x\ny"], ["u1", "", "a|b"]];
        assert_eq!(fields(text, '|'), expected);
        let text = "u0|\"He said \"\"no\"\"\"|\"a|b\"\n";
        assert_eq!(fields(text, '|'), [["u0", "He said \"no\"", "a|b"]]);
        let text = "path,sentence\na.mp3,\"one, \"\"two\"\"\nthree\"\nb.mp3,four\n";
        let expected = [
            ["path", "sentence"],
            ["a.mp3", "one, \"two\"\nthree"],
            ["b.mp3", "four"],
        ];
        assert_eq!(fields(text, ','), expected);
        let lines: Vec<usize> = first_rows(text, ',').iter().map(|row| row.line).collect();
        assert_eq!(lines, [1, 2, 4]);
        // An open quotation ends with its line.
        assert_eq!(fields("a|\"b\nc|d\"\n", '|'), [["a", "\"b"], ["c", "d\""]]);
        assert_eq!(fields("a|\"b", '|'), [["a", "\"b"]]);
    }

    #[test]
    fn rows_have_a_largest_number_of_fields() {
        let text = format!("a{}b\nc|d\n", "|".repeat(MOST_FIELDS + 7));
        let rows = fields(&text, '|');
        assert_eq!((rows[0].len(), &*rows[0][0]), (MOST_FIELDS + 1, "a"));
        assert_eq!(rows[1], ["c", "d"]);
        // The first rows of a large table tell which column is which.
        let row = "|".repeat(MOST_FIELDS - 2) + "|x\n";
        let first = first_rows(&row.repeat(2 * FIRST_FIELDS / MOST_FIELDS), '|').len();
        assert_eq!(first, FIRST_FIELDS.div_ceil(MOST_FIELDS));
    }

    #[test]
    fn rows_longer_than_any_text_are_named_and_not_kept() {
        let long = "x".repeat(MOST_TEXT_BYTES);
        let text = format!("a|{long}\nb|c\n\"{long}\"|\"d\ne|f\n");
        let rows = first_rows(&text, '|');
        let found: Vec<_> = rows
            .iter()
            .map(|row| (row.line, row.fields.len()))
            .collect();
        assert_eq!(found, [(1, 0), (2, 2), (3, 0), (4, 2)]);
    }

    /// What is read is freed meanwhile, in pieces.
    #[test]
    fn rows_of_large_tables_are_those_of_small_ones() {
        let filler = "x".repeat(1000);
        let mut text = "\"id\"|\"text\"\n\n".to_owned();
        let count = 2 * PIECE_BYTES / filler.len() + 100;
        for index in 0..count {
            text += &format!("\"{index}\"|\"a\n{filler}\"\n");
        }
        let mut rows = Rows::new(text.clone(), '|');
        assert_eq!(rows.next_row().unwrap().fields, ["id", "text"]);
        for index in 0..count {
            let row = rows.next_row().unwrap();
            assert_eq!(row.line, 3 + 2 * index);
            assert_eq!(row.fields, [index.to_string(), format!("a\n{filler}")]);
        }
        assert!(rows.next_row().is_none());
        assert!(rows.text.len() < text.len() / 2);
        let mut lines = text.lines();
        let mut last = 0;
        for_each_line(text.clone(), |number, line| {
            assert_eq!((number, Some(line)), (last + 1, lines.next()));
            last = number;
        });
        assert_eq!(last, 2 + 2 * count);
    }

    #[test]
    fn tables_have_a_largest_number_of_lines() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("metadata.csv");
        let mut bounds = SpeechBounds::default();
        let read = |text: &str, bounds| {
            std::fs::write(&path, text).unwrap();
            read_table(&path, bounds, &mut 0)
        };
        assert_eq!(read("a\r\nb\rc", bounds).unwrap(), "a\nb\nc");
        let text = "\n".repeat(1_500_000);
        assert_eq!(read(&text, bounds).unwrap(), text);
        let longer = text + "x";
        let told = read(&longer, bounds).unwrap_err().to_string();
        let part = "has more than 1500000 lines, the most that are read; data.max_lines (of `data \
                    check`: --max-lines) allows more: 1500001 at least";
        assert!(told.ends_with(part), "{told}");
        // Multilingual LibriSpeech's English table has 10.8 million.
        bounds.table_lines += 1;
        assert_eq!(read(&longer, bounds).unwrap(), longer);
    }

    #[test]
    fn separators_and_line_ends_are_found() {
        assert_eq!(plain_lines("a\r\nb\rc\n"), "a\nb\nc\n");
        assert_eq!(plain_lines("\r\r\n\n\r"), "\n\n\n\n");
        for (text, expected) in [
            ("\n a|b,c", '|'),
            ("a b\tc, d", '\t'),
            ("a,b", ','),
            ("a b", '|'),
        ] {
            assert_eq!(separator(text), expected, "{text:?}");
        }
    }
}
