//! What a dataset leaves out, when it is opened and as it is read.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use crate::error::DataError;
use crate::walk::LeftOut;

/// A list of samples that were left out. Clones share it: the splits of a dataset have one list.
#[derive(Debug, Clone)]
pub(crate) struct LeftOutList(Arc<Mutex<Vec<LeftOut>>>);

impl LeftOutList {
    /// A list that begins with what could not be used when the dataset was opened.
    pub(crate) fn new(unusable: Vec<LeftOut>) -> Self {
        Self(Arc::new(Mutex::new(unusable)))
    }

    /// All that were left out up to now.
    pub(crate) fn all(&self) -> Vec<LeftOut> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Adds a file that could not be read, if it is not in the list already.
    pub(crate) fn add(&self, path: &Path, error: &DataError) {
        let mut list = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !list.iter().any(|known| known.path == path) {
            list.push(LeftOut::unused(path, error.to_string()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_listed_once_for_all_clones() {
        let list = LeftOutList::new(vec![LeftOut::unused("a", "old")]);
        let clone = list.clone();
        let error = DataError::EmptySplit {
            path: "b".into(),
            split: "train",
        };
        for path in ["a", "b", "b"] {
            clone.add(Path::new(path), &error);
        }
        let expected = [
            LeftOut::unused("a", "old"),
            LeftOut::unused("b", error.to_string()),
        ];
        assert_eq!(list.all(), expected);
    }
}
