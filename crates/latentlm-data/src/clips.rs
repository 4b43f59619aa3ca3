//! Datasets of clips: moving pictures of one length, size and frame rate.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use latentlm_media::clip::{ClipLimits, ClipSpec, ClipSurvey};
use sha2::{Digest, Sha256};

use crate::allowed::allows_more;
use crate::dataset::{DatasetKind, Layout, empty_split};
use crate::error::{DataError, of_no_dataset};
use crate::folder::{Broken, Entry, Listing};
use crate::hex::hex;
use crate::kind::CLIPS;
use crate::left_out::LeftOutList;
use crate::options::ReadOptions;
use crate::replace::get_or_draw;
use crate::sample::{Content, Sample};
use crate::split::Split;
use crate::verify::on_all_threads;
use crate::walk::LeftOut;

/// The reason why a clip gives no sample.
pub(crate) const TOO_SHORT: &str = "a clip with fewer frames than a sample has";

/// A sample: some consecutive frames.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Clip {
    /// Pixel values 0 to 255, `[F, C, H, W]`, row-major.
    pub frames: Vec<u8>,
    /// Class number.
    pub label: u32,
    /// Caption, if the dataset has one.
    pub text: Option<String>,
    /// Name within the dataset.
    pub name: String,
}

/// An open split of a dataset of clips. Frames are decoded on access; cloning is cheap.
///
/// A clip with more frames than a sample is cut into several, one after the other; what is left at its end is not
/// used. A sample inside a long GIF, WebP or PNG is reached by decoding what stands before it; in Y4M files and
/// folders of frames it is not.
#[derive(Debug, Clone)]
pub struct ClipDataset {
    clips: Arc<Vec<Surveyed>>,
    /// For every sample its clip, and its number within that.
    windows: Arc<Vec<(usize, usize)>>,
    classes: Arc<Vec<String>>,
    spec: ClipSpec,
    kind: DatasetKind,
    options: ReadOptions,
    left_out: LeftOutList,
}

/// A clip with what is known of its frames.
#[derive(Debug)]
struct Surveyed {
    entry: Entry,
    found: ClipSurvey,
}

/// Reads a clip or a picture that belongs to no dataset, as [`latentlm_media::clip::read_clip`].
///
/// # Errors
/// If it can't be read, or `spec` is invalid.
pub fn read_clip(path: &Path, spec: ClipSpec) -> Result<Vec<u8>, DataError> {
    latentlm_media::clip::read_clip(path, spec).map_err(of_no_dataset)
}

/// Decodes every clip once, on all threads. The results have the order of the entries.
///
/// # Errors
/// If all clips of the dataset in `path` have more frames than `options` allow.
pub(crate) fn survey(
    path: &Path,
    entries: &[Entry],
    spec: ClipSpec,
    options: &ReadOptions,
) -> Result<Vec<Result<ClipSurvey, DataError>>, DataError> {
    let (limits, most) = (limits(options), options.max_total_frames);
    let frames = AtomicUsize::new(0);
    let surveyed = on_all_threads(entries, |entry| -> Result<ClipSurvey, DataError> {
        // If there are too many already, the dataset is refused, and nothing more of it is read.
        if frames.load(Ordering::Relaxed) > most {
            return Ok(ClipSurvey::default());
        }
        let found = ClipSurvey::of(entry.path(), spec.rate_hz, limits)?;
        frames.fetch_add(found.frames(), Ordering::Relaxed);
        Ok(found)
    })?;
    if frames.into_inner() > most {
        let reason = format!(
            "has clips of more than {most} frames at {} a second, the most that are read; {}",
            spec.rate_hz,
            allows_more("data.max_total_frames")
        );
        return Err(DataError::too_large(path, reason));
    }
    Ok(surveyed)
}

fn limits(options: &ReadOptions) -> ClipLimits {
    ClipLimits {
        frame_bytes: options.max_picture_bytes(),
        frames: options.max_clip_frames,
    }
}

