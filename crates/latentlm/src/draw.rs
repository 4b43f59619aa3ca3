//! The next latents of sequences that are generated together.

use burn::tensor::Tensor;
use latentlm_core::{LatentHead, RandomStream, SampleOptions};

/// Draws a latent for each of some sequences, as if each were alone: the noise that it begins as, and
/// then what samplers add on the way, come from the sequence's own stream. Only sequences that go on
/// should be here: whoever is, is drawn for, and its stream moves on.
///
/// # Shapes
/// - `condition`, `null`: `[N, D]`, as many as `streams`
/// - returns: `[N, Z]`, whitened
pub(crate) fn draw_latents<H: LatentHead>(
    head: &H,
    condition: Tensor<2>,
    null: Option<Tensor<2>>,
    options: &SampleOptions,
    streams: Vec<&mut RandomStream>,
) -> Tensor<2> {
    let shape = [streams.len(), head.latent_dim()];
    let device = condition.device();
    RandomStream::of_rows(streams, |random| {
        let noise = random.normal(shape, &device);
        head.sample(condition, null, noise, options, random)
    })
}
