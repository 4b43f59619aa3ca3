//! Reader of comma-separated values (RFC 4180). Semicolons or tabs are the separator if the first line
//! has more of them than commas.

use std::iter::Peekable;
use std::str::Chars;

/// Largest number of cells of a row: an empty cell takes more memory than its comma.
const MOST_CELLS: usize = 4096;

/// The column names, from the first line.
pub(crate) fn header(text: &str) -> Vec<String> {
    let first = rows(text.lines().next().unwrap_or_default()).next();
    let names = first.and_then(|(_, row)| row.ok()).unwrap_or_default();
    names.iter().map(|name| name.trim().to_owned()).collect()
}

/// The rows, the header included; one at a time is in memory. Empty lines are skipped.
pub(crate) fn rows(text: &str) -> Rows<'_> {
    let first = text.lines().next().unwrap_or_default();
    let separator = [',', ';', '\t']
        .into_iter()
        .rev()
        .max_by_key(|&separator| first.matches(separator).count())
        .unwrap_or(',');
    Rows {
        characters: text.chars().peekable(),
        separator,
        line: 1,
    }
}

/// The rows of a text. Each has the number of its first line.
pub(crate) struct Rows<'a> {
    characters: Peekable<Chars<'a>>,
    separator: char,
    line: usize,
}

impl Iterator for Rows<'_> {
    type Item = (usize, Result<Vec<String>, String>);

    fn next(&mut self) -> Option<Self::Item> {
        while self.characters.peek().is_some() {
            let row = self.row();
            if row.is_some() {
                return row;
            }
        }
        None
    }
}

impl Rows<'_> {
    /// Reads up to the end of a row; `None` if it is empty.
    fn row(&mut self) -> Option<(usize, Result<Vec<String>, String>)> {
        let mut row = Row::new(self.line);
        while let Some(character) = self.characters.next() {
            self.line += usize::from(character == '\n');
            match (character, row.quoted) {
                ('"', true) if self.characters.peek() == Some(&'"') => {
                    row.cell.extend(self.characters.next());
                }
                ('"', true) => row.quoted = false,
                (other, true) => row.cell.push(other),
                ('"', false) if row.cell.is_empty() => row.quoted = true,
                ('\n', false) => break,
                ('\r', false) if matches!(self.characters.peek(), Some('\n') | None) => {}
                (other, false) if other == self.separator => row.next_cell(),
                (other, false) => row.cell.push(other),
            }
        }
        row.end()
    }
}

struct Row {
    line: usize,
    cells: Vec<String>,
    cell: String,
    quoted: bool,
    /// Whether it has more cells than are kept.
    is_too_wide: bool,
}

impl Row {
    fn new(line: usize) -> Self {
        Self {
            line,
            cells: Vec::new(),
            cell: String::new(),
            quoted: false,
            is_too_wide: false,
        }
    }

    fn next_cell(&mut self) {
        let cell = std::mem::take(&mut self.cell);
        if self.cells.len() < MOST_CELLS {
            self.cells.push(cell);
        } else {
            self.is_too_wide = true;
        }
    }

    /// The finished row with its line number; `None` if it is empty.
    fn end(mut self) -> Option<(usize, Result<Vec<String>, String>)> {
        if self.quoted {
            let reason = "has a quotation mark that is not closed".to_owned();
            return Some((self.line, Err(reason)));
        }
        self.next_cell();
        if self.is_too_wide {
            let reason = format!("has more than {MOST_CELLS} cells, the most that are read");
            return Some((self.line, Err(reason)));
        }
        let empty = self.cells.len() == 1 && self.cells[0].trim().is_empty();
        (!empty).then_some((self.line, Ok(self.cells)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cells(text: &str) -> Vec<(usize, Vec<String>)> {
        rows(text).map(|(line, row)| (line, row.unwrap())).collect()
    }

    #[test]
    fn rows_are_read_as_they_were_written() {
        let text = "a,b\r\n1,\"x, \"\"y\"\"\nz\"\n\n\"\",2\n";
        let expected = [
            (1, vec!["a".to_owned(), "b".into()]),
            (2, vec!["1".to_owned(), "x, \"y\"\nz".into()]),
            (5, vec![String::new(), "2".into()]),
        ];
        assert_eq!(cells(text), expected);
        assert_eq!(header(text), ["a", "b"]);
        assert!(cells("").is_empty() && header("").is_empty());
    }

    #[test]
    fn other_separators_are_seen_in_the_first_line() {
        assert_eq!(cells("a;b\n1,5;2")[1].1, ["1,5", "2"]);
        assert_eq!(cells("a\tb, c\td\n1\t2\t3")[1].1, ["1", "2", "3"]);
        assert_eq!(header("one"), ["one"]);
    }

    #[test]
    fn an_open_quotation_mark_is_named_by_its_line() {
        let (line, row) = rows("a\n1\n\"x\n2\n").last().unwrap();
        assert_eq!(line, 3);
        assert!(row.unwrap_err().contains("not closed"));
    }

    #[test]
    fn wide_rows_are_named_and_not_kept() {
        let text = format!("a,b\n{}\n1,2\n", ",".repeat(MOST_CELLS));
        let rows: Vec<_> = rows(&text).collect();
        assert_eq!(rows.len(), 3);
        let told = rows[1].1.as_ref().unwrap_err();
        assert_eq!(told, "has more than 4096 cells, the most that are read");
        assert_eq!(rows[2], (3, Ok(vec!["1".to_owned(), "2".to_owned()])));
        // A row of as many cells as there may be.
        let most = ",".repeat(MOST_CELLS - 1);
        assert_eq!(cells(&most)[0].1.len(), MOST_CELLS);
    }
}
