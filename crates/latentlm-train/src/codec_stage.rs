//! The stage that trains a codec, whatever it codes. A task says what is its own: batches, and what
//! to show.

use burn::tensor::{Device, Tensor};
use latentlm::RandomStream;
use latentlm::core::bundle::BundleWriter;
use latentlm::core::{
    CodecObjective, CodecObjectiveConfig, LatentCodecConfig, LatentNoise, LatentSpec,
};
use latentlm_pipelines::{Recipe, StageConfig, TrainingData};

use crate::adversarial::{AdversarialTrainer, CodecParts, NamedValues};
use crate::context::Context;
use crate::error::TrainError;
use crate::optimize::{StepReport, Trainer};
use crate::stage;
use crate::stage::{Stage, number};

/// The parts that the tables `[codec]` and `[codec_loss]` of a recipe describe.
///
/// # Errors
/// If the loss can't be built.
pub fn codec_parts<L: CodecObjectiveConfig<D>, const D: usize>(
    codec: &L::CodecConfig,
    loss: &L,
    device: &Device,
) -> Result<CodecParts<L::Objective, D>, L::Error> {
    Ok(CodecParts {
        codec: LatentCodecConfig::init(codec, device),
        discriminator: loss.init_discriminator(codec, device),
        discriminator_start: loss.discriminator_start(),
        objective: loss.init(codec, device)?,
        latents: LatentCodecConfig::spec(codec),
    })
}

/// What differs from codec to codec in its training.
pub trait CodecTask<const D: usize>: Sized {
    /// The recipe of its run.
    type Recipe: Recipe;
    /// What its run is trained on.
    type Data: TrainingData;
    /// What the codec is trained with.
    type Objective: CodecObjective<D>;
    /// Name of the stage in logs, of the folder of its checkpoints, and before `-init` of the stream
    /// that first weights are drawn from.
    const NAME: &'static str;
    /// Rows of a batch that are worth a thread.
    const ROWS_A_SHARD: usize;

    /// How the codec is trained.
    fn config(recipe: &Self::Recipe) -> &StageConfig;

    /// Codec and discriminator with first weights, and the loss.
    ///
    /// # Errors
    /// If the recipe is wrong or a file can't be read.
    fn parts(
        recipe: &Self::Recipe,
        device: &Device,
    ) -> Result<CodecParts<Self::Objective, D>, TrainError>;

    /// Makes the data ready for training from a step on.
    ///
    /// # Errors
    /// If data can't be read.
    fn open(
        context: &mut Context<Self::Recipe, Self::Data>,
        first_step: u64,
    ) -> Result<Self, TrainError>;

    /// The signals of a round, `[B, ...]`.
    ///
    /// # Errors
    /// If data can't be read.
    fn batch(
        &mut self,
        context: &Context<Self::Recipe, Self::Data>,
        round: u64,
        device: &Device,
    ) -> Result<Tensor<D>, TrainError>;

    /// Work on the codec before each step.
    fn before_step(
        &mut self,
        context: &Context<Self::Recipe, Self::Data>,
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
        context: &mut Context<Self::Recipe, Self::Data>,
        codec: &TaskCodec<Self, D>,
        step: u64,
    ) -> Result<(), TrainError>;
}

/// The codec of a task.
pub type TaskCodec<T, const D: usize> =
    <<T as CodecTask<D>>::Objective as CodecObjective<D>>::Codec;

struct CodecStage<'a, T: CodecTask<D>, const D: usize> {
    context: &'a mut Context<T::Recipe, T::Data>,
    trainer: AdversarialTrainer<T::Objective, D>,
    latents: LatentSpec,
    task: T,
    device: Device,
}

/// Trains a codec or takes up where it was left. Returns whether it is finished: a stop leaves it
/// unfinished.
///
/// # Errors
/// If data can't be read, the loss is not finite, or a checkpoint can't be written.
pub fn train<T: CodecTask<D>, const D: usize>(
    context: &mut Context<T::Recipe, T::Data>,
) -> Result<bool, TrainError> {
    let recipe = context.recipe.clone();
    let config = T::config(&recipe);
    let latest = context.run.latest(T::NAME)?;
    if let Some((_, manifest)) = &latest
        && manifest.step >= config.steps
    {
        return Ok(true);
    }
    let device = context.device.clone().autodiff();
    let stream = format!("{}-init", T::NAME);
    device.seed(RandomStream::for_step(recipe.seed(), &stream, 0).seed());
    let parts = T::parts(&recipe, &device)?;
    let latents = parts.latents;
    let mut trainer = AdversarialTrainer::new(parts, config, context.spread());
    if let Some((folder, manifest)) = latest {
        trainer.restore(&folder, manifest.step)?;
    }
    let stage = CodecStage::<T, D> {
        task: T::open(context, trainer.codec.step())?,
        context,
        trainer,
        latents,
        device,
    };
    stage::run(stage, config)
}

impl<T: CodecTask<D>, const D: usize> Stage for CodecStage<'_, T, D> {
    type Recipe = T::Recipe;
    type Data = T::Data;
    /// Every part's share of the batch, and its numbers.
    type Output = Vec<(f64, NamedValues)>;
    const NAME: &'static str = T::NAME;
    const TABLE: &'static str = "codec_train";

    fn context(&mut self) -> &mut Context<T::Recipe, T::Data> {
        self.context
    }

    fn step(&self) -> u64 {
        self.trainer.codec.step()
    }

    fn round(&mut self, round: u64) -> Result<(Option<StepReport>, Self::Output), TrainError> {
        let context = &*self.context;
        let accumulation = T::config(&context.recipe).grad_accumulation as u64;
        if round.is_multiple_of(accumulation) {
            self.task.before_step(context, &mut self.trainer.codec);
        }
        let signal = self.task.batch(context, round, &self.device)?;
        let mut random = RandomStream::for_step(context.recipe.seed(), "codec-noise", round);
        let shape = self.latents.shape_of(&signal);
        let noise = LatentNoise::draw(shape, &mut random, &self.device);
        let spread = context.spread();
        let ranges = spread.parts(&context.device, signal.dims()[0], T::ROWS_A_SHARD);
        Ok(self.trainer.backward(&signal, &noise, ranges))
    }

    fn values(&self, output: Self::Output) -> Vec<(&'static str, f64)> {
        let Some((_, first)) = output.first() else {
            return Vec::new();
        };
        let mean = |index: usize| -> f64 {
            let shares = output
                .iter()
                .map(|(share, values)| share * number(values[index].1.clone()));
            shares.sum()
        };
        let names = first.iter().enumerate();
        names
            .map(|(index, (name, _))| (*name, mean(index)))
            .collect()
    }

    fn show(&mut self, step: u64) -> Result<(), TrainError> {
        let codec = self.trainer.codec.ema();
        self.task.show(self.context, codec, step)
    }

    fn save(&mut self, step: u64) -> Result<(), TrainError> {
        let manifest = self.context.manifest(T::NAME, step);
        let save = |bundle: &BundleWriter| self.trainer.save(bundle);
        let folder = self.context.run.checkpoint(&manifest, save)?;
        self.context.note(&format!("saved {}", folder.display()));
        Ok(())
    }
}
