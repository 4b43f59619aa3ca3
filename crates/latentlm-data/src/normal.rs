//! Text normalization, the same for training and inference.

use unicode_normalization::UnicodeNormalization;

/// Written by some editors at the start of a file; found inside a text where files were joined.
const BYTE_ORDER_MARK: char = '\u{feff}';

/// Normalizes a text for the tokenizer: composed characters (Unicode NFC), each run of white space
/// (line ends, tabs, no-break spaces) replaced by one space, no space at the ends, no byte order marks.
/// Case, digits and punctuation stay as they are.
///
/// Without this, an invisible character would change the tokens, and with them the speech. Normalizing
/// twice gives the same as once.
///
/// ```
/// use latentlm_data::normal_text;
///
/// assert_eq!(normal_text("\u{feff}Cafe\u{301}\u{a0}at \r\n 9 "), "Caf\u{e9} at 9");
/// ```
pub fn normal_text(text: &str) -> String {
    let composed: String = text
        .chars()
        .filter(|c| *c != BYTE_ORDER_MARK)
        .nfc()
        .collect();
    let mut normal = String::with_capacity(composed.len());
    for word in composed.split_whitespace() {
        if !normal.is_empty() {
            normal.push(' ');
        }
        normal.push_str(word);
    }
    normal.shrink_to_fit();
    normal
}

/// A word in lower case without surrounding punctuation; `None` if nothing is left.
///
/// ```
/// use latentlm_data::plain_word;
///
/// assert_eq!(plain_word("\"Don't!").as_deref(), Some("don't"));
/// assert_eq!(plain_word("..."), None);
/// ```
pub fn plain_word(word: &str) -> Option<String> {
    let word = word.trim_matches(|c: char| !c.is_alphanumeric());
    (!word.is_empty()).then(|| word.to_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_looks_alike_is_alike() {
        for (raw, expected) in [
            ("three five", "three five"),
            ("\u{feff}three five", "three five"),
            ("three\u{feff} five\u{feff}", "three five"),
            ("three\r\nfive\r", "three five"),
            (" three \t\u{a0}\u{202f}\u{3000}five\u{2028}", "three five"),
            ("\u{85}three\u{2003}five", "three five"),
            ("Gro\u{308}\u{df}e", "Gr\u{f6}\u{df}e"),
            ("\u{212b}ngstro\u{308}m", "\u{c5}ngstr\u{f6}m"),
            ("\u{1112}\u{1161}\u{11ab}", "\u{d55c}"),
            // Compatibility characters stay: they are pronounced differently.
            ("x\u{b2} \u{bd} \u{fb01}", "x\u{b2} \u{bd} \u{fb01}"),
            // Case and digits stay as written.
            ("NASA 7", "NASA 7"),
            (" \r\n\u{feff}", ""),
        ] {
            let normal = normal_text(raw);
            assert_eq!(normal, expected, "{raw:?}");
            assert_eq!(normal_text(&normal), normal, "{raw:?} once more");
        }
    }
}
