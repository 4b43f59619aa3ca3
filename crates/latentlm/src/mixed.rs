//! The model of any modalities: text, pictures and sound in one sequence (paper §3.2).

use burn::config::Config;
use burn::module::Module;
use burn::tensor::{Device, Tensor};
use latentlm_adapters::{LatentAdapter, LatentAdapterConfig, TokenAdapter, TokenAdapterConfig};
use latentlm_backbone::Backbone;
use latentlm_core::sequence::{Document, Layout, SpecialTokens};
use latentlm_core::{CausalBackbone, DiffusionDraws, LatentHead, ModalityAdapter};
use latentlm_diffusion::Head;

use crate::model::LatentLm;
use crate::sizes::{LmSizes, ModelError};
use latentlm_adapters::packed::{embed, indices, surprise, weighted_mean};

/// Adapters of a model of any modalities.
#[derive(Module, Debug)]
pub struct MixedAdapters {
    /// Text, and the tokens of [`SpecialTokens`].
    pub token: TokenAdapter,
    /// Latents of each modality.
    pub latents: Vec<LatentAdapter>,
}

/// The model of any modalities with the workspace's own backbone and heads: one for all
/// modalities, or one for each.
pub type MixedLm = LatentLm<MixedAdapters, Backbone, Vec<Head>>;

/// Configuration of a [`MixedLm`].
#[derive(Config, Debug, PartialEq)]
pub struct MixedLmConfig {
    /// Tokens of text; those of [`SpecialTokens`] come on top.
    pub text_vocabulary: usize,
    /// Numbers a latent, one entry a modality.
    pub latent_dims: Vec<usize>,
    /// Whether one diffusion head draws the latents of all modalities, or each has its own.
    #[config(default = true)]
    pub one_head: bool,
    /// Whether the softmax head uses the embedding's table.
    #[config(default = false)]
    pub tied: bool,
    /// Sizes of backbone and heads.
    #[config(default = "LmSizes::new()")]
    pub sizes: LmSizes,
}

impl MixedLmConfig {
    /// What is wrong with the configuration, if anything, in one line.
    ///
    /// # Errors
    /// If a size is zero or sizes do not fit each other.
    pub fn validate(&self) -> Result<(), ModelError> {
        let fail = |reason: &str| {
            Err(ModelError::Config {
                reason: reason.into(),
            })
        };
        let Some(first) = self.latent_dims.first() else {
            return fail("a mixed model needs a modality beside text");
        };
        if self.text_vocabulary == 0 {
            return fail("text_vocabulary must be positive");
        }
        if self.one_head && self.latent_dims.iter().any(|dim| dim != first) {
            return fail("one head draws latents of one size; the modalities' differ");
        }
        let mut dims = self.latent_dims.iter();
        dims.try_for_each(|&dim| self.sizes.validate(dim))
    }

    /// Builds the model. Its parameters are drawn from the device's generator: seed that first.
    ///
    /// # Panics
    /// If [`validate`](Self::validate) fails.
    pub fn init(&self, device: &Device) -> MixedLm {
        if let Err(error) = self.validate() {
            panic!("{error}");
        }
        let (sizes, dims) = (&self.sizes, &self.latent_dims);
        let vocabulary = self.text_vocabulary + SpecialTokens::count(dims.len());
        let token = TokenAdapterConfig::new(vocabulary, sizes.width).with_tied(self.tied);
        // As large as embedded latents, unless logits are inner products with it.
        let token = token.with_embedding_std(if self.tied { 0.02 } else { 1.0 });
        let adapter = |&dim: &usize| LatentAdapterConfig::new(dim, sizes.width).init(device);
        let heads = if self.one_head { 1 } else { dims.len() };
        let heads = dims.iter().take(heads);
        LatentLm {
            adapters: MixedAdapters {
                token: token.init(device),
                latents: dims.iter().map(adapter).collect(),
            },
            backbone: sizes.backbone().init(device),
            head: heads.map(|&dim| sizes.head(dim).init(device)).collect(),
        }
    }
}

/// The parts of the joint loss `L_LM + lambda L_diff`, `[1]` each.
#[derive(Debug, Clone)]
pub struct MixedLoss {
    /// Mean cross entropy of the learned tokens, each as heavy as its document.
    pub token: Tensor<1>,
    /// The diffusion head's denoising error, one entry a modality; 0 where nothing is learned.
    pub diffusion: Vec<Tensor<1>>,
}

impl<B: CausalBackbone, H: LatentHead> LatentLm<MixedAdapters, B, Vec<H>> {
    /// The tokens behind the text's vocabulary.
    pub fn special_tokens(&self) -> SpecialTokens {
        let modalities = self.adapters.latents.len();
        let text = self.adapters.token.vocabulary() - SpecialTokens::count(modalities);
        SpecialTokens::after(text, modalities)
    }

