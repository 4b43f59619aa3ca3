//! Composes utterances of recorded word clips: any amount of speech with exact transcripts.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use latentlm_media::sound::trim_silence;
use rand::rngs::ChaCha8Rng;
use rand::{RngExt, SeedableRng};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::dataset::SpeechDataset;
use super::timed::SpokenWord;
use super::vocabulary::{DAYS, MONTHS, ORDINALS, SPELLED, TENS, UNITS};
use crate::error::DataError;
use crate::skipped::Skipped;
use crate::split::Split;

/// Silence between words, in seconds.
const PAUSE_SECONDS: std::ops::Range<f64> = 0.04..0.16;
/// Silence before the first and after the last word, in seconds.
const MARGIN_SECONDS: std::ops::Range<f64> = 0.06..0.12;
/// Silence kept around a clip when it is trimmed, in seconds.
const KEPT_SECONDS: f64 = 0.01;
/// Largest number of missing words that an error names.
const MISSING_SHOWN: usize = 4;

/// Kinds of composed utterances.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Composition {
    /// Three to six digits.
    Digits,
    /// A spelled word of three to six letters.
    Letters,
    /// Day of the week, month, day of the month.
    Dates,
    /// A number up to 9999.
    Numbers,
    /// One to three words of any kind, for a curriculum: short texts come before longer ones.
    Words,
}

impl Composition {
    /// All kinds with meaningful texts, without [`Words`](Self::Words).
    pub const ALL: [Self; 4] = [Self::Digits, Self::Letters, Self::Dates, Self::Numbers];

    /// `digits`, `letters`, `dates`, `numbers`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Digits => "digits",
            Self::Letters => "letters",
            Self::Dates => "dates",
            Self::Numbers => "numbers",
            Self::Words => "words",
        }
    }

    /// A random text of this kind and split, a function of the arguments.
    pub fn text(self, split: Split, seed: u64, index: u64) -> String {
        let needed = self.needs();
        let known: Vec<&Word> = needed.iter().collect();
        let mut random = stream(seed, index);
        loop {
            let text = text_of(&words_of(&known, self, &mut random));
            if split_of(&text) == split {
                return text;
            }
        }
    }

    /// The words that a speaker must have for this kind.
    fn needs(self) -> Words {
        match self {
            Self::Words => Self::ALL.into_iter().flat_map(Self::needs).collect(),
            Self::Digits => words("digit", &UNITS[..10]),
            Self::Letters => ('a'..='z')
                .map(|c| word("letter", &c.to_string()))
                .collect(),
            Self::Dates => {
                let days = (1..=31).flat_map(ordinal).collect::<BTreeSet<_>>();
                let mut needed = words("day", &DAYS);
                needed.extend(words("month", &MONTHS));
                needed.extend(days);
                needed
            }
            Self::Numbers => {
                let mut needed = words("digit", &UNITS[..10]);
                needed.extend(words("number", &UNITS[10..]));
                needed.extend(words("number", &TENS));
                needed.extend(words("number", &["hundred", "thousand"]));
                needed
            }
        }
    }
}

/// A composed utterance.
#[derive(Debug, Clone, PartialEq)]
pub struct Composed {
    /// The words, separated by spaces.
    pub text: String,
    /// Samples in `[-1, 1]`.
    pub samples: Vec<f32>,
    /// Name of the speaker.
    pub speaker: String,
    /// Kind of utterance.
    pub kind: Composition,
    /// The words with the positions at which they end.
    pub words: Vec<SpokenWord>,
}

/// The recordings of one speaker, by word.
#[derive(Debug)]
struct Voice {
    speaker: String,
    clips: BTreeMap<Word, Vec<Vec<f32>>>,
}

impl Voice {
    /// The words that the speaker lacks for a kind of utterance.
    fn lacks(&self, kind: Composition) -> Vec<String> {
        let needed = kind.needs().into_iter();
        needed
            .filter(|word| !self.clips.contains_key(word))
            .map(|(_, word)| word)
            .collect()
    }

    fn can(&self, kind: Composition) -> bool {
        self.lacks(kind).is_empty()
    }
}

/// Joins word clips of one speaker to utterances. Cloning is cheap.
#[derive(Debug, Clone)]
pub struct Composer {
    voices: Arc<Vec<Voice>>,
    skipped: Arc<Vec<Skipped>>,
    kinds: Vec<Composition>,
    sample_rate_hz: u32,
    grid_samples: usize,
}

