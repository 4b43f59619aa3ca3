//! What one more latent costs, position by position.

use std::time::Instant;

use burn::tensor::Device;
use latentlm::{CausalBackbone, LatentHead, LatentLmConfig, Modality, RandomStream, SampleOptions};

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

/// Times the generation of an image's latents for `batch` sequences with guidance, `repeats`
/// times from beginning to end: a machine that is slower for a second is so at one position only.
pub fn decode_times(
    config: &LatentLmConfig,
    (batch, repeats): (usize, usize),
    options: &SampleOptions,
    positions: &[usize],
    device: &Device,
) -> Vec<DecodeTimes> {
    let model = config.init(device);
    let Modality { latent_dim, frames } = config.modalities[0];
    let mut random = RandomStream::new(0);
    let rows = 2 * batch;
    let mut backbone = vec![Vec::with_capacity(repeats); frames];
    let mut head = backbone.clone();
    let mut kv_cache = None;
    for index in 0..repeats * frames {
        let position = index % frames;
        if position == 0 {
            kv_cache = None;
        }
        let kv_cache =
            kv_cache.get_or_insert_with(|| model.backbone.init_state(rows, frames, device));
        let input = random.normal([rows, 1, config.sizes.width], device);
        let noise = random.normal([batch, latent_dim], device);
        let started = Instant::now();
        let hidden = model.backbone.step(input, kv_cache);
        wait(device);
        backbone[position].push(started.elapsed().as_secs_f64() * 1e3);
        let started = Instant::now();
        let hidden = hidden.reshape([rows, config.sizes.width]);
        let (condition, null) = (
            hidden.clone().narrow(0, 0, batch),
            hidden.narrow(0, batch, batch),
        );
        model
            .head_of(0)
            .sample(condition, Some(null), noise, options, &mut random);
        wait(device);
        head[position].push(started.elapsed().as_secs_f64() * 1e3);
    }
    positions
        .iter()
        .map(|&position| DecodeTimes {
            position,
            backbone_ms: median_around(&backbone, position),
            head_ms: median_around(&head, position),
        })
        .collect()
}

/// Lets the device finish; a device that fails here fails again at the next read.
fn wait(device: &Device) {
    let _ = device.sync();
}

fn median_around(times: &[Vec<f64>], position: usize) -> f64 {
    let end = (position + AROUND).min(times.len());
    let mut window = times[position.saturating_sub(AROUND).min(end)..end].concat();
    window.sort_by(f64::total_cmp);
    window.get(window.len() / 2).copied().unwrap_or(f64::NAN)
}
