//! Codecs whose latents are made to be generated, each with its language model.

use burn::config::Config;
use latentlm_eval::{bar_chart, stack};
use latentlm_pipelines::{ImageRecipe, PipelineError, declare_recipe};
use latentlm_train::{Result, RunEnd, RunOptions};

use super::recipe::{codec_of, key_table};
use super::result::Column;
use super::variants::{Variant, VariantResult, Variants, VariantsConfig, bars, distance};

/// All variants.
const VARIANTS: &[Variant] = &[
    Variant::new("default", &[]),
    Variant::new("fixed", &["codec.noise=Fixed"]),
    Variant::new(
        "interpolated-1",
        &["codec.noise=Interpolated", "codec.noise_std=1.0"],
    ),
    Variant::new(
        "interpolated-3",
        &["codec.noise=Interpolated", "codec.noise_std=3.0"],
    ),
    Variant::new("masked", &["codec.latents.masked_share=0.7"]),
    Variant::new(
        "interpolated-masked",
        &[
            "codec.noise=Interpolated",
            "codec.noise_std=1.0",
            "codec.latents.masked_share=0.7",
        ],
    ),
    Variant::new("sphere", &["codec.latents.sphere=true"]),
    Variant::new(
        "sphere-fixed",
        &["codec.latents.sphere=true", "codec.noise=Fixed"],
    ),
    Variant::new("history-0.1", &["lm.history_noise=0.1"]),
    Variant::new("history-0.3", &["lm.history_noise=0.3"]),
];

/// A comparison of codecs.
#[derive(Config, Debug, PartialEq)]
pub struct LatentsRecipe {
    /// The variants.
    pub latents: VariantsConfig,
    /// The recipe that they are variants of.
    pub image: ImageRecipe,
}

declare_recipe! {
    /// The file `configs/compare/latents.toml`.
    LatentsRecipe {
        command: "compare latents",
        keys: "latentlm-compare/latents" in key_table,
        parts: codec_of("image", "image/mnist"),
        seed: image.seed,
        check: LatentsRecipe::check,
    }
}

impl LatentsRecipe {
    fn variants(&self) -> Variants<'_> {
        Variants {
            name: "latents",
            all: VARIANTS,
            config: &self.latents,
            image: &self.image,
            one_codec: false,
        }
    }

    fn check(&self) -> Result<(), PipelineError> {
        self.variants().check()
    }
}

/// Trains codec and language model of every variant with every seed, or continues, and writes
/// `latents.json`, `latents.md` and `latents.svg`.
///
/// # Errors
/// If the folder, recipe or data are wrong, a loss is not finite, or a file can't be written.
pub fn compare_latents(recipe: LatentsRecipe, options: RunOptions) -> Result<RunEnd> {
    recipe.variants().run(&recipe, options, figure)
}

fn figure(results: &[VariantResult]) -> String {
    let reconstruction = Column::<VariantResult>::new("dB", 2, |own| {
        own.mean(|e| e.reconstruction.reconstruction_psnr_db)
    });
    stack(&[
        (
            "Frechet distance of generated pictures",
            bar_chart("Frechet distance", &bars(results, &distance())),
        ),
        (
            "PSNR of reconstructed pictures",
            bar_chart("dB", &bars(results, &reconstruction)),
        ),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::variants::{check_list, measured};

    #[test]
    fn every_variant_resolves_and_has_a_bar() {
        check_list(&LatentsRecipe::default().variants());
        let results = [
            measured("default", 20, &[30.0]),
            measured("sphere", 20, &[20.0]),
        ];
        let figure = figure(&results);
        assert_eq!(figure.matches(">sphere</text>").count(), 2);
    }
}
