//! What a model wrote, read as segments of speech while it comes.
//!
//! A whole answer is `assistant`, a line end, and a JSON list of objects with `Start`, `End`, `Speaker` and
//! `Content`. Models write other things too: quotes that end nothing, an object that never ends, a list that is
//! told again, or no list. So this is no JSON parser: it looks for objects, and a quote ends a text only if what
//! follows could follow a text.

mod lookahead;
mod values;

use std::fmt;

use lookahead::{Shown, begins_segment, ends_text, next_sign};
use values::{Key, Object, unescaped};

pub use values::TranscriptSegment;

/// Copies of segments after which a model is taken to tell the same for ever.
const MOST_COPIES: usize = 2;
/// Bytes at the end of an answer that a model which repeats itself has told several times.
const TAIL_BYTES: usize = 1024;
/// Bytes of what is told again at most.
const PERIOD_BYTES: usize = TAIL_BYTES / 4;

/// Why a transcript is not whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CutReason {
    /// The model tells the same again.
    Repeats,
    /// The answer stops within the list.
    Unfinished,
    /// The answer is no list of segments.
    NoSegments,
    /// Parts of the list are no segments.
    Broken {
        /// How many.
        parts: usize,
    },
}

/// Where a transcript ends early, and why.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TranscriptCut {
    /// The end of the last whole segment, in seconds.
    pub seconds: f64,
    /// Why nothing follows.
    pub reason: CutReason,
}

impl fmt::Display for TranscriptCut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.seconds;
        write!(f, "the transcript was cut at {seconds:.2} s: ")?;
        match self.reason {
            CutReason::Repeats => f.write_str("the model repeats itself"),
            CutReason::Unfinished => f.write_str("the model's answer is not finished"),
            CutReason::NoSegments => f.write_str("the model's answer is no list of segments"),
            CutReason::Broken { parts } => {
                write!(f, "parts of the model's answer are no segments: {parts}")
            }
        }
    }
}

/// Reads an answer while it comes, in pieces of any size: the segments do not depend on them.
#[derive(Debug, Default)]
pub struct TranscriptReader {
    /// All that has come.
    answer: String,
    /// Bytes of it that are read.
    at: usize,
    place: Place,
    object: Object,
    segments: Vec<TranscriptSegment>,
    broken: usize,
    copies: usize,
    list: List,
}

/// Where in the answer the reader is. `from` is where a piece begins, in bytes.
#[derive(Debug, Default, Clone, Copy)]
enum Place {
    /// Before, between or behind objects.
    #[default]
    Outside,
    /// In an object, before a key or behind a value.
    Members,
    Key {
        from: usize,
    },
    BehindKey,
    BeforeValue,
    /// In a value without quotes.
    Bare {
        from: usize,
    },
    /// In a value with quotes. `end` is the first quote before a brace, which may have been its end.
    Text {
        from: usize,
        end: Option<usize>,
    },
}

/// How far the list has come.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum List {
    #[default]
    None,
    Open,
    Closed,
}

impl TranscriptReader {
    /// Takes more of the answer. Returns the segments that have become whole.
    pub fn push(&mut self, text: &str) -> &[TranscriptSegment] {
        let known = self.segments.len();
        self.answer.push_str(text);
        self.read(false);
        &self.segments[known..]
    }

    /// Ends the answer. Returns the segments that have become whole by that.
    pub fn finish(&mut self) -> &[TranscriptSegment] {
        let known = self.segments.len();
        self.read(true);
        // What could have ended a text has, as nothing better came.
        while self.close_early() {
            self.read(true);
        }
        &self.segments[known..]
    }

    /// All segments so far.
    pub fn segments(&self) -> &[TranscriptSegment] {
        &self.segments
    }

    /// The answer as it came, without the line that names the role.
    pub fn words(&self) -> &str {
        let answer = self.answer.trim();
        let words = answer.strip_prefix("assistant");
        let words = words.filter(|rest| rest.is_empty() || rest.starts_with('\n'));
        words.unwrap_or(answer).trim()
    }

    /// Whether the model tells the same again and again, so that nothing new is to be expected.
    pub fn is_stuck(&self) -> bool {
        self.copies >= MOST_COPIES || repeats(self.answer.as_bytes())
    }

    /// What is missing, if anything. Call it after [`finish`](Self::finish); `is_ended` tells whether the model has
    /// ended its answer by itself.
    pub fn cut(&self, is_ended: bool) -> Option<TranscriptCut> {
        let within = self.list == List::Open || !matches!(self.place, Place::Outside);
        let reason = if self.copies > 0 || (!is_ended && self.is_stuck()) {
            CutReason::Repeats
        } else if !self.segments.is_empty() && (within || !is_ended) {
            CutReason::Unfinished
        } else if self.segments.is_empty() && !self.is_empty_list() {
            CutReason::NoSegments
        } else if self.broken > 0 {
            let parts = self.broken;
            CutReason::Broken { parts }
        } else {
            return None;
        };
        Some(TranscriptCut {
            seconds: self.last_second(),
            reason,
        })
    }

    /// Whether the model says that nobody speaks.
    fn is_empty_list(&self) -> bool {
        let signs = self.words().split_whitespace();
        signs.collect::<String>() == "[]"
    }

    /// Where the last segment ends.
    fn last_second(&self) -> f64 {
        self.segments.last().map_or(0.0, |segment| segment.end)
    }

