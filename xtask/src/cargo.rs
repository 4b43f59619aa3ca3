//! Runs cargo and other programs.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};

use anyhow::{Context, Result};

/// The workspace's root folder, wherever the command was typed.
pub fn project_root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("this crate lies one folder below the root")
}

/// Cargo's target folder.
pub fn target_folder() -> PathBuf {
    let folder = std::env::var_os("CARGO_TARGET_DIR").filter(|folder| !folder.is_empty());
    project_root().join(folder.unwrap_or_else(|| "target".into()))
}

/// The cargo that runs this program, in the root folder.
pub fn cargo() -> Command {
    let program = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(program);
    command.current_dir(project_root());
    command
}

/// The commit that the sources are at; `None` without git.
pub fn commit() -> Option<String> {
    let git = |words: &[&str]| -> Option<String> {
        let mut command = Command::new("git");
        let output = command.current_dir(project_root()).args(words).output();
        let output = output.ok().filter(|output| output.status.success())?;
        Some(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    // Sources without a repository may lie within another one.
    let top = PathBuf::from(git(&["rev-parse", "--show-toplevel"])?);
    if top.canonicalize().ok()? != project_root().canonicalize().ok()? {
        return None;
    }
    let commit = git(&["rev-parse", "--short=12", "HEAD"])?;
    let changes = git(&["status", "--porcelain", "--untracked-files=no"])?;
    if changes.is_empty() {
        return Some(commit);
    }
    Some(format!("{commit} with changes"))
}

/// Runs a command and waits for it. It inherits standard output and error.
///
/// # Errors
/// If it can't be started.
pub fn status(command: &mut Command) -> Result<ExitStatus> {
    command
        .status()
        .with_context(|| format!("cannot start {}", command.get_program().display()))
}

/// Runs a command and waits for it; if it fails, that is an error.
///
/// # Errors
/// If it can't be started or fails.
pub fn succeed(command: &mut Command) -> Result<()> {
    let status = status(command)?;
    anyhow::ensure!(status.success(), "`{}` failed ({status})", line(command));
    Ok(())
}

/// A command as a person would type it, e.g. `A=1 cargo fmt --check`.
pub fn line(command: &Command) -> String {
    let program = Path::new(command.get_program());
    let name = program.file_stem().unwrap_or(program.as_os_str());
    let set = command.get_envs().filter_map(|(key, value)| {
        let (key, value) = (key.to_string_lossy(), value?.to_string_lossy());
        Some(format!("{key}={value}"))
    });
    let words = std::iter::once(name).chain(command.get_args());
    set.chain(words.map(|word| word.to_string_lossy().into_owned()))
        .collect::<Vec<_>>()
        .join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Twelve hexadecimal digits, as far as there is a repository.
    #[test]
    fn a_commit_is_named_by_its_hash() {
        let Some(commit) = commit() else {
            return;
        };
        let (hash, rest) = commit.split_at(12);
        assert!(hash.chars().all(|c| c.is_ascii_hexdigit()), "{commit}");
        assert!(["", " with changes"].contains(&rest), "{commit}");
    }
}
