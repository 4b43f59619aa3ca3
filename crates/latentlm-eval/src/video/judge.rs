//! The judge of clips of digits: a classifier of digits that are cut out of composed frames, and what it sees.

use std::path::Path;

use burn::tensor::module::adaptive_avg_pool2d;
use burn::tensor::{Device, Tensor, TensorData};
use latentlm_compose::{Composer, Motion, Scene};
use latentlm_data::{Clip, ClipSpec, ReadOptions, Split};
use latentlm_pipelines::{clip_tensor, evenly};

use super::course::Course;
use super::spot::{CUT, Footage, Point};
use crate::error::EvalError;
use crate::image::{Classifier, Lessons, Sizes};
use crate::statistics::mean;

/// Number of digits.
const DIGITS: usize = 10;
/// Clips of each picture that the judge learns from: of other sizes, at other places.
const TAKES: usize = 2;
/// Frames that it learns from in each of them: more of one clip look nearly the same.
const FRAMES: usize = 3;
/// Clips that are composed at once.
const BATCH: usize = 256;
/// Channels of its first convolution, and how often it sees each frame.
const WIDTH: usize = 24;
const EPOCHS: u64 = 5;
/// Seed of these clips.
const SEED: u64 = 0x6a75_6467;

/// A classifier of digits in clips. It shares no weights with the model.
pub struct DigitJudge {
    classifier: Classifier,
    device: Device,
}

/// A digit of a clip as the judge sees it.
#[derive(Debug, Clone, PartialEq)]
pub struct SeenDigit {
    /// The likeliest digit in each frame.
    pub classes: Vec<u8>,
    /// The likeliest digit of the whole clip, by the mean of log-probabilities over the frames in which it can be seen.
    pub digit: u8,
    /// How it moves.
    pub course: Course,
    /// The mean of its centres.
    pub place: Point,
    /// The mean of its cut-outs in all frames but the first, `[16, 16]`.
    pub look: Vec<f32>,
}

impl DigitJudge {
    /// Trains the classifier on a few frames of composed clips of at most `pictures` pictures of each training digit
    /// of a dataset, which is read within `options`. `spec` is that of the clips that will be judged.
    ///
    /// # Errors
    /// As [`Composer::open_with`] and [`Classifier::learn`].
    pub fn train(
        path: &Path,
        options: ReadOptions,
        spec: ClipSpec,
        pictures: usize,
        device: &Device,
    ) -> Result<Self, EvalError> {
        let frames = FRAMES;
        let spec = ClipSpec { frames, ..spec };
        let composer = Composer::open_with(path, spec, Split::Train, options)?;
        let (mut cuts, mut labels) = (Vec::new(), Vec::new());
        for digit in 0..DIGITS as u8 {
            let clips = taught(&composer, digit, pictures);
            for clips in clips.chunks(BATCH) {
                let footage = Footage::of(&clip_tensor(clips, composer.spec(), device));
                for clip in 0..footage.clips() {
                    for spot in &footage.follow(clip, 1)[0] {
                        cuts.push(spot.cut_out());
                        labels.push(u32::from(digit));
                    }
                }
            }
        }
        let lessons = Lessons {
            sizes: Sizes {
                channels: 1,
                side: CUT,
                classes: DIGITS,
                width: WIDTH,
            },
            epochs: EPOCHS,
            labels: &labels,
            read: &|indices, device| {
                let rows = indices.iter().map(|&index| cuts[index].as_slice());
                Ok(as_pictures(rows, device))
            },
        };
        Ok(Self {
            classifier: Classifier::learn(&lessons, device)?,
            device: device.clone(),
        })
    }

    /// Finds and classifies the digits of clips; `digits` has the number of digits in each clip, one or two. They come
    /// in the order of [`Footage::follow`].
    ///
    /// # Shapes
    /// - `clips`: `[B, F, C, H, W]`, around `[-1, 1]`
    pub fn look(&self, clips: &Tensor<5>, digits: &[usize]) -> Vec<Vec<SeenDigit>> {
        let footage = Footage::of(clips);
        let mut seen = Vec::with_capacity(digits.len());
        for (clip, &count) in digits.iter().enumerate() {
            let tracks = footage.follow(clip, count);
            let cuts: Vec<Vec<Vec<f32>>> = tracks
                .iter()
                .map(|track| track.iter().map(|spot| spot.cut_out()).collect())
                .collect();
            let rows = cuts.iter().flatten().map(Vec::as_slice);
            let judged = self.classifier.classify(as_pictures(rows, &self.device));
            let frames = tracks[0].len();
            let mut seen_digits = Vec::with_capacity(count);
            let each = tracks.iter().zip(&cuts).enumerate();
            for (index, (track, cuts)) in each {
                let own = index * frames..(index + 1) * frames;
                let classes = judged.classes[own.clone()].iter();
                let scores = track.iter().zip(&judged.log_probabilities[own]);
                let visible = scores.filter(|(spot, _)| !spot.is_empty());
                let seen = || track.iter().filter(|spot| !spot.is_empty());
                seen_digits.push(SeenDigit {
                    digit: likeliest(visible.map(|(_, scores)| scores.as_slice())),
                    classes: classes.map(|&class| class as u8).collect(),
                    course: Course::of(track),
                    place: Point {
                        x: mean(seen().map(|spot| spot.centre.x)).unwrap_or_default(),
                        y: mean(seen().map(|spot| spot.centre.y)).unwrap_or_default(),
                    },
                    look: mean_look(&cuts[1.min(cuts.len() - 1)..]),
                });
            }
            seen.push(seen_digits);
        }
        seen
    }

