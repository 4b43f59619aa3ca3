//! The text-to-speech model: text, `<BOD>`, latents, `<EOD>` (paper §3.3).

use burn::config::Config;
use burn::module::Module;
use burn::tensor::activation::log_softmax;
use burn::tensor::{Device, Int, Tensor, TensorData};
use latentlm_adapters::{LatentAdapter, LatentAdapterConfig, TokenAdapter, TokenAdapterConfig};
use latentlm_backbone::Backbone;
use latentlm_core::{CausalBackbone, DiffusionDraws, LatentHead, ModalityAdapter};
use latentlm_diffusion::Head;

use crate::model::LatentLm;
use crate::sizes::{LmSizes, ModelError};

/// Adapters of a text-to-speech model.
#[derive(Module, Debug)]
pub struct TtsAdapters {
    /// Text, and the tokens that say where speech begins, goes on and ends.
    pub token: TokenAdapter,
    /// Latents of the speech codec.
    pub latent: LatentAdapter,
}

/// The text-to-speech model with the workspace's own backbone and head.
pub type SpeechLm = LatentLm<TtsAdapters, Backbone, Head>;

/// The tokens behind a text's vocabulary.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ControlTokens {
    /// `<BOD>`: speech begins.
    pub begin: u32,
    /// `<EOD>`: it has ended.
    pub end: u32,
    /// Another latent comes.
    pub more: u32,
}

impl ControlTokens {
    /// How many there are.
    pub const COUNT: usize = 3;

    /// Those of a vocabulary of `text` tokens of text.
    pub fn after(text: usize) -> Self {
        let first = text as u32;
        Self {
            begin: first,
            end: first + 1,
            more: first + 2,
        }
    }
}

/// Configuration of a [`SpeechLm`].
#[derive(Config, Debug, PartialEq)]
pub struct SpeechLmConfig {
    /// Tokens of text; those of [`ControlTokens`] come on top.
    pub text_vocabulary: usize,
    /// `Z`, numbers a latent.
    pub latent_dim: usize,
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
}

impl SpeechDocument {
    /// Positions it takes: text, `<BOD>`, latents.
    pub fn positions(&self) -> usize {
        self.text.len() + 1 + self.frames
    }
}

/// The two parts of the joint loss `L_LM + lambda L_diff`, `[1]` each.
#[derive(Debug, Clone)]
pub struct SpeechLoss {
    /// Cross entropy of `<EOD>` against another latent, at `<BOD>` and every latent.
    pub token: Tensor<1>,
    /// The diffusion head's denoising error.
    pub diffusion: Tensor<1>,
}

/// Where everything stands in a sequence of documents.
struct Layout {
    /// All tokens, documents one after the other.
    tokens: Vec<i64>,
    /// For every position: a row of the tokens' embeddings, or behind them of the latents'.
    rows: Vec<i64>,
    /// Positions of `<BOD>` and all latents, document by document.
    heard: Vec<i64>,
    /// What the softmax head should say there.
    answers: Vec<i64>,
    /// Those of `heard` that another latent follows.
    followed: Vec<i64>,
}

impl Layout {
    fn new(documents: &[SpeechDocument], control: ControlTokens) -> Self {
        let count = documents.iter().map(|d| d.text.len() + 1).sum::<usize>() as i64;
        let mut layout = Self {
            tokens: Vec::new(),
            rows: Vec::new(),
            heard: Vec::new(),
            answers: Vec::new(),
            followed: Vec::new(),
        };
        let mut latent = count;
        for document in documents {
            for token in document.text.iter().chain([&control.begin]) {
                layout.rows.push(layout.tokens.len() as i64);
                layout.tokens.push(i64::from(*token));
            }
            layout.hear(control.more);
            for frame in 1..=document.frames {
                layout.rows.push(latent);
                latent += 1;
                let last = frame == document.frames;
                layout.hear(if last { control.end } else { control.more });
            }
            // The last latent is heard, but nothing follows it.
            layout.followed.pop();
        }
        layout
    }

    /// The newest position is one at which the softmax head is asked.
    fn hear(&mut self, answer: u32) {
        self.followed.push(self.heard.len() as i64);
        self.heard.push(self.rows.len() as i64 - 1);
        self.answers.push(i64::from(answer));
    }
}

