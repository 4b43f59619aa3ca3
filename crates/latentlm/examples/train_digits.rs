//! The whole of LatentLM on a page: trains a codec, then a language model of its latents, on the digits that
//! ship, and draws a row of each into `digits.png`. In the repository's root, a matter of minutes on two cores:
//!
//! ```sh
//! cargo run -p latentlm --features cpu --example train_digits
//! ```
//!
//! `cargo xtask train-image` does the same with averaged weights, checkpoints and a report. Letters in shapes:
//! `S` all pictures, `B` batch, `T` latents a picture, `Z` numbers a latent, `K` draws of noise a latent.

#![allow(clippy::print_stdout)] // A program's results go to standard output.

use std::error::Error;
use std::path::Path;

use burn::module::Module;
use burn::optim::{AdamWConfig, GradientsParams};
use burn::tensor::{Device, Tensor};
use latentlm::adapters::Whitening;
use latentlm::adapters::packed::indices;
use latentlm::codec_image::{Codec, CodecConfig};
use latentlm::core::{LatentCodecConfig, PartConfig};
use latentlm::sequence::Document;
use latentlm::{Batch, LatentCodec, LatentHead, LatentLm, LatentLmConfig, LmSizes};
use latentlm::{RandomStream, SampleOptions};
use latentlm_data::{BatchOrder, ImageDataset, ImageSpec, Split};
use latentlm_pipelines::{draw_latents, host_values, image_grid, read_all, save_png};

const SEED: u64 = 1;
const BATCH: usize = 64;

fn main() -> Result<(), Box<dyn Error>> {
    let device = latentlm::device("cpu")?.autodiff();
    device.seed(SEED); // of first weights; noise comes from streams of its own
    let config = CodecConfig::preset("image/mnist");
    let signal = config.signal();
    let spec = ImageSpec {
        channels: signal.channels,
        height: signal.height,
        width: signal.width,
    };
    let data = ImageDataset::open(Path::new("datasets/mnist"), spec, Split::Train)?;
    let pictures = read_all(&data, &device)?; // [S, C, H, W], in [-1, 1]
    let labels: Vec<u32> = (0..data.len()).map(|index| data.label(index)).collect();

    let codec = train_codec(config.init(&device), &pictures);
    // The codec is finished, so each picture is encoded once; a part at a time, to save memory.
    let parts = pictures.inner().split(500, 0).into_iter();
    let parts = parts.map(|part| codec.encode_parameters(part)); // [500, T, Z] each
    let means: Tensor<3> = Tensor::from_inner(Tensor::cat(parts.collect(), 0)); // [S, T, Z]
    let model = train_lm(&codec, &means, &labels, &device)?;

    let classes: Vec<u32> = (0..10).flat_map(|class| [class; 8]).collect();
    let options = SampleOptions {
        guidance_scale: 2.0,
        ..SampleOptions::default()
    };
    let mut random = RandomStream::for_step(SEED, "draw", 0);
    let latents = model.draw_images(&classes, &options, &mut random); // [10 * 8, T, Z]
    let grid = image_grid(codec.decode(latents), 8, 1);
    save_png(&grid, Path::new("digits.png"))?;
    println!("wrote digits.png");
    Ok(())
}

/// A sigma-VAE (paper §2.3): the decoder learns to stand noise whose scale is drawn, not learned, so that it
/// forgives what the language model gets slightly wrong.
fn train_codec(codec: Codec, pictures: &Tensor<4>) -> Codec {
    let mut order = BatchOrder::new(pictures.dims()[0], BATCH, SEED);
    let codec = train("codec", codec, 300, 2e-3, |codec, step| {
        let batch = take(pictures, &order.batch(step)); // [B, C, H, W]
        let posterior = codec.encode(batch.clone()); // mean [B, T, Z]
        let mut random = RandomStream::for_step(SEED, "codec-noise", step);
        let latents = draw_latents(&posterior, &mut random); // [B, T, Z]
        let error = (codec.decode(latents) - batch).square().mean(); // [1]
        // Keeps means small: else the encoder would drown the noise instead of learning to live with it.
        error + posterior.kl().mul_scalar(0.003)
    });
    codec.valid()
}

