//! What a command is doing: some phases of an evaluation take minutes without a word.

use std::io::{self, IsTerminal, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use latentlm_args::tell;

/// Time between two looks at the phase: at most one line in this time on a terminal.
const EVERY: Duration = Duration::from_secs(3);
/// Number of looks after which a phase that goes on is told again.
const AGAIN: u32 = 10;

/// The phase under way; empty if there is none.
static PHASE: Mutex<String> = Mutex::new(String::new());
/// Whether each phase is told as it begins.
static AT_ONCE: AtomicBool = AtomicBool::new(false);

/// From now on, phases are shown on standard error. On a terminal, short ones may be passed over. Elsewhere, as in a log, each
/// has a line as it begins, and again every half minute.
pub fn show() {
    AT_ONCE.store(!io::stderr().is_terminal(), Ordering::Relaxed);
    show_long();
}

/// As [`show`], for commands of few phases: elsewhere than on a terminal, only what takes half a minute is told.
pub fn show_long() {
    let on_terminal = io::stderr().is_terminal();
    // Ends with the process.
    thread::spawn(move || {
        let mut shown = Shown::default();
        loop {
            thread::sleep(EVERY);
            let phase = PHASE.lock().unwrap_or_else(PoisonError::into_inner).clone();
            if let Some(line) = shown.line(&phase, on_terminal) {
                tell!("{line}");
            }
        }
    });
}

/// Begins a phase, such as `drawing 500 pictures`; empty at the end of the last.
pub fn begin(phase: &str) {
    if AT_ONCE.load(Ordering::Relaxed) && !phase.is_empty() {
        tell!("{phase} ...");
    }
    *PHASE.lock().unwrap_or_else(PoisonError::into_inner) = phase.to_owned();
}

/// Prints on standard error without ending the line. Does nothing if it can't be printed, as `tell!`.
pub fn print(text: &str) {
    let mut stderr = io::stderr().lock();
    let _ = stderr.write_all(text.as_bytes());
    let _ = stderr.flush();
}

/// The phase that is shown.
#[derive(Default)]
struct Shown {
    phase: String,
    /// Number of looks since the phase was first seen.
    looks: u32,
}

impl Shown {
    /// The line to show at a look. `first` is whether a phase is told when it is first seen.
    fn line(&mut self, phase: &str, first: bool) -> Option<String> {
        if phase != self.phase {
            self.phase = phase.to_owned();
            self.looks = 0;
            return (first && !phase.is_empty()).then(|| format!("{phase} ..."));
        }
        self.looks += 1;
        let due = !phase.is_empty() && self.looks.is_multiple_of(AGAIN);
        due.then(|| format!("{phase} ... {} s", (EVERY * self.looks).as_secs()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_phase_is_shown_once_and_again_if_it_takes_long() {
        let mut shown = Shown::default();
        assert_eq!(shown.line("", true), None);
        assert_eq!(shown.line("drawing", true).as_deref(), Some("drawing ..."));
        let later: Vec<Option<String>> = (0..20).map(|_| shown.line("drawing", true)).collect();
        for (look, line) in (1..).zip(&later) {
            let expected = match look {
                10 => Some("drawing ... 30 s"),
                20 => Some("drawing ... 60 s"),
                _ => None,
            };
            assert_eq!(line.as_deref(), expected, "{look}");
        }
        assert_eq!(shown.line("judging", true).as_deref(), Some("judging ..."));
        assert_eq!(shown.line("", true), None);
        // Where it was told as it began, or is told only if it takes long.
        let looks: Vec<Option<String>> = (0..11).map(|_| shown.line("drawing", false)).collect();
        assert!(looks[..10].iter().all(Option::is_none));
        assert_eq!(looks[10].as_deref(), Some("drawing ... 30 s"));
    }
}
