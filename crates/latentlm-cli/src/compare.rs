//! `compare`.

use anyhow::Result;
use latentlm_args::{Compare, CompareSampling, run_path, say};
use latentlm_compare::{
    CompareSamplingOptions, CompareTtsRecipe, FastTtsRecipe, compare_fast_mllm, compare_fast_tts,
    compare_heads, compare_image, compare_latents, compare_mllm, compare_sampling, compare_sigma,
    compare_tts,
};
use latentlm_pipelines::{ImageRecipe, RunFolder};
use latentlm_train::RunOptions;

use crate::device::device;
use crate::{eval_tts, notes, phase, training};

/// Runs a comparison and prints the path of its report.
pub fn run(args: Compare) -> Result<()> {
    match args {
        Compare::Image(args) => training::run(args.training, &args.run, compare_image),
        Compare::Mllm(args) => training::run(args.training, &args.run, compare_mllm),
        Compare::Tts(args) => {
            let (judges, words) = (eval_tts::judges(&args.judges)?, args.judges.words());
            let train = |recipe: CompareTtsRecipe, options: RunOptions| {
                compare_tts(recipe, judges, options)
            };
            training::run_with(args.training, &args.run, &words, train)
        }
        Compare::Sigma(args) => training::run(args.training, &args.run, compare_sigma),
        Compare::Heads(args) => training::run(args.training, &args.run, compare_heads),
        Compare::Latents(args) => training::run(args.training, &args.run, compare_latents),
        Compare::FastTts(args) => {
            let (judges, words) = (eval_tts::judges(&args.judges)?, args.judges.words());
            let train = |recipe: FastTtsRecipe, options: RunOptions| {
                compare_fast_tts(recipe, judges, options)
            };
            training::run_with(args.training, &args.run, &words, train)
        }
        Compare::FastMllm(args) => training::run(args.training, &args.run, compare_fast_mllm),
        Compare::Sampling(args) => sampling(args),
    }
}

fn sampling(args: CompareSampling) -> Result<()> {
    let device = device(&args.device)?;
    let path = run_path(&args.run);
    notes::show_of(&RunFolder::<ImageRecipe>::open(&path)?.0)?;
    let options = CompareSamplingOptions {
        steps: args.steps,
        guidance_scales: args.guidance,
        samples: args.samples as usize,
        seed: args.seed,
        phase: phase::begin,
    };
    phase::show();
    phase::begin("reading the run and its data");
    let table = compare_sampling(&path, &options, &device)?;
    phase::begin("");
    say!("{}", std::fs::read_to_string(&table)?);
    say!("report {}", table.display());
    Ok(())
}
