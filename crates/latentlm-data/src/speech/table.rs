//! Reader of tables as they are found in speech corpora: columns separated by bars, tabs or commas, with or
//! without quotes, with any line ends.

/// A row of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Row {
    /// Number of its first line, from 1.
    pub(super) line: usize,
    pub(super) fields: Vec<String>,
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
pub(super) fn rows(text: &str, separator: char) -> Vec<Row> {
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
        let fields = reader.row();
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

impl Reader<'_> {
    fn row(&mut self) -> Vec<String> {
        let mut fields = Vec::new();
        loop {
            let field = self.quoted().unwrap_or_else(|| self.bare());
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
    fn bare(&mut self) -> String {
        let rest = &self.text[self.at..];
        let end = rest.find([self.separator, '\n']).unwrap_or(rest.len());
        self.at += end;
        rest[..end].to_owned()
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

    fn fields(text: &str, separator: char) -> Vec<Vec<String>> {
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
