//! Checks the files of a run: its checkpoints, and those beside them.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use latentlm::core::bundle::io_error;
use latentlm::core::disk::text_within;
use latentlm_keys::{RunKind, Table, Value};

use crate::changed::changed_keys;
use crate::error::Result;
use crate::integrity::{MANIFEST, Wanted, damage, misplaced};
use crate::inventory::Inventory;
use crate::manifest::{AnyManifest, Manifest, manifest_bytes};
use crate::metrics::record;
use crate::recipe::Recipe;
use crate::run::{paths_in, steps_in};

/// Largest size of a recipe in bytes, as for those that are given.
const MOST_TEXT_BYTES: u64 = 1 << 20;

/// A checkpoint, and its damage if it has any.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckedCheckpoint {
    /// Its folder.
    pub folder: PathBuf,
    /// Bytes that were compared with checksums; none for a checkpoint of a version that kept no checksums.
    pub checked_bytes: Option<u64>,
    /// Description of the damage, if there is any.
    pub damage: Option<String>,
}

/// A file of a run, and its state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckedFile {
    /// The file.
    pub path: PathBuf,
    /// What was found to be whole, or a description of the damage.
    pub verdict: String,
    /// Whether it is damaged.
    pub is_damaged: bool,
}

impl CheckedFile {
    /// The outcome of a check: what was found whole, or the damage.
    fn new(path: PathBuf, checked: Result<String, String>) -> Self {
        let is_damaged = checked.is_err();
        let verdict = checked.unwrap_or_else(|damage| format!("damaged: {damage}"));
        Self {
            path,
            verdict,
            is_damaged,
        }
    }
}

/// All checkpoints of a run, of any kind, by stage and step, compared with their checksums.
///
/// # Errors
/// If a folder can't be read.
pub fn check_run(run: &Path) -> Result<Vec<CheckedCheckpoint>> {
    let checkpoints = run.join("checkpoints");
    let mut checked = Vec::new();
    if !checkpoints.is_dir() {
        return Ok(checked);
    }
    let mut stages = paths_in(&checkpoints).map_err(io_error("read", &checkpoints))?;
    stages.sort();
    for stage in stages.iter().filter(|stage| stage.is_dir()) {
        let steps = steps_in(stage).map_err(io_error("read", stage))?;
        let folders = steps.values().filter(|folder| folder.is_dir());
        checked.extend(folders.map(|folder| check(folder)));
    }
    Ok(checked)
}

fn check(folder: &Path) -> CheckedCheckpoint {
    let said = manifest_bytes(folder)
        .map_err(|error| format!("{MANIFEST} cannot be read: {error}"))
        .and_then(|bytes| AnyManifest::parse(&bytes));
    let (checked_bytes, damage) = match said {
        Err(damage) => (None, Some(damage)),
        Ok(said) => {
            let bytes = said.files.values().map(|file| file.bytes).sum();
            let damage = misplaced(folder, &said.stage, said.step)
                .or_else(|| damage(folder, &said.files, Wanted::Everything));
            ((!said.files.is_empty()).then_some(bytes), damage)
        }
    };
    CheckedCheckpoint {
        folder: folder.into(),
        checked_bytes,
        damage,
    }
}

/// Checks the recipe of a run that a recipe of the kind `R` trains; `None` if it is a run of another kind. The recipe
/// must be readable, and must have every key whose value in the newest whole checkpoint is not the default. Otherwise
/// a file that lost its last lines would describe another model.
pub fn check_recipe<R: Recipe>(
    run: &Path,
    checkpoints: &[CheckedCheckpoint],
) -> Option<CheckedFile> {
    let path = run.join("config.toml");
    let whole = checkpoints.iter().rev();
    let mut manifests = whole
        .filter(|checkpoint| checkpoint.damage.is_none())
        .filter_map(|checkpoint| Manifest::<R>::read(&checkpoint.folder).ok());
    let newest = manifests.next();
    let is_own = match RunKind::of(&path) {
        Some(kind) => kind.trained_by == R::COMMAND,
        // What told the kind may be what is lost.
        None => newest.is_some(),
    };
    is_own.then(|| {
        let checked = compare_recipe(&path, newest.as_ref());
        CheckedFile::new(path, checked)
    })
}

/// Checks a recipe of a kind that is not known here: it must be TOML.
pub fn check_any_recipe(run: &Path) -> CheckedFile {
    let path = run.join("config.toml");
    let checked = text_of(&path).and_then(|text| match text.parse::<Table>() {
        Ok(_) => Ok("readable".to_owned()),
        Err(_) => Err("it is no TOML".to_owned()),
    });
    CheckedFile::new(path, checked)
}

