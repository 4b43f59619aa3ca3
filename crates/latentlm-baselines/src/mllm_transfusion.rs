//! Transfusion on documents of text and pictures, with the joint loss of next tokens and diffusion.

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use latentlm_adapters::packed::{embed, indices, surprise, weighted_mean};
use latentlm_adapters::{TokenAdapter, TokenAdapterConfig};
use latentlm_core::sequence::{Document, Layout, Segment, SpecialTokens};
use latentlm_core::{DiffusionDraws, Loss, RandomStream, SampleOptions};
use latentlm_diffusion::solver;
use latentlm_kernels::{Mask, at_once, shards};

use crate::denoiser::{DenoiserConfig, ImageDenoiser, ImageDiffusion};
use crate::token::guide;
use crate::transfusion::TransfusionNetwork;

/// Text and pictures in one Transformer. A picture that the model learns to draw is noisy in the
/// sequence, as its timestep says. A picture that the model only reads has no noise and timestep 0. A
/// document has at most one picture.
#[derive(Module, Debug)]
pub struct MllmTransfusion {
    /// Embedding of text and [`SpecialTokens`], and the softmax head.
    pub token: TokenAdapter,
    /// Diffusion over the latents of a picture.
    pub image: ImageDiffusion<TransfusionNetwork>,
}

impl DenoiserConfig {
    /// Builds the model of text and images, like [`init`](Self::init). With `tied`, embedding and
    /// softmax head share their weights.
    ///
    /// # Panics
    /// If [`validate`](Self::validate) fails.
    pub fn init_mllm(&self, tied: bool, device: &Device) -> MllmTransfusion {
        let network = self.denoiser(device);
        let vocabulary = self.classes + SpecialTokens::count(1);
        let token = TokenAdapterConfig::new(vocabulary, self.sizes.width).with_tied(tied);
        // The same initialization as LatentLM's.
        let token = token.with_embedding_std(if tied { 0.02 } else { 1.0 });
        MllmTransfusion {
            token: token.init(device),
            image: self.image(network, device),
        }
    }
}

/// The attention mask of a document: causal, and bidirectional within its picture.
///
/// # Panics
/// If the document has several pictures, since a mask has at most one bidirectional range.
fn mask(document: &Document) -> Mask {
    let mut position = 0;
    let mut picture = None;
    for segment in &document.segments {
        position += match segment {
            Segment::Label { .. } => 1,
            Segment::Text { tokens, .. } => tokens.len(),
            Segment::Latents { frames, .. } => {
                let first = position + 1; // after <BOD>
                let before = picture.replace(first..first + frames);
                assert!(
                    before.is_none(),
                    "a document with several pictures; MllmTransfusion reads one"
                );
                frames + 2
            }
            Segment::Bare { frames, .. } => *frames,
        };
    }
    match picture {
        Some(picture) => Mask::mutual(document.positions(), picture),
        None => Mask::causal(document.positions()),
    }
}

/// Input pictures of the joint loss.
struct NoisyPictures {
    /// All pictures; the learned ones are noisy, `[I, T * Z]`.
    images: Tensor<2>,
    /// Timestep of each picture, 0 for pictures without noise, `[I]`.
    timesteps: Tensor<1>,
    /// Targets of the prediction for the learned pictures, if there are any.
    target: Option<Tensor<2>>,
}

impl MllmTransfusion {
    /// The special tokens, which follow the text in the vocabulary.
    pub fn special_tokens(&self) -> SpecialTokens {
        let text = self.token.vocabulary() - SpecialTokens::count(1);
        SpecialTokens::after(text, 1)
    }

    /// The layout of packed documents.
    pub fn layout(&self, documents: &[Document]) -> Layout {
        Layout::new(documents, &self.special_tokens().modalities)
    }

