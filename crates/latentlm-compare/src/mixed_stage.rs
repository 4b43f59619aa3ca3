//! One model of text and pictures: trained on the documents of all, measured on the way.

use std::time::Instant;

use burn::tensor::{Device, Int, Tensor};
use latentlm::RandomStream;
use latentlm_data::sequence::{Document, SpecialTokens};
use latentlm_data::{MixedCorpus, PackOrder, TextTokenizer};
use latentlm_eval::{Gallery, Judge, Sample};
use latentlm_pipelines::{MixedData, evenly, image_grid, save_png};
use latentlm_train::stage::{self, Stage, number};
use latentlm_train::{Player, StepReport, TrainError};

use super::mixed_measure::{Beginning, Reader};
use super::mixed_part::{Pack, Part, PartLoss};
use super::mixed_recipe::CompareMixedRecipe;
use super::mixed_rival::MixedRival;
use super::rival::Coding;

/// A comparison's run.
pub(crate) type Context = latentlm_train::Context<CompareMixedRecipe, MixedData>;

/// Pictures drawn at once, and pictures shown.
const BATCH: usize = 64;
const SHOWN: usize = 24;

/// What all models share: how pictures are encoded, what judges them, and what words are.
pub(crate) struct Common<'a, C> {
    pub(crate) coding: &'a C,
    pub(crate) judge: &'a Judge,
    /// All pictures, in the latents of the sigma-VAE whatever the model draws.
    pub(crate) gallery: &'a Gallery,
    pub(crate) tokenizer: &'a TextTokenizer,
}

impl<'a, C> Common<'a, C> {
    /// The same with pictures encoded in another way.
    pub(crate) fn with<D>(&self, coding: &'a D) -> Common<'a, D> {
        Common {
            coding,
            judge: self.judge,
            gallery: self.gallery,
            tokenizer: self.tokenizer,
        }
    }
}

struct MixedStage<'a, M: MixedRival, C> {
    context: &'a mut Context,
    model: Player<M>,
    common: &'a Common<'a, C>,
    corpus: MixedCorpus,
    held_out: MixedCorpus,
    beginnings: Vec<Beginning>,
    order: PackOrder,
    device: Device,
}

/// Trains a model or takes up where it was left. Returns whether it is finished.
///
/// # Errors
/// If the loss is not finite, or a checkpoint can't be read or written.
pub(crate) fn train<M: MixedRival, C: Coding<Encoded = M::Encoded>>(
    context: &mut Context,
    common: &Common<'_, C>,
    init: impl FnOnce(&Device) -> M,
) -> Result<bool, TrainError> {
    let recipe = context.recipe.mixed.clone();
    let config = &recipe.lm_train;
    let device = context.device.clone().autodiff();
    device.seed(RandomStream::for_step(recipe.seed, M::NAME, 0).seed());
    let mut model = Player::new(init(&device), config).with_spread(context.spread());
    if let Some((folder, manifest)) = context.run.latest(M::NAME)? {
        model.restore_with("model", &folder, manifest.step, M::load)?;
    }
    let corpus = context.data.train.corpus(&recipe, common.tokenizer)?;
    let captions = &context.data.train.captions;
    let stage = MixedStage {
        held_out: context.data.test.once(&recipe, common.tokenizer)?,
        beginnings: Beginning::all(captions, common.tokenizer)?,
        order: PackOrder::new(corpus.lengths(), recipe.mix.pack_positions, recipe.seed),
        corpus,
        context,
        model,
        common,
        device,
    };
    stage::run(stage, config)
}

impl<M: MixedRival, C: Coding<Encoded = M::Encoded>> MixedStage<'_, M, C> {
    /// Pictures of the averaged model, the same noise each time, and the seconds that they took.
    fn draw(&self, texts: &[String]) -> Result<(Tensor<4>, f64), TrainError> {
        let (recipe, device) = (&self.context.recipe, &self.context.device);
        let texts = texts.iter().map(|text| self.common.tokenizer.encode(text));
        let texts: Vec<Vec<u32>> = texts.collect::<Result<_, _>>()?;
        let model = self.model.ema();
        let started = Instant::now();
        let batches = texts.chunks(BATCH).enumerate().map(|(index, texts)| {
            let mut random = RandomStream::for_step(recipe.mixed.seed, "samples", index as u64);
            let encoded = model.draw(texts, recipe, &mut random, device);
            self.common.coding.decode(encoded)
        });
        let pictures = Tensor::cat(batches.collect(), 0);
        // A device that fails here fails again at the next read.
        let _ = device.sync();
        Ok((pictures, started.elapsed().as_secs_f64()))
    }

    /// The averaged model before held-out documents.
    fn reader(&self) -> Reader<'_, M, C> {
        Reader {
            model: self.model.ema(),
            coding: self.common.coding,
            corpus: &self.held_out,
            device: &self.context.device,
        }
    }
}

