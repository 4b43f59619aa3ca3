//! `data check` for speech: reads a whole corpus and reports its content and its problems.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fmt;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use latentlm_media::sound::{ENDINGS, OTHER_ENDINGS, SoundLimits, ending, read_sound};

use super::clip::{Clip, Listing, SpeechBounds, hold_out, name_of};
use super::corpus;
use crate::check::{Problem, write_end};
use crate::error::DataError;
use crate::normal::plain_word;
use crate::read_count::ReadCount;
use crate::skipped::Skipped;
use crate::split::Split;
use crate::walk::{LeftOut, WalkOptions, on_one_line, walk};

/// Without a recipe, recordings may have any length.
const ANY_LENGTH: RangeInclusive<f64> = 0.0..=f64::INFINITY;

/// Tolerance in seconds for the lengths that tables give.
const SPARE_SECONDS: f64 = 0.1;

/// Extensions of tables that may have any name.
const TABLE_ENDINGS: [&str; 3] = ["csv", "jsonl", "tsv"];

/// The result of [`check_speech`]. Its `Display` is what `data check` prints; `{:#}` names all files that are left out.
#[derive(Debug, Clone)]
pub struct SpeechReport {
    /// The folder.
    pub path: PathBuf,
    /// Number of usable recordings: training, held out.
    pub recordings: [usize; 2],
    /// Length of the usable recordings in seconds: training, held out.
    pub seconds: [f64; 2],
    /// Shortest and longest recording in seconds; `None` if nothing could be read.
    pub lengths: Option<[f64; 2]>,
    /// Number of recordings by sample rate in Hz.
    pub sample_rates: BTreeMap<u32, usize>,
    /// Number of recordings by speaker.
    pub speakers: BTreeMap<String, usize>,
    /// Number of word clips for a [`Composer`](super::Composer), by group.
    pub groups: BTreeMap<String, usize>,
    /// Number of different words in all texts, ignoring case and surrounding punctuation.
    pub vocabulary: usize,
    /// Files and folders that are not used: recordings that no table names or of an unsupported kind, tables that are
    /// not read, files that are no recordings, pipes, links to a folder above.
    pub left_out: Vec<LeftOut>,
    /// All problems found.
    pub problems: Vec<Problem>,
}

/// Checks a corpus within default limits: decodes every recording.
///
/// # Errors
/// If the folder can't be read or holds no speech. Problems inside a corpus are part of the report.
pub fn check_speech(path: &Path) -> Result<SpeechReport, DataError> {
    check_speech_within(path, SpeechBounds::default())
}

/// Checks a corpus within the given limits: decodes every recording.
///
/// # Errors
/// As [`check_speech`].
pub fn check_speech_within(path: &Path, bounds: SpeechBounds) -> Result<SpeechReport, DataError> {
    let mut listing = corpus::list(path, bounds)?;
    let mut report = SpeechReport {
        path: path.to_owned(),
        recordings: [0; 2],
        seconds: [0.0; 2],
        lengths: None,
        sample_rates: BTreeMap::new(),
        speakers: BTreeMap::new(),
        groups: BTreeMap::new(),
        vocabulary: 0,
        left_out: left_out(path, &listing)?,
        problems: listing.faults.into_iter().map(Problem::from).collect(),
    };
    let mut words = BTreeSet::new();
    listing.skipped.into_iter().for_each(|s| report.skip(s));
    hold_out(&mut listing.clips, |clip| {
        clip.fault(path, ANY_LENGTH, bounds.sound).is_none()
    });
    let count = ReadCount::begin(listing.clips.len());
    for clip in listing.clips {
        report.read(&clip, bounds.sound, &mut words);
        count.add();
    }
    report.vocabulary = words.len();
    for (split, count) in Split::ALL.into_iter().zip(report.recordings) {
        if report.problems.is_empty() && count == 0 {
            let (path, split) = (path.to_owned(), split.name());
            let fault = DataError::EmptySpeechSplit { path, split };
            report.problems.push(fault.into());
        }
    }
    Ok(report)
}

impl SpeechReport {
    fn skip(&mut self, skipped: Skipped) {
        let Skipped { path, reason } = skipped;
        self.problems
            .push(DataError::malformed(&path, reason).into());
    }

