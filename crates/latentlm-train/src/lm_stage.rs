//! The stage that trains a language model of any modality. A task says what differs: documents made of
//! data, and what to show.

use std::path::Path;

use burn::module::Module;
use burn::tensor::{Device, Int, Tensor, TensorData};
use latentlm::adapters::LatentAdapter;
use latentlm::core::bundle::{BundleError, BundleWriter, load_module};
use latentlm::core::{CausalBackbone, DiffusionDraws, LatentHead};
use latentlm::sequence::Document;
use latentlm::{Batch, LatentCodec, LatentLm, Loss, RandomStream, load_lm};
use latentlm_kernels::ROWS_A_SHARD;
use latentlm_pipelines::{
    LmConfig, ModelRecipe, Pipeline, Recipe, StageConfig, TokenWeights, TrainingData, Vocabulary,
};

use crate::context::Context;
use crate::error::Result;
use crate::latents::{Coding, Encoded};
use crate::optimize::Trainer;
use crate::shard::{Learned, Shard};
use crate::stage::{self, Round, Stage, number};

/// The stage of a run's own language model.
pub const STAGE: &str = "lm";

/// A recipe with a language model.
pub trait LmRecipe: Recipe {
    /// What the recipe says of the language model.
    fn lm(&self) -> LmPlan<'_>;
}

/// What a recipe says of a language model.
pub struct LmPlan<'a> {
    pub(crate) model: &'a LmConfig,
    pub(crate) train: &'a StageConfig,
    pub(crate) tokens: Option<TokenWeights>,
}

impl<'a> LmPlan<'a> {
    /// The tables of a recipe, and the weights of learned tokens where there are any.
    pub fn new(model: &'a LmConfig, train: &'a StageConfig, tokens: Option<TokenWeights>) -> Self {
        Self {
            model,
            train,
            tokens,
        }
    }
}

/// A network that learns documents; `R` is the recipe that it is made by.
pub trait Learner<R>: Module {
    /// Loads its weights.
    ///
    /// # Errors
    /// If the file can't be read or does not fit.
    fn load(self, path: &Path) -> Result<Self, BundleError> {
        load_module(self, path)
    }

    /// The adapter of each modality's latents, which whitens them; none in a network that reads codes.
    fn adapters(&self) -> &[LatentAdapter] {
        &[]
    }

    /// The same, to be changed.
    fn adapters_mut(&mut self) -> &mut [LatentAdapter] {
        &mut []
    }

    /// A modality's latents as the network sees them.
    ///
    /// # Shapes
    /// - `latents` and result: `[N, Z]`
    fn whiten(&self, modality: usize, latents: Tensor<2>) -> Tensor<2> {
        match self.adapters().get(modality) {
            Some(adapter) => adapter.whiten(latents),
            None => latents,
        }
    }

    /// Noise and timesteps for `learned` latents of each modality; none for a network that denoises
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

    fn adapters(&self) -> &[LatentAdapter] {
        &self.latents
    }

    fn adapters_mut(&mut self) -> &mut [LatentAdapter] {
        &mut self.latents
    }

    fn draws(
        &self,
        recipe: &R,
        learned: &[usize],
        random: &mut RandomStream,
        device: &Device,
    ) -> Vec<DiffusionDraws> {
        let mut draws = Vec::with_capacity(learned.len());
        for (modality, &latents) in learned.iter().enumerate() {
            let rows = recipe.lm().model.batch_mul * latents.max(1);
            draws.push(self.head_of(modality).draw(rows, random, device));
        }
        draws
    }

    fn loss(&self, batch: Batch) -> Loss {
        LatentLm::loss(self, batch)
    }
}

/// What is learned, sample by sample.
pub trait Corpus {
    /// A sample's document. If `dropped`, without the label or text that its latents are made for, as
    /// guidance needs it. It may have fewer latents than the encoded sample: then the first ones.
    fn document(&self, sample: usize, dropped: bool) -> Document;

    /// The encoded sample whose latents it has, if it has any.
    fn encoded(&self, sample: usize) -> Option<usize> {
        Some(sample)
    }
}

