//! Which positions of a document see which.

use std::ops::Range;

/// Attention mask of one document in a packed sequence. It is causal, except that the positions of one
/// range may all see each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mask {
    /// Number of positions in the document.
    pub length: usize,
    /// First of the positions that see each other.
    mutual_start: usize,
    /// End of the positions that see each other.
    mutual_end: usize,
}

impl Mask {
    /// A causal mask: each position sees itself and the positions before it.
    pub fn causal(length: usize) -> Self {
        Self::mutual(length, 0..0)
    }

    /// A mask that hides nothing: each position sees all positions of the document.
    pub fn full(length: usize) -> Self {
        Self::mutual(length, 0..length)
    }

    /// A causal mask, except that the positions in `mutual` see each other (as those of an image do in
    /// Transfusion).
    ///
    /// # Panics
    /// If `mutual` goes beyond the document.
    pub fn mutual(length: usize, mutual: Range<usize>) -> Self {
        assert!(
            mutual.end <= length,
            "{mutual:?} in a document of {length} positions"
        );
        Self {
            length,
            mutual_start: mutual.start,
            mutual_end: mutual.end,
        }
    }

    /// Number of positions that a position sees. They are the first ones of the document.
    #[inline(always)]
    pub(crate) fn seen(&self, position: usize) -> usize {
        if (self.mutual_start..self.mutual_end).contains(&position) {
            self.mutual_end
        } else {
            position + 1
        }
    }

    /// Whether the mask hides every later position.
    pub(crate) fn is_causal(&self) -> bool {
        self.mutual_end - self.mutual_start < 2
    }

    /// Whether the mask hides nothing.
    pub(crate) fn is_full(&self) -> bool {
        self.mutual_start == 0 && self.mutual_end == self.length
    }
}
