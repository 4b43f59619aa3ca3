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
/// Heights of a digit that is alone and does not grow are this far apart.
const HEIGHT_STEP: f32 = 2.0;
/// Smallest share of the free room that a motion takes.
const SHARE: f32 = 0.7;
/// Largest radius of a circle, and largest height of a jump.
const RADIUS: f32 = 6.0;
const JUMP: f32 = 10.0;
/// Digits begin at multiples of this many units within their part, where its room has one: a patch of the default
/// codec. A model of the default size learns shapes where it need not learn each of them at every shift. Motions still
/// pass through all shifts.
const LATTICE: f32 = 8.0;
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

/// A way before its first place is chosen: how far a digit moves at least, and where it may begin for that.
struct Plan {
    /// Height in the first frame and in the last.
    heights: [f32; 2],
    /// The room around the largest box, across and down.
    room: [f32; 2],
    /// The shortest way; of circles the smallest diameter.
    least: f32,
    /// Circles begin at their lowest point instead of their highest.
    from_below: bool,
}

impl Plan {
    fn new(motion: Option<Motion>, part: Part, aspect: f32, random: &mut ChaCha8Rng) -> Self {
        let high = if part.is_whole() { HIGH } else { HIGH_OF_TWO };
        let heights = match motion {
            Some(Motion::Grow) => [LOW, high],
            _ if part.is_whole() => {
                // Whole pixels, as places are.
                let steps = random.random_range(0..=((high - LOW) / HEIGHT_STEP) as u8);
                [LOW + HEIGHT_STEP * f32::from(steps); 2]
            }
            _ => [LOW; 2],
        };
        let largest = heights[1];
        let room @ [across, down] = [part.width - largest * aspect, part.height - largest];
        let least = match motion {
            Some(Motion::Left | Motion::Right) => SHARE * across,
            Some(Motion::Up | Motion::Down) => SHARE * down,
            Some(Motion::Circle) => (SHARE * across.min(down)).min(2.0 * RADIUS),
            Some(Motion::Bounce) => (SHARE * down).min(JUMP),
            Some(Motion::Grow) | None => 0.0,
        };
        Self {
            heights,
            room,
            least,
            from_below: random.random(),
        }
    }

    /// The room that the shortest way takes: across, before and behind its first place, and down, above and below.
    fn taken(&self, motion: Option<Motion>) -> [[f32; 2]; 2] {
        let least = self.least;
        let none = [0.0; 2];
        match motion {
            Some(Motion::Left) => [[least, 0.0], none],
            Some(Motion::Right) => [[0.0, least], none],
            Some(Motion::Up | Motion::Bounce) => [none, [least, 0.0]],
            Some(Motion::Down) => [none, [0.0, least]],
            Some(Motion::Circle) if self.from_below => [[0.5 * least; 2], [least, 0.0]],
            Some(Motion::Circle) => [[0.5 * least; 2], [0.0, least]],
            Some(Motion::Grow) | None => [none; 2],
        }
    }

    /// The longest way from a place in the room.
    fn most(&self, motion: Option<Motion>, [left, top]: [f32; 2]) -> f32 {
        let [across, down] = self.room;
        match motion {
            Some(Motion::Left) => left,
            Some(Motion::Right) => across - left,
            Some(Motion::Up) => top,
            Some(Motion::Down) => down - top,
            Some(Motion::Bounce) => top.min(JUMP),
            Some(Motion::Circle) => {
                let ahead = if self.from_below { top } else { down - top };
                let beside = 2.0 * left.min(across - left);
                ahead.min(beside).min(2.0 * RADIUS)
            }
            Some(Motion::Grow) | None => 0.0,
        }
    }
}

/// A place on the lattice from `low` to `high`. Where there is too little room for its steps they are shorter, and at
/// last any place is taken.
fn on_lattice(low: f32, high: f32, random: &mut ChaCha8Rng) -> f32 {
    let mut step = LATTICE;
    while step >= 1.0 {
        let (first, last) = ((low / step).ceil() as u8, (high / step).floor() as u8);
        if first <= last {
            return step * f32::from(random.random_range(first..=last));
        }
        step /= 2.0;
    }
    between(low, high, random)
}

