//! `caption`.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use latentlm_pipelines::Artist;

use crate::device::device;
use crate::training::run_path;

/// Says what a picture shows
#[derive(Args)]
#[command(after_help = "Example:\n  cargo xtask caption --run emoji --image heart.png")]
pub struct Caption {
    /// Name of the run, a folder under runs/
    #[arg(long, default_value = "emoji")]
    run: String,
    /// Picture; several are captioned in their order
    #[arg(long, value_name = "FILE", required = true, num_args = 1..)]
    image: Vec<PathBuf>,
    /// cpu, wgpu, vulkan or cuda; wgpu:N is the N-th
    #[arg(long, default_value = "cpu")]
    device: String,
}

impl Caption {
    pub fn run(self) -> Result<()> {
        let device = device(&self.device)?;
        let artist = Artist::from_run(&run_path(&self.run), &device)?;
        for image in &self.image {
            let said = artist.caption(artist.read_picture(image)?)?;
            println!("{}", said.concat());
        }
        Ok(())
    }
}
