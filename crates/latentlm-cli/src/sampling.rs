//! Sampling options: those of the recipe, changed by arguments.

use anyhow::{Result, ensure};
use latentlm::SampleOptions;
use latentlm::core::Precision;
use latentlm_args::{Drawing, HeadNumbers};
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

/// The sampling options, changed by all arguments but the precision.
pub fn changed(args: &Drawing, options: SampleOptions) -> SampleOptions {
    SampleOptions {
        guidance_scale: args.guidance.unwrap_or(options.guidance_scale),
        steps: args.steps.map_or(options.steps, |steps| steps as usize),
        noise_temperature: args.noise_temperature.unwrap_or(options.noise_temperature),
        ..options
    }
}
