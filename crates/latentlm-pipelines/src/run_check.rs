//! Checks the files of a run: its checkpoints, and those beside them.

use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use latentlm::core::bundle::io_error;
use latentlm::core::disk::{self, UNFINISHED, text_within};
use latentlm_keys::{RunKind, Table, Value};
use serde::de::IgnoredAny;

use crate::changed::changed_keys;
use crate::error::Result;
use crate::integrity::{
    LATEST, MANIFEST, Wanted, damage, misplaced, named_newest, special_file, step_of,
};
use crate::inventory::Inventory;
use crate::manifest::{AnyManifest, Manifest, manifest_bytes};
use crate::metrics::record;
use crate::recipe::Recipe;
use crate::run::{paths_in, steps_in};
use crate::skipped;

/// Bytes at the beginning and at the end of a sample that are looked at.
const ENDS: usize = 12;

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
        checked.extend(folders.map(|folder| checked_folder(folder)));
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

/// [`check`], unless the folder has something in it that can't be read to its end.
fn checked_folder(folder: &Path) -> CheckedCheckpoint {
    match special_file(folder) {
        Some(damage) => CheckedCheckpoint {
            folder: folder.into(),
            checked_bytes: None,
            damage: Some(damage),
        },
        None => check(folder),
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
    if let Some(special) = special_recipe(&path) {
        return Some(special);
    }
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
    if let Some(special) = special_recipe(&path) {
        return special;
    }
    let checked = text_of(&path).and_then(|text| match text.parse::<Table>() {
        Ok(_) => Ok("readable".to_owned()),
        Err(_) => Err("it is no TOML".to_owned()),
    });
    CheckedFile::new(path, checked)
}

/// The damage of a recipe that is no regular file, such as a pipe.
fn special_recipe(path: &Path) -> Option<CheckedFile> {
    let is_special = path.exists() && !path.is_file();
    let damage = "it cannot be read: it is no regular file";
    is_special.then(|| CheckedFile::new(path.to_owned(), Err(damage.into())))
}

/// Checks the log, the lists of data, weights and what was left out, the measurements and the report of a run, as far as
/// they are there. A run with checkpoints must have a log. Pointers to the newest checkpoints and samples are among the
/// files only if they are damaged.
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
    let list = run.join(skipped::FILE);
    if list.exists() {
        let checked = bytes_of(&list).and_then(|bytes| check_skipped(&bytes));
        files.push(CheckedFile::new(list, checked));
    }
    for results in inside(run) {
        if results.extension().is_some_and(|end| end == "json") {
            let checked = bytes_of(&results).and_then(|bytes| check_json(&bytes));
            files.push(CheckedFile::new(results, checked));
        }
    }
    let report = run.join("report.html");
    if report.exists() {
        let checked = bytes_of(&report).and_then(|bytes| check_report(&bytes));
        files.push(CheckedFile::new(report, checked));
    }
    let mut others = Vec::new();
    for stage in inside(&run.join("checkpoints")) {
        let pointer = stage.join(LATEST);
        if pointer.exists() {
            others.push(CheckedFile::new(pointer, check_pointer(&stage)));
        }
    }
    for sample in inside(&run.join("samples")) {
        let checked = check_sample(&sample);
        others.push(CheckedFile::new(sample, checked));
    }
    files.extend(others.into_iter().filter(|file| file.is_damaged));
    files
}

/// The finished files and folders in a folder, in order; none if there is no folder.
fn inside(folder: &Path) -> Vec<PathBuf> {
    let mut paths = paths_in(folder).unwrap_or_default();
    paths.retain(|path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        !name.starts_with(UNFINISHED)
    });
    paths.sort();
    paths
}

/// The newest checkpoint must be one that is there. A kill may leave none named, and never one that is gone.
fn check_pointer(stage: &Path) -> Result<String, String> {
    let name = named_newest(stage).map_err(|error| format!("it cannot be read: {error}"))?;
    let is_step = step_of(Path::new(&name)).is_some_and(|step| name == format!("step-{step}"));
    if is_step && stage.join(&name).is_dir() {
        return Ok("whole".into());
    }
    Err(format!("it names `{name}`, which is not there"))
}

/// Every line has a path, a tab and a reason.
fn check_skipped(bytes: &[u8]) -> Result<String, String> {
    let text = std::str::from_utf8(bytes).map_err(|error| error.to_string())?;
    let mut lines = text.lines();
    match lines.position(|line| !line.contains('\t')) {
        Some(place) => Err(format!("line {} is no entry", place + 1)),
        None if !text.is_empty() && !text.ends_with('\n') => Err("its end is missing".into()),
        None => Ok("readable".into()),
    }
}