/// A language model of a class and its picture: the backbone reads both, and from what it makes of each
/// position the diffusion head learns to denoise the latent that comes next (paper §2.2).
fn train_lm(
    codec: &Codec,
    means: &Tensor<3>,
    labels: &[u32],
    device: &Device,
) -> Result<LatentLm, Box<dyn Error>> {
    let [samples, tokens, dim] = means.dims();
    // Other noise in every step: the model has to know all of a picture's latents, not one draw of them.
    let draw = |rows: &[usize], random: &mut RandomStream| -> Tensor<3> {
        draw_latents(&codec.posterior(take(means, rows)), random) // [B, T, Z]
    };
    // Diffusion starts from N(0, 1), so latents are brought to mean 0 and standard deviation 1.
    let first: Vec<usize> = (0..samples.min(1000)).collect();
    let measured = draw(&first, &mut RandomStream::for_step(SEED, "whitening", 0));
    let whitening = Whitening::measure(&host_values(measured));
    let whitening = whitening.ok_or("the codec's latents are constant or not finite")?;
    let sizes = LmSizes::new().with_width(96).with_depth(3).with_heads(4);
    let sizes = sizes.with_kv_heads(2).with_mlp_ratio(4.0);
    let config = LatentLmConfig::image(10, tokens, dim).with_sizes(sizes);
    let model = config.init(device).with_whitening(0, whitening);

    let mut order = BatchOrder::new(samples, BATCH, SEED);
    let model = train("language model", model, 600, 1e-3, |model, step| {
        let rows = order.batch(step);
        let mut random = RandomStream::for_step(SEED, "lm-noise", step);
        let latents = model.latents[0].whiten(draw(&rows, &mut random)); // [B, T, Z]
        let latents: Tensor<2> = latents.reshape([rows.len() * tokens, dim]); // [B * T, Z]
        // One label in ten is dropped: guidance needs to know what pictures of no class look like.
        let mut classes: Vec<u32> = rows.iter().map(|&row| labels[row]).collect();
        let adapter = model.label_adapter();
        adapter.drop_labels(&mut classes, 0.1, &mut random);
        let documents = classes.iter();
        let documents = documents.map(|&class| Document::of_class(class, tokens));
        // Each latent is learned at four draws of noise on one pass of the backbone.
        let draws = 4 * rows.len() * tokens;
        let draws = model.head_of(0).draw(draws, &mut random, device); // noise [K * B * T, Z]
        let batch = Batch::new(documents.collect(), vec![latents], vec![draws]);
        model.loss(batch).diffusion.swap_remove(0) // [1], of the only modality
    });
    Ok(model.valid())
}

/// The loop: AdamW on a loss, at a rate that rises to its peak and falls to 0.
fn train<M: Module>(
    name: &str,
    mut module: M,
    steps: u64,
    peak_rate: f64,
    mut loss: impl FnMut(&M, u64) -> Tensor<1>,
) -> M {
    let optimizer = AdamWConfig::new().with_beta_2(0.98).with_epsilon(1e-8);
    let mut optimizer = optimizer.with_weight_decay(0.01).init();
    for step in 0..steps {
        let loss = loss(&module, step); // [1]
        let gradients = GradientsParams::from_grads(loss.backward(), &module);
        let warmup = ((step + 1) as f64 / 50.0).min(1.0);
        let rate = peak_rate * warmup * (1.0 - step as f64 / steps as f64);
        module = optimizer.step(rate, module, gradients);
        if (step + 1).is_multiple_of(50) {
            let loss = loss.into_scalar::<f32>();
            println!("{name}, step {} of {steps}: loss {loss:.4}", step + 1);
        }
    }
    module
}

/// Some rows of a tensor, `[S, ...]` to `[B, ...]`.
fn take<const D: usize>(all: &Tensor<D>, rows: &[usize]) -> Tensor<D> {
    let rows: Vec<i64> = rows.iter().map(|&row| row as i64).collect();
    all.clone().select(0, indices(&rows, &all.device()))
}
