//! What is right in drawn clips of digits.

use latentlm_compose::{Place, Scene};

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

/// Counts of [`Right`] over many clips.
#[derive(Debug, Default)]
pub struct Tally {
    clips: Vec<Right>,
    /// For every digit of every frame whether its class is right.
    frames: Vec<bool>,
    /// For every digit of every two neighbouring frames whether its class changes.
    flips: Vec<bool>,
}

impl Tally {
    /// Counts clips of scenes, as the judge sees them.
    pub fn of(scenes: &[Scene], seen: &[Vec<SeenDigit>], side: usize) -> Self {
        let mut tally = Self::default();
        for (scene, seen_digits) in scenes.iter().zip(seen) {
            tally.clips.push(Right::of(scene, seen_digits, side));
            let subjects = scene.subjects();
            for (subject, seen_digit) in subjects.iter().zip(ordered(scene, seen_digits)) {
                let classes = &seen_digit.classes;
                let right = classes.iter().map(|class| *class == subject.digit);
                tally.frames.extend(right);
                tally
                    .flips
                    .extend(classes.windows(2).map(|two| two[0] != two[1]));
            }
        }
        tally
    }

    /// Share of clips for which a part, or all, is right.
    pub fn share(&self, part: fn(Right) -> bool) -> f64 {
        share(self.clips.iter().copied().map(part)).unwrap_or_default()
    }

    /// Share of frames with the right digit.
    pub fn frames(&self) -> f64 {
        share(self.frames.iter().copied()).unwrap_or_default()
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
