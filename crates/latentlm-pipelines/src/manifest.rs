//! The description of a checkpoint: `manifest.json`.

use std::fs::File;
use std::io;
use std::path::Path;

use latentlm::core::bounds::check_values;
use latentlm::core::bundle::io_error;
use latentlm::core::disk::bytes_within;
use latentlm_data::sha256;
use serde::de::{DeserializeOwned, IgnoredAny};
use serde::{Deserialize, Serialize};

use crate::error::{PipelineError, Result};
use crate::integrity::{FileSums, MANIFEST};
use crate::recipe::Recipe;

/// Version of the checkpoint format; a change of it refuses older checkpoints with a clear line.
const FORMAT_VERSION: u32 = 1;
/// Largest size of a manifest in bytes.
const MOST_BYTES: u64 = 16 << 20;
/// Most values in it: in memory a value is many times larger than its text. Names of classes are one each, all others a
/// few hundred.
const MOST_VALUES: usize = 500_000;

/// Steps of a stage that changed no weight, because their gradients were not finite.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SkippedSteps {
    /// Number of all of them.
    pub total: u64,
    /// The steps among the last ones that decide whether training ends.
    pub recent: Vec<u64>,
}

impl SkippedSteps {
    fn is_none(&self) -> bool {
        self.total == 0 && self.recent.is_empty()
    }
}

/// The description of a checkpoint.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Manifest<R> {
    /// Version of the format.
    pub format_version: u32,
    /// Version of this project.
    pub crate_version: String,
    /// Version of Burn.
    pub burn_version: String,
    /// `codec` or `lm`.
    pub stage: String,
    /// Optimizer steps taken.
    pub step: u64,
    /// The seed; with the step it is the whole random state.
    pub seed: u64,
    /// Names of the classes; empty for a model of texts.
    #[serde(default)]
    pub classes: Vec<String>,
    /// Hash of the training data.
    pub dataset_fingerprint: String,
    /// Bias and scale of the latents' whitening, once known.
    pub whitening: Option<[f32; 2]>,
    /// Steps so far that changed nothing; none in manifests of older versions.
    #[serde(default, skip_serializing_if = "SkippedSteps::is_none")]
    pub skipped_steps: SkippedSteps,
    /// Sizes and hashes of the other files of the checkpoint; empty in manifests of older versions.
    #[serde(default)]
    pub files: FileSums,
    /// SHA-256 of the manifest with this field left empty; empty in manifests of older versions.
    #[serde(default)]
    pub checksum: String,
    /// The recipe, complete.
    pub recipe: R,
}

impl<R: Recipe> Manifest<R> {
    /// The manifest of a stage at step 0.
    pub fn new(stage: &str, recipe: &R, classes: &[String], fingerprint: &str) -> Self {
        Self {
            format_version: FORMAT_VERSION,
            crate_version: env!("CARGO_PKG_VERSION").into(),
            burn_version: "0.22.1".into(),
            stage: stage.into(),
            step: 0,
            seed: recipe.seed(),
            classes: classes.to_vec(),
            dataset_fingerprint: fingerprint.into(),
            whitening: None,
            skipped_steps: SkippedSteps::default(),
            files: FileSums::new(),
            checksum: String::new(),
            recipe: recipe.clone(),
        }
    }

    /// Reads a checkpoint's manifest.
    ///
    /// # Errors
    /// If the manifest is missing, damaged or of another format.
    pub fn read(folder: &Path) -> Result<Self> {
        let path = folder.join(MANIFEST);
        let bytes = manifest_bytes(folder).map_err(io_error("read", &path))?;
        Self::from_bytes(&bytes, &path)
    }

    /// Reads the bytes of a manifest; errors call them `name`.
    ///
    /// # Errors
    /// If they are damaged or of another format.
    pub fn from_bytes(bytes: &[u8], name: &Path) -> Result<Self> {
        Self::parse(bytes).map_err(|reason| PipelineError::Run(name.to_owned(), reason))
    }
}