fn check_json(bytes: &[u8]) -> Result<String, String> {
    match serde_json::from_slice::<IgnoredAny>(bytes) {
        Ok(_) => Ok("readable".into()),
        Err(_) => Err("it is no JSON".into()),
    }
}

/// Pictures and sounds begin and end as they are written. Samples of other kinds are not looked at.
fn check_sample(path: &Path) -> Result<String, String> {
    let ending = path.extension().unwrap_or_default();
    let is_whole: fn(&[u8], &[u8], u64) -> bool = match &*ending.to_string_lossy() {
        "png" => |first, last, _| {
            first.starts_with(b"\x89PNG\r\n\x1a\n") && last == b"\0\0\0\0IEND\xae\x42\x60\x82"
        },
        // The size of what follows the size itself.
        "wav" => |first, _, bytes| match first {
            [b'R', b'I', b'F', b'F', a, b, c, d, ..] => {
                u64::from(u32::from_le_bytes([*a, *b, *c, *d])) + 8 == bytes
            }
            _ => false,
        },
        "gif" => |first, last, _| first.starts_with(b"GIF8") && last.ends_with(b";"),
        _ => return Ok("not looked at".into()),
    };
    let ends = ends_of(path).map_err(|error| format!("it cannot be read: {error}"))?;
    let (first, last, bytes) = ends;
    if is_whole(&first, &last, bytes) {
        Ok("whole".into())
    } else {
        Err("its beginning or its end is missing".into())
    }
}

/// The first and the last bytes of a file, and its size.
fn ends_of(path: &Path) -> io::Result<(Vec<u8>, Vec<u8>, u64)> {
    let mut file = disk::open_regular(path)?;
    let bytes = file.metadata()?.len();
    let (mut first, mut last) = (Vec::new(), Vec::new());
    file.by_ref().take(ENDS as u64).read_to_end(&mut first)?;
    file.seek(SeekFrom::Start(bytes.saturating_sub(ENDS as u64)))?;
    file.read_to_end(&mut last)?;
    Ok((first, last, bytes))
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
    let text = disk::open_regular(path).and_then(|file| text_within(file, MOST_TEXT_BYTES));
    text.map_err(|error| format!("it cannot be read: {error}"))
}

fn bytes_of(path: &Path) -> Result<Vec<u8>, String> {
    disk::read_regular(path).map_err(|error| format!("it cannot be read: {error}"))
}

