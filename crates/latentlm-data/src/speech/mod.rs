//! Speech data: sound files, datasets of recordings with transcripts, utterances composed of word clips,
//! and corpora synthesized with `espeak-ng`.

mod audio;
mod check;
mod columns;
mod compose;
mod corpus;
mod dataset;
mod espeak;
mod finder;
mod loudness;
mod mixer;
mod riff;
mod table;
mod tree;
mod vocabulary;
mod wav;

pub use crate::skipped::Skipped;
pub use audio::{Audio, read_audio, read_audio_within};
pub use check::{SpeechReport, check_speech, check_speech_within};
pub use compose::{Composed, Composer, Composition, SpokenWord};
pub use corpus::SpeechBounds;
pub use dataset::{SpeechDataset, SpeechSpec, Utterance};
pub use espeak::{EspeakCorpus, EspeakOptions, espeak_corpus, read_sentences};
pub use loudness::{normalise, trim_silence};
pub use mixer::SoundLimits;
pub use wav::{GrowingWav, WavFile, WavStream, finish_wav_stream, wav_bytes, write_wav};
