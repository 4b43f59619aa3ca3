//! `bench-decode`.

use anyhow::Result;
use latentlm::{LatentLmConfig, LmSizes, SampleOptions};
use latentlm_args::{BenchDecode, say};
use latentlm_bench::{DecodeWork, decode_times};

use crate::device::device;
use crate::kv_cache::cache_numbers;
use crate::memory::caches;
use crate::sampling::small_weights;

const POSITIONS: [usize; 5] = [16, 64, 128, 192, 256];

/// Prints a table with one line per position, or what `--like` asks for.
pub fn run(args: BenchDecode) -> Result<()> {
    #[cfg(feature = "published")]
    if let Some(model) = args.like {
        return crate::bench_like::run(&args, model);
    }
    #[cfg(not(feature = "published"))]
    anyhow::ensure!(
        args.like.is_none(),
        "this binary was built without --like; build it with the feature published"
    );
    let device = device(&args.device)?;
    let sizes = LmSizes::new()
        .with_width(args.width)
        .with_depth(args.depth)
        .with_heads(args.heads)
        .with_kv_heads(args.kv_heads)
        .with_mlp_ratio(4.0);
    let work = DecodeWork {
        config: LatentLmConfig::image(10, 264, 16).with_sizes(sizes),
        batch: args.batch as usize,
        repeats: args.repeats as usize,
        weights: small_weights(args.weights, &args.device)?,
        cache: cache_numbers(args.kv_cache, &args.device)?,
        sample: SampleOptions {
            guidance_scale: 2.0,
            ..SampleOptions::default()
        },
        cold: args.cold.then(caches),
    };
    work.config.validate()?;
    let times = decode_times(&work, &POSITIONS, &device);
    say!(
        "position  backbone ms  head ms ({} solver steps)",
        work.sample.steps
    );
    for t in &times {
        say!(
            "{:8}  {:11.3}  {:7.3}",
            t.position,
            t.backbone_ms,
            t.head_ms
        );
    }
    if args.cold {
        say!("caches were emptied before each time");
    }
    if let (Some(first), Some(last)) = (times.first(), times.last()) {
        let growth = last.backbone_ms / first.backbone_ms - 1.0;
        say!(
            "the backbone's time grows by {:.0} % from position {} to {}",
            growth * 100.0,
            first.position,
            last.position
        );
    }
    Ok(())
}
