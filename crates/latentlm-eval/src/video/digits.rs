//! What is measured of clips that are composed of digits: digits, motions, places, captions, continuation.

use std::collections::BTreeMap;
use std::path::Path;

use burn::tensor::{Device, Tensor};
use latentlm_compose::{ComposedClip, Composer, Motion, Scene, held_out_pairs};
use latentlm_data::{ImageDataset, ImageSpec, Split};
use latentlm_pipelines::{RunFolder, VideoPipeline, VideoRecipe, clip_tensor, read_all};
use serde::Serialize;

use super::film::save_clips;
use super::judge::{DigitGallery, DigitJudge, SeenDigit};
use super::measure::{MotionShares, Named, Right, Tally};
use crate::error::EvalError;
use crate::evaluation::EvaluateOptions;
use crate::image::{FeatureStats, frechet_distance};
use crate::statistics::share;

/// For each held-out pair of digit and motion, the number of samples divided by this is drawn.
const OF_PAIR: usize = 20;
/// Pictures of each digit that the judge learns from, per sample of a measure: the default number of samples takes all
/// pictures, and an evaluation of a few samples does not wait for the judge.
const TAUGHT: usize = 10;
/// Real digits among which the given one should be after a continuation.
const NEAREST: usize = 10;
/// Seed of real clips, other than that of training and held-out clips.
const REAL_SEED: u64 = 0x7265_616c;
/// Seed of further real clips, to compare real with real.
const OTHER_SEED: u64 = 0x6f74_6865;
/// Clips in a row of a GIF, and rows.
const COLUMNS: usize = 7;
const ROWS: usize = 2;

/// The measurements. Shares are fractions; each comes with the value for real clips.
///
/// Real clips are composed of held-out digits. `judged_*` and `class_flips` tell how far the judge can be trusted.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct DigitMeasures {
    /// Share of frames in which the judge sees the right digit; real clips of one digit.
    pub judged_digit_of_real: f64,
    /// Share of clips in which the judge sees the right digit; real clips of one digit.
    pub judged_clip_of_real: f64,
    /// Share of clips whose motion is measured right; real clips of one digit.
    pub judged_motion_of_real: f64,
    /// Share of neighbouring frames in which the judge sees different digits; real clips of one digit.
    pub class_flips_of_real: f64,
    /// Share of clips with the right digit; drawn for held-out pairs of digit and motion.
    pub held_out_pair_digit: f64,
    /// Share of clips with the right motion; drawn for held-out pairs of digit and motion.
    pub held_out_pair_motion: f64,
    /// Share of clips with the right digit; drawn for pairs of the training.
    pub seen_pair_digit: f64,
    /// Share of clips with the right motion; drawn for pairs of the training.
    pub seen_pair_motion: f64,
    /// Share of frames with the right digit; drawn for held-out pairs.
    pub judged_digit: f64,
    /// Share of neighbouring frames in which the judge sees different digits; drawn for held-out pairs.
    pub class_flips: f64,
    /// Frames of the codec's groups, after the first frame: the evaluation's table has the last frame of each.
    pub frames_per_group: usize,
    /// Share of clips in which the judge sees the right digit, at each frame; drawn for all pairs.
    pub judged_digit_by_frame: Vec<f64>,
    /// `judged_digit_by_frame` of real clips of one digit.
    pub judged_digit_by_frame_of_real: Vec<f64>,
    /// Shares of clips with the right digit and with the right motion, by motion; drawn for all pairs.
    pub pairs_by_motion: BTreeMap<&'static str, MotionShares>,
    /// `pairs_by_motion` of real clips of one digit.
    pub pairs_by_motion_of_real: BTreeMap<&'static str, MotionShares>,
    /// Share of clips with digits, motions and place right; drawn for held-out captions of two digits.
    pub two_digits_all_right: f64,
    /// Share of clips with digits, motions and place judged right; real clips of two digits.
    pub two_digits_all_right_of_real: f64,
    /// `two_digits_all_right` over captions without a held-out pair of digit and motion.
    pub two_digits_all_right_of_seen_pairs: f64,
    /// Share of clips with both digits right; drawn for held-out captions of two digits.
    pub two_digits_right: f64,
    /// Share of clips with both motions right; drawn for held-out captions of two digits.
    pub two_motions_right: f64,
    /// Share of clips with the digits' place right; drawn for held-out captions of two digits.
    pub two_places_right: f64,
    /// Share of generated captions that name the digit of a real clip right.
    pub caption_digit: f64,
    /// Share of generated captions that name the motion of a real clip right.
    pub caption_motion: f64,
    /// Share of clips, continued from a real first frame, whose digit still looks like the given one: the given picture
    /// is among the ten nearest of all held-out digits.
    pub continued_among_nearest: f64,
    /// `continued_among_nearest` of real clips through the codec.
    pub continued_among_nearest_of_codec: f64,
    /// `continued_among_nearest` of real clips.
    pub continued_among_nearest_of_real: f64,
    /// `continued_among_nearest` that random digits would reach.
    pub continued_among_nearest_by_chance: f64,
    /// Frechet distance of frames of drawn clips to those of real clips, in the judge's features.
    pub frechet_of_frames: f64,
    /// Frechet distance of frames of other real clips to those of real clips.
    pub frechet_of_frames_of_real: f64,
    /// Frechet distance of the differences of neighbouring frames, of drawn clips to those of real clips.
    pub frechet_of_differences: f64,
    /// Frechet distance of the differences of neighbouring frames, of other real clips to those of real clips.
    pub frechet_of_differences_of_real: f64,
}

