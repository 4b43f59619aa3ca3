//! Autoregressive generation of latents, with guidance and a KV cache.

use std::ops::Range;

use burn::tensor::{Device, Int, Tensor};
use latentlm_core::{
    CausalBackbone, LatentHead, ModalityAdapter, RandomStream, SampleOptions, Sampler,
};
use latentlm_kernels::{ROWS_A_PART, at_once, parts_of};

use crate::image::ImageAdapters;
use crate::model::LatentLm;

/// Width of a model from which on all rows go together: its products are large enough to be shared by
/// all threads, and its weights too large for each thread to lay out a copy of them for the solver.
const WIDE: usize = 512;

/// Cuts rows that are drawn independently, each part on a thread from beginning to end.
pub(crate) fn independent_parts(
    device: &Device,
    width: usize,
    rows: usize,
    least: usize,
) -> Vec<Range<usize>> {
    match width < WIDE {
        true => parts_of(device, rows, least),
        false => vec![0..rows; 1],
    }
}

impl<B: CausalBackbone, H: LatentHead> LatentLm<ImageAdapters, B, H> {
    /// Draws the latents of one image a label.
    ///
    /// # Shapes
    /// - `labels`: `[B]`
    /// - returns: `[B, T, Z]`, as the codec decodes them (whitening undone)
    pub fn generate(
        &self,
        labels: Tensor<1, Int>,
        options: &SampleOptions,
        random: &mut RandomStream,
    ) -> Tensor<3> {
        let [batch] = labels.dims();
        let shape = [batch, self.adapters.tokens, self.head.latent_dim()];
        // Before the images' own noise: an image is the same however many are drawn beside it.
        let mut way = match options.sampler {
            Sampler::Ddpm => RandomStream::new(random.seed()),
            Sampler::DpmSolverPlusPlus | Sampler::Ddim => RandomStream::new(0),
        };
        let noise = random.normal(shape, &labels.device());
        let latents = self.generate_from(labels, noise, options, &mut way);
        self.adapters.latent.unwhiten(latents)
    }

    /// [`generate`](Self::generate) from given initial noise; the stream is read only by samplers
    /// that add noise on the way, and gives each image a stream of its own for that.
    ///
    /// With guidance the batch is doubled: the second half sees the null label and the same
    /// latents, in the same KV cache and the same matrix products.
    ///
    /// # Shapes
    /// - `labels`: `[B]`; `noise`: `[B, T, Z]`
    /// - returns: `[B, T, Z]`, whitened
    pub fn generate_from(
        &self,
        labels: Tensor<1, Int>,
        noise: Tensor<3>,
        options: &SampleOptions,
        random: &mut RandomStream,
    ) -> Tensor<3> {
        let mut streams = (0..labels.dims()[0]).map(|_| match options.sampler {
            Sampler::Ddpm => RandomStream::new(random.seed()),
            // These draw nothing on the way: whatever stream they get.
            Sampler::DpmSolverPlusPlus | Sampler::Ddim => RandomStream::new(0),
        });
        let width = self.backbone.width();
        let parts = independent_parts(&labels.device(), width, labels.dims()[0], ROWS_A_PART);
        let inputs = parts.into_iter().map(|rows| {
            let streams: Vec<RandomStream> = streams.by_ref().take(rows.len()).collect();
            let labels = labels.clone().narrow(0, rows.start, rows.len());
            let noise = noise.clone().narrow(0, rows.start, rows.len());
            // Modules may go to another thread, but not be shared with one; a clone copies no weights.
            let model = Self {
                adapters: self.adapters.clone(),
                backbone: self.backbone.clone(),
                head: self.head.clone(),
            };
            (model, labels, noise, streams)
        });
        let latents = at_once(inputs.collect(), |(model, labels, noise, streams)| {
            model.generate_part(labels, noise, options, streams)
        });
        Tensor::cat(latents, 0)
    }

    fn generate_part(
        &self,
        labels: Tensor<1, Int>,
        noise: Tensor<3>,
        options: &SampleOptions,
        mut streams: Vec<RandomStream>,
    ) -> Tensor<3> {
        let device = labels.device();
        let [batch, tokens, dim] = noise.dims();
        let guided = options.guidance_scale != 1.0;
        let (labels, rows) = if guided {
            let null = self.adapters.label.null(batch, &device);
            (Tensor::cat(vec![labels, null], 0), 2 * batch)
        } else {
            (labels, batch)
        };
        let mut kv_cache = self.backbone.init_state(rows, tokens, &device);
        let mut input = self.adapters.label.embed(labels); // [rows, 1, D]
        let mut latents = Vec::with_capacity(tokens);
        for position in 0..tokens {
            let hidden = self.backbone.step(input, &mut kv_cache);
            let width = hidden.dims()[2];
            let hidden = hidden.reshape([rows, width]);
            let condition = hidden.clone().narrow(0, 0, batch);
            let null = guided.then(|| hidden.narrow(0, batch, batch));
            let start = noise.clone().narrow(1, position, 1).reshape([batch, dim]);
            let latent = RandomStream::of_rows(streams.iter_mut().collect(), |random| {
                self.head.sample(condition, null, start, options, random)
            });
            let latent = latent.reshape([batch, 1, dim]);
            latents.push(latent.clone());
            input = self.adapters.latent.embed(latent);
            if guided {
                input = input.repeat_dim(0, 2);
            }
        }
        Tensor::cat(latents, 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::ImageLmConfig;
    use crate::sizes::LmSizes;
    use crate::stir::Stir;
    use burn::module::Module;
    use latentlm_core::conformance::{assert_close, seeded};

    /// An image is the same however many are drawn beside it, by a solver that draws noise at the
    /// beginning only and by one that does at every step.
    #[test]
    fn an_image_does_not_see_its_neighbours() {
        let device = Device::default();
        let sizes = LmSizes::new().with_width(32).with_depth(1).with_heads(4);
        let config = ImageLmConfig::new(3, 4, 2).with_sizes(sizes.with_head_depth(1));
        for seed in 0..10 {
            let mut model = seeded(seed, &device, |device| config.init(device));
            let stir = RandomStream::for_step(seed, "stir", 0);
            model.head = model.head.map(&mut Stir(stir));
            for sampler in [Sampler::DpmSolverPlusPlus, Sampler::Ddpm] {
                let options = SampleOptions {
                    sampler,
                    steps: 3,
                    guidance_scale: 2.0,
                    ..SampleOptions::default()
                };
                let draw = |labels: &[i32]| {
                    let labels = Tensor::<1, Int>::from_ints(labels, &device);
                    model.generate(labels, &options, &mut RandomStream::new(seed))
                };
                let all = draw(&[2, 0, 1, 1]);
                for labels in [&[2][..], &[2, 0], &[2, 0, 1]] {
                    let what = format!("model {seed}, {sampler:?}, {} images", labels.len());
                    let within = all.clone().narrow(0, 0, labels.len());
                    // Rounding, handed on from latent to latent; other noise is off by 1.
                    assert_close(&what, draw(labels), within, 1e-3);
                }
            }
        }
    }
}
