//! The stage that trains a language model of any modality. A task says what differs: documents made of
//! data, and what to show.

use std::path::Path;

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use latentlm::adapters::{LatentAdapter, Whitening};
use latentlm::core::bundle::{BundleError, BundleWriter, load_module};
use latentlm::core::{CausalBackbone, DiffusionDraws, DistilledGuidance, FewStep, LatentHead};
use latentlm::sequence::Document;
use latentlm::{Batch, LatentCodec, LatentLm, Loss, RandomStream, load_lm};
use latentlm_kernels::{ROWS_A_SHARD, at_once};
use latentlm_pipelines::{
    ModelRecipe, Pipeline, PipelineError, Recipe, TokenWeights, TrainingData, Vocabulary, ema_file,
};

use crate::context::Context;
use crate::error::Result;
use crate::heard::{first_latents, noisy, seen};
use crate::latents::{Coding, Encoded};
use crate::lm_recipe::{LmRecipe, STAGE};
use crate::optimize::Trainer;
use crate::precision::without_gradients;
use crate::shard::{Learned, Shard};
use crate::stage::{self, Round, Stage, number};
use crate::teacher;
use crate::weights;

/// A network that learns documents; `R` is the recipe that it is made by.
pub trait Learner<R>: Module {
    /// Whether it can begin from another run and learn from its averaged weights.
    const TAUGHT: bool = false;

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

    /// [`Self::adapters`], mutably.
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

    /// Takes over the weights of a teacher, a model of the same sizes.
    fn begin_from(self, teacher: Self) -> Self {
        let _ = self;
        teacher
    }

    /// Writes this model's guided predictions into the draws of a batch, as targets of a student. The model has no
    /// autodiff.
    ///
    /// # Errors
    /// If its head has no guided prediction.
    fn teach(&self, batch: &mut Batch) -> Result<()> {
        let _ = batch;
        Ok(())
    }

    /// Makes two half steps with these averaged weights, and writes the results into the draws of a batch, as targets
    /// of whole steps. The weights have no autodiff.
    fn take_whole_steps(&self, batch: &mut Batch) {
        let _ = batch;
    }

    /// The parts of the joint loss.
    fn loss(&self, batch: Batch) -> Loss;
}

impl<R: LmRecipe, B: CausalBackbone, H: LatentHead> Learner<R> for LatentLm<B, H> {
    const TAUGHT: bool = true;

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

    fn begin_from(self, teacher: Self) -> Self {
        LatentLm::begin_from(self, teacher)
    }

    fn teach(&self, batch: &mut Batch) -> Result<()> {
        let taught = LatentLm::teach(self, batch);
        Ok(taught.map_err(PipelineError::from)?)
    }

    fn take_whole_steps(&self, batch: &mut Batch) {
        LatentLm::take_whole_steps(self, batch);
    }

    fn loss(&self, batch: Batch) -> Loss {
        LatentLm::loss(self, batch)
    }
}

/// Training documents by the index of their sample.
pub trait Corpus {
    /// A sample's document. If `dropped`, it lacks its label or text, so that the model learns the unconditional
    /// prediction for guidance. A document may have only the first latents of its encoded sample.
    fn document(&self, sample: usize, dropped: bool) -> Document;

    /// The encoded sample whose latents it has, if it has any.
    fn encoded(&self, sample: usize) -> Option<usize> {
        Some(sample)
    }
}

