//! The judge of clips of digits: a classifier of digits that are cut out of composed frames, and what it sees.

use burn::tensor::module::adaptive_avg_pool2d;
use burn::tensor::{Device, Tensor, TensorData};
use latentlm_compose::{Composer, Motion, Scene};
use latentlm_pipelines::clip_tensor;

use super::course::Course;
use super::spot::{CUT, Footage, Point};
use crate::error::EvalError;
use crate::image::{Classifier, Lessons};
use crate::statistics::{counts, mean};

/// Number of digits.
const DIGITS: usize = 10;
/// The judge learns from one frame in this many.
const EVERY: usize = 4;
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
    /// The most frequent of these.
    pub digit: u8,
    /// How it moves.
    pub course: Course,
    /// The mean of its centres.
    pub place: Point,
    /// The mean of its cut-outs in all frames but the first, `[16, 16]`.
    pub look: Vec<f32>,
}

impl DigitJudge {
    /// Trains the classifier on frames of composed clips, `each` of every digit and motion.
    ///
    /// # Errors
    /// As [`Classifier::learn`].
    pub fn train(composer: &Composer, each: u64, device: &Device) -> Result<Self, EvalError> {
        let (mut cuts, mut labels) = (Vec::new(), Vec::new());
        for digit in 0..DIGITS as u8 {
            for motion in Motion::ALL {
                let scene = Scene::One { digit, motion };
                let place = u64::from(digit) * 7 + motion as u64;
                let clips =
                    (0..each).map(|index| composer.film(&scene, SEED, place * each + index).clip);
                let clips: Vec<_> = clips.collect();
                let footage = Footage::of(&clip_tensor(&clips, composer.spec(), device));
                for clip in 0..footage.clips() {
                    for track in footage.follow(clip, 1) {
                        for spot in track.iter().step_by(EVERY) {
                            cuts.push(spot.cut_out());
                            labels.push(u32::from(digit));
                        }
                    }
                }
            }
        }
        let lessons = Lessons {
            channels: 1,
            side: CUT,
            classes: DIGITS,
            labels: &labels,
            read: &|indices, device| {
                let rows = indices.iter().map(|&index| cuts[index].as_slice());
                Ok(pictures(rows, device))
            },
        };
        Ok(Self {
            classifier: Classifier::learn(&lessons, device)?,
            device: device.clone(),
        })
    }

    /// What is in clips of one or two digits each; `digits` has their number for each clip. Digits have the order of
    /// [`Footage::follow`].
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
            let classes = self
                .classifier
                .classify(pictures(rows, &self.device))
                .classes;
            let mut seen_digits = Vec::with_capacity(count);
            let each = tracks
                .iter()
                .zip(&cuts)
                .zip(classes.chunks(tracks[0].len()));
            for ((track, cuts), classes) in each {
                let classes: Vec<u8> = classes.iter().map(|&class| class as u8).collect();
                let seen = || track.iter().filter(|spot| !spot.is_empty());
                seen_digits.push(SeenDigit {
                    digit: most_frequent(&classes),
                    classes,
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
fn pictures<'a>(rows: impl Iterator<Item = &'a [f32]>, device: &Device) -> Tensor<4> {
    let pixels: Vec<f32> = rows.flatten().copied().collect();
    let shape = [pixels.len() / (CUT * CUT), 1, CUT, CUT];
    Tensor::from_data(TensorData::new(pixels, shape), device)
}

fn most_frequent(classes: &[u8]) -> u8 {
    let most = counts(classes.iter().copied()).into_iter();
    most.max_by_key(|(_, count)| *count)
        .map_or(0, |(class, _)| class)
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
