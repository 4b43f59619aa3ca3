//! What the tests of this package share.

pub mod fuzz;

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use flate2::read::GzDecoder;
use latentlm_compare::{CompareRecipe, HeadsRecipe, LatentsRecipe, SigmaRecipe};
use latentlm_pipelines::{ImageRecipe, Recipe};

/// The README's code, compiled and run with the tests.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct Readme;

/// A file of the repository.
pub fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)
}

/// What makes an image recipe so small that both stages take seconds.
const SMALL: [&str; 19] = [
    "codec.vit.encoder_width=16",
    "codec.vit.decoder_width=16",
    "codec.vit.encoder_depth=1",
    "codec.vit.decoder_depth=1",
    "codec_train.steps=4",
    "codec_train.batch_size=8",
    "codec_train.warmup_steps=2",
    "codec_train.log_every=1",
    "lm.width=32",
    "lm.depth=1",
    "lm.heads=2",
    "lm.head_depth=1",
    "lm.batch_mul=2",
    "lm_train.steps=4",
    "lm_train.batch_size=8",
    "lm_train.warmup_steps=2",
    "lm_train.log_every=1",
    "sample.steps=2",
    "sample.per_class=1",
];

/// The same of the rivals in a comparison.
const SMALL_RIVALS: [&str; 14] = [
    "image.lm_train.sample_every=2",
    "evaluate.samples=20",
    "evaluate.parameter_tolerance=10.0",
    "dit.width=32",
    "dit.depth=1",
    "dit.heads=2",
    "transfusion.width=32",
    "transfusion.depth=1",
    "transfusion.heads=2",
    "vq.width=32",
    "vq.depth=1",
    "vq.heads=2",
    "vq.codes=16",
    "vq.restart_every=2",
];

/// Splits of [`few_digits`], and how many digits they have.
const FEW: [(&str, usize); 2] = [("train", 600), ("test", 200)];
/// Files of a split: their names, bytes of a header, and bytes of a digit.
const IDX: [(&str, usize, usize); 2] = [("images-idx3", 16, 28 * 28), ("labels-idx1", 8, 1)];

/// Writes the first of the digits that ship into a new folder, as a dataset. A judge learns them in a second; all
/// 10,000 take it a quarter of a minute.
///
/// # Panics
/// If a file can't be read or written.
pub fn few_digits(folder: &Path) {
    fs::create_dir(folder).expect("a new folder");
    for (split, count) in FEW {
        for (kind, header, size) in IDX {
            let name = format!("{split}-{kind}-ubyte");
            let packed = repository("datasets/mnist").join(format!("{name}.gz"));
            let packed = File::open(packed).expect("a dataset that ships");
            let mut bytes = vec![0; header + count * size];
            let mut reader = GzDecoder::new(packed);
            reader.read_exact(&mut bytes).expect("more digits");
            // The header has their number behind the kind of the file.
            bytes[4..8].copy_from_slice(&(count as u32).to_be_bytes());
            fs::write(folder.join(name), bytes).expect("room for small files");
        }
    }
}

/// The override of a recipe's data.
pub fn data_at(prefix: &str, folder: &Path) -> String {
    format!("{prefix}data.path={}", folder.display())
}

fn resolve<R: Recipe>(overrides: &[String]) -> R {
    match R::resolve(None, overrides) {
        Ok(recipe) => recipe,
        Err(error) => panic!("the tiny recipe: {error}"),
    }
}

/// The default recipe made so small that both stages take seconds, on all digits that ship.
pub fn tiny_recipe(changes: &[&str]) -> ImageRecipe {
    let mut overrides = vec![data_at("", &repository("datasets/mnist"))];
    overrides.extend(SMALL.iter().chain(changes).map(ToString::to_string));
    resolve(&overrides)
}

/// The default comparison made so small that all stages take seconds, on data in a folder.
pub fn tiny_comparison(data: &Path, changes: &[&str]) -> CompareRecipe {
    let mut overrides = vec![data_at("image.", data)];
    overrides.extend(SMALL.iter().map(|change| format!("image.{change}")));
    overrides.extend(SMALL_RIVALS.iter().chain(changes).map(ToString::to_string));
    resolve(&overrides)
}

/// The default comparison of codecs made so small that all stages take seconds, on data in a folder.
pub fn tiny_sigma_comparison(data: &Path) -> SigmaRecipe {
    let mut overrides = vec![data_at("image.", data), "samples=20".into()];
    overrides.extend(SMALL.iter().map(|change| format!("image.{change}")));
    overrides.push("noise_stds=[0.5]".into());
    resolve(&overrides)
}

/// Some variants of heads, so small that all stages take seconds, on data in a folder.
pub fn tiny_heads_comparison(data: &Path, variants: &str) -> HeadsRecipe {
    resolve(&tiny_variants(data, "heads", variants))
}

/// Some variants of codecs, so small that all stages take seconds, on data in a folder.
pub fn tiny_latents_comparison(data: &Path, variants: &str) -> LatentsRecipe {
    resolve(&tiny_variants(data, "latents", variants))
}

fn tiny_variants(data: &Path, table: &str, variants: &str) -> Vec<String> {
    let mut overrides = vec![data_at("image.", data)];
    overrides.extend(SMALL.iter().map(|change| format!("image.{change}")));
    overrides.push(format!("{table}.samples=20"));
    overrides.push(format!("{table}.seeds=2"));
    overrides.push(format!("{table}.variants={variants}"));
    overrides
}
