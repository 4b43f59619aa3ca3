//! Folders of numbered frames.

use std::fs;
use std::path::{Path, PathBuf};

use super::excess::too_many;
use crate::error::{MediaError, io_error};

/// Extensions of pictures that may be frames. A GIF is a clip of its own.
const ENDINGS: [&str; 9] = [
    "png", "jpg", "jpeg", "jpe", "jfif", "webp", "bmp", "tif", "tiff",
];

/// A file name such as `walk_0012.png`: the text before the number, and the number.
struct Numbered {
    before: String,
    number: u64,
    path: PathBuf,
}

impl Numbered {
    fn of(path: &Path) -> Result<Self, String> {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let stem = path.file_stem().unwrap_or_default().to_string_lossy();
        let before = stem.trim_end_matches(|letter: char| letter.is_ascii_digit());
        let number = stem[before.len()..]
            .parse()
            .map_err(|_| format!("frames need a number at the end of their names, not {name}"))?;
        Ok(Self {
            before: before.to_owned(),
            number,
            path: path.to_owned(),
        })
    }
}

/// The pictures among files of a folder, in the order of their numbers (2 before 10). Numbers may be missing.
///
/// # Errors
/// If a picture has no number, two have the same, or their names differ in more than the number.
pub fn frame_order(files: &[PathBuf]) -> Result<Vec<PathBuf>, String> {
    let mut frames = Vec::new();
    for path in files.iter().filter(|path| is_still(path)) {
        frames.push(Numbered::of(path)?);
    }
    frames.sort_by(|a, b| (a.number, &a.path).cmp(&(b.number, &b.path)));
    for pair in frames.windows(2) {
        let [first, second] = pair else { continue };
        if first.before != second.before {
            let (a, b) = (&first.before, &second.before);
            return Err(format!(
                "frames of one clip have one name, not `{a}` and `{b}`"
            ));
        }
        if first.number == second.number {
            return Err(format!("two frames have the number {}", first.number));
        }
    }
    Ok(frames.into_iter().map(|frame| frame.path).collect())
}

fn is_still(path: &Path) -> bool {
    let hidden = path
        .file_name()
        .is_none_or(|name| name.to_string_lossy().starts_with('.'));
    let ending = path.extension().and_then(|ending| ending.to_str());
    !hidden && ending.is_some_and(|own| ENDINGS.contains(&own.to_ascii_lowercase().as_str()))
}

/// The frames of a folder, at most `most`.
pub(super) fn frames_in(folder: &Path, most: usize) -> Result<Vec<PathBuf>, MediaError> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).map_err(io_error("read", folder))? {
        let path = entry.map_err(io_error("read", folder))?.path();
        if !is_still(&path) {
            continue;
        }
        if files.len() == most {
            return Err(too_many(folder, most));
        }
        files.push(path);
    }
    frame_order(&files).map_err(|reason| MediaError::malformed(folder, reason))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(names: &[&str]) -> Result<Vec<String>, String> {
        let files: Vec<PathBuf> = names.iter().map(PathBuf::from).collect();
        let ordered = frame_order(&files)?;
        Ok(ordered.iter().map(|p| p.display().to_string()).collect())
    }

    #[test]
    fn frames_stand_in_the_order_of_their_numbers() {
        let names = ["a/f10.png", "a/f9.png", "a/notes.txt", "a/.f1.png"];
        assert_eq!(order(&names).unwrap(), ["a/f9.png", "a/f10.png"]);
        assert_eq!(order(&["002.JPG", "1.png"]).unwrap(), ["1.png", "002.JPG"]);
        assert!(order(&[]).unwrap().is_empty());
    }

    #[test]
    fn other_names_are_refused() {
        let refused = |names: &[&str], part: &str| {
            let message = order(names).unwrap_err();
            assert!(message.contains(part), "{message}");
        };
        refused(&["cover.png", "1.png"], "not cover.png");
        refused(&["a1.png", "b2.png"], "`a` and `b`");
        refused(&["1.png", "01.png"], "the number 1");
        refused(&["99999999999999999999999.png"], "need a number");
    }
}
