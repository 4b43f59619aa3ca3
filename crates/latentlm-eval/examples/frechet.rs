//! Times the Frechet distance of two sets of random features, 2,048 as Inception has them unless another number
//! is given:
//!
//! ```sh
//! cargo run -p latentlm-eval --example frechet -- 2048
//! ```

#![allow(clippy::print_stdout)] // A program's results go to standard output.

use std::error::Error;
use std::time::Instant;

use latentlm::RandomStream;
use latentlm_eval::{FeatureStats, frechet_distance};

fn main() -> Result<(), Box<dyn Error>> {
    let features: usize = match std::env::args().nth(1) {
        Some(number) => number.parse()?,
        None => 2048,
    };
    let samples = 2 * features;
    // Each feature is like its neighbour, so that covariances are not diagonal.
    let draw = |seed: u64| -> Vec<Vec<f32>> {
        let mut random = RandomStream::new(seed);
        let mut rows = Vec::with_capacity(samples);
        for _ in 0..samples {
            let numbers: Vec<f64> = (0..=features).map(|_| random.uniform()).collect();
            let sums = numbers.windows(2).map(|pair| (pair[0] + pair[1]) as f32);
            rows.push(sums.collect());
        }
        rows
    };
    let (a, b) = (draw(1), draw(2));
    let started = Instant::now();
    let (a, b) = (FeatureStats::measure(&a), FeatureStats::measure(&b));
    let measured_s = started.elapsed().as_secs_f64();
    let distance = frechet_distance(&a, &b);
    let whole_s = started.elapsed().as_secs_f64();
    println!(
        "{features} features, {samples} samples: {whole_s:.1} s, {measured_s:.1} s of them for means and \
         covariances; distance {distance:.6}"
    );
    Ok(())
}
