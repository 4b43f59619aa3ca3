//! The second stage: the language model of text and the codec's latents.

use burn::tensor::{Device, Tensor};
use latentlm::adapters::Whitening;
use latentlm::core::DiffusionDraws;
use latentlm::core::bundle::save_module;
use latentlm::{LatentHead, MixedLm, MixedLoss, RandomStream};
use latentlm_data::sequence::{Document, Layout};
use latentlm_data::{MixedCorpus, PICTURES, PackOrder, TextTokenizer};
use latentlm_kernels::ROWS_A_PART;

use super::artist::{Artist, TOKENIZER};
use super::data::MixedData;
use super::measure::{CaptionScore, Perplexity};
use super::recipe::MixedRecipe;
use super::run::Context;
use crate::error::TrainError;
use crate::image::{Encoded, draw_latents, gather, image_grid, save_png};
use crate::optimize::{Player, StepReport};
use crate::spread::{Portable, Spread};
use crate::stage::{self, Stage, number, share_out};

pub(crate) const STAGE: &str = "lm";
/// Held-out pictures and captions that samples are made of as training goes.
const SHOWN: usize = 24;

struct LmStage<'a> {
    context: &'a mut Context,
    model: Player<MixedLm>,
    encoded: Encoded,
    tokenizer: TextTokenizer,
    corpus: MixedCorpus,
    held_out: MixedCorpus,
    order: PackOrder,
    device: Device,
}

/// Trains the language model or takes up where it was left. Returns whether it is finished.
///
/// # Errors
/// If data can't be read, the loss is not finite, or a checkpoint can't be written.
pub(crate) fn train(context: &mut Context, encoded: Encoded) -> Result<bool, TrainError> {
    let recipe = context.recipe.clone();
    let tokenizer = context.data.tokenizer(&recipe)?;
    let corpus = context.data.train.corpus(&recipe, &tokenizer)?;
    let held_out = context.data.test.corpus(&recipe, &tokenizer)?;
    let device = context.device.clone().autodiff();
    device.seed(RandomStream::for_step(recipe.seed, "lm-init", 0).seed());
    let mut model = recipe.model(tokenizer.vocabulary()).init(&device);
    let latents = &mut model.adapters.latents[PICTURES];
    *latents = latents.clone().with_whitening(encoded.whitening);
    let config = &recipe.lm_train;
    let mut model = Player::new(model, config)
        .with_precision(recipe.lm.precision)
        .with_spread(context.spread());
    if let Some((folder, manifest)) = context.run.latest(STAGE)? {
        model.restore("model", &folder, manifest.step)?;
    }
    let stage = LmStage {
        order: PackOrder::new(corpus.lengths(), recipe.mix.pack_positions, recipe.seed),
        model,
        context,
        encoded,
        tokenizer,
        corpus,
        held_out,
        device,
    };
    stage::run(stage, config)
}

/// What one thread does of a packed sequence.
pub(crate) struct Part {
    /// Of the learned latents.
    diffusion_share: f64,
    /// Of the learned tokens.
    token_share: f64,
    /// Weight of the cross entropy.
    token_weight: f64,
    documents: Vec<Document>,
    /// `[N, Z]`, whitened.
    latents: Tensor<2>,
    draws: DiffusionDraws,
}

impl Portable for Part {
    fn to_device(self, device: &Device) -> Self {
        Self {
            latents: self.latents.to_device(device),
            draws: self.draws.to_device(device),
            ..self
        }
    }
}

impl Part {
    /// A pack, cut for the devices or threads that there are.
    ///
    /// # Shapes
    /// - latents: `[N, Z]`, whitened; draws: `K` times the learned latents rows
    pub(crate) fn all(
        model: &MixedLm,
        (documents, latents, draws): (&[Document], Tensor<2>, DiffusionDraws),
        token_weight: f64,
        spread: &Spread,
    ) -> Vec<Self> {
        let (all_latents, all_tokens) = learned(model, documents);
        let count = spread
            .parts(&latents.device(), documents.len(), ROWS_A_PART)
            .len();
        let (mut frame, mut denoised) = (0, 0);
        let shares = share_out(documents, count, Document::positions).into_iter();
        let parts = shares.map(|range| {
            let documents = documents[range].to_vec();
            let frames: usize = documents.iter().map(|d| d.frames(PICTURES)).sum();
            let (own_latents, own_tokens) = learned(model, &documents);
            let part = Self {
                diffusion_share: own_latents as f64 / all_latents.max(1) as f64,
                token_share: own_tokens as f64 / all_tokens.max(1) as f64,
                token_weight,
                latents: latents.clone().slice(frame..frame + frames),
                draws: match own_latents {
                    0 => draws.of_latents(0..1, all_latents.max(1)),
                    _ => draws.of_latents(denoised..denoised + own_latents, all_latents),
                },
                documents,
            };
            frame += frames;
            denoised += own_latents;
            part
        });
        parts.collect()
    }

    /// Its share of the joint loss, and of its two parts.
    pub(crate) fn loss(model: &MixedLm, part: Self) -> (Tensor<1>, MixedLoss) {
        let loss = model.loss(&part.documents, &[part.latents], vec![part.draws]);
        let diffusion = loss.diffusion.into_iter();
        let loss = MixedLoss {
            token: loss.token.mul_scalar(part.token_share),
            diffusion: diffusion
                .map(|own| own.mul_scalar(part.diffusion_share))
                .collect(),
        };
        let token = loss.token.clone().mul_scalar(part.token_weight);
        let total = loss
            .diffusion
            .iter()
            .fold(token, |sum, own| sum + own.clone());
        (total, loss)
    }
}

