//! What the tests of this package share.

use std::path::{Path, PathBuf};

use latentlm_train::{ImageRecipe, Recipe};

/// A file of the repository.
pub fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)
}

/// The default recipe made so small that both stages take seconds.
pub fn tiny_recipe(changes: &[&str]) -> ImageRecipe {
    let data = repository("datasets/mnist");
    let mut overrides = vec![format!("data.path={}", data.display())];
    let small = [
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
    overrides.extend(small.iter().chain(changes).map(ToString::to_string));
    match ImageRecipe::resolve(None, &overrides) {
        Ok(recipe) => recipe,
        Err(error) => panic!("the tiny recipe: {error}"),
    }
}
