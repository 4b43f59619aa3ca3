//! How a digit moves, told from the path of its centre and from its size.

use std::f64::consts::TAU;

use latentlm_compose::Motion;

use super::spot::{Point, Spot};

/// A digit stands still if the root mean square distance from its mean place is below this, in pixels.
const STILL: f64 = 0.35;
/// A digit grows if its size in the last frames, divided by that in the first, is above this.
const GROWN: f64 = 1.1;
/// Number of first and of last frames in which the size is measured.
const ENDS: usize = 3;
/// Share of a path's variance that a motion must explain.
const CLEAR: f64 = 0.6;

/// The way of a digit through a clip.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Course {
    /// It stands still.
    Still,
    /// It moves.
    Moves(Motion),
    /// It moves otherwise, or can't be seen.
    Unclear,
}

impl Course {
    /// The course of a digit, given its spot in each frame.
    pub fn of(track: &[Spot]) -> Self {
        let last = track.len().saturating_sub(1).max(1) as f64;
        let frames = track.iter().enumerate();
        let seen: Vec<(f64, &Spot)> = frames
            .filter(|(_, spot)| !spot.is_empty())
            .map(|(frame, spot)| (frame as f64 / last, spot))
            .collect();
        // A digit that is gone for more than a few frames has no path.
        if seen.len() < 2 || 4 * seen.len() < 3 * track.len() {
            return Self::Unclear;
        }
        if growth(&seen) > GROWN {
            return Self::Moves(Motion::Grow);
        }
        let times: Vec<f64> = seen.iter().map(|(time, _)| *time).collect();
        let places: Vec<Point> = seen.iter().map(|(_, spot)| spot.centre).collect();
        Self::of_path(&times, &places)
    }

    /// The motion that explains most of a path. `times` are between 0 and 1.
    fn of_path(times: &[f64], places: &[Point]) -> Self {
        let across = centred(places.iter().map(|place| place.x));
        let down = centred(places.iter().map(|place| place.y));
        let whole = dot(&across, &across) + dot(&down, &down);
        if whole < STILL.powi(2) * times.len() as f64 {
            return Self::Still;
        }
        let shape = |of: fn(f64) -> f64| centred(times.iter().map(|time| of(TAU * time)));
        let line = shape(|turn| turn);
        // Heights are counted from the top, so jumps are negative.
        let jumps = shape(|turn| -turn.sin().abs());
        let (cosine, sine) = (shape(f64::cos), shape(f64::sin));
        let (right, lower) = (dot(&across, &line), dot(&down, &line));
        let jumped = dot(&down, &jumps).max(0.0);
        // Once around, clockwise, from anywhere: x = a cos - b sin, y = a sin + b cos.
        let a = dot(&across, &cosine) + dot(&down, &sine);
        let b = dot(&down, &cosine) - dot(&across, &sine);
        let (along, hops) = (dot(&line, &line), dot(&jumps, &jumps));
        let around = dot(&cosine, &cosine) + dot(&sine, &sine);
        let sideways = if right < 0.0 {
            Motion::Left
        } else {
            Motion::Right
        };
        let upright = if lower < 0.0 {
            Motion::Up
        } else {
            Motion::Down
        };
        let explained = [
            (sideways, right.powi(2) / along),
            (upright, lower.powi(2) / along),
            (Motion::Bounce, jumped.powi(2) / hops),
            (Motion::Circle, (a.powi(2) + b.powi(2)) / around),
        ];
        let best = explained.into_iter().max_by(|x, y| x.1.total_cmp(&y.1));
        match best {
            Some((motion, square)) if square >= CLEAR * whole => Self::Moves(motion),
            _ => Self::Unclear,
        }
    }

    /// Whether this is what a caption says; `None` stands still.
    pub fn is(self, said: Option<Motion>) -> bool {
        match said {
            Some(motion) => self == Self::Moves(motion),
            None => self == Self::Still,
        }
    }
}

/// Size in the last frames divided by that in the first.
fn growth(seen: &[(f64, &Spot)]) -> f64 {
    let ends = ENDS.min(seen.len() / 2).max(1);
    let size = |spots: &[(f64, &Spot)]| -> f64 { spots.iter().map(|(_, spot)| spot.radius).sum() };
    size(&seen[seen.len() - ends..]) / size(&seen[..ends]).max(f64::MIN_POSITIVE)
}

/// Numbers without their mean.
fn centred(values: impl ExactSizeIterator<Item = f64>) -> Vec<f64> {
    let count = values.len() as f64;
    let values: Vec<f64> = values.collect();
    let mean = values.iter().sum::<f64>() / count;
    values.into_iter().map(|value| value - mean).collect()
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(x, y)| x * y).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The course of a path over 17 frames.
    fn course(place: impl Fn(f64) -> [f64; 2]) -> Course {
        let times: Vec<f64> = (0..17).map(|frame| f64::from(frame) / 16.0).collect();
        let places = times.iter().map(|&time| {
            let [x, y] = place(time);
            Point { x, y }
        });
        let places: Vec<Point> = places.collect();
        Course::of_path(&times, &places)
    }

    #[test]
    fn paths_have_their_names() {
        for (motion, found) in [
            (Motion::Left, course(|t| [20.0 - 2.5 * t, 4.0])),
            (Motion::Right, course(|t| [9.0 * t, 4.0 + 0.3 * t])),
            (Motion::Up, course(|t| [4.0, 20.0 - 3.0 * t])),
            (Motion::Down, course(|t| [4.0, 3.0 * t * t])),
            (
                Motion::Bounce,
                course(|t| [4.0, 20.0 - 2.0 * (TAU * t).sin().abs()]),
            ),
            (
                Motion::Circle,
                course(|t| [(TAU * t + 2.0).cos(), (TAU * t + 2.0).sin()]),
            ),
        ] {
            assert_eq!(found, Course::Moves(motion));
            assert!(found.is(Some(motion)) && !found.is(None));
        }
        let still = course(|t| [4.0 + 0.2 * (30.0 * t).sin(), 9.0]);
        assert!(still.is(None), "{still:?}");
        // The other way around, twice around, and hanging jumps are none of them.
        for unclear in [
            course(|t| [3.0 * (TAU * t).cos(), -3.0 * (TAU * t).sin()]),
            course(|t| [3.0 * (2.0 * TAU * t).cos(), 3.0 * (2.0 * TAU * t).sin()]),
            course(|t| [4.0, 3.0 * (TAU * t).sin().abs()]),
        ] {
            assert_eq!(unclear, Course::Unclear);
        }
    }
}
