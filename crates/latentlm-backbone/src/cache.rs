//! The key/value cache: written in place, grown on demand.

use burn::tensor::{Device, Tensor};
use latentlm_kernels::{
    CacheNumbers, CachedMask, KeysValues, Mask, PackedHeads, Rotary, cached_attention,
};

const PUT_BACK: &str = "the buffers are put back after each use";

/// Keys and values of all positions so far, for all layers and one batch of sequences.
#[derive(Debug, Clone)]
pub struct KvCache {
    pub(crate) layers: Vec<LayerCache>,
    batch: usize,
    capacity: usize,
    length: usize,
    /// Padding at the start of each sequence, in positions, `[B]`. Later positions do not attend to
    /// it. Empty if no sequence is padded.
    padding: Vec<usize>,
}

/// Keys and values of one layer.
#[derive(Debug, Clone)]
pub(crate) struct LayerCache {
    /// `None` only while [`attend`](Self::attend) runs.
    buffers: Option<KeysValues>,
}

impl KvCache {
    /// An empty cache; `shape` is `[B, G, capacity, E]`.
    pub(crate) fn new(
        layers: usize,
        shape: [usize; 4],
        numbers: CacheNumbers,
        device: &Device,
    ) -> Self {
        let layers = (0..layers).map(|_| LayerCache {
            buffers: Some(KeysValues::zeros(numbers, shape, device)),
        });
        Self {
            layers: layers.collect(),
            batch: shape[0],
            capacity: shape[2],
            length: 0,
            padding: Vec::new(),
        }
    }

    /// A cache with positions that were read before, perhaps by another program. `layers` holds keys, which are
    /// rotated already, and values of each layer, from the first on, in any float type: the cache has `numbers`.
    ///
    /// # Shapes
    /// - `layers`: `[B, G, P, E]` each
    ///
    /// # Panics
    /// If there are no layers, shapes differ, or there are more than `capacity` positions.
    pub fn filled(layers: Vec<[Tensor<4>; 2]>, capacity: usize, numbers: CacheNumbers) -> Self {
        let first = layers.first().expect("a KV cache has layers");
        let shape = first[0].dims();
        let [batch, _, length, _] = shape;
        assert!(
            length <= capacity,
            "{length} positions in a KV cache of {capacity}"
        );
        let mut filled = Vec::with_capacity(layers.len());
        for [keys, values] in layers {
            for buffer in [&keys, &values] {
                assert_eq!(buffer.dims(), shape, "keys and values of a KV cache");
            }
            // Rounded before it grows: no room is ever made in float32 for smaller numbers.
            let mut layer = LayerCache {
                buffers: Some(KeysValues::Float([keys, values]).rounded(numbers)),
            };
            if length < capacity {
                layer.grow(capacity);
            }
            filled.push(layer);
        }
        Self {
            layers: filled,
            batch,
            capacity,
            length,
            padding: Vec::new(),
        }
    }

    /// Converts the cache to another type of numbers.
    pub fn rounded(mut self, numbers: CacheNumbers) -> Self {
        for layer in &mut self.layers {
            let buffers = layer.buffers.take().expect(PUT_BACK);
            layer.buffers = Some(buffers.rounded(numbers));
        }
        self
    }

    /// Sets the number of padding positions at the start of each sequence.
    pub(crate) fn with_padding(mut self, padding: &[usize]) -> Self {
        if padding.iter().any(|count| *count > 0) {
            self.padding = padding.to_vec();
        }
        self
    }

    /// The attention mask of the positions from `start` on.
    pub(crate) fn mask(&self, start: usize) -> CachedMask {
        CachedMask::new(start, &self.padding)
    }

    /// Number of positions in the cache.
    pub fn len(&self) -> usize {
        self.length
    }

    /// Whether the cache has no positions yet.
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// Number of positions that fit into the cache.
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// Makes room for `further` more positions. Where there is none, the capacity doubles, but stays within
    /// `most`; the positions so far are copied once.
    ///
    /// # Panics
    /// If that is more than `most` positions in all.
    pub fn reserve(&mut self, further: usize, most: usize) {
        let wanted = self.length + further;
        if wanted <= self.capacity {
            return;
        }
        assert!(
            wanted <= most,
            "{wanted} positions in a KV cache of at most {most}"
        );
        self.capacity = wanted.max(2 * self.capacity).min(most);
        for layer in &mut self.layers {
            layer.grow(self.capacity);
        }
    }

    /// Takes back all positions from `length` on: the next one is read in their place.
    ///
    /// # Panics
    /// If there are fewer than `length`.
    pub fn truncate(&mut self, length: usize) {
        assert!(
            length <= self.length,
            "{length} positions to keep of {}",
            self.length
        );
        self.length = length;
    }

    /// Reserves `positions` more positions and returns the index of the first.
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
    /// Gives the buffers room for `capacity` positions.
    fn grow(&mut self, capacity: usize) {
        let buffers = self.buffers.take().expect(PUT_BACK);
        self.buffers = Some(buffers.lengthened(capacity));
    }

    /// Attention of new positions to themselves and to all earlier ones.
    ///
    /// The buffers are moved out, written and moved back. A tensor with a single owner is written in
    /// place, so a step copies the new positions and nothing else.
    ///
    /// # Shapes
    /// - `packed`: `[B, T, (H + 2 G) E]`, queries, keys and values
    /// - returns: `[B, T, H E]`
    pub(crate) fn attend(
        &mut self,
        packed: Tensor<3>,
        heads: PackedHeads,
        positions: &Positions,
    ) -> Tensor<3> {
        let buffers = self.buffers.take().expect(PUT_BACK);
        let (rotation, mask) = (&positions.rotation, &positions.cache_mask);
        let (mixed, buffers) = cached_attention(packed, heads, rotation, mask, buffers);
        self.buffers = Some(buffers);
        mixed
    }
}

/// Rotation and mask of the positions of one forward pass, shared by all layers.
pub(crate) struct Positions {
    /// Rotary embedding of the positions.
    pub(crate) rotation: Rotary,
    /// Lengths and masks of the packed documents, if there is no cache.
    pub(crate) documents: Vec<Mask>,
    /// Mask of the positions in the cache, if there is one.
    pub(crate) cache_mask: CachedMask,
}

#[cfg(test)]
mod tests {
    use burn::tensor::DType;

    use super::*;

    #[test]
    fn a_filled_cache_has_its_numbers_and_room() {
        let device = Device::default();
        let x = Tensor::<4>::from_data([[[[1.0_f32, -127.0, 0.25, 2.75]]]], &device);
        let layers = vec![[x.clone(), x.cast(DType::BF16)]];
        let cache = KvCache::filled(layers, 3, CacheNumbers::Int8);
        assert_eq!((cache.len(), cache.capacity()), (1, 3));
        let buffers = cache.layers[0].buffers.as_ref().expect(PUT_BACK);
        assert!(matches!(buffers, KeysValues::Int8 { .. }));
        assert_eq!(buffers.dims(), [1, 1, 3, 4]);
        for x in buffers.exact(2, DType::F32) {
            let numbers: Vec<f32> = x.into_data().try_to_vec().unwrap();
            assert_eq!(numbers, [1.0, -127.0, 0.0, 3.0, 0.0, 0.0, 0.0, 0.0]);
        }
    }
}
