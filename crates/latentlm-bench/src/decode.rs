//! What one more latent costs, position by position.

use burn::tensor::Device;
use latentlm::backbone::CacheNumbers;
use latentlm::{
    CausalBackbone, LatentHead, LatentLmConfig, Modality, RandomStream, SampleOptions, SmallWeights,
};
use latentlm_eval::median;

use crate::caches::{CacheFlush, Caches};
use crate::inputs::timed;

/// Milliseconds a latent around one position.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct DecodeTimes {
    /// Position in the sequence.
    pub position: usize,
    /// The backbone's step with the KV cache, median.
    pub backbone_ms: f64,
    /// The head with all its solver steps, median.
    pub head_ms: f64,
}

/// Positions on each side that a median is taken over.
const AROUND: usize = 8;

/// A model to decode with, and how to time it.
#[derive(Debug, Clone)]
pub struct DecodeWork {
    /// The model.
    pub config: LatentLmConfig,
    /// Number of sequences; guidance doubles it.
    pub batch: usize,
    /// Number of times that a sequence is decoded from beginning to end: a machine that is slower for a
    /// second is so at one position only.
    pub repeats: usize,
    /// Type of the weights; `None` is float32.
    pub weights: Option<SmallWeights>,
    /// Type of the numbers in the KV cache.
    pub cache: CacheNumbers,
    /// Sampling options.
    pub sample: SampleOptions,
    /// Caches that are emptied before each time, as after other work. Without it they hold what the last step left.
    pub cold: Option<Caches>,
}

/// Times the generation of an image's latents with guidance, around some positions.
pub fn decode_times(work: &DecodeWork, positions: &[usize], device: &Device) -> Vec<DecodeTimes> {
    let (config, batch) = (&work.config, work.batch);
    let mut model = config.init(device).prepared_for_sampling();
    if let Some(weights) = work.weights {
        model = model.with_small_weights(weights);
    }
    model.backbone.set_cache_numbers(work.cache);
    let Modality { latent_dim, frames } = config.modalities[0];
    let (rows, width) = (2 * batch, config.sizes.width);
    let mut random = RandomStream::new(0);
    let mut flush = work.cold.map(CacheFlush::new);
    let mut backbone = vec![Vec::with_capacity(work.repeats); frames];
    let mut head = backbone.clone();
    for _ in 0..work.repeats {
        let mut kv_cache = model.backbone.init_state(rows, frames, device);
        for (of_backbone, of_head) in backbone.iter_mut().zip(&mut head) {
            let input = random.normal([rows, 1, width], device);
            let noise = random.normal([batch, latent_dim], device);
            flush.iter_mut().for_each(CacheFlush::run);
            let step = || model.backbone.step(input, &mut kv_cache);
            let (hidden, seconds) = timed(device, step);
            of_backbone.push(seconds * 1e3);
            flush.iter_mut().for_each(CacheFlush::run);
            let (_, seconds) = timed(device, || {
                let hidden = hidden.reshape([rows, width]);
                let condition = hidden.clone().narrow(0, 0, batch);
                let null = Some(hidden.narrow(0, batch, batch));
                let head_of = model.head_of(0);
                head_of.sample(condition, null, noise, &work.sample, &mut random);
            });
            of_head.push(seconds * 1e3);
        }
    }
    let times = positions.iter().map(|&position| DecodeTimes {
        position,
        backbone_ms: median_around(&backbone, position),
        head_ms: median_around(&head, position),
    });
    times.collect()
}

fn median_around(times: &[Vec<f64>], position: usize) -> f64 {
    let end = (position + AROUND).min(times.len());
    median(times[position.saturating_sub(AROUND).min(end)..end].concat())
}
