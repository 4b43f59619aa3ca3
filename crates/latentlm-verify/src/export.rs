//! Verifies the export: loaded weights are written under the reference's names and compared byte by byte.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use burn::store::bridge::to_data;
use burn::store::burn_pack::Tensor as Stored;
use burn::store::{ModuleStore, SafetensorsStore};
use burn::tensor::DType;
use latentlm::core::bounds::check_header_of;
use latentlm_published::{PretrainedError, StoredDType};

use crate::error::VerifyError;
use crate::report::Report;

/// Exports the weights with `save` into a temporary folder, in their stored type, and counts the tensors
/// that differ from those in `original`.
pub(crate) fn check(
    original: &Path,
    report: &mut Report,
    save: impl FnOnce(&Path, StoredDType) -> Result<(), PretrainedError>,
) -> Result<(), VerifyError> {
    let theirs = read(original)?;
    let scratch = tempfile::tempdir().map_err(|source| VerifyError::Read {
        path: std::env::temp_dir(),
        source,
    })?;
    let dtype = match theirs.values().next().map(|tensor| tensor.dtype) {
        Some(DType::BF16) => StoredDType::Bfloat16,
        Some(DType::F16) => StoredDType::Float16,
        _ => StoredDType::Float32,
    };
    let folder = scratch.path().join("export");
    save(&folder, dtype)?;
    let ours = read(&folder)?;
    let data = |folder: &Path, tensor: &Stored| to_data(tensor).map_err(|e| wrong(folder, &e));
    let unknown = ours.keys().filter(|name| !theirs.contains_key(*name));
    let mut different = unknown.count();
    for (name, tensor) in &theirs {
        let same = match ours.get(name) {
            Some(ours) => data(&folder, ours)? == data(original, tensor)?,
            None => false,
        };
        different += usize::from(!same);
    }
    report.equal("exported tensors that differ", different);
    Ok(())
}

/// Reads the tensors of `model.safetensors` or of all its shards.
fn read(folder: &Path) -> Result<BTreeMap<String, Stored>, VerifyError> {
    let entries = fs::read_dir(folder).map_err(|source| VerifyError::Read {
        path: folder.to_owned(),
        source,
    })?;
    let mut tensors = BTreeMap::new();
    for file in entries.filter_map(|entry| Some(entry.ok()?.path())) {
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        if name.starts_with("model") && name.ends_with(".safetensors") {
            let checked = check_header_of(&file);
            checked.map_err(|error| wrong(&file, &format!("its header {error}")))?;
            let mut store = SafetensorsStore::from_file(&file);
            let found = store.get_all_tensors().map_err(|e| wrong(&file, &e))?;
            tensors.extend(found.clone());
        }
    }
    Ok(tensors)
}

fn wrong(path: &Path, error: &dyn std::fmt::Display) -> VerifyError {
    VerifyError::Case {
        path: path.to_owned(),
        reason: error.to_string(),
    }
}
