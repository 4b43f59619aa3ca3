//! Commands of the binary `latentlm`: checks the arguments, builds the binary for the devices, then replaces
//! this process by it.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::{Command, ExitCode};

use anyhow::{Context, Result};
use latentlm_args::{ArgsError, DeviceName, Project, tell};

use crate::announce::{Build, backends};
use crate::cargo::{cargo, commit, project_root, status, succeed, target_folder};
use crate::drivers::System;

/// Checks everything about a command that needs no binary.
///
/// # Errors
/// With the first problem. The message is the same as the binary's.
pub fn check(
    command: &latentlm_args::Command,
    project: &Project,
    system: &System,
) -> Result<(), ArgsError> {
    command.check(project)?;
    command.check_recipe(project)?;
    if command.computes() {
        system.check(&command.devices()?)?;
    }
    Ok(())
}

/// Builds the binary for a command, then runs `latentlm words...`.
///
/// Cargo is called twice: the build shows its progress on stderr; the run is quiet, so that after a failure
/// the last line is the binary's own and not cargo's remark about the exit code.
///
/// # Errors
/// If a device name is not valid, or cargo can't be started.
pub fn run(command: &latentlm_args::Command, words: &[OsString]) -> Result<ExitCode> {
    let devices = command.devices()?;
    let build = announced(&devices);
    if !status(package(cargo().arg("build")).args(features(&devices)))?.success() {
        return Ok(ExitCode::FAILURE);
    }
    build.finish();
    let mut run = cargo();
    package(run.args(["run", "--quiet"])).args(features(&devices));
    run.arg("--").args(words);
    keep_freed_memory(&mut run);
    // For reports.
    if let Some(commit) = commit() {
        run.env("LATENTLM_COMMIT", commit);
    }
    become_command(run)
}

/// Makes glibc keep memory that training frees. By default it returns every allocation over 32 MiB and the top
/// of the heap to the kernel at once, only to fault the pages in again a moment later. Threads other than the
/// first get arenas of their own, which return memory regardless of these thresholds.
///
/// The heap is in huge pages where Linux gives them to programs that ask. A gigabyte of weights is 262,144 pages of 4 KiB, and
/// the processor looks up each whenever it reads them.
pub(crate) fn keep_freed_memory(command: &mut Command) {
    for (name, value) in [
        ("MALLOC_MMAP_THRESHOLD_", (4_u64 << 30).to_string()),
        ("MALLOC_TRIM_THRESHOLD_", (16_u64 << 30).to_string()),
        ("MALLOC_ARENA_MAX", "1".to_owned()),
        ("GLIBC_TUNABLES", "glibc.malloc.hugetlb=1".to_owned()),
    ] {
        if std::env::var_os(name).is_none() {
            command.env(name, value);
        }
    }
}

/// Builds the binary for devices such as `cuda` or `cuda:0,1`, which need not be present. Returns its path.
pub(crate) fn build(devices: &str) -> Result<PathBuf> {
    let devices = DeviceName::parse_list(devices)?;
    let build = announced(&devices);
    succeed(package(cargo().arg("build")).args(features(&devices)))?;
    build.finish();
    Ok(build.binary())
}

/// Begins a build and announces it, if it has something to do.
fn announced(devices: &[DeviceName]) -> Build {
    let build = Build::begin(project_root(), &target_folder(), devices);
    if let Some(line) = build.announcement() {
        tell!("{line}");
    }
    build
}

/// Adds the arguments that select the binary's package.
pub(crate) fn package(command: &mut Command) -> &mut Command {
    command.args(["--package", "latentlm-cli"])
}

/// Arguments for cargo: the features that devices need besides the default ones.
fn features(devices: &[DeviceName]) -> Vec<String> {
    let backends = backends(devices);
    if backends.is_empty() {
        return Vec::new();
    }
    vec!["--features".into(), backends.join(",")]
}

/// Replaces this process by the command, which then handles Ctrl-C and sets the exit code itself.
#[cfg(unix)]
fn become_command(mut command: Command) -> Result<ExitCode> {
    use std::os::unix::process::CommandExt;
    let error = command.exec();
    Err(error).with_context(|| format!("cannot start {}", command.get_program().display()))
}

