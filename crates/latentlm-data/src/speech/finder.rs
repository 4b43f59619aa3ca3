//! Recordings found by what tables call them.

use std::collections::HashMap;
use std::fs;
use std::path::{Component, Path, PathBuf};

use super::audio::{ENDINGS, OTHER_ENDINGS};
use super::columns::names_sound;

/// Folders that recordings lie in beside a table, the most usual first.
const PLACES: [&str; 6] = ["wavs", "wav", "clips", "audio", "audios", "flac"];

/// Looks for files, and lists a folder once where their names are not the whole truth.
#[derive(Debug, Default)]
pub(super) struct Finder {
    /// Files of a folder by their names in lower case.
    folders: HashMap<PathBuf, HashMap<String, PathBuf>>,
}

impl Finder {
    /// The file that a table in `base` calls so, in whatever case and folder; with any ending that
    /// sound has, if it has none. What is not there is called as LJSpeech would.
    pub(super) fn recording(&mut self, base: &Path, name: &str) -> PathBuf {
        let exact = base.join(name);
        let bare = names_sound(name).is_none();
        if !bare && exact.is_file() {
            return exact;
        }
        // As written on Windows.
        let name = name.replace('\\', "/");
        let within = PLACES.map(|place| base.join(place));
        let own = std::slice::from_ref(&base);
        let places = within.iter().map(PathBuf::as_path);
        // An id is LJSpeech's first, a path is a path first.
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
            // It may have an ending that nobody knows.
            None if bare && exact.exists() => exact,
            None if bare => base.join("wavs").join(format!("{name}.wav")),
            None => exact,
        }
    }

    /// A file, in whatever case.
    pub(super) fn file(&mut self, path: &Path) -> Option<PathBuf> {
        if path.is_file() {
            return Some(path.to_owned());
        }
        let name = path.file_name()?.to_string_lossy().to_lowercase();
        self.folder(path.parent()?).get(&name).cloned()
    }

    /// A recording whose ending is not known.
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

    fn folder(&mut self, path: &Path) -> &HashMap<String, PathBuf> {
        self.folders.entry(path.to_owned()).or_insert_with(|| {
            let entries = fs::read_dir(path).into_iter().flatten().flatten();
            let mut files: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
            // Where names differ in case alone, the first of them is meant.
            files.sort();
            let files = files.into_iter().rev().filter_map(|file| {
                let name = file.file_name()?.to_string_lossy().to_lowercase();
                Some((name, file))
            });
            files.collect()
        })
    }
}

/// Whether a name that a table in `base` gives leads out of the corpus's folder, which `base` lies in.
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
    let mut depth = 0_usize;
    for part in inside.components() {
        depth = match part {
            Component::Normal(_) => depth + 1,
            Component::CurDir => depth,
            Component::ParentDir if depth > 0 => depth - 1,
            _ => return true,
        };
    }
    false
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
