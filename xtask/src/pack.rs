//! Packs an archive for a machine with a GPU: binary, recipes, data, reference cases and checks.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use latentlm_args::say;

use crate::cargo::{project_root, succeed};

/// Top folder inside the archive.
const NAME: &str = "latentlm-gpu";
/// Largest size of the archive in bytes.
const LARGEST_BYTES: u64 = 64 << 20;
/// Folders and files of the repository that are packed; `xtask/gpu/check` finds them by these names.
const WANTED: [&str; 7] = [
    "LICENSE-APACHE",
    "LICENSE-MIT",
    "configs",
    "datasets",
    "tests/fixtures",
    "xtask/gpu",
    "xtask/pytorch",
];

/// Writes the archive. `devices` and the commit are written into `build.txt`.
///
/// # Errors
/// If a file can't be read or written, `tar` or `xz` is missing, or the archive is too large.
pub fn write(file: &Path, binary: &Path, devices: &str) -> Result<()> {
    let stage = project_root().join("target/pack");
    if stage.exists() {
        fs::remove_dir_all(&stage).with_context(|| format!("cannot remove {}", stage.display()))?;
    }
    let folder = stage.join(NAME);
    for name in WANTED {
        copy(&project_root().join(name), &folder.join(name))?;
    }
    copy(binary, &folder.join("latentlm"))?;
    let about = format!("commit {}\ndevices {devices}\n", commit());
    let path = folder.join("build.txt");
    fs::write(&path, about).with_context(|| format!("cannot write {}", path.display()))?;
    if let Some(parent) = file.parent() {
        fs::create_dir_all(parent)
            .with_context(|| format!("cannot create {}", parent.display()))?;
    }
    let mut tar = Command::new("tar");
    // Compresses on all cores, unless the user has set other options.
    if std::env::var_os("XZ_OPT").is_none() {
        tar.env("XZ_OPT", "-T0");
    }
    tar.args(["--create", "--xz", "--file"]).arg(file);
    tar.arg("--directory").arg(&stage).arg(NAME);
    succeed(&mut tar)?;
    let bytes = fs::metadata(file)
        .with_context(|| format!("cannot read {}", file.display()))?
        .len();
    say!("packed {:.1} MiB", bytes as f64 / f64::from(1 << 20));
    ensure!(
        bytes <= LARGEST_BYTES,
        "{} has more than {} MiB",
        file.display(),
        LARGEST_BYTES >> 20
    );
    Ok(())
}

/// Copies a file or a whole folder with permissions, except what Python makes.
fn copy(from: &Path, to: &Path) -> Result<()> {
    let failed = || format!("cannot copy {}", from.display());
    if from.is_dir() {
        fs::create_dir_all(to).with_context(failed)?;
        for entry in fs::read_dir(from).with_context(failed)? {
            let name = entry.with_context(failed)?.file_name();
            if name != "__pycache__" {
                copy(&from.join(&name), &to.join(&name))?;
            }
        }
        return Ok(());
    }
    if let Some(parent) = to.parent() {
        fs::create_dir_all(parent).with_context(failed)?;
    }
    fs::copy(from, to).with_context(failed)?;
    Ok(())
}

/// The sources' commit as `git describe` names it, or `unknown`.
fn commit() -> String {
    let output = Command::new("git")
        .args(["describe", "--always", "--dirty"])
        .current_dir(project_root())
        .output();
    match output {
        Ok(output) if output.status.success() => {
            String::from_utf8_lossy(&output.stdout).trim().to_owned()
        }
        _ => "unknown".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_that_is_packed_is_there() {
        for name in WANTED {
            assert!(project_root().join(name).exists(), "{name}");
        }
    }

    /// Folders are copied with their content, except files that Python makes.
    #[test]
    fn folders_are_copied_without_what_python_made() {
        let root = std::env::temp_dir().join(format!("latentlm-pack-{}", std::process::id()));
        let from = root.join("from");
        fs::create_dir_all(from.join("inner/__pycache__")).unwrap();
        fs::write(from.join("inner/kept.py"), "kept").unwrap();
        fs::write(from.join("inner/__pycache__/made"), "made").unwrap();
        copy(&from, &root.join("to/deep")).unwrap();
        let kept = fs::read_to_string(root.join("to/deep/inner/kept.py"));
        let made = root.join("to/deep/inner/__pycache__").exists();
        let missing = copy(&from.join("none"), &root.join("to/none")).is_err();
        fs::remove_dir_all(&root).unwrap();
        assert_eq!(kept.unwrap(), "kept");
        assert!(!made && missing);
    }
}
