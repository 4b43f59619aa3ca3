//! What one thread does of a pack, whatever the model.

use burn::tensor::{Device, Tensor};
use latentlm::RandomStream;
use latentlm::core::DiffusionDraws;
use latentlm_data::PICTURES;
use latentlm_data::sequence::{ControlTokens, Document, Layout};
use latentlm_kernels::ROWS_A_PART;
use latentlm_train::{Portable, Share, Spread};

use super::mixed_recipe::CompareMixedRecipe;
use super::mixed_rival::{MixedRival, Noise, Pictures, RivalLoss};

/// Documents, their pictures, and what those are noised with.
pub(crate) struct Part<E> {
    share: Share,
    pictures: E,
    noise: Option<DiffusionDraws>,
    /// Weight of the cross entropy of text.
    token_weight: f64,
}

impl<E: Pictures> Portable for Part<E> {
    fn to_device(self, device: &Device) -> Self {
        Self {
            pictures: self.pictures.to_device(device),
            noise: self.noise.map(|noise| noise.to_device(device)),
            ..self
        }
    }
}

/// A part's share of a pack's loss, `[1]` each.
#[derive(Debug)]
pub(crate) struct PartLoss {
    /// What the gradients are of.
    pub(crate) total: Tensor<1>,
    /// The cross entropy of text in it, without its weight.
    pub(crate) token: Tensor<1>,
}

/// A pack of documents and their encoded pictures.
pub(crate) struct Pack<'a, E> {
    pub(crate) documents: &'a [Document],
    pub(crate) pictures: E,
    /// The tokens around each modality's latents.
    pub(crate) modalities: &'a [ControlTokens],
    pub(crate) device: &'a Device,
}

impl<E: Pictures> Part<E> {
    /// A pack, cut for the devices or threads that there are. Noise is drawn before: it does not
    /// depend on them.
    pub(crate) fn all<M: MixedRival<Encoded = E>>(
        model: &M,
        pack: &Pack<'_, E>,
        recipe: &CompareMixedRecipe,
        random: &mut RandomStream,
        spread: &Spread,
    ) -> Vec<Self> {
        let documents = pack.documents;
        let layout = Layout::new(documents, pack.modalities);
        let learned = layout.learned[PICTURES].latents.len();
        let noise = model.noise(learned, recipe, random, pack.device);
        let count = spread
            .parts(pack.device, documents.len(), ROWS_A_PART)
            .len();
        let (text, tokens) = (&recipe.mixed.text, recipe.mixed.tokens());
        let shares = Share::all(documents, pack.modalities, text.weights(), count).into_iter();
        let parts = shares.map(|share| {
            let frames = &share.frames;
            let pictures = frames.start / tokens..frames.end / tokens;
            let own = |noise: &Noise| share.draws(&noise.draws, noise.latents_a_row);
            Self {
                pictures: pack.pictures.some(pictures),
                noise: noise.as_ref().map(own),
                token_weight: text.loss_weight,
                share,
            }
        });
        parts.collect()
    }

