//! `bench-worker`: runs a workload of ours for `cargo xtask bench`.

use std::io::BufRead;
use std::time::Instant;

use anyhow::{Context, Result};
use burn::tensor::{DType, Device};
use latentlm::core::Precision;
use latentlm_args::{BenchWorker, TrainingNumbers, say};
use latentlm_bench::{CacheFlush, DecodeWeights, WORKLOADS, Workload};
use latentlm_kernels::{has_bf16_head, without_kernels};

use crate::device::device;
use crate::memory::{caches, memory_bytes, peak_memory_bytes};

/// Units before a hot one.
const WARMING: usize = 3;

/// Answers each line of standard input on standard output, until the input ends.
pub fn run(args: BenchWorker) -> Result<()> {
    if args.workload == "list" {
        WORKLOADS.iter().for_each(|(name, _)| say!("{name}"));
        return Ok(());
    }
    if args.without_kernels {
        without_kernels(|| answer(&args))
    } else {
        answer(&args)
    }
}

fn answer(args: &BenchWorker) -> Result<()> {
    let at_start = memory_bytes().unwrap_or_default();
    let workload = workload(&args.workload)?;
    let rounded = matches!(workload, Workload::SampleRounded(_));
    anyhow::ensure!(
        !rounded || (args.device == "cpu" && has_bf16_head()),
        "the head has products of bfloat16 on a CPU with AVX-512 BF16 alone"
    );
    let quantized = match workload {
        Workload::BackboneDecode(sizes) => {
            matches!(sizes.weights, DecodeWeights::Int8 | DecodeWeights::Int4)
        }
        _ => false,
    };
    anyhow::ensure!(
        !quantized || args.device == "cpu",
        "weights of 8 and 4 bits have products on the CPU alone"
    );
    let rounded_codec = matches!(
        workload,
        Workload::CodecStream(sizes) if sizes.weights == Precision::Bf16
    );
    anyhow::ensure!(
        !rounded_codec || args.device == "cpu",
        "a codec has products with bfloat16 weights on the CPU alone"
    );
    say!("{}", serde_json::to_string(&workload)?);
    let device = device(&args.device)?;
    let precision = precision(args, &workload, &device)?;
    let mut unit = workload.prepare(precision, &device);
    let mut flush = None;
    for line in std::io::stdin().lock().lines() {
        match line?.as_str() {
            "go" => {}
            "hot" => (0..WARMING).for_each(|_| unit()),
            "cold" => flush.get_or_insert_with(|| CacheFlush::new(caches())).run(),
            "memory" => {
                say!("{}", peak_memory_bytes().unwrap_or_default());
                continue;
            }
            "grown" => {
                let peak = peak_memory_bytes().unwrap_or_default();
                say!("{}", peak.saturating_sub(at_start));
                continue;
            }
            "cost" => {
                say!("{}", serde_json::to_string(&workload.cost(precision))?);
                continue;
            }
            other => anyhow::bail!(
                "`{other}` is none of `go`, `hot`, `cold`, `memory`, `grown` and `cost`"
            ),
        }
        let started = Instant::now();
        unit();
        say!("{}", started.elapsed().as_secs_f64() * 1e3);
    }
    Ok(())
}

/// The workload with a name, or with a description in JSON.
fn workload(name: &str) -> Result<Workload> {
    if name.starts_with('{') {
        return serde_json::from_str(name)
            .with_context(|| format!("`{name}` describes no workload"));
    }
    let found = WORKLOADS.iter().find(|(known, _)| *known == name);
    let (_, workload) = found.with_context(|| format!("no workload `{name}`"))?;
    Ok(*workload)
}

/// The requested precision, if the workload and the device support it.
fn precision(args: &BenchWorker, workload: &Workload, device: &Device) -> Result<Precision> {
    match args.precision {
        TrainingNumbers::F32 => Ok(Precision::F32),
        TrainingNumbers::Bf16 => {
            anyhow::ensure!(
                workload.has_precisions(),
                "`{}` trains no language model: leave --precision bf16 out",
                args.workload
            );
            anyhow::ensure!(
                device.supports_dtype(DType::BF16),
                "{} does not compute in bfloat16",
                args.device
            );
            Ok(Precision::Bf16)
        }
    }
}