/// Runs the command and returns its exit code, on systems where a process can't be replaced.
#[cfg(not(unix))]
fn become_command(mut command: Command) -> Result<ExitCode> {
    let status = status(&mut command)?;
    let code = status.code().and_then(|code| u8::try_from(code).ok());
    Ok(code.map_or(ExitCode::FAILURE, ExitCode::from))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Cli {
        #[command(subcommand)]
        command: latentlm_args::Command,
    }

    fn parse(words: &[&str]) -> latentlm_args::Command {
        let words = std::iter::once("latentlm").chain(words.iter().copied());
        Cli::parse_from(words).command
    }

    /// Every setting that the user has not made.
    #[test]
    fn settings_of_the_memory_are_passed_on() {
        let mut command = Command::new("program");
        keep_freed_memory(&mut command);
        let passed: Vec<_> = command.get_envs().collect();
        for (name, value) in [
            ("MALLOC_MMAP_THRESHOLD_", "4294967296"),
            ("MALLOC_TRIM_THRESHOLD_", "17179869184"),
            ("MALLOC_ARENA_MAX", "1"),
            ("GLIBC_TUNABLES", "glibc.malloc.hugetlb=1"),
        ] {
            let is_passed = passed.contains(&(name.as_ref(), Some(value.as_ref())));
            assert_eq!(is_passed, std::env::var_os(name).is_none(), "{name}");
        }
    }

    #[test]
    fn the_device_picks_the_features() {
        for (words, expected) in [
            (&["train-image"][..], ""),
            (&["train-image", "--device", "cpu"], ""),
            (&["train-image", "--device", "cpu,cpu"], ""),
            (&["speak", "--out", "a", "--device", "wgpu"], "wgpu"),
            (&["eval-image", "--device=wgpu:0"], "wgpu"),
            (&["compare", "sampling", "--device", "vulkan"], "vulkan"),
            (&["train-tts", "--run", "a", "--device", "cuda:1"], "cuda"),
            (&["train-tts", "--device", "cuda:0,1"], "cuda"),
            (&["train-mllm", "--device", "cpu,cuda:0,wgpu"], "wgpu,cuda"),
            (&["train-image", "device=cuda"], ""),
            (&["list-adapters", "vulkan"], "vulkan"),
            (&["data", "check", "."], ""),
        ] {
            let found = features(&parse(words).devices().unwrap());
            let expected = match expected {
                "" => Vec::new(),
                list => vec!["--features".to_owned(), list.to_owned()],
            };
            assert_eq!(found, expected, "{words:?}");
        }
    }

    /// A project with our parts and a folder of data. `changes` replaces the folders of some parts.
    fn project(folder: &Path, changes: &[(&str, &str)]) -> Project {
        let mut manifest = "[workspace.dependencies]\n".to_owned();
        for entry in std::fs::read_dir(project_root().join("crates")).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap();
            let changed = changes.iter().find(|(part, _)| *part == name);
            let path = changed.map_or(path.to_str().unwrap(), |(_, path)| *path);
            manifest += &format!("{name} = {{ path = '{path}' }}\n");
        }
        std::fs::write(folder.join("Cargo.toml"), manifest).unwrap();
        std::fs::create_dir_all(folder.join("datasets/mnist")).unwrap();
        Project::at(folder)
    }

    /// After a swap, keys are checked against the table of the fork's part. A part without a table accepts
    /// every key.
    #[test]
    fn a_swapped_part_brings_its_keys() {
        let dir = tempfile::tempdir().unwrap();
        let part = dir.path().join("cosine");
        std::fs::create_dir(&part).unwrap();
        let bare = System::without_drivers();
        let check = |project: &Project, change: &str| {
            let checked = check(&parse(&["train-image", change]), project, &bare);
            checked.map_err(|error| error.to_string())
        };
        let swapped = project(dir.path(), &[("latentlm-codec-image", "cosine")]);
        check(&swapped, "codec.block=8").unwrap();
        let table = "[codec]\nblock = { type = \"integer\", default = 4, min = 1, max = 16, help = \"Pixels\" }";
        std::fs::write(part.join("keys.toml"), table).unwrap();
        check(&swapped, "codec.block=8").unwrap();
        let message = check(&swapped, "codec.block=17").unwrap_err();
        assert!(
            message.ends_with("`codec.block` must be a whole number from 1 to 16, not 17"),
            "{message}"
        );
        let message = check(&swapped, "codec.vit.heads=2").unwrap_err();
        assert!(message.contains("unknown key `codec.vit`"), "{message}");
        check(&swapped, "lm.width=96").unwrap();
        let ours = project(dir.path(), &[]);
        check(&ours, "codec.vit.heads=2").unwrap();
        assert!(check(&ours, "codec.block=8").is_err());
        std::fs::write(part.join("keys.toml"), "[codec]\nblock = 4").unwrap();
        let swapped = project(dir.path(), &[("latentlm-codec-image", "cosine")]);
        let message = check(&swapped, "lm.width=96").unwrap_err();
        assert!(
            message.starts_with("table of keys `latentlm-codec-image`: `codec.block` is neither"),
            "{message}"
        );
    }

    /// Each part of `examples/fork` declares the keys that recipes need, with its own ranges.
    #[test]
    fn the_forks_parts_bring_their_keys() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("datasets/voice")).unwrap();
        let bare = System::without_drivers();
        for (ours, folder, command, fits, misfit) in [
            (
                "latentlm-codec-image",
                "codec-image",
                "train-image",
                "codec.block=4",
                "codec.block=65",
            ),
            (
                "latentlm-codec-audio",
                "codec-audio",
                "train-tts",
                "codec.overlap_samples=32",
                "codec.overlap_samples=0",
            ),
            (
                "latentlm-backbone",
                "backbone",
                "train-image",
                "lm.depth=2",
                "lm.depth=0",
            ),
            (
                "latentlm-diffusion",
                "head",
                "train-tts",
                "lm.head_depth=0",
                "lm.head_depth=1025",
            ),
        ] {
            let path = project_root().join("examples/fork").join(folder);
            let project = project(dir.path(), &[(ours, path.to_str().unwrap())]);
            check(&parse(&[command, fits]), &project, &bare).unwrap();
            let error = check(&parse(&[command, misfit]), &project, &bare).unwrap_err();
            let key = misfit.split('=').next().unwrap();
            let part = format!("`{key}` must be a whole number");
            assert!(error.to_string().contains(&part), "{error}");
        }
    }

    /// On a machine without drivers, in a project without runs.
    #[test]
    fn what_is_wrong_is_known_before_a_build() {
        let dir = tempfile::tempdir().unwrap();
        let project = project(dir.path(), &[]);
        let bare = System::without_drivers();
        let refuse = |words: &[&str]| {
            let error = check(&parse(words), &project, &bare).unwrap_err();
            (error.is_usage(), error.to_string())
        };
        for (words, usage, part) in [
            (
                &["train-image", "--device", "tpu"][..],
                true,
                "no device `tpu`",
            ),
            (&["train-image", "--config", "none.toml"], true, "none.toml"),
            (&["train-image", "steps"], true, "of the form key=value"),
            (
                &["train-image", "lm.widht=9"],
                true,
                "did you mean `lm.width`?",
            ),
            (
                &["train-image", "lm.width=0"],
                true,
                "`lm.width` must be a whole number from 1 to 131072, not 0",
            ),
            (
                &["train-image", "data.path=none"],
                false,
                "cannot open the dataset none: ",
            ),
            (&["train-image", "--resume"], false, "there are no runs yet"),
            (&["train-image", "--device", "cuda"], true, "libcuda.so.1"),
            (&["eval-mllm"], false, "`cargo xtask train-mllm` trains one"),
            (&["data", "check", "nowhere"], false, "nowhere"),
            (
                &["bench-decode", "--device", "wgpu"],
                true,
                "libvulkan.so.1",
            ),
        ] {
            let (wrong_words, message) = refuse(words);
            assert!(message.contains(part), "{words:?}: {message}");
            assert_eq!(wrong_words, usage, "{words:?}");
        }
        for words in [
            &["train-image", "lm.width=96"][..],
            &["list-adapters", "vulkan"],
            &["data", "check", "."],
        ] {
            check(&parse(words), &project, &bare).unwrap();
        }
    }
}
