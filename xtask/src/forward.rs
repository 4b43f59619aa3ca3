//! Commands that the binary `latentlm` carries out: build it for the device, then become it.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::{Command, ExitCode};

use anyhow::{Context, Result};

use crate::cargo::{cargo, project_root, status, succeed};

/// Arguments of a forwarded command, passed on as they are.
#[derive(clap::Args)]
#[command(after_help = "Example: cargo xtask train-image --help shows the binary's own help.")]
pub struct Forwarded {
    /// Arguments of the binary's command; `--help` lists them
    #[arg(
        trailing_var_arg = true,
        allow_hyphen_values = true,
        value_name = "ARGS"
    )]
    pub(crate) args: Vec<OsString>,
}

impl Forwarded {
    /// Builds the binary, then runs `latentlm <name> args...`.
    ///
    /// Two calls of cargo: the build shows its progress (on stderr), the run is quiet, so that the
    /// last line of a failure is the binary's own and not cargo's remark about its exit code.
    pub fn run(self, name: &str) -> Result<ExitCode> {
        let features = features(device(&self.args).as_deref());
        let build = status(package(cargo().arg("build")).args(features))?;
        if !build.success() {
            return Ok(ExitCode::FAILURE);
        }
        let mut run = cargo();
        package(run.args(["run", "--quiet"])).args(features);
        run.arg("--").arg(name).args(&self.args);
        keep_freed_memory(&mut run);
        become_command(run)
    }
}

/// Has glibc keep what training frees. Its defaults give every tensor of over 32 MiB, and the top
/// of the heap, back to the kernel at once, to fault them in again a moment later; and threads other
/// than the first get heaps of their own, which do so whatever the thresholds say.
pub(crate) fn keep_freed_memory(command: &mut Command) {
    for (name, value) in [
        ("MALLOC_MMAP_THRESHOLD_", 4_u64 << 30),
        ("MALLOC_TRIM_THRESHOLD_", 16 << 30),
        ("MALLOC_ARENA_MAX", 1),
    ] {
        if std::env::var_os(name).is_none() {
            command.env(name, value.to_string());
        }
    }
}

/// Builds the binary with what a device needs. Returns its path.
pub(crate) fn build(device: &str) -> Result<PathBuf> {
    succeed(package(cargo().arg("build")).args(features(Some(device))))?;
    let name = format!("latentlm{}", std::env::consts::EXE_SUFFIX);
    Ok(project_root().join("target/debug").join(name))
}

fn package(command: &mut Command) -> &mut Command {
    command.args(["--package", "latentlm-cli"])
}

/// The value of `--device X` or `--device=X`, if there is one; the last wins.
fn device(args: &[OsString]) -> Option<String> {
    let mut found = None;
    let mut args = args.iter().map(|arg| arg.to_string_lossy());
    while let Some(arg) = args.next() {
        if arg == "--device" {
            found = args.next().map(String::from);
        } else if let Some(value) = arg.strip_prefix("--device=") {
            found = Some(value.to_owned());
        }
    }
    found
}

/// Cargo features that a device needs beyond the default ones, or several devices of a kind. `cuda:0,1`
/// is `cuda`. A device that nobody knows gets none: the binary then says which there are.
fn features(device: Option<&str>) -> &'static [&'static str] {
    match device.and_then(|name| name.split([':', ',']).next()) {
        Some("wgpu") => &["--features", "wgpu"],
        Some("vulkan") => &["--features", "vulkan"],
        Some("cuda") => &["--features", "cuda"],
        _ => &[],
    }
}

/// Replaces this process, so that Ctrl-C and the exit code are the binary's own business.
#[cfg(unix)]
fn become_command(mut command: Command) -> Result<ExitCode> {
    use std::os::unix::process::CommandExt;
    let error = command.exec();
    Err(error).with_context(|| format!("cannot start {}", command.get_program().display()))
}

/// Where a process can't be replaced: waits, and hands the exit code on.
#[cfg(not(unix))]
fn become_command(mut command: Command) -> Result<ExitCode> {
    let status = status(&mut command)?;
    let code = status.code().and_then(|code| u8::try_from(code).ok());
    Ok(code.map_or(ExitCode::FAILURE, ExitCode::from))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_device_picks_the_features() {
        let cases: [(&[&str], &[&str]); 9] = [
            (&[], &[]),
            (&["--device", "cpu"], &[]),
            (&["--device", "wgpu"], &["--features", "wgpu"]),
            (&["--device=wgpu:0"], &["--features", "wgpu"]),
            (&["--device", "vulkan"], &["--features", "vulkan"]),
            (
                &["--run", "a", "--device", "cuda:1"],
                &["--features", "cuda"],
            ),
            (&["--device=cuda", "--device=cpu"], &[]),
            (&["device=cuda"], &[]),
            (&["--device"], &[]),
        ];
        for (args, expected) in cases {
            let args: Vec<OsString> = args.iter().map(OsString::from).collect();
            assert_eq!(features(device(&args).as_deref()), expected, "{args:?}");
        }
    }
}
