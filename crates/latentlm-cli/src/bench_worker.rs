//! `bench-worker`: our side of `cargo xtask bench`.

use std::io::{BufRead, Write};
use std::time::Instant;

use anyhow::{Context, Result};
use clap::Args;
use latentlm_bench::{WORKLOADS, Workload};
use latentlm_eval::peak_memory_bytes;
use latentlm_kernels::{has_bf16_head, without_kernels};

use crate::device::device;

/// Runs one workload a unit at a time: `go` on standard input is answered by milliseconds, `memory`
/// by the peak in bytes. The first line it prints describes the workload.
#[derive(Args)]
#[command(after_help = "Example:\n  cargo xtask bench train")]
pub struct BenchWorker {
    /// Name of the workload, or its description as JSON; `list` prints all names
    workload: String,
    /// cpu, wgpu, vulkan or cuda; wgpu:N is the N-th
    #[arg(long, default_value = "cpu")]
    device: String,
    /// Do without the kernels of the CPU
    #[arg(long)]
    without_kernels: bool,
}

impl BenchWorker {
    pub fn run(self) -> Result<()> {
        if self.workload == "list" {
            WORKLOADS.iter().for_each(|(name, _)| println!("{name}"));
            return Ok(());
        }
        match self.without_kernels {
            true => without_kernels(|| self.answer()),
            false => self.answer(),
        }
    }

    fn answer(&self) -> Result<()> {
        let workload = self.workload()?;
        let rounded = matches!(workload, Workload::SampleRounded(_));
        anyhow::ensure!(
            !rounded || (self.device == "cpu" && has_bf16_head()),
            "the head has products of bfloat16 on a CPU with AVX-512 BF16 alone"
        );
        println!("{}", serde_json::to_string(&workload)?);
        let mut unit = workload.prepare(&device(&self.device)?);
        for line in std::io::stdin().lock().lines() {
            match line?.as_str() {
                "go" => {
                    let started = Instant::now();
                    unit();
                    println!("{}", started.elapsed().as_secs_f64() * 1e3);
                }
                "memory" => println!("{}", peak_memory_bytes().unwrap_or_default()),
                other => anyhow::bail!("`{other}` is neither `go` nor `memory`"),
            }
            std::io::stdout().flush()?;
        }
        Ok(())
    }

    fn workload(&self) -> Result<Workload> {
        if self.workload.starts_with('{') {
            return serde_json::from_str(&self.workload)
                .with_context(|| format!("`{}` describes no workload", self.workload));
        }
        let found = WORKLOADS.iter().find(|(name, _)| *name == self.workload);
        let (_, workload) = found.with_context(|| format!("no workload `{}`", self.workload))?;
        Ok(*workload)
    }
}
