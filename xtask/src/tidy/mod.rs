//! The house rules, as tests.
//!
//! A rule gathers its violations, each as `file:line: what`, and fails with all of them at once.
//! `docs/style.md` and `docs/architecture.md` say why the rules are what they are.

mod circles;
mod documents;
mod files;
mod lexer;
mod manifests;
mod overrides;
mod promises;
mod sources;

use std::fs;
use std::path::{Path, PathBuf};

use crate::cargo::project_root;

/// Folders with generated files.
const MADE: [&str; 4] = ["target", "runs", "__pycache__", ".git"];

/// A text file of the project.
struct TextFile {
    /// Relative to the root, with `/`.
    name: String,
    text: String,
}

impl TextFile {
    /// Lines with their numbers, counted from 1.
    fn lines(&self) -> impl Iterator<Item = (usize, &str)> {
        (1..).zip(self.text.lines())
    }

    fn has_extension(&self, extension: &str) -> bool {
        Path::new(&self.name)
            .extension()
            .is_some_and(|e| e == extension)
    }
}

/// All text files below a folder of the project, in the order of their names.
fn text_files(folder: &str) -> Vec<TextFile> {
    paths(&project_root().join(folder))
        .into_iter()
        .filter_map(|path| {
            let text = fs::read_to_string(&path).ok()?;
            Some(TextFile {
                name: relative(&path),
                text,
            })
        })
        .collect()
}

/// All files below a folder; none where there is no such folder.
fn paths(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for path in children(folder) {
        let name = path.file_name().unwrap_or_default();
        if path.is_symlink() || MADE.iter().any(|made| name == *made) {
            continue;
        }
        if path.is_dir() {
            found.extend(paths(&path));
        } else {
            found.push(path);
        }
    }
    found
}

/// The entries of a folder, sorted.
fn children(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten();
    let mut paths: Vec<PathBuf> = entries.filter_map(|e| Some(e.ok()?.path())).collect();
    paths.sort();
    paths
}

fn relative(path: &Path) -> String {
    let path = path.strip_prefix(project_root()).unwrap_or(path);
    path.to_string_lossy().replace('\\', "/")
}

/// Panics with the rule and all its violations, if there are any.
fn assert_none(rule: &str, violations: &[String]) {
    let count = violations.len();
    assert!(
        count == 0,
        "{rule}: {count} violation(s)\n  {}",
        violations.join("\n  ")
    );
}
