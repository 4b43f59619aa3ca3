//! The parent of the processes that read: starts them, stops those that hang or take too much memory, and
//! starts another where one has ended too early.

use std::env;
use std::fmt;
use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use latentlm_tests::fuzz::Target;

use crate::child::{self, MARK, SCRATCH, keep, peak_kib};
use crate::plan::failures;

/// Most memory that a process may take, in KiB.
pub const MOST_KIB: u64 = 1 << 20;
/// Longest time to read one input. Most take milliseconds, some a second; a machine may be busy with many other tests.
const LONGEST: Duration = Duration::from_secs(120);
/// Longest time until the first input is read: models are built.
const LONGEST_START: Duration = Duration::from_secs(600);
/// How often memory is looked at while an input is read.
const LOOK: Duration = Duration::from_millis(50);
/// A target is left alone after so many failures.
const MOST_FAILURES: usize = 5;

/// What became of the inputs of a target. Its `Display` is a line of the table.
#[derive(Debug, Default)]
pub struct Report {
    name: &'static str,
    inputs: usize,
    refused: usize,
    read: usize,
    slowest: Duration,
    peak_kib: u64,
    /// Inputs that failed, each in one line.
    pub failures: Vec<String>,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:<18} {:>8} {:>8} {:>8} {:>6} {:>8.0} ms {:>6} MiB",
            self.name,
            self.inputs,
            self.refused,
            self.read,
            self.failures.len(),
            self.slowest.as_secs_f64() * 1e3,
            self.peak_kib >> 10
        )
    }
}

/// How a process ended.
enum End {
    /// It read all inputs, or enough of them failed.
    Done,
    /// It leaves the rest to another one.
    Handover,
    /// It ended while it read, or was stopped; why.
    Early(String),
}

/// Reads all inputs of a target.
pub fn run(target: &Target) -> Report {
    // Of an earlier run.
    let _ = fs::remove_dir_all(failures(target.name));
    // Of this run alone: whole runs of the tests may take place at the same time.
    let place = tempfile::tempdir().unwrap();
    let place = place.path();
    fs::create_dir(place.join(SCRATCH)).unwrap();
    let mut report = Report {
        name: target.name,
        ..Report::default()
    };
    let mut first = 0;
    while report.failures.len() < MOST_FAILURES {
        let before = report.inputs;
        match read(target.name, place, first, &mut report) {
            End::Done => break,
            End::Handover if report.inputs > before => {}
            End::Handover => {
                let line = format!("{}: its process reads nothing", target.name);
                report.failures.push(line);
                break;
            }
            End::Early(why) if report.inputs == before => {
                report.failures.push(format!("{}: {why}", target.name));
                break;
            }
            End::Early(why) => {
                let index = report.inputs - 1;
                keep(target.name, place, index);
                report.fail(index, &why);
            }
        }
        first = report.inputs;
    }
    report
}

/// Reads the inputs of a target from one on, until the process ends.
fn read(name: &str, place: &Path, first: usize, report: &mut Report) -> End {
    let errors = File::create(place.join("stderr")).unwrap();
    let mut process = Command::new(env::current_exe().unwrap())
        .args([child::NAME, "--exact", "--nocapture", "--test-threads=1"])
        .env(child::CHILD, name)
        .env(child::FIRST, first.to_string())
        .env(child::PLACE, place)
        // Names of functions take seconds to look up, for every panic.
        .env("RUST_BACKTRACE", "0")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(errors)
        .spawn()
        .unwrap();
    let output = process.stdout.take().unwrap();
    let (send, lines) = mpsc::channel();
    let pump = thread::spawn(move || {
        for line in BufReader::new(output).lines().map_while(Result::ok) {
            if let Some((_, line)) = line.split_once(MARK)
                && send.send(line.to_owned()).is_err()
            {
                break;
            }
        }
    });
    let followed = follow(&lines, &mut process, report);
    let status = process.wait().unwrap();
    pump.join().unwrap();
    match followed {
        Followed::Stopped(why) => End::Early(why),
        Followed::Enough => End::Done,
        Followed::Ended { done: true, .. } if status.success() => End::Done,
        Followed::Ended { reading: false, .. } if status.success() => End::Handover,
        Followed::Ended { .. } => {
            let errors = fs::read_to_string(place.join("stderr")).unwrap_or_default();
            let mut lines = errors.lines().rev();
            let last = lines.find(|line| !line.trim().is_empty()).unwrap_or("");
            End::Early(format!("ends its process, {status}: {last}"))
        }
    }
}

