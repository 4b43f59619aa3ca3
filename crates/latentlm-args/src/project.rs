//! The project folder: base of relative paths, and home of the runs.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::{MAIN_SEPARATOR, Path, PathBuf};

use latentlm_keys::{Keys, RecipeError, RunKind, Workspace, escaped};

use crate::{ArgsError, DeviceName};

/// Largest number of runs that a message lists.
const MOST_RUNS: usize = 20;
/// The folder that runs are in, unless a path is given.
const RUNS: &str = "runs";

/// The folder that relative paths are resolved against. It holds `runs/`.
#[derive(Debug, Clone)]
pub struct Project {
    root: PathBuf,
}

impl Project {
    /// The project in a folder.
    pub fn at(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// The project in the working directory.
    pub fn here() -> Self {
        Self::at("")
    }

    /// Resolves a path given by the user.
    pub fn path(&self, given: &Path) -> PathBuf {
        self.root.join(given)
    }

    /// Names of the runs in `runs/`, sorted.
    pub fn runs(&self) -> Vec<String> {
        runs_in(&self.path(Path::new(RUNS)))
    }

    /// The runs in `runs/`, by name, and those beside `run`, by path.
    fn runs_near(&self, run: &Path) -> Vec<String> {
        let mut runs = self.runs();
        let parent = run.parent().unwrap_or(Path::new(""));
        if parent != Path::new(RUNS) && !parent.as_os_str().is_empty() {
            for name in runs_in(&self.path(parent)) {
                runs.push(parent.join(name).display().to_string());
            }
        }
        runs
    }

    /// The folder that relative paths are resolved against.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// The keys of a recipe, as the parts of the workspace in this folder declare them.
    pub(crate) fn keys(&self, table: &str) -> Result<Keys, ArgsError> {
        Ok(Workspace::open(&self.root)?.keys(table)?)
    }

    /// Checks that a file or folder exists. `action` is for the error message.
    pub(crate) fn find(&self, action: &'static str, path: &Path) -> Result<(), ArgsError> {
        match fs::metadata(self.path(path)) {
            Ok(_) => Ok(()),
            Err(source) => Err(refused(action, path, source)),
        }
    }

    /// Checks that a file to be read exists and is no folder; it may be a pipe.
    pub(crate) fn find_file(&self, path: &Path) -> Result<(), ArgsError> {
        self.find("read", path)?;
        if self.path(path).is_dir() {
            return Err(refused("read", path, ErrorKind::IsADirectory.into()));
        }
        Ok(())
    }

    /// Checks that a file can be written: its name is no folder's, and the folders above it are there or can be
    /// made.
    ///
    /// # Errors
    /// If it can't.
    pub fn find_place(&self, path: &Path) -> Result<(), ArgsError> {
        if self.path(path).is_dir() {
            return Err(refused("write", path, ErrorKind::IsADirectory.into()));
        }
        for folder in path.ancestors().skip(1) {
            let place = self.path(folder);
            if place.is_dir() {
                break;
            }
            if place.exists() {
                return Err(refused("write in", folder, ErrorKind::NotADirectory.into()));
            }
        }
        Ok(())
    }

    /// Checks that a file can be written in a folder that is there.
    pub(crate) fn find_place_in_folder(&self, path: &Path) -> Result<(), ArgsError> {
        self.find_place(path)?;
        let folder = path.parent().unwrap_or(Path::new(""));
        if folder.as_os_str().is_empty() || self.path(folder).is_dir() {
            return Ok(());
        }
        let reason = io::Error::new(ErrorKind::NotFound, "there is no such folder");
        Err(refused("write in", folder, reason))
    }

    /// Checks that a folder is there or can be made.
    pub(crate) fn find_folder_place(&self, path: &Path) -> Result<(), ArgsError> {
        let place = self.path(path);
        if place.is_dir() {
            return Ok(());
        }
        if place.exists() {
            return Err(refused("write", path, ErrorKind::NotADirectory.into()));
        }
        self.find_place(path)
    }

    /// Checks that a folder is not there and can be made.
    pub(crate) fn find_new_folder(&self, path: &Path) -> Result<(), ArgsError> {
        if self.path(path).exists() || path == Path::new("") {
            return Err(ArgsError::Io {
                action: "create",
                path: path.to_owned(),
                source: ErrorKind::AlreadyExists.into(),
            });
        }
        self.find_folder_place(path)
    }

    /// Whether a path is a pipe or a device, or one of the system's names, such as `/dev/stdout`. It takes a
    /// stream, whatever its name.
    pub(crate) fn is_stream(&self, path: &Path) -> bool {
        let path = self.path(path);
        let in_folders = ["/proc", "/dev/fd"]
            .iter()
            .any(|open| path.starts_with(open));
        // Redirected output is a regular file.
        let is_open_file = in_folders || path.parent() == Some(Path::new("/dev"));
        is_open_file || (path.exists() && !path.is_file() && !path.is_dir())
    }

    /// Checks that a recipe file exists.
    pub(crate) fn find_recipe(&self, path: &Path) -> Result<(), ArgsError> {
        fs::metadata(self.path(path)).map_err(|source| RecipeError::Read {
            path: path.to_owned(),
            source,
        })?;
        Ok(())
    }

    /// Checks that a run exists and is not of another kind. `trained_by` is the command that trains such a run.
    pub(crate) fn find_run(&self, name: &str, trained_by: &'static str) -> Result<(), ArgsError> {
        self.find_any_run(name, trained_by)?;
        let path = run_path(name);
        match RunKind::of(&config_path(&self.path(&path))) {
            Some(kind) if kind.trained_by != trained_by => Err(ArgsError::OtherRun {
                path,
                command: trained_by,
                reason: kind.to_string(),
            }),
            _ => Ok(()),
        }
    }

    /// Checks that a run of any kind exists. `trained_by` is a command that trains one, for the message.
    pub(crate) fn find_any_run(&self, name: &str, trained_by: &str) -> Result<(), ArgsError> {
        let path = run_path(name);
        if is_run(&self.path(&path)) {
            return Ok(());
        }
        let runs = self.runs_near(&path);
        let mut listed: Vec<String> = runs
            .iter()
            .take(MOST_RUNS)
            .map(|name| escaped(name))
            .collect();
        if runs.len() > MOST_RUNS {
            listed.push(format!("{} more", runs.len() - MOST_RUNS));
        }
        let there = if listed.is_empty() {
            "there are no runs yet".to_owned()
        } else {
            format!("there are the runs {}", listed.join(", "))
        };
        let hint = format!("{there}; `cargo xtask {trained_by}` trains one");
        Err(ArgsError::NoRun { path, hint })
    }

    /// Checks the device name and the run of a command that speaks: one of speech, or of a rival in a comparison.
    pub(crate) fn find_device_and_voice(&self, device: &str, name: &str) -> Result<(), ArgsError> {
        DeviceName::parse(device)?;
        let kind = RunKind::of(&config_path(&self.path(&run_path(name))));
        if kind.is_some_and(|kind| kind.trained_by == "compare tts") {
            return Ok(());
        }
        self.find_run(name, "train-tts")
    }

    /// Checks that a run of this name does not exist yet.
    pub(crate) fn find_no_run(&self, name: &str) -> Result<(), ArgsError> {
        let path = run_path(name);
        if is_run(&self.path(&path)) {
            return Err(ArgsError::RunExists { path });
        }
        Ok(())
    }

    /// Checks the device name and the run of a command that uses a trained run.
    pub(crate) fn find_device_and_run(
        &self,
        device: &str,
        name: &str,
        trained_by: &'static str,
    ) -> Result<(), ArgsError> {
        DeviceName::parse(device)?;
        self.find_run(name, trained_by)
    }
}

fn refused(action: &'static str, path: &Path, source: io::Error) -> ArgsError {
    ArgsError::Io {
        action,
        path: path.to_owned(),
        source,
    }
}

/// The folder of a run: a name is a folder under `runs/`, a path is used as it is.
pub fn run_path(name: &str) -> PathBuf {
    if name.contains(MAIN_SEPARATOR) {
        name.into()
    } else {
        Path::new(RUNS).join(name)
    }
}

fn config_path(run: &Path) -> PathBuf {
    run.join("config.toml")
}

fn is_run(folder: &Path) -> bool {
    config_path(folder).is_file()
}

/// Names of the runs in a folder, sorted.
fn runs_in(folder: &Path) -> Vec<String> {
    let mut names = Vec::new();
    let Ok(entries) = fs::read_dir(folder) else {
        return names;
    };
    for entry in entries.flatten() {
        if is_run(&entry.path()) {
            names.push(entry.file_name().to_string_lossy().into_owned());
        }
    }
    names.sort();
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_lies_under_runs_and_a_path_where_it_leads() {
        assert_eq!(run_path("small"), Path::new("runs").join("small"));
        let path = ["target", "small"].join(std::path::MAIN_SEPARATOR_STR);
        assert_eq!(run_path(&path), Path::new("target").join("small"));
    }

    #[test]
    fn files_are_written_where_they_can() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("folder")).unwrap();
        fs::write(dir.path().join("file"), "").unwrap();
        let project = Project::at(dir.path());
        for path in ["new", "file", "folder/new", "none/deep/new"] {
            project.find_place(Path::new(path)).unwrap();
        }
        for path in ["new", "file", "folder/new"] {
            project.find_place_in_folder(Path::new(path)).unwrap();
        }
        for path in ["new", "folder", "none/deep"] {
            project.find_folder_place(Path::new(path)).unwrap();
        }
        let place = |path: &str| project.find_place(Path::new(path));
        let placed = |path: &str| project.find_place_in_folder(Path::new(path));
        let folder = |path: &str| project.find_folder_place(Path::new(path));
        for (checked, start) in [
            (place("folder"), "cannot write folder: "),
            (place("file/new"), "cannot write in file: "),
            (placed("file/deep/new"), "cannot write in file: "),
            (
                placed("none/new"),
                "cannot write in none: there is no such folder",
            ),
            (folder("file"), "cannot write file: "),
            (folder("file/deep"), "cannot write in file: "),
        ] {
            let error = checked.unwrap_err();
            assert!(!error.is_usage());
            assert!(error.to_string().starts_with(start), "{error}");
        }
        // In the working folder, where the parent of a bare name is empty.
        Project::here()
            .find_place_in_folder(Path::new("new"))
            .unwrap();
        let error = project.find_file(Path::new("folder")).unwrap_err();
        assert!(error.to_string().starts_with("cannot read folder: "));
        project.find_file(Path::new("file")).unwrap();
    }

    #[test]
    fn a_missing_run_lists_those_there_are() {
        let dir = tempfile::tempdir().unwrap();
        let project = Project::at(dir.path());
        let missing = |name: &str| project.find_run(name, "train-image").unwrap_err();
        let message = missing("x").to_string();
        assert!(
            message.ends_with(
                "x: is no run: it has no config.toml; there are no runs yet; \
                 `cargo xtask train-image` trains one"
            ),
            "{message}"
        );
        for name in ["small", "emoji", "begun"] {
            fs::create_dir_all(dir.path().join("runs").join(name)).unwrap();
        }
        for name in ["small", "emoji"] {
            fs::write(dir.path().join("runs").join(name).join("config.toml"), "").unwrap();
        }
        assert_eq!(project.runs(), ["emoji", "small"]);
        let message = missing("begun").to_string();
        assert!(
            message.contains("there are the runs emoji, small;"),
            "{message}"
        );
        project.find_run("small", "train-image").unwrap();
        assert!(project.find_no_run("small").is_err());
        project.find_no_run("begun").unwrap();
    }

    #[test]
    fn a_missing_run_lists_those_beside_its_path() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["runs/small", "out/first", "out/second"] {
            fs::create_dir_all(dir.path().join(name)).unwrap();
            fs::write(dir.path().join(name).join("config.toml"), "").unwrap();
        }
        let path = |name: &str| ["out", name].join(std::path::MAIN_SEPARATOR_STR);
        let error = Project::at(dir.path()).find_run(&path("x"), "train-tts");
        let message = error.unwrap_err().to_string();
        let listed = format!("small, {}, {};", path("first"), path("second"));
        assert!(message.contains(&listed), "{message}");
    }

    #[test]
    fn a_run_of_another_kind_says_of_which() {
        let dir = tempfile::tempdir().unwrap();
        let run = dir.path().join("runs/voice");
        fs::create_dir_all(&run).unwrap();
        fs::write(run.join("config.toml"), "[data]\nloudness_dbfs = -23.0").unwrap();
        let project = Project::at(dir.path());
        let error = project.find_run("voice", "train-image").unwrap_err();
        let message = error.to_string();
        let told =
            "is no run of train-image: it is one of train-tts, for `speak`, `eval-tts` and `codec`";
        assert!(message.ends_with(told), "{message}");
        assert!(!error.is_usage());
        project.find_run("voice", "train-tts").unwrap();
        project.find_any_run("voice", "train-image").unwrap();
    }

    #[test]
    fn a_list_of_runs_has_an_end() {
        let dir = tempfile::tempdir().unwrap();
        for number in 0..MOST_RUNS + 3 {
            let run = dir.path().join(format!("runs/{number:03}"));
            fs::create_dir_all(&run).unwrap();
            fs::write(run.join("config.toml"), "").unwrap();
        }
        let error = Project::at(dir.path()).find_run("x", "train-tts");
        let message = error.unwrap_err().to_string();
        assert!(message.contains("018, 019, 3 more;"), "{message}");
    }
}
