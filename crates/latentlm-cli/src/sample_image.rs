//! `sample-image`.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use latentlm_pipelines::{Generator, image_grid, save_png};

use crate::device::device;
use crate::sampling::Sampling;
use crate::training::run_path;

/// Draws pictures with a trained model
#[derive(Args)]
#[command(after_help = "Examples:\n  \
    cargo xtask sample-image --run mnist --grid --out digits.png\n  \
    cargo xtask sample-image --run mnist --class 7 --count 16 --guidance 3 --seed 5 --out sevens.png")]
pub struct SampleImage {
    #[command(flatten)]
    sampling: Sampling,
    /// Class to draw, by name or number
    #[arg(long, required_unless_present = "grid")]
    class: Option<String>,
    /// One row a class
    #[arg(long, conflicts_with = "class")]
    grid: bool,
    /// Pictures, of each class if it is a grid
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=10_000))]
    count: u64,
    /// Enlargement of the pictures
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=64))]
    scale: u32,
    /// PNG to write
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
}

impl SampleImage {
    pub fn run(self) -> Result<()> {
        let device = device(&self.sampling.drawing.device)?;
        let generator = Generator::from_run(&run_path(&self.sampling.run), &device)?;
        let count = self.count as usize;
        let classes = match &self.class {
            Some(name) => vec![generator.class(name)?],
            None => (0..generator.manifest.classes.len() as u32).collect(),
        };
        let labels: Vec<u32> = classes
            .iter()
            .flat_map(|&class| vec![class; count])
            .collect();
        let options = self
            .sampling
            .drawing
            .options(generator.manifest.recipe.sample_options())?;
        let pictures = generator.draw(&labels, &options, self.sampling.drawing.seed)?;
        let columns = if self.grid {
            count
        } else {
            count.isqrt().max(1)
        };
        save_png(&image_grid(pictures, columns, self.scale), &self.out)?;
        println!("{}", self.out.display());
        Ok(())
    }
}
