//! Clips of one or two written digits that move, composed as they are asked for.

use std::path::Path;
use std::sync::Arc;

use latentlm_data::{
    Clip, ClipSpec, DataError, ImageDataset, ImageSpec, ReadOptions, Split, sha256,
};
use rand::rngs::ChaCha8Rng;
use rand::{RngExt, SeedableRng};

use crate::digit::{Digit, Placed};
use crate::error::malformed;
use crate::path::{Part, SIDE, WIDEST, WIDEST_BESIDE, path};
use crate::scene::{Motion, Place, Scene, Subject};

/// Side of the pictures of digits in pixels.
const PICTURE: usize = 28;
/// Number of digits.
const DIGITS: usize = 10;
/// Smallest side of a frame in pixels.
const SMALLEST: usize = 16;
/// Changes the seed for pictures and ways, so that they are independent of the scene.
const FILM_STREAM: u64 = 0x6669_6c6d;

/// Clips as they are by default: 17 frames of 32 x 32, ten a second.
pub fn clip_spec(channels: usize) -> ClipSpec {
    ClipSpec {
        frames: 17,
        rate_hz: 10.0,
        picture: ImageSpec {
            channels,
            height: 32,
            width: 32,
        },
    }
}

/// The way of a digit through a clip, in pixels of the frame.
#[derive(Debug, Clone, PartialEq)]
pub struct Track {
    /// The digit and its motion.
    pub subject: Subject,
    /// Number of the digit's picture within the split.
    pub picture: usize,
    /// Middle of its ink in each frame, right and down.
    pub centres: Vec<[f32; 2]>,
    /// Its height in each frame.
    pub heights: Vec<f32>,
}

/// A clip with what it shows.
#[derive(Debug, Clone, PartialEq)]
pub struct ComposedClip {
    /// White digits on black with the caption. The label is the first digit.
    pub clip: Clip,
    /// What the caption means.
    pub scene: Scene,
    /// The digits in the order of the caption.
    pub tracks: Vec<Track>,
}

/// Composes clips from the digits of one split of a dataset. Cloning is cheap.
///
/// Clips of the training split show only what [`Scene::split`] gives to training. Clips of the held-out split show
/// anything, with digits of held-out pictures.
#[derive(Debug, Clone)]
pub struct Composer {
    /// The pictures of each digit, the narrow ones first.
    digits: Arc<Vec<Vec<Digit>>>,
    spec: ClipSpec,
    split: Split,
}

impl Composer {
    /// Reads the digits of a dataset of the classes 0 to 9, such as MNIST. Those wider than 1.3 times their height are
    /// left out: they would have no room to move.
    ///
    /// # Errors
    /// If the dataset can't be read or has other classes, or `spec` has fewer than two frames, or frames that are
    /// no squares of 16 pixels or more.
    pub fn open(path: &Path, spec: ClipSpec, split: Split) -> Result<Self, DataError> {
        Self::open_with(path, spec, split, ReadOptions::default())
    }

    /// [`open`](Self::open) within other bounds than the default ones.
    ///
    /// # Errors
    /// As [`open`](Self::open), and if more pictures are broken than `options` allow.
    pub fn open_with(
        path: &Path,
        spec: ClipSpec,
        split: Split,
        options: ReadOptions,
    ) -> Result<Self, DataError> {
        spec.validate(path)?;
        let ImageSpec { height, width, .. } = spec.picture;
        if spec.frames < 2 || height != width || height < SMALLEST {
            let reason = format!(
                "cannot compose {} frames of {height} x {width}: clips need two frames, squares of \
                 {SMALLEST} pixels or more",
                spec.frames
            );
            return Err(malformed(path, reason));
        }
        let grey = ImageSpec {
            channels: 1,
            height: PICTURE,
            width: PICTURE,
        };
        let [train, test] = ImageDataset::open_both(path, grey, options)?;
        let pictures = match split {
            Split::Train => train,
            Split::Test => test,
        };
        let names: Vec<String> = (0..DIGITS).map(|digit| digit.to_string()).collect();
        if pictures.classes() != names {
            let reason = "holds no digits: its classes must be 0 to 9";
            return Err(malformed(path, reason));
        }
        let mut digits: Vec<Vec<Digit>> = vec![Vec::new(); DIGITS];
        for index in 0..pictures.len() {
            let picture = pictures.get(index)?;
            let digit = Digit::of(index, &picture.pixels, PICTURE);
            digits[picture.label as usize].extend(digit.filter(|own| own.aspect() <= WIDEST));
        }
        for own in &mut digits {
            own.sort_by(|a, b| a.aspect().total_cmp(&b.aspect()));
        }
        let missing = |own: &Vec<Digit>| narrow(own, WIDEST_BESIDE).is_empty();
        if let Some(missing) = digits.iter().position(missing) {
            let reason = format!(
                "holds no {missing} of the {} split that is higher than wide",
                split.name()
            );
            return Err(malformed(path, reason));
        }
        Ok(Self {
            digits: Arc::new(digits),
            spec,
            split,
        })
    }

