//! Data for the training and the measurements of a run.

use latentlm_data::Sample;

/// The samples of both splits, named apart.
pub(crate) fn both(train: Vec<Sample>, test: Vec<Sample>) -> Vec<Sample> {
    let mut samples = Vec::with_capacity(train.len() + test.len());
    for (split, own) in [("train", train), ("test", test)] {
        samples.extend(own.into_iter().map(|sample| Sample {
            name: format!("{split}: {}", sample.name),
            ..sample
        }));
    }
    samples
}

/// Data of a run.
pub trait TrainingData {
    /// Hash of everything that is trained on.
    fn fingerprint(&self) -> String;

    /// All samples, including held-out ones. A resumed run compares them with its list.
    fn samples(&self) -> Vec<Sample>;

    /// Names of the classes, if there are any.
    fn classes(&self) -> &[String] {
        &[]
    }
}
