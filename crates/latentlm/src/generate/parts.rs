//! Sequences that are generated independently, shared out among threads.

use std::ops::Range;

use latentlm_core::{CausalBackbone, LatentHead};
use latentlm_kernels::shards_of;

use crate::model::LatentLm;

/// Width of a model from which on all rows go together: its products are large enough to be shared by
/// all threads, and its weights too large for each thread to lay out a copy of them for the solver.
const WIDE: usize = 512;

impl<B: CausalBackbone, H: LatentHead> LatentLm<B, H> {
    /// Cuts rows that are drawn independently, each part of at least `least` rows on a thread from
    /// beginning to end.
    pub(super) fn independent_parts(&self, rows: usize, least: usize) -> Vec<Range<usize>> {
        if self.backbone.width() < WIDE {
            shards_of(&self.device(), rows, least)
        } else {
            vec![0..rows; 1]
        }
    }
}
