//! Speech data: datasets of recordings with transcripts, utterances composed of word clips, and corpora
//! synthesized with `espeak-ng`. Sound files are read and written by [`latentlm_media::sound`].

mod check;
mod clip;
mod columns;
mod compose;
mod corpus;
mod dataset;
mod espeak;
mod files;
mod finder;
mod table;
mod tree;
mod vocabulary;

pub use crate::skipped::Skipped;
pub use check::{SpeechReport, check_speech, check_speech_within};
pub use clip::SpeechBounds;
pub use compose::{Composed, Composer, Composition, SpokenWord};
pub use dataset::{SpeechDataset, SpeechSpec, Utterance};
pub use espeak::{EspeakCorpus, EspeakOptions, espeak_corpus, read_sentences};
pub use files::{GrowingWav, WavFile, read_audio, read_audio_within, write_wav};
pub use latentlm_media::sound::{
    Audio, SoundLimits, WavStream, finish_wav_stream, normalise, trim_silence, wav_bytes,
};
