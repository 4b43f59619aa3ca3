//! A stop that ends long work on many samples between two of them.

use std::cell::RefCell;
use std::fmt;
use std::sync::Arc;

use crate::error::DataError;

thread_local! {
    /// What work on this thread looks at.
    static CURRENT: RefCell<Option<Stop>> = const { RefCell::new(None) };
}

/// Says whether work is to end.
#[derive(Clone)]
pub struct Stop(Arc<dyn Fn() -> bool + Send + Sync>);

impl fmt::Debug for Stop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Stop").field(&self.came()).finish()
    }
}

impl Stop {
    /// A stop that has come as soon as `came` says so.
    pub fn new(came: impl Fn() -> bool + Send + Sync + 'static) -> Self {
        Self(Arc::new(came))
    }

    /// Has `work` on this thread, and on threads that decode samples for it, end when the stop comes, where it looks for
    /// it ([`check_stop`]).
    pub fn during<T>(&self, work: impl FnOnce() -> T) -> T {
        let _before = Before(CURRENT.replace(Some(self.clone())));
        work()
    }

    /// Whether it has come.
    pub fn came(&self) -> bool {
        (self.0)()
    }

    /// The stop of the work on this thread, if it has one.
    pub fn current() -> Option<Self> {
        CURRENT.with_borrow(Clone::clone)
    }
}

/// What this thread looked at before; it does so again, also after a panic.
struct Before(Option<Stop>);

impl Drop for Before {
    fn drop(&mut self) {
        CURRENT.set(self.0.take());
    }
}

/// Ends the work on this thread if its stop has come.
///
/// # Errors
/// [`DataError::Stopped`] if so.
pub fn check_stop() -> Result<(), DataError> {
    match Stop::current() {
        Some(stop) if stop.came() => Err(DataError::Stopped),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroUsize;
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
    use std::thread;

    use super::*;
    use crate::verify::on_all_threads;

    #[test]
    fn a_stop_ends_work_between_two_samples() {
        let came = Arc::new(AtomicBool::new(false));
        let own = Arc::clone(&came);
        let stop = Stop::new(move || own.load(Ordering::Relaxed));
        let (items, worked) = ([0_u8; 1000], AtomicUsize::new(0));
        let work = |_: &u8| {
            worked.fetch_add(1, Ordering::Relaxed);
            came.store(true, Ordering::Relaxed);
        };
        let ended = stop.during(|| {
            check_stop().unwrap();
            let ended = on_all_threads(&items, work);
            assert!(matches!(check_stop(), Err(DataError::Stopped)));
            ended
        });
        assert!(matches!(ended, Err(DataError::Stopped)));
        // Each thread has begun one at most.
        let threads = thread::available_parallelism().map_or(1, NonZeroUsize::get);
        assert!((1..=threads).contains(&worked.into_inner()));
        // Other work has no stop, after a panic either.
        let caught =
            std::panic::catch_unwind(|| Stop::new(|| true).during::<()>(|| panic!("wrong")));
        assert!(caught.is_err());
        check_stop().unwrap();
        assert_eq!(on_all_threads(&items, |_| ()).unwrap().len(), 1000);
    }
}
