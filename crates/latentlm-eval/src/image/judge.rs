//! The judge of generated pictures: a classifier that is trained on real pictures, and the
//! statistics of its features on held-out pictures.

use std::fs;
use std::path::Path;

use burn::tensor::{Device, Tensor};
use latentlm::core::bundle::{BundleWriter, io_error, save_module};
use latentlm_data::{Content, ImageDataset, check_stop, file_sha256, sha256};
use latentlm_pipelines::{ImageData, weights_file};
use serde::{Deserialize, Serialize};

use super::classifier::{Classifier, EPOCHS, WIDTH};
use super::distance::{FeatureStats, frechet_distance};
use crate::error::Result;
use crate::statistics::{mean, share, smallest};

/// Name of the module in the folder of a judge.
const MODULE: &str = "model";
/// File that says what a judge was made from.
const ORIGIN: &str = "judge.json";

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
        let classifier = Classifier::train(&data.train, &held_out.device())?;
        Ok(Self::of(classifier, data, held_out))
    }

    /// The judge in a folder, if it was trained on the same pictures in the same way. Otherwise a judge is
    /// trained and saved there: the folder is replaced.
    ///
    /// # Shapes
    /// - `held_out`: `[B, C, H, W]`, all held-out pictures of `data`
    ///
    /// # Errors
    /// If a picture can't be read, or the folder can't be written.
    pub fn kept(folder: &Path, data: &ImageData, held_out: Tensor<4>) -> Result<Self> {
        let pictures = hash_of(&data.train)?;
        let device = held_out.device();
        let classifier = match read(folder, &pictures, &data.train, &device) {
            Some(classifier) => classifier,
            None => {
                let classifier = Classifier::train(&data.train, &device)?;
                keep(folder, &pictures, &classifier)?;
                classifier
            }
        };
        Ok(Self::of(classifier, data, held_out))
    }

    fn of(classifier: Classifier, data: &ImageData, held_out: Tensor<4>) -> Self {
        let classes = data.train.classes().len();
        let real = classifier.classify(held_out);
        let agreement = by_class(&real.classes, &labels(&data.test), classes);
        Self {
            accuracy: mean(agreement).unwrap_or_default(),
            held_out: FeatureStats::measure(&real.features),
            classifier,
            classes,
        }
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

/// What the weights of a judge were made from. A judge of another origin is not used again.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Origin {
    /// Version of this crate.
    version: String,
    /// Channels of the first convolution.
    width: usize,
    /// How often each picture was seen.
    epochs: u64,
    /// Hash of the training pictures and their classes.
    pictures: String,
    /// Hash of the file of weights.
    weights: String,
}

impl Origin {
    fn new(pictures: &str, weights: String) -> Self {
        Self {
            version: env!("CARGO_PKG_VERSION").into(),
            width: WIDTH,
            epochs: EPOCHS,
            pictures: pictures.into(),
            weights,
        }
    }
}

/// The classifier in a folder; `None` if there is none, it is damaged or of another origin.
fn read(folder: &Path, pictures: &str, data: &ImageDataset, device: &Device) -> Option<Classifier> {
    let path = folder.join(weights_file(MODULE));
    let wanted = Origin::new(pictures, file_sha256(&path).ok()?);
    let json = fs::read(folder.join(ORIGIN)).ok()?;
    let found: Origin = serde_json::from_slice(&json).ok()?;
    if found != wanted {
        return None;
    }
    Classifier::load(data, &path, device).ok()
}

/// Saves a classifier into a folder, which appears whole or not at all.
fn keep(folder: &Path, pictures: &str, classifier: &Classifier) -> Result<()> {
    let bundle = BundleWriter::begin_alone(folder)?;
    let path = bundle.path(&weights_file(MODULE));
    save_module(classifier, &path)?;
    let weights = file_sha256(&path).map_err(io_error("read", &path))?;
    let origin = Origin::new(pictures, weights);
    let json = serde_json::to_vec_pretty(&origin).unwrap_or_default();
    bundle.write(ORIGIN, &json)?;
    bundle.commit()?;
    Ok(())
}

/// Hash of size, names, classes and bytes of all pictures.
fn hash_of(data: &ImageDataset) -> Result<String> {
    let mut list = format!("{:?} {:?}\n", data.spec(), data.classes());
    for sample in data.samples() {
        check_stop()?;
        let hash = match sample.content {
            Content::Hash(hash) => hash,
            Content::File(path) => file_sha256(&path).map_err(io_error("read", &path))?,
        };
        list += &format!("{:?} {:?} {hash}\n", sample.name, sample.about);
    }
    Ok(sha256(list.as_bytes()))
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
    use latentlm::RandomStream;
    use latentlm_core::conformance::seeded;
    use latentlm_data::{ImageSpec, Split};

    use super::*;
    use crate::image::Sizes;

    /// Grey pictures of two classes, the first of `dog` as bright as `dogs`.
    fn pictures(folder: &Path, dogs: u8) -> ImageDataset {
        for (class, first) in [("cat", 9), ("dog", dogs)] {
            fs::create_dir_all(folder.join(class)).unwrap();
            for index in 0..30 {
                let grey = image::Luma([first + index]);
                let path = folder.join(format!("{class}/{index}.png"));
                image::GrayImage::from_pixel(8, 8, grey).save(path).unwrap();
            }
        }
        let spec = ImageSpec {
            channels: 1,
            height: 8,
            width: 8,
        };
        ImageDataset::open(folder, spec, Split::Train).unwrap()
    }

    /// It comes back with the same weights, for the same pictures, and only if every bit is there.
    #[test]
    fn a_judge_is_kept_for_its_pictures() {
        let dir = tempfile::tempdir().unwrap();
        let (data, device) = (pictures(&dir.path().join("set"), 100), Device::default());
        let classifier = seeded(1, &device, |device| {
            Classifier::new(Sizes::of(&data), device)
        });
        let folder = dir.path().join("judge");
        assert!(read(&folder, "a", &data, &device).is_none());
        keep(&folder, "a", &classifier).unwrap();
        assert!(read(&folder, "b", &data, &device).is_none());
        let again = read(&folder, "a", &data, &device).unwrap();
        let drawn: Tensor<4> = RandomStream::new(2).normal([5, 1, 8, 8], &device);
        let [expected, found] =
            [classifier, again].map(|judge| judge.classify(drawn.clone()).log_probabilities);
        assert_eq!(expected, found);
        assert_ne!(expected[0], expected[1]);

        let path = folder.join(weights_file(MODULE));
        let mut bytes = fs::read(&path).unwrap();
        let last = bytes.len() - 1;
        bytes[last] ^= 1;
        fs::write(&path, bytes).unwrap();
        assert!(read(&folder, "a", &data, &device).is_none(), "damaged");
    }

    /// Names and classes are the same.
    #[test]
    fn pictures_are_told_apart_by_their_bytes() {
        let [one, same, other] = [100, 100, 101].map(|dogs| {
            let dir = tempfile::tempdir().unwrap();
            hash_of(&pictures(dir.path(), dogs)).unwrap()
        });
        assert_eq!(one, same);
        assert_ne!(one, other);
    }

    #[test]
    fn agreement_is_counted_class_by_class() {
        assert_eq!(by_class(&[0, 1, 1, 2], &[0, 0, 1, 1], 4), [0.5, 0.5]);
    }
}