    /// Its share of the loss, `token * text.loss_weight + picture`, for the gradients and for the log.
    pub(crate) fn loss<M: MixedRival<Encoded = E>>(model: &M, part: Self) -> (Tensor<1>, PartLoss) {
        let share = part.share;
        let RivalLoss { token, picture } = model.loss(&share, part.pictures, part.noise);
        let token = token.mul_scalar(share.of_tokens);
        let picture = picture.mul_scalar(share.of_latents);
        let total = token.clone().mul_scalar(part.token_weight) + picture;
        let loss = PartLoss {
            total: total.clone(),
            token,
        };
        (total, loss)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::module::{ModuleMapper, Param};
    use burn::tensor::Int;
    use latentlm::core::conformance::seeded;
    use latentlm_data::sequence::{Segment, SpecialTokens};
    use latentlm_pipelines::Recipe;

    /// Tokens of text; the next two are start and stop.
    const VOCABULARY: usize = 6;

    fn recipe() -> CompareMixedRecipe {
        let changes = [
            "mixed.codec.image_size=8",
            "mixed.codec.vit.patch_size=4",
            "mixed.codec.latent_dim=4",
            "mixed.lm.width=32",
            "mixed.lm.depth=1",
            "mixed.lm.heads=2",
            "mixed.lm.kv_heads=1",
            "mixed.lm.head_depth=1",
            "mixed.text.loss_weight=0.5",
            "mixed.text.caption_weight=3.0",
            "transfusion.width=32",
            "transfusion.depth=1",
            "transfusion.heads=2",
            "vq.width=32",
            "vq.depth=1",
            "vq.heads=2",
            "vq.codes=16",
        ];
        CompareMixedRecipe::resolve(None, &changes.map(String::from)).unwrap()
    }

    /// A picture that is drawn, one that is read, text, another that is drawn.
    fn documents() -> Vec<Document> {
        let text = |tokens: &[u32]| Segment::Text {
            tokens: tokens.to_vec(),
            learned: true,
        };
        let picture = |learned| Segment::Latents {
            modality: PICTURES,
            frames: 4,
            open_ended: false,
            said: Vec::new(),
            learned,
        };
        [
            vec![text(&[6, 1]), picture(true), text(&[7])],
            vec![text(&[6]), picture(false), text(&[2, 3, 7])],
            vec![text(&[6, 4, 5, 1, 2, 0, 3, 7])],
            vec![text(&[6]), picture(true), text(&[7])],
        ]
        .map(|segments| Document { segments })
        .to_vec()
    }

    /// Weights that are far from where they begin: every token has another likelihood.
    struct Stir(RandomStream);

    impl ModuleMapper for Stir {
        fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
            param.map(|tensor| {
                let noise = self.0.normal(tensor.dims(), &tensor.device());
                tensor + noise.mul_scalar(0.2)
            })
        }
    }

    /// Loss and cross entropy of the pack on so many devices.
    fn losses<M: MixedRival>(model: &M, pictures: &M::Encoded, devices: usize) -> [f32; 2] {
        let (device, documents) = (Device::default(), documents());
        let special = SpecialTokens::after(VOCABULARY, 1);
        let pack = Pack {
            documents: &documents,
            pictures: pictures.clone(),
            modalities: &special.modalities,
            device: &device,
        };
        let spread = Spread::over(vec![device.clone(); devices]);
        let random = &mut RandomStream::new(3);
        let parts = Part::all(model, &pack, &recipe(), random, &spread);
        assert_eq!(parts.len(), devices);
        let mut sums = [0.0; 2];
        for part in parts {
            let (total, loss) = Part::loss(model, part);
            sums[0] += total.into_scalar::<f32>();
            sums[1] += loss.token.into_scalar::<f32>();
        }
        sums
    }

    fn check<M: MixedRival>(model: M, pictures: M::Encoded) {
        let model = model.map(&mut Stir(RandomStream::new(5)));
        let whole = losses(&model, &pictures, 1);
        let parts = losses(&model, &pictures, 2);
        for (whole, parts) in whole.iter().zip(parts) {
            let near = (whole - parts).abs() < 1e-4 * whole;
            assert!(near, "{}: {whole} and {parts}", M::NAME);
        }
    }

    #[test]
    fn parts_of_a_pack_add_up_to_it_whatever_the_model() {
        let (recipe, device) = (recipe(), Device::default());
        let latents: Tensor<3> = RandomStream::new(2).normal([3, 4, 4], &device);
        let own = recipe.mixed.model(VOCABULARY);
        let own = seeded(1, &device, |device| own.init(device));
        check(own, latents.clone());
        let transfusion = recipe.transfusion(VOCABULARY);
        let transfusion = seeded(1, &device, |device| transfusion.init_mixed(false, device));
        check(transfusion, latents);
        let codes = [[1, 9, 3, 3], [4, 10, 2, 7], [0, 15, 8, 5]];
        let codes = Tensor::<2, Int>::from_ints(codes, &device);
        let vq = recipe.vq_lm(VOCABULARY);
        check(seeded(1, &device, |device| vq.init(device)), codes);
    }
}
