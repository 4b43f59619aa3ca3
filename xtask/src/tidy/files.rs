//! Rules for recipes, datasets and documents, and for text that no file may contain.

use std::fs;

use super::{TextFile, assert_none, children, paths, relative, text_files};
use crate::cargo::project_root;

const MAX_DATASET_BYTES: u64 = 8_000_000;

/// Texts that tie the project to one machine or mirror. Each is cut in two, otherwise this file would match.
fn machine_needles() -> Vec<String> {
    [
        ("/", "root/"),
        ("/", "home/"),
        ("/", "work/"),
        ("/", "Users/"),
        ("C:", "\\Users"),
        ("local", "host:"),
        ("127.", "0.0.1"),
        ("registry", ".npmjs"),
        ("registry", ".yarnpkg"),
        ("files.", "pythonhosted"),
        ("pypi.", "org/simple"),
        ("index.", "crates.io"),
        ("static.", "crates.io"),
        ("proxy.", "golang"),
    ]
    .into_iter()
    .map(|(head, tail)| format!("{head}{tail}"))
    .collect()
}

/// Whether a line contains a needle. A path must begin there: `a/home/b` is not a machine's path.
fn contains(line: &str, needle: &str) -> bool {
    line.match_indices(needle).any(|(at, _)| {
        let before = line[..at].chars().next_back().unwrap_or(' ');
        !needle.starts_with('/') || !(before.is_alphanumeric() || "._-~$}/".contains(before))
    })
}

#[test]
fn no_file_knows_a_machine() {
    let needles = machine_needles();
    let mut violations = Vec::new();
    for file in text_files("") {
        for (number, line) in file.lines() {
            for needle in needles.iter().filter(|needle| contains(line, needle)) {
                violations.push(format!("{}:{number}: `{needle}`", file.name));
            }
        }
    }
    assert_none("no paths of a machine, no hosts of a registry", &violations);
}

/// Lines that set a key, with their numbers. The inner lines of lists are left out.
fn keys(file: &TextFile) -> Vec<(usize, &str)> {
    let mut open = 0i64;
    let mut found = Vec::new();
    for (number, line) in file.lines() {
        let code = line.split('#').next().unwrap_or_default();
        if open == 0 && code.contains('=') {
            found.push((number, line));
        }
        open += code.matches('[').count() as i64 - code.matches(']').count() as i64;
    }
    found
}

#[test]
fn every_key_of_a_recipe_is_explained() {
    let recipes: Vec<TextFile> = text_files("configs")
        .into_iter()
        .filter(|file| file.has_extension("toml"))
        .collect();
    assert!(!recipes.is_empty(), "configs/ holds no recipe");
    let mut violations = Vec::new();
    for file in &recipes {
        let lines: Vec<&str> = file.text.lines().collect();
        for (number, line) in keys(file) {
            let above = number
                .checked_sub(2)
                .map_or("", |at| lines[at].trim_start());
            if !line.contains('#') && !above.starts_with('#') {
                violations.push(format!("{}:{number}: {line}", file.name));
            }
        }
    }
    assert_none(
        "each key has a comment on its line or above it",
        &violations,
    );
}

#[test]
fn the_changelog_is_open() {
    let changelog = text_files("")
        .into_iter()
        .find(|file| file.name == "CHANGELOG.md");
    let open = changelog.is_some_and(|file| file.lines().any(|(_, l)| l == "## [Unreleased]"));
    let violation = (!open).then(|| "CHANGELOG.md:1: lacks `## [Unreleased]`".to_owned());
    assert_none("the changelog has an open section", violation.as_slice());
}

#[test]
fn datasets_say_where_they_come_from() {
    let folder = project_root().join("datasets");
    let mut violations = Vec::new();
    for dataset in children(&folder).iter().filter(|path| path.is_dir()) {
        let readme = dataset.join("README.md");
        let text = fs::read_to_string(&readme).unwrap_or_default();
        for word in ["Licence", "sha256"]
            .iter()
            .filter(|word| !text.contains(**word))
        {
            violations.push(format!("{}:1: does not say `{word}`", relative(&readme)));
        }
    }
    assert_none(
        "a dataset has a README.md with licence and hashes",
        &violations,
    );
}

#[test]
fn datasets_are_small() {
    let folders = children(&project_root().join("datasets"));
    assert!(!folders.is_empty(), "datasets/ is empty");
    let mut large = Vec::new();
    for folder in &folders {
        let mut bytes = 0;
        for path in paths(folder) {
            bytes += path.metadata().map_or(0, |file| file.len());
        }
        if bytes > MAX_DATASET_BYTES {
            large.push(format!("{}: {bytes} bytes", relative(folder)));
        }
    }
    assert_none("a dataset has at most 8 MB", &large);
}

#[test]
fn needles_match_paths_and_nothing_else() {
    let path = ["/", "home/"].concat();
    assert!(contains(&format!("open(\"{path}x\")"), &path));
    assert!(!contains(&format!("https://example.org{path}x"), &path));
}
