//! The processes that are compared.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use anyhow::{Context, Result, ensure};

use super::Cache;

/// Number of untimed units at the start.
const WARM_UP: usize = 3;

/// Median time and memory of a workload on one side.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Measured {
    pub(super) milliseconds: f64,
    /// Peak without what the program took at its start.
    pub(super) mebibytes: f64,
}

/// A process that does one unit of work per line of input. Killed when dropped.
pub(super) struct Side {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Side {
    pub(super) fn start(command: &mut Command) -> Result<Self> {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start {}", command.get_program().display()))?;
        let input = child.stdin.take().context("a pipe to the process")?;
        let output = child.stdout.take().context("a pipe from the process")?;
        Ok(Self {
            child,
            input,
            output: BufReader::new(output),
        })
    }

    pub(super) fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        let read = self.output.read_line(&mut line)?;
        ensure!(
            read > 0,
            "a side of the comparison ended; its error stands above"
        );
        Ok(line.trim().to_owned())
    }

    /// The number that the process answers.
    pub(super) fn ask(&mut self, what: &str) -> Result<f64> {
        let line = self.ask_line(what)?;
        line.parse()
            .with_context(|| format!("`{line}` is no number"))
    }

    /// The line that the process answers.
    pub(super) fn ask_line(&mut self, what: &str) -> Result<String> {
        writeln!(self.input, "{what}")?;
        self.line()
    }

    /// Warms up.
    ///
    /// # Errors
    /// If the process ends.
    pub(super) fn warm_up(&mut self) -> Result<()> {
        for _ in 0..WARM_UP {
            self.ask("go")?;
        }
        Ok(())
    }

    /// Memory of the workload alone, in MiB.
    pub(super) fn mebibytes(&mut self) -> Result<f64> {
        Ok(self.ask("grown")? / f64::from(1 << 20))
    }

    /// Median of `units` units after a warm-up.
    pub(super) fn median_alone(&mut self, units: usize, cache: Cache) -> Result<f64> {
        self.warm_up()?;
        let times: Result<Vec<f64>> = (0..units).map(|_| self.ask(cache.word())).collect();
        Ok(median(times?))
    }
}

impl Drop for Side {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The middle of some times.
pub(super) fn median(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    let middle = times.len() / 2;
    match times.len() % 2 {
        0 => (times[middle - 1] + times[middle]) / 2.0,
        _ => times[middle],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_are_in_the_middle() {
        assert_eq!(median(vec![3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(vec![4.0, 1.0, 2.0, 3.0]), 2.5);
    }
}
