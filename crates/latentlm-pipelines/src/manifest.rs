//! The description of a checkpoint: `manifest.json`.

use std::fs;
use std::path::Path;

use latentlm::core::bundle::io_error;
use latentlm_data::sha256;
use serde::de::{DeserializeOwned, IgnoredAny};
use serde::{Deserialize, Serialize};

use crate::error::{PipelineError, Result};
use crate::integrity::{FileSums, MANIFEST};
use crate::recipe::Recipe;

/// Version of the checkpoint format; a change of it refuses older checkpoints with a clear line.
const FORMAT_VERSION: u32 = 1;

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
        let bytes = fs::read(&path).map_err(io_error("read", &path))?;
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
            serde_json::from_slice(bytes).map_err(|error| format!("damaged manifest: {error}"))?;
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
