//! Sound files: reads every common format as mono, writes WAV, resamples, trims and levels.

mod audio;
mod loudness;
mod mixer;
mod read;
mod riff;
mod wav;

pub use audio::Audio;
pub use loudness::{normalise, trim_silence, without_silence};
pub use mixer::{Sound, SoundLimits};
pub use read::{
    ENDINGS, OTHER_ENDINGS, RATES_HZ, ending, read_audio, read_audio_within, read_sound, seconds,
};
pub use wav::{GrowingWav, WavFile, WavStream, finish_wav_stream, wav_bytes, write_wav};
