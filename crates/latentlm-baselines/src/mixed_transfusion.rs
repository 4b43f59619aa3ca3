//! Transfusion on documents of text and pictures: the joint loss of next tokens and diffusion.

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use latentlm_adapters::TokenAdapter;
use latentlm_adapters::packed::{embed, indices, surprise, weighted_mean};
use latentlm_core::sequence::{Document, Layout, Segment, SpecialTokens};
use latentlm_core::{DiffusionDraws, RandomStream, SampleOptions};
use latentlm_diffusion::solver;
use latentlm_kernels::{Sight, at_once, parts};

use crate::denoiser::{ImageDenoiser, ImageDiffusion};
use crate::transfusion::TransfusionNetwork;

/// Text and pictures in one Transformer. A picture that is to be drawn stands in the sequence as
/// noisy as its timestep says, one that is to be read as it is, at timestep 0. A document has at most
/// one picture.
#[derive(Module, Debug)]
pub struct MixedTransfusion {
    /// Text and [`SpecialTokens`], and the softmax head.
    pub token: TokenAdapter,
    /// Diffusion over a picture's latents.
    pub image: ImageDiffusion<TransfusionNetwork>,
}

/// The two parts of the joint loss `L_LM + lambda L_diff`, `[1]` each; 0 where nothing is learned.
#[derive(Debug, Clone)]
pub struct TransfusionLoss {
    /// Mean cross entropy of the learned tokens, each as heavy as its document.
    pub token: Tensor<1>,
    /// The denoising error of the learned pictures.
    pub diffusion: Tensor<1>,
}

/// Who sees whom in a document: its picture all of itself.
///
/// # Panics
/// If the document has several pictures: attention knows one run of positions that see each other.
fn sight(document: &Document) -> Sight {
    let mut position = 0;
    let mut picture = None;
    for segment in &document.segments {
        position += match segment {
            Segment::Label { .. } => 1,
            Segment::Text { tokens, .. } => tokens.len(),
            Segment::Latents { frames, .. } => {
                let first = position + 1; // behind <BOD>
                let before = picture.replace(first..first + frames);
                assert!(
                    before.is_none(),
                    "a document with several pictures; MixedTransfusion reads one"
                );
                frames + 2
            }
            Segment::Bare { frames, .. } => *frames,
        };
    }
    match picture {
        Some(picture) => Sight::mutual(document.positions(), picture),
        None => Sight::causal(document.positions()),
    }
}

impl MixedTransfusion {
    /// The tokens behind the text's vocabulary.
    pub fn special_tokens(&self) -> SpecialTokens {
        let text = self.token.vocabulary() - SpecialTokens::count(1);
        SpecialTokens::after(text, 1)
    }

    /// Where everything stands in packed documents.
    pub fn layout(&self, documents: &[Document]) -> Layout {
        Layout::new(documents, &self.special_tokens().modalities)
    }

