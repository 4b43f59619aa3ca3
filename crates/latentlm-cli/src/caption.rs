//! `caption`.

use anyhow::Result;
use latentlm_args::{Caption, run_path, say};
use latentlm_pipelines::{MllmPipeline, VideoPipeline};

use crate::device::device;
use crate::notes;

/// Prints one caption per line.
pub fn run(args: Caption) -> Result<()> {
    let device = device(&args.device)?;
    if !args.video.is_empty() {
        let pipeline = VideoPipeline::from_run(&run_path(&args.run), &device)?;
        notes::show(&pipeline.notes);
        for clip in &args.video {
            let caption = pipeline.caption(pipeline.read_clip(clip)?)?;
            say!("{}", caption.concat());
        }
        return Ok(());
    }
    let pipeline = MllmPipeline::from_run(&run_path(&args.run), &device)?;
    notes::show(&pipeline.notes);
    for image in &args.image {
        let caption = pipeline.caption(pipeline.read_picture(image)?)?;
        say!("{}", caption.concat());
    }
    Ok(())
}
