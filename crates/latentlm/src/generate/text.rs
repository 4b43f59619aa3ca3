//! Text and latents in any order: the tokens that are drawn say which head draws next.

use burn::tensor::Tensor;
use latentlm_core::{CausalBackbone, LatentHead, RandomStream, SampleOptions};
use latentlm_kernels::at_once;

use super::options::GenerateOptions;
use super::prompt::{Piece, Prompt};
use super::steps::Generation;
use crate::model::LatentLm;
use crate::text_sampling::TextOptions;

/// Least number of prompts that are worth a thread of their own.
const PROMPTS_A_SHARD: usize = 4;

/// The continuation of a prompt.
#[derive(Debug, Clone)]
pub struct Continuation {
    /// In order; runs of latents without their `<BOD>` and `<EOD>`.
    pub pieces: Vec<Piece>,
    /// Whether it was stopped by the limit on positions and not by `<EOS>`.
    pub cut: bool,
}

impl<B: CausalBackbone, H: LatentHead> LatentLm<B, H> {
    /// Continues prompts of any kinds and lengths, each as if it were alone.
    ///
    /// # Panics
    /// If there are no prompts, or one asks a model that writes no text for text.
    pub fn generate(&self, prompts: &[Prompt], options: &GenerateOptions) -> Vec<Continuation> {
        assert!(!prompts.is_empty(), "no prompt");
        let shards = self.independent_shards(prompts.len(), PROMPTS_A_SHARD);
        // Modules may go to another thread, but not be shared with one.
        let inputs = shards
            .into_iter()
            .map(|part| (self.clone(), prompts[part].to_vec()));
        let made = at_once(inputs.collect(), |(model, prompts)| {
            model.generate_part(&prompts, options)
        });
        made.into_iter().flatten().collect()
    }

    /// Draws the picture or clip that each prompt asks for, each as if it were alone: latents of the first modality.
    ///
    /// # Shapes
    /// - returns: `[B, T, Z]`, as the codec decodes them, without those of a run that has begun; zeros for a prompt
    ///   that asks for something else
    ///
    /// # Panics
    /// If there are no prompts.
    pub fn draw_prompts(&self, prompts: &[Prompt], sample: &SampleOptions) -> Tensor<3> {
        let (frames, dim) = (self.frames[0], self.head_of(0).latent_dim());
        let options = self.draw_options(sample);
        let mut drawn = Vec::with_capacity(prompts.len());
        for made in self.generate(prompts, &options) {
            drawn.push(match made.pieces.into_iter().next() {
                Some(Piece::Latents { latents, .. }) => latents.unsqueeze_dim::<3>(0),
                _ => Tensor::zeros([1, frames, dim], &self.device()),
            });
        }
        Tensor::cat(drawn, 0)
    }

    /// The latents of [`draw_prompts`](Self::draw_prompts) for one prompt, each as soon as it is drawn.
    ///
    /// # Panics
    /// If the prompt asks a model that writes no text for text.
    pub fn stream_prompt(&self, prompt: &Prompt, sample: &SampleOptions) -> LatentStream<'_, B, H> {
        let options = self.draw_options(sample);
        LatentStream {
            model: self,
            generation: self.begin(std::slice::from_ref(prompt), &options),
        }
    }

    /// Options for one run of latents of the first modality, and what ends it.
    fn draw_options(&self, sample: &SampleOptions) -> GenerateOptions {
        GenerateOptions {
            text: TextOptions::GREEDY,
            sample: *sample,
            max_positions: self.frames[0] + 1,
        }
    }

    fn begin(&self, prompts: &[Prompt], options: &GenerateOptions) -> Generation<'_, B, H> {
        // The purpose decides what a seed draws, so it keeps a name of earlier versions.
        let streams = prompts
            .iter()
            .map(|prompt| RandomStream::for_step(prompt.seed, "mixed", 0));
        Generation::new(self, prompts, streams.collect(), *options)
    }

    pub(super) fn generate_part(
        &self,
        prompts: &[Prompt],
        options: &GenerateOptions,
    ) -> Vec<Continuation> {
        let mut generation = self.begin(prompts, options);
        let mut made = vec![Made::default(); prompts.len()];
        while let Some(step) = generation.step() {
            for (row, token) in step.written {
                made[row].write(token);
            }
            for drawn in step.drawn {
                for (place, &row) in drawn.rows.iter().enumerate() {
                    let latent = drawn.latents.clone().narrow(0, place, 1);
                    made[row].draw(drawn.modality, latent);
                }
            }
            for row in step.ended {
                made[row].end_run(self);
            }
        }
        let mut continuations = Vec::with_capacity(prompts.len());
        for (row, mut made) in made.into_iter().enumerate() {
            made.end_run(self);
            continuations.push(Continuation {
                pieces: made.pieces,
                cut: generation.was_cut(row),
            });
        }
        continuations
    }
}

/// A run of latents that is being drawn: the first can be decoded before the second is drawn.
pub struct LatentStream<'a, B: CausalBackbone, H> {
    model: &'a LatentLm<B, H>,
    generation: Generation<'a, B, H>,
}

impl<B: CausalBackbone, H: LatentHead> Iterator for LatentStream<'_, B, H> {
    /// `[1, Z]`, as the codec decodes it.
    type Item = Tensor<2>;

    fn next(&mut self) -> Option<Tensor<2>> {
        let drawn = self.generation.step()?.drawn.into_iter().next()?;
        let adapter = &self.model.latents[drawn.modality];
        Some(adapter.unwhiten(drawn.latents))
    }
}

/// The continuation of a prompt so far.
#[derive(Clone, Default)]
struct Made {
    pieces: Vec<Piece>,
    /// Modality of the run under way.
    modality: usize,
    /// Its latents, `[1, Z]` each, whitened.
    run: Vec<Tensor<2>>,
}

impl Made {
    fn write(&mut self, token: u32) {
        match self.pieces.last_mut() {
            Some(Piece::Text(tokens)) => tokens.push(token),
            _ => self.pieces.push(Piece::Text(vec![token])),
        }
    }

    fn draw(&mut self, modality: usize, latent: Tensor<2>) {
        self.modality = modality;
        self.run.push(latent);
    }

    fn end_run<B: CausalBackbone, H: LatentHead>(&mut self, model: &LatentLm<B, H>) {
        let run = std::mem::take(&mut self.run);
        if run.is_empty() {
            return;
        }
        let latents = Tensor::cat(run, 0);
        self.pieces.push(Piece::Latents {
            modality: self.modality,
            latents: model.latents[self.modality].unwhiten(latents),
        });
    }
}