/// An evaluation under way.
pub struct Digits<'a> {
    run: &'a RunFolder<VideoRecipe>,
    pipeline: &'a VideoPipeline,
    /// Composes clips of held-out digits.
    composer: &'a Composer,
    options: &'a EvaluateOptions,
    judge: DigitJudge,
}

impl<'a> Digits<'a> {
    /// Trains the judge. `composer` composes held-out clips.
    ///
    /// # Errors
    /// If the digits can't be read.
    pub fn new(
        run: &'a RunFolder<VideoRecipe>,
        pipeline: &'a VideoPipeline,
        composer: &'a Composer,
        options: &'a EvaluateOptions,
    ) -> Result<Self, EvalError> {
        (options.phase)("training the judge on real clips");
        let data = &pipeline.recipe().data;
        let (path, spec) = (Path::new(&data.path), composer.spec());
        let pictures = options.samples.saturating_mul(TAUGHT);
        let judge = DigitJudge::train(path, data.options(), spec, pictures, &pipeline.device)?;
        Ok(Self {
            run,
            pipeline,
            composer,
            options,
            judge,
        })
    }

    /// Measures everything.
    ///
    /// # Errors
    /// If a clip can't be drawn, or a file can't be written.
    pub fn measure(&self) -> Result<DigitMeasures, EvalError> {
        let pairs = self.held_out_pairs();
        let seen = training_pairs(pairs.len());
        let all_pairs = [&pairs[..], &seen[..]].concat();
        let real_pairs = self.tally(&all_pairs, &self.real(&all_pairs, REAL_SEED));
        let drawn_seen = self.tally(&seen, &self.drawn(&seen)?);
        let clips = self.drawn(&pairs)?;
        let of_pair = pairs.len() / held_out_pairs().len();
        let firsts: Vec<usize> = (0..pairs.len()).step_by(of_pair.max(1)).collect();
        self.show("pairs", &clips, &firsts)?;
        let drawn_pairs = self.tally(&pairs, &clips);
        let drawn_ones = drawn_pairs.with(&drawn_seen);

        let twos =
            self.scenes(|scene| matches!(scene, Scene::Two { .. }) && scene.split() == Split::Test);
        let seen_pairs: Vec<bool> = twos.iter().map(|scene| !has_held_out_pair(scene)).collect();
        let real_twos = self.tally(&twos, &self.real(&twos, REAL_SEED));
        let clips = self.drawn(&twos)?;
        let firsts: Vec<usize> = (0..twos.len()).collect();
        self.show("two-digits", &clips, &firsts)?;
        let drawn_twos = self.tally(&twos, &clips);

        let ones = self.scenes(|scene| matches!(scene, Scene::One { .. }));
        let named = self.captions(&ones)?;
        let nearest = self.continuation(&ones)?;
        let frechet = self.frechet(&ones)?;
        Ok(DigitMeasures {
            judged_digit_of_real: real_pairs.frames(),
            judged_clip_of_real: real_pairs.share(|right| right.digits),
            judged_motion_of_real: real_pairs.share(|right| right.motions),
            class_flips_of_real: real_pairs.flips(),
            held_out_pair_digit: drawn_pairs.share(|right| right.digits),
            held_out_pair_motion: drawn_pairs.share(|right| right.motions),
            seen_pair_digit: drawn_seen.share(|right| right.digits),
            seen_pair_motion: drawn_seen.share(|right| right.motions),
            judged_digit: drawn_pairs.frames(),
            class_flips: drawn_pairs.flips(),
            frames_per_group: self.pipeline.recipe().frames_per_group(),
            judged_digit_by_frame: drawn_ones.by_frame(),
            judged_digit_by_frame_of_real: real_pairs.by_frame(),
            pairs_by_motion: drawn_ones.by_motion(),
            pairs_by_motion_of_real: real_pairs.by_motion(),
            two_digits_all_right: drawn_twos.share(Right::all),
            two_digits_all_right_of_real: real_twos.share(Right::all),
            two_digits_all_right_of_seen_pairs: drawn_twos.share_of(&seen_pairs),
            two_digits_right: drawn_twos.share(|right| right.digits),
            two_motions_right: drawn_twos.share(|right| right.motions),
            two_places_right: drawn_twos.share(|right| right.place),
            caption_digit: named.digits,
            caption_motion: named.motions,
            continued_among_nearest: nearest.drawn,
            continued_among_nearest_of_codec: nearest.codec,
            continued_among_nearest_of_real: nearest.real,
            continued_among_nearest_by_chance: nearest.chance,
            frechet_of_frames: frechet.drawn[0],
            frechet_of_frames_of_real: frechet.real[0],
            frechet_of_differences: frechet.drawn[1],
            frechet_of_differences_of_real: frechet.real[1],
        })
    }

