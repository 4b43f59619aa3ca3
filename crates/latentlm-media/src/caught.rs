//! Panics inside decoder libraries, caught and turned into errors. One broken file must not end a
//! training run on thousands of files.

use std::cell::Cell;
use std::panic::{self, AssertUnwindSafe};
use std::sync::Once;
use std::thread;

thread_local! {
    /// Whether this thread is inside [`caught`], so that its panics are not printed.
    static QUIET: Cell<bool> = const { Cell::new(false) };
}

/// Sets this thread's `QUIET`; restores the earlier value when dropped.
struct Quiet {
    before: bool,
}

impl Quiet {
    fn begin() -> Self {
        install();
        Self {
            before: QUIET.replace(true),
        }
    }
}

impl Drop for Quiet {
    fn drop(&mut self) {
        QUIET.set(self.before);
    }
}

/// Wraps the process's panic hook once. Panics of quiet threads are not printed; all others reach
/// the earlier hook.
fn install() {
    static ONCE: Once = Once::new();
    // The hook can't be changed during a panic; the next call of `caught` tries again.
    if thread::panicking() {
        return;
    }
    ONCE.call_once(|| {
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            // A thread that is ending may have dropped its thread-local values already.
            if !QUIET.try_with(Cell::get).unwrap_or(false) {
                before(info);
            }
        }));
    });
}

/// Calls a library that may panic on broken input; `who` names it, such as "the decoder". After a panic, callers
/// drop whatever the call may have left half done.
///
/// # Errors
/// If the call panics: `who` failed. The panic's own text speaks of the library's source, not of the input, and is
/// dropped.
pub fn caught<T>(who: &str, call: impl FnOnce() -> T) -> Result<T, String> {
    let quiet = Quiet::begin();
    let outcome = panic::catch_unwind(AssertUnwindSafe(call));
    drop(quiet);
    outcome.map_err(|_| format!("{who} failed"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_becomes_a_line() {
        assert_eq!(caught("the decoder", || 7), Ok(7));
        let index = 5;
        let outside = caught("the decoder", || [1, 2, 3][std::hint::black_box(index)]);
        assert_eq!(outside.unwrap_err(), "the decoder failed");
        let lines: Result<(), String> = caught("it", || panic!("two\n  lines of {index}"));
        assert_eq!(lines.unwrap_err(), "it failed");
        let other: Result<(), String> = caught("it", || panic::panic_any(7));
        assert_eq!(other.unwrap_err(), "it failed");
    }

    /// A panic's message is suppressed only during `caught`, and only on that thread.
    #[test]
    fn a_thread_is_quiet_only_while_it_is_caught() {
        let quiet = || QUIET.get();
        assert!(!quiet());
        let inner = caught("it", || {
            let nested: Result<(), String> = caught("it", || panic!("nested"));
            assert!(nested.is_err() && quiet(), "the outer call is still caught");
            assert!(!thread::spawn(quiet).join().unwrap());
            quiet()
        });
        assert_eq!(inner, Ok(true));
        let panicked: Result<(), String> = caught("it", || panic!("caught"));
        assert!(panicked.is_err() && !quiet());
    }
}
