//! Rules for Rust files.

use std::collections::BTreeMap;

use super::lexer::{blank, functions};
use super::{TextFile, assert_none, text_files};

const MAX_FILE_LINES: usize = 500;
const MAX_FUNCTION_LINES: usize = 80;
const MAX_CRATE_LINES: usize = 6000;
const FORBIDDEN_MACROS: [&str; 3] = ["todo!", "unimplemented!", "dbg!"];
/// Sources of the programs, and of the arguments that they share.
const PROGRAMS: [&str; 3] = [
    "crates/latentlm-args/src/",
    "crates/latentlm-cli/src/",
    "xtask/src/",
];
/// Macros that panic if the terminal or pipe is closed; `eprintln!` contains the first, `eprint!` the second.
const PRINTING_MACROS: [&str; 2] = ["println!", "print!"];

pub(super) fn rust_files() -> Vec<TextFile> {
    let files: Vec<TextFile> = ["crates", "tests", "xtask"]
        .into_iter()
        .flat_map(text_files)
        .filter(|file| file.has_extension("rs"))
        .collect();
    assert!(files.len() > 20, "the sources lie elsewhere now");
    files
}

/// The part before the unit tests, whose length is not limited.
pub(super) fn without_tests(file: &TextFile) -> &str {
    let at = file
        .text
        .match_indices("#[cfg(")
        .find(|(at, _)| {
            let (mark, rest) = file.text[*at..].split_once('\n').unwrap_or_default();
            let is_test = mark == "#[cfg(test)]" || mark.starts_with("#[cfg(all(test,");
            is_test && rest.trim_start().starts_with("mod tests {")
        })
        .map_or(file.text.len(), |(at, _)| at);
    &file.text[..at]
}

/// The part that only tests compile, and the number of its first line.
fn tests_of(file: &TextFile) -> (usize, &str) {
    let start = if file.name.contains("tests/") || file.name.ends_with("/tests.rs") {
        0
    } else {
        without_tests(file).len()
    };
    let (before, tests) = file.text.split_at(start);
    (before.matches('\n').count() + 1, tests)
}

#[test]
fn every_file_says_what_it_is() {
    let violations: Vec<String> = rust_files()
        .iter()
        .filter(|file| !file.text.starts_with("//!"))
        .map(|file| format!("{}:1: starts without `//!`", file.name))
        .collect();
    assert_none("a file opens with `//!` and what it is for", &violations);
}

#[test]
fn files_are_short() {
    let violations: Vec<String> = rust_files()
        .iter()
        .map(|file| (file, without_tests(file).lines().count()))
        .filter(|(_, lines)| *lines > MAX_FILE_LINES)
        .map(|(file, lines)| format!("{}:{lines}: {lines} lines", file.name))
        .collect();
    assert_none(
        &format!("at most {MAX_FILE_LINES} lines before the tests"),
        &violations,
    );
}

/// Lines of code: neither blank nor a comment, and outside of what only tests compile.
fn code_lines(source: &str) -> usize {
    let mut count = 0;
    let mut lines = source.lines();
    while let Some(line) = lines.next() {
        let code = line.trim();
        if code.starts_with("#[cfg(test)]") {
            let item = lines.next().unwrap_or_default().trim();
            // A module in a file of its own is one line; other items end with a brace at the start of a line.
            if !(item.starts_with("mod ") && item.ends_with(';')) {
                for line in lines.by_ref() {
                    if line.starts_with('}') {
                        break;
                    }
                }
            }
        } else if !code.is_empty() && !code.starts_with("//") {
            count += 1;
        }
    }
    count
}

/// The crate whose library or program a file belongs to; none if only tests compile it.
fn crate_of(file: &TextFile) -> Option<&str> {
    let (name, path) = file.name.strip_prefix("crates/")?.split_once("/src/")?;
    let is_test =
        path.starts_with("tests/") || path.contains("/tests/") || path.ends_with("tests.rs");
    (!is_test).then_some(name)
}

