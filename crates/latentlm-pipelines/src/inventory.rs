//! The data of a run, by name and content: with other data, a resumed run would be no continuation.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use latentlm::core::disk;
use latentlm_data::{Content, DataError, Sample, Stop, check_stop, file_sha256, sha256};

/// First line of the file, with the version of its format.
const HEADER: &str = "latentlm data 1";
/// Version of the readers. It is raised when they read more of a dataset, so that this is not taken for changed data.
const READERS: u32 = 2;
/// Version since which they find the same files in a folder. Since 2 they read the times of words.
const SAME_FILES: u32 = 1;
/// Names in a message.
const NAMED: usize = 3;

/// Names, sizes and hashes of all samples.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inventory {
    readers: u32,
    items: BTreeMap<String, Item>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Item {
    sha256: String,
    about: String,
    bytes: u64,
    /// File-system metadata that change with the content: a file of the same size and state is not read again. Empty
    /// if nothing reliable is known.
    state: String,
}

/// How data differs from an earlier state.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Changes {
    /// Samples that were not there.
    pub added: Vec<String>,
    /// Samples that are gone.
    pub removed: Vec<String>,
    /// Samples with other bytes, another class or another text.
    pub changed: Vec<String>,
    /// Whether the earlier state was read by a version that may not have seen what seems to be added.
    pub older_readers: bool,
}

impl Inventory {
    /// Reads samples and takes their hashes, on all threads. Files that have the size and time of `known`
    /// are not read again. A file that can't be read has the hash of nothing: the dataset
    /// leaves it out or reports it.
    pub fn of(samples: &[Sample], known: Option<&Self>) -> Self {
        Self::gather(samples, known, || true)
    }

    /// [`of`](Self::of), unless a stop comes ([`check_stop`]).
    ///
    /// # Errors
    /// [`DataError::Stopped`] if it does.
    pub fn of_unless_stopped(samples: &[Sample], known: Option<&Self>) -> Result<Self, DataError> {
        let stop = Stop::current();
        let gathered = Self::gather(samples, known, || !stop.as_ref().is_some_and(Stop::came));
        check_stop()?;
        Ok(gathered)
    }

    /// The list of samples as far as work goes on.
    fn gather(samples: &[Sample], known: Option<&Self>, goes_on: impl Fn() -> bool + Sync) -> Self {
        let samples = named_apart(samples);
        let (next, items) = (AtomicUsize::new(0), Mutex::new(BTreeMap::new()));
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        std::thread::scope(|scope| {
            for _ in 0..threads.min(samples.len()) {
                scope.spawn(|| {
                    while goes_on()
                        && let Some((name, sample)) =
                            samples.get(next.fetch_add(1, Ordering::Relaxed))
                    {
                        let item = Item::of(sample, known.and_then(|known| known.items.get(name)));
                        let mut items = items.lock().unwrap_or_else(PoisonError::into_inner);
                        items.insert(name.clone(), item);
                    }
                });
            }
        });
        Self {
            readers: READERS,
            items: items.into_inner().unwrap_or_else(PoisonError::into_inner),
        }
    }

    /// Completes the list of an older version with what only newer readers learn of its samples: the lines of
    /// [`Sample::about`] behind the first. Samples whose first line differs stay as they are. Returns whether there were any
    /// to complete.
    pub fn complete(&mut self, samples: &[Sample]) -> bool {
        let mut completed = false;
        if self.readers < READERS {
            for (name, sample) in named_apart(samples) {
                if let Some((first, _)) = sample.about.split_once('\n')
                    && let Some(item) = self.items.get_mut(&name)
                    && item.about == short_hash(first)
                {
                    item.about = short_hash(&sample.about);
                    completed = true;
                }
            }
        }
        completed
    }

