//! The stage that trains a language model, whatever it reads. A task says what is its own: documents out
//! of data, and what to show.

use std::path::Path;

use burn::module::Module;
use burn::tensor::{Device, Tensor, TensorData};
use latentlm::adapters::Whitening;
use latentlm::core::bundle::{BundleError, BundleWriter, load_module};
use latentlm::core::{CausalBackbone, DiffusionDraws, LatentHead};
use latentlm::sequence::Document;
use latentlm::{Batch, LatentLm, Loss, RandomStream, load_lm};
use latentlm_data::MllmCorpus;
use latentlm_kernels::ROWS_A_SHARD;
use latentlm_pipelines::{LmConfig, Recipe, StageConfig, TokenWeights, TrainingData};

use crate::context::Context;
use crate::error::TrainError;
use crate::latents::Coding;
use crate::optimize::{StepReport, Trainer};
use crate::shard::{Learned, Shard};
use crate::stage;
use crate::stage::{Stage, number};

/// A recipe with a language model.
pub trait LmRecipe: Recipe {
    /// What it says of that.
    fn lm(&self) -> LmPlan<'_>;
}

/// What a recipe says of a language model.
pub struct LmPlan<'a> {
    model: &'a LmConfig,
    train: &'a StageConfig,
    tokens: Option<TokenWeights>,
}

impl<'a> LmPlan<'a> {
    /// The tables of a recipe, and how much learned tokens count, where there are any.
    pub fn new(model: &'a LmConfig, train: &'a StageConfig, tokens: Option<TokenWeights>) -> Self {
        Self {
            model,
            train,
            tokens,
        }
    }
}

/// A network that learns documents, with what a recipe `R` says of it.
pub trait Learner<R>: Module {
    /// Loads its weights.
    ///
    /// # Errors
    /// If the file can't be read or does not fit.
    fn load(self, path: &Path) -> Result<Self, BundleError> {
        load_module(self, path)
    }

    /// The same network with the whitening of its latents.
    fn whitened(self, whitening: Whitening) -> Self {
        let _ = whitening;
        self
    }

    /// A modality's latents as the network sees them.
    fn whiten(&self, modality: usize, latents: Tensor<2>) -> Tensor<2> {
        let _ = modality;
        latents
    }

    /// What so many learned latents of each modality are noised with; nothing of a network that denoises
    /// nothing.
    fn draws(
        &self,
        recipe: &R,
        learned: &[usize],
        random: &mut RandomStream,
        device: &Device,
    ) -> Vec<DiffusionDraws> {
        let _ = (recipe, learned, random, device);
        Vec::new()
    }

    /// The parts of the joint loss.
    fn loss(&self, batch: Batch) -> Loss;
}

impl<R: LmRecipe, B: CausalBackbone, H: LatentHead> Learner<R> for LatentLm<B, H> {
    fn load(self, path: &Path) -> Result<Self, BundleError> {
        load_lm(self, path)
    }

    fn whitened(self, whitening: Whitening) -> Self {
        (0..self.latents.len()).fold(self, |model, own| model.with_whitening(own, whitening))
    }

    fn whiten(&self, modality: usize, latents: Tensor<2>) -> Tensor<2> {
        self.latents[modality].whiten(latents)
    }

    fn draws(
        &self,
        recipe: &R,
        learned: &[usize],
        random: &mut RandomStream,
        device: &Device,
    ) -> Vec<DiffusionDraws> {
        let draws = learned.iter().enumerate().map(|(modality, &latents)| {
            let rows = recipe.lm().model.batch_mul * latents.max(1);
            self.head_of(modality).draw(rows, random, device)
        });
        draws.collect()
    }

    fn loss(&self, batch: Batch) -> Loss {
        LatentLm::loss(self, batch)
    }
}

/// What is learned, sample by sample.
pub trait Corpus {
    /// A sample's document, perhaps without what it is made for: guidance needs that.
    fn document(&self, sample: usize, dropped: bool) -> Document;

    /// The encoded sample whose latents it has, if it has any.
    fn encoded(&self, sample: usize) -> Option<usize> {
        Some(sample)
    }
}

impl Corpus for MllmCorpus {
    fn document(&self, sample: usize, dropped: bool) -> Document {
        MllmCorpus::document(self, sample, dropped)
    }

    fn encoded(&self, sample: usize) -> Option<usize> {
        self.picture(sample)
    }
}

