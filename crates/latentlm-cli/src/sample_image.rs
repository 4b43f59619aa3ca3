//! `sample-image`.

use anyhow::Result;
use latentlm_args::{SampleImage, run_path};
use latentlm_pipelines::{ImagePipeline, check_grid, image_grid, save_picture};

use crate::device::device;
use crate::{notes, sampling, written};

/// Draws pictures and writes them as a grid.
pub fn run(args: SampleImage) -> Result<()> {
    let device = device(&args.sampling.drawing.device)?;
    let weights = sampling::small_weights(args.weights, &args.sampling.drawing.device)?;
    let pipeline = ImagePipeline::from_run(&run_path(&args.sampling.run), &device)?;
    let pipeline = pipeline.with_small_weights(weights);
    notes::show(&pipeline.notes);
    let count = args.count as usize;
    let classes = match &args.class {
        Some(name) => vec![pipeline.class(name)?],
        None => (0..pipeline.manifest.classes.len() as u32).collect(),
    };
    let labels: Vec<u32> = classes
        .iter()
        .flat_map(|&class| vec![class; count])
        .collect();
    let options = pipeline.recipe().sample_options();
    let options = sampling::options(&args.sampling.drawing, options)?;
    let columns = if args.grid {
        count
    } else {
        count.isqrt().max(1)
    };
    let spec = pipeline.recipe().image_spec();
    check_grid(spec, labels.len(), columns, args.scale, &args.out)?;
    let pictures = pipeline.draw(&labels, &options, args.sampling.drawing.seed())?;
    save_picture(&image_grid(pictures, columns, args.scale), &args.out)?;
    written::show(&args.out, &args.out.display().to_string());
    Ok(())
}
