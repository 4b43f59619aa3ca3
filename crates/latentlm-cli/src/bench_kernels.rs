//! `bench-kernels`: times each CPU kernel against Burn's operations.

use anyhow::{Context, Result};
use latentlm::core::bundle::write_atomically;
use latentlm_args::{BenchKernels, say};
use latentlm_bench::kernel_times;

/// Prints the table line by line and writes it to a file.
pub fn run(args: BenchKernels) -> Result<()> {
    let mut table = String::new();
    let mut push = |line: String| {
        say!("{line}");
        table.push_str(&line);
        table.push('\n');
    };
    push("| operation | sizes | kernel ms | composed ms | ratio |".into());
    push("|---|---|---:|---:|---:|".into());
    // Other devices have no kernels of ours.
    let device = latentlm::device("cpu")?;
    kernel_times(&device, args.repeats as usize, |times| {
        let ratio = times.kernel_ms / times.composed_ms;
        push(format!(
            "| {} | {} | {:.3} | {:.3} | {ratio:.2} |",
            times.name, times.sizes, times.kernel_ms, times.composed_ms
        ));
    });
    write_atomically(&args.out, table.as_bytes())
        .with_context(|| format!("cannot write {}", args.out.display()))?;
    say!("written to {}", args.out.display());
    Ok(())
}
