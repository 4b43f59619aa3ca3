//! What people and damage put in: damaged files of every kind, absurd values of every key, and properties of
//! recipes, manifests and texts.

mod child;
mod large;
mod plan;
mod properties;
mod sweep;
mod watch;

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use plan::Plan;

/// Targets, or large files, that are read at the same time, each in a process of its own.
const WORKERS: usize = 2;

/// Damaged copies of whole files, by every reader: none panics, aborts, hangs or takes a gigabyte of memory, and
/// the whole ones are read. `cargo xtask fuzz` asks for more of them.
#[test]
fn damaged_files_are_read_or_refused() {
    let plan = Plan::of_environment();
    let targets = plan.targets();
    let (next, reports) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    let work = || {
        while let Some(target) = targets.get(next.fetch_add(1, Ordering::Relaxed)) {
            let report = watch::run(target);
            plan.show(&report.to_string());
            report.failures.iter().for_each(|line| plan.show(line));
            reports.lock().unwrap().push(report);
        }
    };
    thread::scope(|scope| {
        for _ in 0..WORKERS {
            scope.spawn(work);
        }
    });
    let reports = reports.into_inner().unwrap();
    assert_eq!(reports.len(), targets.len());
    let failures: Vec<&str> = reports
        .iter()
        .flat_map(|report| report.failures.iter().map(String::as_str))
        .collect();
    assert!(
        failures.is_empty(),
        "{} failures; an input that is put into fuzz/corpus/TARGET is read first from then on:\n{}",
        failures.len(),
        failures.join("\n")
    );
}
