//! `compare`.

use anyhow::Result;
use latentlm_args::{Compare, CompareSampling, run_path, say};
use latentlm_compare::{
    CompareSamplingOptions, compare_image, compare_mllm, compare_sampling, compare_sigma,
};

use crate::device::device;
use crate::training;

/// Runs a comparison and prints the path of its report.
pub fn run(args: Compare) -> Result<()> {
    match args {
        Compare::Image(args) => training::run(args.training, &args.run, compare_image),
        Compare::Mllm(args) => training::run(args.training, &args.run, compare_mllm),
        Compare::Sigma(args) => training::run(args.training, &args.run, compare_sigma),
        Compare::Sampling(args) => sampling(args),
    }
}

fn sampling(args: CompareSampling) -> Result<()> {
    let device = device(&args.device)?;
    let options = CompareSamplingOptions {
        steps: args.steps,
        guidance_scales: args.guidance,
        samples: args.samples as usize,
        seed: args.seed,
    };
    let table = compare_sampling(&run_path(&args.run), &options, &device)?;
    say!("{}", std::fs::read_to_string(&table)?);
    say!("report {}", table.display());
    Ok(())
}
