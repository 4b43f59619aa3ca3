//! [`SpeechDataset`]: one type for all layouts of speech corpora.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use latentlm_media::sound::{
    Audio, RATES_HZ, Sound, SoundLimits, normalise, read_sound, trim_silence,
};

use super::clip::{Clip, Listing, SpeechBounds, hold_out};
use super::corpus;
use super::timed::{SpokenWord, spoken_words};
use crate::error::DataError;
use crate::hex::hex_digest;
use crate::options::ReadOptions;
use crate::sample::{Content, Sample};
use crate::skipped::Skipped;
use crate::split::Split;
use crate::verify::on_all_threads;

/// Silence kept at both ends of a trimmed recording, in seconds.
const KEPT_SECONDS: f64 = 0.05;
/// Tolerance in seconds for recordings longer than their header says: an MP3's header is an estimate.
const SPARE_SECONDS: f64 = 1.0;

/// Tolerance in seconds for lengths in tables.
const DURATION_SPARE_SECONDS: f64 = 0.5;
/// The same as a fraction; the larger one counts.
const DURATION_SPARE: f64 = 0.2;

/// Sample rate, loudness and lengths of the recordings.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SpeechSpec {
    /// Samples per second.
    pub sample_rate_hz: u32,
    /// Root mean square of the parts that are not silent, in dB of full scale. `None` keeps the recorded
    /// level.
    pub loudness_dbfs: Option<f64>,
    /// Whether silence at both ends is trimmed. Recordings whose words have times stay as they are.
    pub trim_silence: bool,
    /// Shortest recording in seconds; shorter ones are left out.
    pub min_seconds: f64,
    /// Longest recording in seconds; longer ones are left out.
    pub max_seconds: f64,
}

impl SpeechSpec {
    /// Resamples a sound, trims silence and normalizes loudness as specified. Does not check its length.
    ///
    /// # Panics
    /// If a rate is 0.
    pub fn bring(&self, audio: Audio) -> Vec<f32> {
        let audio = audio.resampled(self.sample_rate_hz);
        let mut samples = if self.trim_silence {
            trim_silence(&audio.samples, self.sample_rate_hz, KEPT_SECONDS).to_vec()
        } else {
            audio.samples
        };
        if let Some(level) = self.loudness_dbfs {
            normalise(&mut samples, self.sample_rate_hz, level);
        }
        samples
    }

    fn validate(&self, path: &Path) -> Result<(), DataError> {
        let (least, most) = (self.min_seconds, self.max_seconds);
        let reason = if !RATES_HZ.contains(&self.sample_rate_hz) {
            let (low, high) = (RATES_HZ.start(), RATES_HZ.end());
            format!(
                "samples a second must be {low} to {high}, not {}",
                self.sample_rate_hz
            )
        } else if !(0.0 <= least && least <= most) {
            format!("lengths must be from 0 s up, not {least} to {most} s")
        } else if let Some(level) = self
            .loudness_dbfs
            .filter(|level| !(-90.0..=0.0).contains(level))
        {
            format!("loudness must be -90 to 0 dB of full scale, not {level}")
        } else {
            return Ok(());
        };
        let path = path.to_owned();
        Err(DataError::SpeechSpec { path, reason })
    }
}

/// A decoded recording with its transcript.
#[derive(Debug, Clone, PartialEq)]
pub struct Utterance {
    /// Samples in `[-1, 1]`.
    pub samples: Vec<f32>,
    /// Transcript.
    pub text: String,
    /// Name of the speaker.
    pub speaker: String,
}

/// An open split of a speech corpus. Recordings are decoded on access; cloning is cheap.
#[derive(Debug, Clone)]
pub struct SpeechDataset {
    clips: Arc<Vec<Clip>>,
    skipped: Arc<Vec<Skipped>>,
    /// Those of `skipped` that are missing or can't be decoded, as far as their headers tell.
    broken: Arc<Vec<Skipped>>,
    /// Length of all recordings, as their headers tell.
    seconds: f64,
    folder: Arc<Path>,
    spec: SpeechSpec,
    sound: SoundLimits,
}