/// What a task is made ready with.
pub struct LmParts {
    /// What is learned.
    pub corpus: Box<dyn Corpus>,
    /// The samples of a round.
    pub order: Box<dyn FnMut(u64) -> Vec<usize>>,
    /// Rows of documents, a few of which are worth a thread.
    pub rows: fn(&[Document]) -> usize,
    /// Largest share of a document's latents that is hidden from the backbone, if any is.
    pub hidden: Option<f64>,
    /// Texts that a checkpoint has beside weights and codec, by the names of their files.
    pub files: Vec<(&'static str, String)>,
}

impl LmParts {
    /// Documents that are seen as they are, each worth a row.
    pub fn new(
        corpus: impl Corpus + 'static,
        order: impl FnMut(u64) -> Vec<usize> + 'static,
    ) -> Self {
        Self {
            corpus: Box::new(corpus),
            order: Box::new(order),
            rows: <[Document]>::len,
            hidden: None,
            files: Vec::new(),
        }
    }
}

/// What differs from task to task in the training of a language model.
pub trait LmTask: Sized {
    /// The recipe of its run.
    type Recipe: LmRecipe;
    /// What its run is trained on.
    type Data: TrainingData;
    /// The network.
    type Model: Learner<Self::Recipe>;
    /// Name of the stage in logs and of the folder of its checkpoints.
    const NAME: &'static str = "lm";
    /// The stream that first weights are drawn from.
    const INIT: &'static str = "lm-init";
    /// The stream that says which conditions are dropped; without one, that of the noise does.
    const DROPPED: Option<&'static str> = None;
    /// Whether the loss in the log is the joint one, or that of latents.
    const JOINT: bool = false;

    /// The network with first weights.
    fn init(&self, recipe: &Self::Recipe, device: &Device) -> Self::Model;

    /// How its samples are encoded.
    fn coding(&self) -> &dyn Coding;

    /// Logs and writes what the averaged network makes.
    ///
    /// # Errors
    /// If data can't be read or a file can't be written.
    fn show(
        &self,
        context: &mut Context<Self::Recipe, Self::Data>,
        model: &Self::Model,
        step: u64,
    ) -> Result<(), TrainError>;
}

struct LmStage<'a, T: LmTask> {
    context: &'a mut Context<T::Recipe, T::Data>,
    model: Trainer<T::Model>,
    task: T,
    parts: LmParts,
    device: Device,
}

/// Trains a language model or takes up where it was left. `open` makes the task ready, with the newest
/// checkpoint's folder if there is one. Returns whether training is finished: a stop leaves it unfinished.
///
/// # Errors
/// If data can't be read, the loss is not finite, or a checkpoint can't be read or written.
pub fn train<T: LmTask>(
    context: &mut Context<T::Recipe, T::Data>,
    open: impl FnOnce(
        &mut Context<T::Recipe, T::Data>,
        Option<&Path>,
    ) -> Result<(T, LmParts), TrainError>,
) -> Result<bool, TrainError> {
    let recipe = context.recipe.clone();
    let LmPlan { model, train, .. } = recipe.lm();
    let latest = context.run.latest(T::NAME)?;
    if let Some((_, manifest)) = &latest
        && manifest.step >= train.steps
    {
        return Ok(true);
    }
    let folder = latest.as_ref().map(|(folder, _)| folder.as_path());
    let (task, parts) = open(context, folder)?;
    let device = context.device.clone().autodiff();
    device.seed(RandomStream::for_step(recipe.seed(), T::INIT, 0).seed());
    let network = task.init(&recipe, &device);
    let network = match task.coding().whitening() {
        Some(whitening) => network.whitened(whitening),
        None => network,
    };
    let mut player = Trainer::new(network, train)
        .with_precision(model.precision)
        .with_spread(context.spread());
    if let Some((folder, manifest)) = latest {
        let load = <T::Model as Learner<T::Recipe>>::load;
        player.restore_with("model", &folder, manifest.step, load)?;
    }
    let stage = LmStage {
        context,
        model: player,
        task,
        parts,
        device,
    };
    stage::run(stage, train)
}

impl<T: LmTask> LmStage<'_, T> {
    /// What a round learns, with the noise of that.
    fn batch(&mut self, round: u64) -> Batch {
        let samples = (self.parts.order)(round);
        let (recipe, model) = (&self.context.recipe, self.model.model());
        let stream = |purpose: &str| RandomStream::for_step(recipe.seed(), purpose, round);
        let mut random = stream("lm-noise");
        let encoded = samples.iter();
        let encoded = encoded.filter_map(|&sample| self.parts.corpus.encoded(sample));
        let encoded: Vec<usize> = encoded.collect();
        let latents = self.task.coding().draw(&encoded, &mut random, &self.device);
        let latents = latents.into_iter().enumerate();
        let latents = latents.map(|(modality, own)| model.whiten(modality, own));
        let latents: Vec<Tensor<2>> = latents.collect();
        let mut own = T::DROPPED.map(stream);
        let dropping = own.as_mut().unwrap_or(&mut random);
        let (corpus, dropout) = (&self.parts.corpus, recipe.lm().model.condition_dropout);
        let documents = samples.iter();
        let documents = documents.map(|&own| corpus.document(own, dropping.chance(dropout)));
        let documents: Vec<Document> = documents.collect();
        let mut heard = latents.clone();
        if let Some(most) = self.parts.hidden {
            for (modality, heard) in heard.iter_mut().enumerate() {
                let seen = seen(&documents, modality, most, (&mut random, &self.device));
                *heard = heard.clone() * seen;
            }
        }
        let weights = match recipe.lm().tokens {
            Some(tokens) => tokens.of(&documents),
            None => vec![1.0; documents.len()],
        };
        let learned = Learned::of(&documents, &weights, latents.len()).latents;
        Batch {
            draws: model.draws(recipe, &learned, &mut random, &self.device),
            documents,
            weights,
            heard,
            latents,
        }
    }
}