/// A message without the path that it begins with.
fn without_path(message: &str, path: &Path) -> String {
    let path = format!("{}: ", path.display());
    message.strip_prefix(&path).unwrap_or(message).to_owned()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::error::PipelineError;
    use crate::image::{ImageRecipe, save_png};
    use crate::manifest::own_checksum;
    use crate::run::RunFolder;

    /// The name and the verdict of each file of a folder that is damaged.
    fn damaged_in(folder: &Path) -> Vec<(String, String)> {
        let files = check_files(folder, &[]).into_iter();
        let damaged = files.filter(|file| file.is_damaged).map(|file| {
            let name = file.path.strip_prefix(folder).unwrap();
            (name.to_string_lossy().into_owned(), file.verdict)
        });
        damaged.collect()
    }

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

    #[test]
    fn a_pointer_to_a_checkpoint_that_is_gone_is_damage() {
        let dir = tempfile::tempdir().unwrap();
        let stage = dir.path().join("checkpoints/lm");
        fs::create_dir_all(stage.join("step-4")).unwrap();
        // What a kill leaves that came before the first was named.
        assert!(damaged_in(dir.path()).is_empty());
        for whole in ["step-4", "step-4\n"] {
            fs::write(stage.join("latest"), whole).unwrap();
            assert!(damaged_in(dir.path()).is_empty());
        }
        let gone = "damaged: it names `step-99`, which is not there";
        let long = "x".repeat(2000);
        for (text, verdict) in [
            ("step-99", gone),
            ("../lm/step-4", "damaged: it names `../lm/step-4`, which"),
            ("", "damaged: it names ``, which is not there"),
            (
                &*long,
                "damaged: it cannot be read: it has more than 1024 bytes",
            ),
        ] {
            fs::write(stage.join("latest"), text).unwrap();
            let found = damaged_in(dir.path());
            assert_eq!(found.len(), 1, "{found:?}");
            assert_eq!(found[0].0, "checkpoints/lm/latest");
            assert!(found[0].1.starts_with(verdict), "{found:?}");
        }
    }

    /// Whole as they are written, and cut.
    #[test]
    fn cut_samples_results_and_lists_are_damage() {
        let dir = tempfile::tempdir().unwrap();
        let file = |name: &str| dir.path().join(name);
        fs::create_dir(file("samples")).unwrap();
        save_png(&::image::RgbImage::new(3, 2), &file("samples/a.png")).unwrap();
        let mut names = vec!["samples/a.png"];
        #[cfg(feature = "speech")]
        {
            let sound = file("samples/b.wav");
            latentlm_data::speech::write_wav(&sound, &[0.5; 9], 8000).unwrap();
            names.push("samples/b.wav");
        }
        for (name, text) in [
            ("samples/c.gif", "GIF89a ... ;"),
            ("evaluation.json", "{\"step\": 4, \"psnr\": [0.5]}"),
            ("skipped.txt", "1.wav\tis cut short\n2.wav\thas no text\n"),
        ] {
            fs::write(file(name), text).unwrap();
            names.push(name);
        }
        // Not looked at, and what a kill left.
        fs::write(file("samples/notes"), "x").unwrap();
        fs::write(file("samples/.writing-1.png"), "x").unwrap();
        assert_eq!(damaged_in(dir.path()), []);
        for name in names {
            let whole = fs::read(file(name)).unwrap();
            for end in [whole.len() - 1, 3, 0] {
                fs::write(file(name), &whole[..end]).unwrap();
                // Nothing left out is a list too.
                let is_whole = name == "skipped.txt" && end == 0;
                let found = damaged_in(dir.path());
                assert_eq!(
                    found.len(),
                    usize::from(!is_whole),
                    "{name} {end}: {found:?}"
                );
                assert!(found.iter().all(|(damaged, _)| damaged == name));
            }
            fs::write(file(name), whole).unwrap();
        }
        fs::write(file("skipped.txt"), "1.wav\tis cut\n2.wav\n").unwrap();
        let told = "damaged: line 2 is no entry".to_owned();
        assert_eq!(damaged_in(dir.path()), [("skipped.txt".to_owned(), told)]);
    }

    /// Reading them would wait for ever: in checkpoints without checksums, and beside them.
    #[cfg(unix)]
    #[test]
    fn pipes_in_a_run_are_damage_and_never_opened() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("r");
        let recipe = ImageRecipe::default();
        let run = RunFolder::create(&path, &recipe).unwrap();
        let folder = path.join("checkpoints/lm/step-5");
        fs::create_dir_all(&folder).unwrap();
        let manifest = Manifest {
            step: 5,
            ..Manifest::new("lm", &recipe, &[], "f")
        };
        let json = serde_json::to_vec(&manifest).unwrap();
        fs::write(folder.join(MANIFEST), json).unwrap();
        let pipe = |path: &Path| {
            let _ = fs::remove_file(path);
            let made = std::process::Command::new("mkfifo").arg(path).status();
            assert!(made.unwrap().success());
        };
        assert_eq!(check_run(&path).unwrap()[0].damage, None);
        for name in ["model.safetensors", MANIFEST] {
            pipe(&folder.join(name));
            // The first by name.
            let told = format!("{MANIFEST} is no regular file");
            let told = if name == MANIFEST {
                &*told
            } else {
                "model.safetensors is no regular file"
            };
            assert_eq!(check_run(&path).unwrap()[0].damage.as_deref(), Some(told));
            let error = run.latest("lm", Wanted::Weights).unwrap_err().to_string();
            assert!(error.ends_with(told), "{error}");
            let error = crate::Checkpoint::open(&folder).manifest::<ImageRecipe>();
            assert!(error.unwrap_err().to_string().ends_with(told));
        }
        let beside = [
            "metrics.jsonl",
            "data.txt",
            "skipped.txt",
            "report.html",
            "evaluation.json",
            "samples/a.png",
            "checkpoints/lm/latest",
        ];
        fs::create_dir_all(path.join("samples")).unwrap();
        for name in beside {
            pipe(&path.join(name));
        }
        let found = damaged_in(&path);
        assert_eq!(found.len(), beside.len(), "{found:?}");
        let is_told = |told: &str| told.contains("it is no regular file");
        assert!(found.iter().all(|(_, told)| is_told(told)), "{found:?}");
        pipe(&path.join("config.toml"));
        let recipe = check_recipe::<ImageRecipe>(&path, &[]).unwrap();
        assert!(is_told(&recipe.verdict) && recipe.is_damaged);
        assert_eq!(check_any_recipe(&path), recipe);
    }
}
