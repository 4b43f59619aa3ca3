//! Transcripts as text, JSON and subtitles, segment by segment.

use serde::Serialize;
use serde_json::Value;

use super::segments::TranscriptSegment;

/// How a transcript is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TranscriptFormat {
    /// A line for each segment, or the words as they came if there is none.
    Text,
    /// A list of objects with `start`, `end`, `speaker` and `text`.
    Json,
    /// SubRip subtitles.
    Srt,
}

/// Writes a transcript piece by piece.
#[derive(Debug)]
pub struct TranscriptWriter {
    format: TranscriptFormat,
    written: usize,
}

/// A segment as JSON has it.
#[derive(Serialize)]
struct Line<'a> {
    start: f64,
    end: f64,
    /// A number if it is one, `null` for nobody.
    speaker: Value,
    text: &'a str,
}

impl TranscriptWriter {
    /// A writer that has written nothing.
    pub fn new(format: TranscriptFormat) -> Self {
        Self { format, written: 0 }
    }

    /// What is written for the next segment.
    pub fn segment(&mut self, segment: &TranscriptSegment) -> String {
        self.written += 1;
        match self.format {
            TranscriptFormat::Text => {
                let (start, end) = (segment.start, segment.end);
                format!("[{start:.2} - {end:.2}] {}\n", spoken(segment))
            }
            TranscriptFormat::Json => {
                let begin = if self.written == 1 { "[\n" } else { ",\n" };
                format!("{begin}  {}", object(segment))
            }
            TranscriptFormat::Srt => format!(
                "{}\n{} --> {}\n{}\n\n",
                self.written,
                time(segment.start),
                time(segment.end),
                spoken(segment)
            ),
        }
    }

    /// What is written at the end. `words` is the answer as it came, which [`TranscriptFormat::Text`] shows if there
    /// was no segment.
    pub fn finish(&self, words: &str) -> String {
        match (self.format, self.written) {
            (TranscriptFormat::Json, 0) => "[]\n".to_owned(),
            (TranscriptFormat::Json, _) => "\n]\n".to_owned(),
            (TranscriptFormat::Text, 0) if !words.is_empty() && words != "[]" => {
                format!("{words}\n")
            }
            (TranscriptFormat::Text | TranscriptFormat::Srt, _) => String::new(),
        }
    }
}

fn object(segment: &TranscriptSegment) -> String {
    let speaker = match &segment.speaker {
        Some(name) => match name.parse::<u64>() {
            Ok(number) => Value::from(number),
            Err(_) => Value::from(name.as_str()),
        },
        None => Value::Null,
    };
    let line = Line {
        start: segment.start,
        end: segment.end,
        speaker,
        text: &segment.text,
    };
    // Can't fail: times are finite, keys are strings.
    serde_json::to_string(&line).unwrap_or_default()
}

/// Speaker and words on one line: an empty line would end a subtitle.
fn spoken(segment: &TranscriptSegment) -> String {
    let lines = segment.text.lines().map(str::trim);
    let lines: Vec<&str> = lines.filter(|line| !line.is_empty()).collect();
    let text = lines.join(" ");
    match &segment.speaker {
        Some(name) => format!("Speaker {name}: {text}"),
        None => text,
    }
}

/// A time as `hours:minutes:seconds,milliseconds`.
fn time(seconds: f64) -> String {
    let milliseconds = (seconds * 1000.0).round() as u64;
    let (all_seconds, milliseconds) = (milliseconds / 1000, milliseconds % 1000);
    let (all_minutes, seconds) = (all_seconds / 60, all_seconds % 60);
    let (hours, minutes) = (all_minutes / 60, all_minutes % 60);
    format!("{hours:02}:{minutes:02}:{seconds:02},{milliseconds:03}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn segments() -> [TranscriptSegment; 3] {
        let segment = |start, end, speaker: Option<&str>, text: &str| TranscriptSegment {
            start,
            end,
            speaker: speaker.map(str::to_owned),
            text: text.to_owned(),
        };
        [
            segment(0.0, 1.5, Some("0"), "say \"hi\""),
            segment(1.5, 3599.9996, None, "[Music]"),
            segment(3725.25, 3726.0, Some("Anna"), "two\n\nlines "),
        ]
    }

    fn written(format: TranscriptFormat, segments: &[TranscriptSegment]) -> String {
        let mut writer = TranscriptWriter::new(format);
        let mut all = String::new();
        for segment in segments {
            all.push_str(&writer.segment(segment));
        }
        all + &writer.finish("as it came")
    }

    #[test]
    fn text_has_a_line_for_each() {
        let expected = "[0.00 - 1.50] Speaker 0: say \"hi\"\n[1.50 - 3600.00] [Music]\n\
                        [3725.25 - 3726.00] Speaker Anna: two lines\n";
        assert_eq!(written(TranscriptFormat::Text, &segments()), expected);
        assert_eq!(written(TranscriptFormat::Text, &[]), "as it came\n");
        assert_eq!(
            TranscriptWriter::new(TranscriptFormat::Text).finish("[]"),
            ""
        );
    }

    #[test]
    fn json_is_a_list() {
        let text = written(TranscriptFormat::Json, &segments());
        let expected = serde_json::json!([
            { "start": 0.0, "end": 1.5, "speaker": 0, "text": "say \"hi\"" },
            { "start": 1.5, "end": 3599.9996, "speaker": null, "text": "[Music]" },
            { "start": 3725.25, "end": 3726.0, "speaker": "Anna", "text": "two\n\nlines " },
        ]);
        assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), expected);
        assert_eq!(written(TranscriptFormat::Json, &[]), "[]\n");
    }

    #[test]
    fn subtitles_are_numbered() {
        let expected = "1\n00:00:00,000 --> 00:00:01,500\nSpeaker 0: say \"hi\"\n\n\
                        2\n00:00:01,500 --> 01:00:00,000\n[Music]\n\n\
                        3\n01:02:05,250 --> 01:02:06,000\nSpeaker Anna: two lines\n\n";
        assert_eq!(written(TranscriptFormat::Srt, &segments()), expected);
        assert_eq!(written(TranscriptFormat::Srt, &[]), "");
    }
}
