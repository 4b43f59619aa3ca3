//! `run check`.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use latentlm_args::{Run, RunCheck, escaped, run_path, say};
use latentlm_pipelines::{
    CheckedCheckpoint, CheckedFile, ImageRecipe, MllmRecipe, SpeechRecipe, VideoRecipe,
    check_any_recipe, check_files, check_recipe, check_run,
};
use latentlm_train::LatentCache;

/// The latent cache in a run's folder.
const CACHE: &str = "latents.safetensors";
/// Longest header of a latent cache that is read; its tensors are three arrays and their checksums.
const LONGEST_HEADER: u64 = 1 << 20;

/// Checks a run.
pub fn run(args: Run) -> Result<()> {
    match args {
        Run::Check(args) => check(&args),
    }
}

/// Prints a line for each checkpoint and each file whose damage can be told.
fn check(args: &RunCheck) -> Result<()> {
    let root = run_path(&args.run);
    let (mut all, mut damaged, mut trained) = (0, 0, false);
    for run in runs_within(&root)? {
        let checkpoints = check_run(&run)?;
        for found in &checkpoints {
            all += 1;
            damaged += usize::from(found.damage.is_some());
            show(&found.folder, &verdict(found));
        }
        let mut files = vec![checked_recipe(&run, &checkpoints)];
        files.extend(check_files(&run, &checkpoints));
        for file in &files {
            all += 1;
            damaged += usize::from(file.is_damaged);
            show(&file.path, &file.verdict);
        }
        let cache = run.join(CACHE);
        trained |= !checkpoints.is_empty() || cache.exists();
        if cache.exists() {
            all += 1;
            let read = LatentCache::read(&cache);
            damaged += usize::from(read.is_err());
            match read {
                // The message begins with the path.
                Err(error) => say!("{}", escaped(&error.to_string())),
                Ok(_) => show(&cache, &cache_verdict(&cache)?),
            }
        }
    }
    if !trained {
        show(&root, "has no checkpoints yet");
    }
    if damaged > 0 {
        bail!(
            "{}: {damaged} of {all} checkpoints and files are damaged",
            root.display()
        );
    }
    Ok(())
}

/// Prints a line about a file or folder. A line break in its name would begin another line.
fn show(path: &Path, verdict: &str) {
    say!("{}", escaped(&format!("{}: {verdict}", path.display())));
}

/// Checks the recipe of a run, by its kind.
fn checked_recipe(run: &Path, checkpoints: &[CheckedCheckpoint]) -> CheckedFile {
    check_recipe::<MllmRecipe>(run, checkpoints)
        .or_else(|| check_recipe::<SpeechRecipe>(run, checkpoints))
        .or_else(|| check_recipe::<ImageRecipe>(run, checkpoints))
        .or_else(|| check_recipe::<VideoRecipe>(run, checkpoints))
        .or_else(|| compared(run, checkpoints))
        .unwrap_or_else(|| check_any_recipe(run))
}

/// Checks the recipe of a comparison.
#[cfg(feature = "compare")]
fn compared(run: &Path, checkpoints: &[CheckedCheckpoint]) -> Option<CheckedFile> {
    use latentlm_compare::{
        CompareMllmRecipe, CompareRecipe, CompareTtsRecipe, FastMllmRecipe, FastTtsRecipe,
        HeadsRecipe, LatentsRecipe, SigmaRecipe,
    };

    check_recipe::<CompareRecipe>(run, checkpoints)
        .or_else(|| check_recipe::<CompareMllmRecipe>(run, checkpoints))
        .or_else(|| check_recipe::<CompareTtsRecipe>(run, checkpoints))
        .or_else(|| check_recipe::<SigmaRecipe>(run, checkpoints))
        .or_else(|| check_recipe::<HeadsRecipe>(run, checkpoints))
        .or_else(|| check_recipe::<LatentsRecipe>(run, checkpoints))
        .or_else(|| check_recipe::<FastTtsRecipe>(run, checkpoints))
        .or_else(|| check_recipe::<FastMllmRecipe>(run, checkpoints))
}

#[cfg(not(feature = "compare"))]
fn compared(_: &Path, _: &[CheckedCheckpoint]) -> Option<CheckedFile> {
    None
}

fn verdict(checkpoint: &CheckedCheckpoint) -> String {
    match (&checkpoint.damage, checkpoint.checked_bytes) {
        (Some(damage), _) => format!("damaged: {damage}"),
        (None, Some(bytes)) => format!("whole, {:.1} MB compared", bytes as f64 / 1e6),
        (None, None) => "no checksums: whether it is whole can't be checked".into(),
    }
}

/// The message for a cache that could be read. Caches of older versions have no checksums.
fn cache_verdict(cache: &Path) -> Result<String> {
    let unread = || format!("cannot read {}", cache.display());
    let bytes = cache.metadata().with_context(unread)?.len();
    let header = header(cache).with_context(unread)?;
    let tensors: serde_json::Value = serde_json::from_slice(&header).with_context(unread)?;
    if tensors.get("checksums").is_none() {
        return Ok("no checksums: whether it is whole can't be checked".into());
    }
    Ok(format!("whole, {:.1} MB compared", bytes as f64 / 1e6))
}

/// The header of a file of tensors: JSON behind its length, 8 bytes.
fn header(path: &Path) -> io::Result<Vec<u8>> {
    let mut file = File::open(path)?;
    let mut length = [0; 8];
    file.read_exact(&mut length)?;
    let length = u64::from_le_bytes(length).min(LONGEST_HEADER);
    let mut header = Vec::new();
    file.take(length).read_to_end(&mut header)?;
    Ok(header)
}

/// The run and all runs within its folder, such as `codec` of a comparison, in order. A run that lost its recipe is
/// recognized by its checkpoints.
fn runs_within(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut runs = Vec::new();
    if folder.join("config.toml").is_file() || folder.join("checkpoints").is_dir() {
        runs.push(folder.to_owned());
    }
    let unread = || format!("cannot read {}", folder.display());
    let mut inside = Vec::new();
    for entry in std::fs::read_dir(folder).with_context(unread)? {
        let path = entry.with_context(unread)?.path();
        // A link could lead above.
        if path.is_dir() && !path.is_symlink() {
            inside.push(path);
        }
    }
    inside.sort();
    for path in inside {
        runs.extend(runs_within(&path)?);
    }
    Ok(runs)
}