impl SpeechDataset {
    /// Opens one split of the corpus in `path`. The layout is found out:
    /// - a `metadata.jsonl` whose lines have `audio` (a path) and `text`, and may have `speaker`,
    ///   `group` (the kind of word, for a [`Composer`](super::Composer)) and `split`; or the manifests of
    ///   NeMo and Hugging Face with the keys `audio_filepath`, `file_name`, `transcription` or
    ///   `sentence`; one file for all, or one per split;
    /// - tables with bars, tabs or commas, with or without a header: the `metadata.csv` of LJSpeech,
    ///   Piper, Coqui and F5, the `train.tsv` of Common Voice;
    /// - trees as in LibriSpeech (`*.trans.txt` beside FLAC), LibriTTS (`*.normalized.txt` beside WAV),
    ///   VCTK and Multilingual LibriSpeech.
    ///
    /// If the corpus does not define splits, one recording in twenty is held out, by a hash of its name,
    /// and at least one if there are two. Unusable recordings are left out and listed in
    /// [`skipped`](Self::skipped); unreadable transcripts are listed with the training split. Texts are
    /// [normalized](crate::normal_text).
    ///
    /// # Errors
    /// If `path` holds no corpus, the split has no usable recording, a line of a table can't be read or
    /// names a file outside of the folder, or `spec` is invalid.
    pub fn open(path: &Path, spec: SpeechSpec, split: Split) -> Result<Self, DataError> {
        Self::open_within(path, spec, split, SpeechBounds::default())
    }

