//! What a clip shows, and the captions that say it: a closed grammar in which every caption has one meaning.
//!
//! ```text
//! clip   = "a" DIGIT VERB | "a" THING PLACE "a" THING
//! THING  = DIGIT | MOVING DIGIT
//! DIGIT  = "zero" | "one" | ... | "nine"
//! VERB   = "moves left" | "moves right" | "moves up" | "moves down" | "moves in a circle" | "grows" | "bounces"
//! MOVING = "left-moving" | "right-moving" | "rising" | "sinking" | "circling" | "growing" | "bouncing"
//! PLACE  = "above" | "below" | "left of" | "right of"
//! ```
//!
//! At least one of two digits moves; a digit without a word for its motion stands still. Before "eight" stands
//! "an".

use latentlm_data::{Split, held_out};

/// Names of the digits.
const DIGITS: [&str; 10] = [
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine",
];

/// How a digit moves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Motion {
    /// To the left, at a constant speed.
    Left,
    /// To the right.
    Right,
    /// Upwards.
    Up,
    /// Downwards.
    Down,
    /// Once around a circle, clockwise.
    Circle,
    /// Becomes larger, around its middle.
    Grow,
    /// Jumps twice.
    Bounce,
}

impl Motion {
    /// All motions.
    pub const ALL: [Self; 7] = [
        Self::Left,
        Self::Right,
        Self::Up,
        Self::Down,
        Self::Circle,
        Self::Grow,
        Self::Bounce,
    ];

    /// Its name in tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Left => "left",
            Self::Right => "right",
            Self::Up => "up",
            Self::Down => "down",
            Self::Circle => "circle",
            Self::Grow => "growing",
            Self::Bounce => "bouncing",
        }
    }

    /// What a digit does, in the caption of a digit that is alone.
    pub fn verb(self) -> &'static str {
        match self {
            Self::Left => "moves left",
            Self::Right => "moves right",
            Self::Up => "moves up",
            Self::Down => "moves down",
            Self::Circle => "moves in a circle",
            Self::Grow => "grows",
            Self::Bounce => "bounces",
        }
    }

    /// The word before a digit, in captions of two.
    pub fn word(self) -> &'static str {
        match self {
            Self::Left => "left-moving",
            Self::Right => "right-moving",
            Self::Up => "rising",
            Self::Down => "sinking",
            Self::Circle => "circling",
            Self::Grow => "growing",
            Self::Bounce => "bouncing",
        }
    }

    /// Whether training never sees this digit move so: 14 of the 70 pairs, for each motion two digits, for each digit
    /// one motion or two.
    pub fn is_held_out(self, digit: u8) -> bool {
        (usize::from(digit) + 2 * self as usize).is_multiple_of(5)
    }
}

/// The pairs of digit and motion that training never sees.
pub fn held_out_pairs() -> Vec<(u8, Motion)> {
    let pairs = (0..10).flat_map(|digit| Motion::ALL.map(|motion| (digit, motion)));
    pairs
        .filter(|(digit, motion)| motion.is_held_out(*digit))
        .collect()
}

/// Where the first of two digits is, seen from the second.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Place {
    /// Above it.
    Above,
    /// Below it.
    Below,
    /// To the left of it.
    Left,
    /// To the right of it.
    Right,
}

impl Place {
    /// All places.
    pub const ALL: [Self; 4] = [Self::Above, Self::Below, Self::Left, Self::Right];

    /// Its words in captions.
    pub fn words(self) -> &'static str {
        match self {
            Self::Above => "above",
            Self::Below => "below",
            Self::Left => "left of",
            Self::Right => "right of",
        }
    }
}

/// A digit with its motion; `None` stands still.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Subject {
    /// The digit, 0 to 9.
    pub digit: u8,
    /// How it moves.
    pub motion: Option<Motion>,
}

/// What a clip shows: the meaning of its caption.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scene {
    /// One digit that moves.
    One {
        /// The digit, 0 to 9.
        digit: u8,
        /// How it moves.
        motion: Motion,
    },
    /// Two digits, of which one moves or both do.
    Two {
        /// The digit that is named first.
        first: Subject,
        /// Where the first is, seen from the second.
        place: Place,
        /// The other digit.
        second: Subject,
    },
}

