//! Long text in pieces that are spoken one after the other.

/// Cuts a text that is longer than about `longest` characters: behind a full stop, question mark,
/// exclamation mark, semicolon or line, else behind a comma, a colon or a space.
pub fn sentences(text: &str, longest: usize) -> Vec<String> {
    let mut sentences = Vec::new();
    let mut rest = text.trim();
    while !rest.is_empty() {
        let end = cut(rest, longest.max(1));
        let (head, tail) = rest.split_at(end);
        sentences.push(head.trim().to_owned());
        rest = tail.trim_start();
    }
    sentences
}

/// Where the first sentence ends, a byte index.
fn cut(text: &str, longest: usize) -> usize {
    let Some((limit, _)) = text.char_indices().nth(longest) else {
        return text.len();
    };
    let head = &text[..limit];
    let behind_last = |marks: &[char]| {
        let found = head.char_indices().rev().find(|(at, c)| {
            let next = text[at + c.len_utf8()..].chars().next();
            marks.contains(c) && next.is_none_or(char::is_whitespace)
        });
        found.map(|(at, c)| at + c.len_utf8())
    };
    behind_last(&['.', '?', '!', ';', '\n'])
        .or_else(|| behind_last(&[',', ':']))
        .or_else(|| head.rfind(char::is_whitespace).filter(|at| *at > 0))
        .unwrap_or(limit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_text_is_cut_where_one_breathes() {
        let text = "One two. Three four five! Six, seven eight nine ten eleven";
        let got = sentences(text, 20);
        assert_eq!(
            got,
            [
                "One two.",
                "Three four five!",
                "Six,",
                "seven eight nine",
                "ten eleven"
            ]
        );
        assert_eq!(sentences("  ", 20), Vec::<String>::new());
        assert_eq!(sentences("short", 20), ["short"]);
        assert_eq!(sentences("ααααα βββββ", 7), ["ααααα", "βββββ"]);
        assert_eq!(sentences("abcdefghij", 4), ["abcd", "efgh", "ij"]);
        assert_eq!(
            sentences("3.5 is more than it", 8),
            ["3.5 is", "more", "than it"]
        );
    }
}