    /// What changed since `before`.
    pub fn changes_since(&self, before: &Self) -> Changes {
        let mut changes = Changes {
            older_readers: before.readers < SAME_FILES,
            ..Changes::default()
        };
        for (name, item) in &self.items {
            match before.items.get(name) {
                None => changes.added.push(name.clone()),
                Some(old) if old.sha256 != item.sha256 || old.about != item.about => {
                    changes.changed.push(name.clone());
                }
                Some(_) => {}
            }
        }
        let gone = before.items.keys();
        let gone = gone.filter(|name| !self.items.contains_key(*name));
        changes.removed.extend(gone.cloned());
        changes
    }

    /// Takes over the entries of another list, instead of those of the same names.
    pub fn extend(&mut self, other: Self) {
        self.items.extend(other.items);
    }

    /// Writes the list: a line each, with hash, bytes, time, hash of what else is learned, and name.
    ///
    /// # Errors
    /// If the file can't be written.
    pub fn write(&self, path: &Path) -> Result<(), DataError> {
        let mut text = format!("{HEADER} readers {}\n", self.readers);
        for (name, item) in &self.items {
            let Item {
                sha256,
                about,
                bytes,
                state,
            } = item;
            let state = if state.is_empty() { "-" } else { state };
            text += &format!("{sha256} {bytes} {state} {about} {name:?}\n");
        }
        disk::replace_file(path, text.as_bytes()).map_err(|source| DataError::Io {
            action: "write",
            path: path.to_owned(),
            source,
        })
    }

    /// Reads a list.
    ///
    /// # Errors
    /// If it can't be read or is damaged.
    pub fn read(path: &Path) -> Result<Self, DataError> {
        let text = disk::open_regular(path).and_then(io::read_to_string);
        let text = text.map_err(|source| DataError::Io {
            action: "read",
            path: path.to_owned(),
            source,
        })?;
        Self::parse(&text).ok_or_else(|| DataError::Malformed {
            path: path.to_owned(),
            reason: "is damaged or of another version: delete it to go on without comparing data"
                .into(),
        })
    }

    fn parse(text: &str) -> Option<Self> {
        let (first, rest) = text.split_once('\n')?;
        let readers = first.strip_prefix(HEADER)?.strip_prefix(" readers ")?;
        let mut items = BTreeMap::new();
        for line in rest.lines() {
            let mut words = line.splitn(5, ' ');
            let item = Item {
                sha256: words.next()?.to_owned(),
                bytes: words.next()?.parse().ok()?,
                state: match words.next()? {
                    "-" => String::new(),
                    state => state.to_owned(),
                },
                about: words.next()?.to_owned(),
            };
            items.insert(unquoted(words.next()?)?, item);
        }
        Some(Self {
            readers: readers.parse().ok()?,
            items,
        })
    }
}

impl Item {
    fn of(sample: &Sample, known: Option<&Self>) -> Self {
        let about = short_hash(&sample.about);
        let (sha256, bytes, state) = match &sample.content {
            Content::Hash(sha256) => (sha256.clone(), 0, String::new()),
            Content::File(path) => {
                let (bytes, state) = size_and_state(path);
                let unchanged = known
                    .filter(|item| item.bytes == bytes && item.state == state && !state.is_empty());
                let sha256 = match unchanged {
                    Some(item) => item.sha256.clone(),
                    None => file_sha256(path).unwrap_or_else(|_| sha256(&[])),
                };
                (sha256, bytes, state)
            }
        };
        Self {
            sha256,
            about,
            bytes,
            state,
        }
    }
}

fn short_hash(about: &str) -> String {
    sha256(about.as_bytes())[..16].to_owned()
}

/// Samples with names of their own: a recording may be in a table twice, with other words.
fn named_apart(samples: &[Sample]) -> Vec<(String, &Sample)> {
    let mut times: BTreeMap<&str, usize> = BTreeMap::new();
    let mut named = Vec::with_capacity(samples.len());
    for sample in samples {
        let time = times.entry(&sample.name).or_insert(0);
        *time += 1;
        let name = if *time == 1 {
            sample.name.clone()
        } else {
            format!("{} ({time})", sample.name)
        };
        named.push((name, sample));
    }
    named
}