impl Scene {
    /// The digits in the order of the caption.
    pub fn subjects(&self) -> Vec<Subject> {
        match *self {
            Self::One { digit, motion } => vec![Subject {
                digit,
                motion: Some(motion),
            }],
            Self::Two { first, second, .. } => vec![first, second],
        }
    }

    /// The caption.
    ///
    /// # Panics
    /// If a digit is larger than 9.
    pub fn caption(&self) -> String {
        match self {
            Self::One { digit, motion } => format!("{} {}", still(*digit), motion.verb()),
            Self::Two {
                first,
                place,
                second,
            } => format!("{} {} {}", thing(first), place.words(), thing(second)),
        }
    }

    /// The caption without motions: what a single frame shows, such as `a seven` or `a three above a one`. It is no
    /// caption of a clip.
    ///
    /// # Panics
    /// If a digit is larger than 9.
    pub fn still(&self) -> String {
        match self {
            Self::One { digit, .. } => still(*digit),
            Self::Two {
                first,
                place,
                second,
            } => format!(
                "{} {} {}",
                still(first.digit),
                place.words(),
                still(second.digit)
            ),
        }
    }

    /// The meaning of a caption; `None` if it is none of this grammar. `a` and `an` are the same, and so are runs of
    /// white space.
    pub fn parse(caption: &str) -> Option<Self> {
        let words: Vec<&str> = caption.split_whitespace().collect();
        let (first, rest) = read_thing(&words)?;
        let rest = rest.join(" ");
        let verb = Motion::ALL.into_iter().find(|motion| motion.verb() == rest);
        if let (Some(motion), None) = (verb, first.motion) {
            return Some(Self::One {
                digit: first.digit,
                motion,
            });
        }
        let place = Place::ALL.into_iter().find(|place| {
            let behind = rest.strip_prefix(place.words());
            behind.is_some_and(|behind| behind.starts_with(' '))
        })?;
        let behind: Vec<&str> = rest[place.words().len()..].split_whitespace().collect();
        let (second, end) = read_thing(&behind)?;
        let moves = first.motion.is_some() || second.motion.is_some();
        (moves && end.is_empty()).then_some(Self::Two {
            first,
            place,
            second,
        })
    }

    /// Whether training may see it. Held out are pairs of digit and motion ([`Motion::is_held_out`]), and of captions
    /// of two digits also one in ten, by a hash.
    pub fn split(&self) -> Split {
        let held = |subject: &Subject| {
            subject
                .motion
                .is_some_and(|motion| motion.is_held_out(subject.digit))
        };
        match self {
            _ if self.subjects().iter().any(held) => Split::Test,
            Self::One { .. } => Split::Train,
            Self::Two { .. } => held_out(&self.caption()),
        }
    }
}

fn still(digit: u8) -> String {
    let name = DIGITS[usize::from(digit)];
    let article = if name == "eight" { "an" } else { "a" };
    format!("{article} {name}")
}

fn thing(subject: &Subject) -> String {
    match subject.motion {
        Some(motion) => format!("a {} {}", motion.word(), DIGITS[usize::from(subject.digit)]),
        None => still(subject.digit),
    }
}

