//! Rules for the dependencies between crates.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{TextFile, assert_none, text_files};
use crate::cargo::cargo;

/// A dependency of a member of the workspace.
struct Dependency {
    /// The member.
    of: String,
    /// `file:line` in its manifest.
    at: String,
    name: String,
    features: Vec<String>,
    /// Neither a dev- nor a build-dependency.
    normal: bool,
}

const SPOKES: [&str; 3] = [
    "latentlm-adapters",
    "latentlm-backbone",
    "latentlm-diffusion",
];
const SPOKES_MAY_USE: [&str; 5] = [
    "burn",
    "latentlm-core",
    "latentlm-kernels",
    "serde",
    "thiserror",
];
/// The crates with backend features: the binary, which selects a backend, the kernels, which are written for
/// one, and the two crates that other programs import, which pass the features through.
const NAMES_BACKENDS: [&str; 4] = [
    "crates/latentlm/",
    "crates/latentlm-cli/",
    "crates/latentlm-kernels/",
    "crates/latentlm-pipelines/",
];
const BINARIES: [&str; 2] = ["latentlm-cli", "xtask"];
const BINARIES_ONLY: [&str; 3] = ["anyhow", "ctrlc", "signal-hook"];
/// The crates that may use clap: they define or parse arguments.
const KNOWS_CLAP: [&str; 3] = ["latentlm-args", "latentlm-cli", "xtask"];
/// Features of Burn that select a backend.
const BACKENDS: [&str; 13] = [
    "cpu",
    "cuda",
    "flex",
    "metal",
    "ndarray",
    "remote",
    "rocm",
    "router",
    "tch",
    "vulkan",
    "webgpu",
    "wgpu",
    "wgpu-spirv",
];
/// The crates of published models, which name our parts by their algorithms, and the crates that may use them.
const PUBLISHED: [&str; 2] = ["latentlm-published", "latentlm-vibevoice"];
const MAY_USE_PUBLISHED: [&str; 3] = ["latentlm-cli", "latentlm-tests", "latentlm-verify"];
const TRAINING: [&str; 2] = ["train", "tui"];

/// Whether a crate is a spoke: a codec of any modality, also of a fork, or one of [`SPOKES`].
fn is_spoke(name: &str) -> bool {
    name.starts_with("latentlm-codec-") || SPOKES.contains(&name)
}

fn dependencies() -> Vec<Dependency> {
    let output = cargo()
        .args([
            "metadata",
            "--no-deps",
            "--offline",
            "--format-version",
            "1",
        ])
        .output()
        .expect("cargo starts");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let metadata: Value = serde_json::from_slice(&output.stdout).expect("cargo writes JSON");
    let packages = metadata["packages"].as_array().expect("packages is a list");
    packages.iter().flat_map(of_package).collect()
}

