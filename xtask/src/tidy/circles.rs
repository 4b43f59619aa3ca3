//! Rule for modules that import each other in circles: neither can be read, moved or tested without the other.
//!
//! Only paths in `use` count that begin with `crate` or `super` and name a file. Unit tests are left out.

use std::collections::{BTreeMap, BTreeSet};

use super::lexer::blank;
use super::sources::{rust_files, without_tests};
use super::{TextFile, assert_none};

/// Modules whose own imports do not count, with the folder of their crate. This one is used by methods of `DiffusionHead`
/// and calls others: one type that would be too long for one file.
const ALLOWED: [(&str, &str); 1] = [("crates/latentlm-diffusion", "modulations")];

/// Modules of a crate, each with those that it imports.
type Imports = BTreeMap<String, BTreeSet<String>>;

/// The crate's folder and the path of the module in it, empty for the root; `None` for files of tests.
fn module_of(file: &TextFile) -> Option<(&str, String)> {
    let (folder, path) = file.name.split_once("/src/")?;
    let path = path.strip_suffix(".rs")?;
    if path.split('/').any(|part| part == "tests") {
        return None;
    }
    let (above, last) = path.rsplit_once('/').unwrap_or(("", path));
    let is_root = ["mod", "lib", "main"].contains(&last);
    let path = if is_root { above } else { path };
    Some((folder, path.replace('/', "::")))
}

/// The paths of a `use` without spaces: `a::{b,c::{d}}` is `a::b` and `a::c::d`.
fn paths(tree: &str) -> Vec<String> {
    let Some((front, list)) = tree.split_once('{') else {
        return vec![tree.to_owned()];
    };
    let list = list.strip_suffix('}').unwrap_or(list);
    let (mut found, mut depth, mut start) = (Vec::new(), 0, 0);
    for (at, c) in list.char_indices().chain([(list.len(), ',')]) {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                let inner = paths(&list[start..at]).into_iter();
                found.extend(inner.map(|path| format!("{front}{path}")));
                start = at + 1;
            }
            _ => {}
        }
    }
    found
}

/// The paths from the crate's root that a module imports.
fn imported(module: &str, source: &str) -> Vec<String> {
    let mut found = Vec::new();
    for statement in blank(source).split(';') {
        let Some((_, tree)) = statement.rsplit_once("use ") else {
            continue;
        };
        let tree: String = tree.replace(" as ", "::").split_whitespace().collect();
        for path in paths(&tree) {
            let (mut base, mut rest) = (module, path.as_str());
            if let Some(own) = rest.strip_prefix("crate::") {
                found.push(own.to_owned());
                continue;
            }
            while let Some(above) = rest.strip_prefix("super::") {
                base = base.rsplit_once("::").map_or("", |(parent, _)| parent);
                rest = above;
            }
            if rest.len() < path.len() {
                found.push(format!("{base}::{rest}").trim_matches(':').to_owned());
            }
        }
    }
    found
}

/// Whether imports lead from one module to another.
fn leads(imports: &Imports, from: &str, to: &str) -> bool {
    let (mut seen, mut open) = (BTreeSet::new(), vec![from]);
    while let Some(module) = open.pop() {
        if module == to {
            return true;
        }
        if seen.insert(module) {
            open.extend(
                imports
                    .get(module)
                    .into_iter()
                    .flatten()
                    .map(String::as_str),
            );
        }
    }
    false
}

/// Imports that are part of a circle. `files` are those of one crate, with the paths of their modules.
fn circles(files: &[(String, &str)]) -> Vec<[String; 2]> {
    let names: BTreeSet<&str> = files.iter().map(|(name, _)| name.as_str()).collect();
    let mut imports = Imports::new();
    for (module, source) in files {
        let own = imports.entry(module.clone()).or_default();
        for path in imported(module, source) {
            let mut target = path.as_str();
            while !target.is_empty() && !names.contains(target) {
                target = target.rsplit_once("::").map_or("", |(front, _)| front);
            }
            if !target.is_empty() && target != module {
                own.insert(target.to_owned());
            }
        }
    }
    let mut found = Vec::new();
    for (module, targets) in &imports {
        for target in targets
            .iter()
            .filter(|target| leads(&imports, target, module))
        {
            found.push([module.clone(), target.clone()]);
        }
    }
    found
}

#[test]
fn modules_do_not_import_each_other() {
    let all = rust_files();
    let mut crates: BTreeMap<&str, Vec<(String, &str)>> = BTreeMap::new();
    for file in &all {
        if let Some((folder, module)) = module_of(file) {
            let allowed = ALLOWED.contains(&(folder, module.as_str()));
            let source = if allowed { "" } else { without_tests(file) };
            crates.entry(folder).or_default().push((module, source));
        }
    }
    let mut violations = Vec::new();
    for (folder, files) in &crates {
        for [module, target] in circles(files) {
            violations.push(format!(
                "{folder}: `{module}` imports `{target}`, which leads back"
            ));
        }
    }
    assert_none("no modules import each other in a circle", &violations);
}

#[test]
fn a_circle_is_found() {
    let file = |name: &str, source: &'static str| (name.to_owned(), source);
    let files = [
        file("", "use crate::a::X;"),
        file("a", "use std::fs;\nuse crate::{b::{self, Y}, c};"),
        file("b", "fn f() {}\nuse super::d::e::Z as A; // use crate::a;"),
        file("c", "use super::X;"),
        file("d", "pub use e::Z;"),
        file("d::e", "use super::super::a::X;"),
    ];
    let pair = |from: &str, to: &str| [from.to_owned(), to.to_owned()];
    assert_eq!(
        circles(&files),
        [pair("a", "b"), pair("b", "d::e"), pair("d::e", "a")]
    );
}
