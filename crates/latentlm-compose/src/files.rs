//! Composed clips as files.

use std::path::{Path, PathBuf};

use latentlm_data::DataError;
use latentlm_media::clip::{RawClip, write_frames, write_gif};
use latentlm_media::write_whole;
use serde_json::json;

use crate::begun::Begun;
use crate::composer::Composer;
use crate::error::malformed;

/// Where clips are written, and which.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClipFiles {
    /// Folder of the new dataset.
    pub folder: PathBuf,
    /// Number of clips.
    pub count: usize,
    /// Random seed.
    pub seed: u64,
    /// Whether a clip is a folder of numbered PNG frames instead of a GIF.
    pub as_frames: bool,
}

/// Writes clips, without loss of grey levels, and, last, `metadata.jsonl` with `file_name`, `text` and `still`.
/// The same composer, count and seed give the same files. A call that was interrupted is continued by another with
/// the same options. Calls `written` with the index of each finished clip.
///
/// # Errors
/// If the folder holds a dataset already, or a part of one with other options, or can't be written.
pub fn write_clips(
    composer: &Composer,
    files: &ClipFiles,
    written: impl FnMut(usize),
) -> Result<(), DataError> {
    let table = files.folder.join("metadata.jsonl");
    if table.exists() {
        let reason = "exists already: name a folder without a dataset";
        return Err(malformed(&table, reason));
    }
    let options = json!({
        "digits": composer.fingerprint(),
        "split": composer.split().name(),
        "clips": format!("{:?}", composer.spec()),
        "count": files.count,
        "seed": files.seed,
        "as_frames": files.as_frames,
    });
    let begun = Begun::open(&files.folder, "clips", &options)?;
    begun.end(write_all(composer, files, &table, written))
}

/// Writes the clips that are not there yet, and the table.
fn write_all(
    composer: &Composer,
    files: &ClipFiles,
    table: &Path,
    mut written: impl FnMut(usize),
) -> Result<(), DataError> {
    let spec = composer.spec();
    let mut lines = String::new();
    for index in 0..files.count {
        let composed = composer.clip(files.seed, index as u64);
        let raw = RawClip {
            pixels: &composed.clip.frames,
            spec: spec.picture,
            rate_hz: spec.rate_hz,
        };
        let name = if files.as_frames {
            format!("clips/{index:06}")
        } else {
            format!("clips/{index:06}.gif")
        };
        let path = files.folder.join(&name);
        // An interrupted call may have written it.
        if !path.exists() {
            if files.as_frames {
                write_frames(&path, &raw)?;
            } else {
                write_gif(&path, &raw)?;
            }
        }
        let still = composed.scene.still();
        let line = json!({ "file_name": name, "text": composed.clip.text, "still": still });
        lines += &format!("{line}\n");
        written(index);
    }
    // The table comes last: without it, an interrupted dataset is not taken for a complete one.
    write_whole(table, lines.as_bytes())?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clip_spec;
    use latentlm_data::{ClipDataset, ReadOptions, Split};
    use std::panic::{AssertUnwindSafe, catch_unwind};

    #[test]
    fn what_is_written_opens_as_a_dataset() {
        let digits = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../datasets/mnist");
        let composer = Composer::open(&digits, clip_spec(1), Split::Test).unwrap();
        let dir = tempfile::tempdir().unwrap();
        for as_frames in [false, true] {
            let files = ClipFiles {
                folder: dir.path().join(format!("frames-{as_frames}")),
                count: 12,
                seed: 3,
                as_frames,
            };
            // As a kill leaves them: a file, and a folder of frames.
            let clips = files.folder.join("clips");
            let unfinished = [".writing-a", ".writing-b/0001.png"].map(|name| clips.join(name));
            std::fs::create_dir_all(clips.join(".writing-b")).unwrap();
            for path in &unfinished {
                std::fs::write(path, "half").unwrap();
            }
            let mut written = 0;
            write_clips(&composer, &files, |_| written += 1).unwrap();
            assert_eq!(written, 12);
            assert!(!unfinished.iter().any(|path| path.exists()));
            let options = ReadOptions::default();
            let sets = ClipDataset::open_both(&files.folder, clip_spec(1), options).unwrap();
            assert_eq!(sets[0].len() + sets[1].len(), 12);
            for set in &sets {
                assert!(set.left_out().is_empty() && !set.is_empty());
                for index in 0..set.len() {
                    let clip = set.get(index).unwrap();
                    let digits = clip.name.trim_start_matches("clips/");
                    let number = digits.trim_end_matches(".gif").parse().unwrap();
                    let composed = composer.clip(3, number);
                    // A folder of frames has no times, and its frames are taken as they come.
                    assert_eq!(clip.frames, composed.clip.frames);
                    assert_eq!(clip.text, composed.clip.text);
                    assert_eq!(set.still(index), Some(composed.scene.still().as_str()));
                }
            }
            let again = write_clips(&composer, &files, |_| ()).unwrap_err();
            assert!(again.to_string().contains("exists already"));
        }
    }

    /// A panic stands for the kill.
    #[test]
    fn interrupted_clips_go_on_and_are_not_mixed_with_others() {
        let digits = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../datasets/mnist");
        let composer = Composer::open(&digits, clip_spec(1), Split::Test).unwrap();
        let dir = tempfile::tempdir().unwrap();
        for as_frames in [false, true] {
            let files = ClipFiles {
                folder: dir.path().join(format!("frames-{as_frames}")),
                count: 6,
                seed: 3,
                as_frames,
            };
            let interrupted = catch_unwind(AssertUnwindSafe(|| {
                write_clips(&composer, &files, |index| assert!(index < 2, "a kill"))
            }));
            assert!(interrupted.is_err());
            let count = || {
                std::fs::read_dir(files.folder.join("clips"))
                    .unwrap()
                    .count()
            };
            assert_eq!(count(), 3);
            for other in [
                ClipFiles {
                    seed: 4,
                    ..files.clone()
                },
                ClipFiles {
                    count: 5,
                    ..files.clone()
                },
                ClipFiles {
                    as_frames: !as_frames,
                    ..files.clone()
                },
            ] {
                let told = write_clips(&composer, &other, |_| ())
                    .unwrap_err()
                    .to_string();
                assert!(
                    told.contains("other options") && !told.contains('\n'),
                    "{told}"
                );
            }
            assert_eq!(count(), 3);
            write_clips(&composer, &files, |_| ()).unwrap();
            let whole = ClipFiles {
                folder: dir.path().join(format!("whole-{as_frames}")),
                ..files.clone()
            };
            write_clips(&composer, &whole, |_| ()).unwrap();
            let options = ReadOptions::default();
            let [own, at_once] = [&files, &whole]
                .map(|files| ClipDataset::open_both(&files.folder, clip_spec(1), options).unwrap());
            assert_eq!(own[0].len() + own[1].len(), 6);
            for (own, at_once) in own.iter().zip(&at_once) {
                for index in 0..own.len() {
                    let clips = [own, at_once].map(|set| set.get(index).unwrap());
                    assert_eq!(clips[0].frames, clips[1].frames);
                    assert_eq!(clips[0].text, clips[1].text);
                }
            }
            let hidden = std::fs::read_dir(&files.folder).unwrap();
            assert_eq!(hidden.count(), 2, "clips and their table");
        }
    }
}
