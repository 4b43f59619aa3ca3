//! What a command is doing, on a terminal: some phases of an evaluation take minutes without a word.

use std::io::{self, IsTerminal, Write};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use latentlm_args::tell;

/// Time between two looks at the phase: at most one line in this time.
const EVERY: Duration = Duration::from_secs(3);
/// Number of looks after which a phase that goes on is told again.
const AGAIN: u32 = 10;

/// The phase under way; empty if there is none.
static PHASE: Mutex<String> = Mutex::new(String::new());

/// From now on, phases are shown on standard error if it is a terminal. Short ones may be passed over.
pub fn show() {
    if !io::stderr().is_terminal() {
        return;
    }
    // Ends with the process.
    thread::spawn(|| {
        let mut shown = Shown::default();
        loop {
            thread::sleep(EVERY);
            let phase = PHASE.lock().unwrap_or_else(PoisonError::into_inner).clone();
            if let Some(line) = shown.line(&phase) {
                tell!("{line}");
            }
        }
    });
}

/// Begins a phase, such as `drawing 500 pictures`; empty at the end of the last.
pub fn begin(phase: &str) {
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
    /// The line to show at a look.
    fn line(&mut self, phase: &str) -> Option<String> {
        if phase != self.phase {
            self.phase = phase.to_owned();
            self.looks = 0;
            return (!phase.is_empty()).then(|| format!("{phase} ..."));
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
        assert_eq!(shown.line(""), None);
        assert_eq!(shown.line("drawing").as_deref(), Some("drawing ..."));
        let later: Vec<Option<String>> = (0..20).map(|_| shown.line("drawing")).collect();
        for (look, line) in (1..).zip(&later) {
            let expected = match look {
                10 => Some("drawing ... 30 s"),
                20 => Some("drawing ... 60 s"),
                _ => None,
            };
            assert_eq!(line.as_deref(), expected, "{look}");
        }
        assert_eq!(shown.line("judging").as_deref(), Some("judging ..."));
        assert_eq!(shown.line(""), None);
    }
}
