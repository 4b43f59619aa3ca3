//! `generate`.

use std::path::{Path, PathBuf};

use anyhow::Result;
use latentlm::core::disk::is_stream;
use latentlm::{GenerateOptions, TextOptions};
use latentlm_args::{Generate, run_path, say, tell};
use latentlm_pipelines::{Made, MllmPipeline, PromptPiece, image_grid, save_picture};

use crate::device::device;
use crate::{notes, sampling, written};

/// Prints the generated text, and the file names of the drawn pictures.
pub fn run(args: Generate) -> Result<()> {
    let prompt = PromptPiece::parse(&args.prompt)?;
    let device = device(&args.drawing.device)?;
    let pipeline = MllmPipeline::from_run(&run_path(&args.run), &device)?;
    notes::show(&pipeline.notes);
    let sample = sampling::options(&args.drawing, pipeline.recipe().sample_options())?;
    let recipe = pipeline.recipe().sample.own;
    let text = TextOptions {
        temperature: args.temperature.unwrap_or(recipe.temperature).max(0.0),
        top_k: args.top_k.unwrap_or(recipe.top_k),
        top_p: args.top_p.unwrap_or(recipe.top_p),
    };
    let options = GenerateOptions {
        text,
        sample,
        max_positions: args.positions as usize,
    };
    let generated = pipeline.generate(&prompt, &options, args.drawing.seed())?;
    let mut pictures = 0;
    for made in generated.pieces {
        match made {
            Made::Text(text) => say!("{text}"),
            Made::Picture(picture) => {
                // A stream has one name, and takes all pictures.
                let file = if is_stream(&args.out) {
                    args.out.clone()
                } else {
                    numbered(&args.out, pictures)
                };
                save_picture(&image_grid(picture, 1, args.scale), &file)?;
                written::show(&file, &file.display().to_string());
                pictures += 1;
            }
        }
    }
    if let Some(positions) = generated.cut {
        let most = pipeline.recipe().mix.pack_positions;
        tell!(
            "cut off after {positions} positions: --positions says how many, and the model was \
             trained on {most} with the prompt"
        );
    }
    Ok(())
}

/// The name of file `number`: `a.png`, `a-1.png`, `a-2.png`; of a folder `a`, `a-1`, `a-2`.
pub fn numbered(file: &Path, number: usize) -> PathBuf {
    if number == 0 {
        return file.to_owned();
    }
    let part =
        |part: Option<&std::ffi::OsStr>| part.unwrap_or_default().to_string_lossy().into_owned();
    let (stem, ending) = (part(file.file_stem()), part(file.extension()));
    let name = format!("{stem}-{number}");
    if ending.is_empty() {
        return file.with_file_name(name);
    }
    file.with_file_name(format!("{name}.{ending}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn further_pictures_get_numbers() {
        let file = Path::new("out/a.png");
        assert_eq!(numbered(file, 0), file);
        assert_eq!(numbered(file, 2), Path::new("out/a-2.png"));
        assert_eq!(numbered(Path::new("out/a"), 2), Path::new("out/a-2"));
    }
}
