//! Pictures of classes.

use burn::tensor::Tensor;
use latentlm_core::{CausalBackbone, LatentHead, RandomStream, SampleOptions, Sampler};
use latentlm_kernels::{ROWS_A_SHARD, at_once};

use super::options::GenerateOptions;
use super::prompt::Prompt;
use super::steps::Generation;
use crate::model::LatentLm;
use crate::text_sampling::TextOptions;

/// A stream for the noise that a sampler adds on the way; most samplers add none, and then no seed is drawn.
fn way(sampler: Sampler, random: &mut RandomStream) -> RandomStream {
    if sampler.adds_noise() {
        RandomStream::new(random.seed())
    } else {
        RandomStream::new(0)
    }
}

impl<B: CausalBackbone, H: LatentHead> LatentLm<B, H> {
    /// Draws the latents of one image per class; the null class means no condition.
    ///
    /// # Shapes
    /// - returns: `[B, T, Z]`, as the codec decodes them (whitening undone)
    pub fn draw_images(
        &self,
        classes: &[u32],
        options: &SampleOptions,
        random: &mut RandomStream,
    ) -> Tensor<3> {
        let shape = [classes.len(), self.frames[0], self.head_of(0).latent_dim()];
        // Before the images' own noise: an image is the same however many are drawn beside it.
        let mut way = way(options.sampler, random);
        let noise = random.normal(shape, &self.device());
        let latents = self.draw_images_from(classes, noise, options, &mut way);
        self.latents[0].unwhiten(latents)
    }

    /// [`draw_images`](Self::draw_images) from given initial noise; only samplers that add noise on the way
    /// read `random`, from which each image gets its own stream.
    ///
    /// # Shapes
    /// - `noise`: `[B, T, Z]`
    /// - returns: `[B, T, Z]`, whitened
    pub fn draw_images_from(
        &self,
        classes: &[u32],
        noise: Tensor<3>,
        options: &SampleOptions,
        random: &mut RandomStream,
    ) -> Tensor<3> {
        let mut streams = classes.iter().map(|_| way(options.sampler, random));
        let shards = self.independent_shards(classes.len(), ROWS_A_SHARD);
        let inputs = shards.into_iter().map(|rows| {
            let noise = noise.clone().narrow(0, rows.start, rows.len());
            let streams: Vec<RandomStream> = streams.by_ref().take(rows.len()).collect();
            // Modules may go to another thread, but not be shared with one; a clone copies no weights.
            (self.clone(), classes[rows].to_vec(), noise, streams)
        });
        let latents = at_once(inputs.collect(), |(model, classes, noise, streams)| {
            model.draw_part(&classes, noise, options, streams)
        });
        Tensor::cat(latents, 0)
    }

