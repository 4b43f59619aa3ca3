//! `generate`.

use std::path::{Path, PathBuf};

use anyhow::Result;
use clap::Args;
use latentlm::TextOptions;
use latentlm_pipelines::{Artist, Made, PromptPiece, image_grid, save_png};

use crate::device::device;
use crate::sampling::Drawing;
use crate::training::run_path;

/// Goes on with a prompt of text and pictures: writes, and draws
#[derive(Args)]
#[command(after_help = "Examples:\n  \
    cargo xtask generate --run emoji --prompt \"a red heart <image>\" --out heart.png\n  \
    cargo xtask generate --run emoji --prompt \"My fellow citizens\" --temperature 0.7\n  \
    cargo xtask generate --run emoji --prompt \"<image>heart.png</image>\"")]
pub struct Generate {
    /// Name of the run, a folder under runs/
    #[arg(long, default_value = "emoji")]
    run: String,
    #[command(flatten)]
    drawing: Drawing,
    /// Text; `<image>file.png</image>` is a picture to be read, `<image>` at the end one to be drawn
    #[arg(long)]
    prompt: String,
    /// Divisor of the tokens' scores, 0 for the likeliest token; the recipe's by default
    #[arg(long, value_name = "T")]
    temperature: Option<f64>,
    /// Likeliest tokens that are drawn from, 0 for all; the recipe's by default
    #[arg(long, value_name = "K")]
    top_k: Option<usize>,
    /// Probability that the tokens drawn from add up to; the recipe's by default
    #[arg(long, value_name = "P", value_parser = probability)]
    top_p: Option<f64>,
    /// Most positions that are made: tokens and latents
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u64).range(1..))]
    positions: u64,
    /// Enlargement of pictures
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=64))]
    scale: u32,
    /// PNG to write; further pictures get numbers
    #[arg(long, value_name = "FILE", default_value = "generated.png")]
    out: PathBuf,
}

fn probability(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(p) if p > 0.0 && p <= 1.0 => Ok(p),
        _ => Err("must lie between 0 and 1".into()),
    }
}

impl Generate {
    pub fn run(self) -> Result<()> {
        let prompt = PromptPiece::parse(&self.prompt)?;
        let device = device(&self.drawing.device)?;
        let artist = Artist::from_run(&run_path(&self.run), &device)?;
        let options = self.drawing.options(artist.recipe().sample_options())?;
        let recipe = artist.recipe().text_options();
        let text = TextOptions {
            temperature: self.temperature.unwrap_or(recipe.temperature).max(0.0),
            top_k: self.top_k.unwrap_or(recipe.top_k),
            top_p: self.top_p.unwrap_or(recipe.top_p),
        };
        let limits = (self.positions as usize, self.drawing.seed);
        let generated = artist.generate(&prompt, &options, text, limits)?;
        let mut pictures = 0;
        for made in generated.pieces {
            match made {
                Made::Text(text) => println!("{text}"),
                Made::Picture(picture) => {
                    let file = numbered(&self.out, pictures);
                    save_png(&image_grid(picture, 1, self.scale), &file)?;
                    println!("{}", file.display());
                    pictures += 1;
                }
            }
        }
        if let Some(positions) = generated.cut {
            let most = artist.recipe().mix.pack_positions;
            eprintln!(
                "cut off after {positions} positions: --positions says how many, and the model was \
                 trained on {most} with the prompt"
            );
        }
        Ok(())
    }
}

/// `a.png`, `a-1.png`, `a-2.png`.
fn numbered(file: &Path, number: usize) -> PathBuf {
    if number == 0 {
        return file.to_owned();
    }
    let part =
        |part: Option<&std::ffi::OsStr>| part.unwrap_or_default().to_string_lossy().into_owned();
    let (stem, ending) = (part(file.file_stem()), part(file.extension()));
    file.with_file_name(format!("{stem}-{number}.{ending}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn further_pictures_get_numbers() {
        let file = Path::new("out/a.png");
        assert_eq!(numbered(file, 0), file);
        assert_eq!(numbered(file, 2), Path::new("out/a-2.png"));
    }
}
