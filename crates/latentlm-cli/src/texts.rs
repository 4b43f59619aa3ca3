//! The texts that `speak` is given, and what runs of all kinds share in speaking them.

use std::fs::File;
use std::io::{self, IsTerminal};
use std::path::Path;

use latentlm::core::disk::text_within;
use latentlm_args::{MOST_TEXT_BYTES, Speak};
use latentlm_data::DataError;
use latentlm_pipelines::{PipelineError, sentences};

/// Length in characters above which a sentence is cut, if it has a place for it.
const LONGEST_SENTENCE: usize = 120;
/// Silence between sentences, in seconds.
pub(crate) const PAUSE_SECONDS: f64 = 0.25;

/// A text to speak.
pub(crate) struct Text {
    /// Number of its line, from 1; empty lines count too.
    pub(crate) number: usize,
    pub(crate) sentences: Vec<String>,
}

/// The sentences of all texts, in order.
pub(crate) fn sentences_of(texts: &[Text]) -> Vec<String> {
    let mut all = Vec::new();
    for text in texts {
        all.extend(text.sentences.iter().cloned());
    }
    all
}

/// The texts; empty ones are left out. Without --each, all input is one text.
pub(crate) fn texts(args: &Speak) -> Result<Vec<Text>, DataError> {
    let words = words(args)?;
    let mut texts: Vec<Text> = Vec::new();
    if args.each {
        for (line, number) in words.iter().flat_map(|text| text.lines()).zip(1..) {
            texts.push(Text {
                number,
                sentences: sentences(line, LONGEST_SENTENCE),
            });
        }
    } else {
        let mut all: Vec<String> = Vec::new();
        for text in &words {
            all.extend(sentences(text, LONGEST_SENTENCE));
        }
        texts.push(Text {
            number: 1,
            sentences: all,
        });
    }
    texts.retain(|text| !text.sentences.is_empty());
    Ok(texts)
}

fn words(args: &Speak) -> Result<Vec<String>, DataError> {
    let unread = |path: &Path| {
        let path = path.to_owned();
        move |source: io::Error| DataError::Io {
            action: "read",
            path,
            source,
        }
    };
    if !args.text.is_empty() {
        return Ok(args.text.clone());
    }
    if let Some(path) = &args.file {
        let text = File::open(path).and_then(|file| text_within(file, MOST_TEXT_BYTES));
        return Ok(vec![text.map_err(unread(path))?]);
    }
    let stdin = io::stdin();
    if stdin.is_terminal() {
        let reason = "there is nothing to say: give --text, --file, or text on standard input";
        let reason = reason.into();
        return Err(DataError::Text { reason });
    }
    let text = text_within(stdin, MOST_TEXT_BYTES);
    Ok(vec![text.map_err(unread(Path::new("standard input")))?])
}

pub(crate) fn unwritten(args: &Speak, source: io::Error) -> PipelineError {
    PipelineError::Data(DataError::Io {
        action: "write",
        path: args.out.clone(),
        source,
    })
}
