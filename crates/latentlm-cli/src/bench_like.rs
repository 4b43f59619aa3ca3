//! `bench-decode --like`: one position of a published model's backbone, beside the time that its bytes take.

use anyhow::{Context, Result, ensure};
use latentlm_args::{BenchDecode, PublishedModel, WeightNumbers, say};
use latentlm_bench::{
    BackboneWork, DecodeWeights, MOST_READ_BYTES, cache_note, position_times, reading_rate,
};

use crate::kv_cache::cache_numbers;
use crate::make_model::sizes;
use crate::memory::{caches, machine_memory_bytes, peak_memory_bytes};

/// Times the positions, then memory, and prints both.
pub(crate) fn run(args: &BenchDecode, model: PublishedModel) -> Result<()> {
    ensure!(
        args.device == "cpu",
        "--like is for the CPU: leave --device out"
    );
    let device = latentlm::device("cpu")?;
    let (weights, name) = match args.weights {
        None | Some(WeightNumbers::F32) => (DecodeWeights::F32, "float32"),
        Some(WeightNumbers::Bf16) => (DecodeWeights::Bf16, "bfloat16"),
        Some(WeightNumbers::Int8) => (DecodeWeights::Int8, "int8"),
        Some(WeightNumbers::Int4) => (DecodeWeights::Int4, "int4"),
    };
    let work = BackboneWork {
        config: sizes(model).backbone(),
        weights,
        cache: cache_numbers(args.kv_cache, &args.device)?,
        repeats: args.repeats as usize,
        cold: args.cold.then(caches),
    };
    let weight_bytes = work.weight_bytes(&device);
    if let Some(memory) = machine_memory_bytes() {
        ensure!(
            weight_bytes < memory,
            "these weights take {:.1} GB of memory, this machine has {:.1} GB: choose smaller --weights",
            weight_bytes / 1e9,
            memory / 1e9
        );
    }
    say!(
        "{} blocks of width {}: {:.0} million random weights, matrices in {name}, {:.2} GB",
        work.config.depth,
        work.config.width,
        work.parameters(&device) as f64 / 1e6,
        weight_bytes / 1e9
    );
    let times = position_times(&work, &device);
    let times = times.with_context(|| format!("this build has no products with {name} weights"))?;
    // What memory is measured with is not the model's.
    let peak_bytes = peak_memory_bytes().unwrap_or_default();
    let bytes = times.bytes as usize;
    if let Some(note) = cache_note(bytes.min(MOST_READ_BYTES), caches().bytes) {
        say!("{note}");
    }
    let rate = reading_rate(&device, bytes);
    let limit_ms = 1e3 * times.bytes / rate;
    say!(
        "a position takes {:.2} ms (median of {}) and reads {:.3} GB; peak memory {:.2} GB",
        times.milliseconds,
        times.positions,
        times.bytes / 1e9,
        peak_bytes as f64 / 1e9
    );
    say!(
        "its limit is {limit_ms:.2} ms at {:.1} GB/s, which this machine reads; over it: {:.2}",
        rate / 1e9,
        times.milliseconds / limit_ms
    );
    if args.cold {
        say!("caches were emptied before each time");
    }
    Ok(())
}
