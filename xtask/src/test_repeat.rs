//! `cargo xtask test --repeat N --threads LIST`: shows that the tests say the same in every run, on any number of
//! threads.

use std::fmt;
use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::process::{Command, ExitCode};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use latentlm_args::say;

use crate::cargo::{line, project_root, status, target_folder};

/// Folder of the output of failed runs, in cargo's target folder.
const FOLDER: &str = "test-repeat";

/// Tests that are run several times.
pub struct Repetition {
    /// Builds the tests.
    pub build: Command,
    /// Runs them once.
    pub tests: Command,
    /// Number of runs for each number of threads.
    pub rounds: u64,
    /// Numbers of test threads; the test runner chooses one if there are none.
    pub threads: Vec<u64>,
    /// Number of runs at the same time.
    pub at_once: usize,
}

/// One run of the tests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Run {
    /// Counted from 1.
    round: u64,
    /// Number of test threads; the test runner chooses if there is none.
    threads: Option<u64>,
}

/// What came of a run.
struct Outcome {
    run: Run,
    passed: bool,
    time: Duration,
}

impl Repetition {
    /// Builds the tests, makes all runs, prints a line for each and a closing line.
    ///
    /// # Errors
    /// If cargo can't be started, or the folder of the output can't be written.
    pub fn run(mut self) -> Result<ExitCode> {
        // A build of its own: its output belongs on the terminal, and its time to no run.
        if !status(&mut self.build)?.success() {
            say!("tests FAILED to build: {}", line(&self.build));
            return Ok(ExitCode::FAILURE);
        }
        let folder = target_folder().join(FOLDER);
        if folder.exists() {
            fs::remove_dir_all(&folder)
                .with_context(|| format!("cannot remove {}", folder.display()))?;
        }
        fs::create_dir_all(&folder)
            .with_context(|| format!("cannot create {}", folder.display()))?;
        let start = Instant::now();
        let runs = order(self.rounds, &self.threads);
        let print = |told: &str| say!("{told}");
        let outcomes = run_all(&self.tests, &runs, self.at_once, &folder, print)?;
        say!("{}", summary(&outcomes, start.elapsed()));
        Ok(if outcomes.iter().all(|outcome| outcome.passed) {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        })
    }
}

impl fmt::Display for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "round {}", self.round)?;
        match self.threads {
            None => Ok(()),
            Some(1) => write!(f, ", 1 thread"),
            Some(threads) => write!(f, ", {threads} threads"),
        }
    }
}

/// The runs in order: each round has one for every number of threads.
fn order(rounds: u64, threads: &[u64]) -> Vec<Run> {
    let mut each: Vec<Option<u64>> = threads.iter().copied().map(Some).collect();
    if each.is_empty() {
        each.push(None);
    }
    let mut runs = Vec::new();
    for round in 1..=rounds {
        for &threads in &each {
            runs.push(Run { round, threads });
        }
    }
    runs
}

/// Makes all runs, some at the same time, also after failed ones. `print` gets a line for each as it ends. The output
/// of failed runs stays in the folder. Outcomes are in the order of the runs.
fn run_all(
    tests: &Command,
    runs: &[Run],
    at_once: usize,
    folder: &Path,
    print: impl Fn(&str) + Sync,
) -> Result<Vec<Outcome>> {
    let waiting = Mutex::new((1..).zip(runs.iter().copied()));
    let next = || {
        let mut waiting = waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.next()
    };
    let take_runs = || -> Result<Vec<(u64, Outcome)>> {
        let mut outcomes = Vec::new();
        while let Some((number, run)) = next() {
            let path = folder.join(format!("run-{number}.txt"));
            outcomes.push((number, run_and_tell(tests, run, &path, &print)?));
        }
        Ok(outcomes)
    };
    let mut numbered = Vec::new();
    thread::scope(|scope| -> Result<()> {
        let workers: Vec<_> = (0..at_once).map(|_| scope.spawn(take_runs)).collect();
        for worker in workers {
            numbered.extend(worker.join().expect("a run does not panic")?);
        }
        Ok(())
    })?;
    numbered.sort_by_key(|&(number, _)| number);
    Ok(numbered.into_iter().map(|(_, outcome)| outcome).collect())
}

/// Makes one run and prints its line. The file stays if the run failed.
fn run_and_tell(tests: &Command, run: Run, path: &Path, print: impl Fn(&str)) -> Result<Outcome> {
    let outcome = run_once(again(tests), run, path)?;
    let seconds = outcome.time.as_secs();
    if outcome.passed {
        fs::remove_file(path).with_context(|| format!("cannot remove {}", path.display()))?;
        print(&format!("{run}: passed in {seconds} s"));
    } else {
        let shown = path.strip_prefix(project_root()).unwrap_or(path);
        print(&format!(
            "{run}: FAILED in {seconds} s; output: {}",
            shown.display()
        ));
    }
    Ok(outcome)
}

/// The same command once more, where it inherits its input.
fn again(command: &Command) -> Command {
    let mut same = Command::new(command.get_program());
    same.args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => same.env(name, value),
            None => same.env_remove(name),
        };
    }
    if let Some(folder) = command.get_current_dir() {
        same.current_dir(folder);
    }
    same
}