impl Composer {
    /// Loads all clips of a corpus that have a group. Clips that can't be decoded are left out and listed
    /// in [`skipped`](Self::skipped). A kind of utterance is left out if no speaker has all its words.
    ///
    /// # Errors
    /// If no kind of utterance is left.
    pub fn new(dataset: &SpeechDataset) -> Result<Self, DataError> {
        let sample_rate_hz = dataset.spec().sample_rate_hz;
        let mut voices: BTreeMap<String, Voice> = BTreeMap::new();
        let mut skipped = Vec::new();
        for index in 0..dataset.len() {
            let Some(group) = dataset.group(index) else {
                continue;
            };
            let clip = match dataset.get(index) {
                Ok(clip) => clip,
                Err(error) => {
                    skipped.push(Skipped::of(&dataset.path(index), &error));
                    continue;
                }
            };
            let samples = trim_silence(&clip.samples, sample_rate_hz, KEPT_SECONDS).to_vec();
            let voice = voices.entry(clip.speaker.clone()).or_insert_with(|| Voice {
                speaker: clip.speaker,
                clips: BTreeMap::new(),
            });
            let takes = voice.clips.entry(word(group, &clip.text.to_lowercase()));
            takes.or_default().push(samples);
        }
        let voices: Vec<Voice> = voices.into_values().collect();
        let said = |kind: &Composition| voices.iter().any(|voice| voice.can(*kind));
        let kinds: Vec<Composition> = Composition::ALL.into_iter().filter(said).collect();
        if kinds.is_empty() {
            return Err(DataError::NoWords {
                path: dataset.folder().to_owned(),
                missing: missing(&voices),
            });
        }
        Ok(Self {
            voices: Arc::new(voices),
            skipped: Arc::new(skipped),
            kinds,
            sample_rate_hz,
            grid_samples: 1,
        })
    }

    /// Clips that were left out, with reasons.
    pub fn skipped(&self) -> &[Skipped] {
        &self.skipped
    }

    /// Aligns the starts of clips and the ends of utterances to multiples of `samples`. With the codec's
    /// `hop_samples`, a clip is cut into the same frames wherever it stands, so that the language model
    /// learns each word only once and not once per offset.
    pub fn on_grid(mut self, samples: usize) -> Self {
        self.grid_samples = samples.max(1);
        self
    }

    /// Kinds of [`Composition::ALL`] for which some speaker has all words.
    pub fn kinds(&self) -> &[Composition] {
        &self.kinds
    }

    /// Whether a single speaker has all words of a kind. [`Composition::Words`] needs the words of all
    /// kinds.
    pub fn can(&self, kind: Composition) -> bool {
        self.voices.iter().any(|voice| voice.can(kind))
    }

    /// A random utterance of a kind and split, a function of the arguments. A hash of the text decides its
    /// split, one text in ten is held out: no held-out text is ever trained on.
    ///
    /// # Panics
    /// If no speaker has the words of that kind ([`can`](Self::can)).
    pub fn utterance(&self, kind: Composition, split: Split, seed: u64, index: u64) -> Composed {
        let mut random = stream(seed, index);
        let voices: Vec<&Voice> = self.voices.iter().filter(|v| v.can(kind)).collect();
        assert!(!voices.is_empty(), "nobody says all of {}", kind.name());
        let voice = *pick(&voices, &mut random);
        let known: Vec<&Word> = voice.clips.keys().collect();
        // Ends, because both splits have texts of every kind; for the held-out split after ten rounds on
        // average.
        loop {
            let words = words_of(&known, kind, &mut random);
            let text = text_of(&words);
            if split_of(&text) == split {
                let (samples, words) = self.join(voice, &words, &mut random);
                return Composed {
                    samples,
                    speaker: voice.speaker.clone(),
                    text,
                    kind,
                    words,
                };
            }
        }
    }

