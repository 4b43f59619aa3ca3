//! Measures of speech against a reference: in sound, and in words. They run on the host in float64. If a sample of
//! the estimate that is used is not finite, the result is NaN.

mod edits;
mod mel;
mod si_sdr;
mod signal;
mod stoi;

pub use edits::{EditCount, Slips, characters, edit_rate, words};
pub use mel::mel_distance_db;
pub use si_sdr::si_sdr_db;
pub(super) use signal::{frames, hann, power_spectra};
pub use stoi::stoi;

#[cfg(test)]
mod tests;