    /// Length, frame rate, size and channels of the clips.
    pub fn spec(&self) -> ClipSpec {
        self.spec
    }

    /// Number of pictures of a digit.
    ///
    /// # Panics
    /// If the digit is larger than 9.
    pub fn pictures(&self, digit: u8) -> usize {
        self.digits[usize::from(digit)].len()
    }

    /// The split of the digits.
    pub fn split(&self) -> Split {
        self.split
    }

    /// Hash of all digits, by their content.
    pub(crate) fn fingerprint(&self) -> String {
        let mut bytes = Vec::new();
        for own in self.digits.iter() {
            bytes.extend((own.len() as u64).to_le_bytes());
            for digit in own {
                digit.describe(&mut bytes);
            }
        }
        sha256(&bytes)
    }

    /// What the clip of this seed and index shows: one digit or two.
    pub fn scene(&self, seed: u64, index: u64) -> Scene {
        let mut random = stream(seed, index);
        // This ends soon: about nine scenes of ten are for training.
        loop {
            let scene = draw(&mut random);
            if self.split == Split::Test || scene.split() == Split::Train {
                return scene;
            }
        }
    }

    /// The clip of this seed and index, a function of them and the split alone.
    pub fn clip(&self, seed: u64, index: u64) -> ComposedClip {
        self.film(&self.scene(seed, index), seed, index)
    }

    /// A clip of a given scene. Seed and index decide on pictures and ways.
    ///
    /// # Panics
    /// If a digit of the scene is larger than 9.
    pub fn film(&self, scene: &Scene, seed: u64, index: u64) -> ComposedClip {
        self.film_picture(scene, None, seed, index)
    }

    /// A clip of a given scene. Its digits have the picture of this number among those of the digit, which are sorted by
    /// width; without a number, seed and index decide.
    ///
    /// # Panics
    /// If a digit of the scene is larger than 9, or has fewer such pictures as have room in the scene.
    pub fn film_picture(
        &self,
        scene: &Scene,
        picture: Option<usize>,
        seed: u64,
        index: u64,
    ) -> ComposedClip {
        let mut random = stream(seed ^ FILM_STREAM, index);
        let parts = match scene {
            Scene::One { .. } => vec![Part::WHOLE],
            Scene::Two { place, .. } => Part::of_two(*place).to_vec(),
        };
        let side = self.spec.picture.width;
        let mut frames = vec![0; self.spec.frames * side * side];
        let subjects = scene.subjects();
        let mut tracks = Vec::with_capacity(subjects.len());
        for (subject, part) in subjects.iter().zip(parts) {
            let known = narrow(&self.digits[usize::from(subject.digit)], part.widest());
            let picture = picture.unwrap_or_else(|| random.random_range(0..known.len()));
            let digit = &known[picture];
            let way = path(
                subject.motion,
                part,
                digit.aspect(),
                self.spec.frames,
                &mut random,
            );
            tracks.push(film_digit(*subject, digit, &way, &mut frames, side));
        }
        let clip = Clip {
            frames: self.with_channels(&frames),
            label: subjects.first().map_or(0, |first| first.digit.into()),
            text: Some(scene.caption()),
            name: format!("{} {seed} {index}", self.split.name()),
        };
        ComposedClip {
            clip,
            scene: *scene,
            tracks,
        }
    }

    /// Turns `[F, H, W]` into `[F, C, H, W]`.
    fn with_channels(&self, frames: &[u8]) -> Vec<u8> {
        let (plane, channels) = (frames.len() / self.spec.frames, self.spec.picture.channels);
        let planes = frames.chunks(plane);
        planes.flat_map(|frame| frame.repeat(channels)).collect()
    }
}

/// The digits whose width divided by height is at most `widest`.
fn narrow(digits: &[Digit], widest: f32) -> &[Digit] {
    &digits[..digits.partition_point(|own| own.aspect() <= widest)]
}

