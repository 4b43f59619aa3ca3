//! `bench-kernels`: times each CPU kernel against Burn's operations, products against the machine's limits, and a checkpoint
//! with and without checksums.

use anyhow::{Context, Result};
use latentlm::core::bundle::write_atomically;
use latentlm::core::disk;
use latentlm_args::{BenchKernels, say};
use latentlm_bench::{
    Limits, ProductRates, checksum_times, kernel_times, probe_limits, product_rates,
};
use latentlm_kernels::product_instructions;

use crate::memory::caches;

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
    let limits = probe_limits(&device, caches().bytes, |_| {});
    push(format!("\n{}", head_of_products(&limits)));
    product_rates(&device, &limits, args.repeats as usize, |product| {
        push(row(product));
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

/// What stands above the table of products.
fn head_of_products(limits: &Limits) -> String {
    let [rounded, quantized] = product_instructions();
    format!(
        "Products in GFLOP/s, and in brackets the share of the limit: the least time of the operations, or of reading a layer's \
         weights from memory, over the time. Products of bfloat16 are by {rounded}, those of many rows with int8 or int4 \
         weights by {quantized}. Limits: {:.0} GFLOP/s in float32, {:.0} in bfloat16, {:.0} in int8, {:.1} GB/s.\n\n\
         | product | rows, inputs, outputs | float32 | bfloat16 | int8 | int4 |\n\
         |---|---|---:|---:|---:|---:|",
        limits.operations_per_s / 1e9,
        limits.bf16_operations_per_s / 1e9,
        limits.int8_operations_per_s / 1e9,
        limits.bytes_per_s / 1e9
    )
}

/// A row of that table.
fn row(product: &ProductRates) -> String {
    let [rows, inputs, outputs] = product.sizes;
    let rates = product.rates.map(|rate| match rate {
        Some(rate) => format!("{:.1} ({:.2})", rate.operations_per_s / 1e9, rate.of_limit),
        None => String::new(),
    });
    format!(
        "| {} | {rows}, {inputs}, {outputs} | {} |",
        product.name,
        rates.join(" | ")
    )
}
