//! Speech: sound files, datasets of recordings with transcripts, utterances composed of words,
//! corpora that a program speaks.

mod audio;
mod check;
mod compose;
mod corpus;
mod dataset;
mod espeak;
mod loudness;
mod vocabulary;
mod wav;

pub use audio::{Audio, read_audio};
pub use check::{SpeechReport, check_speech};
pub use compose::{Composed, Composer, Composition, SpokenWord};
pub use dataset::{Skipped, SpeechDataset, SpeechSpec, Utterance};
pub use espeak::{EspeakCorpus, EspeakOptions, espeak_corpus, read_sentences};
pub use loudness::{normalise, trim_silence};
pub use wav::{WavFile, WavStream, finish_wav_stream, wav_bytes, write_wav};
