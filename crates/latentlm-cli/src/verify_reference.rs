//! `latentlm verify-reference`: the same numbers as the reference implementations?

use latentlm_args::VerifyReference;
use latentlm_verify::{Comparison, cases, verify};

use crate::device::device;

/// GPUs order sums otherwise: their bounds are this much wider.
const GPU_SLACK: f64 = 10.0;

/// Numbers that are over their bounds.
#[derive(Debug, thiserror::Error)]
#[error("{over} of {compared} comparisons are over their bounds")]
struct OverBounds {
    over: usize,
    compared: usize,
}

/// Prints a line a tensor.
pub fn run(args: VerifyReference) -> anyhow::Result<()> {
    let slack = if args.device == "cpu" { 1.0 } else { GPU_SLACK };
    let device = device(&args.device)?;
    let (mut over, mut compared) = (0, 0);
    for case in cases(&args.folder)? {
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

fn print(comparison: &Comparison) {
    let Comparison { name, error, bound } = comparison;
    let verdict = if comparison.passed() { "" } else { "  OVER" };
    println!("  {name:<56} {error:9.2e}  bound {bound:.0e}{verdict}");
}