fn between(low: f32, high: f32, random: &mut ChaCha8Rng) -> f32 {
    low + (high - low) * random.random::<f32>()
}

/// Place and size of a digit in each of `frames` frames. Its width is `aspect` of its height. It begins on the lattice.
pub(crate) fn path(
    motion: Option<Motion>,
    part: Part,
    aspect: f32,
    frames: usize,
    random: &mut ChaCha8Rng,
) -> Vec<Placed> {
    let plan = Plan::new(motion, part, aspect, random);
    let [from, to] = plan.heights;
    // A smaller box stands in the middle of the largest one.
    let inset = 0.5 * (to - from);
    let insets = [inset * aspect, inset];
    let taken = plan.taken(motion);
    let first = [0, 1].map(|axis: usize| {
        let [before, behind] = taken[axis];
        let low = before + insets[axis];
        on_lattice(low, plan.room[axis] - behind + insets[axis], random)
    });
    let way = between(plan.least, plan.most(motion, first), random);
    let mut placed = Vec::with_capacity(frames);
    for frame in 0..frames {
        let time = frame as f32 / (frames - 1).max(1) as f32;
        let [right, lower] = match motion {
            Some(Motion::Left) => [-way * time, 0.0],
            Some(Motion::Right) => [way * time, 0.0],
            Some(Motion::Up) => [0.0, -way * time],
            Some(Motion::Down) => [0.0, way * time],
            Some(Motion::Circle) => {
                let (radius, (sine, cosine)) = (0.5 * way, (TAU * time).sin_cos());
                let side = if plan.from_below { -1.0 } else { 1.0 };
                [side * radius * sine, side * radius * (1.0 - cosine)]
            }
            Some(Motion::Bounce) => [0.0, -way * (TAU * time).sin().abs()],
            Some(Motion::Grow) | None => [0.0, 0.0],
        };
        let height = from + (to - from) * time;
        let grown = 0.5 * (height - from);
        placed.push(Placed {
            left: part.left + first[0] + right - grown * aspect,
            top: part.top + first[1] + lower - grown,
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

    /// Digits begin on multiples of eight pixels; on multiples of four, two or one where the room has no other.
    #[test]
    fn digits_begin_on_the_lattice() {
        let mut random = ChaCha8Rng::seed_from_u64(3);
        let motions = Motion::ALL.into_iter().map(Some).chain([None]);
        for motion in motions {
            for part in [
                Part::WHOLE,
                Part::of_two(Place::Above)[1],
                Part::of_two(Place::Left)[1],
            ] {
                for aspect in [0.2, 0.5, 0.7, 0.9, part.widest()] {
                    let own = path(motion, part, aspect, 17, &mut random)[0];
                    let (left, top) = (own.left - part.left, own.top - part.top);
                    assert_eq!(own.height.fract(), 0.0);
                    assert_eq!(left.fract(), 0.0, "{motion:?} {part:?} {aspect}: {left}");
                    if part.is_whole() && aspect < 0.9 {
                        // The shortest way to the left leaves wide digits less than a patch to begin in.
                        let across = if motion == Some(Motion::Left) {
                            4.0
                        } else {
                            8.0
                        };
                        let off = (left % across, top % 8.0);
                        assert_eq!(off, (0.0, 0.0), "{motion:?} {aspect}");
                    }
                    // A row has no room around a digit that has grown: it begins in the middle.
                    let is_full = motion == Some(Motion::Grow) && part.height < SIDE;
                    assert_eq!(top.fract(), if is_full { 0.5 } else { 0.0 }, "{motion:?}");
                }
            }
        }
        // Steps of 4, 2 and 1, and a place between pixels, where there are no others.
        for (low, high, expected) in [
            (8.1, 12.5, 12.0),
            (8.1, 11.5, 10.0),
            (2.1, 3.9, 3.0),
            (1.5, 1.5, 1.5),
        ] {
            assert_eq!(on_lattice(low, high, &mut random), expected);
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