    /// Features of whole frames, and of the differences from each frame to the next, for Frechet distances.
    ///
    /// # Shapes
    /// - `clips`: `[B, F, C, H, W]`, around `[-1, 1]`, two frames or more
    pub fn features(&self, clips: &Tensor<5>) -> [Vec<Vec<f32>>; 2] {
        let [count, frames, _, height, width] = clips.dims();
        let grey = clips.clone().mean_dim(2).clamp(-1.0, 1.0);
        let before = grey.clone().narrow(1, 0, frames - 1);
        let changes = (grey.clone().narrow(1, 1, frames - 1) - before).div_scalar(2.0);
        let all = grey.reshape([count * frames, 1, height, width]);
        let changes = changes.reshape([count * (frames - 1), 1, height, width]);
        [all, changes].map(|pictures| {
            let small = adaptive_avg_pool2d(pictures, [CUT, CUT]);
            self.classifier.classify(small).features
        })
    }
}

/// Rows of pixels as pictures, `[B, 1, 16, 16]`.
fn as_pictures<'a>(rows: impl Iterator<Item = &'a [f32]>, device: &Device) -> Tensor<4> {
    let pixels: Vec<f32> = rows.flatten().copied().collect();
    let shape = [pixels.len() / (CUT * CUT), 1, CUT, CUT];
    Tensor::from_data(TensorData::new(pixels, shape), device)
}

/// The digit with the largest sum of log-probabilities, which is that with the largest mean; 0 if there are no frames.
fn likeliest<'a>(frames: impl Iterator<Item = &'a [f32]>) -> u8 {
    let mut sums = [0.0_f32; DIGITS];
    for scores in frames {
        for (sum, score) in sums.iter_mut().zip(scores) {
            *sum += score;
        }
    }
    let mut best = 0;
    for (digit, sum) in sums.iter().enumerate() {
        if *sum > sums[best] {
            best = digit;
        }
    }
    best as u8
}

/// Clips of one digit to learn from: [`TAKES`] of each of at most `pictures` pictures, narrow and wide ones.
fn taught(composer: &Composer, digit: u8, pictures: usize) -> Vec<Clip> {
    let mut clips = Vec::new();
    for picture in evenly(pictures, composer.pictures(digit)) {
        for take in 0..TAKES {
            let number = picture * TAKES + take;
            let motion = Motion::ALL[number % Motion::ALL.len()];
            let scene = Scene::One { digit, motion };
            let index = (number * DIGITS + usize::from(digit)) as u64;
            let film = composer.film_picture(&scene, Some(picture), SEED, index);
            clips.push(film.clip);
        }
    }
    clips
}

/// The mean of cut-outs.
fn mean_look(cuts: &[Vec<f32>]) -> Vec<f32> {
    let mut sum = vec![0.0; CUT * CUT];
    for cut in cuts {
        for (sum, value) in sum.iter_mut().zip(cut) {
            *sum += value / cuts.len() as f32;
        }
    }
    sum
}

/// Real digits, to find those that a drawn one resembles.
pub struct DigitGallery {
    /// Cut-outs by the number of the digit's picture.
    looks: Vec<Vec<f32>>,
}

impl DigitGallery {
    /// A gallery of pictures.
    ///
    /// # Shapes
    /// - `pictures`: `[B, C, H, W]`, in `[-1, 1]`, white digits on black
    pub fn of(pictures: Tensor<4>) -> Self {
        let footage = Footage::of(&pictures.unsqueeze_dim::<5>(1));
        let looks = (0..footage.clips()).map(|index| footage.follow(index, 1)[0][0].cut_out());
        Self {
            looks: looks.collect(),
        }
    }

    /// Whether a picture is among the `nearest` ones to a look.
    pub fn has_near(&self, look: &[f32], picture: usize, nearest: usize) -> bool {
        let distance = |other: &[f32]| -> f32 {
            let squares = look.iter().zip(other).map(|(a, b)| (a - b).powi(2));
            squares.sum()
        };
        let own = distance(&self.looks[picture]);
        let nearer = self.looks.iter().filter(|other| distance(other) < own);
        nearer.count() < nearest
    }

    /// What random digits would reach.
    pub fn chance(&self, nearest: usize) -> f64 {
        nearest as f64 / self.looks.len().max(nearest) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two frames that are nearly undecided count less than one that is sure.
    #[test]
    fn a_clip_is_judged_by_all_of_its_frames() {
        let frame = |seven: f32, one: f32| {
            let mut scores = vec![-9.0; DIGITS];
            (scores[7], scores[1]) = (seven, one);
            scores
        };
        let frames = [frame(-0.8, -0.7), frame(-0.8, -0.7), frame(-0.1, -3.0)];
        assert_eq!(likeliest(frames.iter().map(Vec::as_slice)), 7);
        assert_eq!(likeliest(frames[..2].iter().map(Vec::as_slice)), 1);
        assert_eq!(likeliest(std::iter::empty()), 0);
    }
}
