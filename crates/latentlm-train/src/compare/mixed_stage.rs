//! One model of text and pictures: trained on the documents of all, measured on the way.

use std::time::Instant;

use burn::tensor::{Device, Tensor};
use latentlm::RandomStream;
use latentlm_data::sequence::Document;
use latentlm_data::{Caption, Mix, MixedCorpus, PackOrder, TextTokenizer};

use super::mixed_recipe::CompareMixedRecipe;
use super::mixed_rival::MixedRival;
use super::rival::Coding;
use crate::context;
use crate::error::TrainError;
use crate::image::{Judge, host_values, image_grid, read_all, save_png};
use crate::mixed::MixedData;
use crate::optimize::{Player, StepReport};
use crate::stage::{self, Stage, number};

/// A comparison's run.
pub(crate) type Context = context::Context<CompareMixedRecipe, MixedData>;

/// Pictures drawn at once, documents measured at once, pictures shown.
const BATCH: usize = 64;
const SHOWN: usize = 24;

/// What all models share: how pictures are encoded, who judges them, and what words are.
pub(crate) struct Common<'a, C> {
    pub(crate) coding: &'a C,
    pub(crate) judge: &'a Judge,
    pub(crate) tokenizer: &'a TextTokenizer,
}

impl<'a, C> Common<'a, C> {
    /// The same with pictures encoded in another way.
    pub(crate) fn with<D>(&self, coding: &'a D) -> Common<'a, D> {
        Common {
            coding,
            judge: self.judge,
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
    let mut model = Player::new(init(&device), config);
    if let Some((folder, manifest)) = context.run.latest(M::NAME)? {
        model.restore("model", &folder, manifest.step)?;
    }
    let corpus = context.data.train.corpus(&recipe, common.tokenizer)?;
    let once = Mix {
        draw: 0,
        caption: 1,
        text: 1,
    };
    let test = &context.data.test;
    let stage = MixedStage {
        held_out: test.corpus_of(&recipe, common.tokenizer, once)?,
        order: PackOrder::new(corpus.lengths(), recipe.mix.pack_positions, recipe.seed),
        corpus,
        context,
        model,
        common,
        device,
    };
    stage::run(stage, config)
}

/// Perplexities of what is held out.
struct Perplexities {
    text: Option<f64>,
    caption: Option<f64>,
}

impl<M: MixedRival, C: Coding<Encoded = M::Encoded>> MixedStage<'_, M, C> {
    /// Captions that are measured, spread over the held-out ones, and their classes.
    fn requests(&self) -> (Vec<Caption>, Vec<u32>) {
        let (captions, pictures) = (
            &self.context.data.test.captions,
            &self.context.data.pictures,
        );
        let count = self.context.recipe.evaluate.samples.min(captions.len());
        let picked = (0..count).map(|i| i * captions.len() / count);
        picked
            .map(|i| (captions[i].clone(), pictures.test.label(i)))
            .unzip()
    }

    /// Pictures of the averaged model, the same noise each time, and the seconds that they took.
    fn draw(&self, captions: &[Caption]) -> Result<(Tensor<4>, f64), TrainError> {
        let (recipe, device) = (&self.context.recipe, &self.context.device);
        let texts = captions
            .iter()
            .map(|caption| self.common.tokenizer.encode(&caption.text));
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

    /// Of the averaged model.
    fn perplexities(&self) -> Result<Perplexities, TrainError> {
        let device = &self.context.device;
        let test = &self.context.data.pictures.test;
        let pictures = read_all(test, test.len(), device)?;
        let (mut text, mut caption) = (Vec::new(), Vec::new());
        let all: Vec<usize> = (0..self.held_out.len()).collect();
        let shown = |index: &&usize| self.held_out.picture(**index).is_some();
        let (captions, texts): (Vec<&usize>, Vec<&usize>) = all.iter().partition(shown);
        for (indices, nats) in [(captions, &mut caption), (texts, &mut text)] {
            for batch in indices.chunks(BATCH) {
                let documents = batch
                    .iter()
                    .map(|&&index| self.held_out.document(index, false));
                let documents: Vec<Document> = documents.collect();
                let seen: Vec<usize> = batch
                    .iter()
                    .filter_map(|&&index| self.held_out.picture(index))
                    .collect();
                let encoded = match (seen.first(), seen.last()) {
                    (Some(&first), Some(&last)) => {
                        let own = pictures.clone().narrow(0, first, last + 1 - first);
                        self.common.coding.encode(own)
                    }
                    _ => self
                        .common
                        .coding
                        .gather(&[], &mut RandomStream::new(0), device),
                };
                let surprise = self.model.ema().surprise(&documents, encoded, device);
                nats.extend(host_values(surprise));
            }
        }
        let perplexity = |nats: Vec<f32>| {
            let sum: f64 = nats.iter().map(|x| f64::from(*x)).sum();
            (!nats.is_empty()).then(|| (sum / nats.len() as f64).exp())
        };
        Ok(Perplexities {
            text: perplexity(text),
            caption: perplexity(caption),
        })
    }
}

impl<M: MixedRival, C: Coding<Encoded = M::Encoded>> Stage for MixedStage<'_, M, C> {
    type Recipe = CompareMixedRecipe;
    type Data = MixedData;
    type Output = Tensor<1>;
    const NAME: &'static str = M::NAME;

    fn context(&mut self) -> &mut Context {
        self.context
    }

    fn step(&self) -> u64 {
        self.model.step()
    }

    /// The same documents with the same requests dropped, whatever the model.
    fn round(&mut self, round: u64) -> Result<(Option<StepReport>, Tensor<1>), TrainError> {
        let recipe = &self.context.recipe;
        let pack = self.order.pack(round);
        let mut random = RandomStream::for_step(recipe.mixed.seed, "dropped", round);
        let dropout = recipe.mixed.lm.condition_dropout;
        let document = |&index: &usize| self.corpus.document(index, random.chance(dropout));
        let documents: Vec<Document> = pack.iter().map(document).collect();
        let pictures = pack.iter().filter_map(|&index| self.corpus.picture(index));
        let pictures: Vec<usize> = pictures.collect();
        let mut random = RandomStream::for_step(recipe.mixed.seed, "lm-noise", round);
        let encoded = self
            .common
            .coding
            .gather(&pictures, &mut random, &self.device);
        let model = self.model.model();
        let loss = model.loss(&documents, encoded, recipe, &mut random);
        Ok((self.model.backward(loss.clone()), loss))
    }

    fn values(loss: Tensor<1>) -> Vec<(&'static str, f64)> {
        vec![("loss", number(loss))]
    }

    /// Measures the averaged model, and draws pictures of it above those of the data.
    fn show(&mut self, step: u64) -> Result<(), TrainError> {
        let (captions, labels) = self.requests();
        let (pictures, seconds) = self.draw(&captions)?;
        let verdict = self.common.judge.measure(pictures.clone(), &labels);
        let perplexities = self.perplexities()?;
        let values = [
            ("class_agreement", Some(verdict.class_agreement)),
            ("worst_class_agreement", Some(verdict.worst_class_agreement)),
            ("frechet_distance", Some(verdict.frechet_distance)),
            ("images_per_second", Some(labels.len() as f64 / seconds)),
            ("text_perplexity", perplexities.text),
            ("caption_perplexity", perplexities.caption),
        ];
        let known = values
            .into_iter()
            .filter_map(|(name, value)| Some((name, value?)));
        let known: Vec<(&str, f64)> = known.collect();
        self.context.log(M::NAME, step, &known)?;
        let shown = SHOWN.min(captions.len());
        let grid = image_grid(pictures.narrow(0, 0, shown), shown.min(8), 2);
        let name = format!("samples/{}-step-{step}.png", M::NAME);
        save_png(&grid, &self.context.run.file(&name))
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
