//! Tests of the measures of digits on composed clips, which say what is right.

use std::path::{Path, PathBuf};

use burn::tensor::{Device, Tensor};
use latentlm_compose::{ComposedClip, Composer, Motion, Place, Scene, clip_spec};
use latentlm_data::{ImageDataset, ImageSpec, ReadOptions, Split};
use latentlm_pipelines::{clip_tensor, read_all};

use super::course::Course;
use super::digits::{feature_stats, frechet_distances};
use super::judge::{DigitGallery, DigitJudge, SeenDigit};
use super::measure::{Named, Right, Tally};
use super::spot::{Footage, Point};
use crate::statistics::share;

fn digits() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../datasets/mnist")
}

fn composer(split: Split) -> Composer {
    Composer::open(&digits(), clip_spec(1), split).unwrap()
}

fn frames(films: &[ComposedClip]) -> Tensor<5> {
    let clips: Vec<_> = films.iter().map(|film| film.clip.clone()).collect();
    clip_tensor(&clips, clip_spec(1), &Device::default())
}

/// The first held-out clips that are wanted.
fn films(count: usize, wanted: fn(&Scene) -> bool) -> Vec<ComposedClip> {
    let composer = composer(Split::Test);
    let all = (0..).map(|index| composer.clip(11, index));
    all.filter(|film| wanted(&film.scene)).take(count).collect()
}

fn is_two(scene: &Scene) -> bool {
    matches!(scene, Scene::Two { .. })
}

/// Every motion of every digit, three times.
#[test]
fn motions_are_measured() {
    let composer = composer(Split::Test);
    let (mut films, mut wanted) = (Vec::new(), Vec::new());
    for digit in 0..10 {
        for motion in Motion::ALL {
            for index in 0..3 {
                films.push(composer.film(&Scene::One { digit, motion }, 7, index));
                wanted.push(motion);
            }
        }
    }
    let footage = Footage::of(&frames(&films));
    for motion in Motion::ALL {
        let own = (0..films.len()).filter(|&clip| wanted[clip] == motion);
        let right =
            own.map(|clip| Course::of(&footage.follow(clip, 1)[0]) == Course::Moves(motion));
        let right = share(right).unwrap();
        assert!(right >= 0.97, "{motion:?}: {right}");
    }
}

/// The centre of each of two digits is where the composer drew it, in every frame.
#[test]
fn two_digits_are_followed() {
    let films = films(60, is_two);
    let footage = Footage::of(&frames(&films));
    let mut motions = Vec::new();
    for (clip, film) in films.iter().enumerate() {
        let seen = footage.follow(clip, 2);
        for track in &film.tracks {
            let far = |own: &Vec<super::spot::Spot>| -> f64 {
                let centres = own.iter().zip(&track.centres);
                let errors = centres.map(|(spot, centre)| {
                    // The composer counts from the edge of a pixel, not from its middle.
                    let x = spot.centre.x + 0.5 - f64::from(centre[0]);
                    x.hypot(spot.centre.y + 0.5 - f64::from(centre[1]))
                });
                errors.fold(0.0, f64::max)
            };
            let nearest = seen
                .iter()
                .min_by(|a, b| far(a).total_cmp(&far(b)))
                .unwrap();
            // Dark pixels at the edges are left out of the centre.
            assert!(
                far(nearest) < 1.0,
                "{}: {}",
                film.scene.caption(),
                far(nearest)
            );
            motions.push(Course::of(nearest).is(track.subject.motion));
        }
    }
    let right = share(motions).unwrap();
    assert!(right >= 0.95, "{right}");
}

/// A digit that is seen well.
fn seen_digit(digit: u8, course: Course, place: [f64; 2]) -> SeenDigit {
    SeenDigit {
        classes: vec![digit; 17],
        digit,
        course,
        place: Point {
            x: place[0],
            y: place[1],
        },
        look: Vec::new(),
    }
}

#[test]
fn what_is_right_is_told_part_by_part() {
    let scene = Scene::parse("a three below a bouncing one").unwrap();
    let bounces = Course::Moves(Motion::Bounce);
    let (above, below) = ([9.0, 7.0], [20.0, 24.0]);
    let three = |place| seen_digit(3, Course::Still, place);
    let one = |place| seen_digit(1, bounces, place);
    let right = |seen_digits: [SeenDigit; 2]| Right::of(&scene, &seen_digits, 32);
    assert!(right([three(below), one(above)]).all());
    assert!(right([one(above), three(below)]).all(), "any order");
    let turned = right([three(above), one(below)]);
    assert!(!turned.digits && !turned.motions && turned.place);
    let close = right([three([9.0, 12.0]), one([9.0, 7.0])]);
    assert!(close.digits && close.motions && !close.place);
    let still = right([three(below), seen_digit(1, Course::Still, above)]);
    assert!(still.digits && !still.motions && !still.all());
    assert!(matches!(
        scene,
        Scene::Two {
            place: Place::Below,
            ..
        }
    ));
}

