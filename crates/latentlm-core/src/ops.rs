//! Small functions on numbers that two spokes need.

/// The inner width of a SwiGLU network that the official implementation derives from a ratio:
/// `floor(width * ratio * 2/3 / 64) * 64`.
pub fn swiglu_width(width: usize, mlp_ratio: f64) -> usize {
    // In the reference's order of operations: another order rounds differently at the edges.
    let blocks = (width as f64 * mlp_ratio * 2.0 / 3.0 / 64.0) as usize;
    blocks.saturating_mul(64)
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
}