    /// An utterance of a weighted mix of kinds. With weights that sum to `n`, each kind gets as many of `n`
    /// consecutive indices as its weight. Kinds without a speaker are ignored. `None` if no kind is left.
    pub fn draw(
        &self,
        weights: &[(Composition, u32)],
        split: Split,
        seed: u64,
        index: u64,
    ) -> Option<Composed> {
        let weighted: Vec<(Composition, u64)> = weights
            .iter()
            .filter(|(kind, _)| self.can(*kind))
            .map(|&(kind, weight)| (kind, u64::from(weight)))
            .collect();
        let total: u64 = weighted.iter().map(|(_, weight)| weight).sum();
        let mut at = index.checked_rem(total)?;
        for (kind, weight) in weighted {
            if at < weight {
                return Some(self.utterance(kind, split, seed, index));
            }
            at -= weight;
        }
        None
    }

    /// Joins random clips of the words, with random pauses.
    fn join(
        &self,
        voice: &Voice,
        words: &[Word],
        random: &mut ChaCha8Rng,
    ) -> (Vec<f32>, Vec<SpokenWord>) {
        let (mut samples, mut spoken) = (Vec::new(), Vec::new());
        for (index, word) in words.iter().enumerate() {
            let pause = if index == 0 {
                MARGIN_SECONDS
            } else {
                PAUSE_SECONDS
            };
            self.add_silence(&mut samples, pause, random);
            samples.extend(pick(&voice.clips[word], random));
            spoken.push(SpokenWord {
                text: word.1.clone(),
                end: samples.len(),
            });
        }
        self.add_silence(&mut samples, MARGIN_SECONDS, random);
        (samples, spoken)
    }

    /// Appends silence of a random length within `seconds`, up to the next grid point.
    fn add_silence(
        &self,
        samples: &mut Vec<f32>,
        seconds: std::ops::Range<f64>,
        random: &mut ChaCha8Rng,
    ) {
        let rate = f64::from(self.sample_rate_hz);
        let silence = (random.random_range(seconds) * rate).round() as usize;
        let end = (samples.len() + silence).next_multiple_of(self.grid_samples);
        samples.resize(end, 0.0);
    }

    /// The split that a composed text belongs to.
    pub fn split_of(text: &str) -> Split {
        split_of(text)
    }
}

fn pick<'a, T>(list: &'a [T], random: &mut ChaCha8Rng) -> &'a T {
    &list[random.random_range(0..list.len())]
}

/// The random stream of utterance `index`.
fn stream(seed: u64, index: u64) -> ChaCha8Rng {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    random.set_stream(index);
    random
}

fn text_of(words: &[Word]) -> String {
    let said = words.iter().map(|(_, word)| word.as_str());
    said.collect::<Vec<_>>().join(" ")
}

/// Draws the words of an utterance, out of the words that its speaker has.
fn words_of(known: &[&Word], kind: Composition, random: &mut ChaCha8Rng) -> Words {
    let any = |group: &str, random: &mut ChaCha8Rng| {
        let known = known.iter().copied();
        let all: Vec<&Word> = known.filter(|word| word.0 == group).collect();
        (*pick(&all, random)).clone()
    };
    match kind {
        Composition::Words => (0..random.random_range(1..=3))
            .map(|_| (*pick(known, random)).clone())
            .collect(),
        Composition::Digits => (0..random.random_range(3..=6))
            .map(|_| any("digit", random))
            .collect(),
        Composition::Letters => {
            let letters = pick(&SPELLED[..], random).chars();
            letters.map(|c| word("letter", &c.to_string())).collect()
        }
        Composition::Dates => {
            let mut date = vec![any("day", random), any("month", random)];
            date.extend(ordinal(random.random_range(1..=31)));
            date
        }
        Composition::Numbers => {
            // Numbers of one, two, three and four digits are equally frequent.
            let digits = random.random_range(1..=4);
            words_of_number(random.random_range(0..10u32.pow(digits)) as usize)
        }
    }
}

/// For an error message: the missing words of each kind, for the speaker who lacks the fewest.
fn missing(voices: &[Voice]) -> String {
    if voices.is_empty() {
        return "no clips with a `group` such as `digit`, `letter`, or `day`, `month`, `ordinal` and \
                `number`"
            .into();
    }
    let lacking = |kind: Composition| {
        let least = voices
            .iter()
            .map(|voice| voice.lacks(kind))
            .min_by_key(Vec::len);
        let least = least.unwrap_or_default();
        let shown = least
            .iter()
            .take(MISSING_SHOWN)
            .cloned()
            .collect::<Vec<_>>();
        let rest = match least.len().saturating_sub(MISSING_SHOWN) {
            0 => String::new(),
            rest => format!(" and {rest} more"),
        };
        format!("{} lack {}{rest}", kind.name(), shown.join(", "))
    };
    Composition::ALL.map(lacking).join("; ")
}

