//! The Transformer: blocks, final norm, optional condition layer.

use std::sync::Arc;

use burn::module::Module;
use burn::nn::{Linear, LinearConfig};
use burn::tensor::{Device, Tensor};
use latentlm_core::{BackboneSizes, CausalBackbone, CausalBackboneConfig, PartConfig};
use latentlm_kernels::{CacheNumbers, CachedMask, Mask, linear_layer, recomputed};

use crate::attention::Attention;
use crate::cache::{KvCache, LayerCache, Positions};
use crate::config::TransformerConfig;
use crate::mlp::Mlp;
use crate::norm::RmsNorm;
use crate::rope::Rope;

/// One block: `x += attention(norm1(x))`, `x += mlp(norm2(x))`.
#[derive(Module, Debug)]
pub struct Block {
    norm1: RmsNorm,
    attn: Attention,
    norm2: RmsNorm,
    mlp: Mlp,
}

impl Block {
    fn new(config: &TransformerConfig, device: &Device) -> Self {
        let norm = || {
            RmsNorm::new(
                config.width,
                config.norm_weight,
                config.norm_epsilon,
                device,
            )
        };
        Self {
            norm1: norm(),
            attn: Attention::new(config, device),
            norm2: norm(),
            mlp: Mlp::new(config.width, config.mlp_width, device),
        }
    }

    fn forward(
        &self,
        x: Tensor<3>,
        positions: &Positions,
        cache: Option<&mut LayerCache>,
    ) -> Tensor<3> {
        let mixed = self
            .attn
            .forward(self.norm1.forward(x.clone()), positions, cache);
        self.mlp.residual(x + mixed, &self.norm2)
    }

    fn step_rows(
        &self,
        x: Tensor<3>,
        positions: &[Positions],
        caches: Vec<&mut LayerCache>,
    ) -> Tensor<3> {
        let normed = self.norm1.forward(x.clone());
        let mixed = self.attn.step_rows(normed, positions, caches);
        self.mlp.residual(x + mixed, &self.norm2)
    }
}

/// The causal Transformer (paper §2.2; reference `models/Transformer.py`).
#[derive(Module, Debug)]
pub struct Transformer {
    blocks: Vec<Block>,
    norm: Option<RmsNorm>,
    condition_layer: Option<Linear>,
    #[module(skip)]
    rope: Rope,
    width: usize,
    kv_heads: usize,
    head_dim: usize,
    recompute: bool,
    #[module(skip)]
    cache_numbers: CacheNumbers,
}

impl Transformer {
    /// A Transformer with new weights. The configuration must be valid.
    fn new(config: &TransformerConfig, device: &Device) -> Self {
        let config = config.resolved();
        let rope = Rope::new(config.rope_layout, config.head_dim(), config.rope_theta);
        let width = config.width;
        Self {
            blocks: (0..config.depth)
                .map(|_| Block::new(&config, device))
                .collect(),
            norm: config
                .final_norm
                .then(|| RmsNorm::new(width, config.norm_weight, config.norm_epsilon, device)),
            condition_layer: config.condition_layer.then(|| {
                LinearConfig::new(width, width)
                    .with_bias(false)
                    .init(device)
            }),
            rope,
            width,
            kv_heads: config.kv_heads,
            head_dim: config.head_dim(),
            recompute: config.recompute,
            cache_numbers: CacheNumbers::default(),
        }
    }

    /// Sets the type of the numbers in KV caches that are made from now on, float32 at first.
    pub fn set_cache_numbers(&mut self, numbers: CacheNumbers) {
        self.cache_numbers = numbers;
    }

    /// Type of the numbers in KV caches.
    pub fn cache_numbers(&self) -> CacheNumbers {
        self.cache_numbers
    }

    /// Number of blocks: as many layers has a KV cache.
    pub fn depth(&self) -> usize {
        self.blocks.len()
    }

    /// The shape of a layer's keys, and of its values, for `P` positions of one sequence: `[1, G, P, E]`.
    pub fn cache_shape(&self, positions: usize) -> [usize; 4] {
        [1, self.kv_heads, positions, self.head_dim]
    }

