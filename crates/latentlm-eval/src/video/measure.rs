//! What is right in drawn clips of digits.

use std::collections::BTreeMap;

use latentlm_compose::{Motion, Place, Scene};
use serde::Serialize;

use super::judge::SeenDigit;
use crate::statistics::share;

/// One digit is above or left of the other if they are at least this far apart, in units of the frame's side.
const APART: f64 = 0.25;

/// Which properties of a clip agree with its caption.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Right {
    /// Every digit.
    pub digits: bool,
    /// Every motion.
    pub motions: bool,
    /// Where the digits are, seen from each other; true for one.
    pub place: bool,
}

impl Right {
    /// Compares what a clip should show with what the judge sees. `side` is that of a frame in pixels.
    pub fn of(scene: &Scene, seen_digits: &[SeenDigit], side: usize) -> Self {
        let subjects = scene.subjects();
        let ordered = ordered(scene, seen_digits);
        let pairs = || subjects.iter().zip(&ordered);
        Self {
            digits: pairs().all(|(subject, seen_digit)| subject.digit == seen_digit.digit),
            motions: pairs().all(|(subject, seen_digit)| seen_digit.course.is(subject.motion)),
            place: match (scene, &ordered[..]) {
                (Scene::Two { place, .. }, [first, second]) => {
                    (along(*place, first) - along(*place, second)).abs() > APART * side as f64
                }
                _ => true,
            },
        }
    }

    /// Whether everything is.
    pub fn all(self) -> bool {
        self.digits && self.motions && self.place
    }
}

/// The digits that are seen in the order of the caption: the first is where it should be.
fn ordered<'a>(scene: &Scene, seen_digits: &'a [SeenDigit]) -> Vec<&'a SeenDigit> {
    let mut ordered: Vec<&SeenDigit> = seen_digits.iter().collect();
    if let Scene::Two { place, .. } = scene {
        ordered.sort_by(|a, b| along(*place, a).total_cmp(&along(*place, b)));
        if matches!(place, Place::Below | Place::Right) {
            ordered.reverse();
        }
    }
    ordered
}

/// The place of a digit in the direction in which two are apart.
fn along(place: Place, seen_digit: &SeenDigit) -> f64 {
    match place {
        Place::Above | Place::Below => seen_digit.place.y,
        Place::Left | Place::Right => seen_digit.place.x,
    }
}

/// Shares of the clips of one digit with one motion in which a property is right.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct MotionShares {
    /// The digit.
    pub digit: f64,
    /// The motion.
    pub motion: f64,
}

/// Counts of [`Right`] over many clips.
#[derive(Debug, Default)]
pub struct Tally {
    scenes: Vec<Scene>,
    clips: Vec<Right>,
    /// For every digit, frame by frame, whether its class is right.
    frames: Vec<Vec<bool>>,
    /// For every digit of every two neighbouring frames whether its class changes.
    flips: Vec<bool>,
}

impl Tally {
    /// Counts clips of scenes, as the judge sees them.
    pub fn of(scenes: &[Scene], seen: &[Vec<SeenDigit>], side: usize) -> Self {
        let mut tally = Self::default();
        for (scene, seen_digits) in scenes.iter().zip(seen) {
            tally.scenes.push(*scene);
            tally.clips.push(Right::of(scene, seen_digits, side));
            let subjects = scene.subjects();
            for (subject, seen_digit) in subjects.iter().zip(ordered(scene, seen_digits)) {
                let classes = &seen_digit.classes;
                let right = classes.iter().map(|class| *class == subject.digit);
                tally.frames.push(right.collect());
                tally
                    .flips
                    .extend(classes.windows(2).map(|two| two[0] != two[1]));
            }
        }
        tally
    }

    /// The clips of both tallies.
    pub fn with(&self, other: &Self) -> Self {
        Self {
            scenes: [&self.scenes[..], &other.scenes[..]].concat(),
            clips: [&self.clips[..], &other.clips[..]].concat(),
            frames: [&self.frames[..], &other.frames[..]].concat(),
            flips: [&self.flips[..], &other.flips[..]].concat(),
        }
    }

    /// Share of clips for which a part, or all, is right.
    pub fn share(&self, part: fn(Right) -> bool) -> f64 {
        share(self.clips.iter().copied().map(part)).unwrap_or_default()
    }

    /// Share of frames with the right digit.
    pub fn frames(&self) -> f64 {
        share(self.frames.iter().flatten().copied()).unwrap_or_default()
    }

    /// Share of digits that are right at each frame.
    pub fn by_frame(&self) -> Vec<f64> {
        let frames = self.frames.iter().map(Vec::len).max().unwrap_or_default();
        let mut shares = Vec::with_capacity(frames);
        for frame in 0..frames {
            let right = self.frames.iter().filter_map(|digit| digit.get(frame));
            shares.push(share(right.copied()).unwrap_or_default());
        }
        shares
    }

    /// What is right in clips of one digit, by the name of its motion. Motions without clips are left out.
    pub fn by_motion(&self) -> BTreeMap<&'static str, MotionShares> {
        let mut shares = BTreeMap::new();
        for motion in Motion::ALL {
            let mut own = Vec::new();
            for (scene, right) in self.scenes.iter().zip(&self.clips) {
                if let Scene::One { motion: asked, .. } = scene
                    && *asked == motion
                {
                    own.push(right);
                }
            }
            if own.is_empty() {
                continue;
            }
            let of_motion = MotionShares {
                digit: share(own.iter().map(|right| right.digits)).unwrap_or_default(),
                motion: share(own.iter().map(|right| right.motions)).unwrap_or_default(),
            };
            shares.insert(motion.name(), of_motion);
        }
        shares
    }

    /// Share of neighbouring frames with different digits.
    pub fn flips(&self) -> f64 {
        share(self.flips.iter().copied()).unwrap_or_default()
    }

    /// Share of clips in which all is right, among those that `counts` selects.
    pub fn share_of(&self, counts: &[bool]) -> f64 {
        let own = self.clips.iter().zip(counts).filter(|(_, counts)| **counts);
        share(own.map(|(right, _)| right.all())).unwrap_or_default()
    }
}

/// How many digits and motions captions name right.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Named {
    /// Share of digits that are named right.
    pub digits: f64,
    /// Share of motions that are named right.
    pub motions: f64,
    /// Share of captions that are right as a whole.
    pub exact: f64,
}

impl Named {
    /// Compares captions with what clips show. A caption of another number of digits names none.
    pub fn of(scenes: &[Scene], said: &[String]) -> Self {
        let (mut digits, mut motions, mut exact) = (Vec::new(), Vec::new(), Vec::new());
        for (scene, said) in scenes.iter().zip(said) {
            let read = Scene::parse(said);
            exact.push(read == Some(*scene));
            let subjects = scene.subjects();
            let named = read.map(|read| read.subjects()).unwrap_or_default();
            for (index, subject) in subjects.iter().enumerate() {
                let fits = named.len() == subjects.len();
                let named = named.get(index).filter(|_| fits);
                digits.push(named.is_some_and(|own| own.digit == subject.digit));
                motions.push(named.is_some_and(|own| own.motion == subject.motion));
            }
        }
        Self {
            digits: share(digits).unwrap_or_default(),
            motions: share(motions).unwrap_or_default(),
            exact: share(exact).unwrap_or_default(),
        }
    }
}
