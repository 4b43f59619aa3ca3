//! Scripts: who says what, in the layouts that people have them in.

use std::collections::BTreeSet;

use latentlm_core::bounds::{TooManyValues, check_values};
use serde_json::{Deserializer, Value};

/// Most speakers of a script: the published models were trained with up to this number.
pub const MOST_SPEAKERS: usize = 4;

/// Most values of a script in JSON: in memory they take many times their text. A turn has 12, so there is room for
/// 80,000.
const MOST_VALUES: usize = 1_000_000;
/// Most things of a kind that are told one by one; the others are counted.
const TOLD: usize = 20;

/// The speaker of a text that names none.
const ONLY_SPEAKER: u32 = 1;

/// What a speaker says before another one does, or before a pause.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Turn {
    /// The speaker's number in the script.
    pub speaker: u32,
    /// The words, on one line.
    pub text: String,
}

/// The turns of a dialogue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Script {
    /// At least one. Following turns of one speaker stay turns.
    pub turns: Vec<Turn>,
    /// One line for each thing that was left out.
    pub warnings: Vec<String>,
}

/// A script that nobody can say.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ScriptError {
    /// No words.
    #[error("the script has no words")]
    NoWords,
    /// More speakers than were trained.
    #[error("the script has {count} speakers; {} can speak at most", MOST_SPEAKERS)]
    TooManySpeakers {
        /// Speakers of the script.
        count: usize,
    },
    /// A number that is too large.
    #[error("line {line} of the script: {number} is too large for the number of a speaker")]
    Number {
        /// Counted from 1.
        line: usize,
        /// The number as it is written.
        number: String,
    },
    /// A script that begins as JSON does, and goes on otherwise.
    #[error("the script is no JSON: {reason}")]
    Json {
        /// What is wrong, and where.
        reason: String,
    },
    /// A JSON script that would take too much memory.
    #[error("the script {0}")]
    Values(#[from] TooManyValues),
    /// An entry of a JSON script that is no turn.
    #[error("turn {turn} of the script {reason}")]
    Entry {
        /// Counted from 1.
        turn: usize,
        /// What is wrong.
        reason: String,
    },
}

impl Script {
    /// Reads a script: lines `Speaker N: words`, where a line without a speaker goes on with the turn above;
    /// a JSON list of objects with `speaker` and `text`, or one such object a line; or plain text, which one
    /// speaker says. A byte order mark and the kind of line ends change nothing. Turns without words are left
    /// out with a warning.
    ///
    /// # Errors
    /// If there are no words or too many speakers, or JSON has another form or too many values.
    pub fn parse(text: &str) -> Result<Self, ScriptError> {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let mut warnings = Vec::new();
        let mut turns = if is_json(text) {
            of_json(text)?
        } else {
            of_lines(text, &mut warnings)?
        };
        let empty = turns.iter().enumerate();
        let mut empty = empty.filter(|(_, turn)| turn.text.is_empty());
        for (index, turn) in empty.by_ref().take(TOLD) {
            let (number, speaker) = (index + 1, turn.speaker);
            warnings.push(format!(
                "turn {number} of the script, of speaker {speaker}, has no words: it is left out"
            ));
        }
        let more = empty.count();
        if more > 0 {
            warnings.push(format!(
                "further turns of the script without words, which are left out: {more}"
            ));
        }
        turns.retain(|turn| !turn.text.is_empty());
        let script = Self { turns, warnings };
        let count = script.speakers().len();
        if count == 0 {
            return Err(ScriptError::NoWords);
        }
        if count > MOST_SPEAKERS {
            return Err(ScriptError::TooManySpeakers { count });
        }
        Ok(script)
    }

    /// Numbers of the speakers, in the order in which they first speak.
    pub fn speakers(&self) -> Vec<u32> {
        let (mut speakers, mut seen) = (Vec::new(), BTreeSet::new());
        for turn in &self.turns {
            if seen.insert(turn.speaker) {
                speakers.push(turn.speaker);
            }
        }
        speakers
    }

    /// The same script with every number lowered by 1, if none is 0: the original repository does so, and only
    /// by 1 (speakers 2 and 4 become 1 and 3).
    pub fn lowered(mut self) -> Self {
        if self.turns.iter().all(|turn| turn.speaker > 0) {
            for turn in &mut self.turns {
                turn.speaker -= 1;
            }
        }
        self
    }
}

/// Whether a text begins as a JSON list of objects or as an object does. Plain text may begin with a bracket:
/// `[laughs]`.
fn is_json(text: &str) -> bool {
    let text = text.trim_start();
    match text.strip_prefix('[') {
        Some(list) => list.trim_start().starts_with(['{', ']']),
        None => text
            .strip_prefix('{')
            .is_some_and(|object| object.trim_start().starts_with(['"', '}'])),
    }
}

