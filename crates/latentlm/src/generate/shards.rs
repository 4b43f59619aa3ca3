//! Sequences that are drawn independently, split among threads.

use std::ops::Range;

use latentlm_core::{CausalBackbone, LatentHead};
use latentlm_kernels::shards_of;

use crate::model::LatentLm;

/// From this width on, one thread pool shares all rows: weights are too large to copy for each thread.
const WIDE: usize = 512;

impl<B: CausalBackbone, H: LatentHead> LatentLm<B, H> {
    /// Splits rows that are drawn independently into shards of at least `least` rows, one for each thread.
    pub(super) fn independent_shards(&self, rows: usize, least: usize) -> Vec<Range<usize>> {
        if self.backbone.width() < WIDE {
            shards_of(&self.device(), rows, least)
        } else {
            vec![0..rows; 1]
        }
    }
}
