//! Benchmarks: `bench-decode`, and the hidden commands that `cargo xtask bench` and
//! `cargo xtask test --device` start.

use std::path::PathBuf;

use clap::Args;

use crate::number::whole;
use crate::{CacheType, PublishedModel, TrainingNumbers, WeightNumbers};

/// Times the generation of one latent at several positions: the backbone with its KV cache, and the head
///
/// With --like it times one position of a published model's backbone instead, and prints the bytes that this reads, the
/// time that they take at the rate of this machine's memory, and how much longer the position takes.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    cargo xtask bench-decode --width 512 --depth 8 --weights int8\n  \
    cargo xtask bench-decode --cold              with caches that hold nothing of the model\n  \
    cargo xtask bench-decode --like vibevoice-1.5b --weights int4")]
pub struct BenchDecode {
    /// Times one position of this model's backbone, all of its blocks, with random weights; wants the CPU
    #[arg(
        long,
        value_enum,
        value_name = "MODEL",
        conflicts_with_all = ["width", "depth", "heads", "kv_heads", "batch"]
    )]
    pub like: Option<PublishedModel>,
    /// Width of the model
    #[arg(long, default_value_t = 512, value_parser = whole(1..=65_536))]
    pub width: usize,
    /// Blocks of the backbone
    #[arg(long, default_value_t = 8, value_parser = whole(1..=4096))]
    pub depth: usize,
    /// Query heads
    #[arg(long, default_value_t = 8, value_parser = whole(1..=4096))]
    pub heads: usize,
    /// Key/value heads
    #[arg(long, default_value_t = 4, value_parser = whole(0..=4096))]
    pub kv_heads: usize,
    /// Number of sequences generated at once; guidance doubles it
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=4096))]
    pub batch: u64,
    /// Number of repetitions that each median is taken over
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=100_000))]
    pub repeats: u64,
    /// Empties the processor's caches before each measurement; otherwise they hold what the last step left there
    #[arg(long)]
    pub cold: bool,
    /// Weights in memory, f32 by default. Others want the CPU
    #[arg(long, value_enum)]
    pub weights: Option<WeightNumbers>,
    /// Numbers of the KV cache, f32 by default. Others want the CPU
    #[arg(long, value_enum)]
    pub kv_cache: Option<CacheType>,
    /// cpu, wgpu, vulkan or cuda; wgpu:N is the N-th
    #[arg(long, default_value = "cpu")]
    pub device: String,
}

/// Measures what this CPU can do: operations a second of our products in float32, bfloat16 and int8, and bytes a
/// second that one core and all cores read
///
/// Reads four times the largest cache, but 1 GiB at most, and says where some of that may lie in the cache.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  cargo xtask bench probe")]
pub struct BenchProbe {
    /// Prints one line of JSON with the limits instead
    #[arg(long)]
    pub json: bool,
}

/// Times every CPU kernel against the same computation with Burn's operations, forward and backward
///
/// Also times single products of published and default sizes against the limits of this machine, which it measures first, and a
/// checkpoint of 100 MB with and without checksums, in the folder of the table.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  cargo xtask bench kernels --repeats 9")]
pub struct BenchKernels {
    /// File for the table
    #[arg(long, value_name = "FILE", default_value = "target/kernels.md")]
    pub out: PathBuf,
    /// Number of measurements that each median is taken over
    #[arg(long, default_value_t = 7, value_parser = clap::value_parser!(u64).range(1..=100_000))]
    pub repeats: u64,
}

/// Times training steps and sampling for several batch sizes, lengths and widths, and compares with the time
/// that their arithmetic alone takes at this device's speed
///
/// Writes scaling.md and charts. Every point runs in a process of its own, so that its memory can be measured.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  cargo xtask bench scaling --repeats 5")]
pub struct BenchScaling {
    /// Folder for the table and the charts
    #[arg(long, value_name = "FOLDER", default_value = "target/scaling")]
    pub out: PathBuf,
    /// Number of units that each median is taken over
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=100_000))]
    pub repeats: u64,
    /// cpu, wgpu, vulkan or cuda; wgpu:N is the N-th
    #[arg(long, default_value = "cpu")]
    pub device: String,
}

/// Runs a workload unit by unit, as standard input says. The first line of its output describes the workload.
///
/// `go` times a unit, in milliseconds; `hot` times one after others, `cold` one after the caches were emptied.
/// `memory` is the peak memory in bytes, `grown` the same without what the program took at its start. `cost` is the
/// least that a unit must compute, read and write, as JSON.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  cargo xtask bench train")]
pub struct BenchWorker {
    /// Name of the workload, or its description as JSON; `list` prints all names
    pub workload: String,
    /// cpu, wgpu, vulkan or cuda; wgpu:N is the N-th
    #[arg(long, default_value = "cpu")]
    pub device: String,
    /// Precision of the matrix products in the training of a language model
    #[arg(long, value_enum, default_value = "f32")]
    pub precision: TrainingNumbers,
    /// Runs without the CPU kernels
    #[arg(long)]
    pub without_kernels: bool,
}

/// Prints a line for each adapter of a kind; nothing if there is none
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  cargo xtask test --device wgpu")]
pub struct ListAdapters {
    /// cpu, wgpu, vulkan or cuda
    pub kind: String,
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Typed {
        #[command(flatten)]
        bench: BenchDecode,
    }

    /// A time is kept of each.
    #[test]
    fn repetitions_have_bounds() {
        let typed = |count: &str| Typed::try_parse_from(["bench-decode", "--repeats", count]);
        let most = typed("100000").map(|typed| typed.bench.repeats);
        assert_eq!(most.ok(), Some(100_000));
        for count in ["0", "100001", "18446744073709551615"] {
            let told = typed(count).map(|_| ()).unwrap_err().to_string();
            assert!(told.contains("1..=100000"), "{told}");
        }
    }

    /// A published model has its own.
    #[test]
    fn sizes_are_given_once() {
        let typed = |words: &[&str]| {
            let words = [&["bench-decode", "--like"][..], words].concat();
            Typed::try_parse_from(words).map(|typed| typed.bench)
        };
        for (name, expected) in [
            ("vibevoice-1.5b", PublishedModel::Speech1_5B),
            ("vibevoice-7b", PublishedModel::Speech7B),
            ("vibevoice-realtime", PublishedModel::Realtime),
            ("vibevoice-asr", PublishedModel::Recognition),
        ] {
            let bench = typed(&[name, "--weights", "int8", "--repeats", "2"]).unwrap();
            assert_eq!(bench.like, Some(expected));
            assert_eq!(bench.weights, Some(WeightNumbers::Int8));
        }
        for size in ["--width", "--depth", "--heads", "--kv-heads", "--batch"] {
            let told = typed(&["1.5b", size, "8"]).map(drop).unwrap_err();
            assert!(told.to_string().contains("cannot be used with"), "{told}");
        }
    }
}