impl<M: MixedRival, C: Coding<Encoded = M::Encoded>> Stage for MixedStage<'_, M, C> {
    type Recipe = CompareMixedRecipe;
    type Data = MixedData;
    type Output = Vec<PartLoss>;
    const NAME: &'static str = M::NAME;
    const TABLE: &'static str = "lm_train";

    fn context(&mut self) -> &mut Context {
        self.context
    }

    fn step(&self) -> u64 {
        self.model.step()
    }

    /// The same documents with the same requests dropped, whatever the model.
    fn round(&mut self, round: u64) -> Result<(Option<StepReport>, Self::Output), TrainError> {
        let (recipe, device) = (&self.context.recipe, &self.device);
        let pack = self.order.pack(round);
        let mut random = RandomStream::for_step(recipe.mixed.seed, "dropped", round);
        let dropout = recipe.mixed.lm.condition_dropout;
        let document = |&index: &usize| self.corpus.document(index, random.chance(dropout));
        let documents: Vec<Document> = pack.iter().map(document).collect();
        let pictures = pack.iter().filter_map(|&index| self.corpus.picture(index));
        let pictures: Vec<usize> = pictures.collect();
        let mut random = RandomStream::for_step(recipe.mixed.seed, "lm-noise", round);
        let special = SpecialTokens::after(self.common.tokenizer.vocabulary(), 1);
        let pack = Pack {
            documents: &documents,
            pictures: self.common.coding.gather(&pictures, &mut random, device),
            modalities: &special.modalities,
            device,
        };
        let (model, spread) = (self.model.model(), self.model.spread());
        let parts = Part::all(model, &pack, recipe, &mut random, spread);
        let work = Part::<M::Encoded>::loss::<M>;
        Ok(self.model.backward_parts(parts, work))
    }

    fn values(losses: Self::Output) -> Vec<(&'static str, f64)> {
        let sum = |part: fn(&PartLoss) -> &Tensor<1>| -> f64 {
            losses.iter().map(|loss| number(part(loss).clone())).sum()
        };
        vec![
            ("loss", sum(|loss| &loss.total)),
            ("token_loss", sum(|loss| &loss.token)),
        ]
    }

    /// Measures the averaged model, and keeps some of the pictures it draws.
    fn show(&mut self, step: u64) -> Result<(), TrainError> {
        let (common, device) = (self.common, &self.context.device);
        let MixedData { pictures, test, .. } = &self.context.data;
        let samples = self.context.recipe.evaluate.samples;
        let asked = Sample::of(&pictures.test, &test.captions, samples, device)?;
        let (drawn, seconds) = self.draw(&asked.texts())?;
        let verdict = common.judge.measure(drawn.clone(), &asked.labels);
        let nearest = common.gallery.nearest(drawn.clone());
        let reader = self.reader();
        let perplexities = reader.perplexities(&pictures.test)?;
        let count = asked.captions.len();
        let values = [
            ("class_agreement", Some(verdict.class_agreement)),
            ("worst_class_agreement", Some(verdict.worst_class_agreement)),
            ("frechet_distance", Some(verdict.frechet_distance)),
            ("images_per_second", Some(count as f64 / seconds)),
            ("text_perplexity", perplexities.text),
            ("caption_perplexity", perplexities.caption),
            (
                "category_named",
                reader.category_named(&asked, &self.beginnings),
            ),
            (
                "neighbours_of_category",
                common.gallery.of_category(&nearest, &asked.captions),
            ),
        ];
        let known = values
            .into_iter()
            .filter_map(|(name, value)| Some((name, value?)));
        let known: Vec<(&str, f64)> = known.collect();
        let shown = evenly(SHOWN, count).into_iter().map(|index| index as i64);
        let shown: Vec<i64> = shown.collect();
        let rows = Tensor::<1, Int>::from_ints(shown.as_slice(), &drawn.device());
        let grid = image_grid(drawn.select(0, rows), shown.len().min(8), 2);
        let name = format!("samples/{}-step-{step}.png", M::NAME);
        save_png(&grid, &self.context.run.file(&name))?;
        self.context.log(M::NAME, step, &known)
    }

    fn save(&mut self, step: u64) -> Result<(), TrainError> {
        let manifest = self.context.manifest(M::NAME, step);
        let folder = self.context.run.checkpoint(&manifest, |bundle| {
            self.model.save("model", bundle)?;
            self.common.coding.save(bundle)
        })?;
        self.context.note(&format!("saved {}", folder.display()));
        Ok(())
    }
}
