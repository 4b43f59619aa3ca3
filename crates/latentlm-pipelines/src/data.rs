//! Data for the training and the measurements of a run.

use latentlm_data::{LeftOut, Sample};

use crate::error::Result;
use crate::recipe::Recipe;
use crate::run::RunFolder;
use crate::skipped::{self, SkippedList};

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

    /// Checks data before a run begins or goes on with changed data. Returns what a user should know, in one line.
    ///
    /// # Errors
    /// If no run should be trained on them.
    fn check(&self) -> Result<Option<String>> {
        Ok(None)
    }

    /// Names of the classes, if there are any.
    fn classes(&self) -> &[String] {
        &[]
    }

    /// Files that turned out to be broken. Both splits have one list.
    fn left_out(&self) -> Vec<LeftOut> {
        Vec::new()
    }

    /// Writes the list of skipped files into the run's folder. A resumed run keeps its earlier entries.
    ///
    /// # Errors
    /// If the list can't be read or written.
    fn list_left_out<R: Recipe>(&self, run: &RunFolder<R>) -> Result<SkippedList> {
        let mut list = SkippedList::of(self.left_out());
        list.keep_in(&run.file(skipped::FILE))?;
        Ok(list)
    }
}
