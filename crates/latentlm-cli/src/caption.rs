//! `caption`.

use anyhow::Result;
use latentlm_args::{Caption, run_path};
use latentlm_pipelines::MllmPipeline;

use crate::device::device;

/// Prints a line a picture.
pub fn run(args: Caption) -> Result<()> {
    let device = device(&args.device)?;
    let artist = MllmPipeline::from_run(&run_path(&args.run), &device)?;
    for image in &args.image {
        let said = artist.caption(artist.read_picture(image)?)?;
        println!("{}", said.concat());
    }
    Ok(())
}
