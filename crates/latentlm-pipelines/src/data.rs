//! What a run is trained on and measured with.

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

/// What a run is trained on.
pub trait TrainingData {
    /// Hash of everything that is trained on.
    fn fingerprint(&self) -> String;

    /// All samples, those that are only measured with included: a run that continues compares them with
    /// those that it began with.
    fn samples(&self) -> Vec<Sample>;

    /// Names of the classes, if there are any.
    fn classes(&self) -> &[String] {
        &[]
    }
}