impl ClipDataset {
    /// Opens the training and the held-out split of a dataset; either may be empty. Layouts are those of
    /// [`ImageDataset`](crate::ImageDataset) without IDX files and sheets: a `metadata.jsonl` or `metadata.csv`
    /// whose `file_name` names a clip, one folder of clips per class, or loose clips. A clip is a GIF, WebP, PNG or
    /// Y4M file, or a folder of two numbered pictures or more.
    ///
    /// Decodes every clip once, on all threads. Clips that can't be decoded, and those with too few frames, are left
    /// out and listed in [`left_out`](Self::left_out).
    ///
    /// # Errors
    /// If `path` holds no dataset or an unusable one, more clips are broken than `options` allow, all are too short,
    /// or `spec` is invalid.
    pub fn open_both(
        path: &Path,
        spec: ClipSpec,
        options: ReadOptions,
    ) -> Result<[Self; 2], DataError> {
        spec.validate(path)?;
        let layout = Layout::of(path, &CLIPS)?;
        let kind = layout.kind();
        let mut listing = layout.list(path, &options)?;
        if !listing.faults.is_empty() {
            return Err(listing.faults.swap_remove(0));
        }
        let (mut clips, short) = usable(path, &mut listing, spec, &options)?;
        listing.fill_splits();
        for (clip, entry) in clips.iter_mut().zip(&listing.entries) {
            clip.entry.split = entry.split;
        }
        let mut left_out: Vec<LeftOut> = listing.broken.iter().map(Broken::left_out).collect();
        left_out.extend(short.iter().map(|path| LeftOut::unused(path, TOO_SHORT)));
        let left_out = LeftOutList::new(left_out);
        let (classes, clips) = (Arc::new(listing.classes), Arc::new(clips));
        Ok(Split::ALL.map(|split| Self {
            windows: Arc::new(windows_of(&clips, split, spec)),
            clips: Arc::clone(&clips),
            classes: Arc::clone(&classes),
            spec,
            kind,
            options,
            left_out: left_out.clone(),
        }))
    }

    /// Returns the dataset itself if it has samples. `path` and `split` are for the error message.
    ///
    /// # Errors
    /// If it is empty.
    pub fn filled(self, path: &Path, split: Split) -> Result<Self, DataError> {
        if self.is_empty() {
            Err(empty_split(path, split))
        } else {
            Ok(self)
        }
    }

    /// Number of samples.
    pub fn len(&self) -> usize {
        self.windows.len()
    }

    /// Whether there are no samples.
    pub fn is_empty(&self) -> bool {
        self.windows.is_empty()
    }

    /// Class names, indexed by class number.
    pub fn classes(&self) -> &[String] {
        &self.classes
    }

    /// Length, frame rate, size and channels of the samples.
    pub fn spec(&self) -> ClipSpec {
        self.spec
    }

    /// How the dataset is stored.
    pub fn kind(&self) -> DatasetKind {
        self.kind
    }

    /// Clips left out of both splits, with reasons: those that were unusable or too short when the dataset was
    /// opened, and those that [`get`](Self::get) could not read since.
    pub fn left_out(&self) -> Vec<LeftOut> {
        self.left_out.all()
    }

    fn entry(&self, index: usize) -> &Entry {
        &self.clips[self.windows[index].0].entry
    }

    /// The sample's class number. Does not decode anything.
    ///
    /// # Panics
    /// If `index` is out of range.
    pub fn label(&self, index: usize) -> u32 {
        self.entry(index).label
    }

    /// The sample's caption. Does not decode anything.
    ///
    /// # Panics
    /// If `index` is out of range.
    pub fn caption(&self, index: usize) -> Option<&str> {
        self.entry(index).text.as_deref()
    }

    /// What a single frame of the sample shows: a caption without motions, if the dataset has one (`still`). Does not
    /// decode anything.
    ///
    /// # Panics
    /// If `index` is out of range.
    pub fn still(&self, index: usize) -> Option<&str> {
        self.entry(index).still.as_deref()
    }

    /// Decodes a sample.
    ///
    /// # Errors
    /// If its clip can't be decoded. It is then added to [`left_out`](Self::left_out).
    ///
    /// # Panics
    /// If `index` is out of range.
    pub fn get(&self, index: usize) -> Result<Clip, DataError> {
        let (clip, window) = self.windows[index];
        let Surveyed { entry, found } = &self.clips[clip];
        match found.read(entry.path(), window, self.spec, limits(&self.options)) {
            Ok(frames) => Ok(Clip {
                frames,
                label: entry.label,
                text: entry.text.clone(),
                name: match found.windows(self.spec) {
                    1 => entry.name.clone(),
                    _ => format!("{} {}", entry.name, window + 1),
                },
            }),
            Err(error) => {
                let error: DataError = error.into();
                self.left_out.add(entry.path(), &error);
                Err(error)
            }
        }
    }