fn of_json(text: &str) -> Result<Vec<Turn>, ScriptError> {
    check_values(text.as_bytes(), MOST_VALUES)?;
    let mut turns = Vec::new();
    for value in Deserializer::from_str(text).into_iter::<Value>() {
        let value = value.map_err(|error| ScriptError::Json {
            reason: error.to_string(),
        })?;
        let entries = match value {
            Value::Array(entries) => entries,
            entry => vec![entry],
        };
        for entry in &entries {
            let wrong = |reason| ScriptError::Entry {
                turn: turns.len() + 1,
                reason,
            };
            let turn = turn_of(entry).map_err(wrong)?;
            turns.push(turn);
        }
    }
    Ok(turns)
}

/// An entry `{"speaker": .., "text": ".."}`. The speaker may be a string.
fn turn_of(entry: &Value) -> Result<Turn, String> {
    let speaker: Option<u32> = match &entry["speaker"] {
        Value::Null => return Err("has no `speaker`".into()),
        Value::String(name) => match speaker_line(&format!("{name}:")) {
            Some((digits, _)) => digits.parse().ok(),
            None => name.trim().parse().ok(),
        },
        number => number.as_u64().and_then(|number| number.try_into().ok()),
    };
    let speaker =
        speaker.ok_or_else(|| format!("has `speaker` {}, which is no number", entry["speaker"]))?;
    let text = entry["text"].as_str().ok_or("has no `text`")?;
    let lines = text.lines().map(str::trim);
    let lines: Vec<&str> = lines.filter(|line| !line.is_empty()).collect();
    Ok(Turn {
        speaker,
        text: lines.join(" "),
    })
}

fn of_lines(text: &str, warnings: &mut Vec<String>) -> Result<Vec<Turn>, ScriptError> {
    let mut turns: Vec<Turn> = Vec::new();
    let mut before = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() {
            continue;
        }
        if let Some((digits, words)) = speaker_line(line) {
            let speaker = digits.parse().map_err(|_| ScriptError::Number {
                line: index + 1,
                number: digits.to_owned(),
            })?;
            turns.push(Turn {
                speaker,
                text: words.to_owned(),
            });
        } else if let Some(turn) = turns.last_mut() {
            if !turn.text.is_empty() {
                turn.text.push(' ');
            }
            turn.text.push_str(line);
        } else {
            before.push((index + 1, line));
        }
    }
    if turns.is_empty() && !before.is_empty() {
        let lines: Vec<&str> = before.into_iter().map(|(_, line)| line).collect();
        turns.push(Turn {
            speaker: ONLY_SPEAKER,
            text: lines.join(" "),
        });
        return Ok(turns);
    }
    let more = before.len().saturating_sub(TOLD);
    for (line, _) in before.into_iter().take(TOLD) {
        warnings.push(format!(
            "line {line} of the script stands before the first `Speaker N:`: it is left out"
        ));
    }
    if more > 0 {
        warnings.push(format!(
            "further lines of the script before the first `Speaker N:`, which are left out: {more}"
        ));
    }
    Ok(turns)
}

