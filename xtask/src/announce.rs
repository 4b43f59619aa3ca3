//! Announces a build: for which device, why, and about how long it takes.
//!
//! Asking cargo whether there is anything to build takes a while. Instead, every finished build leaves a
//! stamp file beside the binary with the time of its start, and sources are compared with that time.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use latentlm_args::{DeviceKind, DeviceName};

/// Files in the root folder that a build depends on.
const MANIFESTS: [&str; 2] = ["Cargo.toml", "Cargo.lock"];

/// A build of the binary for some devices.
pub struct Build {
    root: PathBuf,
    /// Cargo's target folder.
    target: PathBuf,
    /// Backends besides the CPU's, in the order of [`DeviceKind::ALL`].
    backends: Vec<&'static str>,
    started: SystemTime,
}

impl Build {
    /// A build of the project in `root` into the folder `target` that starts now.
    pub fn begin(root: &Path, target: &Path, devices: &[DeviceName]) -> Self {
        Self {
            root: root.to_owned(),
            target: target.to_owned(),
            backends: backends(devices),
            started: SystemTime::now(),
        }
    }

    /// The announcement, or `None` if everything is up to date.
    pub fn announcement(&self) -> Option<String> {
        let what = if self.backends.is_empty() {
            "the CPU".to_owned()
        } else {
            self.backends.join(" and ")
        };
        let built = fs::metadata(self.stamp()).and_then(|stamp| stamp.modified());
        let Ok(built) = built else {
            return Some(format!(
                "building latentlm for {what}, once; Burn takes about 10 minutes on two cores"
            ));
        };
        if !self.binary().is_file() {
            return Some(format!(
                "building latentlm for {what}: {} is gone; what of Burn is left is used again",
                self.binary().display()
            ));
        }
        let changed = newer_source(&self.root, built)?;
        let changed = changed.strip_prefix(&self.root).unwrap_or(&changed);
        Some(format!(
            "building latentlm for {what} again: {} has changed; seconds to minutes, Burn is built",
            changed.display()
        ))
    }

    /// Writes the stamp after a successful build.
    pub fn finish(&self) {
        // Errors are harmless: without the stamp, the next build is announced needlessly.
        let stamp = File::create(self.stamp());
        let _ = stamp.and_then(|stamp| stamp.set_modified(self.started));
    }

    /// Path of the binary. Builds for all devices write to the same path.
    pub fn binary(&self) -> PathBuf {
        let name = format!("latentlm{}", std::env::consts::EXE_SUFFIX);
        self.target.join("debug").join(name)
    }

    fn stamp(&self) -> PathBuf {
        let mut name = vec![".latentlm-built"];
        name.extend(&self.backends);
        self.target.join("debug").join(name.join("-"))
    }
}

/// Backends that devices need besides the CPU's. Each is a cargo feature of the binary.
pub fn backends(devices: &[DeviceName]) -> Vec<&'static str> {
    let mut names = Vec::new();
    for kind in DeviceKind::ALL {
        if kind != DeviceKind::Cpu && devices.iter().any(|device| device.kind == kind) {
            names.push(kind.name());
        }
    }
    names
}

/// A source file of the binary that was changed after `moment`.
fn newer_source(root: &Path, moment: SystemTime) -> Option<PathBuf> {
    let manifests = MANIFESTS.map(|name| root.join(name));
    if let Some(manifest) = manifests.into_iter().find(|path| is_newer(path, moment)) {
        return Some(manifest);
    }
    let mut crates = children(&root.join("crates")).into_iter();
    crates.find_map(|folder| {
        let manifest = folder.join("Cargo.toml");
        if is_newer(&manifest, moment) {
            return Some(manifest);
        }
        newer_below(&folder.join("src"), moment)
    })
}

fn newer_below(folder: &Path, moment: SystemTime) -> Option<PathBuf> {
    children(folder).into_iter().find_map(|path| {
        if path.is_dir() {
            newer_below(&path, moment)
        } else {
            is_newer(&path, moment).then_some(path)
        }
    })
}

fn children(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
    paths.sort();
    paths
}

fn is_newer(path: &Path, moment: SystemTime) -> bool {
    let modified = fs::metadata(path).and_then(|file| file.modified());
    modified.is_ok_and(|modified| modified > moment)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// A file of a project, changed some seconds ago.
    fn file(root: &Path, name: &str, age: u64) {
        let path = root.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let when = SystemTime::now() - Duration::from_secs(age);
        File::create(path).unwrap().set_modified(when).unwrap();
    }

    fn build(root: &Path, devices: &str) -> Build {
        let devices = DeviceName::parse_list(devices).unwrap();
        Build::begin(root, &root.join("target"), &devices)
    }

    #[test]
    fn the_first_build_says_what_and_how_long() {
        let dir = tempfile::tempdir().unwrap();
        let first = build(dir.path(), "cpu").announcement().unwrap();
        assert_eq!(
            first,
            "building latentlm for the CPU, once; Burn takes about 10 minutes on two cores"
        );
        let cards = build(dir.path(), "cuda:0,1,wgpu").announcement().unwrap();
        assert!(cards.contains("for wgpu and cuda, once"), "{cards}");
    }

    #[test]
    fn a_build_that_is_fresh_says_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        for name in ["Cargo.toml", "Cargo.lock", "crates/a/Cargo.toml"] {
            file(root, name, 100);
        }
        file(root, "crates/a/src/deep/lib.rs", 100);
        let cpu = build(root, "cpu");
        file(
            root,
            &format!("target/debug/latentlm{}", std::env::consts::EXE_SUFFIX),
            50,
        );
        cpu.finish();
        assert_eq!(cpu.announcement(), None);
        // Another backend was never built.
        assert!(build(root, "vulkan").announcement().is_some());
        // Tests are no part of the binary.
        file(root, "crates/a/tests/all.rs", 0);
        assert_eq!(cpu.announcement(), None);

        let later = SystemTime::now() + Duration::from_secs(5);
        let source = File::options()
            .append(true)
            .open(root.join("crates/a/src/deep/lib.rs"));
        source.unwrap().set_modified(later).unwrap();
        let again = cpu.announcement().unwrap();
        let changed = Path::new("crates/a/src/deep/lib.rs").display().to_string();
        assert!(again.contains("for the CPU again: "), "{again}");
        assert!(again.contains(&changed), "{again}");

        fs::remove_file(cpu.binary()).unwrap();
        assert!(cpu.announcement().unwrap().contains("is gone"));
    }

    #[test]
    fn backends_stand_once_and_in_order() {
        let of = |names: &str| backends(&DeviceName::parse_list(names).unwrap());
        assert!(of("cpu,cpu").is_empty());
        assert_eq!(of("cuda:0,1,vulkan,cpu"), ["vulkan", "cuda"]);
    }
}
