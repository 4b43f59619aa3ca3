//! Reader of comma-separated values (RFC 4180). Semicolons or tabs are the separator if the first line
//! has more of them than commas.

/// The column names, from the first line.
pub(crate) fn header(text: &str) -> Vec<String> {
    let first = rows(text.lines().next().unwrap_or_default())
        .into_iter()
        .next();
    let names = first.and_then(|(_, row)| row.ok()).unwrap_or_default();
    names.iter().map(|name| name.trim().to_owned()).collect()
}

/// The rows with the numbers of their first lines, the header included. Empty lines are skipped.
pub(crate) fn rows(text: &str) -> Vec<(usize, Result<Vec<String>, String>)> {
    let first = text.lines().next().unwrap_or_default();
    let count = |separator: char| first.matches(separator).count();
    let separator = [',', ';', '\t']
        .into_iter()
        .rev()
        .max_by_key(|&separator| count(separator))
        .unwrap_or(',');
    let mut rows = Vec::new();
    let mut row = Row::new(1);
    let mut line = 1;
    let mut characters = text.chars().peekable();
    while let Some(character) = characters.next() {
        line += usize::from(character == '\n');
        match (character, row.quoted) {
            ('"', true) if characters.peek() == Some(&'"') => {
                row.cell.extend(characters.next());
            }
            ('"', true) => row.quoted = false,
            (other, true) => row.cell.push(other),
            ('"', false) if row.cell.is_empty() => row.quoted = true,
            ('\n', false) => {
                rows.extend(std::mem::replace(&mut row, Row::new(line)).end());
            }
            ('\r', false) if matches!(characters.peek(), Some('\n') | None) => {}
            (other, false) if other == separator => row.next_cell(),
            (other, false) => row.cell.push(other),
        }
    }
    rows.extend(row.end());
    rows
}

struct Row {
    line: usize,
    cells: Vec<String>,
    cell: String,
    quoted: bool,
}

impl Row {
    fn new(line: usize) -> Self {
        Self {
            line,
            cells: Vec::new(),
            cell: String::new(),
            quoted: false,
        }
    }

    fn next_cell(&mut self) {
        self.cells.push(std::mem::take(&mut self.cell));
    }

    /// The finished row with its line number; `None` if it is empty.
    fn end(mut self) -> Option<(usize, Result<Vec<String>, String>)> {
        if self.quoted {
            let reason = "has a quotation mark that is not closed".to_owned();
            return Some((self.line, Err(reason)));
        }
        self.next_cell();
        let empty = self.cells.len() == 1 && self.cells[0].trim().is_empty();
        (!empty).then_some((self.line, Ok(self.cells)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cells(text: &str) -> Vec<(usize, Vec<String>)> {
        let rows = rows(text).into_iter();
        rows.map(|(line, row)| (line, row.unwrap())).collect()
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
        let rows = rows("a\n1\n\"x\n2\n");
        let (line, row) = rows.last().unwrap();
        assert_eq!(*line, 3);
        assert!(row.as_ref().unwrap_err().contains("not closed"));
    }
}
