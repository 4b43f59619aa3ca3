//! The process that reads: whatever an input does to it, the test goes on.
//!
//! It writes each input to a file before it reads it, and says on standard output what it does, in lines that
//! contain [`MARK`]: `begin INDEX`, then `end MICROSECONDS KIB VERDICT`, `done` after the last.

use std::any::Any;
use std::env;
use std::fs;
use std::io::{self, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::Instant;

use latentlm_tests::fuzz::{Inputs, target};

use crate::plan::{Plan, failures};
use crate::watch::MOST_KIB;

/// The environment variable that makes a process a child: the target's name.
pub const CHILD: &str = "LATENTLM_FUZZ_CHILD";
/// The environment variable with the number of the first input.
pub const FIRST: &str = "LATENTLM_FUZZ_FIRST";
/// The environment variable with the folder of the input that is being read, and of what its reader writes.
pub const PLACE: &str = "LATENTLM_FUZZ_PLACE";
/// This test's name.
pub const NAME: &str = "child::reads_what_it_is_asked_to";
/// What lines for the parent contain: the test runner prints lines too, and begins some of ours.
pub const MARK: &str = "@fuzz ";
/// The input that is being read.
pub const CURRENT: &str = "current";
/// The folder that its reader writes into.
pub const SCRATCH: &str = "scratch";

/// Does nothing unless [`CHILD`] is set.
#[test]
fn reads_what_it_is_asked_to() {
    let Ok(name) = env::var(CHILD) else {
        return;
    };
    let first = env::var(FIRST).unwrap().parse().unwrap();
    let place = PathBuf::from(env::var_os(PLACE).unwrap());
    read(&name, &place, first, &Plan::of_environment());
}

fn read(name: &str, place: &Path, first: usize, plan: &Plan) {
    let target = target(name).expect("a target that exists");
    let inputs = Inputs::of(&target, plan.inputs);
    let mut reader = (target.reader)(&place.join(SCRATCH));
    for index in first..inputs.count() {
        let bytes = inputs.get(plan.seed, index);
        fs::write(place.join(CURRENT), &bytes).unwrap();
        tell(&format!("begin {index}"));
        let start = Instant::now();
        let read = catch_unwind(AssertUnwindSafe(|| reader(&bytes)));
        let (micros, kib) = (start.elapsed().as_micros(), peak_kib("self"));
        let failure = match &read {
            Err(payload) => Some(format!("panics: {}", message(&**payload))),
            Ok(Err(why)) if inputs.is_whole(index) => Some(format!("is whole, and refused: {why}")),
            Ok(_) if kib > MOST_KIB => Some(format!("takes {} MiB", kib >> 10)),
            Ok(_) => None,
        };
        if failure.is_some() {
            keep(name, place, index);
        }
        let verdict = match (&failure, &read) {
            (Some(failure), _) => format!("failed {failure}"),
            (None, Ok(Ok(()))) => "read".to_owned(),
            (None, _) => "refused".to_owned(),
        };
        tell(&format!("end {micros} {kib} {verdict}"));
        if kib > MOST_KIB {
            // The peak of a process never falls: another one goes on.
            return;
        }
    }
    tell("done");
}

/// Says something to the parent, on one line.
fn tell(line: &str) {
    let line: Vec<&str> = line.split_whitespace().collect();
    let mut output = io::stdout().lock();
    writeln!(output, "{MARK}{}", line.join(" "))
        .and_then(|()| output.flush())
        .expect("the parent listens");
}

/// Keeps the input of a target that was read last under its number.
pub fn keep(name: &str, place: &Path, index: usize) {
    let folder = failures(name);
    fs::create_dir_all(&folder).expect("a folder of cargo's");
    let kept = folder.join(format!("failed-{index}"));
    fs::copy(place.join(CURRENT), kept).expect("the input that was written");
}

/// The most memory that a process has had, in KiB; 0 where that is not known.
pub fn peak_kib(process: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let number = peak.and_then(|peak| peak.trim().strip_suffix(" kB")?.trim().parse().ok());
    number.unwrap_or(0)
}

/// The text of a panic.
fn message(payload: &(dyn Any + Send)) -> &str {
    let text = payload.downcast_ref::<&str>().copied();
    let owned = || payload.downcast_ref::<String>().map(String::as_str);
    text.or_else(owned).unwrap_or("without a message")
}

#[cfg(target_os = "linux")]
#[test]
fn the_peak_of_memory_is_known() {
    let before = peak_kib("self");
    let taken = vec![1_u8; 64 << 20];
    let after = peak_kib(&std::process::id().to_string());
    assert!(taken.iter().all(|byte| *byte == 1));
    assert!(before > 0 && after >= 64 << 10, "{before} {after}");
    assert_eq!(peak_kib("none"), 0);
}
