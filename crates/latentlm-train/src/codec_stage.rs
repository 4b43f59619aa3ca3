//! The stage that trains a codec of any modality. A task says what differs: batches, and what to show.

use burn::tensor::{Device, Tensor};
use latentlm::RandomStream;
use latentlm::core::bundle::BundleWriter;
use latentlm::core::{
    CodecObjective, CodecObjectiveConfig, LatentCodecConfig, LatentNoise, LatentSpec,
};
use latentlm_kernels::ROWS_A_SHARD;
use latentlm_pipelines::{Recipe, StageConfig, TrainingData};

use crate::adversarial::{AdversarialTrainer, CodecSetup, NamedValues};
use crate::context::Context;
use crate::error::Result;
use crate::optimize::Trainer;
use crate::stage::{self, Round, Stage, number};
use crate::weights;

/// Builds codec, discriminator and loss from the tables `[codec]` and `[codec_loss]` of a recipe.
///
/// # Errors
/// If the loss can't be built.
pub fn codec_setup<L: CodecObjectiveConfig<D>, const D: usize>(
    codec: &L::CodecConfig,
    loss: &L,
    device: &Device,
) -> Result<CodecSetup<L::Objective, D>, L::Error> {
    Ok(CodecSetup {
        codec: LatentCodecConfig::init(codec, device),
        discriminator: loss.init_discriminator(codec, device),
        discriminator_start: loss.discriminator_start(),
        objective: loss.init(codec, device)?,
        latents: LatentCodecConfig::spec(codec),
    })
}

/// The run of a task.
pub type CodecContext<T, const D: usize> =
    Context<<T as CodecTask<D>>::Recipe, <T as CodecTask<D>>::Data>;

/// The codec of a task.
pub type TaskCodec<T, const D: usize> =
    <<T as CodecTask<D>>::Objective as CodecObjective<D>>::Codec;

/// The parts of a codec's training that differ from codec to codec.
pub trait CodecTask<const D: usize>: Sized {
    /// The recipe of its run.
    type Recipe: Recipe;
    /// Data of the run.
    type Data: TrainingData;
    /// The training objective.
    type Objective: CodecObjective<D>;
    /// Name of the stage in logs, and of the folder of its checkpoints. First weights are drawn from the random
    /// stream `<name>-init`.
    const NAME: &'static str = "codec";
    /// Fewest rows of a batch that are worth a thread.
    const ROWS_A_SHARD: usize = ROWS_A_SHARD;

    /// The table `[codec_train]` of the recipe.
    fn config(recipe: &Self::Recipe) -> &StageConfig;

    /// Builds codec and discriminator with first weights, and the loss.
    ///
    /// # Errors
    /// If the recipe is wrong or a file can't be read.
    fn setup(recipe: &Self::Recipe, device: &Device) -> Result<CodecSetup<Self::Objective, D>>;

    /// Makes the data ready for training from a step on.
    ///
    /// # Errors
    /// If data can't be read.
    fn open(context: &mut CodecContext<Self, D>, first_step: u64) -> Result<Self>;

    /// The signals of a round, `[B, ...]`.
    ///
    /// # Errors
    /// If data can't be read.
    fn batch(
        &mut self,
        context: &CodecContext<Self, D>,
        round: u64,
        device: &Device,
    ) -> Result<Tensor<D>>;

    /// Work on the codec before each step.
    fn before_step(
        &mut self,
        context: &CodecContext<Self, D>,
        codec: &mut Trainer<TaskCodec<Self, D>>,
    ) {
        let _ = (context, codec);
    }

    /// Logs and writes what the averaged codec makes of held-out data.
    ///
    /// # Errors
    /// If data can't be read or a file can't be written.
    fn show(
        &mut self,
        context: &mut CodecContext<Self, D>,
        codec: &TaskCodec<Self, D>,
        step: u64,
    ) -> Result<()>;
}

struct CodecStage<T: CodecTask<D>, const D: usize> {
    trainer: AdversarialTrainer<T::Objective, D>,
    latents: LatentSpec,
    task: T,
    device: Device,
}

/// Trains a codec, or continues. Returns whether it is finished: a stop leaves it unfinished.
///
/// # Errors
/// If data can't be read, the loss is not finite, or a checkpoint can't be read or written.
pub fn train<T: CodecTask<D>, const D: usize>(context: &mut CodecContext<T, D>) -> Result<bool> {
    let recipe = context.recipe.clone();
    let config = T::config(&recipe);
    stage::run(context, config, |context, latest| {
        weights::compare_loss(context, latest.is_some())?;
        let device = context.device.clone().autodiff();
        let stream = format!("{}-init", T::NAME);
        device.seed(RandomStream::for_step(recipe.seed(), &stream, 0).seed());
        let setup = T::setup(&recipe, &device)?;
        let latents = setup.latents;
        let mut trainer = AdversarialTrainer::new(setup, config, context.spread());
        if let Some(found) = latest {
            trainer.restore(&found.folder, found.manifest.step)?;
        }
        Ok(CodecStage::<T, D> {
            task: T::open(context, trainer.codec.step())?,
            trainer,
            latents,
            device,
        })
    })
}

impl<T: CodecTask<D>, const D: usize> Stage<T::Recipe, T::Data> for CodecStage<T, D> {
    /// Every shard's share of the batch, and its numbers.
    type Output = Vec<(f64, NamedValues)>;
    const NAME: &'static str = T::NAME;
    const TABLE: &'static str = "codec_train";

    fn round(&mut self, context: &CodecContext<T, D>, round: u64) -> Round<Self::Output> {
        let accumulation = T::config(&context.recipe).grad_accumulation as u64;
        if round.is_multiple_of(accumulation) {
            self.task.before_step(context, &mut self.trainer.codec);
        }
        let signal = self.task.batch(context, round, &self.device)?;
        let mut random = RandomStream::for_step(context.recipe.seed(), "codec-noise", round);
        let shape = self.latents.shape_of(&signal);
        let noise = LatentNoise::draw(shape, &mut random, &self.device);
        let mut random = RandomStream::for_step(context.recipe.seed(), "codec-objective", round);
        self.trainer.begin_batch(shape, &mut random, &self.device);
        let (spread, rows) = (&self.trainer.codec.spread, signal.dims()[0]);
        let ranges = spread.shards(&context.device, rows, T::ROWS_A_SHARD);
        Ok(self.trainer.backward(&signal, &noise, ranges))
    }

    /// Means over the batch.
    fn values(&self, output: Self::Output) -> Vec<(&'static str, f64)> {
        let mut values = Vec::new();
        for (share, own) in &output {
            values.resize(own.len(), ("", 0.0));
            for (mean, (name, value)) in values.iter_mut().zip(own) {
                *mean = (*name, mean.1 + share * number(value.clone()));
            }
        }
        values
    }

    fn show(&mut self, context: &mut CodecContext<T, D>, step: u64) -> Result<()> {
        self.task.show(context, self.trainer.codec.ema(), step)
    }

    fn save(&self, bundle: &BundleWriter) -> Result<()> {
        self.trainer.save(bundle)
    }
}
