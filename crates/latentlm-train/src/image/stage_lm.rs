//! The second stage: the language model on the codec's latents.

use std::ops::Range;

use burn::tensor::{Device, Tensor, TensorData};
use latentlm::adapters::Whitening;
use latentlm::codec_image::Codec;
use latentlm::core::DiffusionDraws;
use latentlm::core::bundle::save_module;
use latentlm::sequence::Document;
use latentlm::{Batch, LatentCodec, LatentHead, LatentLm, RandomStream, load_lm};
use latentlm_data::{BatchOrder, LatentCache, PICTURES};
use latentlm_kernels::ROWS_A_PART;
use latentlm_pipelines::{
    ImageData, ImageRecipe, draw_latents, host_values, image_grid, load_image_codec, save_png,
};

use super::run::Context;
use super::stage_codec;
use crate::error::TrainError;
use crate::optimize::{Player, StepReport};
use crate::spread::{Portable, Spread};
use crate::stage;
use crate::stage::{Stage, number};

const STAGE: &str = "lm";
const CACHE: &str = "latents.safetensors";
/// Pictures whose latents the whitening is measured on, at most.
const MEASURED: usize = 10_000;

struct LmStage<'a> {
    context: &'a mut Context,
    model: Player<LatentLm>,
    codec: Codec,
    cache: LatentCache,
    whitening: Whitening,
    order: BatchOrder,
    device: Device,
}

/// Trains the language model or takes up where it was left. Returns whether it is finished.
///
/// # Errors
/// If the codec or data can't be read, the loss is not finite, or a checkpoint can't be written.
pub fn train(context: &mut Context) -> Result<bool, TrainError> {
    let recipe = context.recipe.clone();
    let codec = load_image_codec(&context.run, &context.device)?;
    let cache = latents(context, &codec)?;
    let whitening = measure(&codec, &cache, recipe.seed, &context.device)?;
    let device = context.device.clone().autodiff();
    device.seed(RandomStream::for_step(recipe.seed, "lm-init", 0).seed());
    let model = recipe.model(context.data.train.classes().len());
    let model = model.init(&device).with_whitening(PICTURES, whitening);
    let config = &recipe.lm_train;
    let mut model = Player::new(model, config)
        .with_precision(recipe.lm.precision)
        .with_spread(context.spread());
    if let Some((folder, manifest)) = context.run.latest(STAGE)? {
        model.restore_with("model", &folder, manifest.step, load_lm)?;
    }
    let stage = LmStage {
        order: BatchOrder::new(cache.len(), config.batch_size, recipe.seed),
        model,
        context,
        codec,
        cache,
        whitening,
        device,
    };
    stage::run(stage, config)
}

/// The latent cache, made anew if data or codec changed.
pub fn latents(context: &mut Context, codec: &Codec) -> Result<LatentCache, TrainError> {
    let path = context.run.file(CACHE);
    let (_, manifest) = context.run.require("codec")?;
    let fingerprint = format!("{}-codec-step-{}", context.fingerprint(), manifest.step);
    if let Some(cache) = LatentCache::read_matching(&path, &fingerprint)? {
        return Ok(cache);
    }
    let (parameters, labels) = stage_codec::encode_all(context, codec)?;
    let tokens = context.recipe.tokens();
    let cache = LatentCache::even(tokens, labels, parameters, fingerprint);
    cache.write(&path)?;
    Ok(cache)
}

/// The whitening of sampled latents: the model is trained on `z`, not on the mean.
pub fn measure(
    codec: &Codec,
    cache: &LatentCache,
    seed: u64,
    device: &Device,
) -> Result<Whitening, TrainError> {
    let indices: Vec<usize> = (0..cache.len().min(MEASURED)).collect();
    let posterior = codec.posterior(gather(cache, &indices, device));
    let mut random = RandomStream::for_step(seed, "whitening", 0);
    let latents = host_values(draw_latents(&posterior, &mut random));
    Whitening::measure(&latents).ok_or_else(|| {
        TrainError::config("the codec's latents are constant or not finite; train it again")
    })
}

/// Cached numbers of some pictures, `[B, T, dim]`.
pub fn gather(cache: &LatentCache, indices: &[usize], device: &Device) -> Tensor<3> {
    let values = cache.gather(indices);
    let shape = [
        indices.len(),
        values.len() / (indices.len() * cache.dim),
        cache.dim,
    ];
    Tensor::from_data(TensorData::new(values, shape), device)
}

/// What one thread does of a batch.
pub struct Part {
    /// Of the whole batch.
    share: f64,
    batch: Batch,
}

impl Portable for Part {
    fn to_device(self, device: &Device) -> Self {
        Self {
            share: self.share,
            batch: self.batch.to_device(device),
        }
    }
}

