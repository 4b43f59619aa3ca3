//! Spectrograms as pictures.

use image::{Rgb, RgbImage};
use latentlm_pipelines::save_png;

use super::metrics::{frames, hann, power_spectra};
use crate::error::Result;

/// Window length in samples.
const WINDOW: usize = 512;
/// Samples from one window to the next.
const HOP: usize = WINDOW / 4;
/// Added to power, so that silence has a level.
const POWER_FLOOR: f64 = 1e-10;
/// Range of levels that colours show, below the loudest.
const RANGE_DB: f32 = 70.0;
/// Gap between two spectrograms in pixels.
const GAP: u32 = 4;

/// Spectrograms, one below the other: time from left to right, frequency from 0 to half the sample
/// rate upwards. Colours go from black through violet and orange to white over 70 dB.
pub fn spectrograms(sounds: &[Vec<f32>]) -> RgbImage {
    let spectrograms: Vec<Vec<f32>> = sounds
        .iter()
        .filter(|sound| !sound.is_empty())
        .map(|sound| levels(sound))
        .collect();
    let bins = (WINDOW / 2 + 1) as u32;
    let longest = spectrograms.iter().map(Vec::len).max();
    let width = longest.map_or(1, |levels| levels as u32 / bins);
    let height = (bins + GAP) * spectrograms.len().max(1) as u32 - GAP;
    let mut picture = RgbImage::from_pixel(width, height, Rgb([255; 3]));
    for (levels, index) in spectrograms.into_iter().zip(0..) {
        let bottom = (bins + GAP) * index + bins - 1;
        for (level, place) in levels.into_iter().zip(0..) {
            picture.put_pixel(place / bins, bottom - place % bins, colour(level));
        }
    }
    picture
}

/// Levels in `[0, 1]`, frame by frame. Windows are periodic Hann windows. The
/// sound is padded with silence on both sides, so that every sample is in four windows.
fn levels(sound: &[f32]) -> Vec<f32> {
    let margin = WINDOW - HOP;
    let mut samples = vec![0.0; margin];
    samples.extend(sound.iter().map(|sample| f64::from(*sample)));
    samples.resize(2 * margin + sound.len().next_multiple_of(HOP), 0.0);
    let window = hann(0..WINDOW, WINDOW);
    let magnitudes: Vec<f32> = power_spectra(frames(&samples, &window, HOP), WINDOW)
        .flatten()
        .map(|power| (power + POWER_FLOOR).sqrt() as f32)
        .collect();
    let loudest = magnitudes.iter().copied().fold(1e-6, f32::max);
    let mut levels = Vec::with_capacity(magnitudes.len());
    for magnitude in magnitudes {
        let level = 1.0 + 20.0 * (magnitude.max(1e-9) / loudest).log10() / RANGE_DB;
        levels.push(level.clamp(0.0, 1.0));
    }
    levels
}

/// Colour of a level in `[0, 1]`, interpolated between the stops.
fn colour(level: f32) -> Rgb<u8> {
    const STOPS: [[f32; 3]; 5] = [
        [0.0, 0.0, 10.0],
        [80.0, 20.0, 110.0],
        [190.0, 55.0, 85.0],
        [250.0, 150.0, 40.0],
        [255.0, 255.0, 220.0],
    ];
    let place = level * (STOPS.len() - 1) as f32;
    let lower = (place as usize).min(STOPS.len() - 2);
    let weight = place - lower as f32;
    let (from, to) = (STOPS[lower], STOPS[lower + 1]);
    Rgb([0, 1, 2].map(|i| (from[i] * (1.0 - weight) + to[i] * weight) as u8))
}

/// Writes spectrograms as a PNG file.
///
/// # Errors
/// If the file can't be written.
pub fn save(sounds: &[Vec<f32>], path: &std::path::Path) -> Result<()> {
    Ok(save_png(&spectrograms(sounds), path)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A tone of a quarter of the sample rate is a line in the middle.
    #[test]
    fn a_tone_is_a_line() {
        let tone: Vec<f32> = (0..4096)
            .map(|i| (i as f32 * std::f32::consts::FRAC_PI_2).sin())
            .collect();
        let picture = spectrograms(&[tone]);
        let column = picture.width() / 2;
        let brightness = |row: u32| picture.get_pixel(column, row).0.map(u32::from).iter().sum();
        let brightest = (0..picture.height()).max_by_key(|row| -> u32 { brightness(*row) });
        assert_eq!(brightest, Some(128));
        assert_eq!(picture.height(), 257);
    }
}
