//! What a run is trained on and measured with.

/// What a run is trained on.
pub trait TrainingData {
    /// Hash of everything that is trained on.
    fn fingerprint(&self) -> String;

    /// Names of the classes, if there are any.
    fn classes(&self) -> &[String] {
        &[]
    }
}
