//! `cargo xtask build`: builds the binary for a device, also to be copied to a machine without Rust or network.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, ensure};
use latentlm_args::{DeviceKind, DeviceName, Project, say};

use crate::announce::{Build, backends};
use crate::cargo::{cargo, project_root, succeed, target_folder};
use crate::forward::{build, package};
use crate::pack;

/// CUDA version of the bindings in builds without LLVM, as cudarc writes it. Drivers of this version and later
/// work. It is not the newest, so that older drivers work too: newer functions are not used.
const CUDA_VERSION: &str = "13000";

/// Arguments for the linker. GNU's linker can leave undefined symbols open; with other linkers, the loader
/// would look for them as soon as the program starts.
const LINK: [&str; 3] = [
    "-fuse-ld=bfd",
    "-Wl,--unresolved-symbols=ignore-all",
    "-Wl,-z,lazy",
];

/// Symbols of cubecl's C++ bindings to LLVM, which are compiled only if LLVM's headers are installed.
const GLUE: [&str; 3] = [
    "cubecl_free_message",
    "cubecl_link_device_bitcode",
    "cubecl_set_llvm_option",
];

/// Build the binary for a device, and pack it for a machine without Rust.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  cargo xtask build --device wgpu
  cargo xtask build --device cuda                  downloads LLVM once, from outside the registry
  cargo xtask build --device cuda --without-llvm   kernels through CUDA's own compiler instead
  cargo xtask build --device cuda,vulkan --without-llvm --pack target/latentlm-gpu.tar.xz

--pack writes the stripped binary with what xtask/gpu/check needs, at most 64 MiB: unpacked on a machine
with a card, CUDA's toolkit and PyTorch it runs there without Rust or a network (docs/gpu.md).")]
pub struct Args {
    /// cpu, wgpu, vulkan or cuda, or several: cuda,vulkan
    #[arg(long, default_value = "cpu")]
    device: String,
    /// Leave LLVM out of a CUDA build: nothing but its symbols may stay open
    #[arg(long)]
    without_llvm: bool,
    /// Write a copy without symbols to target/stripped
    #[arg(long)]
    strip: bool,
    /// Strip the binary and pack it with what the checks of a card need
    #[arg(long, value_name = "FILE.tar.xz")]
    pack: Option<PathBuf>,
}