fn size_and_state(path: &Path) -> (u64, String) {
    let Ok(metadata) = fs::metadata(path) else {
        return (0, String::new());
    };
    (metadata.len(), state(&metadata))
}

/// Times of the last change of content and of metadata, and the inode: a file that replaced another has another
/// inode, and a file whose time was set back has another time of its metadata.
#[cfg(unix)]
fn state(metadata: &fs::Metadata) -> String {
    use std::os::unix::fs::MetadataExt;
    let changed = (metadata.mtime(), metadata.mtime_nsec());
    let entered = (metadata.ctime(), metadata.ctime_nsec());
    let number = metadata.ino();
    format!(
        "{}.{:09}-{}.{:09}-{number}",
        changed.0, changed.1, entered.0, entered.1
    )
}

/// Times alone do not tell a file from another of the same size.
#[cfg(not(unix))]
fn state(_: &fs::Metadata) -> String {
    String::new()
}

/// The text that Rust's debug output of a string stands for.
fn unquoted(text: &str) -> Option<String> {
    let inner = text.strip_prefix('"')?.strip_suffix('"')?;
    let mut plain = String::with_capacity(inner.len());
    let mut rest = inner.chars();
    while let Some(character) = rest.next() {
        if character != '\\' {
            plain.push(character);
            continue;
        }
        plain.push(match rest.next()? {
            'n' => '\n',
            'r' => '\r',
            't' => '\t',
            '0' => '\0',
            'u' => {
                let digits: String = rest.by_ref().take_while(|c| *c != '}').collect();
                let code = u32::from_str_radix(digits.strip_prefix('{')?, 16).ok()?;
                char::from_u32(code)?
            }
            same => same,
        });
    }
    Some(plain)
}

impl Changes {
    /// Whether nothing changed.
    pub fn is_empty(&self) -> bool {
        self.added.is_empty() && self.removed.is_empty() && self.changed.is_empty()
    }
}