/// Draws a digit into all frames `[F, side, side]`. `way` is in units of a 32nd of the side.
fn film_digit(
    subject: Subject,
    digit: &Digit,
    way: &[Placed],
    frames: &mut [u8],
    side: usize,
) -> Track {
    let unit = side as f32 / SIDE;
    let mut track = Track {
        subject,
        picture: digit.picture,
        centres: Vec::with_capacity(way.len()),
        heights: Vec::with_capacity(way.len()),
    };
    for (placed, frame) in way.iter().zip(frames.chunks_mut(side * side)) {
        let placed = Placed {
            left: placed.left * unit,
            top: placed.top * unit,
            height: placed.height * unit,
        };
        digit.draw(placed, frame, side);
        track.centres.push(digit.middle(placed));
        track.heights.push(placed.height);
    }
    track
}

/// A random scene: in one half of all one digit, in the other half two.
fn draw(random: &mut ChaCha8Rng) -> Scene {
    let motion = |random: &mut ChaCha8Rng| Motion::ALL[random.random_range(0..Motion::ALL.len())];
    let digit = |random: &mut ChaCha8Rng| random.random_range(0..DIGITS) as u8;
    if random.random_range(0..2) == 0 {
        return Scene::One {
            digit: digit(random),
            motion: motion(random),
        };
    }
    let [mut first, mut second] = [(); 2].map(|()| Subject {
        digit: digit(random),
        motion: Some(motion(random)),
    });
    // Both move, or one of them.
    match random.random_range(0..3) {
        0 => first.motion = None,
        1 => second.motion = None,
        _ => {}
    }
    Scene::Two {
        first,
        place: Place::ALL[random.random_range(0..Place::ALL.len())],
        second,
    }
}

