//! `bench-probe`: what this machine can do.

use anyhow::Result;
use latentlm_args::{BenchProbe, say};
use latentlm_bench::probe_limits;

use crate::memory::caches;

/// Prints a line for each measurement, and the limits.
pub fn run(args: &BenchProbe) -> Result<()> {
    let device = latentlm::device("cpu")?;
    let limits = probe_limits(&device, caches().bytes, |line| {
        if !args.json {
            say!("{line}");
        }
    });
    if args.json {
        say!("{}", serde_json::to_string(&limits)?);
        return Ok(());
    }
    say!(
        "limits: {:.0} GFLOP/s in float32, {:.0} in bfloat16, {:.0} in int8; {:.1} GB/s on one core, {:.1} GB/s on \
         all; largest cache {:.0} MiB",
        limits.operations_per_s / 1e9,
        limits.bf16_operations_per_s / 1e9,
        limits.int8_operations_per_s / 1e9,
        limits.one_core_bytes_per_s / 1e9,
        limits.bytes_per_s / 1e9,
        limits.cache_bytes / f64::from(1 << 20)
    );
    Ok(())
}
