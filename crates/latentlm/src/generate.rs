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
        let noise = random.normal(shape, &labels.device());
        let latents = self.generate_from(labels, noise, options, random);
        self.adapters.latent.unwhiten(latents)
    }

    /// [`generate`](Self::generate) from given initial noise; the stream is read only by samplers
    /// that add noise on the way.
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
        if options.sampler == Sampler::Ddpm {
            return self.generate_part(labels, noise, options, random);
        }
        // Images are independent, and so are these samplers of any further noise.
        let width = self.backbone.width();
        let parts = independent_parts(&labels.device(), width, labels.dims()[0], ROWS_A_PART);
        let inputs = parts.into_iter().map(|rows| {
            let labels = labels.clone().narrow(0, rows.start, rows.len());
            let noise = noise.clone().narrow(0, rows.start, rows.len());
            // Modules may go to another thread, but not be shared with one; a clone copies no weights.
            let model = Self {
                adapters: self.adapters.clone(),
                backbone: self.backbone.clone(),
                head: self.head.clone(),
            };
            (model, labels, noise)
        });
        let latents = at_once(inputs.collect(), |(model, labels, noise)| {
            model.generate_part(labels, noise, options, &mut RandomStream::new(0))
        });
        Tensor::cat(latents, 0)
    }

    fn generate_part(
        &self,
        labels: Tensor<1, Int>,
        noise: Tensor<3>,
        options: &SampleOptions,
        random: &mut RandomStream,
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
            let latent = self.head.sample(condition, null, start, options, random);
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
