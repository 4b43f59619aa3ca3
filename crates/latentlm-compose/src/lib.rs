//! Datasets that are made, not recorded: clips of moving digits with captions, corpora of speech that `espeak-ng`
//! synthesizes, and corpora of sentences in many voices of several synthesizers. As much as one likes, with exact
//! texts; the same seed gives the same data. No tensors, no model.
//!
//! ```no_run
//! use latentlm_compose::{Composer, clip_spec};
//! use latentlm_data::{DataError, Split};
//! use std::path::Path;
//!
//! let composer = Composer::open(Path::new("datasets/mnist"), clip_spec(1), Split::Train)?;
//! let composed = composer.clip(0, 7);
//! println!("{:?}: {} bytes", composed.clip.text, composed.clip.frames.len());
//! # Ok::<(), DataError>(())
//! ```
//!
//! Letters in shapes: `F` frames, `C` channels, `H x W` pixels.

mod begun;
mod composer;
mod digit;
mod error;
#[cfg(feature = "sound")]
mod espeak;
mod files;
mod path;
mod scene;
#[cfg(all(test, unix, feature = "sound"))]
mod stand_in;
#[cfg(feature = "sound")]
mod voices;

pub use composer::{ComposedClip, Composer, Track, clip_spec};
#[cfg(feature = "sound")]
pub use espeak::{EspeakCorpus, EspeakOptions, espeak_corpus};
pub use files::{ClipFiles, write_clips};
pub use scene::{Motion, Place, Scene, Subject, held_out_pairs};
#[cfg(feature = "sound")]
pub use voices::{
    Saying, Spoken, Synthesizer, Unspoken, Voice, VoicesCorpus, VoicesOptions, compose_voices,
    start_synthesizers, wordnet_sentences,
};
