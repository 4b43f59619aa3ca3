//! Rules for documents: the paths, links and commands in them exist.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use clap::Parser;
use clap::error::ErrorKind;

use super::{MADE, TextFile, assert_none, children, paths, relative, text_files};
use crate::Cli;
use crate::asides::Aside;
use crate::cargo::project_root;

/// Documents that tell of earlier versions, with the names of then.
const HISTORY: [&str; 2] = ["CHANGELOG.md", "docs/log.md"];
/// The page that names files by the crates of the heading or row where they stand.
const MAP: &str = "docs/architecture.md";

fn documents() -> Vec<TextFile> {
    let mut files = text_files("");
    files.retain(|file| file.has_extension("md") && !HISTORY.contains(&file.name.as_str()));
    assert!(files.len() > 20, "the documents lie elsewhere now");
    files
}

/// The lines that are no code, with their numbers.
fn prose(text: &str) -> Vec<(usize, &str)> {
    let (mut lines, mut in_code) = (Vec::new(), false);
    for (number, line) in (1..).zip(text.lines()) {
        if line.trim_start().starts_with("```") {
            in_code = !in_code;
        } else if !in_code {
            lines.push((number, line));
        }
    }
    lines
}

/// The words between backticks.
fn quoted(line: &str) -> impl Iterator<Item = &str> {
    line.split('`').skip(1).step_by(2)
}

/// The targets of links to files.
fn links(line: &str) -> impl Iterator<Item = &str> {
    let targets = line.split("](").skip(1);
    let targets = targets.filter_map(|rest| rest.split(')').next());
    let files = targets.filter(|target| !target.starts_with("http") && !target.starts_with('#'));
    files.filter_map(|target| target.split('#').next())
}

/// Names in a folder, without those of generated folders.
fn names_in(folder: &Path) -> BTreeSet<String> {
    let names = children(folder).into_iter().filter_map(|path| {
        let name = path.file_name()?.to_str()?.to_owned();
        (!MADE.contains(&name.as_str())).then_some(name)
    });
    names.collect()
}

fn crates() -> BTreeSet<String> {
    names_in(&project_root().join("crates"))
}

/// Whether a word is a path that begins at the root or with the name of a crate.
fn is_path(word: &str, tops: &BTreeSet<String>) -> bool {
    let has_letters_of_paths = word
        .chars()
        .all(|c| c.is_ascii_alphanumeric() || "_-./".contains(c));
    let first = word.split_once('/').map(|(first, _)| first);
    has_letters_of_paths && first.is_some_and(|first| tops.contains(first))
}

/// Whether a path exists: from the root, in `crates`, beside the document, or in the sources of a crate
/// (`latentlm-core/order.rs`).
fn exists(document: &str, path: &str) -> bool {
    let root = project_root();
    let beside = Path::new(document).parent().unwrap_or(Path::new(""));
    let mut places: Vec<PathBuf> = vec![
        root.join(path),
        root.join("crates").join(path),
        root.join(beside).join(path),
    ];
    let in_crate = path.strip_prefix("crates/").unwrap_or(path);
    if let Some((name, rest)) = in_crate.split_once('/') {
        places.push(root.join("crates").join(name).join("src").join(rest));
    }
    places.iter().any(|place| place.exists())
}

#[test]
fn paths_and_links_in_documents_exist() {
    let mut tops = names_in(project_root());
    tops.extend(crates());
    let (mut violations, mut count) = (Vec::new(), 0);
    for file in documents() {
        let folder = Path::new(&file.name).parent().unwrap_or(Path::new(""));
        for (number, line) in prose(&file.text) {
            for word in quoted(line).filter(|word| is_path(word, &tops)) {
                count += 1;
                if !exists(&file.name, word) {
                    violations.push(format!("{}:{number}: no `{word}`", file.name));
                }
            }
            for target in links(line) {
                count += 1;
                if !project_root().join(folder).join(target).exists() {
                    violations.push(format!("{}:{number}: no {target}", file.name));
                }
            }
        }
    }
    assert!(count > 300, "only {count} paths and links were found");
    assert_none("paths and links in documents exist", &violations);
}

/// The crates in words of the map, by their names or by paths in them.
fn crates_in<'a>(words: &[&'a str], crates: &BTreeSet<String>) -> Vec<&'a str> {
    let named = words.iter().map(|&word| {
        let word = word.strip_prefix("crates/").unwrap_or(word);
        word.split_once('/').map_or(word, |(name, _)| name)
    });
    named.filter(|name| crates.contains(*name)).collect()
}