/// Checks the log, the lists of data and weights, and the report of a run, as far as they are there. A run with checkpoints
/// must have a log.
pub fn check_files(run: &Path, checkpoints: &[CheckedCheckpoint]) -> Vec<CheckedFile> {
    let mut files = Vec::new();
    let log = run.join("metrics.jsonl");
    if log.exists() || !checkpoints.is_empty() {
        let checked = bytes_of(&log).and_then(|bytes| check_log(&bytes));
        files.push(CheckedFile::new(log, checked));
    }
    for name in ["data.txt", "weights.txt"] {
        let list = run.join(name);
        if list.exists() {
            let read = Inventory::read(&list).map(|_| "readable".to_owned());
            let checked = read.map_err(|error| without_path(&error.to_string(), &list));
            files.push(CheckedFile::new(list, checked));
        }
    }
    let report = run.join("report.html");
    if report.exists() {
        let checked = bytes_of(&report).and_then(|bytes| check_report(&bytes));
        files.push(CheckedFile::new(report, checked));
    }
    files
}

fn compare_recipe<R: Recipe>(path: &Path, newest: Option<&Manifest<R>>) -> Result<String, String> {
    let text = text_of(path)?;
    let recipe = R::resolve(Some(path), &[]);
    let recipe = recipe.map_err(|error| without_path(&error.to_string(), path))?;
    let Some(newest) = newest else {
        return Ok("readable, no checkpoint to compare it with".into());
    };
    let checkpoint = format!("step {} of the stage `{}`", newest.step, newest.stage);
    let table: Table = text.parse().unwrap_or_default();
    let changed = changed_keys(&recipe, &newest.recipe).map_err(|error| error.to_string())?;
    // Other values are no damage: more steps, data that lie elsewhere now.
    let lost = changed.iter().find(|key| !has_key(&table, &key.name));
    match lost {
        Some(key) => Err(format!(
            "it lacks `{}`, which is {} in {checkpoint}",
            key.name, key.now
        )),
        None => Ok(format!("whole, compared with {checkpoint}")),
    }
}

/// Whether a table has a dotted key.
fn has_key(table: &Table, name: &str) -> bool {
    let (first, rest) = match name.split_once('.') {
        Some((first, rest)) => (first, Some(rest)),
        None => (name, None),
    };
    match (table.get(first), rest) {
        (Some(Value::Table(inner)), Some(rest)) => has_key(inner, rest),
        (found, rest) => found.is_some() && rest.is_none(),
    }
}

/// Every line must be a record. What a kill leaves behind the last line break is removed when the run goes on.
fn check_log(bytes: &[u8]) -> Result<String, String> {
    let mut lines: Vec<&[u8]> = bytes.split(|byte| *byte == b'\n').collect();
    let rest = lines.pop().unwrap_or_default();
    for (number, line) in (1..).zip(&lines) {
        if record(line).is_none() {
            return Err(format!("line {number} is no record"));
        }
    }
    if rest.is_empty() {
        return Ok(format!("whole, {} lines", lines.len()));
    }
    Ok(format!(
        "whole, {} lines and one that was cut by a kill",
        lines.len()
    ))
}

/// A report begins and ends as it is written.
fn check_report(bytes: &[u8]) -> Result<String, String> {
    if bytes.starts_with(b"<!doctype html>") && bytes.ends_with(b"</pre>") {
        Ok("whole".into())
    } else {
        Err("its beginning or its end is missing".into())
    }
}

fn text_of(path: &Path) -> Result<String, String> {
    let text = File::open(path).and_then(|file| text_within(file, MOST_TEXT_BYTES));
    text.map_err(|error| format!("it cannot be read: {error}"))
}

fn bytes_of(path: &Path) -> Result<Vec<u8>, String> {
    fs::read(path).map_err(|error| format!("it cannot be read: {error}"))
}