/// A manifest whose recipe may be of any kind: it is not read.
pub(crate) type AnyManifest = Manifest<IgnoredAny>;

impl<R: DeserializeOwned> Manifest<R> {
    /// Reads the bytes of a manifest. Those of older versions have no checksum of themselves.
    ///
    /// # Errors
    /// The damage, or that they are of another format.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, String> {
        let manifest: Self =
            parsed(bytes).map_err(|reason| format!("damaged manifest: {reason}"))?;
        if !manifest.checksum.is_empty() && manifest.checksum != own_checksum(bytes) {
            return Err("damaged manifest: its checksum differs".into());
        }
        let version = manifest.format_version;
        if version != FORMAT_VERSION {
            return Err(format!(
                "checkpoint format {version}, this program reads {FORMAT_VERSION}"
            ));
        }
        Ok(manifest)
    }
}

/// The bytes of the manifest in a checkpoint's folder.
///
/// # Errors
/// If it can't be read, or is larger than any.
pub(crate) fn manifest_bytes(folder: &Path) -> io::Result<Vec<u8>> {
    bytes_within(File::open(folder.join(MANIFEST))?, MOST_BYTES)
}

/// A manifest as it is written, of any version.
///
/// # Errors
/// What is wrong with it, or that it is larger than any.
pub(crate) fn parsed<R: DeserializeOwned>(bytes: &[u8]) -> Result<Manifest<R>, String> {
    if bytes.len() as u64 > MOST_BYTES {
        return Err(format!("it has more than {MOST_BYTES} bytes"));
    }
    check_values(bytes, MOST_VALUES).map_err(|error| format!("it {error}"))?;
    serde_json::from_slice(bytes).map_err(|error| error.to_string())
}

/// SHA-256 of the manifest with its own hash field left empty.
pub(crate) fn own_checksum(json: &[u8]) -> String {
    let text = String::from_utf8_lossy(json);
    let key = "\"checksum\": \"";
    let Some((before, rest)) = text.split_once(key) else {
        return sha256(json);
    };
    let rest = rest.trim_start_matches(|digit: char| digit.is_ascii_hexdigit());
    sha256(format!("{before}{key}{rest}").as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::ImageRecipe;

    /// Keys that no recipe has take memory too, many times that of their text.
    #[test]
    fn a_manifest_that_asks_for_too_much_memory_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let read = |bytes: &[u8]| {
            std::fs::write(dir.path().join(MANIFEST), bytes).unwrap();
            let error = Manifest::<ImageRecipe>::read(dir.path()).unwrap_err();
            error.to_string()
        };
        let many = |count: usize| {
            let keys = "\"k\":0,".repeat(count);
            format!("{{\"recipe\": {{\"lm\": {{{keys}\"k\":0}}}}}}")
        };
        let message = read(many(250_000).as_bytes());
        let part = "damaged manifest: it has 500027 values";
        assert!(message.contains(part), "{message}");
        // As many as are read, without the others that there are.
        let message = read(many(249_900).as_bytes());
        assert!(message.contains("damaged manifest"), "{message}");
        assert!(!message.contains("that are read"), "{message}");
        let blanks = vec![b' '; MOST_BYTES as usize + 1];
        let message = read(&blanks);
        assert!(message.contains("more than 16777216 bytes"), "{message}");
        let message = Manifest::<ImageRecipe>::parse(&blanks).unwrap_err();
        assert_eq!(message, "damaged manifest: it has more than 16777216 bytes");
    }

    /// Those of a model of all classes of ImageNet-21k are read.
    #[test]
    fn many_classes_are_read() {
        let classes: Vec<String> = (0..21_843).map(|class| format!("n{class:08}")).collect();
        let manifest = Manifest::new("lm", &ImageRecipe::default(), &classes, "f");
        let json = serde_json::to_vec_pretty(&manifest).unwrap();
        let read = Manifest::<ImageRecipe>::parse(&json).unwrap();
        assert_eq!(read, manifest);
    }
}
