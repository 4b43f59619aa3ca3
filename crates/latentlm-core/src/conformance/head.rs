//! What a head promises: rows are independent, also in their noise, guidance of 1 is no guidance, and
//! a draw repeats.

use burn::tensor::{Device, Tensor};

use super::assert_close;
use crate::{LatentHead, RandomStream, SampleOptions, Sampler};

const ROWS: usize = 3;

/// Runs the whole suite for a head conditioned on `width` numbers.
pub fn check<H: LatentHead>(head: &H, width: usize, device: &Device) {
    for sampler in [Sampler::DpmSolverPlusPlus, Sampler::Ddim, Sampler::Ddpm] {
        let options = SampleOptions {
            sampler,
            steps: 4,
            ..SampleOptions::default()
        };
        draws_repeat(head, width, &options, device);
        guidance_of_one_is_none(head, width, &options, device);
        rows_have_their_own_noise(head, width, &options, device);
    }
    rows_are_independent(head, width, device);
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

/// With a scale of 1 the null half changes nothing.
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

/// With a stream a row, a row gets what it gets alone, whatever noise the sampler adds on the way.
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
        // Rounding, handed on through the steps; other noise is off by 1.
        assert_close("a row drawn alone", own(&together), alone, 1e-4);
    }
}

/// A row's prediction does not depend on the other rows.
pub fn rows_are_independent<H: LatentHead>(head: &H, width: usize, device: &Device) {
    let (condition, noise) = inputs(head, width, device);
    let timesteps = RandomStream::new(8).integers(ROWS, 1000, device).float();
    let together = head.denoise(noise.clone(), timesteps.clone(), condition.clone());
    for row in 0..ROWS {
        let alone = head.denoise(
            noise.clone().narrow(0, row, 1),
            timesteps.clone().narrow(0, row, 1),
            condition.clone().narrow(0, row, 1),
        );
        assert_close(
            "a row alone",
            alone,
            together.clone().narrow(0, row, 1),
            1e-5,
        );
    }
}
