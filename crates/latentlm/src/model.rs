//! The model of the paper's figure 2: adapters make positions of labels, tokens and latents, one causal
//! Transformer reads them, a softmax head and diffusion heads read its hidden states.

use burn::module::Module;
use burn::nn::Embedding;
use burn::tensor::{Device, Tensor};
use latentlm_adapters::packed::{indices, surprise, weighted_mean};
use latentlm_adapters::{LabelAdapter, LatentAdapter, TokenAdapter, Whitening};
use latentlm_backbone::Backbone;
use latentlm_core::sequence::{ControlTokens, Document, Layout};
use latentlm_core::{CausalBackbone, DiffusionDraws, LatentHead, Loss, SampleOptions};
use latentlm_diffusion::Head;

use crate::sizes::ModelError;

/// The tokens around a document of a model that writes text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DocumentTokens {
    /// `<BOS>`: a document begins.
    pub start: u32,
    /// `<EOS>`: it has ended.
    pub stop: u32,
}

/// A latent language model over [documents](Document), with backbone `B` and heads `H` for continuous
/// latents. Its adapters decide which documents it can read.
///
/// Parameters are drawn, numbered and stored in the order of the fields.
#[derive(Module, Debug)]
pub struct LatentLm<B = Backbone, H = Head> {
    /// Class labels.
    pub labels: Option<LabelAdapter>,
    /// Text and the tokens around latents and documents; their softmax head.
    pub tokens: Option<TokenAdapter>,
    /// Latents of each modality.
    pub latents: Vec<LatentAdapter>,
    /// Embedding of the token that is spoken in a latent, added to the latent's position; `None` in a
    /// model that does not read it.
    pub said: Option<Embedding>,
    /// Positions to hidden states.
    pub backbone: B,
    /// Hidden states to latents: one head for all modalities, or one for each.
    pub heads: Vec<H>,
    /// The tokens around each modality's latents; unused in a model without tokens.
    #[module(skip)]
    pub control: Vec<ControlTokens>,
    /// The tokens around a document, of a model that writes text.
    #[module(skip)]
    pub document: Option<DocumentTokens>,
    /// Number of latents in a run of each modality; 0 if it is not fixed.
    pub frames: Vec<usize>,
}

/// Documents with their latents, and the noise that these are learned with.
#[derive(Debug, Clone)]
pub struct Batch {
    /// Documents, of equal or different lengths.
    pub documents: Vec<Document>,
    /// Weight of each document's learned tokens in their mean.
    pub weights: Vec<f64>,
    /// Latents that the backbone reads, `[N, Z]` for each modality, whitened, documents one after the
    /// other: the latents themselves, or with some of them hidden.
    pub heard: Vec<Tensor<2>>,
    /// Latents that the heads learn to draw, in the same shapes.
    pub latents: Vec<Tensor<2>>,
    /// For each modality `K` times as many rows as it has learned latents: each is denoised `K` times
    /// on one pass of the backbone (paper §2.2, `ddpm_batch_mul`).
    pub draws: Vec<DiffusionDraws>,
    /// The same documents without the label or text that their latents are made for, which a teacher of guidance
    /// reads; none without a teacher.
    pub nulls: Vec<Document>,
}

impl Batch {
    /// Documents of equal weight, whose latents are read as they are.
    ///
    /// # Shapes
    /// - `latents`: a modality's `[N, Z]` each, whitened; `draws`: `K` times the learned ones rows
    pub fn new(
        documents: Vec<Document>,
        latents: Vec<Tensor<2>>,
        draws: Vec<DiffusionDraws>,
    ) -> Self {
        Self {
            weights: vec![1.0; documents.len()],
            documents,
            heard: latents.clone(),
            latents,
            draws,
            nulls: Vec::new(),
        }
    }
}

impl<B: CausalBackbone, H: LatentHead> LatentLm<B, H> {
    /// The device of the model's weights.
    pub fn device(&self) -> Device {
        self.latents[0].device()
    }

    /// The adapter of class labels.
    ///
    /// # Panics
    /// If the model reads no labels.
    pub fn label_adapter(&self) -> &LabelAdapter {
        let labels = self.labels.as_ref();
        labels.expect("a model of classes, which reads labels")
    }

    /// The adapter of tokens, with the softmax head.
    ///
    /// # Panics
    /// If the model reads no tokens.
    pub fn token_adapter(&self) -> &TokenAdapter {
        let tokens = self.tokens.as_ref();
        tokens.expect("a model of text, which reads tokens")
    }

    /// Whether the model writes text too.
    pub(crate) fn writes(&self) -> bool {
        self.document.is_some()
    }

    /// The head that draws a modality's latents.
    pub fn head_of(&self, modality: usize) -> &H {
        &self.heads[modality.min(self.heads.len() - 1)]
    }

    /// Whether sampling with these options takes unconditional sequences beside the conditional ones.
    pub fn reads_null(&self, options: &SampleOptions) -> bool {
        self.heads.iter().any(|head| head.reads_null(options))
    }

