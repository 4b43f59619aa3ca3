//! Tells the program which commit its sources are at, where they lie in a repository of their own.
//!
//! A commit of sources that are built already builds nothing anew: what `cargo xtask` tells when it runs the program goes first.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The root folder; this runs in the folder of its package.
const ROOT: &str = "../..";
/// What the program is built from, below the root folder.
const SOURCES: [&str; 3] = ["Cargo.toml", "Cargo.lock", "crates"];

fn main() {
    for path in watched() {
        println!("cargo::rerun-if-changed={}", path.display());
    }
    if let Some(commit) = commit() {
        println!("cargo::rustc-env=LATENTLM_BUILT_FROM={commit}");
    }
}

/// Files and folders whose changes build the program anew anyway: those of all crates but their tests.
fn watched() -> Vec<PathBuf> {
    let mut watched = vec![Path::new(ROOT).join("Cargo.lock")];
    for folder in fs::read_dir("..").into_iter().flatten().flatten() {
        let inside = fs::read_dir(folder.path()).into_iter().flatten().flatten();
        watched.extend(
            inside
                .filter(|entry| entry.file_name() != "tests")
                .map(|entry| entry.path()),
        );
    }
    watched.retain(|path| path.exists());
    watched.sort();
    watched
}

/// The commit, and whether the sources differ from it; `None` without git.
fn commit() -> Option<String> {
    // Sources without a repository may lie within another one.
    let top = PathBuf::from(git(&["rev-parse", "--show-toplevel"])?);
    if top.canonicalize().ok()? != Path::new(ROOT).canonicalize().ok()? {
        return None;
    }
    let commit = git(&["rev-parse", "--short=12", "HEAD"])?;
    let status = ["status", "--porcelain", "--untracked-files=no", "--"];
    let changes = git(&[&status[..], &SOURCES].concat())?;
    let with = if changes.is_empty() {
        ""
    } else {
        " with changes"
    };
    Some(format!("{commit}{with}"))
}

fn git(words: &[&str]) -> Option<String> {
    let output = Command::new("git").current_dir(ROOT).args(words).output();
    let output = output.ok().filter(|output| output.status.success())?;
    Some(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
