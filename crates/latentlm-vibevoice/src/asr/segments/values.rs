//! Keys and values of the objects in an answer.

/// Something that was said.
#[derive(Debug, Clone, PartialEq)]
pub struct TranscriptSegment {
    /// Where it begins, in seconds.
    pub start: f64,
    /// Where it ends, in seconds; not before it begins.
    pub end: f64,
    /// Who said it, as the model calls them; `None` for sounds that nobody says.
    pub speaker: Option<String>,
    /// The words.
    pub text: String,
}

/// Members of an object so far.
#[derive(Debug, Default)]
pub(super) struct Object {
    pub(super) key: Key,
    start: Option<f64>,
    end: Option<f64>,
    speaker: Option<String>,
    text: Option<String>,
    /// Whether a key of a segment was there.
    pub(super) is_known: bool,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) enum Key {
    Start,
    End,
    Speaker,
    Content,
    #[default]
    Other,
}

impl Key {
    pub(super) fn of(name: &str) -> Self {
        match name.trim().to_lowercase().replace('_', " ").as_str() {
            "start" | "start time" => Self::Start,
            "end" | "end time" => Self::End,
            "speaker" | "speaker id" => Self::Speaker,
            "content" | "text" => Self::Content,
            _ => Self::Other,
        }
    }
}

impl Object {
    /// Takes the value of the last key.
    pub(super) fn take(&mut self, value: &str) {
        match self.key {
            Key::Start => self.start = seconds(value),
            Key::End => self.end = seconds(value),
            Key::Speaker => self.speaker = speaker(value),
            Key::Content => self.text = Some(value.to_owned()),
            Key::Other => {}
        }
        self.key = Key::Other;
    }

    /// The segment, if words and times are there.
    pub(super) fn segment(self) -> Option<TranscriptSegment> {
        let start = self.start?;
        Some(TranscriptSegment {
            start,
            end: self.end?.max(start),
            speaker: self.speaker,
            text: self.text?,
        })
    }
}

/// Seconds, written as such or as `minutes:seconds` or `hours:minutes:seconds`.
fn seconds(value: &str) -> Option<f64> {
    let mut all = 0.0;
    for part in value.trim().trim_end_matches('s').split(':') {
        let part: f64 = part.trim().parse().ok()?;
        if !part.is_finite() || part < 0.0 {
            return None;
        }
        all = all * 60.0 + part;
    }
    all.is_finite().then_some(all)
}

/// A speaker's name, if there is one.
fn speaker(value: &str) -> Option<String> {
    let name = value.trim();
    let name = name.strip_prefix("Speaker ").unwrap_or(name).trim();
    let nobody = ["", "n/a", "na", "none", "null", "unknown"];
    let is_nobody = nobody.contains(&name.to_lowercase().as_str());
    (!is_nobody).then(|| name.to_owned())
}

/// A text without escapes. Those that JSON does not know stay as they are.
pub(super) fn unescaped(raw: &str) -> String {
    let mut json = String::with_capacity(raw.len() + 2);
    json.push('"');
    let mut signs = raw.chars().peekable();
    while let Some(sign) = signs.next() {
        let known = signs
            .peek()
            .is_some_and(|next| "\"\\/bfnrtu".contains(*next));
        match sign {
            '\\' if known => {
                json.push(sign);
                json.extend(signs.next());
            }
            '\\' | '"' => json.extend(['\\', sign]),
            sign if (sign as u32) < 0x20 => json.push_str(&format!("\\u{:04x}", sign as u32)),
            sign => json.push(sign),
        }
    }
    json.push('"');
    serde_json::from_str(&json).unwrap_or_else(|_| raw.to_owned())
}
