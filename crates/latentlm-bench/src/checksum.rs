//! What checksums cost a checkpoint.

use std::path::Path;
use std::time::Instant;

use latentlm::core::bundle::{BundleWriter, io_error};
use latentlm::core::disk;
use latentlm_eval::median;
use latentlm_pipelines::{ImageRecipe, Manifest, PipelineError, RunFolder, Wanted};

/// Times of a checkpoint, medians in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ChecksumTimes {
    /// Its file written and synced, without checksums.
    pub written_ms: f64,
    /// Its file written and synced, with checksums in a manifest.
    pub saved_ms: f64,
    /// The file compared with its checksum, as on loading.
    pub compared_ms: f64,
}

/// Times a checkpoint with one file of `bytes` bytes, in a folder within `folder` that is removed again.
///
/// # Errors
/// If the checkpoint can't be written or read.
pub fn checksum_times(
    folder: &Path,
    bytes: usize,
    repeats: usize,
) -> Result<ChecksumTimes, PipelineError> {
    let scratch = disk::temporary_folder(folder).map_err(io_error("create a folder in", folder))?;
    let (file, recipe) = (vec![7_u8; bytes], ImageRecipe::default());
    let manifest = Manifest::new("lm", &recipe, &[], "");
    let mut times = [Vec::new(), Vec::new(), Vec::new()];
    for repeat in 0..repeats.max(1) {
        let place = scratch.path().join(repeat.to_string());
        let run = RunFolder::create(&place, &recipe)?;
        let started = Instant::now();
        let bundle = BundleWriter::begin(&place.join("plain"))?;
        bundle.write("x", &file)?;
        bundle.commit()?;
        times[0].push(milliseconds(started));
        let started = Instant::now();
        run.checkpoint::<PipelineError>(&manifest, |bundle| Ok(bundle.write("x", &file)?))?;
        times[1].push(milliseconds(started));
        let started = Instant::now();
        run.require("lm", Wanted::Everything)?;
        times[2].push(milliseconds(started));
        disk::remove_folder(&place);
    }
    let [written_ms, saved_ms, compared_ms] = times.map(median);
    Ok(ChecksumTimes {
        written_ms,
        saved_ms,
        compared_ms,
    })
}

fn milliseconds(started: Instant) -> f64 {
    started.elapsed().as_secs_f64() * 1e3
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_checkpoint_is_timed_and_leaves_nothing() {
        let folder = std::env::temp_dir().join(format!("latentlm-checksum-{}", std::process::id()));
        let made = disk::create_folders(&folder).unwrap();
        let times = checksum_times(&folder, 1 << 20, 2).unwrap();
        let all = [times.written_ms, times.saved_ms, times.compared_ms];
        assert!(all.iter().all(|ms| *ms > 0.0), "{times:?}");
        // Only an empty folder can be removed so.
        disk::remove_empty_folders(&made);
        assert!(!folder.exists());
    }
}