    /// Hidden states of documents packed into one sequence. Documents do not attend to each other.
    ///
    /// # Shapes
    /// - `images`: `[I, T * Z]`, the pictures of all documents, noisy as their timesteps say;
    ///   `timesteps`: `[I]`
    /// - returns: `[P, D]`, for `P` positions
    ///
    /// # Panics
    /// If the documents have another number of pictures, or a document has several.
    pub fn hidden(
        &self,
        documents: &[Document],
        layout: &Layout,
        images: Tensor<2>,
        timesteps: Tensor<1>,
    ) -> Tensor<2> {
        let (device, count) = (images.device(), images.dims()[0]);
        let given: usize = documents.iter().map(|d| d.frames(0)).sum();
        assert_eq!(
            given,
            count * self.image.tokens,
            "latents of {count} pictures"
        );
        let mut latents = Vec::new();
        if count > 0 {
            let embedded = self
                .image
                .denoiser
                .add_timesteps(self.image.embed(images), timesteps);
            let width = embedded.dims()[2];
            latents.push(embedded.reshape([1, given, width]));
        }
        let x = embed(&self.token, layout, latents, &device);
        let masks: Vec<Mask> = documents.iter().map(mask).collect();
        let hidden = self.image.denoiser.forward_documents(x, &masks);
        hidden.squeeze_dim(0)
    }

    /// The prediction for pictures, `[I, T * Z]`. `conditions` are the positions before each of their
    /// latents.
    fn predict(&self, hidden: Tensor<2>, conditions: &[i64]) -> Tensor<2> {
        let positions: Vec<i64> = conditions.iter().map(|before| before + 1).collect();
        let positions = indices(&positions, &hidden.device());
        let hidden = hidden.select(0, positions);
        let [rows, width] = hidden.dims();
        let images = rows / self.image.tokens;
        let hidden = hidden.reshape([images, self.image.tokens, width]);
        let size = self.image.tokens * self.image.denoiser.latent_dim();
        self.image.denoiser.predict(hidden).reshape([images, size])
    }

    /// The joint loss of packed documents, from one pass over text and pictures.
    ///
    /// # Shapes
    /// - `images`: `[I, T * Z]`, whitened, the pictures of all documents
    /// - `draws`: a row for each learned picture ([`ImageDiffusion::draw`])
    /// - `weights`: for each document, the weight of its learned tokens in their mean
    ///
    /// # Panics
    /// If the number of pictures, draws or weights does not fit the documents, or a document has
    /// several pictures.
    pub fn loss(
        &self,
        documents: &[Document],
        images: Tensor<2>,
        draws: DiffusionDraws,
        weights: &[f64],
    ) -> Loss {
        let device = images.device();
        let layout = self.layout(documents);
        let tokens = self.image.tokens;
        // Indices of the learned pictures among all pictures.
        let learned = layout.learned[0].latents.chunks(tokens);
        let learned: Vec<i64> = learned.map(|run| run[0] / tokens as i64).collect();
        let pictures = self.add_noise(images, &learned, draws);
        let hidden = self.hidden(documents, &layout, pictures.images, pictures.timesteps);
        let diffusion = match pictures.target {
            Some(target) => {
                let prediction = self.predict(hidden.clone(), &layout.learned[0].conditions);
                (prediction - target).square().mean()
            }
            None => Tensor::zeros([1], &device),
        };
        let token = if layout.answers.is_empty() {
            Tensor::zeros([1], &device)
        } else {
            weighted_mean(self.surprise(&layout, hidden), &layout, weights)
        };
        Loss {
            token,
            diffusion: vec![diffusion],
        }
    }

    /// Adds noise to the pictures with the indices `learned`. The others stay as they are.
    fn add_noise(
        &self,
        images: Tensor<2>,
        learned: &[i64],
        draws: DiffusionDraws,
    ) -> NoisyPictures {
        let (device, count) = (images.device(), images.dims()[0]);
        let clean_times = Tensor::zeros([count], &device);
        if learned.is_empty() {
            return NoisyPictures {
                images,
                timesteps: clean_times,
                target: None,
            };
        }
        let DiffusionDraws {
            noise, timesteps, ..
        } = draws;
        // Rows to select from all clean pictures, followed by the noisy ones.
        let mut read: Vec<i64> = (0..count as i64).collect();
        for (row, &image) in learned.iter().enumerate() {
            read[image as usize] = (count + row) as i64;
        }
        let read = indices(&read, &device);
        let schedule = self.image.denoiser.schedule();
        let clean = images.clone().select(0, indices(learned, &device));
        let noisy = schedule.add_noise(clean.clone(), noise.clone(), timesteps.clone());
        let times = Tensor::cat(vec![clean_times, timesteps.clone().float()], 0);
        NoisyPictures {
            images: Tensor::cat(vec![images, noisy], 0).select(0, read.clone()),
            timesteps: times.select(0, read),
            target: Some(schedule.target(clean, noise, timesteps)),
        }
    }

