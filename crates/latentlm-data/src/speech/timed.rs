//! Words of a recording with the times at which they end.

use serde_json::Value;

use crate::normal::normal_text;

/// A word of an utterance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpokenWord {
    /// The word.
    pub text: String,
    /// Index of the first sample after the word.
    pub end: usize,
}

/// A word in the table of a corpus.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct TimedWord {
    text: String,
    /// Time in seconds, from the start of the file, at which the word ends.
    end_s: f64,
}

/// Reads the value of the key `words`: `[{"text": "one", "end": 0.4}, ...]`, in seconds. `None` if it is something
/// else, such as a list of plain words.
///
/// # Errors
/// If a time is negative or before that of an earlier word.
pub(super) fn timed_words(value: &Value) -> Result<Option<Box<[TimedWord]>>, String> {
    let Some(list) = value.as_array().filter(|list| !list.is_empty()) else {
        return Ok(None);
    };
    let mut words = Vec::with_capacity(list.len());
    let mut last_s = 0.0;
    for word in list {
        let (Some(text), Some(end_s)) = (word["text"].as_str(), word["end"].as_f64()) else {
            return Ok(None);
        };
        if end_s < last_s {
            return Err(format!(
                "`words`: `{text}` ends at {end_s} s, before the word before it ({last_s} s)"
            ));
        }
        last_s = end_s;
        let text = normal_text(text);
        // Nothing is said in it.
        if !text.is_empty() {
            words.push(TimedWord { text, end_s });
        }
    }
    Ok(Some(words.into()))
}

/// The words with the samples at which they end.
pub(super) fn spoken_words(words: &[TimedWord], sample_rate_hz: u32) -> Vec<SpokenWord> {
    let spoken = words.iter().map(|word| SpokenWord {
        text: word.text.clone(),
        end: (word.end_s * f64::from(sample_rate_hz)).round() as usize,
    });
    spoken.collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn words_have_times_in_order() {
        let value = json!([{"text": "It", "end": 0.25}, {"text": " was\u{a0}", "end": 0.5}, {"text": "", "end": 1}]);
        let words = timed_words(&value).unwrap().unwrap();
        let spoken = spoken_words(&words, 16_000);
        let said: Vec<(&str, usize)> = spoken
            .iter()
            .map(|word| (word.text.as_str(), word.end))
            .collect();
        assert_eq!(said, [("It", 4000), ("was", 8000)]);
        for other in [
            json!(["It", "was"]),
            json!("It was"),
            json!([]),
            json!([{"text": "a"}]),
        ] {
            assert_eq!(timed_words(&other), Ok(None), "{other}");
        }
        for (first, second) in [(0.5, 0.25), (-0.1, 0.2)] {
            let value = json!([{"text": "a", "end": first}, {"text": "b", "end": second}]);
            let message = timed_words(&value).unwrap_err();
            assert!(message.starts_with("`words`: `"), "{message}");
        }
    }
}