    /// Makes the heads keep their weights in the layout of sampling between calls: see
    /// [`LatentHead::prepare_sampling`].
    pub fn prepared_for_sampling(mut self) -> Self {
        for head in &mut self.heads {
            head.prepare_sampling();
        }
        self
    }

    /// Sets the whitening of a modality's latents.
    ///
    /// # Panics
    /// If there is no such modality.
    pub fn with_whitening(mut self, modality: usize, whitening: Whitening) -> Self {
        let own = self.latents.remove(modality).with_whitening(whitening);
        self.latents.insert(modality, own);
        self
    }

    /// The layout of these documents, one after the other.
    pub fn layout(&self, documents: &[Document]) -> Layout {
        Layout::new(documents, &self.control)
    }

    /// All positions of a layout, `[P, D]`.
    ///
    /// # Shapes
    /// - `heard`: a modality's `[N, Z]` each, whitened
    ///
    /// # Panics
    /// If the layout has another number of latents, or labels or tokens that the model does not read.
    pub(crate) fn embed(&self, layout: &Layout, heard: &[Tensor<2>]) -> Tensor<2> {
        let (given, wanted) = (heard.len(), self.latents.len());
        assert_eq!(given, wanted, "latents of {given} modalities for {wanted}");
        let device = heard[0].device();
        let mut parts = Vec::with_capacity(2 + given);
        if !layout.tokens.is_empty() {
            let tokens = indices(&layout.tokens, &device).unsqueeze_dim(0);
            parts.push(self.token_adapter().embed(tokens).squeeze_dim::<2>(0));
        }
        if !layout.labels.is_empty() {
            let labels = indices(&layout.labels, &device);
            parts.push(self.label_adapter().embed(labels).squeeze_dim::<2>(1));
        }
        for (modality, (latents, said)) in heard.iter().zip(&layout.said).enumerate() {
            let [given, _] = latents.dims();
            assert_eq!(said.len(), given, "latents of modality {modality}");
            if given > 0 {
                parts.push(self.embed_latents(modality, latents.clone(), said));
            }
        }
        Tensor::cat(parts, 0).select(0, indices(&layout.rows, &device))
    }

    /// Latents as the backbone reads them, `[N, D]`.
    ///
    /// # Shapes
    /// - `latents`: `[N, Z]`, whitened; `said`: `N` tokens, spoken in them, if the model reads these
    pub(crate) fn embed_latents(
        &self,
        modality: usize,
        latents: Tensor<2>,
        said: &[i64],
    ) -> Tensor<2> {
        let positions = self.latents[modality].embed(latents);
        match &self.said {
            Some(table) => {
                let said = indices(said, &positions.device()).unsqueeze_dim(0);
                positions + table.forward(said).squeeze_dim::<2>(0)
            }
            None => positions,
        }
    }

    /// Hidden states of documents, which do not see each other. If all have one length they are a batch,
    /// otherwise they are packed into one sequence without gaps.
    ///
    /// # Shapes
    /// - `heard`: a modality's `[N, Z]` each, whitened, those of all documents one after the other
    /// - returns: `[P, D]`, all documents' positions
    ///
    /// # Panics
    /// If there are no documents, or the number of latents does not fit them.
    pub fn hidden(&self, layout: &Layout, heard: &[Tensor<2>]) -> Tensor<2> {
        let lengths = &layout.lengths;
        assert!(!lengths.is_empty(), "no documents");
        let x = self.embed(layout, heard);
        let [positions, width] = x.dims();
        let hidden = if lengths.windows(2).all(|pair| pair[0] == pair[1]) {
            let batch = x.reshape([lengths.len(), lengths[0], width]);
            self.backbone.forward(batch)
        } else {
            self.backbone.forward_documents(x.unsqueeze_dim(0), lengths)
        };
        hidden.reshape([positions, width])
    }

    /// The joint loss of documents.
    ///
    /// # Panics
    /// If the number of latents or weights does not fit the documents, or the rows of a modality's
    /// draws are no multiple of its learned latents.
    pub fn loss(&self, batch: Batch) -> Loss {
        let Batch {
            documents,
            weights,
            heard,
            latents,
            draws,
            ..
        } = batch;
        let (modalities, given) = (self.latents.len(), [latents.len(), draws.len()]);
        assert_eq!(given, [modalities; 2], "latents and draws of each modality");
        let device = heard[0].device();
        let layout = self.layout(&documents);
        let hidden = self.hidden(&layout, &heard);
        let parts = layout.learned.iter().zip(latents).zip(draws).enumerate();
        let diffusion = parts.map(|(modality, ((learned, latents), draws))| {
            let (count, rows) = (learned.latents.len(), draws.noise.dims()[0]);
            if count == 0 {
                return Tensor::zeros([1], &device);
            }
            assert!(
                rows.is_multiple_of(count),
                "draws must be a multiple of the {count} latents, not {rows}"
            );
            let condition = indices(&learned.conditions, &device);
            let condition = hidden.clone().select(0, condition);
            let latents = latents.select(0, indices(&learned.latents, &device));
            self.head_of(modality).loss_at(
                latents.repeat_dim(0, rows / count),
                condition.repeat_dim(0, rows / count),
                draws,
            )
        });
        let diffusion: Vec<Tensor<1>> = diffusion.collect();
        let token = if layout.answers.is_empty() {
            Tensor::zeros([1], &device)
        } else {
            weighted_mean(self.surprise(&layout, hidden), &layout, &weights)
        };
        Loss { token, diffusion }
    }