/// What a task is made ready with.
pub struct LmSetup {
    /// What is learned.
    pub corpus: Box<dyn Corpus>,
    /// The samples of a round.
    pub order: Box<dyn FnMut(u64) -> Vec<usize>>,
    /// How many rows documents count as when they are cut into shards: a few rows are worth a thread.
    pub rows: fn(&[Document]) -> usize,
    /// Largest share of a document's latents that is hidden from the backbone, if any is.
    pub hidden: Option<f64>,
    /// Texts that a checkpoint has beside weights and codec, by the names of their files.
    pub files: Vec<(&'static str, String)>,
}

impl LmSetup {
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

/// The run of a task.
pub type LmContext<T> = Context<<T as LmTask>::Recipe, <T as LmTask>::Data>;

/// What differs from task to task in the training of a language model.
pub trait LmTask: Sized {
    /// The recipe of its run.
    type Recipe: LmRecipe;
    /// What its run is trained on.
    type Data: TrainingData;
    /// The network.
    type Model: Learner<Self::Recipe>;
    /// Name of the stage in logs and of the folder of its checkpoints.
    const NAME: &'static str = STAGE;
    /// The random stream of the first weights.
    const INIT: &'static str = "lm-init";
    /// The random stream that says which conditions are dropped; without one, that of the noise does.
    const DROPPED: Option<&'static str> = None;
    /// Whether the log's loss is the joint one; else it is that of latents alone.
    const JOINT: bool = false;

    /// The network with first weights.
    fn init(&self, recipe: &Self::Recipe, device: &Device) -> Self::Model;

    /// How its samples are encoded.
    fn coding(&self) -> &dyn Coding;