impl fmt::Display for Changes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let only_added = self.removed.is_empty() && self.changed.is_empty();
        let added = if self.older_readers && only_added {
            "read by this version and not by the one that began the run"
        } else {
            "new"
        };
        let kinds = [
            (&self.changed, "changed"),
            (&self.removed, "gone"),
            (&self.added, added),
        ];
        let mut separator = "";
        for (names, what) in kinds {
            if names.is_empty() {
                continue;
            }
            let mut shown = names[..names.len().min(NAMED)].join(", ");
            if names.len() > NAMED {
                shown += ", ...";
            }
            write!(f, "{separator}{} {what} ({shown})", names.len())?;
            separator = "; ";
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use super::*;

    fn sample(folder: &Path, name: &str, about: &str) -> Sample {
        Sample {
            name: name.into(),
            about: about.into(),
            content: Content::File(folder.join(name)),
        }
    }

    fn samples(folder: &Path) -> Vec<Sample> {
        let names = ["a", "b", "c \"quoted\"\n\u{1}é", "d"];
        for name in names {
            fs::write(folder.join(name), name).unwrap();
        }
        names.map(|name| sample(folder, name, "class 1")).to_vec()
    }

    #[test]
    fn the_list_reads_back_as_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let mut samples = samples(dir.path());
        samples.push(Sample {
            name: "memory".into(),
            about: String::new(),
            content: Content::Hash("00ff".into()),
        });
        let inventory = Inventory::of(&samples, None);
        let path = dir.path().join("data.txt");
        inventory.write(&path).unwrap();
        assert_eq!(Inventory::read(&path).unwrap(), inventory);
        let text = fs::read_to_string(&path).unwrap();
        // The digest of `a`, as `sha256sum` prints it.
        let digest = "ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb";
        assert!(text.contains(&format!("{digest} 1 ")), "{text}");
        fs::write(&path, &text[..text.len() / 2]).unwrap();
        assert!(Inventory::read(&path).is_err());
    }

    #[test]
    fn what_changed_is_told_by_name() {
        let dir = tempfile::tempdir().unwrap();
        let mut samples = samples(dir.path());
        let before = Inventory::of(&samples, None);
        assert!(before.changes_since(&before).is_empty());
        fs::write(dir.path().join("a"), "other").unwrap();
        samples[1].about = "class 2".into();
        samples.pop();
        fs::write(dir.path().join("e"), "e").unwrap();
        samples.push(sample(dir.path(), "e", ""));
        let changes = Inventory::of(&samples, Some(&before)).changes_since(&before);
        assert_eq!(
            changes.to_string(),
            "2 changed (a, b); 1 gone (d); 1 new (e)"
        );
    }

    #[test]
    fn what_only_a_newer_version_reads_is_told_apart() {
        let dir = tempfile::tempdir().unwrap();
        let samples = samples(dir.path());
        let now = Inventory::of(&samples, None);
        let mut before = Inventory::of(&samples[1..], None);
        assert_eq!(now.changes_since(&before).to_string(), "1 new (a)");
        before.readers = 0;
        let told = now.changes_since(&before).to_string();
        assert!(told.contains("read by this version and not by"), "{told}");
    }

    /// Times of words, which older versions did not read.
    #[test]
    fn what_newer_versions_learn_of_a_sample_is_no_change() {
        let dir = tempfile::tempdir().unwrap();
        let mut samples = samples(dir.path());
        let mut before = Inventory::of(&samples, None);
        before.readers = 1;
        samples[0].about += "\ntimes";
        samples[1].about = "class 2\ntimes".into();
        let now = Inventory::of(&samples, Some(&before));
        assert_eq!(now.changes_since(&before).changed, ["a", "b"]);
        assert!(before.complete(&samples));
        assert_eq!(now.changes_since(&before).changed, ["b"]);
        assert!(!before.complete(&samples), "nothing is left");
        // Its readers knew the times.
        let mut known = Inventory::of(&samples, None);
        samples[0].about += " changed";
        assert!(!known.complete(&samples));
        let now = Inventory::of(&samples, Some(&known));
        assert_eq!(now.changes_since(&known).changed, ["a"]);
    }

    /// Only a file that changed in any way is read again, and one that was changed behind its time is.
    #[cfg(unix)]
    #[test]
    fn files_are_read_again_if_anything_of_them_changed() {
        let dir = tempfile::tempdir().unwrap();
        let samples = samples(dir.path());
        let mut before = Inventory::of(&samples, None);
        before.items.get_mut("a").unwrap().sha256 = "taken over".into();
        assert_eq!(Inventory::of(&samples, Some(&before)), before);

        let path = dir.path().join("a");
        let time = fs::metadata(&path).unwrap().modified().unwrap();
        // The clock of file systems may tick every ten milliseconds only.
        std::thread::sleep(std::time::Duration::from_millis(30));
        fs::write(&path, "x").unwrap();
        let file = File::options().append(true).open(&path).unwrap();
        file.set_modified(time).unwrap();
        let now = Inventory::of(&samples, Some(&before));
        assert_eq!(now.changes_since(&before).changed, ["a"]);
    }

    /// Two files of the same size that were made at the same time and change places.
    #[test]
    fn files_that_change_places_are_found() {
        let dir = tempfile::tempdir().unwrap();
        let samples = samples(dir.path());
        let before = Inventory::of(&samples, None);
        for (from, to) in [("a", "x"), ("b", "a"), ("x", "b")] {
            fs::rename(dir.path().join(from), dir.path().join(to)).unwrap();
        }
        let now = Inventory::of(&samples, Some(&before));
        assert_eq!(now.changes_since(&before).changed, ["a", "b"]);
    }
}
