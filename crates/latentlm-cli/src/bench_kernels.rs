//! `bench-kernels`: what each kernel is worth.

use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Args;
use latentlm::core::bundle::write_atomically;
use latentlm_bench::kernel_times;

/// Times every kernel of the CPU against the same of Burn's operations, forward and backward
#[derive(Args)]
#[command(after_help = "Example:\n  cargo xtask bench kernels --repeats 9")]
pub struct BenchKernels {
    /// File for the table
    #[arg(long, value_name = "FILE", default_value = "target/kernels.md")]
    out: PathBuf,
    /// Measurements that each median is taken over
    #[arg(long, default_value_t = 7, value_parser = clap::value_parser!(u64).range(1..))]
    repeats: u64,
}

impl BenchKernels {
    pub fn run(self) -> Result<()> {
        let mut table = String::new();
        let mut push = |line: String| {
            println!("{line}");
            table.push_str(&line);
            table.push('\n');
        };
        push("| operation | sizes | kernel ms | composed ms | ratio |".into());
        push("|---|---|---:|---:|---:|".into());
        kernel_times(self.repeats as usize, |times| {
            let ratio = times.kernel_ms / times.composed_ms;
            push(format!(
                "| {} | {} | {:.3} | {:.3} | {ratio:.2} |",
                times.name, times.sizes, times.kernel_ms, times.composed_ms
            ));
        });
        write_atomically(&self.out, table.as_bytes())
            .with_context(|| format!("cannot write {}", self.out.display()))?;
        println!("written to {}", self.out.display());
        Ok(())
    }
}