/// Reads an article, a motion or none, and a digit. Returns also the words behind.
fn read_thing<'a, 'b>(words: &'b [&'a str]) -> Option<(Subject, &'b [&'a str])> {
    let [article, words @ ..] = words else {
        return None;
    };
    if !matches!(*article, "a" | "an") {
        return None;
    }
    let [first, rest @ ..] = words else {
        return None;
    };
    let motion = Motion::ALL
        .into_iter()
        .find(|motion| motion.word() == *first);
    let (name, rest) = match (motion, rest) {
        (None, rest) => (first, rest),
        (Some(_), [name, rest @ ..]) => (name, rest),
        (Some(_), []) => return None,
    };
    let digit = DIGITS.iter().position(|digit| digit == name)? as u8;
    Some((Subject { digit, motion }, rest))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    fn subjects() -> Vec<Subject> {
        let motions = || {
            let moving = Motion::ALL.into_iter().map(Some);
            moving.chain([None])
        };
        let digits = (0..10).flat_map(|digit| motions().map(move |motion| (digit, motion)));
        digits
            .map(|(digit, motion)| Subject { digit, motion })
            .collect()
    }

    fn scenes() -> Vec<Scene> {
        let mut scenes = Vec::new();
        for first in subjects() {
            if let Some(motion) = first.motion {
                let digit = first.digit;
                scenes.push(Scene::One { digit, motion });
            }
            for (place, second) in Place::ALL
                .into_iter()
                .flat_map(|place| subjects().into_iter().map(move |second| (place, second)))
            {
                if first.motion.or(second.motion).is_some() {
                    scenes.push(Scene::Two {
                        first,
                        place,
                        second,
                    });
                }
            }
        }
        scenes
    }

    #[test]
    fn every_caption_has_one_meaning() {
        let scenes = scenes();
        assert_eq!(scenes.len(), 70 + 4 * (80 * 80 - 10 * 10));
        let captions: BTreeSet<String> = scenes.iter().map(Scene::caption).collect();
        assert_eq!(captions.len(), scenes.len());
        for scene in &scenes {
            assert_eq!(Scene::parse(&scene.caption()), Some(*scene));
        }
    }

    /// What a still shows is the caption without the words that name motions, so all motions have the same.
    #[test]
    fn stills_do_not_move() {
        for (caption, still) in [
            ("a seven moves in a circle", "a seven"),
            ("an eight grows", "an eight"),
            ("a three above a bouncing one", "a three above a one"),
            (
                "a sinking eight left of a rising eight",
                "an eight left of an eight",
            ),
        ] {
            assert_eq!(Scene::parse(caption).unwrap().still(), still);
        }
        for scene in scenes() {
            let still = scene.still();
            for motion in Motion::ALL {
                assert!(!still.contains(motion.word()), "{still}");
                assert!(!still.contains(motion.verb()), "{still}");
            }
            assert_eq!(Scene::parse(&still), None, "{still}");
        }
        // One digit, or two at one of four places.
        let stills: BTreeSet<String> = scenes().iter().map(Scene::still).collect();
        assert_eq!(stills.len(), 10 + 4 * 10 * 10);
    }

    #[test]
    fn captions_read_as_english() {
        let seven = Scene::parse("a seven moves left").unwrap();
        assert_eq!(
            seven,
            Scene::One {
                digit: 7,
                motion: Motion::Left
            }
        );
        let two = Scene::parse(" a three  above a bouncing one").unwrap();
        assert_eq!(two.caption(), "a three above a bouncing one");
        let eight = Scene::parse("a sinking eight left of a eight").unwrap();
        assert_eq!(eight.caption(), "a sinking eight left of an eight");
        for other in [
            "",
            "a",
            "a seven",
            "seven moves left",
            "a seven moves",
            "a seven moves left and up",
            "a bouncing seven moves left",
            "a seven above a three",
            "a seven above a bouncing",
            "a rising seven abovea three",
            "a rising ten above a three",
        ] {
            assert_eq!(Scene::parse(other), None, "{other}");
        }
    }

    #[test]
    fn training_sees_every_digit_and_every_motion() {
        let held = held_out_pairs();
        assert_eq!(held.len(), 14);
        for digit in 0..10 {
            let own = held.iter().filter(|pair| pair.0 == digit).count();
            assert!((1..=2).contains(&own), "{digit}: {own}");
        }
        for motion in Motion::ALL {
            assert_eq!(held.iter().filter(|pair| pair.1 == motion).count(), 2);
        }
        let of_two: Vec<Scene> = scenes()
            .into_iter()
            .filter(|scene| matches!(scene, Scene::Two { .. }))
            .filter(|scene| {
                let mut subjects = scene.subjects().into_iter();
                subjects.all(|own| {
                    own.motion
                        .is_none_or(|motion| !motion.is_held_out(own.digit))
                })
            })
            .collect();
        let unseen = of_two.iter().filter(|own| own.split() == Split::Test);
        let share = unseen.count() as f64 / of_two.len() as f64;
        assert!((0.08..0.12).contains(&share), "{share}");
    }
}
