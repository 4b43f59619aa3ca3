//! Composes corpora of English speech of many synthetic voices: sentences of WordNet's examples, with the time at
//! which each word ends. Two voices are kept apart as held-out ones.

mod corpus;
mod finish;
mod helper;
mod journal;
mod wordnet;

pub use corpus::{VoicesCorpus, VoicesOptions, compose_voices};
pub use helper::start_synthesizers;
pub use wordnet::wordnet_sentences;

use latentlm_data::DataError;
use latentlm_media::sound::Audio;

/// A voice of a synthesizer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Voice {
    /// Name of the speaker in the corpus.
    pub speaker: &'static str,
    /// The synthesizer's name of the voice.
    pub name: &'static str,
    /// Whether the voice is kept apart from training.
    pub held_out: bool,
}

/// A sentence to be spoken.
#[derive(Debug, Clone, PartialEq)]
pub struct Saying<'a> {
    /// The synthesizer's name of the voice.
    pub voice: &'a str,
    /// One sentence, normalized.
    pub text: &'a str,
    /// Factor of the usual speed.
    pub speed: f64,
    /// Seed of the synthesizer's random numbers.
    pub seed: u32,
}

/// A spoken sentence.
#[derive(Debug, Clone, PartialEq)]
pub struct Spoken {
    /// Sound at the synthesizer's own rate.
    pub audio: Audio,
    /// Time in seconds at which each word between spaces ends.
    pub ends_s: Vec<f64>,
}

/// Why a sentence was not spoken.
#[derive(Debug)]
pub enum Unspoken {
    /// The synthesizer can't say this sentence, but may say others.
    Sentence(String),
    /// The synthesizer no longer works.
    Synthesizer(DataError),
}

/// A program that speaks.
pub trait Synthesizer {
    /// Its name, as in the README of a corpus.
    fn name(&self) -> &str;

    /// Its voices.
    fn voices(&self) -> &[Voice];

    /// What it is, where it comes from and its licence, for the README of a corpus.
    fn origin(&self) -> &str;

    /// Speaks a sentence. The same saying gives the same sound.
    ///
    /// # Errors
    /// If it can't.
    fn say(&mut self, saying: &Saying<'_>) -> Result<Spoken, Unspoken>;
}
