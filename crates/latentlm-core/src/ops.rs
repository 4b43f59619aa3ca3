//! Small functions on numbers that two crates need.

/// The inner width of a SwiGLU network that the official implementation derives from a ratio:
/// `floor(width * ratio * 2/3 / 64) * 64`.
pub fn swiglu_width(width: usize, mlp_ratio: f64) -> usize {
    // In the reference's order of operations: another order rounds differently at the edges.
    let blocks = (width as f64 * mlp_ratio * 2.0 / 3.0 / 64.0) as usize;
    blocks.saturating_mul(64)
}

/// Weights of a spectrum's bins in mel bands, band by band: triangles with peak 1, equally wide on the mel
/// scale (HTK's `2595 log10(1 + f / 700)`), from frequency 0 to half the sample rate.
pub fn mel_weights(n_fft: usize, bands: usize, sample_rate_hz: u32) -> Vec<Vec<f64>> {
    let bins = n_fft / 2 + 1;
    let nyquist = f64::from(sample_rate_hz) / 2.0;
    let highest_mel = 2595.0 * (1.0 + nyquist / 700.0).log10();
    let edge_hz = |index: usize| {
        let mel = highest_mel * index as f64 / (bands + 1) as f64;
        700.0 * (10f64.powf(mel / 2595.0) - 1.0)
    };
    let mut weights = Vec::with_capacity(bands);
    for band in 0..bands {
        let [low, middle, high] = [band, band + 1, band + 2].map(edge_hz);
        let band = (0..bins).map(|bin| {
            let frequency = nyquist * bin as f64 / (bins - 1) as f64;
            let rise = (frequency - low) / (middle - low);
            let fall = (high - frequency) / (high - middle);
            rise.min(fall).max(0.0)
        });
        weights.push(band.collect());
    }
    weights
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn widths_of_the_published_sizes() {
        for (width, ratio, expected) in [(768, 6.0, 3072), (96, 4.0, 256), (64, 4.0, 128)] {
            assert_eq!(swiglu_width(width, ratio), expected);
        }
        assert_eq!(swiglu_width(usize::MAX, 64.0), usize::MAX);
    }

    /// The edges of two bands up to 700 Hz are at `700 (2^(i / 3) - 1)` Hz; in between, the weights of a bin add
    /// up to 1.
    #[test]
    fn mel_bands_meet_in_their_middles() {
        let weights = mel_weights(2048, 2, 1400);
        let edge_hz = |index: i32| 700.0 * (2f64.powf(f64::from(index) / 3.0) - 1.0);
        for (bin, own) in weights[0].iter().enumerate() {
            let hz = 700.0 * bin as f64 / 1024.0;
            let sum = own + weights[1][bin];
            let rise = hz / edge_hz(1);
            let fall = (700.0 - hz) / (700.0 - edge_hz(2));
            assert!((sum - rise.min(fall).min(1.0)).abs() < 1e-12, "{hz}: {sum}");
        }
        assert_eq!((weights.len(), weights[0].len()), (2, 1025));
    }
}
