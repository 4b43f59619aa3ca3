//! Codecs whose latents are made to be generated, each with its language model.

use latentlm_eval::{bar_chart, stack};
use latentlm_train::{Result, RunEnd, RunOptions};

use super::variant::Variant;
use super::variant_result::{VariantResult, bars, distance, reconstruction};
use super::variants::declare_variants;

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

declare_variants! {
    /// A comparison of codecs.
    LatentsRecipe {
        name: latents,
        command: "compare latents",
        keys: "latentlm-compare/latents",
        all: VARIANTS,
        one_codec: false,
    }
}

/// Trains codec and language model of every variant with every seed, or continues, and writes
/// `latents.json`, `latents.md` and `latents.svg`.
///
/// # Errors
/// If the folder, recipe or data are wrong, a loss is not finite, or a file can't be written.
pub fn compare_latents(recipe: LatentsRecipe, options: RunOptions) -> Result<RunEnd> {
    RunEnd::of(recipe.variants().run(&recipe, options, figure))
}

fn figure(results: &[VariantResult]) -> String {
    stack(&[
        (
            "Frechet distance of generated pictures",
            bar_chart("Frechet distance", &bars(results, &distance())),
        ),
        (
            "PSNR of reconstructed pictures",
            bar_chart("dB", &bars(results, &reconstruction())),
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