fn of_package(package: &Value) -> Vec<Dependency> {
    let member = text(&package["name"]);
    let manifest = manifests()
        .into_iter()
        .find(|file| file.text.contains(&format!("name = \"{member}\"\n")))
        .unwrap_or_else(|| panic!("{member} has no manifest"));
    let list = package["dependencies"].as_array().into_iter().flatten();
    list.map(|dependency| {
        let name = text(&dependency["name"]);
        let normal = dependency["kind"].is_null();
        let features = dependency["features"].as_array().into_iter().flatten();
        Dependency {
            at: format!("{}:{}", manifest.name, line_of(&manifest, &name, normal)),
            of: member.clone(),
            features: features.map(text).collect(),
            name,
            normal,
        }
    })
    .collect()
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// Manifests of the members.
fn manifests() -> Vec<TextFile> {
    ["crates", "tests", "xtask"]
        .into_iter()
        .flat_map(text_files)
        .filter(|file| file.name.ends_with("Cargo.toml"))
        .collect()
}

/// Line of a dependency: the first below `[dependencies]`, or else the first in the file.
fn line_of(manifest: &TextFile, name: &str, normal: bool) -> usize {
    let section = if normal {
        "[dependencies]"
    } else {
        "[dev-dependencies]"
    };
    manifest
        .lines()
        .skip_while(|(_, line)| *line != section)
        .find(|(_, line)| {
            line.strip_prefix(name)
                .is_some_and(|r| r.starts_with(['.', ' ', '=']))
        })
        .map_or(1, |(number, _)| number)
}

/// Checks a rule for all normal dependencies. `wrong` describes a violation.
fn check(rule: &str, wrong: impl Fn(&Dependency) -> Option<String>) {
    let violations: Vec<String> = dependencies()
        .iter()
        .filter(|dependency| dependency.normal)
        .filter_map(|dependency| Some((dependency, wrong(dependency)?)))
        .map(|(dependency, what)| format!("{}: {} {what}", dependency.at, dependency.of))
        .collect();
    assert_none(rule, &violations);
}

#[test]
fn spokes_know_the_hub_alone() {
    check(
        "a spoke depends on core and Burn, never on another spoke",
        |d| {
            let wrong = is_spoke(&d.of) && !SPOKES_MAY_USE.contains(&d.name.as_str());
            wrong.then(|| format!("may not use {}", d.name))
        },
    );
}

#[test]
fn core_knows_no_member() {
    check("the hub depends on no other crate of the workspace", |d| {
        let wrong = d.of == "latentlm-core" && d.name.starts_with("latentlm");
        wrong.then(|| format!("may not use {}", d.name))
    });
}

/// Otherwise a fork could not leave them out.
#[test]
fn few_know_published_models() {
    check(
        "published models are used by the binary, the verification and the tests alone",
        |d| {
            let of_published = PUBLISHED.contains(&d.name.as_str());
            let may_use = MAY_USE_PUBLISHED.contains(&d.of.as_str())
                || (d.of == "latentlm-published" && d.name == "latentlm-vibevoice");
            (of_published && !may_use).then(|| format!("may not use {}", d.name))
        },
    );
}

#[test]
fn data_knows_no_tensors() {
    check("files know no dataset, data knows no model", |d| {
        let may_use: &[&str] = match d.of.as_str() {
            "latentlm-compose" => &["latentlm-core", "latentlm-data", "latentlm-media"],
            "latentlm-data" => &["latentlm-core", "latentlm-media"],
            "latentlm-media" => &["latentlm-core"],
            _ => return None,
        };
        let of_ours = d.name.starts_with("latentlm") && !may_use.contains(&d.name.as_str());
        let wrong = d.name.starts_with("burn") || of_ours;
        wrong.then(|| format!("may not use {}", d.name))
    });
}

#[test]
fn products_and_convolutions_know_slices_alone() {
    check(
        "latentlm-products and latentlm-convolutions contain no tensors, and the kernels alone use them",
        |d| {
            let parts = ["latentlm-products", "latentlm-convolutions"];
            let (of, used) = (d.of.as_str(), d.name.as_str());
            let is_first = of == "latentlm-convolutions" && used == "latentlm-products";
            let of_parts =
                parts.contains(&of) && (used.starts_with("latentlm") || used.starts_with("burn"));
            let by_others = parts.contains(&used) && of != "latentlm-kernels";
            ((of_parts || by_others) && !is_first).then(|| format!("may not use {used}"))
        },
    );
}

#[test]
fn only_train_knows_burn_train() {
    check(
        "only latentlm-train enables Burn's training features",
        |d| {
            let feature = d.features.iter().find(|f| TRAINING.contains(&f.as_str()))?;
            let wrong = d.name == "burn" && d.of != "latentlm-train";
            wrong.then(|| format!("enables burn/{feature}"))
        },
    );
}

#[test]
fn only_binaries_know_the_terminal() {
    let wrong: Vec<String> = dependencies()
        .iter()
        .filter(|d| {
            let (name, of) = (d.name.as_str(), d.of.as_str());
            let untyped = BINARIES_ONLY.contains(&name) && !BINARIES.contains(&of);
            untyped || (name == "clap" && !KNOWS_CLAP.contains(&of))
        })
        .map(|d| format!("{}: {} may not use {}", d.at, d.of, d.name))
        .collect();
    assert_none(
        "the command line belongs to args, cli and xtask, untyped errors to cli and xtask",
        &wrong,
    );
}

#[test]
fn arguments_build_in_seconds() {
    check("latentlm-args and latentlm-keys contain no tensors", |d| {
        let may_use: &[&str] = match d.of.as_str() {
            "latentlm-args" => &["clap", "latentlm-keys", "serde", "thiserror", "toml"],
            "latentlm-keys" => &["serde", "thiserror", "toml"],
            _ => return None,
        };
        let wrong = !may_use.contains(&d.name.as_str());
        wrong.then(|| format!("may not use {}", d.name))
    });
}

#[test]
fn no_library_picks_a_backend() {
    check("the binary's features alone pick a backend", |d| {
        let backend = d.features.iter().find(|f| BACKENDS.contains(&f.as_str()))?;
        (d.name == "burn").then(|| format!("enables burn/{backend}"))
    });
    let mut violations = Vec::new();
    for file in manifests().iter().filter(|file| {
        !NAMES_BACKENDS
            .iter()
            .any(|name| file.name.starts_with(name))
    }) {
        for (number, line) in file.lines() {
            let backend = BACKENDS
                .iter()
                .find(|b| line.contains(&format!("\"burn/{b}\"")));
            violations.extend(backend.map(|b| format!("{}:{number}: burn/{b}", file.name)));
        }
    }
    assert_none("the binary's features alone pick a backend", &violations);
}

/// Features add up over a build: a library with a default backend turns it on for everybody.
#[test]
fn no_library_has_a_default_backend() {
    let mut violations = Vec::new();
    for file in manifests()
        .iter()
        .filter(|file| !file.name.starts_with("crates/latentlm-cli/"))
    {
        let defaults = file
            .lines()
            .filter(|(_, line)| line.starts_with("default ="));
        for (number, line) in defaults {
            let backend = BACKENDS.iter().find(|b| line.contains(&format!("\"{b}\"")));
            violations.extend(backend.map(|b| format!("{}:{number}: {b}", file.name)));
        }
    }
    assert_none("backends of libraries are off by default", &violations);
}

#[test]
fn xtask_builds_in_seconds() {
    check("xtask contains no tensors", |d| {
        let may_use = ["anyhow", "clap", "latentlm-args", "serde_json", "toml"];
        let wrong = d.of == "xtask" && !may_use.contains(&d.name.as_str());
        wrong.then(|| format!("may not use {}", d.name))
    });
}

/// The packages that a CPU program with `latentlm-pipelines` compiles, including build scripts.
fn packages_of_pipelines(options: &[&str]) -> BTreeSet<String> {
    let output = cargo()
        .args(["tree", "--package", "latentlm-pipelines"])
        .args(["--edges", "normal,build", "--prefix", "none"])
        // A fixed target, so that the count is the same on every machine.
        .args(["--features", "cpu", "--target", "x86_64-unknown-linux-gnu"])
        .args(options)
        .output()
        .expect("cargo starts");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let lines = String::from_utf8_lossy(&output.stdout).into_owned();
    // Cargo marks packages that it has listed before.
    lines
        .lines()
        .map(|line| line.trim_end_matches(" (*)").to_owned())
        .filter(|line| !line.is_empty())
        .collect()
}

/// A program that only uses trained models compiles no training, no baselines and no published models; with
/// pictures alone, also nothing for sound and text.
#[test]
fn using_a_model_compiles_little() {
    let pictures = packages_of_pipelines(&["--no-default-features"]);
    let all = packages_of_pipelines(&["--no-default-features", "--features", "mllm,speech"]);
    for (packages, limit) in [(&pictures, 200), (&all, 266)] {
        let count = packages.len();
        assert!(count <= limit, "{count} packages, at most {limit} may be");
        for name in [
            "burn-train",
            "latentlm-baselines",
            "latentlm-published",
            "latentlm-train",
            "latentlm-vibevoice",
        ] {
            let found = packages
                .iter()
                .find(|package| package.starts_with(&format!("{name} ")));
            assert_eq!(found, None, "a program that draws compiles {name}");
        }
    }
    let sound_or_text = pictures.iter().find(|package| {
        [
            "latentlm-codec-audio",
            "latentlm-codec-video",
            "symphonia",
            "tokenizers",
        ]
        .iter()
        .any(|name| package.starts_with(name))
    });
    assert_eq!(sound_or_text, None, "a program that draws pictures alone");
}

/// Versions of dependencies are defined only in the workspace's table.
#[test]
fn versions_stand_in_the_workspace_table() {
    let mut violations = Vec::new();
    for file in manifests() {
        let mut in_dependencies = false;
        for (number, line) in file.lines() {
            if let Some(section) = line.strip_prefix('[') {
                in_dependencies = section.trim_end_matches(']').ends_with("dependencies");
            }
            let declares = line.starts_with(|c: char| c.is_ascii_alphanumeric());
            if in_dependencies && declares && !inherits(line) {
                violations.push(format!("{}:{number}: {line}", file.name));
            }
        }
    }
    assert_none("a dependency says `workspace = true`", &violations);
}

fn inherits(line: &str) -> bool {
    let line = line.replace(' ', "");
    // Not `multiversion=`: a key begins behind a brace or a comma.
    let versioned = ["{version=", ",version="]
        .iter()
        .any(|key| line.contains(key));
    line.contains("workspace=true") && !versioned
}

#[test]
fn the_lock_file_has_one_source() {
    let lock = text_files("")
        .into_iter()
        .find(|file| file.name == "Cargo.lock");
    let lock = lock.expect("Cargo.lock is committed");
    let violations: Vec<String> = lock
        .lines()
        .filter(|(_, line)| line.starts_with("source = ") && !line.ends_with("crates.io-index\""))
        .map(|(number, line)| format!("{}:{number}: {line}", lock.name))
        .collect();
    assert_none("every package comes from crates.io", &violations);
}
