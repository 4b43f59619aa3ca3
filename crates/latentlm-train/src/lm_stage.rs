//! The stage that trains a language model, whatever it reads. A task says what is its own: documents out
//! of data, and what to show.

use std::path::Path;

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use latentlm::adapters::Whitening;
use latentlm::core::bundle::{BundleError, BundleWriter, load_module};
use latentlm::core::{CausalBackbone, LatentHead};
use latentlm::sequence::Document;
use latentlm::{Batch, LatentLm, Loss, RandomStream, load_lm};
use latentlm_data::{BatchOrder, PackOrder};
use latentlm_kernels::ROWS_A_PART;
use latentlm_pipelines::{LmConfig, Recipe, StageConfig, TokenWeights, TrainingData};

use crate::context::Context;
use crate::error::TrainError;
use crate::optimize::{Player, StepReport};
use crate::shard::{Cut, Shard};
use crate::stage;
use crate::stage::{Stage, number};

/// A recipe with a language model.
pub trait LmRecipe: Recipe {
    /// The language model's table.
    fn lm(&self) -> &LmConfig;

    /// How it is trained.
    fn lm_train(&self) -> &StageConfig;

    /// How much learned tokens count, where there are any.
    fn token_weights(&self) -> TokenWeights {
        TokenWeights::from(0.0)
    }
}

/// What a round's batch is made of.
pub struct Pack<I> {
    /// The documents.
    pub documents: Vec<Document>,
    /// The weight of each document's learned tokens in their mean.
    pub weights: Vec<f64>,
    /// Their latents, or what the network reads instead.
    pub inputs: I,
    /// 1 for latents that the backbone sees and 0 for others, a modality's `[N, 1]` each; empty where it
    /// sees all.
    pub seen: Vec<Tensor<2>>,
    /// Where the network lies.
    pub device: Device,
}

/// A network that learns documents, with what a recipe `R` says of it.
pub trait Learner<R>: Module {
    /// What it reads beside tokens and labels.
    type Inputs;
    /// Documents with all that their loss needs.
    type Batch: Cut;

    /// Loads its weights.
    ///
    /// # Errors
    /// If the file can't be read or does not fit.
    fn load(self, path: &Path) -> Result<Self, BundleError> {
        load_module(self, path)
    }

    /// The same network with the whitening of its latents.
    fn whitened(self, whitening: Whitening) -> Self;

    /// A pack with the noise of its loss.
    fn batch(&self, recipe: &R, pack: Pack<Self::Inputs>, random: &mut RandomStream)
    -> Self::Batch;

    /// The parts of the joint loss.
    fn loss(&self, batch: Self::Batch) -> Loss;
}

/// Inputs are a modality's latents `[N, Z]` each, as the codec made them.
impl<R: LmRecipe, B: CausalBackbone, H: LatentHead> Learner<R> for LatentLm<B, H> {
    type Inputs = Vec<Tensor<2>>;
    type Batch = Batch;

    fn load(self, path: &Path) -> Result<Self, BundleError> {
        load_lm(self, path)
    }

    fn whitened(self, whitening: Whitening) -> Self {
        (0..self.latents.len()).fold(self, |model, own| model.with_whitening(own, whitening))
    }

    fn batch(&self, recipe: &R, pack: Pack<Vec<Tensor<2>>>, random: &mut RandomStream) -> Batch {
        let latents = pack.inputs.into_iter().zip(&self.latents);
        let latents = latents.map(|(own, adapter)| adapter.whiten(own));
        let latents: Vec<Tensor<2>> = latents.collect();
        let layout = self.layout(&pack.documents);
        let draws = layout.learned.iter().enumerate().map(|(own, learned)| {
            let rows = recipe.lm().batch_mul * learned.latents.len().max(1);
            self.head_of(own).draw(rows, random, &pack.device)
        });
        let batch = Batch {
            weights: pack.weights,
            ..Batch::new(pack.documents, latents, draws.collect())
        };
        if pack.seen.is_empty() {
            return batch;
        }
        let heard = batch.latents.iter().zip(pack.seen);
        Batch {
            heard: heard.map(|(own, seen)| own.clone() * seen).collect(),
            ..batch
        }
    }

    fn loss(&self, batch: Batch) -> Loss {
        LatentLm::loss(self, batch)
    }
}

/// Which samples a round sees.
pub enum Order {
    /// As many in each.
    Batches(BatchOrder),
    /// As many as a number of positions holds.
    Packs(PackOrder),
}