/// What ended the lines of a process.
enum Followed {
    /// Its own end: `done` if it has read all inputs, `reading` if it was in the middle of one.
    Ended { done: bool, reading: bool },
    /// It was stopped; why.
    Stopped(String),
    /// It was stopped because enough inputs have failed.
    Enough,
}

/// Follows what a process says until it ends or has to be stopped.
fn follow(lines: &Receiver<String>, process: &mut Child, report: &mut Report) -> Followed {
    let (mut heard, mut begun) = (Instant::now(), false);
    let (mut reading, mut done) = (false, false);
    loop {
        match lines.recv_timeout(LOOK) {
            Ok(line) => {
                heard = Instant::now();
                begun = true;
                match line.split_once(' ') {
                    Some(("begin", index)) => {
                        reading = true;
                        report.inputs = index.parse::<usize>().unwrap() + 1;
                    }
                    Some(("end", rest)) => {
                        reading = false;
                        report.hear(rest);
                        if report.failures.len() >= MOST_FAILURES {
                            let _ = process.kill();
                            return Followed::Enough;
                        }
                    }
                    _ => done = true,
                }
            }
            Err(RecvTimeoutError::Timeout) => {
                let longest = if begun { LONGEST } else { LONGEST_START };
                let kib = peak_kib(&process.id().to_string());
                let why = if heard.elapsed() > longest {
                    format!("takes more than {} s", longest.as_secs())
                } else if kib > MOST_KIB && reading {
                    report.peak_kib = report.peak_kib.max(kib);
                    format!("takes {} MiB and more", kib >> 10)
                } else {
                    continue;
                };
                // It may have ended by itself just now.
                let _ = process.kill();
                return Followed::Stopped(why);
            }
            Err(RecvTimeoutError::Disconnected) => {
                return Followed::Ended { done, reading };
            }
        }
    }
}

impl Report {
    /// Takes down the end of an input: microseconds, KiB, and what became of it.
    fn hear(&mut self, rest: &str) {
        let mut words = rest.splitn(4, ' ');
        let mut number = || words.next().and_then(|word| word.parse::<u64>().ok());
        let (micros, kib) = (number().unwrap_or(0), number().unwrap_or(0));
        self.slowest = self.slowest.max(Duration::from_micros(micros));
        self.peak_kib = self.peak_kib.max(kib);
        match words.next() {
            Some("read") => self.read += 1,
            Some("refused") => self.refused += 1,
            _ => {
                let why = words.next().unwrap_or_default().to_owned();
                self.fail(self.inputs - 1, &why);
            }
        }
    }

    fn fail(&mut self, index: usize, why: &str) {
        let kept = failures(self.name).join(format!("failed-{index}"));
        let line = format!("{}: input {index} {why} ({})", self.name, kept.display());
        self.failures.push(line);
    }
}

#[test]
fn what_a_process_says_is_taken_down() {
    let mut report = Report {
        name: "none",
        inputs: 8,
        ..Report::default()
    };
    report.hear("1500 2048 read");
    report.hear("900 4096 refused");
    report.hear("100 3000 failed panics: index out of bounds");
    assert_eq!((report.read, report.refused), (1, 1));
    assert_eq!(report.slowest, Duration::from_micros(1500));
    assert_eq!(report.peak_kib, 4096);
    let failure = &report.failures[0];
    assert!(failure.starts_with("none: input 7 panics: index out of bounds ("));
    assert!(failure.ends_with("failed-7)"), "{failure}");
}