impl Part {
    /// A batch, cut for the devices or threads that there are.
    ///
    /// # Shapes
    /// - `labels`: `B`; `latents`: `[B, T, Z]`, whitened; `draws`: `K * B * T` rows
    pub fn all(
        labels: &[u32],
        latents: Tensor<3>,
        draws: DiffusionDraws,
        spread: &Spread,
    ) -> Vec<Self> {
        let [batch, tokens, dim] = latents.dims();
        let part = |rows: Range<usize>| {
            let own = rows.start * tokens..rows.end * tokens;
            let latents = latents.clone().narrow(0, rows.start, rows.len());
            let latents = latents.reshape([own.len(), dim]);
            let draws = draws.of_latents(own, batch * tokens);
            let labels = labels[rows.clone()].iter();
            let documents = labels.map(|&label| Document::of_class(label, tokens));
            Self {
                share: rows.len() as f64 / batch as f64,
                batch: Batch::new(documents.collect(), vec![latents], vec![draws]),
            }
        };
        let ranges = spread.parts(&latents.device(), batch, ROWS_A_PART);
        ranges.into_iter().map(part).collect()
    }

    /// Its share of the loss, and the same for the log.
    pub fn loss(model: &LatentLm, part: Self) -> (Tensor<1>, Tensor<1>) {
        let mut loss = model.loss(part.batch);
        let loss = loss.diffusion.swap_remove(PICTURES);
        let loss = loss.mul_scalar(part.share);
        (loss.clone(), loss)
    }
}

impl Stage for LmStage<'_> {
    type Recipe = ImageRecipe;
    type Data = ImageData;
    /// Every part's share of the loss.
    type Output = Vec<Tensor<1>>;
    const NAME: &'static str = STAGE;
    const TABLE: &'static str = "lm_train";

    fn context(&mut self) -> &mut Context {
        self.context
    }

    fn step(&self) -> u64 {
        self.model.step()
    }

    fn round(&mut self, round: u64) -> Result<(Option<StepReport>, Self::Output), TrainError> {
        let indices = self.order.batch(round);
        let (recipe, device) = (&self.context.recipe, &self.device);
        let mut random = RandomStream::for_step(recipe.seed, "lm-noise", round);
        let model = self.model.model();
        let posterior = self.codec.posterior(gather(&self.cache, &indices, device));
        let latents = draw_latents(&posterior, &mut random);
        let latents = model.latents[PICTURES].whiten(latents);
        let mut labels: Vec<u32> = indices.iter().map(|&i| self.cache.labels[i]).collect();
        let dropout = recipe.lm.condition_dropout;
        let adapter = model.label_adapter();
        adapter.drop_labels(&mut labels, dropout, &mut random);
        let (batch, tokens) = (indices.len(), recipe.tokens());
        let rows = recipe.lm.batch_mul * batch * tokens;
        let draws = model.head_of(PICTURES).draw(rows, &mut random, device);
        let parts = Part::all(&labels, latents, draws, self.model.spread());
        Ok(self.model.backward_parts(parts, Part::loss))
    }

    fn values(losses: Self::Output) -> Vec<(&'static str, f64)> {
        vec![("loss", losses.into_iter().map(number).sum())]
    }

    /// A grid of samples of the averaged model, a row a class, from the same noise each time.
    fn show(&mut self, step: u64) -> Result<(), TrainError> {
        let recipe = &self.context.recipe;
        let classes = self.context.data.train.classes().len().min(20);
        let per_class = recipe.sample.per_class;
        let labels: Vec<u32> = (0..classes * per_class)
            .map(|i| (i / per_class) as u32)
            .collect();
        let mut random = RandomStream::for_step(recipe.seed, "samples", 0);
        let (model, options) = (self.model.ema(), recipe.sample_options());
        let latents = model.draw_images(&labels, &options, &mut random);
        let grid = image_grid(self.codec.decode(latents), per_class, 2);
        let path = self
            .context
            .run
            .file(&format!("samples/lm-step-{step}.png"));
        Ok(save_png(&grid, &path)?)
    }

    fn save(&mut self, step: u64) -> Result<(), TrainError> {
        let mut manifest = self.context.manifest(STAGE, step);
        manifest.whitening = Some([self.whitening.bias, self.whitening.scale]);
        let folder =
            self.context
                .run
                .checkpoint(&manifest, |bundle| -> Result<(), TrainError> {
                    self.model.save("model", bundle)?;
                    // With the codec in it, the folder alone is enough to sample from.
                    Ok(save_module(&self.codec, &bundle.path("codec.safetensors"))?)
                })?;
        self.context.note(&format!("saved {}", folder.display()));
        Ok(())
    }
}