/// The split that a composed text belongs to.
fn split_of(text: &str) -> Split {
    match Sha256::digest(text.as_bytes())[0] % 10 {
        0 => Split::Test,
        _ => Split::Train,
    }
}

/// Group and word.
type Word = (String, String);
type Words = Vec<Word>;

fn word(group: &str, word: &str) -> Word {
    (group.into(), word.into())
}

fn words(group: &str, list: &[&str]) -> Words {
    list.iter().map(|name| word(group, name)).collect()
}

/// A number below a million in English words, without `and`: 342 is `three hundred forty two`.
pub fn number_words(number: usize) -> String {
    text_of(&words_of_number(number))
}

fn words_of_number(n: usize) -> Words {
    let mut words = Vec::new();
    if n >= 1000 {
        words.extend(words_of_number(n / 1000));
        words.push(word("number", "thousand"));
    }
    let hundreds = n / 100 % 10;
    if hundreds > 0 {
        words.extend([word("digit", UNITS[hundreds]), word("number", "hundred")]);
    }
    let rest = n % 100;
    match rest {
        0 if n > 0 => {}
        0..10 => words.push(word("digit", UNITS[rest])),
        10..20 => words.push(word("number", UNITS[rest])),
        _ => {
            words.push(word("number", TENS[rest / 10 - 2]));
            if !rest.is_multiple_of(10) {
                words.push(word("digit", UNITS[rest % 10]));
            }
        }
    }
    words
}

/// A day of the month in words.
fn ordinal(day: usize) -> Words {
    match day {
        1..=20 => vec![word("ordinal", ORDINALS[day - 1])],
        30 => vec![word("ordinal", "thirtieth")],
        _ => vec![
            word("number", TENS[day / 10 - 2]),
            word("ordinal", ORDINALS[day % 10 - 1]),
        ],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_days_in_words() {
        for (n, expected) in [
            (0, "zero"),
            (7, "seven"),
            (13, "thirteen"),
            (40, "forty"),
            (99, "ninety nine"),
            (100, "one hundred"),
            (1001, "one thousand one"),
            (3422, "three thousand four hundred twenty two"),
            (7005, "seven thousand five"),
            (9999, "nine thousand nine hundred ninety nine"),
            (120_000, "one hundred twenty thousand"),
        ] {
            assert_eq!(number_words(n), expected);
        }
        for (day, expected) in [(1, "first"), (20, "twentieth"), (21, "twenty first")] {
            assert_eq!(text_of(&ordinal(day)), expected);
        }
        assert_eq!(text_of(&ordinal(30)), "thirtieth");
        assert_eq!(text_of(&ordinal(31)), "thirty first");
    }

    /// `Composition::text`, which needs no recordings, gives texts of the right words and split.
    #[test]
    fn texts_without_recordings_repeat_and_keep_their_split() {
        for kind in Composition::ALL {
            for split in Split::ALL {
                let text = |index| kind.text(split, 3, index);
                assert_eq!(text(5), text(5));
                assert!((0..20).all(|index| split_of(&text(index)) == split));
                assert!((0..20).any(|index| text(index) != text(0)), "{kind:?}");
            }
        }
        let needed = Composition::Digits.needs();
        let text = Composition::Digits.text(Split::Train, 1, 0);
        let known = |said: &str| needed.iter().any(|(_, word)| word == said);
        assert!(text.split(' ').all(known), "{text}");
    }

    /// Drawing until a text falls into the wanted split ends only if that split has texts.
    #[test]
    fn both_splits_have_words_to_spell() {
        let spelled = |text: &str| {
            let letters: Vec<String> = text.chars().map(String::from).collect();
            split_of(&letters.join(" "))
        };
        let held_out = SPELLED.iter().filter(|word| spelled(word) == Split::Test);
        let (held_out, all) = (held_out.count(), SPELLED.len());
        assert!(held_out > 20 && all > 300, "{held_out} of {all}");
        let different: BTreeSet<&str> = SPELLED.iter().copied().collect();
        assert_eq!(different.len(), all, "none twice");
    }

    #[test]
    fn spelled_words_have_three_to_six_letters() {
        for word in SPELLED.iter() {
            assert!((3..=6).contains(&word.len()), "{word}");
        }
    }
}