    /// The head that draws a modality's latents.
    pub fn head_of(&self, modality: usize) -> &H {
        &self.head[modality.min(self.head.len() - 1)]
    }

    /// Where everything stands in packed documents.
    pub fn layout(&self, documents: &[Document]) -> Layout {
        Layout::new(documents, &self.special_tokens().modalities)
    }

    /// Hidden states of documents packed into one sequence: no document sees another.
    ///
    /// # Shapes
    /// - `latents`: a modality's `[N, Z]` each, whitened, those of all documents one after the other
    /// - returns: `[T, D]`
    ///
    /// # Panics
    /// If the documents' latents are not as many as given.
    pub fn hidden(
        &self,
        documents: &[Document],
        layout: &Layout,
        latents: &[Tensor<2>],
    ) -> Tensor<2> {
        for (modality, latents) in latents.iter().enumerate() {
            let wanted: usize = documents.iter().map(|d| d.frames(modality)).sum();
            let [given, _] = latents.dims();
            assert_eq!(wanted, given, "latents of modality {modality}");
        }
        let some = self.adapters.latents.iter().zip(latents);
        let some = some.filter(|(_, latents)| latents.dims()[0] > 0);
        let embedded =
            some.map(|(adapter, latents)| adapter.embed(latents.clone().unsqueeze_dim(0)));
        let device = latents[0].device();
        let x = embed(&self.adapters.token, layout, embedded.collect(), &device);
        let lengths: Vec<usize> = documents.iter().map(Document::positions).collect();
        self.backbone.forward_documents(x, &lengths).squeeze_dim(0)
    }

    /// The joint loss of packed documents. A learned latent is denoised `K` times, as many as its
    /// modality's `draws` have rows for.
    ///
    /// # Shapes
    /// - `latents`: as in [`hidden`](Self::hidden)
    /// - `draws`: a modality each, `K` times its learned latents rows
    /// - `weights`: of each document's learned tokens in their mean
    ///
    /// # Panics
    /// If the documents' latents or weights are not as many as given.
    pub fn loss(
        &self,
        documents: &[Document],
        latents: &[Tensor<2>],
        draws: Vec<DiffusionDraws>,
        weights: &[f64],
    ) -> MixedLoss {
        let device = latents[0].device();
        let layout = self.layout(documents);
        let hidden = self.hidden(documents, &layout, latents);
        let diffusion = layout.learned.iter().zip(latents).zip(draws).enumerate();
        let diffusion = diffusion.map(|(modality, ((learned, latents), draws))| {
            let count = learned.latents.len();
            if count == 0 {
                return Tensor::zeros([1], &device);
            }
            let repeats = draws.noise.dims()[0] / count;
            let condition = hidden
                .clone()
                .select(0, indices(&learned.conditions, &device));
            let latents = latents
                .clone()
                .select(0, indices(&learned.latents, &device));
            self.head_of(modality).loss_at(
                latents.repeat_dim(0, repeats),
                condition.repeat_dim(0, repeats),
                draws,
            )
        });
        MixedLoss {
            diffusion: diffusion.collect(),
            token: match layout.answers.is_empty() {
                true => Tensor::zeros([1], &device),
                false => weighted_mean(self.surprise(&layout, hidden), &layout, weights),
            },
        }
    }