    /// This model with the weights of a teacher of the same sizes. Weights that the teacher lacks stay as they are.
    pub fn begin_from(self, teacher: Self) -> Self {
        let heads = self.heads.into_iter().zip(teacher.heads);
        Self {
            heads: heads.map(|(own, given)| own.begin_from(given)).collect(),
            ..teacher
        }
    }

    /// As a teacher: writes into the draws of a batch what this model, which has no autodiff, predicts with guidance at the
    /// draws' scales.
    ///
    /// # Errors
    /// If a head has no guided prediction.
    ///
    /// # Panics
    /// If the batch has no documents without condition, or they have other latents.
    pub fn teach(&self, batch: &mut Batch) -> Result<(), ModelError> {
        let (layout, hidden) = self.read(batch, &batch.documents);
        let (of_nulls, null) = self.read(batch, &batch.nulls);
        for (modality, draws) in batch.draws.iter_mut().enumerate() {
            let [learned, of_null] = [&layout, &of_nulls].map(|own| &own.learned[modality]);
            assert_eq!(learned.latents, of_null.latents, "latents of both branches");
            if learned.latents.is_empty() {
                continue;
            }
            let latents = batch.latents[modality].clone().inner();
            let target = self.head_of(modality).guided(
                drawn_rows(&latents, &learned.latents, draws),
                drawn_rows(&hidden, &learned.conditions, draws),
                drawn_rows(&null, &of_null.conditions, draws),
                &draws.clone().inner(),
            );
            let Some(target) = target else {
                return Err(ModelError::Config {
                    reason: "the teacher's head does not denoise, and can't teach guidance".into(),
                });
            };
            draws.target = Some(constant_beside(target, &draws.noise));
        }
        Ok(())
    }

    /// As the averaged weights of a model that learns whole steps: writes into the draws of a batch what these, which have
    /// no autodiff, make of two half steps.
    pub fn take_whole_steps(&self, batch: &mut Batch) {
        let (layout, hidden) = self.read(batch, &batch.documents);
        for (modality, draws) in batch.draws.iter_mut().enumerate() {
            let learned = &layout.learned[modality];
            if learned.latents.is_empty() {
                continue;
            }
            let latents = batch.latents[modality].clone().inner();
            let whole = self.head_of(modality).whole_steps(
                drawn_rows(&latents, &learned.latents, draws),
                drawn_rows(&hidden, &learned.conditions, draws),
                &draws.clone().inner(),
            );
            draws.whole_steps = whole.map(|whole| constant_beside(whole, &draws.noise));
        }
    }

    /// The layout of documents with a batch's latents, and their hidden states without autodiff, `[P, D]`.
    fn read(&self, batch: &Batch, documents: &[Document]) -> (Layout, Tensor<2>) {
        let layout = self.layout(documents);
        let heard: Vec<Tensor<2>> = batch.heard.iter().map(|own| own.clone().inner()).collect();
        let hidden = self.hidden(&layout, &heard);
        (layout, hidden)
    }

    /// Cross entropy `-log p` of each learned token, `[M]`. Perplexity is `exp` of its mean.
    ///
    /// # Shapes
    /// - `hidden`: `[P, D]`
    ///
    /// # Panics
    /// If the layout has no learned tokens.
    pub fn surprise(&self, layout: &Layout, hidden: Tensor<2>) -> Tensor<1> {
        let device = hidden.device();
        let asked = hidden.select(0, indices(&layout.asked, &device));
        let answers = indices(&layout.answers, &device);
        surprise(self.token_adapter(), asked, answers)
    }
}

/// Some rows, once for each draw of them.
fn drawn_rows(all: &Tensor<2>, rows: &[i64], draws: &DiffusionDraws) -> Tensor<2> {
    let repeats = draws.noise.dims()[0] / rows.len();
    let rows = all.clone().select(0, indices(rows, &all.device()));
    rows.repeat_dim(0, repeats)
}

/// A tensor without autodiff as a constant beside another, which may have it.
fn constant_beside(tensor: Tensor<2>, other: &Tensor<2>) -> Tensor<2> {
    if other.is_autodiff() {
        tensor.autodiff()
    } else {
        tensor
    }
}

#[cfg(test)]
mod tests;