/// The digits and the words of a line `Speaker 12: words`, in small or capital letters.
fn speaker_line(line: &str) -> Option<(&str, &str)> {
    const SPEAKER: &str = "speaker";
    let (word, rest) = line.split_at_checked(SPEAKER.len())?;
    if !word.eq_ignore_ascii_case(SPEAKER) || !rest.starts_with(char::is_whitespace) {
        return None;
    }
    let (digits, words) = rest.split_once(':')?;
    let digits = digits.trim();
    let numbered = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    numbered.then(|| (digits, words.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn turns(text: &str) -> Vec<(u32, String)> {
        let script = Script::parse(text).unwrap();
        let turns = script.turns.into_iter();
        turns.map(|turn| (turn.speaker, turn.text)).collect()
    }

    fn said(turns: &[(u32, &str)]) -> Vec<(u32, String)> {
        let turns = turns.iter();
        turns.map(|(n, text)| (*n, (*text).to_owned())).collect()
    }

    #[test]
    fn one_dialogue_in_all_layouts() {
        let expected = said(&[(1, "Hello: you."), (12, "Yes."), (12, "Go on")]);
        for text in [
            "Speaker 1: Hello: you.\nSpeaker 12: Yes.\nSpeaker 12: Go on",
            "\u{feff}Speaker 1: Hello: you.\r\n\r\nspeaker 12 :Yes.\r\n  SPEAKER\t12:  Go on \r\n",
            "Speaker 1: Hello:\n you.\n\nSpeaker 12:\nYes.\nSpeaker 12: Go\n\non\n",
            r#"[{"speaker": 1, "text": "Hello: you."}, {"speaker": "12", "text": " Yes.\n"},
                {"speaker": "Speaker 12", "text": "Go\r\non", "more": null}]"#,
            "\u{feff}{\"speaker\": 1, \"text\": \"Hello: you.\"}\r\n{\"text\": \"Yes.\", \"speaker\": 12}\n\n{\"speaker\": 12, \"text\": \"Go on\"}",
        ] {
            assert_eq!(turns(text), expected, "{text}");
            assert!(Script::parse(text).unwrap().warnings.is_empty(), "{text}");
        }
    }

    #[test]
    fn plain_text_has_one_speaker() {
        let expected = said(&[(1, "[laughs] Hello. Speaker one: yes, speakers 1: no")]);
        let text = "[laughs] Hello.\n\nSpeaker one: yes,\r\nspeakers 1: no";
        assert_eq!(turns(text), expected);
    }

    #[test]
    fn typographic_characters_stay() {
        let text = "Speaker 1: it\u{2019}s \u{201c}na\u{ef}ve\u{201d}  \u{4f60}\u{597d}";
        let kept = "it\u{2019}s \u{201c}na\u{ef}ve\u{201d}  \u{4f60}\u{597d}";
        assert_eq!(turns(text), said(&[(1, kept)]));
    }

    #[test]
    fn what_is_left_out_is_told() {
        let text = "Title\nSpeaker 2: One.\nSpeaker 3:\n\nSpeaker 2: Two.";
        let script = Script::parse(text).unwrap();
        assert_eq!(turns(text), said(&[(2, "One."), (2, "Two.")]));
        assert_eq!(script.warnings.len(), 2);
        assert!(script.warnings[0].starts_with("line 1 "));
        assert!(script.warnings[1].starts_with("turn 2 of the script, of speaker 3"));
        assert_eq!(script.speakers(), [2]);
    }

    /// Told one by one, they would take many times the memory of the script.
    #[test]
    fn many_things_that_are_left_out_are_counted() {
        let (lines, turns) = ("x\n".repeat(23), "Speaker 1:\n".repeat(22));
        let text = format!("{lines}{turns}Speaker 1: a");
        let script = Script::parse(&text).unwrap();
        assert_eq!(script.turns.len(), 1);
        assert_eq!(script.warnings.len(), 2 * 21);
        assert!(script.warnings[19].starts_with("line 20 "));
        assert!(script.warnings[20].ends_with("`Speaker N:`, which are left out: 3"));
        assert!(script.warnings[40].starts_with("turn 20 "));
        assert!(script.warnings[41].ends_with("without words, which are left out: 2"));
    }

    #[test]
    fn a_script_of_too_many_values_is_refused_before_it_is_parsed() {
        let turn = r#"{"speaker": 1, "text": "a"},"#;
        let script = |turns: usize| format!("[{}{}]", turn.repeat(turns), &turn[..turn.len() - 1]);
        let error = Script::parse(&script(83_333)).unwrap_err();
        let told = "the script has 1000009 values (a list counts as 2, an object as 8), more than the 1000000 that are \
                    read";
        assert_eq!(error.to_string(), told);
        let read = Script::parse(&script(83_331)).unwrap();
        assert_eq!(read.turns.len(), 83_332);
    }

    #[test]
    fn numbers_are_lowered_where_none_is_zero() {
        let numbers = |text: &str| Script::parse(text).unwrap().lowered().speakers();
        assert_eq!(numbers("Speaker 3: a\nSpeaker 1: b\nSpeaker 3: c"), [2, 0]);
        assert_eq!(numbers("Speaker 2: a\nSpeaker 0: b"), [2, 0]);
        assert_eq!(numbers("a"), [0]);
    }

    #[test]
    fn what_nobody_can_say_is_refused() {
        let message = |text: &str| Script::parse(text).unwrap_err().to_string();
        for nothing in ["", "\u{feff}\r\n ", "Speaker 1:\nSpeaker 2: ", "[]"] {
            assert_eq!(message(nothing), "the script has no words");
        }
        let five = "Speaker 1: a\nSpeaker 2: b\nSpeaker 3: c\nSpeaker 4: d\nSpeaker 5: e";
        assert!(message(five).contains("5 speakers; 4 can"));
        let many: Vec<String> = (0..300_000).map(|n| format!("Speaker {n}: a")).collect();
        assert!(message(&many.join("\n")).contains("300000 speakers; 4 can"));
        assert!(message("a\nSpeaker 99999999999: b").contains("line 2"));
        assert!(message(r#"[{"speaker": 1, "text": "a"}"#).contains("no JSON"));
        assert!(message(r#"[{"text": "a"}]"#).contains("turn 1 of the script has no `speaker`"));
        assert!(message(r#"{"speaker": "Anna", "text": "a"}"#).contains("no number"));
        assert!(message(r#"{"speaker": -1, "text": "a"}"#).contains("no number"));
        let second = "{\"speaker\": 1, \"text\": \"a\"}\n{\"speaker\": 1}";
        assert!(message(second).contains("turn 2 of the script has no `text`"));
    }
}