/// The random numbers of the sample `index`.
pub(crate) fn stream(seed: u64, index: u64) -> ChaCha8Rng {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    random.set_stream(index);
    random
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;
    use std::path::PathBuf;

    fn digits() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../datasets/mnist")
    }

    fn composer(split: Split) -> Composer {
        Composer::open(&digits(), clip_spec(1), split).unwrap()
    }

    fn frames(composed: &ComposedClip) -> Vec<&[u8]> {
        composed.clip.frames.chunks(32 * 32).collect()
    }

    /// Middle of the ink, right and down.
    fn middle(frame: &[u8]) -> [f32; 2] {
        let (mut sum, mut across, mut down) = (0.0, 0.0, 0.0);
        for (at, ink) in frame.iter().enumerate() {
            let ink = f32::from(*ink);
            sum += ink;
            across += ink * ((at % 32) as f32 + 0.5);
            down += ink * ((at / 32) as f32 + 0.5);
        }
        [across / sum, down / sum]
    }

    #[test]
    fn the_same_seed_gives_the_same_clips() {
        let (one, other) = (composer(Split::Test), composer(Split::Test));
        for index in 0..20 {
            assert_eq!(one.clip(3, index), other.clip(3, index));
        }
        assert_ne!(one.clip(3, 0).clip.frames, one.clip(4, 0).clip.frames);
        assert_ne!(one.clip(3, 0).clip.frames, one.clip(3, 1).clip.frames);
    }

    #[test]
    fn training_sees_nothing_that_is_held_out() {
        let (train, test) = (composer(Split::Train), composer(Split::Test));
        let mut seen = BTreeSet::new();
        for index in 0..2000 {
            let scene = train.scene(1, index);
            assert_eq!(scene.split(), Split::Train, "{}", scene.caption());
            if let Scene::One { digit, motion } = scene {
                seen.insert((digit, motion));
            }
        }
        assert_eq!(seen.len(), 56, "all pairs that are not held out");
        let held = (0..2000).filter(|index| test.scene(1, *index).split() == Split::Test);
        assert!(held.count() > 200);
        // No digit of one split is drawn in the other.
        let drawn = |composer: &Composer| {
            let mut drawn = BTreeSet::new();
            for digit in composer.digits.iter().flatten() {
                let mut frame = vec![0; 32 * 32];
                let placed = Placed {
                    left: 0.0,
                    top: 0.0,
                    height: 20.0,
                };
                digit.draw(placed, &mut frame, 32);
                drawn.insert(frame);
            }
            drawn
        };
        assert!(drawn(&train).is_disjoint(&drawn(&test)));
    }

    /// Every picture of a digit can be filmed, and each gives a clip of its own.
    #[test]
    fn pictures_are_chosen() {
        let composer = composer(Split::Test);
        let all: usize = (0..10).map(|digit| composer.pictures(digit)).sum();
        // Of the 1,000 some are too wide.
        assert!((950..=1000).contains(&all), "{all}");
        let scene = Scene::parse("a seven moves left").unwrap();
        let mut seen = BTreeSet::new();
        for picture in 0..composer.pictures(7) {
            let film = composer.film_picture(&scene, Some(picture), 5, 1);
            let track = &film.tracks[0];
            assert_eq!(track.picture, composer.digits[7][picture].picture);
            seen.insert(track.picture);
        }
        assert_eq!(seen.len(), composer.pictures(7));
        let chosen = composer.film(&scene, 5, 1);
        assert_eq!(composer.film_picture(&scene, None, 5, 1), chosen);
    }

    /// The middle of what is drawn is where the track says, and moves as the caption says.
    #[test]
    fn digits_move_as_they_are_said_to() {
        let composer = composer(Split::Test);
        for motion in Motion::ALL {
            for index in 0..20 {
                let scene = Scene::One {
                    digit: (index % 10) as u8,
                    motion,
                };
                let composed = composer.film(&scene, 5, index);
                let track = &composed.tracks[0];
                let mut measured = Vec::new();
                for (frame, centre) in frames(&composed).into_iter().zip(&track.centres) {
                    let [across, down] = middle(frame);
                    // Four samples a pixel: an edge may be an eighth of a pixel off, and levels are rounded.
                    let far = (across - centre[0]).abs().max((down - centre[1]).abs());
                    assert!(far < 0.3, "{motion:?} {index}: {far}");
                    measured.push([across, down]);
                }
                let [right, lower] =
                    [0, 1].map(|axis: usize| measured[16][axis] - measured[0][axis]);
                let half = measured[8][1] - measured[4][1];
                let moved = match motion {
                    Motion::Left => right < -7.0 && lower.abs() < 0.5,
                    Motion::Right => right > 7.0 && lower.abs() < 0.5,
                    Motion::Up => lower < -10.0 && right.abs() < 0.5,
                    Motion::Down => lower > 10.0 && right.abs() < 0.5,
                    Motion::Circle | Motion::Grow => right.abs().max(lower.abs()) < 2.0,
                    Motion::Bounce => lower.abs() < 0.5 && half > 5.0,
                };
                assert!(moved, "{motion:?} {index}: {right} {lower} {half}");
                let heights = &track.heights;
                assert!(heights.iter().all(|height| (12.0..=16.0).contains(height)));
                assert_eq!(motion == Motion::Grow, heights[16] > heights[0]);
            }
        }
    }

    /// Between two digits lie two rows or columns of black, in every frame.
    #[test]
    fn two_digits_never_touch() {
        let composer = composer(Split::Train);
        let mut pairs = 0;
        for index in 0..300 {
            let composed = composer.clip(9, index);
            let Scene::Two { place, .. } = composed.scene else {
                continue;
            };
            pairs += 1;
            let between = |at: usize| match place {
                Place::Above | Place::Below => at / 32,
                Place::Left | Place::Right => at % 32,
            };
            for frame in frames(&composed) {
                let mut sides = [false; 2];
                for (at, _) in frame.iter().enumerate().filter(|(_, ink)| **ink > 0) {
                    assert!(
                        !(15..17).contains(&between(at)),
                        "{}",
                        composed.scene.caption()
                    );
                    sides[usize::from(between(at) > 16)] = true;
                }
                assert_eq!(sides, [true; 2]);
            }
            let axis = usize::from(matches!(place, Place::Above | Place::Below));
            let [first, second] = [0, 1].map(|own: usize| composed.tracks[own].centres[0][axis]);
            let is_first = matches!(place, Place::Above | Place::Left);
            assert_eq!(is_first, first < second);
        }
        assert!(pairs > 100);
    }

    #[test]
    fn clips_have_the_size_that_is_asked_for() {
        let spec = ClipSpec {
            frames: 5,
            picture: ImageSpec {
                channels: 3,
                height: 64,
                width: 64,
            },
            ..clip_spec(3)
        };
        let large = Composer::open(&digits(), spec, Split::Test).unwrap();
        let scene = Scene::parse("a seven moves left").unwrap();
        let composed = large.film(&scene, 0, 0);
        assert_eq!(composed.clip.frames.len(), 5 * 3 * 64 * 64);
        let planes: Vec<&[u8]> = composed.clip.frames.chunks(64 * 64).collect();
        assert!(planes[0] == planes[1] && planes[1] == planes[2] && planes[2] != planes[3]);
        assert!(composed.tracks[0].heights[0] >= 24.0);
        assert_eq!(composed.clip.text.as_deref(), Some("a seven moves left"));
        assert_eq!(composed.clip.label, 7);
        let still = ClipSpec { frames: 1, ..spec };
        assert!(Composer::open(&digits(), still, Split::Test).is_err());
    }
}
