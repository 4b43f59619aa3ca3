//! Utterances made of word clips: as much text as is wanted, with exact transcripts.

use std::collections::BTreeMap;
use std::sync::Arc;

use rand::rngs::ChaCha8Rng;
use rand::{RngExt, SeedableRng};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::dataset::SpeechDataset;
use super::loudness::trim_silence;
use crate::dataset::Split;
use crate::error::DataError;

/// Silence between words, in seconds.
const PAUSE_SECONDS: std::ops::Range<f64> = 0.04..0.16;
/// Silence before the first and behind the last word, in seconds.
const MARGIN_SECONDS: std::ops::Range<f64> = 0.06..0.12;
/// Words that are spelled.
const SPELLED: &str = "able acid also area army away baby back ball band bank base bath bear beat \
    bell best bird blue boat body bone book born both bowl bread brick bus cake call came camp car \
    card care case cat cell chair chalk city clay club coat cold come cook cool corn cow cup dark \
    data dawn day deal deep deer desk dog door down draw dress drop dry duck dust each earth east \
    easy edge egg else even ever eye face fact fair fall farm fast fear feed fern field film find \
    fire fish five flag flat flow food foot form fox free frog fruit full game gate gift girl give \
    glad glass goat gold good grass green grow half hall hand hard hat have head hear heart help \
    high hill hold home hope horse hour house hunt ice idea inch iron jazz job join joke jump just \
    keep key kind king kiss kite knee know lake lamp land last late lead leaf left lemon life light \
    like line lion list live lock long look lost love luck lunch make map mark mask meal meet milk \
    mind moon more moss most move music name near neck nest new nine noon north nose note ocean off \
    oil old open over page paint pair park part past path peak pen pick plan play plum pond poor \
    quick quiet quiz race rain read red rest rice rich ride ring river road rock roof room root rose \
    sail salt sand save sea seat seed ship shoe shop show silk sing six skin sky sleep small snow \
    soap soft song soon soup south star stay stone sugar sun swim table tail tall tea ten tent test \
    tide time toe town train tree true tulip van vase view vote wait walk wall warm wash water wave \
    week well west wheat wide wild wind wine wing wolf wood word work yard year yes zebra zero zone";
const UNITS: [&str; 20] = [
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven",
    "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen",
];
const TENS: [&str; 10] = [
    "", "", "twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety",
];
const ORDINALS: [&str; 20] = [
    "first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth",
    "eleventh", "twelfth", "thirteenth", "fourteenth", "fifteenth", "sixteenth", "seventeenth",
    "eighteenth", "nineteenth", "twentieth",
];

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
}

impl Composition {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Digits, Self::Letters, Self::Dates, Self::Numbers];

    /// `digits`, `letters`, `dates`, `numbers`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Digits => "digits",
            Self::Letters => "letters",
            Self::Dates => "dates",
            Self::Numbers => "numbers",
        }
    }

    /// Groups of words that it draws from.
    fn groups(self) -> &'static [&'static str] {
        match self {
            Self::Digits => &["digit"],
            Self::Letters => &["letter"],
            Self::Dates => &["day", "month", "ordinal", "number"],
            Self::Numbers => &["digit", "number"],
        }
    }
}

/// A composed utterance.
#[derive(Debug, Clone, PartialEq)]
pub struct Composed {
    /// What is said, word by word.
    pub text: String,
    /// Samples in `[-1, 1]`.
    pub samples: Vec<f32>,
    /// What kind it is.
    pub kind: Composition,
}

/// Joins clips of words. A clone is cheap.
#[derive(Debug, Clone)]
pub struct Composer {
    words: Arc<BTreeMap<(String, String), Vec<f32>>>,
    kinds: Vec<Composition>,
    sample_rate_hz: u32,
}

impl Composer {
    /// Loads all clips of a corpus that belong to a group.
    ///
    /// # Errors
    /// If a clip can't be decoded, or no kind of utterance finds its words.
    pub fn new(dataset: &SpeechDataset) -> Result<Self, DataError> {
        let sample_rate_hz = dataset.spec().sample_rate_hz;
        let mut words = BTreeMap::new();
        for index in 0..dataset.len() {
            let Some(group) = dataset.group(index) else {
                continue;
            };
            let clip = dataset.get(index)?;
            let samples = trim_silence(&clip.samples, sample_rate_hz, 0.01).to_vec();
            words.insert((group.to_owned(), clip.text), samples);
        }
        let has = |group: &&str| words.keys().any(|(known, _)| known == group);
        let complete = |kind: &Composition| kind.groups().iter().all(|group| has(group));
        let kinds: Vec<Composition> = Composition::ALL.into_iter().filter(complete).collect();
        if kinds.is_empty() {
            return Err(DataError::NoWords {
                path: dataset.path(0).to_owned(),
            });
        }
        Ok(Self {
            words: Arc::new(words),
            kinds,
            sample_rate_hz,
        })
    }

