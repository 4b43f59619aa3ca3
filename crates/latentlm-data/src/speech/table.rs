//! Reader of tables as they are found in speech corpora: columns separated by bars, tabs or commas, with or
//! without quotes, with any line ends.

use std::borrow::Cow;
use std::path::Path;

use super::clip::SpeechBounds;
use crate::error::DataError;
use crate::walk::read_text;

/// Largest number of lines of a table: a recording takes more memory than a short line.
pub(super) const MOST_LINES: usize = 1_000_000;
/// Largest number of fields of a table: an empty field takes more memory than its separator.
const MOST_FIELDS: usize = 8_000_000;

/// A row of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Row<'a> {
    /// Number of its first line, from 1.
    pub(super) line: usize,
    pub(super) fields: Vec<Cow<'a, str>>,
}

/// Reads a table or transcript, with plain line ends.
///
/// # Errors
/// If the file can't be read, is not UTF-8, or is too large.
pub(super) fn read_table(path: &Path, bounds: SpeechBounds) -> Result<String, DataError> {
    let text = plain_lines(&read_text(path, bounds.table_bytes)?);
    if text.lines().count() > MOST_LINES {
        let reason = format!("has more than {MOST_LINES} lines, the most that are read");
        return Err(DataError::malformed(path, reason));
    }
    Ok(text)
}

/// Checks that the rows of a table fit into memory.
///
/// # Errors
/// If they have too many fields.
pub(super) fn check_fields(path: &Path, text: &str, separator: char) -> Result<(), DataError> {
    if text.matches([separator, '\n']).count() < MOST_FIELDS {
        return Ok(());
    }
    let reason = format!("has {MOST_FIELDS} fields or more, too many to be read");
    Err(DataError::malformed(path, reason))
}

/// Replaces line ends of Windows and of old Macs by `\n`.
pub(super) fn plain_lines(text: &str) -> String {
    text.replace("\r\n", "\n").replace('\r', "\n")
}

/// The separator of the columns, found in the first line that is not empty.
pub(super) fn separator(text: &str) -> char {
    let first = text.lines().find(|line| !line.trim().is_empty());
    let first = first.unwrap_or_default();
    let mut separators = ['|', '\t', ','].into_iter();
    separators.find(|c| first.contains(*c)).unwrap_or('|')
}

/// The rows of a table, without empty ones.
///
/// A field is quoted if it begins and ends with a quote and all quotes inside are doubled. LJSpeech has
/// texts that begin and end with a quotation: those quotes belong to the text. A quoted field may span
/// lines only in comma-separated tables, or if the first field of the table is quoted.
pub(super) fn rows(text: &str, separator: char) -> Vec<Row<'_>> {
    let quoted = text.trim_start().starts_with('"');
    let mut reader = Reader {
        text,
        at: 0,
        line: 1,
        separator,
        // If the first field has no quotes, quotes around a text are part of the text.
        whole: quoted || separator == ',',
    };
    let mut rows = Vec::new();
    while reader.at < text.len() {
        let line = reader.line;
        let mut fields = reader.row();
        fields.shrink_to_fit();
        if fields.iter().any(|field| !field.trim().is_empty()) {
            rows.push(Row { line, fields });
        }
    }
    rows
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
    fn row(&mut self) -> Vec<Cow<'a, str>> {
        let mut fields = Vec::new();
        loop {
            let field: Cow<'a, str> = match self.quoted() {
                Some(field) => field.into(),
                None => self.bare().into(),
            };
            fields.push(field);
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
        rows(text, separator)
            .into_iter()
            .map(|row| row.fields)
            .collect()
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
        let lines: Vec<usize> = rows(text, ',').iter().map(|row| row.line).collect();
        assert_eq!(lines, [1, 2, 4]);
        // An open quotation ends with its line.
        assert_eq!(fields("a|\"b\nc|d\"\n", '|'), [["a", "\"b"], ["c", "d\""]]);
        assert_eq!(fields("a|\"b", '|'), [["a", "\"b"]]);
    }

    /// Separators and line ends count; what is refused was not made into rows.
    #[test]
    fn tables_have_a_largest_number_of_fields() {
        let (row, rest) = ("||||\n", MOST_FIELDS % 5);
        let most = row.repeat(MOST_FIELDS / 5) + &"|".repeat(rest);
        check_fields(Path::new("a"), &most[1..], '|').unwrap();
        let told = check_fields(Path::new("a"), &most, '|').unwrap_err();
        let expected = "a: has 8000000 fields or more, too many to be read";
        assert_eq!(told.to_string(), expected);
        check_fields(Path::new("a"), &most, ',').unwrap();
    }

    #[test]
    fn tables_have_a_largest_number_of_lines() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("metadata.csv");
        let read = |text: &str| {
            std::fs::write(&path, text).unwrap();
            read_table(&path, SpeechBounds::default())
        };
        assert_eq!(read("a\r\nb\rc").unwrap(), "a\nb\nc");
        let text = "\n".repeat(MOST_LINES);
        assert_eq!(read(&text).unwrap(), text);
        let told = read(&(text + "x")).unwrap_err().to_string();
        let part = "has more than 1000000 lines, the most that are read";
        assert!(told.ends_with(part), "{told}");
    }

    #[test]
    fn separators_and_line_ends_are_found() {
        assert_eq!(plain_lines("a\r\nb\rc\n"), "a\nb\nc\n");
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
