//! The key/value cache: one allocation, written in place.

use burn::tensor::{Bool, Device, Tensor, TensorData};
use latentlm_kernels::{Rotary, Sight};

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

/// One layer's part, `[B, G, capacity, E]` each.
#[derive(Debug, Clone)]
pub(crate) struct LayerCache {
    keys: Option<Tensor<4>>,
    values: Option<Tensor<4>>,
}

impl KvCache {
    /// Room for `capacity` positions; `shape` is `[B, G, capacity, E]`.
    pub(crate) fn new(layers: usize, shape: [usize; 4], device: &Device) -> Self {
        let layer = || LayerCache {
            keys: Some(Tensor::zeros(shape, device)),
            values: Some(Tensor::zeros(shape, device)),
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

    /// Which of the positions before `start + length` the positions from `start` on must not see
    /// beside those behind them: the padding. Padding sees padding: a softmax over nothing would
    /// be no number.
    ///
    /// # Shapes
    /// - returns: `[B, 1, length, start + length]`
    pub(crate) fn hidden(
        &self,
        start: usize,
        length: usize,
        device: &Device,
    ) -> Option<Tensor<4, Bool>> {
        if self.padding.is_empty() {
            return None;
        }
        let seen = start + length;
        let row = |padding: usize, position: usize| {
            (0..seen).map(move |key| key < padding && position >= padding)
        };
        let rows = self
            .padding
            .iter()
            .flat_map(|&padding| (start..seen).flat_map(move |position| row(padding, position)));
        let data = TensorData::new(rows.collect::<Vec<bool>>(), [self.batch, 1, length, seen]);
        Some(Tensor::from_data(data, device))
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
    /// Writes new keys and values at `start` and returns all up to them, `[B, G, S, E]`.
    ///
    /// The buffers are moved out, written and moved back: with a single owner the backend writes
    /// in place, so a step copies the new positions and nothing else.
    pub(crate) fn extend(
        &mut self,
        start: usize,
        keys: Tensor<4>,
        values: Tensor<4>,
    ) -> (Tensor<4>, Tensor<4>) {
        let write = |slot: &mut Option<Tensor<4>>, new: Tensor<4>| {
            let [batch, groups, length, width] = new.dims();
            let buffer = slot
                .take()
                .expect("a cache slot is put back after each use");
            let buffer =
                buffer.slice_assign([0..batch, 0..groups, start..start + length, 0..width], new);
            let seen = buffer.clone().narrow(2, 0, start + length);
            *slot = Some(buffer);
            seen
        };
        (write(&mut self.keys, keys), write(&mut self.values, values))
    }
}

/// What one run through the layers needs to know about its positions.
pub(crate) struct Positions {
    /// Index of the first position.
    pub(crate) start: usize,
    /// Rotation of the positions.
    pub(crate) rotation: Rotary,
    /// The documents that a whole sequence is made of; without a cache.
    pub(crate) documents: Vec<Sight>,
    /// Earlier positions that must not be seen, `[B, 1, T, S]`; with a cache.
    pub(crate) hidden: Option<Tensor<4, Bool>>,
}