    fn read(&mut self, clip: &Clip, limits: SoundLimits, words: &mut BTreeSet<String>) {
        let path = clip.path(&self.path);
        if let Some(reason) = clip.fault(&self.path, ANY_LENGTH, limits) {
            return self.skip(Skipped { path, reason });
        }
        let sound = match read_sound(&path, limits) {
            Ok(sound) => sound,
            Err(error) => return self.problems.push(DataError::from(error).into()),
        };
        if let Some(reason) = sound.silence() {
            let reason = reason.into();
            return self.skip(Skipped { path, reason });
        }
        let audio = sound.audio;
        let (seconds, split) = (audio.seconds(), usize::from(clip.split == Split::Test));
        if let Some(reason) = clip.wrong_duration(seconds, SPARE_SECONDS, 0.0) {
            self.skip(Skipped { path, reason });
        }
        self.recordings[split] += 1;
        self.seconds[split] += seconds;
        let [short, long] = self.lengths.get_or_insert([seconds; 2]);
        (*short, *long) = (short.min(seconds), long.max(seconds));
        *self.sample_rates.entry(audio.sample_rate_hz).or_default() += 1;
        *self.speakers.entry(clip.speaker.to_string()).or_default() += 1;
        if let Some(group) = &clip.group {
            *self.groups.entry(group.clone()).or_default() += 1;
        }
        words.extend(clip.text.split(' ').filter_map(plain_word));
    }
}

/// The files in a corpus's folder that are not used.
fn left_out(folder: &Path, listing: &Listing) -> Result<Vec<LeftOut>, DataError> {
    let walk = walk(folder, WalkOptions::default())?;
    // Paths are compared by components: `a/./b` equals `a/b`.
    let named = listing.clips.iter().map(|clip| clip.path(folder));
    let named: HashSet<PathBuf> = named.chain(listing.tables.iter().cloned()).collect();
    let tables = corpus::tables(folder).into_iter().flatten();
    let tables: HashSet<PathBuf> = tables.map(|(path, _)| path).collect();
    let mut left_out = walk.left_out;
    left_out.retain(|left| !named.contains(left.path.as_path()));
    for file in walk.files {
        if named.contains(file.as_path()) {
            continue;
        }
        let ending = ending(&file).unwrap_or_default();
        if ENDINGS.contains(&ending.as_str()) {
            left_out.push(LeftOut::unused(file, "a recording that no line names"));
        } else if OTHER_ENDINGS.contains(&ending.as_str()) {
            let why = "a recording of a kind that is not read: turn it into FLAC";
            left_out.push(LeftOut::unused(file, why));
        } else if tables.contains(&file) || TABLE_ENDINGS.contains(&ending.as_str()) {
            left_out.push(LeftOut::unused(file, unread(&listing.tables)));
        } else {
            left_out.push(LeftOut::unused(file, "no recording, by its ending"));
        }
    }
    Ok(left_out)
}

/// Why a table is left out of a corpus that other tables list.
fn unread(tables: &[PathBuf]) -> String {
    let first = tables
        .first()
        .map_or_else(String::new, |path| name_of(path));
    let others = if tables.len() > 1 { " and others" } else { "" };
    format!("a table that is not read: the corpus is listed in {first}{others}")
}

/// A length in seconds, minutes or hours, for people.
fn duration(seconds: f64) -> String {
    match seconds {
        s if s < 60.0 => format!("{s:.1} s"),
        s if s < 3600.0 => format!("{:.1} min", s / 60.0),
        s => format!("{:.2} h", s / 3600.0),
    }
}

impl fmt::Display for SpeechReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}: speech", self.path.display())?;
        let [train, test] = self.recordings;
        let [train_length, test_length] = self.seconds.map(duration);
        writeln!(
            f,
            "{train} recordings ({train_length}) to train on, {test} ({test_length}) held out"
        )?;
        if let Some([short, long]) = self.lengths.map(|lengths| lengths.map(duration)) {
            writeln!(f, "recordings of {short} to {long}")?;
        }
        let (speakers, words) = (self.speakers.len(), self.vocabulary);
        writeln!(f, "{speakers} speakers, {words} different words")?;
        for (rate, count) in &self.sample_rates {
            writeln!(f, "  {rate:>6} Hz  {count:>6}")?;
        }
        for (group, count) in &self.groups {
            writeln!(f, "  words to compose, {}  {count}", on_one_line(group))?;
        }
        write_end(f, &self.left_out, &self.problems)
    }
}
