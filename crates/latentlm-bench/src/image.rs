//! Workloads of the image model.

use burn::tensor::{DType, Tensor};
use latentlm::core::{LatentHeadConfig, Precision};
use latentlm::sequence::Document;
use latentlm::{Batch, LatentHead, LatentLm, LatentLmConfig, LmSizes, SampleOptions};
use latentlm_data::PICTURES;
use latentlm_kernels::{rounds_products, shards};
use latentlm_pipelines::ImageRecipe;
use latentlm_train::{Shard, Trainer};

use crate::Unit;
use crate::inputs::Inputs;
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

pub(super) fn lm_step(sizes: ImageSizes, precision: Precision, inputs: Inputs) -> Unit {
    let stage = ImageRecipe::default().lm_train;
    let mut trainer = Trainer::new(config(sizes).init(&inputs.device), &stage);
    trainer.precision = precision;
    let documents = labels(sizes).into_iter();
    let documents = documents.map(|label| Document::of_class(label, sizes.tokens));
    let drawn = sizes.batch * sizes.tokens * sizes.draws;
    steps(trainer, documents.collect(), drawn, 0.0, inputs)
}

/// Each unit is a step on documents of text and pictures. `token_weight` is the weight of the cross entropy, `drawn` the
/// number of draws of noise and timestep for all latents that are learned.
pub(super) fn steps(
    mut trainer: Trainer<LatentLm>,
    documents: Vec<Document>,
    drawn: usize,
    token_weight: f64,
    mut inputs: Inputs,
) -> Unit {
    let count: usize = documents.iter().map(|own| own.frames(PICTURES)).sum();
    let latents = inputs.normal([count, trainer.model().head_of(PICTURES).latent_dim()]);
    Box::new(move || {
        let head = trainer.model().head_of(PICTURES);
        let draws = head.draw(drawn, &mut inputs.random, &inputs.device);
        let batch = Batch::new(documents.clone(), vec![latents.clone()], vec![draws]);
        let threads = shards(&inputs.device, documents.len()).len();
        let shards = Shard::all(&batch, token_weight, threads);
        trainer.backward_shards(shards, |model, shard| shard.loss(|batch| model.loss(batch)));
    })
}

pub(super) fn head_step(sizes: ImageSizes, precision: Precision, mut inputs: Inputs) -> Unit {
    let stage = ImageRecipe::default().lm_train;
    let model = config(sizes);
    let head = model.sizes.head(sizes.latent_dim, model.method);
    let mut trainer = Trainer::new(head.init(&inputs.device), &stage);
    trainer.precision = precision;
    let rows = sizes.batch * sizes.tokens * sizes.draws;
    let latents = inputs.normal([rows, sizes.latent_dim]);
    let mut condition: Tensor<2> = inputs.normal([rows, sizes.width]);
    // A model in bfloat16 hands over hidden states of that; one whose products alone are rounded does not.
    if precision == Precision::Bf16 && !rounds_products(&inputs.device) {
        condition = condition.cast(DType::BF16);
    }
    Box::new(move || {
        let head = trainer.model();
        let draws = head.draw(rows, &mut inputs.random, &inputs.device);
        trainer.backward_shards(shards(&inputs.device, rows), |head, own| {
            let share = own.len() as f64 / rows as f64;
            let latents = latents.clone().slice(own.clone());
            let condition = condition.clone().slice(own.clone());
            let loss = head.loss_at(latents, condition, draws.of_latents(own, rows));
            (loss.mul_scalar::<f64>(share), ())
        });
    })
}

pub(super) fn sample(sizes: ImageSizes, precision: Precision, mut inputs: Inputs) -> Unit {
    let model = config(sizes).init(&inputs.device).prepared_for_sampling();
    let labels = labels(sizes);
    let options = SampleOptions {
        guidance_scale: 2.0,
        precision,
        ..SampleOptions::default()
    };
    Box::new(move || {
        model.draw_images(&labels, &options, &mut inputs.random);
    })
}
