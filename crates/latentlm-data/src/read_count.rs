//! How many samples were read while a dataset is opened or checked: for a large one that takes minutes.

use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

thread_local! {
    /// What counts the passes that begin on this thread.
    static CURRENT: RefCell<Option<ReadCount>> = const { RefCell::new(None) };
}

/// Counts samples while a dataset is opened or checked, so that another thread can show them.
#[derive(Debug, Clone, Default)]
pub struct ReadCount {
    read: Arc<AtomicUsize>,
    total: Arc<AtomicUsize>,
}

impl ReadCount {
    /// Counts the samples of each pass that `work` begins on this thread, on whatever threads they are decoded.
    pub fn during<T>(&self, work: impl FnOnce() -> T) -> T {
        let before = CURRENT.replace(Some(self.clone()));
        let done = work();
        CURRENT.set(before);
        done
    }

    /// Samples that were read in the pass under way, or the last one, and all samples of it. Zeros before the first.
    pub fn so_far(&self) -> [usize; 2] {
        [&self.read, &self.total].map(|count| count.load(Ordering::Relaxed))
    }

    /// Begins a pass over `total` samples. Nothing is counted unless someone waits for it.
    pub(crate) fn begin(total: usize) -> Self {
        let count = CURRENT.with_borrow(|current| current.clone().unwrap_or_default());
        count.read.store(0, Ordering::Relaxed);
        count.total.store(total, Ordering::Relaxed);
        count
    }

    /// Counts a sample.
    pub(crate) fn add(&self) {
        self.read.fetch_add(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verify::on_all_threads;

    #[test]
    fn samples_are_counted_on_all_threads_and_pass_by_pass() {
        let count = ReadCount::default();
        assert_eq!(count.so_far(), [0, 0]);
        let pass = |items: &[u8]| on_all_threads(items, |item| *item).unwrap().len();
        count.during(|| {
            assert_eq!(pass(&[1; 300]), 300);
            assert_eq!(count.so_far(), [300, 300]);
            // Each pass has its own numbers.
            on_all_threads(&[1], |_| assert_eq!(count.so_far(), [0, 1])).unwrap();
        });
        assert_eq!(count.so_far(), [1, 1]);
        pass(&[1; 7]);
        assert_eq!(count.so_far(), [1, 1], "nobody waits for this one");
    }
}