    /// Decodes a sample, or a random replacement if it can't be read. `draw(n)` returns a random number below `n`.
    /// Replacements come from the same class first. Clips that can't be read are added to
    /// [`left_out`](Self::left_out).
    ///
    /// # Errors
    /// If none of the drawn samples can be read.
    ///
    /// # Panics
    /// If `index` or a drawn number is out of range.
    pub fn get_or_draw(
        &self,
        index: usize,
        draw: impl FnMut(usize) -> usize,
    ) -> Result<Clip, DataError> {
        let count = self.len();
        get_or_draw(count, index, |at| self.label(at), |at| self.get(at), draw)
    }

    /// The clips of this split, each once.
    fn own_clips(&self) -> impl Iterator<Item = &Surveyed> {
        let own: BTreeSet<usize> = self.windows.iter().map(|&(clip, _)| clip).collect();
        own.into_iter().map(move |clip| &self.clips[clip])
    }

    /// A hash of the dataset: of names, file sizes, numbers of frames, labels and captions. Checkpoints and latent
    /// caches store it; caches are rebuilt when it changes.
    pub fn fingerprint(&self) -> String {
        let mut hash = Sha256::new();
        hash.update(format!("{:?}{:?}", self.spec, self.classes));
        for Surveyed { entry, found } in self.own_clips() {
            let files = files_of(entry.path()).into_iter();
            let size: u64 = files
                .map(|file| std::fs::metadata(file).map_or(0, |file| file.len()))
                .sum();
            // Debug output quotes strings, so different lists have different texts.
            let (name, texts, frames) = (&entry.name, texts_of(entry), found.frames());
            hash.update(format!(
                "{name:?} {size} {frames} {} {texts}\n",
                entry.label
            ));
        }
        hex(hash)
    }

    /// The files of this split with where their bytes are: what a run is compared with when it goes on. A clip in a
    /// folder has a file for each frame.
    pub fn samples(&self) -> Vec<Sample> {
        let mut samples = Vec::new();
        for Surveyed { entry, .. } in self.own_clips() {
            let class = self.classes.get(entry.label as usize);
            let about = format!("{class:?} {}", texts_of(entry));
            let path = entry.path();
            for file in files_of(path) {
                let frame = file.strip_prefix(path).unwrap_or(&file);
                samples.push(Sample {
                    name: if file == path {
                        entry.name.clone()
                    } else {
                        format!("{}/{}", entry.name, frame.display())
                    },
                    about: about.clone(),
                    content: Content::File(file),
                });
            }
        }
        samples
    }
}

/// What training reads of a clip, to tell whether it has changed. Older runs know no `still`: without it, this is the
/// caption alone.
fn texts_of(entry: &Entry) -> String {
    let text = &entry.text;
    match &entry.still {
        Some(still) => format!("{text:?} {still:?}"),
        None => format!("{text:?}"),
    }
}

/// The files of a clip: itself, or the files of its folder, sorted.
fn files_of(path: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(path) else {
        return vec![path.to_owned()];
    };
    let mut files: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    files.retain(|file| file.is_file());
    files.sort();
    files
}

/// Surveys the clips of a listing, which keeps those that give samples. Returns them, and the paths of those that are
/// too short.
fn usable(
    path: &Path,
    listing: &mut Listing,
    spec: ClipSpec,
    options: &ReadOptions,
) -> Result<(Vec<Surveyed>, Vec<PathBuf>), DataError> {
    let total = listing.entries.len() + listing.broken.len();
    let surveyed = survey(path, &listing.entries, spec, options)?;
    let (mut clips, mut short) = (Vec::new(), Vec::new());
    for (entry, found) in std::mem::take(&mut listing.entries)
        .into_iter()
        .zip(surveyed)
    {
        match found {
            Ok(found) if found.windows(spec) > 0 => {
                listing.entries.push(entry.clone());
                clips.push(Surveyed { entry, found });
            }
            Ok(_) => short.push(entry.path().to_owned()),
            Err(error) => listing.broken.push(Broken {
                name: entry.path().to_owned(),
                error,
            }),
        }
    }
    let first = listing.broken.first().map(|broken| &broken.error);
    options.allow(path, listing.broken.len(), total, first)?;
    if clips.is_empty() && !short.is_empty() {
        let reason = format!(
            "all {} clips have fewer than {} frames at {} a second",
            short.len(),
            spec.frames,
            spec.rate_hz
        );
        return Err(DataError::malformed(path, reason));
    }
    Ok((clips, short))
}

fn windows_of(clips: &[Surveyed], split: Split, spec: ClipSpec) -> Vec<(usize, usize)> {
    let mut windows = Vec::new();
    for (index, clip) in clips.iter().enumerate() {
        if clip.entry.split == split {
            windows.extend((0..clip.found.windows(spec)).map(|window| (index, window)));
        }
    }
    windows
}