    /// Opens one split of a corpus within the given limits.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn open_within(
        path: &Path,
        spec: SpeechSpec,
        split: Split,
        bounds: SpeechBounds,
    ) -> Result<Self, DataError> {
        spec.validate(path)?;
        let Listing {
            mut clips,
            mut skipped,
            faults,
            ..
        } = corpus::list(path, bounds)?;
        if let Some(fault) = faults.into_iter().next() {
            return Err(fault);
        }
        // The split of an unreadable transcript is unknown. It is listed once, with the training split.
        if split != Split::Train {
            skipped.clear();
        }
        let sound = bounds.sound.and_seconds(spec.max_seconds + SPARE_SECONDS);
        let usable = |clip: &Clip| clip.usable(path, spec.min_seconds..=spec.max_seconds, sound);
        hold_out(&mut clips, |clip| usable(clip).is_ok());
        clips.retain(|clip| clip.split == split);
        let (mut broken, mut seconds) = (Vec::new(), 0.0);
        clips.retain(|clip| match usable(clip) {
            Ok(length) => {
                seconds += length;
                true
            }
            Err(reason) => {
                let unusable = Skipped {
                    path: clip.path(path),
                    reason,
                };
                if clip.seconds(path, sound).is_err() {
                    broken.push(unusable.clone());
                }
                skipped.push(unusable);
                false
            }
        });
        if clips.is_empty() {
            return Err(match skipped.into_iter().next() {
                Some(Skipped { path, reason }) => DataError::malformed(
                    &path,
                    format!(
                        "{reason}; of the {} split nothing else is left",
                        split.name()
                    ),
                ),
                None => DataError::EmptySpeechSplit {
                    path: path.to_owned(),
                    split: split.name(),
                },
            });
        }
        Ok(Self {
            clips: Arc::new(clips),
            skipped: Arc::new(skipped),
            broken: Arc::new(broken),
            seconds,
            folder: path.into(),
            spec,
            sound,
        })
    }

    /// Decodes every recording of both splits once, on all threads, and counts those that are missing, can't be
    /// decoded, are silent, or are far shorter than their tables say. Recordings that are left out for other reasons do
    /// not count as broken. Returns those that are far longer than their tables say.
    ///
    /// # Errors
    /// If more than the fraction `max_broken` of all recordings are broken, or a stop came.
    pub fn check_broken(splits: [&Self; 2], max_broken: f64) -> Result<Vec<Skipped>, DataError> {
        let (mut total, mut broken, mut longer) = (0, Vec::new(), Vec::new());
        for own in splits {
            total += own.len() + own.skipped.len();
            for unusable in own.broken.iter() {
                broken.push(DataError::malformed(
                    &unusable.path,
                    unusable.reason.as_str(),
                ));
            }
            let decoded = on_all_threads(own.clips.as_slice(), |clip| {
                own.decode(clip).map(|(_, longer)| longer)
            })?;
            for read in decoded {
                match read {
                    Ok(own) => longer.extend(own),
                    Err(error) => broken.push(error),
                }
            }
        }
        let options = ReadOptions {
            max_broken,
            ..ReadOptions::default()
        };
        let [first, _] = splits;
        options.allow(&first.folder, broken.len(), total, broken.first())?;
        Ok(longer)
    }

    /// Decodes a recording. It is returned as `Skipped` too if it is far longer than its table says: its text may be that
    /// of a part.
    ///
    /// # Errors
    /// If it can't be decoded, is longer than its header says and the specification allows, is silent, or is far shorter
    /// than its table says: its text is that of a longer one.
    fn decode(&self, clip: &Clip) -> Result<(Sound, Option<Skipped>), DataError> {
        let path = clip.path(&self.folder);
        let sound = read_sound(&path, self.sound)?;
        let seconds = sound.audio.seconds();
        let wrong = clip.wrong_duration(seconds, DURATION_SPARE_SECONDS, DURATION_SPARE);
        match (wrong, sound.silence()) {
            (Some(reason), _) if clip.duration_s > Some(seconds) => {
                Err(DataError::malformed(&path, reason))
            }
            (_, Some(reason)) => Err(DataError::malformed(&path, reason)),
            (wrong, None) => Ok((sound, wrong.map(|reason| Skipped { path, reason }))),
        }
    }

    /// Whether a folder holds speech (and not pictures).
    pub fn is_speech(path: &Path) -> bool {
        corpus::is_corpus(path)
    }

    /// The corpus folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Number of recordings.
    pub fn len(&self) -> usize {
        self.clips.len()
    }

    /// Whether there are no recordings.
    pub fn is_empty(&self) -> bool {
        self.clips.is_empty()
    }

    /// Length of all recordings in seconds before silence is trimmed, as their headers tell.
    pub fn seconds(&self) -> f64 {
        self.seconds
    }

    /// Sample rate, loudness and lengths of the recordings.
    pub fn spec(&self) -> SpeechSpec {
        self.spec
    }

    /// Recordings that were left out, with reasons.
    pub fn skipped(&self) -> &[Skipped] {
        &self.skipped
    }

    /// The transcript of a recording.
    ///
    /// # Panics
    /// If `index` is out of range.
    pub fn text(&self, index: usize) -> &str {
        &self.clips[index].text
    }

    /// The words of a recording and where they end in its samples, if the table has `words`: a list of
    /// `{"text": ..., "end": seconds}`.
    ///
    /// # Panics
    /// If `index` is out of range.
    pub fn words(&self, index: usize) -> Option<Vec<SpokenWord>> {
        let words = self.clips[index].words.as_deref()?;
        Some(spoken_words(words, self.spec.sample_rate_hz))
    }

    /// The speaker of a recording.
    ///
    /// # Panics
    /// If `index` is out of range.
    pub fn speaker(&self, index: usize) -> &str {
        &self.clips[index].speaker
    }

    /// The group of a word clip, such as `digit`; `None` for other recordings.
    ///
    /// # Panics
    /// If `index` is out of range.
    pub fn group(&self, index: usize) -> Option<&str> {
        self.clips[index].group.as_deref()
    }

    /// The file of a recording.
    ///
    /// # Panics
    /// If `index` is out of range.
    pub fn path(&self, index: usize) -> PathBuf {
        self.clips[index].path(&self.folder)
    }

    /// Decodes a recording; resamples, trims and normalizes it as specified.
    ///
    /// # Errors
    /// If the recording can't be decoded, is longer than its header says and the specification allows, is silent, or is
    /// far shorter than its table says: its text is that of a longer one.
    ///
    /// # Panics
    /// If `index` is out of range.
    pub fn get(&self, index: usize) -> Result<Utterance, DataError> {
        let clip = &self.clips[index];
        let (sound, _) = self.decode(clip)?;
        // Times of words count from the start of the file.
        let spec = SpeechSpec {
            trim_silence: self.spec.trim_silence && clip.words.is_none(),
            ..self.spec
        };
        Ok(Utterance {
            samples: spec.bring(sound.audio),
            text: clip.text.clone(),
            speaker: clip.speaker.to_string(),
        })
    }

    /// A hash of names, file sizes, texts, speakers, groups, times of words and the specification. Checkpoints
    /// and latent caches store it; caches are rebuilt when it changes.
    pub fn fingerprint(&self) -> String {
        let clips = self.clips.iter().map(|clip| {
            let size = std::fs::metadata(clip.path(&self.folder)).map_or(0, |m| m.len());
            // Debug output quotes strings, so different lists have different texts.
            format!("{:?} {size} {}\n", clip.name, learned(clip))
        });
        hex_digest([format!("{:?}", self.spec)].into_iter().chain(clips))
    }

    /// The recordings of this split: what a run is compared with when it goes on.
    pub fn samples(&self) -> Vec<Sample> {
        let clips = self.clips.iter().map(|clip| Sample {
            name: clip.name.clone(),
            about: learned(clip),
            content: Content::File(clip.path(&self.folder)),
        });
        clips.collect()
    }
}

/// What training learns of a recording besides its sound. Times of words have a line of their own: older versions did not
/// read them.
fn learned(clip: &Clip) -> String {
    let mut learned = format!("{:?} {:?} {:?}", clip.text, clip.speaker, clip.group);
    if let Some(words) = &clip.words {
        learned += &format!("\n{words:?}");
    }
    learned
}
