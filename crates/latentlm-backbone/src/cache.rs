//! The key/value cache: one allocation, written in place.

use burn::tensor::{Device, Tensor};
use latentlm_kernels::{CachedSight, PackedHeads, Rotary, Sight, cached_attention};

/// Keys and values of the positions seen so far, for all layers of one batch of sequences.
#[derive(Debug, Clone)]
pub struct KvCache {
    pub(crate) layers: Vec<LayerCache>,
    batch: usize,
    capacity: usize,
    length: usize,
    /// Positions of each sequence that nothing behind them sees; empty where there are none.
    padding: Vec<usize>,
}

/// One layer's part.
#[derive(Debug, Clone)]
pub(crate) struct LayerCache {
    /// Keys and values, `[B, G, capacity, E]` each.
    buffers: Option<[Tensor<4>; 2]>,
}

impl KvCache {
    /// Room for `capacity` positions; `shape` is `[B, G, capacity, E]`.
    pub(crate) fn new(layers: usize, shape: [usize; 4], device: &Device) -> Self {
        let buffer = || Tensor::zeros(shape, device);
        let layer = || LayerCache {
            buffers: Some([buffer(), buffer()]),
        };
        Self {
            layers: (0..layers).map(|_| layer()).collect(),
            batch: shape[0],
            capacity: shape[2],
            length: 0,
            padding: Vec::new(),
        }
    }

    /// The same cache with so many positions in front of each sequence unseen.
    pub(crate) fn with_padding(mut self, padding: &[usize]) -> Self {
        if padding.iter().any(|count| *count > 0) {
            self.padding = padding.to_vec();
        }
        self
    }

    /// Whom the positions from `start` on see.
    pub(crate) fn sight(&self, start: usize) -> CachedSight {
        CachedSight::new(start, &self.padding)
    }

    /// Positions seen so far.
    pub fn len(&self) -> usize {
        self.length
    }

    /// Whether no position has been seen.
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// Positions there is room for.
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// Makes room for `positions` more and returns the first one's index.
    pub(crate) fn advance(&mut self, batch: usize, positions: usize) -> usize {
        assert_eq!(
            batch, self.batch,
            "the KV cache was made for a batch of {}, not {batch}",
            self.batch
        );
        let start = self.length;
        assert!(
            start + positions <= self.capacity,
            "the KV cache holds {} positions; {start} are taken and {positions} more do not fit",
            self.capacity
        );
        self.length += positions;
        start
    }
}

impl LayerCache {
    /// Attention of new positions, `[B, T, (H + 2 G) E]` to `[B, T, H E]`.
    ///
    /// The buffers are moved out, written and moved back: with a single owner they are written in
    /// place, so a step copies the new positions and nothing else.
    pub(crate) fn attend(
        &mut self,
        packed: Tensor<3>,
        heads: PackedHeads,
        positions: &Positions,
    ) -> Tensor<3> {
        let buffers = self
            .buffers
            .take()
            .expect("the buffers are put back after each use");
        let (rotation, sight) = (&positions.rotation, &positions.cached);
        let (mixed, buffers) = cached_attention(packed, heads, rotation, sight, buffers);
        self.buffers = Some(buffers);
        mixed
    }
}

/// What one run through the layers needs to know about its positions.
pub(crate) struct Positions {
    /// Rotation of the positions.
    pub(crate) rotation: Rotary,
    /// The documents that a whole sequence is made of; without a cache.
    pub(crate) documents: Vec<Sight>,
    /// Whom they see in a cache; with one.
    pub(crate) cached: CachedSight,
}