    /// Cross entropy of each learned token, in nats, `[M]`.
    ///
    /// # Panics
    /// If the layout has no learned token.
    pub fn surprise(&self, layout: &Layout, hidden: Tensor<2>) -> Tensor<1> {
        let device = hidden.device();
        let asked = hidden.select(0, indices(&layout.asked, &device));
        surprise(&self.token, asked, indices(&layout.answers, &device))
    }

    /// Samples a picture for each text. Each solver step is one pass over text and picture. The
    /// null half of guidance has no text.
    ///
    /// # Shapes
    /// - returns: `[B, T, Z]`, ready for the codec: the whitening is undone
    pub fn generate(
        &self,
        texts: &[Vec<u32>],
        options: &SampleOptions,
        random: &mut RandomStream,
        device: &Device,
    ) -> Tensor<3> {
        let (tokens, dim) = (self.image.tokens, self.image.denoiser.latent_dim());
        let noise = random.normal([texts.len(), tokens * dim], device);
        // A stream for each picture, for samplers that add noise in every step. So pictures do not
        // depend on the number of threads.
        let mut streams = texts.iter().map(|_| RandomStream::new(random.seed()));
        let mut inputs = Vec::new();
        for rows in shards(device, texts.len()) {
            let noise = noise.clone().narrow(0, rows.start, rows.len());
            let streams: Vec<RandomStream> = streams.by_ref().take(rows.len()).collect();
            inputs.push((self.clone(), texts[rows].to_vec(), noise, streams));
        }
        let latents = at_once(inputs, |(model, texts, noise, mut streams)| {
            RandomStream::of_rows(streams.iter_mut().collect(), |random| {
                model.generate_rows(&texts, noise, options, random)
            })
        });
        let latents = Tensor::cat(latents, 0).reshape([texts.len(), tokens, dim]);
        self.image.latent.unwhiten(latents)
    }

    /// The whitened latents of [`generate`](Self::generate) on one thread, `[B, T * Z]`.
    fn generate_rows(
        &self,
        texts: &[Vec<u32>],
        noise: Tensor<2>,
        options: &SampleOptions,
        random: &mut RandomStream,
    ) -> Tensor<2> {
        let guided = options.guidance_scale != 1.0;
        let null = vec![Vec::new(); if guided { texts.len() } else { 0 }];
        let documents: Vec<Document> = texts
            .iter()
            .chain(&null)
            .map(|text| self.prompt(text))
            .collect();
        let layout = self.layout(&documents);
        let plan = solver::plan(
            options.sampler,
            self.image.denoiser.schedule(),
            options.steps,
        );
        solver::integrate(&plan, noise, random, |step, x| {
            let timestep = plan[step].timestep as f32;
            let timesteps = Tensor::<1>::full([documents.len()], timestep, &x.device());
            let rows = if guided { x.repeat_dim(0, 2) } else { x };
            let hidden = self.hidden(&documents, &layout, rows, timesteps);
            let both = self.predict(hidden, &layout.learned[0].conditions);
            guide(both, texts.len(), options.guidance_scale)
        })
    }

    /// The document `<BOS> text <BOD> picture`, in which the picture is to be drawn.
    fn prompt(&self, text: &[u32]) -> Document {
        let start = self.special_tokens().start;
        let text = Segment::Text {
            tokens: [&[start], text].concat(),
            learned: false,
        };
        let picture = Segment::Latents {
            modality: 0,
            frames: self.image.tokens,
            open_ended: false,
            said: Vec::new(),
            learned: true,
        };
        Document {
            segments: vec![text, picture],
        }
    }
}
