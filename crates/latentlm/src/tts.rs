//! The text-to-speech model: text, `<BOD>`, latents, `<EOD>` (paper §3.3).

use burn::config::Config;
use burn::module::Module;
use burn::nn::{Embedding, EmbeddingConfig};
use burn::tensor::{Device, Int, Tensor};
use latentlm_adapters::{LatentAdapter, LatentAdapterConfig, TokenAdapter, TokenAdapterConfig};
use latentlm_backbone::Backbone;
use latentlm_core::sequence::{ControlTokens, Document, Layout, Segment};
use latentlm_core::{CausalBackbone, DiffusionDraws, LatentHead, ModalityAdapter};
use latentlm_diffusion::Head;

use crate::model::LatentLm;
use crate::sizes::{LmSizes, ModelError};
use latentlm_adapters::packed::{embed, indices, surprise};

/// Adapters of a text-to-speech model.
#[derive(Module, Debug)]
pub struct TtsAdapters {
    /// Text, and the tokens that say where speech begins, goes on and ends.
    pub token: TokenAdapter,
    /// Latents of the speech codec.
    pub latent: LatentAdapter,
    /// What each latent says, added to it; none in a model that is not told.
    pub said: Option<Embedding>,
}

/// The text-to-speech model with the workspace's own backbone and head.
pub type SpeechLm = LatentLm<TtsAdapters, Backbone, Head>;

/// Configuration of a [`SpeechLm`].
#[derive(Config, Debug, PartialEq)]
pub struct SpeechLmConfig {
    /// Tokens of text; those of [`ControlTokens`] come on top.
    pub text_vocabulary: usize,
    /// `Z`, numbers a latent.
    pub latent_dim: usize,
    /// Whether the model reads, beside each latent, the token that it says, and names the next.
    #[config(default = false)]
    pub aligned: bool,
    /// Sizes of backbone and head.
    #[config(default = "LmSizes::new()")]
    pub sizes: LmSizes,
}

impl SpeechLmConfig {
    /// What is wrong with the configuration, if anything, in one line.
    ///
    /// # Errors
    /// If a size is zero or sizes do not fit each other.
    pub fn validate(&self) -> Result<(), ModelError> {
        if self.text_vocabulary == 0 {
            return Err(ModelError::Config {
                reason: "text_vocabulary must be positive".into(),
            });
        }
        self.sizes.validate(self.latent_dim)
    }

    /// Builds the model. Its parameters are drawn from the device's generator: seed that first.
    ///
    /// # Panics
    /// If [`validate`](Self::validate) fails.
    pub fn init(&self, device: &Device) -> SpeechLm {
        if let Err(error) = self.validate() {
            panic!("{error}");
        }
        let vocabulary = self.text_vocabulary + ControlTokens::COUNT;
        // As large as embedded latents: a hundredth of that is lost behind the first block, and
        // speech says as many words as the text has, but others. Hence not tied either.
        let token = TokenAdapterConfig::new(vocabulary, self.sizes.width)
            .with_tied(false)
            .with_embedding_std(1.0);
        LatentLm {
            adapters: TtsAdapters {
                token: token.init(device),
                latent: LatentAdapterConfig::new(self.latent_dim, self.sizes.width).init(device),
                said: self
                    .aligned
                    .then(|| EmbeddingConfig::new(vocabulary, self.sizes.width).init(device)),
            },
            backbone: self.sizes.backbone().init(device),
            head: self.sizes.head(self.latent_dim).init(device),
        }
    }
}

/// One utterance of a packed sequence: its text's tokens and the number of its latents.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpeechDocument {
    /// Tokens of the text; none where the text was dropped, for guidance.
    pub text: Vec<u32>,
    /// Latents, at least one.
    pub frames: usize,
    /// The token of the text that each latent says, where that is known; else none.
    pub said: Vec<u32>,
}

impl SpeechDocument {
    /// Positions it takes: text, `<BOD>`, latents.
    pub fn positions(&self) -> usize {
        self.text.len() + 1 + self.frames
    }

