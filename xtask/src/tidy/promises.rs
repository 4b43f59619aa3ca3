//! Rule for the page of promises: the tests that it names exist.

use std::fs;

use super::{assert_none, text_files};
use crate::cargo::project_root;

const PAGE: &str = "docs/promises.md";

/// A test in a text, written as `` `latentlm-data::name_of_the_test` ``.
#[derive(Debug, PartialEq, Eq)]
struct Named<'a> {
    package: &'a str,
    test: &'a str,
}

/// The tests in a text. Commands and paths of other crates are none.
fn named_in(text: &str) -> Vec<Named<'_>> {
    // Every other part stands between backticks.
    let quoted = text.split('`').skip(1).step_by(2);
    let parts = quoted.filter_map(|word| word.split_once("::"));
    let ours = parts.filter(|(package, _)| package.starts_with("latentlm") || *package == "xtask");
    ours.map(|(package, test)| Named { package, test })
        .collect()
}

/// The folder of a package.
fn folder_of(package: &str) -> String {
    match package {
        "xtask" => "xtask".to_owned(),
        "latentlm-tests" => "tests".to_owned(),
        other => format!("crates/{other}"),
    }
}

/// Whether a source has a test of this name: a function below the attribute, with others or comments between.
fn has_test(source: &str, name: &str) -> bool {
    let function = format!("fn {name}(");
    let mut is_test = false;
    for line in source.lines().map(str::trim_start) {
        if line.starts_with("#[test]") {
            is_test = true;
        } else if is_test && line.starts_with(&function) {
            return true;
        } else if !line.starts_with("#[") && !line.starts_with("//") {
            is_test = false;
        }
    }
    false
}

#[test]
fn tests_of_promises_exist() {
    let page = fs::read_to_string(project_root().join(PAGE)).unwrap();
    let (mut violations, mut count) = (Vec::new(), 0);
    for (number, line) in (1..).zip(page.lines()) {
        let named = named_in(line);
        let is_row = line.starts_with("| ") && !line.starts_with("| Promise");
        if is_row && named.is_empty() {
            violations.push(format!("{PAGE}:{number}: a promise without a test"));
        }
        for Named { package, test } in named {
            count += 1;
            let sources = text_files(&folder_of(package));
            let mut sources = sources.iter().filter(|file| file.has_extension("rs"));
            if !sources.any(|file| has_test(&file.text, test)) {
                violations.push(format!("{PAGE}:{number}: no test `{test}` in `{package}`"));
            }
        }
    }
    assert!(count > 50, "only {count} tests were found");
    assert_none("each promise names tests that exist", &violations);
}

#[test]
fn tests_are_told_from_other_words() {
    let text = "`latentlm-core::a_b`, `cargo xtask fuzz`, `std::fs`, `xtask::c`";
    let named = named_in(text);
    let expected = [("latentlm-core", "a_b"), ("xtask", "c")];
    let expected = expected.map(|(package, test)| Named { package, test });
    assert_eq!(named, expected);
    let source = "#[cfg(unix)]\n    #[test]\n    /// x\n    fn a_b() {\n    }\nfn c() {}\n";
    assert!(has_test(source, "a_b") && !has_test(source, "a"));
    assert!(!has_test(source, "c"));
}
