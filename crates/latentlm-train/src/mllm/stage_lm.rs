//! The second stage: the language model of text and the codec's latents.

use burn::tensor::{Device, Tensor};
use latentlm::adapters::Whitening;
use latentlm::core::bundle::save_module;
use latentlm::core::{DiffusionDraws, LatentCodecConfig};
use latentlm::{Batch, LatentCodec, LatentHead, LatentLm, Loss, RandomStream, load_lm};
use latentlm_data::sequence::{Document, Layout};
use latentlm_data::{MixedCorpus, PICTURES, PackOrder, TextTokenizer};
use latentlm_eval::{CaptionScore, Perplexity, Sample};
use latentlm_kernels::ROWS_A_PART;
use latentlm_pipelines::{
    Artist, MixedData, MixedRecipe, TOKENIZER, TokenWeights, draw_latents, image_grid, save_png,
};

use super::run::Context;
use super::shares::Share;
use crate::error::TrainError;
use crate::image::{Encoded, gather};
use crate::optimize::{Player, StepReport};
use crate::spread::{Portable, Spread};
use crate::stage;
use crate::stage::{Stage, number};

pub const STAGE: &str = "lm";
/// Held-out captions that are drawn as training goes.
const SHOWN: usize = 24;
/// Held-out pictures that are captioned as training goes, and training pictures.
const HELD_OUT: usize = 199;
const KNOWN: usize = 64;

struct LmStage<'a> {
    context: &'a mut Context,
    model: Player<LatentLm>,
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
pub fn train(context: &mut Context, encoded: Encoded) -> Result<bool, TrainError> {
    let recipe = context.recipe.clone();
    let tokenizer = context.data.tokenizer(&recipe)?;
    let corpus = context.data.train.corpus(&recipe, &tokenizer)?;
    let held_out = context.data.test.once(&recipe, &tokenizer)?;
    let device = context.device.clone().autodiff();
    device.seed(RandomStream::for_step(recipe.seed, "lm-init", 0).seed());
    let model = recipe.model(tokenizer.vocabulary()).init(&device);
    let model = model.with_whitening(PICTURES, encoded.whitening);
    let config = &recipe.lm_train;
    let mut model = Player::new(model, config)
        .with_precision(recipe.lm.precision)
        .with_spread(context.spread());
    if let Some((folder, manifest)) = context.run.latest(STAGE)? {
        model.restore_with("model", &folder, manifest.step, load_lm)?;
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
pub struct Part {
    /// Of the weights of all learned tokens.
    of_tokens: f64,
    /// Of all learned latents.
    of_latents: f64,
    /// Weight of the cross entropy.
    token_weight: f64,
    batch: Batch,
}

impl Portable for Part {
    fn to_device(self, device: &Device) -> Self {
        Self {
            batch: self.batch.to_device(device),
            ..self
        }
    }
}

impl Part {
    /// A pack, cut for the devices or threads that there are. `tokens` says how much words count; a
    /// number alone is the weight of the cross entropy.
    ///
    /// # Shapes
    /// - latents: `[N, Z]`, whitened; draws: `K` times the learned latents rows
    pub fn all(
        model: &LatentLm,
        (documents, latents, draws): (&[Document], Tensor<2>, DiffusionDraws),
        tokens: impl Into<TokenWeights>,
        spread: &Spread,
    ) -> Vec<Self> {
        let tokens = tokens.into();
        let parts = spread.parts(&latents.device(), documents.len(), ROWS_A_PART);
        let shares = Share::all(documents, &model.control, tokens, parts.len()).into_iter();
        let parts = shares.map(|share| {
            let latents = latents.clone().slice(share.frames.clone());
            let draws = share.draws(&draws, 1);
            Self {
                of_tokens: share.of_tokens,
                of_latents: share.of_latents,
                token_weight: tokens.loss,
                batch: Batch {
                    weights: share.weights,
                    ..Batch::new(share.documents, vec![latents], vec![draws])
                },
            }
        });
        parts.collect()
    }

    /// Its share of the joint loss, and of its two parts.
    pub fn loss(model: &LatentLm, part: Self) -> (Tensor<1>, Loss) {
        let loss = model.loss(part.batch);
        let diffusion = loss.diffusion.into_iter();
        let loss = Loss {
            token: loss.token.mul_scalar(part.of_tokens),
            diffusion: diffusion
                .map(|own| own.mul_scalar(part.of_latents))
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
        let dim = self.context.recipe.codec.spec().dim;
        if pictures.is_empty() {
            return Tensor::zeros([0, dim], &self.device);
        }
        let means = gather(&self.encoded.cache, &pictures, &self.device);
        let latents = draw_latents(&self.encoded.codec.posterior(means), random);
        let latents = self.model.model().latents[PICTURES].whiten(latents);
        let [count, tokens, _] = latents.dims();
        latents.reshape([count * tokens, dim])
    }

    fn parts(&self, pack: &[usize], random: &mut RandomStream) -> Vec<Part> {
        let recipe = &self.context.recipe;
        let latents = self.latents(pack, random);
        let documents = self.documents(pack, random);
        let model = self.model.model();
        let layout: Layout = model.layout(&documents);
        let denoised = layout.learned[PICTURES].latents.len();
        let rows = recipe.lm.batch_mul * denoised.max(1);
        let draws = model.head_of(PICTURES).draw(rows, random, &self.device);
        let work = (&documents[..], latents, draws);
        Part::all(model, work, recipe.text.weights(), self.model.spread())
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
    type Output = Vec<Loss>;
    const NAME: &'static str = STAGE;
    const TABLE: &'static str = "lm_train";

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

    /// The averaged model: held-out captions drawn, a row of originals below; held-out and training
    /// pictures captioned; held-out text's perplexity.
    fn show(&mut self, step: u64) -> Result<(), TrainError> {
        let artist = self.artist();
        let (recipe, device) = (&self.context.recipe, &self.context.device);
        let MixedData {
            pictures,
            train,
            test,
        } = &self.context.data;
        let shown = Sample::of(&pictures.test, &test.captions, SHOWN, device)?;
        let drawn = artist.draw(&shown.texts(), &recipe.sample_options(), recipe.seed)?;
        let columns = shown.captions.len();
        let grid = Tensor::cat(vec![drawn, shown.pictures], 0);
        let file = format!("samples/lm-step-{step}.png");
        save_png(&image_grid(grid, columns, 2), &self.context.run.file(&file))?;
        let score = |sample: Sample| -> Result<CaptionScore, TrainError> {
            let said = artist.caption(sample.pictures)?;
            Ok(CaptionScore::of(&said, &sample.captions))
        };
        let known = Sample::of(&pictures.train, &train.captions, KNOWN, device)?;
        let held_out = Sample::of(&pictures.test, &test.captions, HELD_OUT, device)?;
        let (model, bytes) = (artist.model(), test.bytes());
        let perplexity = Perplexity::measure(model, &self.held_out, bytes, device);
        let values = [
            ("held_out_category", score(held_out)?.category),
            ("exact_captions", Some(score(known)?.exact)),
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
        let folder =
            self.context
                .run
                .checkpoint(&manifest, |bundle| -> Result<(), TrainError> {
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