    /// Reads as far as what has come tells how to; to the end if nothing more comes.
    fn read(&mut self, is_whole: bool) {
        while let Some(sign) = self.answer[self.at..].chars().next() {
            let behind = self.at + sign.len_utf8();
            match self.place {
                Place::Outside => self.outside(sign, behind),
                Place::Members => self.member(sign, behind),
                Place::Key { from } => self.key(from, sign, behind),
                Place::BehindKey => self.behind_key(sign, behind),
                Place::BeforeValue => self.before_value(sign, behind),
                Place::Bare { from } => self.bare(from, sign, behind),
                Place::Text { from, end } => {
                    if !self.text(from, end, is_whole) {
                        return;
                    }
                }
            }
        }
    }

    fn outside(&mut self, sign: char, behind: usize) {
        match sign {
            '{' => {
                self.object = Object::default();
                self.place = Place::Members;
            }
            '[' => self.list = List::Open,
            ']' if self.list == List::Open => self.list = List::Closed,
            _ => {}
        }
        self.at = behind;
    }

    fn member(&mut self, sign: char, behind: usize) {
        match sign {
            '"' => self.place = Place::Key { from: behind },
            '}' => self.close(),
            '{' | '[' | ']' => return self.give_up(),
            _ => {}
        }
        self.at = behind;
    }

    fn key(&mut self, from: usize, sign: char, behind: usize) {
        match sign {
            '"' => {
                self.object.key = Key::of(&self.answer[from..self.at]);
                self.object.is_known |= self.object.key != Key::Other;
                self.place = Place::BehindKey;
            }
            '{' | '}' => return self.give_up(),
            _ => {}
        }
        self.at = behind;
    }

    fn behind_key(&mut self, sign: char, behind: usize) {
        if sign == ':' {
            self.place = Place::BeforeValue;
        } else if !sign.is_whitespace() {
            return self.give_up();
        }
        self.at = behind;
    }

    fn before_value(&mut self, sign: char, behind: usize) {
        match sign {
            '"' => {
                self.place = Place::Text {
                    from: behind,
                    end: None,
                };
            }
            '{' | '[' => return self.give_up(),
            sign if sign.is_whitespace() => {}
            _ => {
                self.place = Place::Bare { from: self.at };
                return;
            }
        }
        self.at = behind;
    }

    fn bare(&mut self, from: usize, sign: char, behind: usize) {
        match sign {
            ',' | '}' => {
                self.object.take(self.answer[from..self.at].trim());
                self.place = Place::Members;
                if sign == '}' {
                    self.close();
                }
            }
            '{' | '[' | ']' | '"' => return self.give_up(),
            _ => {}
        }
        self.at = behind;
    }

    /// Reads on in a text. False if more must come first.
    fn text(&mut self, from: usize, end: Option<usize>, is_whole: bool) -> bool {
        let rest = &self.answer[self.at..];
        let Some(place) = rest.find(['"', '\\', '{']) else {
            self.at = self.answer.len();
            return true;
        };
        let sign = rest.as_bytes()[place];
        self.at += place;
        let behind = self.at + 1;
        let follows = &self.answer[behind..];
        match sign {
            // Whatever follows a backslash is part of the text.
            b'\\' => match follows.chars().next() {
                Some(escaped) => self.at = behind + escaped.len_utf8(),
                None if is_whole => self.at = behind,
                None => return false,
            },
            b'{' => match begins_segment(follows) {
                Shown::NotYet if !is_whole => return false,
                // Another segment begins, so that this one has ended somewhere.
                Shown::Yes if end.is_some() => {
                    self.close_early();
                }
                Shown::Yes => self.give_up(),
                _ => self.at = behind,
            },
            _ => {
                let is_brace = next_sign(follows).is_some_and(|(sign, _)| sign == '}');
                match ends_text(follows) {
                    Shown::NotYet if !is_whole => return false,
                    Shown::Yes => self.end_text(from),
                    Shown::NotYet if is_brace => self.end_text(from),
                    _ if is_brace && end.is_none() => {
                        let end = Some(self.at);
                        self.place = Place::Text { from, end };
                    }
                    _ => {}
                }
                self.at = behind;
            }
        }
        true
    }

    /// The quote at which the reader is ends the text that began at `from`.
    fn end_text(&mut self, from: usize) {
        let value = unescaped(&self.answer[from..self.at]);
        self.object.take(&value);
        self.place = Place::Members;
    }

    /// Ends a text where it may have ended, and goes back there. False if there is no such place.
    fn close_early(&mut self) -> bool {
        let Place::Text {
            from,
            end: Some(end),
        } = self.place
        else {
            return false;
        };
        self.at = end;
        self.end_text(from);
        self.at = end + 1;
        true
    }

    /// The object has ended.
    fn close(&mut self) {
        self.place = Place::Outside;
        let object = std::mem::take(&mut self.object);
        if !object.is_known {
            return;
        }
        match object.segment() {
            Some(segment) if self.segments.contains(&segment) => self.copies += 1,
            Some(segment) => self.segments.push(segment),
            None => self.broken += 1,
        }
    }

    /// The object is none. Reads on from here as if it were outside of it.
    fn give_up(&mut self) {
        self.place = Place::Outside;
        self.broken += usize::from(self.object.is_known);
        self.object = Object::default();
    }
}

/// Whether the end of an answer is one piece, several times.
fn repeats(answer: &[u8]) -> bool {
    let Some(start) = answer.len().checked_sub(TAIL_BYTES) else {
        return false;
    };
    let tail = &answer[start..];
    (1..=PERIOD_BYTES).any(|period| tail[period..] == tail[..TAIL_BYTES - period])
}

#[cfg(test)]
mod tests;
