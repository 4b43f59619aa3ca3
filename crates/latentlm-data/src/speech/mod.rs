//! Speech: sound files, datasets of recordings with transcripts, utterances composed of words.

mod audio;
mod compose;
mod corpus;
mod dataset;
mod loudness;

pub use audio::{Audio, WavStream, finish_wav_stream, read_audio, wav_bytes, write_wav};
pub use compose::{Composed, Composer, Composition};
pub use dataset::{Skipped, SpeechDataset, SpeechSpec, Utterance};
pub use loudness::{normalise, trim_silence};
