//! `bench-scaling`: time and memory against batch size, length and width.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, ensure};
use latentlm::core::bundle::write_atomically;
use latentlm_args::{BenchScaling, say};
use latentlm_bench::Workload;
use latentlm_bench::scaling::{Measured, Rates, ScalingReport, scaling_points};

use crate::device::device;

/// Number of untimed units at the start.
const WARM_UP: u64 = 2;

/// Prints one line per point, and writes the table and the charts.
pub fn run(args: BenchScaling) -> Result<()> {
    let rates = Rates::measure(&device(&args.device)?);
    say!("{}: {rates}", args.device);
    let mut report = ScalingReport::new(rates);
    for point in scaling_points() {
        let measured = measure(&args, &point.workload)?;
        say!("{}", report.add(point, measured));
    }
    for (name, text) in report.files() {
        write_atomically(&args.out.join(name), text.as_bytes())?;
    }
    say!("written to {}", args.out.display());
    Ok(())
}

fn measure(args: &BenchScaling, workload: &Workload) -> Result<Measured> {
    let mut worker = Worker::start(&serde_json::to_string(workload)?, &args.device)?;
    let mut times = Vec::new();
    for turn in 0..WARM_UP + args.repeats {
        let time = worker.ask("go")?;
        if turn >= WARM_UP {
            times.push(time);
        }
    }
    times.sort_by(f64::total_cmp);
    Ok(Measured {
        milliseconds: times[times.len() / 2],
        bytes: worker.ask("memory")?,
    })
}

/// A second process of this binary that runs `bench-worker`. Killed when dropped.
struct Worker {
    child: Child,
    answers: BufReader<std::process::ChildStdout>,
}

impl Worker {
    fn start(workload: &str, device: &str) -> Result<Self> {
        let binary = std::env::current_exe().context("this program's path is not known")?;
        let mut child = Command::new(binary)
            .args(["bench-worker", workload, "--device", device])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot start this program once more")?;
        let answers = child.stdout.take().context("a pipe from the worker")?;
        let mut worker = Self {
            child,
            answers: BufReader::new(answers),
        };
        // The worker's first line describes the workload.
        worker.line()?;
        Ok(worker)
    }

    fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        let read = self.answers.read_line(&mut line)?;
        ensure!(read > 0, "the worker ended; its error stands above");
        Ok(line.trim().to_owned())
    }

    fn ask(&mut self, what: &str) -> Result<f64> {
        let input = self.child.stdin.as_mut().context("a pipe to the worker")?;
        writeln!(input, "{what}")?;
        let line = self.line()?;
        line.parse()
            .with_context(|| format!("`{line}` is no number"))
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
