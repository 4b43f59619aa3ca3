//! Long text in pieces that are spoken one after the other.

use latentlm_data::normal_text;

/// Cuts a text that is longer than about `longest` characters: behind a full stop, question mark,
/// exclamation mark, semicolon or paragraph, else behind a comma, a colon or a space.
///
/// Sentences have the [normal form](normal_text). It is taken before the text is cut: otherwise an invisible
/// character or the end of a line would move the cuts, and with them the speech.
pub fn sentences(text: &str, longest: usize) -> Vec<String> {
    let text = paragraphs(text).join("\n");
    let mut sentences = Vec::new();
    let mut rest = text.as_str();
    while !rest.is_empty() {
        let end = cut(rest, longest.max(1));
        let (head, tail) = rest.split_at(end);
        sentences.push(normal_text(head));
        rest = tail.trim_start();
    }
    sentences
}

/// The paragraphs of a text, which empty lines part, each in its normal form.
fn paragraphs(text: &str) -> Vec<String> {
    let mut paragraphs = vec![String::new()];
    for line in text.lines().map(normal_text) {
        match paragraphs.last_mut() {
            Some(last) if !line.is_empty() => {
                if !last.is_empty() {
                    last.push(' ');
                }
                last.push_str(&line);
            }
            _ => paragraphs.push(String::new()),
        }
    }
    paragraphs.retain(|paragraph| !paragraph.is_empty());
    paragraphs
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
            marks.contains(c) && (*c == '\n' || next.is_none_or(char::is_whitespace))
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

    #[test]
    fn what_looks_alike_is_cut_alike() {
        let text = "One two. Three four five! Six, seven eight nine ten eleven";
        let other =
            "\u{feff}One  two. Three\u{a0}four\nfive!\r\nSix, seven\teight nine\r ten eleven \n";
        for longest in [4, 20, 40, text.chars().count()] {
            assert_eq!(sentences(other, longest), sentences(text, longest));
        }
        let composed = "\u{f6}".repeat(8);
        assert_eq!(sentences(&"o\u{308}".repeat(8), 8), [composed]);
        assert!(sentences(" \u{feff}\r\n\n", 8).is_empty());
        // An empty line ends a paragraph, where the text must be cut.
        let lines = "One two\r\n \r\nthree four five";
        assert_eq!(sentences(lines, 20), ["One two", "three four five"]);
        assert_eq!(sentences(lines, 30), ["One two three four five"]);
        let wrapped = "One two\nthree four five";
        assert_eq!(sentences(wrapped, 20), ["One two three four", "five"]);
    }
}