/// 1 for latents that the backbone sees, 0 for those that are hidden, `[N, 1]`. What share is hidden is
/// drawn for every document, up to `most`. Without its past a model has to learn from the text what comes
/// next; with it the next latent is nearly given, but where a word begins.
fn seen(
    documents: &[Document],
    modality: usize,
    most: f64,
    (random, device): (&mut RandomStream, &Device),
) -> Tensor<2> {
    let mut values = Vec::new();
    for document in documents {
        let hidden = most * random.uniform();
        let frames = 0..document.frames(modality);
        values.extend(frames.map(|_| f32::from(!random.chance(hidden))));
    }
    let shape = [values.len(), 1];
    Tensor::from_data(TensorData::new(values, shape), device)
}

impl<T: LmTask> Stage for LmStage<'_, T> {
    type Recipe = T::Recipe;
    type Data = T::Data;
    /// Every shard's share of the losses.
    type Output = Vec<Loss>;
    const NAME: &'static str = T::NAME;
    const TABLE: &'static str = "lm_train";

    fn context(&mut self) -> &mut Context<T::Recipe, T::Data> {
        self.context
    }

    fn step(&self) -> u64 {
        self.model.step()
    }

    fn round(&mut self, round: u64) -> Result<(Option<StepReport>, Self::Output), TrainError> {
        let batch = self.batch(round);
        let rows = (self.parts.rows)(&batch.documents);
        let spread = self.model.spread();
        let count = spread.parts(&self.device, rows, ROWS_A_SHARD).len();
        let tokens = self.context.recipe.lm().tokens;
        let token_weight = tokens.map_or(0.0, |tokens| tokens.loss);
        let shards = Shard::all(&batch, token_weight, count);
        Ok(self
            .model
            .backward_parts(shards, |model, shard| shard.loss(|batch| model.loss(batch))))
    }

    fn values(&self, losses: Self::Output) -> Vec<(&'static str, f64)> {
        let latents = losses.iter().flat_map(|loss| &loss.diffusion);
        let latents: f64 = latents.map(|own| number(own.clone())).sum();
        let Some(tokens) = self.context.recipe.lm().tokens else {
            return vec![("loss", latents)];
        };
        let token = losses.iter().map(|loss| number(loss.token.clone()));
        let token: f64 = token.sum();
        let joint = if T::JOINT { tokens.loss * token } else { 0.0 };
        vec![("loss", latents + joint), ("token_loss", token)]
    }

    fn show(&mut self, step: u64) -> Result<(), TrainError> {
        self.task.show(self.context, self.model.ema(), step)
    }

    fn save(&mut self, step: u64) -> Result<(), TrainError> {
        let mut manifest = self.context.manifest(T::NAME, step);
        let coding = self.task.coding();
        manifest.whitening = coding.whitening().map(|own| [own.bias, own.scale]);
        let save = |bundle: &BundleWriter| {
            self.model.save("model", bundle)?;
            for (name, text) in &self.parts.files {
                bundle.write(name, text.as_bytes())?;
            }
            coding.save(bundle)
        };
        let folder = self.context.run.checkpoint(&manifest, save)?;
        self.context.note(&format!("saved {}", folder.display()));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use latentlm_pipelines::host_values;

    #[test]
    fn hidden_latents_are_the_share_that_was_drawn() {
        let documents = vec![Document::of_speech(Vec::new(), 50, Vec::new()); 400];
        let seen = |most| {
            let random = &mut RandomStream::new(1);
            host_values(seen(&documents, 0, most, (random, &Device::default())))
        };
        assert_eq!(seen(0.0), vec![1.0; 20_000]);
        let values = seen(0.6);
        assert!(values.iter().all(|&x| x == 0.0 || x == 1.0));
        // Of 400 shares uniform in 0..0.6 the mean deviates by 0.009.
        let mean = values.iter().sum::<f32>() / 20_000.0;
        assert!((mean - 0.7).abs() < 0.03, "{mean}");
    }
}