    /// Kinds of utterances whose words are there.
    pub fn kinds(&self) -> &[Composition] {
        &self.kinds
    }

    /// An utterance of a split: the same arguments make the same one. Which split a text belongs to
    /// follows from the text, one in ten being held out: no held-out text is ever trained on.
    ///
    /// # Panics
    /// If the words for that kind are not there ([`kinds`](Self::kinds)).
    pub fn utterance(&self, kind: Composition, split: Split, seed: u64, index: u64) -> Composed {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        random.set_stream(index);
        loop {
            let words = self.words_of(kind, &mut random);
            let text = words.iter().map(|(_, word)| word.as_str()).collect::<Vec<_>>().join(" ");
            if split_of(&text) == split {
                let samples = self.join(&words, &mut random);
                return Composed {
                    text,
                    samples,
                    kind,
                };
            }
        }
    }

    fn words_of(&self, kind: Composition, random: &mut ChaCha8Rng) -> Vec<(String, String)> {
        let pair = |group: &str, word: &str| (group.to_owned(), word.to_owned());
        match kind {
            Composition::Digits => (0..random.random_range(3..=6))
                .map(|_| pair("digit", self.any("digit", random)))
                .collect(),
            Composition::Letters => {
                let words: Vec<&str> = SPELLED.split_whitespace().collect();
                let word = words[random.random_range(0..words.len())];
                word.chars().map(|c| pair("letter", &c.to_string())).collect()
            }
            Composition::Dates => {
                let mut words = vec![
                    pair("day", self.any("day", random)),
                    pair("month", self.any("month", random)),
                ];
                words.extend(ordinal(random.random_range(1..=31)));
                words
            }
            Composition::Numbers => {
                // As many short ones as long ones.
                let digits = random.random_range(1..=4);
                number(random.random_range(0..10u32.pow(digits)) as usize)
            }
        }
        .into_iter()
        .filter(|word| self.words.contains_key(word))
        .collect()
    }

    fn any(&self, group: &str, random: &mut ChaCha8Rng) -> &str {
        let words: Vec<&str> = self
            .words
            .keys()
            .filter(|(known, _)| known == group)
            .map(|(_, word)| word.as_str())
            .collect();
        words[random.random_range(0..words.len())]
    }

    fn join(&self, words: &[(String, String)], random: &mut ChaCha8Rng) -> Vec<f32> {
        let mut silence = |seconds: std::ops::Range<f64>| {
            let length = random.random_range(seconds) * f64::from(self.sample_rate_hz);
            vec![0.0; length as usize]
        };
        let mut samples = silence(MARGIN_SECONDS);
        for (index, word) in words.iter().enumerate() {
            if index > 0 {
                samples.extend(silence(PAUSE_SECONDS));
            }
            samples.extend_from_slice(&self.words[word]);
        }
        samples.extend(silence(MARGIN_SECONDS));
        samples
    }
}

/// The split that a composed text belongs to.
fn split_of(text: &str) -> Split {
    match Sha256::digest(text.as_bytes())[0] % 10 {
        0 => Split::Test,
        _ => Split::Train,
    }
}

type Words = Vec<(String, String)>;

fn word(group: &str, word: &str) -> (String, String) {
    (group.into(), word.into())
}

/// A number up to 9999 in words.
fn number(n: usize) -> Words {
    let mut words = Vec::new();
    for (part, name) in [(n / 1000, "thousand"), (n / 100 % 10, "hundred")] {
        if part > 0 {
            words.extend([word("digit", UNITS[part]), word("number", name)]);
        }
    }
    let rest = n % 100;
    match rest {
        0 if n > 0 => {}
        0..10 => words.push(word("digit", UNITS[rest])),
        10..20 => words.push(word("number", UNITS[rest])),
        _ => {
            words.push(word("number", TENS[rest / 10]));
            if rest % 10 > 0 {
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
            word("number", TENS[day / 10]),
            word("ordinal", ORDINALS[day % 10 - 1]),
        ],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(words: Words) -> String {
        words.into_iter().map(|(_, word)| word).collect::<Vec<_>>().join(" ")
    }

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
        ] {
            assert_eq!(text(number(n)), expected);
        }
        for (day, expected) in [(1, "first"), (20, "twentieth"), (21, "twenty first")] {
            assert_eq!(text(ordinal(day)), expected);
        }
        assert_eq!(text(ordinal(30)), "thirtieth");
        assert_eq!(text(ordinal(31)), "thirty first");
    }

    #[test]
    fn spelled_words_have_three_to_six_letters() {
        for word in SPELLED.split_whitespace() {
            assert!((3..=6).contains(&word.len()), "{word}");
        }
    }
}
