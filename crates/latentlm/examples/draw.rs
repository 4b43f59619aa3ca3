//! Draws sixteen pictures of a class with a trained run:
//!
//! ```sh
//! cargo run -p latentlm --features cpu --example draw -- runs/mnist 7 sevens.png
//! ```

use std::error::Error;
use std::path::Path;

use latentlm_pipelines::{ImagePipeline, image_grid, save_png};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [run, class, file] = &arguments[..] else {
        return Err("usage: draw RUN CLASS FILE.png".into());
    };
    let device = latentlm::device("cpu")?;
    let pipeline = ImagePipeline::from_run(Path::new(run), &device)?;
    let class = pipeline.class(class)?;
    let options = pipeline.recipe().sample_options();
    let pictures = pipeline.draw(&[class; 16], &options, 5)?; // [16, C, H, W]
    save_png(&image_grid(pictures, 4, 2), Path::new(file))?;
    Ok(())
}