    /// The device of the model.
    fn device(&self) -> &Device {
        &self.pipeline.device
    }

    fn begin(&self, phase: &str, clips: usize) {
        (self.options.phase)(&format!("{phase} {clips} clips"));
    }

    /// All pairs of digit and motion that training never had, each some times.
    fn held_out_pairs(&self) -> Vec<Scene> {
        let each = (self.options.samples / OF_PAIR).max(1);
        let mut scenes = Vec::new();
        for (digit, motion) in held_out_pairs() {
            scenes.extend(std::iter::repeat_n(Scene::One { digit, motion }, each));
        }
        scenes
    }

    /// The first scenes of the held-out split that are wanted.
    fn scenes(&self, wanted: fn(&Scene) -> bool) -> Vec<Scene> {
        let all = (0..).map(|index| self.composer.scene(REAL_SEED, index));
        all.filter(wanted).take(self.options.samples).collect()
    }

    /// Composes a clip for each scene.
    fn films(&self, scenes: &[Scene], seed: u64) -> Vec<ComposedClip> {
        let scenes = (0..).zip(scenes);
        scenes
            .map(|(index, scene)| self.composer.film(scene, seed, index))
            .collect()
    }

    /// The frames of composed clips, `[B, F, C, H, W]`.
    fn frames(&self, films: &[ComposedClip]) -> Tensor<5> {
        let clips: Vec<_> = films.iter().map(|film| film.clip.clone()).collect();
        clip_tensor(&clips, self.composer.spec(), self.device())
    }

    /// A real clip for each scene.
    fn real(&self, scenes: &[Scene], seed: u64) -> Tensor<5> {
        self.frames(&self.films(scenes, seed))
    }

    /// A drawn clip for each scene.
    fn drawn(&self, scenes: &[Scene]) -> Result<Tensor<5>, EvalError> {
        self.begin("drawing", scenes.len());
        let texts = captions(scenes);
        Ok(self
            .pipeline
            .draw(&texts, &self.options.sample, self.options.seed)?)
    }

    /// The digits that the judge sees in each clip.
    fn seen_digits(&self, scenes: &[Scene], clips: &Tensor<5>) -> Vec<Vec<SeenDigit>> {
        self.begin("judging", scenes.len());
        let digits: Vec<usize> = scenes.iter().map(|scene| scene.subjects().len()).collect();
        self.judge.look(clips, &digits)
    }

    fn tally(&self, scenes: &[Scene], clips: &Tensor<5>) -> Tally {
        let side = self.composer.spec().picture.width;
        Tally::of(scenes, &self.seen_digits(scenes, clips), side)
    }

    /// Writes some clips as one GIF for the report.
    fn show(&self, name: &str, clips: &Tensor<5>, picked: &[usize]) -> Result<(), EvalError> {
        let picked = picked.iter().take(ROWS * COLUMNS);
        let shown: Vec<Tensor<5>> = picked
            .map(|&index| clips.clone().narrow(0, index, 1))
            .collect();
        let file = self.run.file(&format!("samples/evaluation-{name}.gif"));
        let rate_hz = self.composer.spec().rate_hz;
        save_clips(&Tensor::cat(shown, 0), COLUMNS, rate_hz, &file)
    }

    /// Captions real clips, and counts the digits and motions that are named right.
    fn captions(&self, scenes: &[Scene]) -> Result<Named, EvalError> {
        self.begin("captioning", scenes.len());
        let said = self.pipeline.caption(self.real(scenes, REAL_SEED))?;
        Ok(Named::of(scenes, &said))
    }