#[test]
fn classes_are_counted_frame_by_frame() {
    let scene = Scene::parse("a seven moves left").unwrap();
    let mut seen = seen_digit(7, Course::Moves(Motion::Left), [9.0, 9.0]);
    seen.classes = vec![7, 7, 1, 7];
    let wrong = seen_digit(1, Course::Unclear, [9.0, 9.0]);
    let tally = Tally::of(&[scene, scene], &[vec![seen], vec![wrong]], 32);
    assert_eq!(tally.share(Right::all), 0.5);
    assert_eq!(tally.frames(), 3.0 / 21.0);
    assert_eq!(tally.flips(), 2.0 / 19.0);
    assert_eq!(tally.share_of(&[false, true]), 0.0);
}

/// Frames at which a digit is wrong, and motions at which it or its way is, over two tallies together.
#[test]
fn failures_have_their_frames_and_motions() {
    let seen = |digit: u8, course: Course, classes: [u8; 3]| SeenDigit {
        classes: classes.to_vec(),
        ..seen_digit(digit, course, [9.0, 9.0])
    };
    let left = Course::Moves(Motion::Left);
    let parse = |caption: &str| Scene::parse(caption).unwrap();
    let lefts = Tally::of(
        &["a seven moves left", "a two moves left"].map(parse),
        &[
            vec![seen(7, left, [7, 7, 1])],
            vec![seen(1, left, [2, 1, 1])],
        ],
        32,
    );
    assert_eq!(lefts.by_frame(), [1.0, 0.5, 0.0]);
    let others = Tally::of(
        &["a one bounces", "a three above a bouncing one"].map(parse),
        &[
            vec![seen(1, left, [3, 1, 1])],
            vec![
                seen(3, Course::Still, [3, 3, 3]),
                seen(1, Course::Moves(Motion::Bounce), [1, 1, 1]),
            ],
        ],
        32,
    );
    let both = lefts.with(&others);
    let shares = both.by_motion();
    // Clips of two digits have no motion of their own.
    assert_eq!(Vec::from_iter(shares.keys().copied()), ["bouncing", "left"]);
    let of = |motion: &str| (shares[motion].digit, shares[motion].motion);
    assert_eq!((of("left"), of("bouncing")), ((0.5, 1.0), (1.0, 0.0)));
    assert_eq!(both.by_frame().len(), 3);
    assert_eq!(both.share(|right| right.digits), 0.75);
    let twice = lefts.with(&lefts);
    assert_eq!(twice.by_frame(), lefts.by_frame());
    assert_eq!((twice.frames(), twice.flips()), (0.5, lefts.flips()));
}

#[test]
fn captions_name_digits_and_motions() {
    let scenes = ["a seven moves left", "a three below a bouncing one"];
    let scenes = scenes.map(|caption| Scene::parse(caption).unwrap());
    let named = |said: [&str; 2]| Named::of(&scenes, &said.map(str::to_owned));
    let exact = named(["a seven moves left", "a three below a bouncing one"]);
    assert_eq!((exact.digits, exact.motions, exact.exact), (1.0, 1.0, 1.0));
    let other = named(["a seven moves up", "a three above a bouncing nine"]);
    assert_eq!((other.digits, other.motions), (2.0 / 3.0, 2.0 / 3.0));
    // Nonsense, and another number of digits.
    let none = named(["seven", "a three bounces"]);
    assert_eq!((none.digits, none.motions, none.exact), (0.0, 0.0, 0.0));
}

/// With a fraction of the pictures that an evaluation takes, so the bounds are below what it reaches.
#[test]
fn a_judge_knows_held_out_digits_and_finds_their_pictures() {
    let device = Device::default();
    let judge = DigitJudge::train(
        &digits(),
        ReadOptions::default(),
        clip_spec(1),
        100,
        &device,
    )
    .unwrap();
    let films = films(60, |scene| !is_two(scene));
    let clips = frames(&films);
    let scenes: Vec<Scene> = films.iter().map(|film| film.scene).collect();
    let seen = judge.look(&clips, &vec![1; films.len()]);
    let tally = Tally::of(&scenes, &seen, 32);
    let (known, motions) = (tally.frames(), tally.share(|right| right.motions));
    assert!(known > 0.8 && motions >= 0.95, "{known} {motions}");
    assert!(tally.flips() < 0.1, "{}", tally.flips());

    let spec = ImageSpec {
        channels: 1,
        height: 28,
        width: 28,
    };
    let [_, test] = ImageDataset::open_both(&digits(), spec, ReadOptions::default()).unwrap();
    let gallery = DigitGallery::of(read_all(&test, &device).unwrap());
    let near = |shift: usize| {
        let pairs = seen.iter().zip(&films);
        let near = pairs.map(|(seen_digits, film)| {
            let picture = (film.tracks[0].picture + shift) % test.len();
            gallery.has_near(&seen_digits[0].look, picture, 10)
        });
        share(near).unwrap()
    };
    // The picture itself is near; the one at the same distance in the list is near by chance, one in a hundred.
    assert!(
        near(0) > 0.8 && near(test.len() / 2) < 0.1,
        "{} {}",
        near(0),
        near(test.len() / 2)
    );
    // Not a test of its own: another judge would take most of its time.
    distances_tell_real_clips_from_others(&judge);
}

