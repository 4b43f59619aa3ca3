//! Signals that stop a training with a checkpoint, a dialogue or a clip with a complete file: Ctrl-C, and those of
//! schedulers, containers and closed terminals.

use anyhow::Result;
use latentlm_args::tell;
use latentlm_train::Interrupter;

/// Exit code after a second Ctrl-C, as shells give it.
const INTERRUPTED: i32 = 130;

/// From now on, Ctrl-C, SIGTERM and SIGHUP stop the training after its step, with a checkpoint. A second Ctrl-C
/// ends the process at once. Without Unix there is only Ctrl-C.
///
/// # Errors
/// If the system refuses the handlers.
pub fn stop_training(interrupter: &Interrupter) -> Result<()> {
    stop_after("step", interrupter)
}

/// From now on, the same signals stop drawing a clip after its group of frames. A second Ctrl-C ends the process at
/// once.
///
/// # Errors
/// If the system refuses the handlers.
pub fn stop_drawing(interrupter: &Interrupter) -> Result<()> {
    stop_after("group of frames", interrupter)
}

/// From now on, the same signals stop a dialogue after its frame. A second Ctrl-C ends the process at once.
///
/// # Errors
/// If the system refuses the handlers.
#[cfg(feature = "published")]
pub fn stop_speech(interrupter: &Interrupter) -> Result<()> {
    stop_after("frame", interrupter)
}

/// From now on, the same signals stop a transcript after its token. A second Ctrl-C ends the process at once.
///
/// # Errors
/// If the system refuses the handlers.
#[cfg(feature = "published")]
pub fn stop_transcript(interrupter: &Interrupter) -> Result<()> {
    stop_after("token", interrupter)
}

/// `unit` names the work that is still completed, such as a step.
#[cfg(unix)]
fn stop_after(unit: &'static str, interrupter: &Interrupter) -> Result<()> {
    use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
    use signal_hook::iterator::Signals;

    let mut wanted = vec![SIGINT, SIGTERM];
    if !ignores_hangup() {
        wanted.push(SIGHUP);
    }
    let mut signals = Signals::new(wanted)?;
    let interrupter = interrupter.clone();
    std::thread::Builder::new()
        .name("signals".into())
        .spawn(move || {
            for signal in signals.forever() {
                match signal {
                    SIGINT => interrupted(&interrupter, unit),
                    // Often sent twice, by the shell and by the system: only the first counts.
                    SIGTERM => stop(&interrupter, "SIGTERM", unit),
                    _ => stop(&interrupter, "SIGHUP", unit),
                }
            }
        })?;
    Ok(())
}

/// `unit` names the work that is still completed, such as a step. Only Ctrl-C is handled.
#[cfg(not(unix))]
fn stop_after(unit: &'static str, interrupter: &Interrupter) -> Result<()> {
    let interrupter = interrupter.clone();
    ctrlc::set_handler(move || interrupted(&interrupter, unit))?;
    Ok(())
}

fn interrupted(interrupter: &Interrupter, unit: &str) {
    if interrupter.should_stop() {
        std::process::exit(INTERRUPTED);
    }
    stop(interrupter, "Ctrl-C", unit);
}

fn stop(interrupter: &Interrupter, signal: &str, unit: &str) {
    if interrupter.should_stop() {
        return;
    }
    // First of all: the terminal may be closed.
    interrupter.stop(Some(signal));
    tell!("{signal}: stopping after this {unit}; Ctrl-C again to stop at once");
}

/// Whether the process was started to outlive its terminal, as by `nohup`.
#[cfg(unix)]
fn ignores_hangup() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    hangup_is_ignored(&status)
}

/// Whether SIGHUP, signal 1, is in the mask `SigIgn` of a process's status.
#[cfg(unix)]
fn hangup_is_ignored(status: &str) -> bool {
    let mut masks = status
        .lines()
        .filter_map(|line| line.strip_prefix("SigIgn:"));
    let mask = masks
        .next()
        .map(|mask| u64::from_str_radix(mask.trim(), 16));
    matches!(mask, Some(Ok(mask)) if mask & 1 == 1)
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    #[test]
    fn the_mask_of_ignored_signals_is_read() {
        let status = |mask: &str| format!("Name:\tx\nSigBlk:\t0000000000000001\nSigIgn:\t{mask}\n");
        assert!(hangup_is_ignored(&status("0000000000001001")));
        assert!(!hangup_is_ignored(&status("0000000000001000")));
        assert!(!hangup_is_ignored(""));
    }

    #[test]
    fn only_the_first_signal_names_the_reason() {
        let interrupter = Interrupter::new();
        stop(&interrupter, "SIGTERM", "step");
        stop(&interrupter, "SIGHUP", "step");
        assert!(interrupter.should_stop());
        assert_eq!(interrupter.get_message().as_deref(), Some("SIGTERM"));
    }
}