    /// Hidden states of documents packed into one sequence: no document sees another.
    ///
    /// # Shapes
    /// - `images`: `[I, T * Z]`, those of all documents, each as noisy as its timestep says;
    ///   `timesteps`: `[I]`
    /// - returns: `[P, D]`
    ///
    /// # Panics
    /// If the documents' pictures are not as many as given, or a document has several.
    pub fn hidden(
        &self,
        documents: &[Document],
        layout: &Layout,
        (images, timesteps): (Tensor<2>, Tensor<1>),
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
            let embedded = self.image.denoiser.at(self.image.embed(images), timesteps);
            let width = embedded.dims()[2];
            latents.push(embedded.reshape([1, given, width]));
        }
        let x = embed(&self.token, layout, latents, &device);
        let sights: Vec<Sight> = documents.iter().map(sight).collect();
        let hidden = self.image.denoiser.forward_documents(x, &sights);
        hidden.squeeze_dim(0)
    }

    /// What the network predicts of pictures, `[I, T * Z]`, whose latents stand behind `conditions`.
    fn predict(&self, hidden: Tensor<2>, conditions: &[i64]) -> Tensor<2> {
        let places: Vec<i64> = conditions.iter().map(|before| before + 1).collect();
        let own = hidden.clone().select(0, indices(&places, &hidden.device()));
        let [rows, width] = own.dims();
        let images = rows / self.image.tokens;
        let own = own.reshape([images, self.image.tokens, width]);
        let numbers = self.image.tokens * self.image.denoiser.latent_dim();
        self.image.denoiser.predict(own).reshape([images, numbers])
    }

    /// The joint loss of packed documents, from one pass over text and pictures.
    ///
    /// # Shapes
    /// - `images`: `[I, T * Z]`, whitened, those of all documents
    /// - `draws`: a row for each learned picture ([`ImageDiffusion::draw`])
    /// - `weights`: of each document's learned tokens in their mean
    ///
    /// # Panics
    /// If pictures, draws or weights are not as many as the documents say, or a document has several
    /// pictures.
    pub fn loss(
        &self,
        documents: &[Document],
        images: Tensor<2>,
        draws: DiffusionDraws,
        weights: &[f64],
    ) -> TransfusionLoss {
        let device = images.device();
        let layout = self.layout(documents);
        let tokens = self.image.tokens;
        let learned = layout.learned[0].latents.chunks(tokens);
        let learned: Vec<i64> = learned.map(|run| run[0] / tokens as i64).collect();
        let (rows, times, target) = self.noised(images, &learned, draws);
        let hidden = self.hidden(documents, &layout, (rows, times));
        TransfusionLoss {
            diffusion: match target {
                Some(target) => {
                    let prediction = self.predict(hidden.clone(), &layout.learned[0].conditions);
                    (prediction - target).square().mean()
                }
                None => Tensor::zeros([1], &device),
            },
            token: match layout.answers.is_empty() {
                true => Tensor::zeros([1], &device),
                false => weighted_mean(self.surprise(&layout, hidden), &layout, weights),
            },
        }
    }

    /// Pictures as the sequence reads them, the learned ones noised; each one's timestep; and what the
    /// network should say of the learned ones, if there are any.
    fn noised(
        &self,
        images: Tensor<2>,
        learned: &[i64],
        draws: DiffusionDraws,
    ) -> (Tensor<2>, Tensor<1>, Option<Tensor<2>>) {
        let (device, count) = (images.device(), images.dims()[0]);
        let clean_times = Tensor::zeros([count], &device);
        if learned.is_empty() {
            return (images, clean_times, None);
        }
        let DiffusionDraws { noise, timesteps } = draws;
        // Clean pictures first, then noised ones.
        let mut read: Vec<i64> = (0..count as i64).collect();
        for (row, &image) in learned.iter().enumerate() {
            read[image as usize] = (count + row) as i64;
        }
        let read = indices(&read, &device);
        let schedule = self.image.denoiser.schedule();
        let clean = images.clone().select(0, indices(learned, &device));
        let noisy = schedule.add_noise(clean.clone(), noise.clone(), timesteps.clone());
        let times = Tensor::cat(vec![clean_times, timesteps.clone().float()], 0);
        (
            Tensor::cat(vec![images, noisy], 0).select(0, read.clone()),
            times.select(0, read),
            Some(schedule.target(clean, noise, timesteps)),
        )
    }

    /// `-log p` of each learned token, `[M]`.
    ///
    /// # Panics
    /// If nothing is asked.
    pub fn surprise(&self, layout: &Layout, hidden: Tensor<2>) -> Tensor<1> {
        let device = hidden.device();
        let asked = hidden.select(0, indices(&layout.asked, &device));
        surprise(&self.token, asked, indices(&layout.answers, &device))
    }

    /// Draws a picture for each text: as many passes over all of text and picture as the solver has
    /// steps. Guidance leads away from what is drawn for no text.
    ///
    /// # Shapes
    /// - returns: `[B, T, Z]`, as the codec decodes them (whitening undone)
    pub fn generate(
        &self,
        texts: &[Vec<u32>],
        options: &SampleOptions,
        (random, device): (&mut RandomStream, &Device),
    ) -> Tensor<3> {
        let (tokens, dim) = (self.image.tokens, self.image.denoiser.latent_dim());
        let noise = random.normal([texts.len(), tokens * dim], device);
        // For samplers that add noise on the way, whatever threads there are.
        let mut streams = texts.iter().map(|_| RandomStream::new(random.seed()));
        let parts = parts(device, texts.len()).into_iter();
        let inputs = parts.map(|rows| {
            let noise = noise.clone().narrow(0, rows.start, rows.len());
            let streams: Vec<RandomStream> = streams.by_ref().take(rows.len()).collect();
            (self.clone(), texts[rows].to_vec(), noise, streams)
        });
        let latents = at_once(inputs.collect(), |(model, texts, noise, mut streams)| {
            RandomStream::of_rows(streams.iter_mut().collect(), |random| {
                model.generate_part(&texts, noise, options, random)
            })
        });
        let latents = Tensor::cat(latents, 0).reshape([texts.len(), tokens, dim]);
        self.image.latent.unwhiten(latents)
    }

    fn generate_part(
        &self,
        texts: &[Vec<u32>],
        noise: Tensor<2>,
        options: &SampleOptions,
        random: &mut RandomStream,
    ) -> Tensor<2> {
        let guided = options.guidance_scale != 1.0;
        let null = vec![Vec::new(); if guided { texts.len() } else { 0 }];
        let documents = texts.iter().chain(&null).map(|text| self.request(text));
        let documents: Vec<Document> = documents.collect();
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
            let hidden = self.hidden(&documents, &layout, (rows, timesteps));
            let both = self.predict(hidden, &layout.learned[0].conditions);
            if !guided {
                return both;
            }
            let cond = both.clone().narrow(0, 0, texts.len());
            let null = both.narrow(0, texts.len(), texts.len());
            null.clone() + (cond - null).mul_scalar(options.guidance_scale)
        })
    }

    /// `<BOS> text <BOD>` and a picture that is to be drawn.
    fn request(&self, text: &[u32]) -> Document {
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