fn indices(values: Vec<i64>, device: &Device) -> Tensor<1, Int> {
    let count = values.len();
    Tensor::from_data(TensorData::new(values, [count]), device)
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
    /// - `latents`: `[N, Z]`, whitened, those of all documents one after the other
    /// - `draws`: `K * N` rows
    ///
    /// # Panics
    /// If the documents' frames do not add up to `N`, a document has none, or the rows of `draws`
    /// are no multiple of `N`.
    pub fn loss(
        &self,
        documents: &[SpeechDocument],
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
        let repeats = draws.noise.dims()[0] / count;
        assert_eq!(
            draws.noise.dims()[0],
            repeats * count,
            "draws must be a multiple of the {count} latents"
        );
        let layout = Layout::new(documents, self.control_tokens());
        let hidden = self.heard(&layout, documents, latents.clone()); // [N + documents, D]
        let followed = indices(layout.followed, &device);
        let condition = hidden.clone().select(0, followed); // [N, D]
        SpeechLoss {
            token: self.token_loss(hidden, layout.answers),
            diffusion: self.head.loss_at(
                latents.repeat_dim(0, repeats),
                condition.repeat_dim(0, repeats),
                draws,
            ),
        }
    }

    /// Hidden states at `<BOD>` and all latents.
    fn heard(
        &self,
        layout: &Layout,
        documents: &[SpeechDocument],
        latents: Tensor<2>,
    ) -> Tensor<2> {
        let device = latents.device();
        let tokens = indices(layout.tokens.clone(), &device).unsqueeze_dim(0);
        let tokens = self.adapters.token.embed(tokens);
        let latents = self.adapters.latent.embed(latents.unsqueeze_dim(0));
        let rows = indices(layout.rows.clone(), &device);
        let x = Tensor::cat(vec![tokens, latents], 1).select(1, rows); // [1, T, D]
        let lengths: Vec<usize> = documents.iter().map(SpeechDocument::positions).collect();
        let hidden = self.backbone.forward_documents(x, &lengths);
        let width = hidden.dims()[2];
        let heard = indices(layout.heard.clone(), &device);
        let count = heard.dims()[0];
        hidden.select(1, heard).reshape([count, width])
    }

    /// # Shapes
    /// - `hidden`: `[M, D]`; `answers`: `M`
    fn token_loss(&self, hidden: Tensor<2>, answers: Vec<i64>) -> Tensor<1> {
        let device = hidden.device();
        let count = answers.len();
        let logits = self.adapters.token.logits(hidden.unsqueeze_dim(0));
        let vocabulary = logits.dims()[2];
        let log = log_softmax(logits.reshape([count, vocabulary]), 1);
        let answers = indices(answers, &device).reshape([count, 1]);
        log.gather(1, answers).mean().neg()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use latentlm_core::RandomStream;
    use latentlm_core::conformance::assert_close;

    const DIM: usize = 4;

    fn documents() -> Vec<SpeechDocument> {
        [(vec![1, 2, 3], 2), (vec![], 1), (vec![4], 3)]
            .map(|(text, frames)| SpeechDocument { text, frames })
            .to_vec()
    }

    fn model(device: &Device) -> SpeechLm {
        device.seed(5);
        let sizes = LmSizes::new().with_width(32).with_depth(2).with_heads(4);
        SpeechLmConfig::new(8, DIM)
            .with_sizes(sizes.with_kv_heads(2))
            .init(device)
    }

    #[test]
    fn documents_stand_one_after_the_other() {
        let layout = Layout::new(&documents(), ControlTokens::after(8));
        assert_eq!(layout.tokens, [1, 2, 3, 8, 8, 4, 8]);
        assert_eq!(layout.rows, [0, 1, 2, 3, 7, 8, 4, 9, 5, 6, 10, 11, 12]);
        assert_eq!(layout.heard, [3, 4, 5, 6, 7, 9, 10, 11, 12]);
        assert_eq!(layout.answers, [10, 10, 9, 10, 9, 10, 10, 10, 9]);
        assert_eq!(layout.followed, [0, 1, 3, 5, 6, 7]);
    }

    /// Packing changes no hidden state, hence no logit: a document in company is the document alone.
    #[test]
    fn packing_changes_nothing() {
        let device = Device::default();
        let model = model(&device);
        let latents: Tensor<2> = RandomStream::new(1).normal([6, DIM], &device);
        let hidden = |documents: &[SpeechDocument], latents| {
            let layout = Layout::new(documents, model.control_tokens());
            model.heard(&layout, documents, latents)
        };
        let packed = hidden(&documents(), latents.clone());
        let (mut frame, mut row) = (0, 0);
        for document in documents() {
            let frames = document.frames;
            let own = latents.clone().narrow(0, frame, frames);
            let alone = hidden(&[document], own);
            let within = packed.clone().narrow(0, row, frames + 1);
            assert_close("a document's hidden states", within, alone, 1e-5);
            frame += frames;
            row += frames + 1;
        }
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
        let loss = model.loss(&documents(), latents, draws);
        let uniform = (11f32).ln();
        assert!((loss.token.into_scalar::<f32>() - uniform).abs() < 0.2);
        assert_close("loss", loss.diffusion, target.square().mean(), 1e-5);
    }
}
