//! The way of a digit through a clip, in a part of the frame that it never leaves.
//!
//! Lengths are in units of a 32nd of the frame's side: in frames of 32 x 32 these are pixels.

use std::f32::consts::TAU;

use rand::RngExt;
use rand::rngs::ChaCha8Rng;

use crate::digit::Placed;
use crate::scene::{Motion, Place};

/// Side of a frame in units.
pub(crate) const SIDE: f32 = 32.0;
/// Height of the smallest digit.
const LOW: f32 = 12.0;
/// Height of the largest digit: of one that is alone, and of one of two.
const HIGH: f32 = 16.0;
const HIGH_OF_TWO: f32 = 15.0;
/// Smallest share of the free room that a motion takes.
const SHARE: f32 = 0.7;
/// Largest radius of a circle, and largest height of a jump.
const RADIUS: f32 = 6.0;
const JUMP: f32 = 10.0;
/// Side of the part of a frame that one of two digits has. Between the parts lie two units.
const HALF: f32 = 15.0;
/// Width of the widest digit, divided by its height: it fits and has room to move, alone or above another.
pub(crate) const WIDEST: f32 = 1.3;
/// Width of the widest digit that has room beside another.
pub(crate) const WIDEST_BESIDE: f32 = 0.95;

/// A rectangle of the frame.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Part {
    pub(crate) left: f32,
    pub(crate) top: f32,
    pub(crate) width: f32,
    pub(crate) height: f32,
}

impl Part {
    /// The whole frame, of a digit that is alone.
    pub(crate) const WHOLE: Self = Self {
        left: 0.0,
        top: 0.0,
        width: SIDE,
        height: SIDE,
    };

    /// The parts of two digits, the first of which is at `place`.
    pub(crate) fn of_two(place: Place) -> [Self; 2] {
        let (near, far) = (0.0, SIDE - HALF);
        let row = |top| Self {
            top,
            height: HALF,
            ..Self::WHOLE
        };
        let column = |left| Self {
            left,
            width: HALF,
            ..Self::WHOLE
        };
        match place {
            Place::Above => [row(near), row(far)],
            Place::Below => [row(far), row(near)],
            Place::Left => [column(near), column(far)],
            Place::Right => [column(far), column(near)],
        }
    }

    /// Width of the widest digit that has room here, divided by its height.
    pub(crate) fn widest(self) -> f32 {
        if self.width < SIDE {
            WIDEST_BESIDE
        } else {
            WIDEST
        }
    }

    fn is_whole(self) -> bool {
        self == Self::WHOLE
    }
}