    /// Continues clips of one digit from their first frame, and looks whether the digit stays the same.
    fn continuation(&self, scenes: &[Scene]) -> Result<Nearest, EvalError> {
        self.begin("continuing", scenes.len());
        let gallery = self.gallery()?;
        let films = self.films(scenes, REAL_SEED);
        let real = self.frames(&films);
        let given = real.clone().narrow(1, 0, 1);
        let (sample, seed) = (&self.options.sample, self.options.seed);
        let drawn = self
            .pipeline
            .continued(&captions(scenes), given, sample, seed)?;
        let all: Vec<usize> = (0..scenes.len()).collect();
        self.show("continued", &drawn, &all)?;
        let kept = |clips: &Tensor<5>| {
            let seen = self.seen_digits(scenes, clips);
            let near = seen.iter().zip(&films).map(|(seen_digits, film)| {
                gallery.has_near(&seen_digits[0].look, film.tracks[0].picture, NEAREST)
            });
            share(near).unwrap_or_default()
        };
        Ok(Nearest {
            drawn: kept(&drawn),
            codec: kept(&self.pipeline.reconstruct(real.clone())),
            real: kept(&real),
            chance: gallery.chance(NEAREST),
        })
    }

    /// All held-out digits.
    fn gallery(&self) -> Result<DigitGallery, EvalError> {
        let spec = ImageSpec {
            channels: 1,
            height: 28,
            width: 28,
        };
        let data = &self.pipeline.recipe().data;
        let [_, test] = ImageDataset::open_both(Path::new(&data.path), spec, data.options())?;
        Ok(DigitGallery::of(read_all(&test, self.device())?))
    }

    /// Distances of drawn clips, and of other real ones, to real clips.
    fn frechet(&self, scenes: &[Scene]) -> Result<Frechet, EvalError> {
        let stats = |clips: Tensor<5>| feature_stats(&self.judge, &clips);
        let real = stats(self.real(scenes, REAL_SEED));
        let other = stats(self.real(scenes, OTHER_SEED));
        let drawn = stats(self.drawn(scenes)?);
        Ok(Frechet {
            drawn: frechet_distances(&drawn, &real),
            real: frechet_distances(&other, &real),
        })
    }
}

/// Statistics of the judge's features of clips: of their frames, and of the differences of neighbouring frames.
///
/// # Shapes
/// - `clips`: `[B, F, C, H, W]`, around `[-1, 1]`, two frames or more
pub(super) fn feature_stats(judge: &DigitJudge, clips: &Tensor<5>) -> [FeatureStats; 2] {
    let features = judge.features(clips);
    features.map(|rows| FeatureStats::measure(&rows))
}

/// Frechet distances of frames, and of differences of neighbouring frames.
pub(super) fn frechet_distances(of: &[FeatureStats; 2], to: &[FeatureStats; 2]) -> [f64; 2] {
    [0, 1].map(|part| frechet_distance(&of[part], &to[part]))
}

/// The values of `continued_among_nearest`.
struct Nearest {
    drawn: f64,
    codec: f64,
    real: f64,
    chance: f64,
}

/// Frechet distances, first of frames, then of differences of neighbouring frames.
struct Frechet {
    drawn: [f64; 2],
    real: [f64; 2],
}

fn captions(scenes: &[Scene]) -> Vec<String> {
    scenes.iter().map(Scene::caption).collect()
}

/// Pairs of digit and motion that training had, spread evenly over all of them: as many clips as for pairs that it
/// never had. The difference shows whether the model fails at drawing or at composing.
fn training_pairs(count: usize) -> Vec<Scene> {
    let mut pairs = Vec::new();
    for digit in 0..10 {
        for motion in Motion::ALL {
            if !motion.is_held_out(digit) {
                pairs.push(Scene::One { digit, motion });
            }
        }
    }
    let spread = (0..count).map(|index| pairs[index * pairs.len() / count]);
    spread.collect()
}

fn has_held_out_pair(scene: &Scene) -> bool {
    let mut subjects = scene.subjects().into_iter();
    subjects.any(|own| {
        own.motion
            .is_some_and(|motion| motion.is_held_out(own.digit))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_of_the_training_are_spread_over_all() {
        let pairs = |count| training_pairs(count).into_iter();
        assert!(pairs(140).all(|scene| scene.split() == Split::Train));
        let every: std::collections::BTreeSet<Scene> = pairs(140).collect();
        assert_eq!((pairs(140).len(), every.len()), (140, 56));
        let few: Vec<u8> = pairs(14).map(|scene| scene.subjects()[0].digit).collect();
        assert_eq!((few.len(), few[0], few[13]), (14, 0, 9));
    }
}