#[test]
fn crates_are_small() {
    let files = rust_files();
    let mut sizes: BTreeMap<&str, usize> = BTreeMap::new();
    for file in &files {
        if let Some(name) = crate_of(file) {
            *sizes.entry(name).or_default() += code_lines(&file.text);
        }
    }
    let violations: Vec<String> = sizes
        .into_iter()
        .filter(|(_, lines)| *lines > MAX_CRATE_LINES)
        .map(|(name, lines)| format!("crates/{name}: {lines} lines"))
        .collect();
    assert_none(
        &format!("at most {MAX_CRATE_LINES} lines of code a crate"),
        &violations,
    );
}

#[test]
fn lines_of_code_are_counted_without_tests() {
    // The mark is put in afterwards: otherwise this file's tests would begin here.
    let source = "\
//! A file.

use std::fs;

// Why.
fn counted() {
    let x = 1; // counted
}

MARK
fn helper() {
    let x = 1;
}

MARK
mod elsewhere;

const ALSO: u8 = 1;

MARK
mod tests {
    fn inner() {}
}
";
    let source = source.replace("MARK", "#[cfg(test)]");
    assert_eq!(code_lines(&source), 5);
    let owner = |name: &str| {
        let (name, text) = (name.to_owned(), String::new());
        crate_of(&TextFile { name, text }).map(str::to_owned)
    };
    assert_eq!(owner("crates/a/src/b/c.rs").as_deref(), Some("a"));
    for name in [
        "crates/a/src/tests.rs",
        "crates/a/src/b/tests/c.rs",
        "crates/a/tests/b.rs",
        "xtask/src/a.rs",
    ] {
        assert_eq!(owner(name), None, "{name}");
    }
}

/// A file may declare at its top that its tests are in another file. What follows is code.
#[test]
fn tests_in_another_file_hide_no_code() {
    for mark in ["#[cfg(test)]\n", "#[cfg(all(test, unix))]\n"] {
        let file = TextFile {
            name: String::new(),
            text: format!("{mark}mod tests;\n\nuse crate::a;\n\n{mark}mod tests {{\n}}\n"),
        };
        assert!(without_tests(&file).ends_with("use crate::a;\n\n"));
    }
}

#[test]
fn functions_are_short() {
    let mut violations = Vec::new();
    for file in rust_files() {
        for function in functions(&blank(without_tests(&file))) {
            if function.lines > MAX_FUNCTION_LINES {
                let (name, line, lines) = (function.name, function.line, function.lines);
                violations.push(format!("{}:{line}: `{name}` has {lines} lines", file.name));
            }
        }
    }
    assert_none(
        &format!("at most {MAX_FUNCTION_LINES} lines a function"),
        &violations,
    );
}

/// All threads share the device's random generator, so a test that seeds it still depends on other tests.
#[test]
fn tests_do_not_share_a_generator() {
    let mut violations = Vec::new();
    for file in rust_files() {
        let (first, tests) = tests_of(&file);
        for (number, line) in (first..).zip(blank(tests).lines()) {
            if line.contains("device.seed(") || line.contains("default().seed(") {
                violations.push(format!("{}:{number}: {}", file.name, line.trim()));
            }
        }
    }
    assert_none(
        "tests draw weights with `latentlm_core::conformance::seeded`",
        &violations,
    );
}

#[test]
fn nothing_is_left_undone() {
    let mut violations = Vec::new();
    for file in rust_files() {
        for (number, line) in (1..).zip(blank(&file.text).lines()) {
            for name in FORBIDDEN_MACROS.iter().filter(|name| line.contains(**name)) {
                violations.push(format!("{}:{number}: `{name}`", file.name));
            }
        }
    }
    assert_none("no placeholders and no debugging left over", &violations);
}

/// `println!` panics if a pipe is closed or a disk is full.
#[test]
fn programs_print_without_panics() {
    let mut violations = Vec::new();
    for file in rust_files() {
        if !PROGRAMS.iter().any(|folder| file.name.starts_with(folder)) {
            continue;
        }
        for (number, line) in (1..).zip(blank(without_tests(&file)).lines()) {
            if PRINTING_MACROS.iter().any(|name| line.contains(name)) {
                violations.push(format!("{}:{number}: {}", file.name, line.trim()));
            }
        }
    }
    assert_none("programs print with `say!` and `tell!`", &violations);
}