/// Place and size of a digit in each of `frames` frames. Its width is `aspect` of its height.
pub(crate) fn path(
    motion: Option<Motion>,
    part: Part,
    aspect: f32,
    frames: usize,
    random: &mut ChaCha8Rng,
) -> Vec<Placed> {
    let mut between = |low: f32, high: f32| low + (high - low) * random.random::<f32>();
    let high = if part.is_whole() { HIGH } else { HIGH_OF_TWO };
    let (from, to) = match motion {
        Some(Motion::Grow) => (LOW, high),
        _ if part.is_whole() => {
            let height = between(LOW, high);
            (height, height)
        }
        _ => (LOW, LOW),
    };
    // The room around the largest box.
    let (across, down) = (part.width - to * aspect, part.height - to);
    let share = between(SHARE, 1.0);
    let (way_across, way_down) = (share * across, share * down);
    let radius = (0.5 * share * across.min(down)).min(RADIUS);
    let jump = way_down.min(JUMP);
    let turn = between(0.0, TAU);
    // What a motion needs to the left of and above the point where it begins, and behind it.
    let (before, behind) = match motion {
        Some(Motion::Left) => ([way_across, 0.0], [0.0, 0.0]),
        Some(Motion::Right) => ([0.0, 0.0], [way_across, 0.0]),
        Some(Motion::Up) => ([0.0, way_down], [0.0, 0.0]),
        Some(Motion::Down) => ([0.0, 0.0], [0.0, way_down]),
        Some(Motion::Circle) => ([radius, radius], [radius, radius]),
        Some(Motion::Bounce) => ([0.0, jump], [0.0, 0.0]),
        Some(Motion::Grow) | None => ([0.0, 0.0], [0.0, 0.0]),
    };
    let left = part.left + between(before[0], across - behind[0]);
    let top = part.top + between(before[1], down - behind[1]);
    let mut placed = Vec::with_capacity(frames);
    for frame in 0..frames {
        let time = frame as f32 / (frames - 1).max(1) as f32;
        let [right, lower] = match motion {
            Some(Motion::Left) => [-way_across * time, 0.0],
            Some(Motion::Right) => [way_across * time, 0.0],
            Some(Motion::Up) => [0.0, -way_down * time],
            Some(Motion::Down) => [0.0, way_down * time],
            Some(Motion::Circle) => {
                let angle = turn + TAU * time;
                [radius * angle.cos(), radius * angle.sin()]
            }
            Some(Motion::Bounce) => [0.0, -jump * (TAU * time).sin().abs()],
            Some(Motion::Grow) | None => [0.0, 0.0],
        };
        let height = from + (to - from) * time;
        // A smaller box stands in the middle of the largest one.
        let inset = 0.5 * (to - height);
        placed.push(Placed {
            left: left + right + inset * aspect,
            top: top + lower + inset,
            height,
        });
    }
    placed
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;

    /// Every way of every motion stays in its part, which is what keeps two digits apart.
    #[test]
    fn digits_stay_in_their_parts() {
        let mut parts = vec![Part::WHOLE];
        for place in Place::ALL {
            let [first, second] = Part::of_two(place);
            let apart = |a: f32, b: f32, size: f32| (a - b).abs() - size;
            let gap = apart(first.left, second.left, HALF).max(apart(first.top, second.top, HALF));
            assert_eq!(gap, 2.0);
            parts.extend([first, second]);
        }
        let mut random = ChaCha8Rng::seed_from_u64(1);
        let motions = Motion::ALL.into_iter().map(Some).chain([None]);
        for motion in motions {
            let widths = |part: Part| [(part, 0.2), (part, part.widest())];
            for (part, aspect) in parts.iter().copied().flat_map(widths) {
                for _ in 0..20 {
                    let way = path(motion, part, aspect, 17, &mut random);
                    assert_eq!(way.len(), 17);
                    for own in way {
                        // Rounding of sums of 32-bit numbers below 32.
                        let (least, room) = (-1e-4, 1e-4);
                        assert!(own.height >= 12.0 && own.height <= 16.0);
                        assert!(own.left - part.left >= least && own.top - part.top >= least);
                        let right = own.left + own.height * aspect;
                        assert!(right <= part.left + part.width + room, "{motion:?}");
                        assert!(own.top + own.height <= part.top + part.height + room);
                    }
                }
            }
        }
    }

    #[test]
    fn ways_have_their_shapes() {
        let mut random = ChaCha8Rng::seed_from_u64(2);
        let mut way = |motion, part| path(Some(motion), part, 0.7, 17, &mut random);
        for part in [Part::WHOLE, Part::of_two(Place::Above)[1]] {
            let left = way(Motion::Left, part);
            assert!(left[16].left < left[0].left - 5.0 && left[16].top == left[0].top);
            let up = way(Motion::Up, part);
            // Three units are free, of which the way takes 0.7 or more.
            assert!(up[16].top < up[0].top - 2.0 && up[16].left == up[0].left);
            let circle = way(Motion::Circle, part);
            assert!((circle[0].left - circle[16].left).abs() < 1e-4);
            let across = (circle[0].left - circle[8].left).hypot(circle[0].top - circle[8].top);
            assert!(across > 2.0, "{across}");
            // Clockwise: a quarter of the circle to the right of the way.
            let start = [
                circle[1].left - circle[0].left,
                circle[1].top - circle[0].top,
            ];
            let centre = [
                circle[8].left - circle[0].left,
                circle[8].top - circle[0].top,
            ];
            assert!(start[0] * centre[1] - start[1] * centre[0] > 0.0);
            let grow = way(Motion::Grow, part);
            assert!(grow[16].height - grow[0].height >= 3.0);
            let jump = way(Motion::Bounce, part);
            assert!(jump[4].top < jump[0].top - 2.0 && (jump[8].top - jump[0].top).abs() < 1e-4);
        }
    }
}
