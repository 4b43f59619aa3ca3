//! A small lexer for Rust, enough to count braces: it replaces comments, strings and character literals by
//! spaces, and keeps line breaks.

/// A function found in blanked source.
pub struct Function {
    pub name: String,
    /// Line of the `fn`, from 1.
    pub line: usize,
    /// Lines from the `fn` to the closing brace.
    pub lines: usize,
}

/// Replaces comments and literals by spaces; the number of lines stays the same.
pub fn blank(source: &str) -> String {
    let mut rest = source;
    let mut out = String::with_capacity(source.len());
    while let Some(first) = rest.chars().next() {
        let after_word = out.ends_with(|c: char| c.is_alphanumeric() || c == '_');
        let length = skipped(rest, after_word);
        if length == 0 {
            out.push(first);
            rest = &rest[first.len_utf8()..];
        } else {
            out.extend(
                rest[..length]
                    .chars()
                    .map(|c| if c == '\n' { c } else { ' ' }),
            );
            rest = &rest[length..];
        }
    }
    out
}

/// Length in bytes of the comment or literal at the start of `rest`; 0 if it starts with code.
fn skipped(rest: &str, after_word: bool) -> usize {
    if rest.starts_with("//") {
        return rest.find('\n').unwrap_or(rest.len());
    }
    if rest.starts_with("/*") {
        return block_comment(rest);
    }
    if rest.starts_with('\'') {
        return character(rest);
    }
    let prefix = ["", "b", "c"].into_iter().find(|p| {
        (p.is_empty() || !after_word)
            && rest
                .strip_prefix(p)
                .is_some_and(|tail| tail.starts_with('"'))
    });
    if let Some(prefix) = prefix {
        return prefix.len() + quoted(&rest[prefix.len()..], '"');
    }
    if after_word { 0 } else { raw_string(rest) }
}

/// Length in bytes of a block comment, which may be nested.
fn block_comment(rest: &str) -> usize {
    let bytes = rest.as_bytes();
    let (mut depth, mut at) = (0usize, 0);
    while at < bytes.len() {
        match bytes.get(at..at + 2) {
            Some(b"/*") => (depth, at) = (depth + 1, at + 2),
            Some(b"*/") => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            break;
        }
    }
    at
}

/// Length in bytes of a literal between two `quote`s, with escapes.
fn quoted(rest: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, c) in rest.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            c if c == quote => return at + c.len_utf8(),
            _ => {}
        }
    }
    rest.len()
}

/// Length in bytes of a character literal such as `'x'` or `'\n'`; 0 for a lifetime such as `'a`.
fn character(rest: &str) -> usize {
    let mut chars = rest.char_indices().skip(1);
    match (chars.next(), chars.next()) {
        (Some((_, '\\')), _) => quoted(rest, '\''),
        (Some(_), Some((at, '\''))) => at + 1,
        _ => 0,
    }
}

/// Length in bytes of a raw string: `r"..."`, `r#"..."#` or `br"..."`.
fn raw_string(rest: &str) -> usize {
    let tail = rest.trim_start_matches(['b', 'c']);
    let Some(tail) = tail
        .strip_prefix('r')
        .filter(|_| rest.len() - tail.len() <= 1)
    else {
        return 0;
    };
    let hashes = tail.len() - tail.trim_start_matches('#').len();
    if !tail[hashes..].starts_with('"') {
        return 0;
    }
    let start = rest.len() - tail.len() + hashes + 1;
    let close = format!("\"{}", "#".repeat(hashes));
    rest[start..]
        .find(&close)
        .map_or(rest.len(), |at| start + at + close.len())
}

/// The functions of blanked source that have a body.
pub fn functions(blanked: &str) -> Vec<Function> {
    let mut found = Vec::new();
    for (at, _) in blanked.match_indices("fn ") {
        let before = blanked[..at].chars().next_back();
        let name: String = blanked[at + 3..]
            .chars()
            .take_while(|c| c.is_alphanumeric() || *c == '_')
            .collect();
        if name.is_empty() || before.is_some_and(|c| c.is_alphanumeric() || c == '_') {
            continue;
        }
        if let Some(length) = body_end(&blanked[at..]) {
            found.push(Function {
                name,
                line: blanked[..at].matches('\n').count() + 1,
                lines: blanked[at..at + length].matches('\n').count() + 1,
            });
        }
    }
    found
}

/// Length in bytes from a `fn` to the closing brace of its body; `None` for a signature without a body.
/// Braces of const generics (`Foo<{ N }>`) in a signature are always inside `()`, `[]` or `<>`.
fn body_end(from_fn: &str) -> Option<usize> {
    let mut nested = 0usize;
    let mut braces = 0usize;
    let mut previous = ' ';
    for (at, c) in from_fn.char_indices() {
        match c {
            '(' | '[' => nested += 1,
            ')' | ']' => nested = nested.saturating_sub(1),
            '<' if braces == 0 => nested += 1,
            '>' if braces == 0 && previous != '-' => nested = nested.saturating_sub(1),
            ';' if nested == 0 && braces == 0 => return None,
            '{' if braces > 0 || nested == 0 => braces += 1,
            '}' if braces == 1 => return Some(at + 1),
            '}' => braces = braces.saturating_sub(1),
            _ => {}
        }
        previous = c;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn literals_and_comments_are_blanked() {
        let cases = [
            (r#"a("{}"); b"#, "a(    ); b"),
            (r##"r#"{"}"#+1"##, "        +1"),
            ("x // {\ny", "x     \ny"),
            ("/*{/*{*/*/y", "          y"),
            ("'{' '\\'' &'a str", "         &'a str"),
            ("[b\"{\", br\"{\", bar\"\"]", "[    ,      , bar  ]"),
        ];
        for (source, expected) in cases {
            assert_eq!(blank(source), expected, "{source}");
        }
    }

    #[test]
    fn functions_are_measured() {
        let source = "\
trait A {
    fn signature(x: [u8; 3]) -> B<{ 1 + 1 }>;
}
pub fn one() { \"}\"; }
fn three(f: impl Fn(u8) -> u8) -> u8 {
    if f(1) < 2 { 1 } else { 2 }
}
";
        let found: Vec<_> = functions(&blank(source))
            .into_iter()
            .map(|f| (f.name, f.line, f.lines))
            .collect();
        assert_eq!(found, [("one".into(), 4, 1), ("three".into(), 5, 3)]);
    }
}
