//! `verify-reference`: compares our models with results of the reference implementations.

use burn::tensor::DType;
use latentlm_args::{TrainingNumbers, VerifyReference, WeightNumbers, say};
use latentlm_verify::{
    Comparison, WeightBits, WeightType, cases, verify, verify_rounded, verify_weights,
};

use crate::device::device;

/// Factor of all bounds on a GPU, which adds numbers in another order.
const GPU_SLACK: f64 = 10.0;

/// Some errors are over their bounds.
#[derive(Debug, thiserror::Error)]
#[error("{over} of {compared} comparisons are over their bounds")]
struct OverBounds {
    over: usize,
    compared: usize,
}

/// Prints one line per compared tensor.
pub fn run(args: VerifyReference) -> anyhow::Result<()> {
    let slack = if args.device == "cpu" { 1.0 } else { GPU_SLACK };
    let device = device(&args.device)?;
    let rounded = args.precision == TrainingNumbers::Bf16;
    anyhow::ensure!(
        !rounded || device.supports_dtype(DType::BF16),
        "{} does not compute in bfloat16; use --precision f32",
        args.device
    );
    anyhow::ensure!(
        args.device == "cpu" || matches!(args.weights, None | Some(WeightNumbers::F32)),
        "--weights other than f32 want --device cpu; leave it out"
    );
    let (mut over, mut compared) = (0, 0);
    for case in cases(&args.folder)? {
        say!("{}", case.display());
        let report = if let Some(weights) = args.weights {
            verify_weights(&case, &device, weight_type(weights))?
        } else if rounded {
            verify_rounded(&case, &device)?
        } else {
            Some(verify(&case, &device, slack)?)
        };
        let Some(report) = report else {
            say!("  left out: compared in float32 alone");
            continue;
        };
        report.comparisons.iter().for_each(print);
        let failed = report.comparisons.iter().filter(|c| !c.passed());
        over += failed.count();
        compared += report.comparisons.len();
    }
    if over > 0 {
        return Err(OverBounds { over, compared }.into());
    }
    anyhow::ensure!(compared > 0, "no case here is compared with such weights");
    say!("all {compared} comparisons are within their bounds");
    Ok(())
}

fn weight_type(weights: WeightNumbers) -> WeightType {
    match weights {
        WeightNumbers::F32 => WeightType::Float32,
        WeightNumbers::Bf16 => WeightType::Bfloat16,
        WeightNumbers::Int8 => WeightType::Quantized(WeightBits::Eight),
        WeightNumbers::Int4 => WeightType::Quantized(WeightBits::Four),
    }
}

fn print(comparison: &Comparison) {
    let Comparison { name, error, bound } = comparison;
    let verdict = if comparison.passed() { "" } else { "  OVER" };
    say!("  {name:<56} {error:9.2e}  bound {bound:.0e}{verdict}");
}