/// Documents of a task, their order, and the files beside the weights.
pub struct LmSetup {
    /// The training documents.
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

/// The parts of a language model's training that differ from task to task.
pub trait LmTask: Sized {
    /// The recipe of its run.
    type Recipe: LmRecipe;
    /// Data of the run.
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
    /// Held-out data.
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
    /// Model whose guidance is distilled, without autodiff; `None` if none is.
    teacher: Option<T::Model>,
    /// Whitening of the latents: the teacher's if guidance is distilled, since both read the same latents.
    whitening: Option<Whitening>,
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
        let learns = <T::Model as Learner<T::Recipe>>::TAUGHT;
        let guidance = plan.model.method.distilled_guidance != DistilledGuidance::None;
        let mut whitening = task.coding().whitening();
        let mut teacher = None;
        if learns
            && (guidance || latest.is_none())
            && let Some(run) = teacher::run_of(&recipe)?
        {
            let found = teacher::finished(&run)?;
            weights::compare_teacher(context, &run, &found, latest.is_some())?;
            for note in &found.notes {
                context.note(note);
            }
            let own = task.init(&found.manifest.recipe, &device);
            let weights = found.folder.join(ema_file("model"));
            let own = <T::Model as Learner<T::Recipe>>::load(own, &weights)?;
            if guidance {
                teacher = Some(own.valid());
                if let Some([bias, scale]) = found.manifest.whitening {
                    whitening = Some(Whitening { bias, scale });
                }
            }
            network = network.begin_from(own);
        }
        if let Some(whitening) = whitening {
            for adapter in network.adapters_mut() {
                adapter.set_whitening(whitening);
            }
        }
        let mut trainer = Trainer::new(network, plan.train);
        trainer.precision = plan.model.precision;
        trainer.spread = context.spread();
        if let Some(found) = latest {
            let load = <T::Model as Learner<T::Recipe>>::load;
            trainer.restore("model", &found.folder, found.manifest.step, load)?;
        }
        Ok(LmStage {
            trainer,
            teacher,
            whitening,
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
        let (mut encoded, mut lengths) = (Vec::new(), Vec::with_capacity(samples.len()));
        for &sample in &samples {
            let own = corpus.encoded(sample);
            lengths.push(own.map_or(0, |own| self.task.coding().length(own)));
            encoded.extend(own);
        }
        let drawn = self.task.coding().draw(&encoded, &mut random, &self.device);
        let mut own = T::DROPPED.map(stream);
        let dropping = own.as_mut().unwrap_or(&mut random);
        // A student of guidance is never asked without a condition.
        let dropout = match self.teacher {
            Some(_) => 0.0,
            None => recipe.lm().model.condition_dropout,
        };
        let documents = samples.iter();
        let documents = documents.map(|&own| corpus.document(own, dropping.chance(dropout)));
        let documents: Vec<Document> = documents.collect();
        let mut latents = Vec::with_capacity(drawn.len());
        for (modality, own) in drawn.into_iter().enumerate() {
            let own = first_latents(own, &lengths, &documents, modality);
            latents.push(model.whiten(modality, own));
        }
        let mut heard = latents.clone();
        let history_noise = recipe.lm().model.history_noise;
        if history_noise > 0.0 {
            let mut random = stream("lm-history");
            // A network without adapters reads codes, which no noise may change.
            let whitened = model.adapters().len();
            for heard in heard.iter_mut().take(whitened) {
                *heard = noisy(heard.clone(), history_noise, &mut random);
            }
        }
        if let Some(most) = self.setup.hidden {
            for (modality, heard) in heard.iter_mut().enumerate() {
                let seen = seen(&documents, modality, most, &mut random, &self.device);
                *heard = heard.clone() * seen;
            }
        }
        // Without cross entropy all tokens weigh alike.
        let tokens = self.tokens.unwrap_or(TokenWeights::from(0.0));
        let weights = tokens.of(&documents);
        let learned = Learned::of(&documents, &weights, latents.len()).latents;
        let mut nulls = Vec::new();
        if self.teacher.is_some() {
            nulls.extend(samples.iter().map(|&own| corpus.document(own, true)));
        }
        Batch {
            draws: model.draws(recipe, &learned, &mut random, &self.device),
            documents,
            weights,
            heard,
            latents,
            nulls,
        }
    }

    /// Shards with targets that other weights make, each shard on a thread: guided predictions of a teacher, and
    /// whole steps of a shortcut head, made by the averaged weights as in the paper (Frans et al. 2024).
    ///
    /// # Errors
    /// If the teacher has no guided prediction.
    fn taught(&self, shards: Vec<Shard>, few_step: FewStep) -> Result<Vec<Shard>> {
        let whole_steps = few_step == FewStep::Shortcut;
        if self.teacher.is_none() && !whole_steps {
            return Ok(shards);
        }
        let mut inputs = Vec::with_capacity(shards.len());
        for shard in shards {
            let averaged = whole_steps.then(|| self.trainer.ema().clone());
            inputs.push((shard, self.teacher.clone(), averaged));
        }
        let taught = without_gradients(self.trainer.precision, &self.device, || {
            at_once(inputs, |(mut shard, teacher, averaged)| -> Result<Shard> {
                let batch = shard.batch_mut();
                if let Some(teacher) = teacher {
                    teacher.teach(batch)?;
                }
                if let Some(averaged) = averaged {
                    averaged.take_whole_steps(batch);
                }
                Ok(shard)
            })
        });
        taught.into_iter().collect()
    }
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
        let shards = self.taught(shards, context.recipe.lm().model.method.few_step)?;
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
        let whitening = self.whitening?;
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