impl Order {
    fn samples(&mut self, round: u64) -> Vec<usize> {
        match self {
            Self::Batches(order) => order.batch(round),
            Self::Packs(order) => order.pack(round),
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

    /// The network with first weights.
    fn init(&self, recipe: &Self::Recipe, device: &Device) -> Self::Model;

    /// The whitening of its latents, where there are latents.
    fn whitening(&self) -> Option<Whitening>;

    /// Which samples each round sees.
    fn order(&self, recipe: &Self::Recipe) -> Order;

    /// What a round's samples have beside their documents, with noise drawn anew.
    fn inputs(
        &self,
        samples: &[usize],
        random: &mut RandomStream,
        device: &Device,
    ) -> TaskInputs<Self>;

    /// A sample's document, perhaps without what it is made for: guidance needs that.
    fn document(&self, sample: usize, dropped: bool) -> Document;

    /// Which latents the backbone sees, as [`Pack::seen`].
    fn seen(
        &self,
        documents: &[Document],
        random: &mut RandomStream,
        device: &Device,
    ) -> Vec<Tensor<2>> {
        let _ = (documents, random, device);
        Vec::new()
    }

    /// Rows of documents, a few of which are worth a thread.
    fn rows(documents: &[Document]) -> usize {
        documents.len()
    }

    /// Numbers for the log, the loss first, made of a step's losses of tokens and of latents.
    fn values(recipe: &Self::Recipe, token: f64, latents: f64) -> Vec<(&'static str, f64)> {
        let _ = recipe;
        vec![("loss", latents), ("token_loss", token)]
    }

    /// Logs and writes what the averaged network makes.
    ///
    /// # Errors
    /// If data can't be read or a file can't be written.
    fn show(
        &mut self,
        context: &mut Context<Self::Recipe, Self::Data>,
        model: &Self::Model,
        step: u64,
    ) -> Result<(), TrainError>;

    /// Adds to a checkpoint what must lie beside the weights.
    ///
    /// # Errors
    /// If a file can't be written.
    fn save(&self, bundle: &BundleWriter) -> Result<(), TrainError>;
}

/// What a task's network reads beside tokens and labels.
pub type TaskInputs<T> = <<T as LmTask>::Model as Learner<<T as LmTask>::Recipe>>::Inputs;

struct LmStage<'a, T: LmTask> {
    context: &'a mut Context<T::Recipe, T::Data>,
    model: Player<T::Model>,
    task: T,
    order: Order,
    device: Device,
}

/// Trains a language model or takes up where it was left. `open` makes the task ready, with the newest
/// checkpoint's folder if there is one. Returns whether training is finished: a stop leaves it unfinished.
///
/// # Errors
/// If data can't be read, the loss is not finite, or a checkpoint can't be read or written.
pub fn train<T: LmTask>(
    context: &mut Context<T::Recipe, T::Data>,
    open: impl FnOnce(&mut Context<T::Recipe, T::Data>, Option<&Path>) -> Result<T, TrainError>,
) -> Result<bool, TrainError> {
    let recipe = context.recipe.clone();
    let config = recipe.lm_train();
    let latest = context.run.latest(T::NAME)?;
    if let Some((_, manifest)) = &latest
        && manifest.step >= config.steps
    {
        return Ok(true);
    }
    let task = open(context, latest.as_ref().map(|(folder, _)| folder.as_path()))?;
    let device = context.device.clone().autodiff();
    device.seed(RandomStream::for_step(recipe.seed(), T::INIT, 0).seed());
    let model = task.init(&recipe, &device);
    let model = match task.whitening() {
        Some(whitening) => model.whitened(whitening),
        None => model,
    };
    let mut model = Player::new(model, config)
        .with_precision(recipe.lm().precision)
        .with_spread(context.spread());
    if let Some((folder, manifest)) = latest {
        let load = <T::Model as Learner<T::Recipe>>::load;
        model.restore_with("model", &folder, manifest.step, load)?;
    }
    let stage = LmStage {
        order: task.order(&recipe),
        context,
        model,
        task,
        device,
    };
    stage::run(stage, config)
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
        let samples = self.order.samples(round);
        let (task, recipe, device) = (&self.task, &self.context.recipe, &self.device);
        let stream = |purpose: &str| RandomStream::for_step(recipe.seed(), purpose, round);
        let mut random = stream("lm-noise");
        let inputs = task.inputs(&samples, &mut random, device);
        let dropout = recipe.lm().condition_dropout;
        let mut own = T::DROPPED.map(stream);
        let dropping = own.as_mut().unwrap_or(&mut random);
        let documents = samples.iter();
        let documents = documents.map(|&sample| task.document(sample, dropping.chance(dropout)));
        let documents: Vec<Document> = documents.collect();
        let rows = T::rows(&documents);
        let weights = recipe.token_weights();
        let pack = Pack {
            seen: task.seen(&documents, &mut random, device),
            weights: weights.of(&documents),
            documents,
            inputs,
            device: device.clone(),
        };
        let batch = self.model.model().batch(recipe, pack, &mut random);
        let count = self.model.spread().parts(device, rows, ROWS_A_PART).len();
        let shards = Shard::all(&batch, weights.loss, count);
        Ok(self
            .model
            .backward_parts(shards, |model, shard| shard.loss(|batch| model.loss(batch))))
    }

    fn values(&self, losses: Self::Output) -> Vec<(&'static str, f64)> {
        let token = losses.iter().map(|loss| number(loss.token.clone()));
        let latents = losses.iter().flat_map(|loss| &loss.diffusion);
        let latents = latents.map(|own| number(own.clone())).sum();
        T::values(&self.context.recipe, token.sum(), latents)
    }

    fn show(&mut self, step: u64) -> Result<(), TrainError> {
        self.task.show(self.context, self.model.ema(), step)
    }

    fn save(&mut self, step: u64) -> Result<(), TrainError> {
        let mut manifest = self.context.manifest(T::NAME, step);
        let whitening = self.task.whitening();
        manifest.whitening = whitening.map(|own| [own.bias, own.scale]);
        let save = |bundle: &BundleWriter| {
            self.model.save("model", bundle)?;
            self.task.save(bundle)
        };
        let folder = self.context.run.checkpoint(&manifest, save)?;
        self.context.note(&format!("saved {}", folder.display()));
        Ok(())
    }
}