/// Number of clips whose distances are compared.
const COMPARED: u64 = 120;

/// Clips of every digit, all of which move left: turned round, their changes are those of other clips.
fn moving_left(seed: u64) -> Tensor<5> {
    let composer = composer(Split::Test);
    let mut films = Vec::new();
    for index in 0..COMPARED {
        let scene = Scene::One {
            digit: (index % 10) as u8,
            motion: Motion::Left,
        };
        films.push(composer.film(&scene, seed, index));
    }
    frames(&films)
}

/// The frames of clips in another order.
fn reordered(clips: &Tensor<5>, order: impl Iterator<Item = usize>) -> Tensor<5> {
    let frames = order.map(|frame| clips.clone().narrow(1, frame, 1));
    Tensor::cat(frames.collect(), 1)
}

/// Means of 7 x 7 pixels, over the edges.
fn blurred(clips: &Tensor<5>) -> Tensor<5> {
    let mut blurred = clips.clone();
    for along in [3, 4] {
        let side = blurred.dims()[along];
        let mut sum = blurred.clone();
        for shift in 1..7 {
            let rest = blurred.clone().narrow(along, shift, side - shift);
            let begin = blurred.clone().narrow(along, 0, shift);
            sum = sum + Tensor::cat(vec![rest, begin], along);
        }
        blurred = sum.div_scalar(7.0);
    }
    blurred
}

/// Real clips are nearer to other real ones than to these played backwards, shuffled or blurred. The order of frames
/// counts in their differences alone.
fn distances_tell_real_clips_from_others(judge: &DigitJudge) {
    let (real, other) = (moving_left(21), moving_left(22));
    let [of_frames, of_changes] = judge.features(&real);
    let clips = COMPARED as usize;
    assert_eq!(
        (of_frames.len(), of_changes.len()),
        (clips * 17, clips * 16)
    );
    let stats = feature_stats(judge, &real);
    let to_real = |clips: &Tensor<5>| frechet_distances(&feature_stats(judge, clips), &stats);
    let near = to_real(&other);
    assert!(near.iter().all(|distance| *distance > 0.0), "{near:?}");
    let same = to_real(&real);
    assert!(
        same[0] < 1e-3 * near[0] && same[1] < 1e-3 * near[1],
        "{same:?}"
    );

    let turned = reordered(&real, (0..17).rev());
    let turned = to_real(&turned);
    assert!(turned[0] < 1e-3 * near[0], "{turned:?} {near:?}");
    let backwards = to_real(&reordered(&other, (0..17).rev()));
    // Neighbours are then five frames apart, or twelve.
    let shuffled = to_real(&reordered(&other, (0..17).map(|frame| frame * 5 % 17)));
    for (name, distances) in [("backwards", backwards), ("shuffled", shuffled)] {
        assert!(distances[1] > near[1], "{name}: {distances:?} {near:?}");
        let frames = (distances[0] / near[0] - 1.0).abs();
        assert!(frames < 1e-3, "{name}: {distances:?} {near:?}");
    }
    let blurred = to_real(&blurred(&other));
    assert!(blurred[0] > near[0], "{blurred:?} {near:?}");

    // What stands still has no differences: each is the same picture without content.
    let [_, changes] = judge.features(&reordered(&real, [3; 4].into_iter()));
    for row in &changes {
        let mut alike = row.iter().zip(&changes[0]);
        assert!(alike.all(|(a, b)| (a - b).abs() < 1e-4));
    }
}

#[test]
fn exact_copies_are_nearest() {
    let films = films(20, |scene| !is_two(scene));
    let first: Tensor<4> = frames(&films).narrow(1, 0, 1).squeeze_dim(1);
    let gallery = DigitGallery::of(first.clone());
    let footage = Footage::of(&first.unsqueeze_dim::<5>(1));
    for index in 0..20 {
        let look = footage.follow(index, 1)[0][0].cut_out();
        assert!(gallery.has_near(&look, index, 1));
    }
    assert_eq!(gallery.chance(10), 0.5);
}
