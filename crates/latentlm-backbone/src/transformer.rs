//! The Transformer: blocks, final norm, optional condition layer.

use std::sync::Arc;

use burn::config::Config;
use burn::module::Module;
use burn::nn::{Linear, LinearConfig};
use burn::tensor::{Device, Tensor};
use latentlm_core::CausalBackbone;
use latentlm_core::ops::swiglu_width;
use latentlm_kernels::{CachedSight, Sight, linear_layer, recomputed};

use crate::attention::Attention;
use crate::cache::{KvCache, LayerCache, Positions};
use crate::mlp::Mlp;
use crate::norm::RmsNorm;
use crate::rope::{Rope, RopeLayout};

/// Configuration of a [`Transformer`]. The defaults are the official image models' (spec §1).
#[derive(Config, Debug, PartialEq)]
pub struct TransformerConfig {
    /// `D`, width of the residual stream.
    pub width: usize,
    /// Number of blocks.
    pub depth: usize,
    /// Query heads.
    pub heads: usize,
    /// Key/value heads; 0 stands for as many as query heads.
    #[config(default = 0)]
    pub kv_heads: usize,
    /// The feed-forward width is `floor(D * mlp_ratio * 2/3 / 64) * 64`.
    #[config(default = 4.0)]
    pub mlp_ratio: f64,
    /// The feed-forward width itself, for models that do not follow the ratio; 0 follows it.
    #[config(default = 0)]
    pub mlp_width: usize,
    /// Whether norms have a weight.
    #[config(default = false)]
    pub norm_weight: bool,
    /// Epsilon of the norms.
    #[config(default = 1e-6)]
    pub norm_epsilon: f64,
    /// Whether queries, keys and values have a bias.
    #[config(default = false)]
    pub qkv_bias: bool,
    /// Layout of the rotary pairs.
    #[config(default = "RopeLayout::Interleaved")]
    pub rope_layout: RopeLayout,
    /// Base of the rotary frequencies.
    #[config(default = 10000.0)]
    pub rope_theta: f64,
    /// Whether a square linear follows the final norm ("condition layer").
    #[config(default = true)]
    pub condition_layer: bool,
    /// Whether training keeps what goes into each block and nothing else of it, and runs the block
    /// again for its gradients.
    #[config(default = false)]
    pub recompute: bool,
}

impl TransformerConfig {
    /// Numbers a head.
    pub fn head_dim(&self) -> usize {
        self.width / self.heads
    }

    /// The same configuration with `kv_heads` and `mlp_width` written out.
    fn resolved(&self) -> Self {
        let mut config = self.clone();
        if config.kv_heads == 0 {
            config.kv_heads = config.heads;
        }
        if config.mlp_width == 0 {
            config.mlp_width = swiglu_width(config.width, config.mlp_ratio);
        }
        config
    }

    /// What is wrong with the configuration, if anything, in one line.
    ///
    /// # Errors
    /// If sizes are zero or do not divide each other as they must.
    pub fn validate(&self) -> Result<(), BackboneError> {
        let config = self.resolved();
        let fail = |reason: String| Err(BackboneError::Config { reason });
        if config.width == 0 || config.depth == 0 || config.heads == 0 {
            return fail("width, depth and heads must be positive".into());
        }
        if !config.width.is_multiple_of(config.heads) {
            return fail(format!(
                "width {} is not a multiple of heads {}",
                config.width, config.heads
            ));
        }
        if !config.heads.is_multiple_of(config.kv_heads) {
            return fail(format!(
                "heads {} is not a multiple of kv_heads {}",
                config.heads, config.kv_heads
            ));
        }
        if !config.head_dim().is_multiple_of(2) || config.head_dim() < 4 {
            return fail(format!(
                "a head of width / heads = {} numbers must be even and 4 or more",
                config.head_dim()
            ));
        }
        if config.mlp_width == 0 {
            return fail(format!(
                "width {} times mlp_ratio {} is too small for a feed-forward width of 64",
                config.width, config.mlp_ratio
            ));
        }
        Ok(())
    }

    /// Builds the Transformer.
    ///
    /// # Panics
    /// If [`validate`](Self::validate) fails.
    pub fn init(&self, device: &Device) -> Transformer {
        if let Err(error) = self.validate() {
            panic!("{error}");
        }
        let config = self.resolved();
        let rope = Rope::new(config.rope_layout, config.head_dim(), config.rope_theta);
        let width = config.width;
        Transformer {
            blocks: (0..config.depth)
                .map(|_| Block::new(&config, device))
                .collect(),
            norm: RmsNorm::new(width, config.norm_weight, config.norm_epsilon, device),
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
        }
    }
}

/// What can be wrong with a backbone's configuration.
#[derive(Debug, thiserror::Error)]
pub enum BackboneError {
    /// An impossible configuration.
    #[error("backbone: {reason}")]
    Config {
        /// What is wrong.
        reason: String,
    },
}

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
}

/// The causal Transformer (paper §2.2; reference `models/Transformer.py`).
#[derive(Module, Debug)]
pub struct Transformer {
    blocks: Vec<Block>,
    norm: RmsNorm,
    condition_layer: Option<Linear>,
    #[module(skip)]
    rope: Rope,
    width: usize,
    kv_heads: usize,
    head_dim: usize,
    recompute: bool,
}

impl Transformer {
    fn run(&self, mut x: Tensor<3>, documents: &[usize]) -> Tensor<3> {
        let device = match self.recompute {
            // Blocks that are run again hold it as a constant.
            true => x.device().inner(),
            false => x.device(),
        };
        let positions = Arc::new(Positions {
            rotation: self.rope.rotation(0, documents, &device),
            documents: documents.iter().copied().map(Sight::causal).collect(),
            cached: CachedSight::default(),
        });
        for block in &self.blocks {
            x = match self.recompute {
                true => {
                    let positions = Arc::clone(&positions);
                    let run = move |block: &Block, [x]: [Tensor<3>; 1]| {
                        block.forward(x, &positions, None)
                    };
                    recomputed(block, [x], run)
                }
                false => block.forward(x, &positions, None),
            };
        }
        self.finish(x)
    }

    fn finish(&self, x: Tensor<3>) -> Tensor<3> {
        let x = self.norm.forward(x);
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
        KvCache::new(self.blocks.len(), shape, device)
    }

    fn init_padded_state(&self, padding: &[usize], capacity: usize, device: &Device) -> KvCache {
        self.init_state(padding.len(), capacity, device)
            .with_padding(padding)
    }

    fn step(&self, mut x: Tensor<3>, state: &mut KvCache) -> Tensor<3> {
        let [batch, length, _] = x.dims();
        let start = state.advance(batch, length);
        let positions = Positions {
            rotation: self.rope.rotation(start, &[length], &x.device()),
            documents: Vec::new(),
            cached: state.sight(start),
        };
        for (block, cache) in self.blocks.iter().zip(&mut state.layers) {
            x = block.forward(x, &positions, Some(cache));
        }
        self.finish(x)
    }
}