    /// The same for any modalities: text that is given, latents that end when the model says so.
    fn segments(&self) -> Document {
        let text = Segment::Text {
            tokens: self.text.clone(),
            learned: false,
        };
        let latents = Segment::Latents {
            modality: 0,
            frames: self.frames,
            open_ended: true,
            learned: true,
        };
        Document {
            segments: vec![text, latents],
        }
    }
}

/// The two parts of the joint loss `L_LM + lambda L_diff`, `[1]` each.
#[derive(Debug, Clone)]
pub struct SpeechLoss {
    /// Cross entropy at `<BOD>` and every latent: of what the next latent says where that is known,
    /// else of another latent, in the end of `<EOD>`.
    pub token: Tensor<1>,
    /// The diffusion head's denoising error.
    pub diffusion: Tensor<1>,
}

impl<B: CausalBackbone, H: LatentHead> LatentLm<TtsAdapters, B, H> {
    /// The control tokens of the model's vocabulary.
    pub fn control_tokens(&self) -> ControlTokens {
        ControlTokens::after(self.adapters.token.vocabulary() - ControlTokens::COUNT)
    }

    /// The joint loss of documents packed into one sequence without gaps: no document sees another.
    /// Each latent is denoised `K` times, as many as `draws` has rows for.
    ///
    /// # Shapes
    /// - `heard`: `[N, Z]`, whitened, what the backbone reads, those of all documents one after the
    ///   other: the latents themselves, or some of them hidden so that it listens to the text
    /// - `latents`: `[N, Z]`, whitened, what the head is to draw
    /// - `draws`: `K * N` rows
    ///
    /// # Panics
    /// If the documents' frames do not add up to `N`, a document has none or says another number of
    /// tokens, or the rows of `draws` are no multiple of `N`.
    pub fn loss(
        &self,
        documents: &[SpeechDocument],
        heard: Tensor<2>,
        latents: Tensor<2>,
        draws: DiffusionDraws,
    ) -> SpeechLoss {
        let device = latents.device();
        let frames: usize = documents.iter().map(|document| document.frames).sum();
        let [count, _] = latents.dims();
        assert_eq!(
            frames, count,
            "documents of {frames} frames, {count} latents"
        );
        assert!(
            documents.iter().all(|document| document.frames > 0),
            "a document without latents"
        );
        let known = |document: &SpeechDocument| [0, document.frames].contains(&document.said.len());
        assert!(
            documents.iter().all(known),
            "what is said is known of all latents or of none"
        );
        let repeats = draws.noise.dims()[0] / count;
        assert_eq!(
            draws.noise.dims()[0],
            repeats * count,
            "draws must be a multiple of the {count} latents"
        );
        let layout = self.layout(documents);
        let hidden = self.hidden(&layout, documents, heard); // [T, D]
        let asked = hidden.clone().select(0, indices(&layout.asked, &device));
        let condition = hidden.select(0, indices(&layout.learned[0].conditions, &device));
        let answers = indices(&layout.answers, &device);
        SpeechLoss {
            token: surprise(&self.adapters.token, asked, answers).mean(),
            diffusion: self.head.loss_at(
                latents.repeat_dim(0, repeats),
                condition.repeat_dim(0, repeats),
                draws,
            ),
        }
    }

    pub(crate) fn layout(&self, documents: &[SpeechDocument]) -> Layout {
        let segments: Vec<Document> = documents.iter().map(SpeechDocument::segments).collect();
        let mut layout = Layout::new(&segments, &[self.control_tokens()]);
        let mut rest = layout.answers.as_mut_slice();
        for document in documents {
            let (own, others) = rest.split_at_mut(document.frames + 1);
            for (answer, said) in own.iter_mut().zip(&document.said) {
                *answer = i64::from(*said);
            }
            rest = others;
        }
        layout
    }

    /// Latents as the backbone reads them, with what they say, `[B, T, D]`.
    ///
    /// # Shapes
    /// - `latents`: `[B, T, Z]`, whitened; `said`: `[B, T]`, `more` where it is not known
    pub(crate) fn embed_latents(&self, latents: Tensor<3>, said: Tensor<2, Int>) -> Tensor<3> {
        let latents = self.adapters.latent.embed(latents);
        match &self.adapters.said {
            Some(table) => latents + table.forward(said),
            None => latents,
        }
    }

