//! Who judges generated pictures: a classifier of real ones, and what its features are on held-out
//! pictures.

use burn::tensor::Tensor;
use latentlm_data::ImageDataset;
use serde::{Deserialize, Serialize};

use super::classifier::Classifier;
use super::distance::{FeatureStats, frechet_distance};
use crate::error::EvalError;

/// A judge, trained once for all pictures that are to be compared.
pub struct Judge {
    classifier: Classifier,
    held_out: FeatureStats,
    classes: usize,
    accuracy: f64,
}

/// What a judge says of generated pictures.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Verdict {
    /// Share of pictures whose class the classifier sees as the one asked for.
    pub class_agreement: f64,
    /// The same for the class that does worst.
    pub worst_class_agreement: f64,
    /// Frechet distance to held-out pictures, in the classifier's features.
    pub frechet_distance: f64,
}

impl Judge {
    /// Trains the classifier on training pictures and looks at held-out ones, two or more.
    ///
    /// # Shapes
    /// - `held_out`: `[B, C, H, W]`, `labels` their classes
    ///
    /// # Errors
    /// If a picture can't be read.
    pub fn train(
        data: &ImageDataset,
        held_out: Tensor<4>,
        labels: &[u32],
    ) -> Result<Self, EvalError> {
        let classes = data.classes().len();
        let classifier = Classifier::train(data, &held_out.device())?;
        let real = classifier.judge(held_out);
        Ok(Self {
            accuracy: mean(&by_class(&real.classes, labels, classes)),
            held_out: FeatureStats::measure(&real.features),
            classifier,
            classes,
        })
    }

    /// Share of held-out real pictures that the classifier gets right, a mean over classes.
    pub fn accuracy(&self) -> f64 {
        self.accuracy
    }

    /// Frechet distance of pictures to the held-out ones.
    pub fn frechet_distance(&self, pictures: Tensor<4>) -> f64 {
        let features = self.classifier.judge(pictures).features;
        frechet_distance(&FeatureStats::measure(&features), &self.held_out)
    }

    /// Judges pictures that were asked for by their labels.
    ///
    /// # Shapes
    /// - `pictures`: `[B, C, H, W]`
    pub fn measure(&self, pictures: Tensor<4>, labels: &[u32]) -> Verdict {
        let judged = self.classifier.judge(pictures);
        let agreement = by_class(&judged.classes, labels, self.classes);
        let features = FeatureStats::measure(&judged.features);
        Verdict {
            class_agreement: mean(&agreement),
            worst_class_agreement: smallest(&agreement),
            frechet_distance: frechet_distance(&features, &self.held_out),
        }
    }
}

/// Labels of about `samples` pictures, the same number for each class, class after class.
pub fn even_labels(samples: usize, classes: usize) -> Vec<u32> {
    let per_class = samples.div_ceil(classes);
    (0..classes * per_class)
        .map(|i| (i / per_class) as u32)
        .collect()
}

/// Share of right answers in each class that has any.
fn by_class(answers: &[u32], labels: &[u32], classes: usize) -> Vec<f64> {
    let mut right = vec![(0usize, 0usize); classes];
    for (answer, label) in answers.iter().zip(labels) {
        let (hits, all) = &mut right[*label as usize];
        *hits += usize::from(answer == label);
        *all += 1;
    }
    right
        .into_iter()
        .filter(|(_, all)| *all > 0)
        .map(|(hits, all)| hits as f64 / all as f64)
        .collect()
}

pub fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len().max(1) as f64
}

pub fn smallest(values: &[f64]) -> f64 {
    values.iter().copied().fold(f64::INFINITY, f64::min)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agreement_is_counted_class_by_class() {
        assert_eq!(by_class(&[0, 1, 1, 2], &[0, 0, 1, 1], 4), [0.5, 0.5]);
    }
}
