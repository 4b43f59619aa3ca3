//! `latentlm verify-reference`: the same numbers as the reference implementations?

use std::path::PathBuf;

use latentlm_verify::{Comparison, cases, verify};

use crate::device::device;

/// GPUs order sums otherwise: their bounds are this much wider.
const GPU_SLACK: f64 = 10.0;

/// Compare with numbers that the reference implementations computed.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  cargo xtask verify-reference tests/fixtures
  cargo xtask verify-reference path/to/vibevoice-tokenizer --device wgpu
  cargo xtask verify-reference --live          makes fresh cases with Python, then compares

--live takes transformers from a virtual environment that it makes below target, or from the Python
that --python PATH names.

A case is a folder whose name begins with transformer, schedule, vibevoice-tokenizer or vibevoice; a
folder of cases is gone through. docs/reference.md tells what a case holds. Exit code 1 if a number
is over its bound.")]
pub struct VerifyReference {
    /// A case, or a folder of cases
    folder: PathBuf,
    /// cpu, wgpu, vulkan or cuda; wgpu:N is the N-th; bounds are ten times as wide on a GPU
    #[arg(long, default_value = "cpu")]
    device: String,
}

/// Numbers that are over their bounds.
#[derive(Debug, thiserror::Error)]
#[error("{over} of {compared} comparisons are over their bounds")]
struct OverBounds {
    over: usize,
    compared: usize,
}

impl VerifyReference {
    /// Prints a line a tensor.
    pub fn run(self) -> anyhow::Result<()> {
        let slack = if self.device == "cpu" { 1.0 } else { GPU_SLACK };
        let device = device(&self.device)?;
        let (mut over, mut compared) = (0, 0);
        for case in cases(&self.folder)? {
            println!("{}", case.display());
            let report = verify(&case, &device, slack)?;
            report.comparisons.iter().for_each(print);
            let failed = report.comparisons.iter().filter(|c| !c.passed());
            over += failed.count();
            compared += report.comparisons.len();
        }
        if over > 0 {
            return Err(OverBounds { over, compared }.into());
        }
        println!("all {compared} comparisons are within their bounds");
        Ok(())
    }
}

fn print(comparison: &Comparison) {
    let Comparison { name, error, bound } = comparison;
    let verdict = if comparison.passed() { "" } else { "  OVER" };
    println!("  {name:<56} {error:9.2e}  bound {bound:.0e}{verdict}");
}