#[test]
fn files_of_the_map_exist() {
    let crates = crates();
    let text = std::fs::read_to_string(project_root().join(MAP)).unwrap();
    let (mut violations, mut count, mut heading) = (Vec::new(), 0, Vec::new());
    for (number, line) in prose(&text) {
        let words: Vec<&str> = quoted(line).collect();
        if line.starts_with('#') {
            heading = crates_in(&words, &crates);
        }
        let mut owners = crates_in(&words, &crates);
        owners.extend(&heading);
        let files = words.iter().filter(|word| word.ends_with(".rs"));
        for word in files.filter(|word| !exists(MAP, word)) {
            count += 1;
            let ending = format!("/{word}");
            let is_there = owners.iter().any(|name| {
                let files = paths(&project_root().join("crates").join(name));
                files.iter().any(|path| relative(path).ends_with(&ending))
            });
            if !is_there {
                violations.push(format!("{MAP}:{number}: no `{word}` in {owners:?}"));
            }
        }
    }
    assert!(count > 100, "only {count} files were found");
    assert_none(
        "files of the map lie in the crates beside them",
        &violations,
    );
}

/// The words of a command as a shell has them, up to the end of the code, a comment, or what it is joined with.
fn words_of(command: &str) -> Vec<String> {
    let (mut words, mut word, mut quote) = (Vec::new(), String::new(), None);
    for c in command.chars() {
        if quote == Some(c) {
            quote = None;
        } else if quote.is_some() {
            word.push(c);
        } else if c == '"' || c == '\'' {
            quote = Some(c);
        } else if "`#|;&\n".contains(c) {
            break;
        } else if c.is_whitespace() {
            words.push(std::mem::take(&mut word));
        } else {
            word.push(c);
        }
    }
    words.push(word);
    words.retain(|word| !word.is_empty());
    words
}

/// Commands in a text that don't exist or lack a flag. Values may be placeholders.
fn wrong_commands(name: &str, text: &str) -> Vec<String> {
    let text = text.replace("\\\n", " ");
    let mut found = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        for command in line.split("cargo xtask ").skip(1) {
            let words = words_of(command);
            let mut typed: Vec<OsString> = words.iter().map(OsString::from).collect();
            // Flags that only xtask knows.
            if typed.is_empty() || Aside::take(&mut typed).is_err() {
                continue;
            }
            let program = OsString::from("cargo xtask");
            let Err(error) = Cli::try_parse_from(std::iter::once(program).chain(typed)) else {
                continue;
            };
            let wrong = [ErrorKind::InvalidSubcommand, ErrorKind::UnknownArgument];
            if wrong.contains(&error.kind()) {
                let words = words.join(" ");
                found.push(format!("{name}, about line {number}: cargo xtask {words}"));
            }
        }
    }
    found
}

#[test]
fn commands_in_documents_exist() {
    let mut violations = Vec::new();
    for file in documents() {
        violations.extend(wrong_commands(&file.name, &file.text));
    }
    assert_none("commands and flags in documents exist", &violations);
}

#[test]
fn wrong_names_in_documents_are_found() {
    let tops = BTreeSet::from(["docs", "latentlm-core"].map(str::to_owned));
    let line = "Not `a b/c`, `docs`, `other/x`, but `docs/x.md`, `latentlm-core/src/x.rs`; [a](b.md#c), [d](#e)";
    let found: Vec<&str> = quoted(line).filter(|word| is_path(word, &tops)).collect();
    assert_eq!(found, ["docs/x.md", "latentlm-core/src/x.rs"]);
    assert_eq!(links(line).collect::<Vec<_>>(), ["b.md"]);
    assert!(exists("docs/style.md", "architecture.md") && exists("", "latentlm-core/order.rs"));
    assert!(!exists("docs/style.md", "latentlm-core/no.rs"));
    assert_eq!(prose("a\n```sh\nb\n```\nc"), [(1, "a"), (5, "c")]);
    let text = "`cargo xtask test NAME`, `cargo xtask data check --no-flag`\n\
                cargo xtask train-image \\\n  --run mine # cargo xtask train-picture\n\
                cargo xtask no-command \"a ; b\"; cargo xtask speak --text 'a --b'";
    let found = wrong_commands("a.md", text);
    let expected = [
        "a.md, about line 1: cargo xtask data check --no-flag",
        "a.md, about line 2: cargo xtask train-picture",
        "a.md, about line 3: cargo xtask no-command a ; b",
    ];
    assert_eq!(found, expected);
}