/// A message without the path that it begins with.
fn without_path(message: &str, path: &Path) -> String {
    let path = format!("{}: ", path.display());
    message.strip_prefix(&path).unwrap_or(message).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::PipelineError;
    use crate::image::ImageRecipe;
    use crate::manifest::own_checksum;
    use crate::run::RunFolder;

    #[test]
    fn a_manifest_that_was_changed_is_damage() {
        let dir = tempfile::tempdir().unwrap();
        let recipe = ImageRecipe::default();
        let path = dir.path().join("r");
        let run = RunFolder::create(&path, &recipe).unwrap();
        let mut manifest = Manifest::new("lm", &recipe, &[], "f");
        manifest.step = 5;
        let fill = |bundle: &latentlm::core::bundle::BundleWriter| Ok(bundle.write("x", b"y")?);
        run.checkpoint::<PipelineError>(&manifest, fill).unwrap();
        let found = || check_run(&path).unwrap().remove(0).damage;
        assert_eq!(found(), None);
        let file = path.join("checkpoints/lm/step-5").join(MANIFEST);
        let whole = fs::read_to_string(&file).unwrap();
        let seed = format!("\"seed\": {}", manifest.seed);
        let other_seed = format!("\"seed\": {}", manifest.seed + 1);
        let changed = whole.replacen(&seed, &other_seed, 1);
        assert_ne!(changed, whole);
        fs::write(&file, changed).unwrap();
        let damage = "damaged manifest: its checksum differs";
        assert_eq!(found().as_deref(), Some(damage));
        // Another version wrote it, with a checksum that is right, or with none.
        let later = whole.replacen("\"format_version\": 1", "\"format_version\": 9", 1);
        assert_ne!(later, whole);
        let checksum = |text: &str| own_checksum(text.as_bytes());
        for now in [checksum(&later), String::new()] {
            fs::write(&file, later.replacen(&checksum(&whole), &now, 1)).unwrap();
            let told = "checkpoint format 9, this program reads 1";
            assert_eq!(found().as_deref(), Some(told));
        }
    }

    #[test]
    fn a_recipe_that_lost_lines_is_damage() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("r");
        let mut recipe = ImageRecipe::default();
        recipe.lm_train.steps = 7;
        let run = RunFolder::create(&path, &recipe).unwrap();
        let check = || {
            let checkpoints = check_run(&path).unwrap();
            check_recipe::<ImageRecipe>(&path, &checkpoints).unwrap()
        };
        let fresh = "readable, no checkpoint to compare it with";
        assert_eq!(check().verdict, fresh);
        let manifest = Manifest {
            step: 5,
            ..Manifest::new("lm", &recipe, &[], "f")
        };
        let saved =
            run.checkpoint::<PipelineError>(&manifest, |bundle| Ok(bundle.write("x", b"y")?));
        saved.unwrap();
        let whole = "whole, compared with step 5 of the stage `lm`";
        assert_eq!(check().verdict, whole);

        let config = run.file("config.toml");
        let text = fs::read_to_string(&config).unwrap();
        // A run may go on with more steps.
        fs::write(&config, text.replacen("\nsteps = 7\n", "\nsteps = 9\n", 1)).unwrap();
        assert_eq!(check().verdict, whole);
        // Cut between two lines: still TOML, and a recipe.
        let (before, _) = text.split_once("[lm_train]").unwrap();
        fs::write(&config, before).unwrap();
        let told = check();
        assert!(told.is_damaged, "{told:?}");
        let lost = "damaged: it lacks `lm_train.steps`, which is 7 in step 5 of the stage `lm`";
        assert_eq!(told.verdict, lost);
        // Cut within a line, and no text at all.
        for bytes in [&text.as_bytes()[..before.len() + 4], &b"\xff\xfe\0"[..]] {
            fs::write(&config, bytes).unwrap();
            assert!(check().is_damaged, "{:?}", check());
            assert!(check_any_recipe(&path).is_damaged);
        }
        fs::remove_file(&config).unwrap();
        let told = check().verdict;
        assert!(told.starts_with("damaged: it cannot be read"), "{told}");
        fs::write(&config, "x = 1").unwrap();
        assert!(!check_any_recipe(&path).is_damaged);
    }

    #[test]
    fn a_run_is_of_the_kind_of_its_recipe() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("r");
        RunFolder::create(&path, &ImageRecipe::default()).unwrap();
        assert!(check_recipe::<ImageRecipe>(&path, &[]).is_some());
        #[cfg(feature = "speech")]
        assert_eq!(check_recipe::<crate::SpeechRecipe>(&path, &[]), None);
        #[cfg(feature = "mllm")]
        assert_eq!(check_recipe::<crate::MllmRecipe>(&path, &[]), None);
    }

    #[test]
    fn a_cut_last_line_of_the_log_is_no_damage_and_any_other_is() {
        let line = "{\"stage\":\"lm\",\"step\":1,\"loss\":0.5}\n";
        let check = |text: &str| check_log(text.as_bytes());
        assert_eq!(check(&line.repeat(2)).unwrap(), "whole, 2 lines");
        assert_eq!(check("").unwrap(), "whole, 0 lines");
        let cut = format!("{line}{}", &line[..20]);
        let told = "whole, 1 lines and one that was cut by a kill";
        assert_eq!(check(&cut).unwrap(), told);
        let told = check(&format!("{cut}\n{line}")).unwrap_err();
        assert_eq!(told, "line 2 is no record");
        let told = check(&format!("{line}\0\0\0\n")).unwrap_err();
        assert_eq!(told, "line 2 is no record");
    }

    #[test]
    fn a_cut_report_is_damage_and_a_run_with_checkpoints_needs_a_log() {
        let dir = tempfile::tempdir().unwrap();
        let report = dir.path().join("report.html");
        assert!(check_files(dir.path(), &[]).is_empty());
        let html = "<!doctype html><html><pre>seed = 1</pre>";
        for (text, is_damaged) in [
            (html, false),
            (&html[..30], true),
            (&html[5..], true),
            ("", true),
        ] {
            fs::write(&report, text).unwrap();
            let found = check_files(dir.path(), &[]);
            assert_eq!(found.len(), 1);
            assert_eq!(found[0].is_damaged, is_damaged, "{found:?}");
        }
        fs::remove_file(&report).unwrap();
        fs::write(dir.path().join("data.txt"), "latentlm da").unwrap();
        let checkpoint = CheckedCheckpoint {
            folder: dir.path().join("checkpoints/lm/step-1"),
            checked_bytes: None,
            damage: None,
        };
        let found = check_files(dir.path(), &[checkpoint]);
        let damaged = found.iter().filter(|file| file.is_damaged);
        let damaged = damaged.map(|file| file.path.file_name().unwrap());
        assert_eq!(damaged.collect::<Vec<_>>(), ["metrics.jsonl", "data.txt"]);
    }
}
