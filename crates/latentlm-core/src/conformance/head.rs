//! Tests of the contract of heads: rows are independent, also in their noise, guidance of 1 is no guidance, and
//! sampling can be repeated.

use burn::tensor::{Device, Tensor};

use super::assert_close;
use crate::{HeadSizes, LatentHead, LatentHeadConfig, RandomStream, SampleOptions, Sampler};

const ROWS: usize = 3;

/// Runs the whole suite for a head conditioned on `width` numbers.
pub fn check<H: LatentHead>(head: &H, width: usize, device: &Device) {
    let samplers = [
        Sampler::DpmSolverPlusPlus,
        Sampler::Ddim,
        Sampler::Ddpm,
        Sampler::SdeDpmSolverPlusPlus,
        Sampler::Euler,
        Sampler::Midpoint,
        Sampler::Heun,
    ];
    let followed = samplers.iter().filter(|sampler| head.follows(**sampler));
    for &sampler in followed {
        let options = SampleOptions {
            sampler,
            steps: 4,
            ..SampleOptions::default()
        };
        draws_repeat(head, width, &options, device);
        guidance_of_one_is_none(head, width, &options, device);
        rows_have_their_own_noise(head, width, &options, device);
    }
    losses_of_rows_are_independent(head, width, device);
}

fn inputs<H: LatentHead>(head: &H, width: usize, device: &Device) -> (Tensor<2>, Tensor<2>) {
    let mut random = RandomStream::new(5);
    (
        random.normal([ROWS, width], device),
        random.normal([ROWS, head.latent_dim()], device),
    )
}

/// The same noise and stream give the same latents.
pub fn draws_repeat<H: LatentHead>(
    head: &H,
    width: usize,
    options: &SampleOptions,
    device: &Device,
) {
    let (condition, noise) = inputs(head, width, device);
    let draw = || {
        let mut random = RandomStream::new(6);
        head.sample(condition.clone(), None, noise.clone(), options, &mut random)
    };
    assert_close("two draws of one seed", draw(), draw(), 0.0);
}

/// With a guidance scale of 1, unconditional hidden states change nothing.
pub fn guidance_of_one_is_none<H: LatentHead>(
    head: &H,
    width: usize,
    options: &SampleOptions,
    device: &Device,
) {
    let (condition, noise) = inputs(head, width, device);
    let null = RandomStream::new(7).normal([ROWS, width], device);
    let draw = |null| {
        let mut random = RandomStream::new(6);
        head.sample(condition.clone(), null, noise.clone(), options, &mut random)
    };
    assert_close("guidance of 1", draw(Some(null)), draw(None), 1e-5);
}

/// With a stream for each row, the latent of a row is the one that it has alone, also if the sampler adds noise on
/// the way.
pub fn rows_have_their_own_noise<H: LatentHead>(
    head: &H,
    width: usize,
    options: &SampleOptions,
    device: &Device,
) {
    let (condition, noise) = inputs(head, width, device);
    let stream = |row: usize| RandomStream::new(10 + row as u64);
    let mut streams: Vec<RandomStream> = (0..ROWS).map(stream).collect();
    let together = RandomStream::of_rows(streams.iter_mut().collect(), |random| {
        head.sample(condition.clone(), None, noise.clone(), options, random)
    });
    for row in 0..ROWS {
        let own = |x: &Tensor<2>| x.clone().narrow(0, row, 1);
        let alone = head.sample(
            own(&condition),
            None,
            own(&noise),
            options,
            &mut stream(row),
        );
        // Steps amplify rounding errors. Other noise would be off by about 1.
        assert_close("a row drawn alone", own(&together), alone, 1e-4);
    }
}

/// The loss is the mean of the losses of each row alone.
pub fn losses_of_rows_are_independent<H: LatentHead>(head: &H, width: usize, device: &Device) {
    let (condition, latents) = inputs(head, width, device);
    let draws = head.draw(ROWS, &mut RandomStream::new(8), device);
    let alone = (0..ROWS).map(|row| {
        head.loss_at(
            latents.clone().narrow(0, row, 1),
            condition.clone().narrow(0, row, 1),
            draws.of_latents(row..row + 1, ROWS),
        )
    });
    let alone = Tensor::cat(alone.collect(), 0).mean();
    let together = head.loss_at(latents.clone(), condition.clone(), draws.clone());
    assert_close("the mean of rows alone", alone, together, 1e-5);
}

/// Checks a configuration: the sizes of a recipe give a valid configuration and a head for latents of their
/// dimension, and impossible sizes are an error.
pub fn check_config<C: LatentHeadConfig>(sizes: &HeadSizes, device: &Device) {
    let config = C::of(sizes);
    if let Err(error) = config.validate() {
        panic!("{config:?}: {error}");
    }
    let head = config.init(device);
    assert_eq!(head.latent_dim(), sizes.latent_dim, "{config:?}");
    let none = C::of(&HeadSizes {
        latent_dim: 0,
        ..sizes.clone()
    });
    assert!(none.validate().is_err(), "latents of no numbers: {none:?}");
}
