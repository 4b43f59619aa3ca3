//! Workloads of the image model.

use burn::tensor::{DType, Device, Tensor};
use latentlm::core::{LatentHeadConfig, Precision};
use latentlm::sequence::Document;
use latentlm::{Batch, LatentHead, LatentLm, LatentLmConfig, LmSizes, RandomStream, SampleOptions};
use latentlm_kernels::shards;
use latentlm_pipelines::ImageRecipe;
use latentlm_train::{Shard, Trainer};

use crate::Unit;
use crate::sizes::ImageSizes;

pub(super) fn config(sizes: ImageSizes) -> LatentLmConfig {
    let lm = LmSizes::new()
        .with_width(sizes.width)
        .with_depth(sizes.depth)
        .with_heads(sizes.heads)
        .with_kv_heads(sizes.kv_heads)
        .with_mlp_ratio(sizes.mlp_ratio)
        .with_head_depth(sizes.head_depth)
        .with_recompute(sizes.recompute);
    LatentLmConfig::image(sizes.classes, sizes.tokens, sizes.latent_dim).with_sizes(lm)
}

fn labels(sizes: ImageSizes) -> Vec<u32> {
    let label = |image: usize| (image % sizes.classes) as u32;
    (0..sizes.batch).map(label).collect()
}

pub(super) fn lm_step(sizes: ImageSizes, precision: Precision, device: &Device) -> Unit {
    let device = device.clone().autodiff();
    let stage = ImageRecipe::default().lm_train;
    let trainer = Trainer::new(config(sizes).init(&device), &stage);
    let mut trainer = trainer.with_precision(precision);
    let mut random = RandomStream::new(0);
    let documents = labels(sizes).into_iter();
    let documents = documents.map(|label| Document::of_class(label, sizes.tokens));
    let documents: Vec<Document> = documents.collect();
    let count = sizes.batch * sizes.tokens;
    let latents = random.normal([count, sizes.latent_dim], &device);
    Box::new(move || {
        let head = trainer.model().head_of(0);
        let draws = head.draw(count * sizes.draws, &mut random, &device);
        let batch = Batch::new(documents.clone(), vec![latents.clone()], vec![draws]);
        step(&mut trainer, &batch, 0.0, &device);
    })
}

/// A step on a batch, whose cross entropy weighs so much.
pub(super) fn step(
    trainer: &mut Trainer<LatentLm>,
    batch: &Batch,
    token_weight: f64,
    device: &Device,
) {
    let threads = shards(device, batch.documents.len()).len();
    let shards = Shard::all(batch, token_weight, threads);
    trainer.backward_shards(shards, |model, shard| shard.loss(|batch| model.loss(batch)));
    wait(device);
}

pub(super) fn head_step(sizes: ImageSizes, precision: Precision, device: &Device) -> Unit {
    let device = device.clone().autodiff();
    let stage = ImageRecipe::default().lm_train;
    let LatentLmConfig {
        sizes: lm, method, ..
    } = config(sizes);
    let head = lm.head(sizes.latent_dim, method);
    let mut trainer = Trainer::new(head.init(&device), &stage).with_precision(precision);
    let mut random = RandomStream::new(0);
    let rows = sizes.batch * sizes.tokens * sizes.draws;
    let latents = random.normal([rows, sizes.latent_dim], &device);
    // In bfloat16 the backbone hands over hidden states of that.
    let condition: Tensor<2> = random.normal([rows, sizes.width], &device);
    let condition = match precision {
        Precision::Bf16 => condition.cast(DType::BF16),
        Precision::F32 => condition,
    };
    Box::new(move || {
        let draws = trainer.model().draw(rows, &mut random, &device);
        trainer.backward_shards(shards(&device, rows), |head, own| {
            let share = own.len() as f64 / rows as f64;
            let latents = latents.clone().slice(own.clone());
            let condition = condition.clone().slice(own.clone());
            let loss = head.loss_at(latents, condition, draws.of_latents(own, rows));
            (loss.mul_scalar::<f64>(share), ())
        });
        wait(&device);
    })
}

pub(super) fn sample(sizes: ImageSizes, precision: Precision, device: &Device) -> Unit {
    let device = device.clone();
    let model = config(sizes).init(&device).prepared_for_sampling();
    let labels = labels(sizes);
    let options = SampleOptions {
        guidance_scale: 2.0,
        precision,
        ..SampleOptions::default()
    };
    let mut random = RandomStream::new(0);
    Box::new(move || {
        model.draw_images(&labels, &options, &mut random);
        wait(&device);
    })
}

/// Lets the device finish; a device that fails here fails again at the next read.
pub(super) fn wait(device: &Device) {
    let _ = device.sync();
}
