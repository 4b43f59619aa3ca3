//! Finds recordings by the names in tables.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use latentlm_media::sound::{ENDINGS, OTHER_ENDINGS};

use super::columns::names_sound;
use crate::metadata::stays_inside;

/// Usual folders for recordings beside a table, the most common first.
const PLACES: [&str; 6] = ["wavs", "wav", "clips", "audio", "audios", "flac"];

/// Finds files. Where a name is not exact, it lists the folder and keeps the list for later names.
#[derive(Debug, Default)]
pub(super) struct Finder {
    /// For each listed folder, its files by names in lower case.
    folders: HashMap<PathBuf, HashMap<String, PathBuf>>,
}

impl Finder {
    /// The recording that a table in `base` calls `name`. Ignores case, looks in the usual folders, and tries
    /// all extensions of sound if the name has none. If nothing is found, returns the path that LJSpeech
    /// would use.
    pub(super) fn recording(&mut self, base: &Path, name: &str) -> PathBuf {
        let exact = base.join(name);
        let bare = names_sound(name).is_none();
        if !bare && exact.is_file() {
            return exact;
        }
        // Tables written on Windows have backslashes.
        let name = name.replace('\\', "/");
        let within = PLACES.map(|place| base.join(place));
        let own = std::slice::from_ref(&base);
        let places = within.iter().map(PathBuf::as_path);
        // A bare id is looked up in the usual folders first, as in LJSpeech; a path beside the table first.
        let places: Vec<&Path> = if bare {
            places.chain(own.iter().copied()).collect()
        } else {
            own.iter().copied().chain(places).collect()
        };
        let found = places.iter().find_map(|place| {
            if bare {
                self.with_ending(&place.join(&name))
            } else {
                self.file(&place.join(&name))
            }
        });
        match found {
            Some(found) => found,
            // The file may have an unknown extension.
            None if bare && exact.exists() => exact,
            None if bare => base.join("wavs").join(format!("{name}.wav")),
            None => exact,
        }
    }

    /// Finds a file, ignoring the case of its name.
    pub(super) fn file(&mut self, path: &Path) -> Option<PathBuf> {
        if path.is_file() {
            return Some(path.to_owned());
        }
        let name = path.file_name()?.to_string_lossy().to_lowercase();
        self.folder(path.parent()?).get(&name).cloned()
    }

    /// Finds a recording by its path without extension.
    pub(super) fn with_ending(&mut self, path: &Path) -> Option<PathBuf> {
        let name = path.file_name()?.to_string_lossy().into_owned();
        let first = path.with_file_name(format!("{name}.{}", ENDINGS[0]));
        if first.is_file() {
            return Some(first);
        }
        let files = self.folder(path.parent()?);
        let name = name.to_lowercase();
        let mut endings = ENDINGS.iter().chain(&OTHER_ENDINGS);
        endings.find_map(|ending| files.get(&format!("{name}.{ending}")).cloned())
    }

    /// The files of a folder, listed at the first call.
    fn folder(&mut self, path: &Path) -> &HashMap<String, PathBuf> {
        self.folders.entry(path.to_owned()).or_insert_with(|| {
            let entries = fs::read_dir(path).into_iter().flatten().flatten();
            let mut files: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
            // If names differ in case alone, the first in sorted order is taken.
            files.sort();
            let files = files.into_iter().rev().filter_map(|file| {
                let name = file.file_name()?.to_string_lossy().to_lowercase();
                Some((name, file))
            });
            files.collect()
        })
    }
}

/// Whether a path in a table leads out of the corpus's folder. The table lies in `base`, inside `folder`.
pub(super) fn leads_outside(folder: &Path, base: &Path, name: &str) -> bool {
    let path = base.join(name.replace('\\', "/"));
    let real = || fs::canonicalize(folder).ok();
    let inside = match path.strip_prefix(folder) {
        Ok(inside) => inside.to_owned(),
        Err(_) => match real().and_then(|real| Some(path.strip_prefix(real).ok()?.to_owned())) {
            Some(inside) => inside,
            None => return true,
        },
    };
    !stays_inside(&inside)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recordings_are_found_by_what_tables_call_them() {
        let dir = tempfile::tempdir().unwrap();
        let base = dir.path();
        for name in [
            "wavs/u0.wav",
            "wavs/U1.WAV",
            "wavs/u2.flac",
            "wavs/u3.opus",
            "wavs/1.5.wav",
            "clips/c.mp3",
            "a/b.wav",
            "d.ogg",
        ] {
            let path = base.join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "x").unwrap();
        }
        let mut finder = Finder::default();
        for (name, expected) in [
            ("u0", "wavs/u0.wav"),
            ("u1", "wavs/U1.WAV"),
            ("u2", "wavs/u2.flac"),
            ("u3", "wavs/u3.opus"),
            ("1.5", "wavs/1.5.wav"),
            ("u0.wav", "wavs/u0.wav"),
            ("wavs/u0.wav", "wavs/u0.wav"),
            ("wavs\\u0.wav", "wavs/u0.wav"),
            ("wavs/u1.wav", "wavs/U1.WAV"),
            ("wavs/u2", "wavs/u2.flac"),
            ("c.mp3", "clips/c.mp3"),
            ("a/b.wav", "a/b.wav"),
            ("d", "d.ogg"),
            ("none", "wavs/none.wav"),
            ("none.wav", "none.wav"),
        ] {
            assert_eq!(finder.recording(base, name), base.join(expected), "{name}");
        }
    }

    #[test]
    fn what_leads_outside_is_seen() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path();
        let (train, inside) = (folder.join("train"), folder.join("a.wav"));
        for (base, name, expected) in [
            (folder, "a.wav", false),
            (folder, "a/../b.wav", false),
            (folder, "./a.wav", false),
            (folder, "../a.wav", true),
            (folder, "a/../../a.wav", true),
            (folder, "..\\a.wav", true),
            (folder, "/etc/passwd", true),
            (train.as_path(), "../wavs/a.wav", false),
            (train.as_path(), "../../a.wav", true),
            (folder, inside.to_str().unwrap(), false),
        ] {
            assert_eq!(leads_outside(folder, base, name), expected, "{name}");
        }
    }
}
