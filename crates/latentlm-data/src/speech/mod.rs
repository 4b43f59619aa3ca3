//! Speech data: datasets of recordings with transcripts, and utterances composed of word clips. Sound files are read and written by [`latentlm_media::sound`].

mod check;
mod clip;
mod columns;
mod compose;
mod corpus;
mod dataset;
mod files;
mod finder;
mod sentences;
mod table;
mod timed;
mod tree;
mod vocabulary;

pub use crate::skipped::Skipped;
pub use check::{SpeechReport, check_speech, check_speech_within};
pub use clip::SpeechBounds;
pub use compose::{Composed, Composer, Composition, number_words};
pub use dataset::{SpeechDataset, SpeechSpec, Utterance};
pub use files::{read_audio, write_wav};
pub use latentlm_media::sound::{
    Audio, GrowingWav, SoundLimits, WavFile, WavStream, finish_wav_stream, normalise,
    read_audio_within, trim_silence, wav_bytes,
};
pub use sentences::read_sentences;
pub use timed::SpokenWord;