    /// Logs and writes what the averaged network makes.
    ///
    /// # Errors
    /// If data can't be read or a file can't be written.
    fn show(&self, context: &mut LmContext<Self>, model: &Self::Model, step: u64) -> Result<()>;
}

/// Logs and writes what the pipeline of a step makes.
pub type Show<R, D, H> = fn(&mut Context<R, D>, &Pipeline<R>, &H, u64) -> Result<()>;

/// Training of a pipeline's language model. `H` is what it is measured on as training goes.
pub struct PipelineTask<R: ModelRecipe, D, H, const N: usize> {
    /// The trained codec and the encoded samples.
    pub encoded: Encoded<R::Codec, N>,
    /// Classes or tokens.
    pub vocabulary: R::Vocabulary,
    /// What is measured.
    pub held_out: H,
    /// Logs and writes what the pipeline of a step makes.
    pub show: Show<R, D, H>,
}

impl<R, D, H, const N: usize> LmTask for PipelineTask<R, D, H, N>
where
    R: ModelRecipe<Codec: LatentCodec<N>> + LmRecipe,
    D: TrainingData,
{
    type Recipe = R;
    type Data = D;
    type Model = LatentLm;

    fn init(&self, recipe: &R, device: &Device) -> LatentLm {
        recipe.init_model(self.vocabulary.size(), device)
    }

    fn coding(&self) -> &dyn Coding {
        &self.encoded
    }

    fn show(&self, context: &mut Context<R, D>, model: &LatentLm, step: u64) -> Result<()> {
        let pipeline = Pipeline {
            manifest: context.manifest(STAGE, step),
            codec: self.encoded.codec.clone(),
            model: model.clone(),
            vocabulary: self.vocabulary.clone(),
            device: context.device.clone(),
            notes: Vec::new(),
        };
        (self.show)(context, &pipeline, &self.held_out, step)
    }
}

struct LmStage<T: LmTask> {
    trainer: Trainer<T::Model>,
    task: T,
    setup: LmSetup,
    tokens: Option<TokenWeights>,
    device: Device,
}

/// Trains a language model, or continues. `open` makes the task ready, with the newest checkpoint's folder
/// if there is one. Returns whether training is finished: a stop leaves it unfinished.
///
/// # Errors
/// If data can't be read, the loss is not finite, or a checkpoint can't be read or written.
pub fn train<T: LmTask>(
    context: &mut LmContext<T>,
    open: impl FnOnce(&mut LmContext<T>, Option<&Path>) -> Result<(T, LmSetup)>,
) -> Result<bool> {
    let recipe = context.recipe.clone();
    let plan = recipe.lm();
    stage::run(context, plan.train, |context, latest| {
        let folder = latest.map(|found| found.folder.as_path());
        let (task, setup) = open(context, folder)?;
        let device = context.device.clone().autodiff();
        device.seed(RandomStream::for_step(recipe.seed(), T::INIT, 0).seed());
        let mut network = task.init(&recipe, &device);
        if let Some(whitening) = task.coding().whitening() {
            for adapter in network.adapters_mut() {
                adapter.set_whitening(whitening);
            }
        }
        let trainer = Trainer::new(network, plan.train);
        let mut trainer = trainer.with_precision(plan.model.precision);
        trainer.spread = context.spread();
        if let Some(found) = latest {
            let load = <T::Model as Learner<T::Recipe>>::load;
            trainer.restore("model", &found.folder, found.manifest.step, load)?;
        }
        Ok(LmStage {
            trainer,
            task,
            setup,
            tokens: plan.tokens,
            device,
        })
    })
}

impl<T: LmTask> LmStage<T> {
    /// The batch of a round, with its noise.
    fn batch(&mut self, recipe: &T::Recipe, round: u64) -> Batch {
        let samples = (self.setup.order)(round);
        let (corpus, model) = (&self.setup.corpus, self.trainer.model());
        let stream = |purpose: &str| RandomStream::for_step(recipe.seed(), purpose, round);
        let mut random = stream("lm-noise");
        let encoded = samples.iter().filter_map(|&own| corpus.encoded(own));
        let encoded: Vec<usize> = encoded.collect();
        let drawn = self.task.coding().draw(&encoded, &mut random, &self.device);
        let mut own = T::DROPPED.map(stream);
        let dropping = own.as_mut().unwrap_or(&mut random);
        let dropout = recipe.lm().model.condition_dropout;
        let documents = samples.iter();
        let documents = documents.map(|&own| corpus.document(own, dropping.chance(dropout)));
        let documents: Vec<Document> = documents.collect();
        let of_sample = |&own: &usize| {
            let encoded = corpus.encoded(own);
            encoded.map_or(0, |encoded| self.task.coding().length(encoded))
        };
        let lengths: Vec<usize> = samples.iter().map(of_sample).collect();
        let mut latents = Vec::with_capacity(drawn.len());
        for (modality, own) in drawn.into_iter().enumerate() {
            let own = first_latents(own, &lengths, &documents, modality);
            latents.push(model.whiten(modality, own));
        }
        let mut heard = latents.clone();
        if let Some(most) = self.setup.hidden {
            for (modality, heard) in heard.iter_mut().enumerate() {
                let seen = seen(&documents, modality, most, &mut random, &self.device);
                *heard = heard.clone() * seen;
            }
        }
        let weights = match self.tokens {
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

/// The latents that documents have: of each sample the first ones. `lengths` is the number of latents of each sample.
///
/// # Shapes
/// - `drawn`: `[N, Z]`, for the sum `N` of `lengths`
/// - returns: `[N', Z]`, for the number `N'` of latents of the documents
fn first_latents(
    drawn: Tensor<2>,
    lengths: &[usize],
    documents: &[Document],
    modality: usize,
) -> Tensor<2> {
    let mut rows = Vec::new();
    let mut first = 0;
    for (length, document) in lengths.iter().zip(documents) {
        let kept = first + document.frames(modality) as i64;
        rows.extend(first..kept);
        first += *length as i64;
    }
    let count = rows.len();
    // Documents with all latents of their samples need no copy.
    if count == drawn.dims()[0] {
        return drawn;
    }
    let rows = Tensor::<1, Int>::from_data(TensorData::new(rows, [count]), &drawn.device());
    drawn.select(0, rows)
}

/// 1 for latents that the backbone sees, 0 for those that are hidden. What share is hidden is drawn for
/// every document, up to `most`. Without earlier latents a model has to learn from the text what comes
/// next; with them the next latent is nearly given, except where a word begins.
///
/// # Shapes
/// - returns: `[N, 1]`
fn seen(
    documents: &[Document],
    modality: usize,
    most: f64,
    random: &mut RandomStream,
    device: &Device,
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

impl<T: LmTask> Stage<T::Recipe, T::Data> for LmStage<T> {
    /// Every shard's share of the losses.
    type Output = Vec<Loss>;
    const NAME: &'static str = T::NAME;
    const TABLE: &'static str = "lm_train";

    fn round(&mut self, context: &LmContext<T>, round: u64) -> Round<Self::Output> {
        let batch = self.batch(&context.recipe, round);
        let (spread, rows) = (&self.trainer.spread, (self.setup.rows)(&batch.documents));
        let count = spread.shards(&self.device, rows, ROWS_A_SHARD).len();
        let token_weight = self.tokens.map_or(0.0, |tokens| tokens.loss);
        let shards = Shard::all(&batch, token_weight, count);
        Ok(self
            .trainer
            .backward_shards(shards, |model, shard| shard.loss(|batch| model.loss(batch))))
    }

    fn values(&self, losses: Self::Output) -> Vec<(&'static str, f64)> {
        let latents = losses.iter().flat_map(|loss| &loss.diffusion);
        let latents: f64 = latents.map(|own| number(own.clone())).sum();
        let Some(tokens) = self.tokens else {
            return vec![("loss", latents)];
        };
        let token = losses.iter().map(|loss| number(loss.token.clone()));
        let token: f64 = token.sum();
        let joint = if T::JOINT { tokens.loss * token } else { 0.0 };
        vec![("loss", latents + joint), ("token_loss", token)]
    }

    fn show(&mut self, context: &mut LmContext<T>, step: u64) -> Result<()> {
        self.task.show(context, self.trainer.ema(), step)
    }

    fn whitening(&self) -> Option<[f32; 2]> {
        let whitening = self.task.coding().whitening()?;
        Some([whitening.bias, whitening.scale])
    }

    fn save(&self, bundle: &BundleWriter) -> Result<()> {
        self.trainer.save("model", bundle)?;
        for (name, text) in &self.setup.files {
            bundle.write(name, text.as_bytes())?;
        }
        self.task.coding().save(bundle)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use latentlm_pipelines::host_values;

    /// Of three samples of three latents: all of the first, one of the second, no latents of a text, two of the last.
    #[test]
    fn documents_have_the_first_latents_of_their_samples() {
        let document = |frames| Document::of_speech(vec![1], frames, Vec::new());
        let documents = [document(3), document(1), Document::default(), document(2)];
        let numbers: Vec<f32> = (0..9).map(|own| own as f32).collect();
        let data = TensorData::new(numbers.clone(), [9, 1]);
        let drawn = Tensor::<2>::from_data(data, &Device::default());
        let kept = first_latents(drawn.clone(), &[3, 3, 0, 3], &documents, 0);
        assert_eq!(host_values(kept), [0.0, 1.0, 2.0, 3.0, 6.0, 7.0]);
        let whole = [document(3), document(3), document(3)];
        let all = first_latents(drawn, &[3, 3, 3], &whole, 0);
        assert_eq!(host_values(all), numbers);
    }

    #[test]
    fn hidden_latents_are_the_share_that_was_drawn() {
        let documents = vec![Document::of_speech(Vec::new(), 50, Vec::new()); 400];
        let seen = |most| {
            let random = &mut RandomStream::new(1);
            host_values(seen(&documents, 0, most, random, &Device::default()))
        };
        assert_eq!(seen(0.0), vec![1.0; 20_000]);
        let values = seen(0.6);
        assert!(values.iter().all(|&x| x == 0.0 || x == 1.0));
        // The mean of 400 shares, uniform in 0..0.6, deviates by 0.009.
        let mean = values.iter().sum::<f32>() / 20_000.0;
        assert!((mean - 0.7).abs() < 0.03, "{mean}");
    }
}