/// Makes one run. The file gets a line with the command, and then the output as a terminal would show it.
fn run_once(mut tests: Command, run: Run, path: &Path) -> Result<Outcome> {
    if let Some(threads) = run.threads {
        // Not an option of the test runner: those of the user follow the same `--`.
        tests.env("RUST_TEST_THREADS", threads.to_string());
    }
    let writing = || format!("cannot write {}", path.display());
    let mut file = File::create(path).with_context(writing)?;
    writeln!(file, "{run}: {}", line(&tests)).with_context(writing)?;
    tests.stdout(file.try_clone().with_context(writing)?);
    tests.stderr(file);
    let start = Instant::now();
    let passed = status(&mut tests)?.success();
    Ok(Outcome {
        run,
        passed,
        time: start.elapsed(),
    })
}

/// The closing line: how many runs passed or which failed, and the time of all.
fn summary(outcomes: &[Outcome], total: Duration) -> String {
    let mut failed = Vec::new();
    for outcome in outcomes.iter().filter(|outcome| !outcome.passed) {
        failed.push(outcome.run.to_string());
    }
    let (count, seconds) = (outcomes.len(), total.as_secs());
    if failed.is_empty() {
        format!("tests passed in {count} of {count} runs, in {seconds} s")
    } else {
        format!(
            "tests FAILED in {} of {count} runs, in {seconds} s: {}",
            failed.len(),
            failed.join("; ")
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounds_go_through_the_numbers_of_threads() {
        let told: Vec<String> = order(2, &[1, 8, 2]).iter().map(Run::to_string).collect();
        let expected = [
            "round 1, 1 thread",
            "round 1, 8 threads",
            "round 1, 2 threads",
            "round 2, 1 thread",
            "round 2, 8 threads",
            "round 2, 2 threads",
        ];
        assert_eq!(told, expected);
        let told: Vec<String> = order(2, &[]).iter().map(Run::to_string).collect();
        assert_eq!(told, ["round 1", "round 2"]);
    }

    #[test]
    fn the_summary_counts_runs_and_names_those_that_failed() {
        let mut outcomes = Vec::new();
        for run in order(2, &[1, 8]) {
            let (passed, time) = (true, Duration::from_secs(3));
            outcomes.push(Outcome { run, passed, time });
        }
        let total = Duration::from_millis(12_900);
        assert_eq!(
            summary(&outcomes, total),
            "tests passed in 4 of 4 runs, in 12 s"
        );
        outcomes[1].passed = false;
        outcomes[2].passed = false;
        assert_eq!(
            summary(&outcomes, total),
            "tests FAILED in 2 of 4 runs, in 12 s: round 1, 8 threads; round 2, 1 thread"
        );
    }

    /// A shell stands in for cargo.
    #[cfg(unix)]
    #[test]
    fn all_runs_are_made_and_the_output_of_failed_ones_stays() {
        let folder = tempfile::tempdir().unwrap();
        let script = "echo said; echo told >&2; test $RUST_TEST_THREADS != 2";
        let mut tests = Command::new("sh");
        tests.args(["-c", script]);
        let runs = order(2, &[1, 2, 4]);
        let told = Mutex::new(Vec::new());
        let print = |line: &str| told.lock().unwrap().push(line.to_owned());
        let outcomes = run_all(&tests, &runs, 1, folder.path(), print).unwrap();
        let lines = told.into_inner().unwrap();

        let done: Vec<Run> = outcomes.iter().map(|outcome| outcome.run).collect();
        assert_eq!(done, runs);
        let passed: Vec<bool> = outcomes.iter().map(|outcome| outcome.passed).collect();
        assert_eq!(passed, [true, false, true, true, false, true]);
        assert_eq!(lines.len(), 6);
        assert!(lines[0].starts_with("round 1, 1 thread: passed in "));
        assert!(lines[4].starts_with("round 2, 2 threads: FAILED in "));
        let file = folder.path().join("run-5.txt");
        assert!(lines[4].ends_with(&format!(" s; output: {}", file.display())));
        assert_eq!(
            fs::read_to_string(file).unwrap(),
            format!("round 2, 2 threads: RUST_TEST_THREADS=2 sh -c {script}\nsaid\ntold\n")
        );
        assert!(folder.path().join("run-2.txt").is_file());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
    }

    /// Each of the two waits until both have begun.
    #[cfg(unix)]
    #[test]
    fn runs_at_the_same_time_keep_their_own_output_and_order() {
        let folder = tempfile::tempdir().unwrap();
        let script = "touch begun-$RUST_TEST_THREADS; echo $RUST_TEST_THREADS
            for i in $(seq 20000); do test -e begun-1 && test -e begun-2 && exit 3; sleep 0.02; done";
        let mut tests = Command::new("sh");
        tests.args(["-c", script]).current_dir(folder.path());
        let runs = order(1, &[1, 2]);
        let output = folder.path().join("output");
        fs::create_dir(&output).unwrap();
        let outcomes = run_all(&tests, &runs, 2, &output, |_| {}).unwrap();

        let done: Vec<Run> = outcomes.iter().map(|outcome| outcome.run).collect();
        assert_eq!(done, runs);
        assert!(outcomes.iter().all(|outcome| !outcome.passed));
        for threads in ["1", "2"] {
            let text = fs::read_to_string(output.join(format!("run-{threads}.txt"))).unwrap();
            assert!(text.ends_with(&format!("\n{threads}\n")), "{text}");
        }
    }
}
