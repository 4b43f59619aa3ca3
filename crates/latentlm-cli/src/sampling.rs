//! Sampling options: those of the recipe, changed by arguments; and the weights of a run that samples.

use anyhow::{Result, ensure};
use latentlm::core::Precision;
use latentlm::{SampleOptions, SmallWeights, WeightBits};
use latentlm_args::{Drawing, HeadNumbers, WeightNumbers, tell};
use latentlm_kernels::has_bf16_head;

/// The recipe's sampling options, changed by the arguments.
///
/// # Errors
/// If the device or the sampler does not support the requested precision.
pub fn options(args: &Drawing, recipe: SampleOptions) -> Result<SampleOptions> {
    let precision = match args.precision {
        None | Some(HeadNumbers::F32) => Precision::F32,
        Some(HeadNumbers::Bf16) => Precision::Bf16,
    };
    ensure!(
        precision == Precision::F32 || (args.device == "cpu" && has_bf16_head()),
        "--precision bf16 wants a CPU with AVX-512 BF16, which {} is not; leave it out",
        match args.device.as_str() {
            "cpu" => "this one",
            other => other,
        }
    );
    ensure!(
        precision == Precision::F32 || !recipe.sampler.adds_noise(),
        "--precision bf16 has no loop for a sampler that adds noise on the way (`ddpm`, `sde`); leave it out"
    );
    Ok(SampleOptions {
        precision,
        ..changed(args, recipe)
    })
}

/// The sampling options, changed by all arguments but the precision. If there are fewer steps than the recipe has for
/// the last latents, all latents have these.
pub fn changed(args: &Drawing, options: SampleOptions) -> SampleOptions {
    let steps = args.steps.map_or(options.steps, |steps| steps as usize);
    let mut falling = options.falling;
    if falling.last > steps {
        tell!(
            "note: all latents have {steps} steps: --steps is below sample.steps_last={}",
            falling.last
        );
        falling.last = steps;
    }
    SampleOptions {
        guidance_scale: args.guidance.unwrap_or(options.guidance_scale),
        steps,
        falling,
        noise_temperature: args.noise_temperature.unwrap_or(options.noise_temperature),
        ..options
    }
}

/// The type of weights that `--weights` asks for, for a run or `bench-decode`; `None` for float32.
///
/// # Errors
/// If the device has no products of the type.
pub fn small_weights(weights: Option<WeightNumbers>, device: &str) -> Result<Option<SmallWeights>> {
    let small = match weights {
        None | Some(WeightNumbers::F32) => return Ok(None),
        Some(WeightNumbers::Bf16) => SmallWeights::Bf16,
        Some(WeightNumbers::Int8) => SmallWeights::Quantized(WeightBits::Eight),
        Some(WeightNumbers::Int4) => SmallWeights::Quantized(WeightBits::Four),
    };
    ensure!(
        device == "cpu",
        "--weights other than f32 want --device cpu; leave it out"
    );
    Ok(Some(small))
}