    fn draw_part(
        &self,
        classes: &[u32],
        noise: Tensor<3>,
        options: &SampleOptions,
        streams: Vec<RandomStream>,
    ) -> Tensor<3> {
        let prompts = classes.iter().map(|&class| Prompt {
            label: Some(class),
            open: Some(0),
            ..Prompt::default()
        });
        let prompts: Vec<Prompt> = prompts.collect();
        let options = GenerateOptions {
            text: TextOptions::GREEDY,
            sample: *options,
            max_positions: noise.dims()[1],
        };
        let mut generation = Generation::new(self, &prompts, streams, options).with_noise(noise);
        let mut latents = Vec::with_capacity(options.max_positions);
        while let Some(step) = generation.step() {
            let drawn = step.drawn.into_iter();
            latents.extend(drawn.map(|drawn| drawn.latents.unsqueeze_dim::<3>(1)));
        }
        Tensor::cat(latents, 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::LatentLmConfig;
    use crate::sizes::LmSizes;
    use burn::module::Module;
    use burn::tensor::Device;
    use latentlm_core::conformance::{Stir, assert_close, largest_error, seeded};
    use latentlm_core::sequence::Document;

    /// An image is the same however many are drawn beside it, by a solver that draws noise at the
    /// beginning only and by one that does at every step.
    #[test]
    fn an_image_does_not_see_its_neighbours() {
        let device = Device::default();
        let sizes = LmSizes::new().with_width(32).with_depth(1).with_heads(4);
        let config = LatentLmConfig::image(3, 4, 2).with_sizes(sizes.with_head_depth(1));
        for seed in 0..10 {
            let mut model = seeded(seed, &device, |device| config.init(device));
            let stir = RandomStream::for_step(seed, "stir", 0);
            model.heads = model.heads.map(&mut Stir(stir));
            for sampler in [Sampler::DpmSolverPlusPlus, Sampler::Ddpm] {
                let options = SampleOptions {
                    sampler,
                    steps: 3,
                    guidance_scale: 2.0,
                    ..SampleOptions::default()
                };
                let draw = |classes: &[u32]| {
                    model.draw_images(classes, &options, &mut RandomStream::new(seed))
                };
                let all = draw(&[2, 0, 1, 1]);
                for classes in [&[2][..], &[2, 0], &[2, 0, 1]] {
                    let what = format!("model {seed}, {sampler:?}, {} images", classes.len());
                    let within = all.clone().narrow(0, 0, classes.len());
                    // Rounding, handed on from latent to latent; other noise is off by 1.
                    assert_close(&what, draw(classes), within, 1e-3);
                }
            }
        }
    }

    /// With strong guidance, whose extrapolation alone leaves the sphere.
    #[test]
    fn drawn_latents_keep_the_norm_of_the_codecs() {
        let device = Device::default();
        let sizes = LmSizes::new().with_width(32).with_depth(1).with_heads(4);
        let config = LatentLmConfig::image(3, 4, 2).with_sizes(sizes.with_head_depth(1));
        let draw = |config: &LatentLmConfig| {
            let mut model = seeded(1, &device, |device| config.init(device));
            model.heads = model.heads.map(&mut Stir(RandomStream::new(2)));
            let options = SampleOptions {
                steps: 3,
                guidance_scale: 4.0,
                ..SampleOptions::default()
            };
            let latents = model.draw_images(&[2, 0], &options, &mut RandomStream::new(3));
            latents.square().sum_dim(2)
        };
        let on_sphere = draw(&config.clone().with_on_sphere(true));
        let expected = Tensor::<3>::full([2, 4, 1], 2.0, &device);
        assert_close("squares", on_sphere, expected.clone(), 1e-5);
        let error = largest_error(draw(&config), expected);
        assert!(error > 0.1, "{error}");
    }

    /// Against full passes over all latents so far, the two halves apart.
    #[test]
    fn steps_are_what_whole_pictures_predict() {
        let device = Device::default();
        let sizes = LmSizes::new().with_width(32).with_depth(2).with_heads(4);
        let config = LatentLmConfig::image(3, 4, 2).with_sizes(sizes.with_head_depth(1));
        let mut model = seeded(3, &device, |device| config.init(device));
        model.heads = model.heads.map(&mut Stir(RandomStream::new(4)));
        let options = SampleOptions {
            steps: 3,
            guidance_scale: 2.0,
            ..SampleOptions::default()
        };
        let noise = RandomStream::new(5).normal([2, 4, 2], &device);
        let random = &mut RandomStream::new(0);
        let found = model.draw_images_from(&[1, 2], noise.clone(), &options, random);
        let mut latents: Tensor<3> = Tensor::zeros([2, 0, 2], &device);
        for position in 0..4 {
            let hidden = |classes: [u32; 2]| {
                let documents = classes.map(|class| Document::of_class(class, position + 1));
                // The latent that is not known yet is not read.
                let all = Tensor::cat(vec![latents.clone(), Tensor::zeros([2, 1, 2], &device)], 1);
                let all = all.reshape([2 * (position + 1), 2]);
                let hidden = model.hidden(&model.layout(&documents), &[all]);
                let hidden = hidden.reshape([2, position + 1, 32]);
                hidden.narrow(1, position, 1).reshape([2, 32])
            };
            let null = model.label_adapter().null_class();
            let start = noise.clone().narrow(1, position, 1).reshape([2, 2]);
            let (condition, null) = (hidden([1, 2]), hidden([null; 2]));
            let latent = model.heads[0].sample(condition, Some(null), start, &options, random);
            latents = Tensor::cat(vec![latents, latent.unsqueeze_dim(1)], 1);
        }
        assert_close("pictures", found, latents, 1e-4);
    }
}