    /// Hidden states of packed documents, without a cache.
    fn run(&self, mut x: Tensor<3>, documents: &[usize]) -> Tensor<3> {
        // Recomputed blocks capture the rotation as a constant, so it must not be on the autodiff
        // device.
        let device = if self.recompute {
            x.device().inner()
        } else {
            x.device()
        };
        let positions = Arc::new(Positions {
            rotation: self.rope.rotation(0, documents, &device),
            documents: documents.iter().copied().map(Mask::causal).collect(),
            cache_mask: CachedMask::default(),
        });
        for block in &self.blocks {
            x = if self.recompute {
                let positions = Arc::clone(&positions);
                recomputed(block, [x], move |block: &Block, [x]: [Tensor<3>; 1]| {
                    block.forward(x, &positions, None)
                })
            } else {
                block.forward(x, &positions, None)
            };
        }
        self.finish(x)
    }

    /// The next position of several sequences, each with a cache and a length of its own. Weights are read
    /// once for all of them.
    ///
    /// # Shapes
    /// - `x`: `[B, D]`; `states`: `B` caches of one sequence each
    /// - returns: `[B, D]`
    ///
    /// # Panics
    /// If there are not as many caches as rows, or one has no room or was made for a batch.
    pub fn step_rows(&self, x: Tensor<2>, states: &mut [&mut KvCache]) -> Tensor<2> {
        let (rows, device) = (x.dims()[0], x.device());
        assert_eq!(rows, states.len(), "caches for the rows of a step");
        let mut positions = Vec::with_capacity(rows);
        for state in states.iter_mut() {
            let start = state.advance(1, 1);
            positions.push(self.positions(start, 1, state, &device));
        }
        let mut x = x.unsqueeze_dim::<3>(1); // [B, 1, D]
        for (layer, block) in self.blocks.iter().enumerate() {
            let caches = states.iter_mut().map(|state| &mut state.layers[layer]);
            x = block.step_rows(x, &positions, caches.collect());
        }
        self.finish(x).squeeze_dim(1)
    }

    /// Rotation and mask of `length` new positions behind `start` cached ones.
    fn positions(
        &self,
        start: usize,
        length: usize,
        state: &KvCache,
        device: &Device,
    ) -> Positions {
        Positions {
            rotation: self.rope.rotation(start, &[length], device),
            documents: Vec::new(),
            cache_mask: state.mask(start),
        }
    }

    /// The final norm and the condition layer, as far as there are any.
    fn finish(&self, x: Tensor<3>) -> Tensor<3> {
        let x = match &self.norm {
            Some(norm) => norm.forward(x),
            None => x,
        };
        match &self.condition_layer {
            Some(linear) => linear_layer(linear, x),
            None => x,
        }
    }
}

impl CausalBackbone for Transformer {
    type State = KvCache;

    fn width(&self) -> usize {
        self.width
    }

    fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        let whole = [x.dims()[1]];
        self.run(x, &whole)
    }

    fn forward_documents(&self, x: Tensor<3>, documents: &[usize]) -> Tensor<3> {
        self.run(x, documents)
    }

    fn init_state(&self, batch: usize, capacity: usize, device: &Device) -> KvCache {
        let shape = [batch, self.kv_heads, capacity, self.head_dim];
        KvCache::new(self.blocks.len(), shape, self.cache_numbers, device)
    }

    fn init_padded_state(&self, padding: &[usize], capacity: usize, device: &Device) -> KvCache {
        self.init_state(padding.len(), capacity, device)
            .with_padding(padding)
    }

    fn step(&self, mut x: Tensor<3>, state: &mut KvCache) -> Tensor<3> {
        let [batch, length, _] = x.dims();
        let start = state.advance(batch, length);
        let positions = self.positions(start, length, state, &x.device());
        for (block, cache) in self.blocks.iter().zip(&mut state.layers) {
            x = block.forward(x, &positions, Some(cache));
        }
        self.finish(x)
    }
}

impl CausalBackboneConfig for TransformerConfig {
    type Backbone = Transformer;

    fn of(sizes: &BackboneSizes) -> Self {
        Self::new(sizes.width, sizes.depth, sizes.heads)
            .with_kv_heads(sizes.kv_heads)
            .with_mlp_ratio(sizes.mlp_ratio)
            .with_recompute(sizes.recompute)
    }

    fn init(&self, device: &Device) -> Transformer {
        if let Err(error) = self.validate() {
            panic!("{error}");
        }
        Transformer::new(self, device)
    }
}
