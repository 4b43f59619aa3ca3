//! What follows a sign that may end or begin something.

/// Characters of white space that may stand between two signs.
const MOST_SPACES: usize = 64;
/// Characters of a key at most.
const MOST_KEY: usize = 32;

/// Whether what follows shows something, as far as it has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shown {
    Yes,
    No,
    NotYet,
}

/// The first character that is no white space, and what is behind it. `None` if none has come.
pub(super) fn next_sign(text: &str) -> Option<(char, &str)> {
    for (spaces, (at, sign)) in text.char_indices().enumerate() {
        if !sign.is_whitespace() || spaces >= MOST_SPACES {
            return Some((sign, &text[at + sign.len_utf8()..]));
        }
    }
    None
}

/// Whether a quote before `text` ends a value: what follows is a member's key, or the end of an object that another
/// one, the end of the list or nothing follows.
pub(super) fn ends_text(text: &str) -> Shown {
    let Some((sign, behind)) = next_sign(text) else {
        return Shown::NotYet;
    };
    match sign {
        ',' => begins_member(behind),
        '}' => match next_sign(behind) {
            Some((',' | ']' | '{', _)) => Shown::Yes,
            Some(_) => Shown::No,
            None => Shown::NotYet,
        },
        _ => Shown::No,
    }
}

/// Whether a key with its colon follows.
fn begins_member(text: &str) -> Shown {
    let key = match next_sign(text) {
        Some(('"', key)) => key,
        Some(_) => return Shown::No,
        None => return Shown::NotYet,
    };
    for (at, sign) in key.char_indices().take(MOST_KEY) {
        if sign == '"' {
            return match next_sign(&key[at + 1..]) {
                Some((':', _)) => Shown::Yes,
                Some(_) => Shown::No,
                None => Shown::NotYet,
            };
        }
        if !sign.is_alphanumeric() && sign != ' ' && sign != '_' {
            return Shown::No;
        }
    }
    if key.chars().nth(MOST_KEY - 1).is_some() {
        Shown::No
    } else {
        Shown::NotYet
    }
}

/// Whether a brace before `text` begins a segment: the key of its start follows.
pub(super) fn begins_segment(text: &str) -> Shown {
    let key = match next_sign(text) {
        Some(('"', key)) => key,
        Some(_) => return Shown::No,
        None => return Shown::NotYet,
    };
    let first = "Start";
    if key.starts_with(first) {
        Shown::Yes
    } else if first.starts_with(key) {
        Shown::NotYet
    } else {
        Shown::No
    }
}