    /// `-log p` of each learned token, `[M]`: what perplexity is made of.
    ///
    /// # Panics
    /// If nothing is asked.
    pub fn surprise(&self, layout: &Layout, hidden: Tensor<2>) -> Tensor<1> {
        let device = hidden.device();
        let asked = hidden.select(0, indices(&layout.asked, &device));
        surprise(
            &self.adapters.token,
            asked,
            indices(&layout.answers, &device),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use latentlm_core::RandomStream;
    use latentlm_core::conformance::{assert_close, seeded};
    use latentlm_core::sequence::Segment;

    const DIMS: [usize; 2] = [4, 6];

    fn model(device: &Device) -> MixedLm {
        let sizes = LmSizes::new().with_width(32).with_depth(2).with_heads(4);
        let config = MixedLmConfig::new(8, DIMS.to_vec())
            .with_one_head(false)
            .with_sizes(sizes.with_kv_heads(2));
        seeded(5, device, |device| config.init(device))
    }

    fn text(tokens: &[u32]) -> Segment {
        Segment::Text {
            tokens: tokens.to_vec(),
            learned: true,
        }
    }

    fn run(modality: usize, frames: usize, learned: bool) -> Segment {
        Segment::Latents {
            modality,
            frames,
            open_ended: modality == 1,
            learned,
        }
    }

    /// A drawn picture, a picture that is read, both modalities, text alone.
    fn documents() -> Vec<Document> {
        [
            vec![text(&[8, 1, 2]), run(0, 3, true), text(&[9])],
            vec![text(&[8]), run(0, 2, false), text(&[3, 9])],
            vec![text(&[8, 4]), run(1, 2, true), run(0, 1, true), text(&[9])],
            vec![text(&[8, 5, 6, 7, 9])],
        ]
        .map(|segments| Document { segments })
        .to_vec()
    }

    fn latents(device: &Device) -> Vec<Tensor<2>> {
        let mut random = RandomStream::new(1);
        vec![
            random.normal([6, DIMS[0]], device),
            random.normal([2, DIMS[1]], device),
        ]
    }

    /// Packing changes no hidden state, hence no logit, whatever the modalities.
    #[test]
    fn packing_changes_nothing() {
        let device = Device::default();
        let model = model(&device);
        let (documents, latents) = (documents(), latents(&device));
        let packed = model.hidden(&documents, &model.layout(&documents), &latents);
        let (mut seen, mut position) = ([0, 0], 0);
        for document in &documents {
            let own: Vec<Tensor<2>> = (0..2)
                .map(|m| {
                    let frames = seen[m]..seen[m] + document.frames(m);
                    latents[m].clone().slice([frames])
                })
                .collect();
            let alone = std::slice::from_ref(document);
            let hidden = model.hidden(alone, &model.layout(alone), &own);
            let within = packed.clone().narrow(0, position, document.positions());
            assert_close("a document's hidden states", within, hidden, 1e-5);
            position += document.positions();
            (0..2).for_each(|m| seen[m] += document.frames(m));
        }
    }

    /// The untrained model: uniform over tokens, heads that begin as zero.
    #[test]
    fn losses_begin_at_their_closed_forms() {
        let device = Device::default();
        let model = model(&device);
        let latents = latents(&device);
        let mut random = RandomStream::new(2);
        // Of the first modality's six latents, two are read only.
        let draws: Vec<DiffusionDraws> = [(0, 4), (1, 2)]
            .map(|(m, rows)| model.head_of(m).draw(2 * rows, &mut random, &device))
            .to_vec();
        let learned = [
            Tensor::cat(
                vec![
                    latents[0].clone().narrow(0, 0, 3),
                    latents[0].clone().narrow(0, 5, 1),
                ],
                0,
            ),
            latents[1].clone(),
        ];
        let loss = model.loss(&documents(), &latents, draws.clone(), &[1.0; 4]);
        for (modality, draws) in draws.into_iter().enumerate() {
            let target = model.head_of(modality).schedule().target(
                learned[modality].clone().repeat_dim(0, 2),
                draws.noise,
                draws.timesteps,
            );
            let found = loss.diffusion[modality].clone();
            assert_close("diffusion", found, target.square().mean(), 1e-5);
        }
        let vocabulary = 8 + SpecialTokens::count(2);
        let token = loss.token.into_scalar::<f32>();
        assert!(
            (token - (vocabulary as f32).ln()).abs() < 0.2,
            "{token} for {vocabulary} tokens"
        );
    }

    /// Four, two, seven and four learned tokens: those of the picture that is read count threefold.
    #[test]
    fn a_document_weighs_as_much_as_it_is_told() {
        let device = Device::default();
        let model = model(&device);
        let (documents, latents) = (documents(), latents(&device));
        let layout = model.layout(&documents);
        assert_eq!(layout.document_answers, [4, 2, 7, 4]);
        let hidden = model.hidden(&documents, &layout, &latents);
        let nats = model.surprise(&layout, hidden).into_data();
        let nats: Vec<f32> = nats.convert::<f32>().try_into_vec().unwrap();
        let sum = |range: std::ops::Range<usize>| nats[range].iter().sum::<f32>();
        let weighted = (sum(0..4) + 3.0 * sum(4..6) + sum(6..17)) / (4.0 + 3.0 * 2.0 + 11.0);
        let plain = sum(0..17) / 17.0;
        let token = |weights: &[f64]| {
            let mut random = RandomStream::new(2);
            let draws = [(0, 4), (1, 2)];
            let draws = draws.map(|(m, rows)| model.head_of(m).draw(rows, &mut random, &device));
            let loss = model.loss(&documents, &latents, draws.to_vec(), weights);
            loss.token.into_scalar::<f32>()
        };
        // Sums of 17 float32 numbers near 3.
        assert!((token(&[1.0, 3.0, 1.0, 1.0]) - weighted).abs() < 1e-5);
        assert!((token(&[2.0; 4]) - plain).abs() < 1e-5);
        assert!((weighted - plain).abs() > 1e-4, "{weighted} and {plain}");
    }

    #[test]
    fn wrong_configurations_are_refused() {
        let sizes = LmSizes::new().with_width(32).with_depth(1).with_heads(4);
        for (config, part) in [
            (MixedLmConfig::new(8, vec![]), "needs a modality"),
            (MixedLmConfig::new(0, vec![4]), "text_vocabulary"),
            (MixedLmConfig::new(8, vec![4, 6]), "one head"),
        ] {
            let message = config.with_sizes(sizes.clone()).validate().unwrap_err();
            assert!(message.to_string().contains(part), "{message}");
        }
    }
}
