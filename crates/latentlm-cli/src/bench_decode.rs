//! `bench-decode`.

use anyhow::Result;
use clap::Args;
use latentlm::{ImageLmConfig, LmSizes, SampleOptions};
use latentlm_bench::decode_times;

use crate::device::device;

/// Times one more latent at several positions: the backbone with its KV cache, and the head
#[derive(Args)]
#[command(after_help = "Example:\n  cargo xtask bench-decode --width 512 --depth 8")]
pub struct BenchDecode {
    /// Width of the model
    #[arg(long, default_value_t = 512)]
    width: usize,
    /// Blocks of the backbone
    #[arg(long, default_value_t = 8)]
    depth: usize,
    /// Query heads
    #[arg(long, default_value_t = 8)]
    heads: usize,
    /// Key/value heads
    #[arg(long, default_value_t = 4)]
    kv_heads: usize,
    /// Sequences at once; guidance doubles them
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=4096))]
    batch: u64,
    /// Sequences, one after the other, that medians are taken over
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..))]
    repeats: u64,
    /// cpu, wgpu, vulkan or cuda; wgpu:N is the N-th
    #[arg(long, default_value = "cpu")]
    device: String,
}

const POSITIONS: [usize; 5] = [16, 64, 128, 192, 256];

impl BenchDecode {
    pub fn run(self) -> Result<()> {
        let device = device(&self.device)?;
        let sizes = LmSizes::new()
            .with_width(self.width)
            .with_depth(self.depth)
            .with_heads(self.heads)
            .with_kv_heads(self.kv_heads)
            .with_mlp_ratio(4.0);
        let config = ImageLmConfig::new(10, 264, 16).with_sizes(sizes);
        config.validate()?;
        let options = SampleOptions {
            guidance_scale: 2.0,
            ..SampleOptions::default()
        };
        let counts = (self.batch as usize, self.repeats as usize);
        let times = decode_times(&config, counts, &options, &POSITIONS, &device);
        println!(
            "position  backbone ms  head ms ({} solver steps)",
            options.steps
        );
        for t in &times {
            println!(
                "{:8}  {:11.3}  {:7.3}",
                t.position, t.backbone_ms, t.head_ms
            );
        }
        if let (Some(first), Some(last)) = (times.first(), times.last()) {
            let growth = last.backbone_ms / first.backbone_ms - 1.0;
            println!(
                "the backbone's time grows by {:.0} % from position {} to {}",
                growth * 100.0,
                first.position,
                last.position
            );
        }
        Ok(())
    }
}
