//! `bench-kernels`: times each CPU kernel against Burn's operations, and a checkpoint with and without checksums.

use anyhow::{Context, Result};
use latentlm::core::bundle::write_atomically;
use latentlm::core::disk;
use latentlm_args::{BenchKernels, say};
use latentlm_bench::{checksum_times, kernel_times};

/// Bytes of the checkpoint that is timed.
const CHECKPOINT_BYTES: usize = 100_000_000;

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
    let folder = disk::folder_of(&args.out);
    disk::create_folders(folder).with_context(|| format!("cannot create {}", folder.display()))?;
    let times = checksum_times(folder, CHECKPOINT_BYTES, args.repeats as usize)?;
    let rate = |ms: f64| CHECKPOINT_BYTES as f64 / ms / 1e3;
    push(format!(
        "\nA checkpoint of 100 MB: {:.0} MB/s written, {:.0} MB/s with checksums ({:.2} of the time), {:.0} MB/s \
         compared on loading",
        rate(times.written_ms),
        rate(times.saved_ms),
        times.saved_ms / times.written_ms,
        rate(times.compared_ms)
    ));
    write_atomically(&args.out, table.as_bytes())
        .with_context(|| format!("cannot write {}", args.out.display()))?;
    say!("written to {}", args.out.display());
    Ok(())
}