impl Args {
    /// Builds, checks undefined symbols, strips and packs; prints the paths.
    pub fn run(self) -> Result<ExitCode> {
        if let Some(file) = &self.pack {
            Project::at(project_root()).find_place(file)?;
        }
        let mut binary = if self.without_llvm {
            link_without_llvm(&self.device)?
        } else {
            build(&self.device)?
        };
        if self.strip || self.pack.is_some() {
            binary = strip(&binary)?;
        }
        say!("{}", binary.display());
        if let Some(file) = &self.pack {
            let file = project_root().join(file);
            let how = if self.without_llvm {
                "without LLVM"
            } else {
                "as usual"
            };
            pack::write(&file, &binary, &format!("{}, {how}", self.device))?;
            say!("{}", file.display());
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// Sets environment variables that make build scripts work without LLVM and without an installed CUDA.
///
/// In Burn 0.22.1 the feature `cuda` depends on `tracel-llvm-bundler`, whose build script downloads a
/// bundle of LLVM from outside the package registry. It exits early if the environment has `DOCS_RS`, as on
/// docs.rs, and so does the build script of `cubecl-llvm`, which would link the bundle.
pub fn skip_llvm(command: &mut Command) {
    command.env("DOCS_RS", "1");
    command.env("CUDARC_CUDA_VERSION", CUDA_VERSION);
}

/// Links a CUDA binary without LLVM: its calls of LLVM are undefined symbols. They are never called, because
/// with the feature `nvrtc` kernels are written as C++ and compiled by CUDA's own compiler.
///
/// The linker's arguments are passed for the last crate only: in `RUSTFLAGS` they would rebuild everything.
fn link_without_llvm(devices: &str) -> Result<PathBuf> {
    let devices = DeviceName::parse_list(devices)?;
    ensure!(
        devices.iter().any(|device| device.kind == DeviceKind::Cuda),
        "--without-llvm is for --device cuda; no other device needs LLVM"
    );
    ensure!(
        cfg!(target_os = "linux"),
        "--without-llvm needs GNU's linker, on Linux"
    );
    let mut command = cargo();
    package(command.arg("rustc")).args(["--bin", "latentlm"]);
    command.args(["--features", &features_without_llvm(&devices)]);
    skip_llvm(&mut command);
    command.arg("--");
    for argument in LINK {
        command.args(["-C", &format!("link-arg={argument}")]);
    }
    succeed(&mut command)?;
    let binary = Build::begin(project_root(), &target_folder(), &devices).binary();
    let open = open_symbols(&binary)?;
    let others: Vec<&str> = open
        .iter()
        .map(String::as_str)
        .filter(|symbol| !is_llvm(symbol))
        .collect();
    ensure!(
        others.is_empty(),
        "{} lacks more than LLVM: {}",
        binary.display(),
        others.join(", ")
    );
    say!("{} symbols of LLVM stay open, and no others", open.len());
    Ok(binary)
}

/// Cargo features of the devices, and of the compiler that replaces LLVM.
fn features_without_llvm(devices: &[DeviceName]) -> String {
    let mut features = backends(devices);
    features.push("nvrtc");
    features.join(",")
}

fn is_llvm(symbol: &str) -> bool {
    symbol.starts_with("LLVM") || GLUE.contains(&symbol)
}

/// The undefined symbols of a program: those that it uses but neither defines nor takes from a library it
/// is linked to. Symbols of libraries have a version after an `@`.
fn open_symbols(binary: &Path) -> Result<BTreeSet<String>> {
    let static_table = nm(binary, &["--undefined-only"])?;
    let dynamic_table = nm(
        binary,
        &["--dynamic", "--undefined-only", "--with-symbol-versions"],
    )?;
    Ok(open(&static_table, &dynamic_table))
}

/// The undefined symbols in the output of `nm`. A symbol with a version in either table belongs to a library
/// and does not count.
fn open(static_table: &str, dynamic_table: &str) -> BTreeSet<String> {
    let names = || {
        let lines = static_table.lines().chain(dynamic_table.lines());
        // Lines `U name`. Weak symbols (`w`) may be undefined in any program.
        lines.filter_map(|line| line.trim().strip_prefix("U "))
    };
    let versioned: BTreeSet<&str> = names()
        .filter_map(|name| Some(name.split_once('@')?.0))
        .collect();
    names()
        .filter(|name| !name.contains('@') && !versioned.contains(name))
        .map(str::to_owned)
        .collect()
}

fn nm(binary: &Path, arguments: &[&str]) -> Result<String> {
    let output = Command::new("nm")
        .args(arguments)
        .arg(binary)
        .output()
        .context("cannot start nm, of binutils, as the C compiler's linker")?;
    ensure!(
        output.status.success(),
        "nm failed: {}",
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Makes a copy of the binary without symbols, below `target`. Returns its path.
fn strip(binary: &Path) -> Result<PathBuf> {
    let folder = project_root().join("target/stripped");
    std::fs::create_dir_all(&folder)
        .with_context(|| format!("cannot create {}", folder.display()))?;
    let name = binary.file_name().context("a binary has a name")?;
    let stripped = folder.join(name);
    succeed(Command::new("strip").arg("-o").arg(&stripped).arg(binary))?;
    Ok(stripped)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_compiler_comes_with_the_devices() {
        for (devices, features) in [
            ("cuda", "cuda,nvrtc"),
            ("cuda:0,1", "cuda,nvrtc"),
            ("cuda,vulkan", "vulkan,cuda,nvrtc"),
        ] {
            let devices = DeviceName::parse_list(devices).unwrap();
            assert_eq!(features_without_llvm(&devices), features);
        }
    }

    /// The error comes before anything is built.
    #[test]
    fn only_cuda_is_built_without_llvm() {
        for devices in ["cpu", "wgpu,vulkan"] {
            let error = link_without_llvm(devices).unwrap_err().to_string();
            assert!(error.contains("is for --device cuda"), "{error}");
        }
        let error = link_without_llvm("cuda,gpu").unwrap_err().to_string();
        assert!(error.contains("no device `gpu`"), "{error}");
    }

    /// Output of `nm` for GNU's linker, whose static table has versions too, and for a linker that omits them
    /// there.
    #[test]
    fn what_no_library_gives_is_open() {
        let static_table = "\
                 U LLVMAddCase
                 U memcpy@GLIBC_2.14
                 U fma
                 U cubecl_free_message
                 w __gmon_start__
                 U lost";
        let dynamic_table = "                 U fma@GLIBC_2.2.5\n                 U LLVMAddCase";
        let open = open(static_table, dynamic_table);
        let found: Vec<&str> = open.iter().map(String::as_str).collect();
        assert_eq!(found, ["LLVMAddCase", "cubecl_free_message", "lost"]);
        let others: Vec<&str> = found.into_iter().filter(|name| !is_llvm(name)).collect();
        assert_eq!(others, ["lost"]);
    }
}
