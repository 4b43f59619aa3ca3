//! Rule for modules that import each other in circles: neither can be read, moved or tested without the other.
//!
//! Only paths count that begin with `crate` or `super`, in `use` or elsewhere. They lead to the file that they name, or to
//! the one that defines what is re-exported. Unit tests are left out.

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

/// The paths in a module's code: those of its `use`, and all others.
fn code_paths(source: &str) -> [Vec<String>; 2] {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    let [mut used, mut others] = [Vec::new(), Vec::new()];
    // A visibility imports nothing.
    for statement in blank(source)
        .replace("pub(in crate::", "pub(in ")
        .split(';')
    {
        let (code, tree) = match statement.rsplit_once("use ") {
            Some((code, tree)) if !code.ends_with(is_word) => (code, tree),
            _ => (statement, ""),
        };
        let tree: String = tree.replace(" as ", "::").split_whitespace().collect();
        used.extend(paths(&tree));
        let words = code.split(|c: char| !is_word(c) && c != ':');
        others.extend(words.map(|word| word.trim_end_matches(':').to_owned()));
    }
    [used, others]
}

/// A path in a module as a path from the crate's root; `None` if it begins with neither `crate` nor `super`.
fn from_root(module: &str, path: &str) -> Option<String> {
    if let Some(own) = path.strip_prefix("crate::") {
        return Some(own.to_owned());
    }
    let (mut base, mut rest) = (module, path);
    while let Some(above) = rest.strip_prefix("super::") {
        base = base.rsplit_once("::").map_or("", |(parent, _)| parent);
        rest = above;
    }
    (rest.len() < path.len()).then(|| below(base, rest))
}

/// The path of a name in a module.
fn below(module: &str, name: &str) -> String {
    format!("{module}::{name}").trim_matches(':').to_owned()
}

/// The module that a path leads to, maybe by names that others re-export; empty for the root.
fn target<'a>(
    path: &'a str,
    modules: &BTreeSet<&str>,
    named: &'a BTreeMap<String, String>,
) -> &'a str {
    let mut target = path;
    // Names that lead to each other would have no end.
    for _ in 0..100 {
        if target.is_empty() || modules.contains(target) {
            return target;
        }
        target = match named.get(target) {
            Some(whole) => whole.as_str(),
            None => target.rsplit_once("::").map_or("", |(front, _)| front),
        };
    }
    ""
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
    let modules: BTreeSet<&str> = files.iter().map(|(name, _)| name.as_str()).collect();
    // What a module's `use` names, with the path that it stands for: other modules may import it from here.
    let mut named = BTreeMap::new();
    let mut found = Vec::new();
    for (module, source) in files {
        let [used, others] = code_paths(source);
        for path in &used {
            let name = below(module, path.rsplit("::").next().unwrap_or_default());
            let whole = from_root(module, path).unwrap_or_else(|| below(module, path));
            // A macro is re-exported where it is defined.
            if name != whole {
                named.insert(name, whole);
            }
        }
        for path in used.iter().chain(&others) {
            found.extend(from_root(module, path).map(|path| (module, path)));
        }
    }
    let mut imports = Imports::new();
    for (module, path) in &found {
        let target = target(path, &modules, &named);
        if !target.is_empty() && target != module.as_str() {
            let own = imports.entry((*module).clone()).or_default();
            own.insert(target.to_owned());
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
    // The root names `a::X` too, which `c` imports from there.
    let expected = [
        pair("a", "b"),
        pair("a", "c"),
        pair("b", "d::e"),
        pair("c", "a"),
        pair("d::e", "a"),
    ];
    assert_eq!(circles(&files), expected);
}

#[test]
fn paths_outside_of_use_and_reexports_are_followed() {
    let file = |name: &str, source: &'static str| (name.to_owned(), source);
    let files = [
        file("", "mod a;\npub use a::{X, f as g};"),
        file("a", "fn f() -> [u8; 2] { crate::b::h::<u8>() }\nstruct X;"),
        file("b", "pub(crate) use inner::h;"),
        file(
            "b::inner",
            "pub(in crate::c) fn h() { $crate::g(super::super::d::Y) }",
        ),
        file("c", "// crate::a\nfn reuse (x: crate::X) { \"crate::a\"; }"),
        file(
            "d",
            "pub(crate) use same;\nfn k() { crate::d::same::<crate::c::Z>() }",
        ),
    ];
    let pair = |from: &str, to: &str| [from.to_owned(), to.to_owned()];
    let expected = [
        pair("a", "b::inner"),
        pair("b::inner", "a"),
        pair("b::inner", "d"),
        pair("c", "a"),
        pair("d", "c"),
    ];
    assert_eq!(circles(&files), expected);
}