    /// Hidden states of all positions, `[T, D]`.
    pub(crate) fn hidden(
        &self,
        layout: &Layout,
        documents: &[SpeechDocument],
        latents: Tensor<2>,
    ) -> Tensor<2> {
        let device = latents.device();
        let more = self.control_tokens().more;
        let said = documents.iter().flat_map(|document| {
            let unknown = document.frames - document.said.len();
            let said = document.said.iter().copied();
            said.chain(std::iter::repeat_n(more, unknown))
                .map(i64::from)
        });
        let said = indices(&said.collect::<Vec<i64>>(), &device).unsqueeze_dim(0);
        let latents = self.embed_latents(latents.unsqueeze_dim(0), said);
        let x = embed(&self.adapters.token, layout, vec![latents], &device);
        let lengths: Vec<usize> = documents.iter().map(SpeechDocument::positions).collect();
        self.backbone.forward_documents(x, &lengths).squeeze_dim(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use latentlm_core::RandomStream;
    use latentlm_core::conformance::{assert_close, seeded};

    const DIM: usize = 4;

    fn documents() -> Vec<SpeechDocument> {
        [(vec![1, 2, 3], 2), (vec![], 1), (vec![4], 3)]
            .map(|(text, frames)| SpeechDocument {
                text,
                frames,
                said: Vec::new(),
            })
            .to_vec()
    }

    fn model(device: &Device) -> SpeechLm {
        let sizes = LmSizes::new().with_width(32).with_depth(2).with_heads(4);
        let config = SpeechLmConfig::new(8, DIM).with_sizes(sizes.with_kv_heads(2));
        seeded(5, device, |device| config.init(device))
    }

    /// Packing changes no hidden state, hence no logit: a document in company is the document alone.
    #[test]
    fn packing_changes_nothing() {
        let device = Device::default();
        let model = model(&device);
        let latents: Tensor<2> = RandomStream::new(1).normal([6, DIM], &device);
        let hidden = |documents: &[SpeechDocument], latents| {
            model.hidden(&model.layout(documents), documents, latents)
        };
        let packed = hidden(&documents(), latents.clone());
        let (mut frame, mut position) = (0, 0);
        for document in documents() {
            let (frames, positions) = (document.frames, document.positions());
            let own = latents.clone().narrow(0, frame, frames);
            let alone = hidden(&[document], own);
            let within = packed.clone().narrow(0, position, positions);
            assert_close("a document's hidden states", within, alone, 1e-5);
            frame += frames;
            position += positions;
        }
    }

    /// Where it is known what latents say, the softmax head is asked for that, but at the end.
    #[test]
    fn latents_are_named() {
        let device = Device::default();
        let model = model(&device);
        let control = model.control_tokens();
        let [more, end] = [control.more, control.end].map(i64::from);
        let mut documents = documents();
        documents[2].said = vec![4, 4, control.more];
        let layout = model.layout(&documents);
        assert_eq!(
            layout.answers,
            [more, more, end, more, end, 4, 4, more, end]
        );
    }

    /// An untrained softmax head is near the uniform distribution, the diffusion head begins as
    /// zero, whose error is the mean square of its target.
    #[test]
    fn losses_begin_at_their_closed_forms() {
        let device = Device::default();
        let model = model(&device);
        let mut random = RandomStream::new(2);
        let latents: Tensor<2> = random.normal([6, DIM], &device);
        let draws = model.head.draw(12, &mut random, &device);
        let schedule = model.head.schedule();
        let target = schedule.target(
            latents.clone().repeat_dim(0, 2),
            draws.noise.clone(),
            draws.timesteps.clone(),
        );
        let loss = model.loss(&documents(), latents.clone(), latents, draws);
        let uniform = (11f32).ln();
        assert!((loss.token.into_scalar::<f32>() - uniform).abs() < 0.2);
        assert_close("loss", loss.diffusion, target.square().mean(), 1e-5);
    }
}