/// Learned latents of pictures, and learned tokens.
fn learned(model: &MixedLm, documents: &[Document]) -> (usize, usize) {
    let layout: Layout = model.layout(documents);
    (layout.learned[PICTURES].latents.len(), layout.answers.len())
}

impl LmStage<'_> {
    fn documents(&self, pack: &[usize], random: &mut RandomStream) -> Vec<Document> {
        let dropout = self.context.recipe.lm.condition_dropout;
        let document = |&index: &usize| self.corpus.document(index, random.chance(dropout));
        pack.iter().map(document).collect()
    }

    /// The pack's latents, as noisy as the decoder was trained with, whitened, `[N, Z]`.
    fn latents(&self, pack: &[usize], random: &mut RandomStream) -> Tensor<2> {
        let pictures: Vec<usize> = pack
            .iter()
            .filter_map(|&i| self.corpus.picture(i))
            .collect();
        let dim = self.context.recipe.codec.latent_dim;
        if pictures.is_empty() {
            return Tensor::zeros([0, dim], &self.device);
        }
        let means = gather(&self.encoded.cache, &pictures, &self.device);
        let latents = draw_latents(&self.encoded.codec.posterior(means), random);
        let latents = self.model.model().adapters.latents[PICTURES].whiten(latents);
        let [count, tokens, _] = latents.dims();
        latents.reshape([count * tokens, dim])
    }

    fn parts(&self, pack: &[usize], random: &mut RandomStream) -> Vec<Part> {
        let recipe = &self.context.recipe;
        let latents = self.latents(pack, random);
        let documents = self.documents(pack, random);
        let model = self.model.model();
        let (denoised, _) = learned(model, &documents);
        let rows = recipe.lm.batch_mul * denoised.max(1);
        let draws = model.head_of(PICTURES).draw(rows, random, &self.device);
        let work = (&documents[..], latents, draws);
        Part::all(model, work, recipe.text.loss_weight, self.model.spread())
    }

    fn artist(&self) -> Artist {
        Artist::new(
            self.context.recipe.clone(),
            (self.encoded.codec.clone(), self.model.ema().clone()),
            self.tokenizer.clone(),
            self.context.device.clone(),
        )
    }
}

impl Stage for LmStage<'_> {
    type Recipe = MixedRecipe;
    type Data = MixedData;
    /// Every part's share of the losses.
    type Output = Vec<MixedLoss>;
    const NAME: &'static str = STAGE;

    fn context(&mut self) -> &mut Context {
        self.context
    }

    fn step(&self) -> u64 {
        self.model.step()
    }

    fn round(&mut self, round: u64) -> Result<(Option<StepReport>, Self::Output), TrainError> {
        let pack = self.order.pack(round);
        let mut random = RandomStream::for_step(self.context.recipe.seed, "lm-noise", round);
        let parts = self.parts(&pack, &mut random);
        Ok(self.model.backward_parts(parts, Part::loss))
    }

    fn values(losses: Self::Output) -> Vec<(&'static str, f64)> {
        let diffusion = losses.iter().flat_map(|loss| &loss.diffusion);
        let diffusion = diffusion.map(|own| number(own.clone())).sum();
        let token = losses.iter().map(|loss| number(loss.token.clone())).sum();
        vec![("loss", diffusion), ("token_loss", token)]
    }

    /// The averaged model: held-out captions drawn, a row of originals below, held-out pictures
    /// captioned, held-out text's perplexity.
    fn show(&mut self, step: u64) -> Result<(), TrainError> {
        let artist = self.artist();
        let count = SHOWN.min(self.context.data.test.captions.len());
        let captions = self.context.data.test.captions[..count].to_vec();
        let recipe = &self.context.recipe;
        let asked: Vec<String> = captions
            .iter()
            .map(|caption| caption.text.clone())
            .collect();
        let drawn = artist.draw(&asked, &recipe.sample_options(), recipe.seed)?;
        let test = &self.context.data.pictures.test;
        let originals = crate::image::read_all(test, count, &self.context.device)?;
        let said = artist.caption(originals.clone())?;
        let grid = image_grid(Tensor::cat(vec![drawn, originals], 0), count, 2);
        let file = self
            .context
            .run
            .file(&format!("samples/lm-step-{step}.png"));
        save_png(&grid, &file)?;
        let score = CaptionScore::of(&said, &captions);
        let perplexity = Perplexity::measure(
            artist.model(),
            &self.held_out,
            self.context.data.test.bytes(),
            &self.context.device,
        );
        let values = [
            ("held_out_category", score.category),
            ("held_out_text_perplexity", perplexity.text),
        ];
        let known: Vec<(&str, f64)> = values
            .into_iter()
            .filter_map(|(name, value)| Some((name, value?)))
            .collect();
        self.context.log(STAGE, step, &known)
    }

    fn save(&mut self, step: u64) -> Result<(), TrainError> {
        let mut manifest = self.context.manifest(STAGE, step);
        let Whitening { bias, scale } = self.encoded.whitening;
        manifest.whitening = Some([bias, scale]);
        let vocabulary = self.tokenizer.to_json()?;
        let folder = self.context.run.checkpoint(&manifest, |bundle| {
            self.model.save("model", bundle)?;
            bundle.write(TOKENIZER, vocabulary.as_bytes())?;
            // With the codec in it, the folder alone is enough to draw and write from.
            let codec = bundle.path("codec.safetensors");
            Ok(save_module(&self.encoded.codec, &codec)?)
        })?;
        self.context.note(&format!("saved {}", folder.display()));
        Ok(())
    }
}
