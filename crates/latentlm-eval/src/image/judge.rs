//! The judge of generated pictures: a classifier that is trained on real pictures, and the
//! statistics of its features on held-out pictures.

use burn::tensor::Tensor;
use latentlm_data::ImageDataset;
use latentlm_pipelines::ImageData;
use serde::{Deserialize, Serialize};

use super::classifier::Classifier;
use super::distance::{FeatureStats, frechet_distance};
use crate::error::Result;
use crate::statistics::{mean, share, smallest};

/// A classifier with statistics of held-out pictures. It is trained once for all sets of pictures
/// that are to be compared.
pub struct Judge {
    classifier: Classifier,
    held_out: FeatureStats,
    classes: usize,
    /// Accuracy of the classifier on held-out real pictures, averaged over classes.
    pub accuracy: f64,
}

/// Measurements of generated pictures.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Verdict {
    /// Fraction of pictures that the classifier assigns to the class they were generated for,
    /// averaged over classes.
    pub class_agreement: f64,
    /// `class_agreement` of the worst class.
    pub worst_class_agreement: f64,
    /// Frechet distance to held-out pictures, in the features of the classifier.
    pub frechet_distance: f64,
}

impl Judge {
    /// Trains the classifier on training pictures and measures its features on at least two held-out
    /// pictures.
    ///
    /// # Shapes
    /// - `held_out`: `[B, C, H, W]`, all held-out pictures of `data`
    ///
    /// # Errors
    /// If a picture can't be read.
    pub fn train(data: &ImageData, held_out: Tensor<4>) -> Result<Self> {
        let classes = data.train.classes().len();
        let classifier = Classifier::train(&data.train, &held_out.device())?;
        let real = classifier.classify(held_out);
        let agreement = by_class(&real.classes, &labels(&data.test), classes);
        Ok(Self {
            accuracy: mean(agreement).unwrap_or_default(),
            held_out: FeatureStats::measure(&real.features),
            classifier,
            classes,
        })
    }

    /// Frechet distance between pictures and the held-out pictures.
    pub fn frechet_distance(&self, pictures: Tensor<4>) -> f64 {
        let features = self.classifier.classify(pictures).features;
        frechet_distance(&FeatureStats::measure(&features), &self.held_out)
    }

    /// Measures pictures that were generated for `labels`.
    ///
    /// # Shapes
    /// - `pictures`: `[B, C, H, W]`
    pub fn measure(&self, pictures: Tensor<4>, labels: &[u32]) -> Verdict {
        let predictions = self.classifier.classify(pictures);
        let agreement = by_class(&predictions.classes, labels, self.classes);
        let features = FeatureStats::measure(&predictions.features);
        Verdict {
            worst_class_agreement: smallest(&agreement),
            class_agreement: mean(agreement).unwrap_or_default(),
            frechet_distance: frechet_distance(&features, &self.held_out),
        }
    }
}

/// Classes of all pictures.
pub(super) fn labels(data: &ImageDataset) -> Vec<u32> {
    (0..data.len()).map(|index| data.label(index)).collect()
}

/// Labels for at least `samples` pictures, in the order of classes, with the same number for each
/// class.
pub fn even_labels(samples: usize, classes: usize) -> Vec<u32> {
    let per_class = samples.div_ceil(classes);
    (0..classes * per_class)
        .map(|i| (i / per_class) as u32)
        .collect()
}

/// Fraction of right answers in each class, without classes that have no pictures.
pub(super) fn by_class(answers: &[u32], labels: &[u32], classes: usize) -> Vec<f64> {
    let mut fractions = Vec::new();
    for class in 0..classes as u32 {
        let own = answers
            .iter()
            .zip(labels)
            .filter(|(_, label)| **label == class);
        fractions.extend(share(own.map(|(answer, label)| answer == label)));
    }
    fractions
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agreement_is_counted_class_by_class() {
        assert_eq!(by_class(&[0, 1, 1, 2], &[0, 0, 1, 1], 4), [0.5, 0.5]);
    }
}
