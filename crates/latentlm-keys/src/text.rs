//! Prepares text from the user for error messages.

/// Largest number of characters of user text in a message.
const LONGEST: usize = 120;

/// Escapes control characters, which could clear the terminal or hide a part of the message.
///
/// ```
/// assert_eq!(latentlm_keys::escaped("a\u{1b}[2J\tb"), "a\\u{1b}[2J\\tb");
/// ```
pub fn escaped(text: &str) -> String {
    without_controls(text, &[])
}

/// Escapes control characters, which names of files and classes can hold, but for line breaks and tabs.
///
/// ```
/// assert_eq!(latentlm_keys::printable("a\u{1b}[2J\tb"), "a\\u{1b}[2J\tb");
/// ```
pub fn printable(text: &str) -> String {
    without_controls(text, &['\n', '\t'])
}

/// The text with its control characters escaped, except for some.
fn without_controls(text: &str, kept: &[char]) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() && !kept.contains(&c) {
            out.extend(c.escape_default());
        } else {
            out.push(c);
        }
    }
    out
}

/// The beginning of a text, escaped, for an error message.
pub fn shown(text: &str) -> String {
    let text = escaped(text);
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text,
    }
}

/// Joins the lines of a message.
pub(crate) fn one_line(message: &str) -> String {
    message.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_texts_are_cut_between_characters() {
        assert_eq!(shown("lm.width=3"), "lm.width=3");
        assert_eq!(shown("a\nb"), "a\\nb");
        let long = "ü".repeat(LONGEST + 1);
        assert_eq!(shown(&long), "ü".repeat(LONGEST) + "...");
    }
}
