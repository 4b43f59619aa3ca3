//! `cargo xtask bench`: our workloads against the same in PyTorch, turn by turn in one run, or
//! against their own size.

use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitCode, Stdio};
use std::thread::available_parallelism;

use anyhow::{Context, Result, ensure};

use crate::cargo::{project_root, succeed};
use crate::forward::{build, keep_freed_memory};
use crate::python;

/// Units before the clock starts.
const WARM_UP: usize = 3;
const PACKAGES: [&str; 2] = ["torch", "numpy"];

/// Time our workloads against the same in PyTorch, in turn, and print a table of ratios.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  cargo xtask bench                            everything, PyTorch in an environment below target
  cargo xtask bench sample --repeats 15        sampling alone, medians of fifteen
  cargo xtask bench train --python python3     PyTorch of a Python that has it
  cargo xtask bench codec --against none       ours alone
  cargo xtask bench scaling --repeats 5        ours alone, against batch, length and width

The table is also written to target/bench.md. A ratio below 1 is ours being faster or smaller. `scaling`
puts what the arithmetic alone would take beside the times, and writes a table and charts to
target/scaling.")]
pub struct Args {
    /// Which workloads: train, sample, codec or all; or scaling
    #[arg(default_value = "all", value_parser = ["train", "sample", "codec", "all", "scaling"])]
    group: String,
    /// What to compare with: pytorch, or none to time ours alone
    #[arg(long, default_value = "pytorch", value_parser = ["pytorch", "none"])]
    against: String,
    /// Units that each median is taken over
    #[arg(long, default_value_t = 7)]
    repeats: usize,
    /// A Python that has torch; otherwise a virtual environment below target gets it
    #[arg(long)]
    python: Option<PathBuf>,
    /// Time torch.compile too
    #[arg(long)]
    compile: bool,
    /// Device of our side: cpu, wgpu, wgpu:N, cuda or cuda:N
    #[arg(long, default_value = "cpu")]
    device: String,
}

/// Whether a workload belongs to a group.
fn belongs(workload: &str, group: &str) -> bool {
    match group {
        "train" => workload.ends_with("-step") || workload.ends_with("-base"),
        "sample" => workload.starts_with("sample") || workload.ends_with("decode"),
        "codec" => workload.starts_with("speech"),
        _ => true,
    }
}

impl Args {
    /// Builds both sides and runs the workloads.
    pub fn run(self) -> Result<ExitCode> {
        ensure!(self.repeats > 0, "--repeats must be 1 or more");
        let binary = build(&self.device)?;
        if self.group == "scaling" {
            return self.scaling(&binary);
        }
        let python = self.python()?;
        let list = Command::new(&binary)
            .args(["bench-worker", "list"])
            .output();
        let list = list.with_context(|| format!("cannot start {}", binary.display()))?;
        let list = String::from_utf8(list.stdout)?;
        let mut table = Table::new(&self, python.as_deref())?;
        for workload in list.lines().filter(|name| belongs(name, &self.group)) {
            table.add(
                workload,
                &self.measure(workload, &binary, python.as_deref())?,
            );
        }
        let path = project_root().join("target/bench.md");
        std::fs::write(&path, &table.0)
            .with_context(|| format!("cannot write {}", path.display()))?;
        println!("written to {}", path.display());
        Ok(ExitCode::SUCCESS)
    }

    /// The Python that has PyTorch, if it is compared with.
    fn python(&self) -> Result<Option<PathBuf>> {
        Ok(match (self.against.as_str(), &self.python) {
            ("none", _) => None,
            (_, Some(python)) => Some(python.clone()),
            (_, None) => {
                let folder = project_root().join("target/bench-venv");
                Some(python::environment(&folder, &PACKAGES)?)
            }
        })
    }

    /// The binary does it: it counts operations and draws charts.
    fn scaling(&self, binary: &Path) -> Result<ExitCode> {
        let mut command = Command::new(binary);
        command.current_dir(project_root());
        command.args(["bench-scaling", "--device", &self.device]);
        command.args(["--repeats", &self.repeats.to_string()]);
        keep_freed_memory(&mut command);
        succeed(&mut command)?;
        Ok(ExitCode::SUCCESS)
    }

    /// Times of each side: ours, PyTorch, and PyTorch compiled if that is wanted.
    fn measure(
        &self,
        workload: &str,
        binary: &Path,
        python: Option<&Path>,
    ) -> Result<Vec<Measured>> {
        let mut ours = Command::new(binary);
        ours.args(["bench-worker", workload, "--device", &self.device]);
        keep_freed_memory(&mut ours);
        let mut ours = Side::start(&mut ours)?;
        let description = ours.line()?;
        let script = project_root().join("xtask/pytorch/bench.py");
        let mut sides = vec![ours];
        if let Some(python) = python {
            let theirs = |flags: &[&str]| {
                let mut command = Command::new(python);
                Side::start(command.arg(&script).arg(&description).args(flags))
            };
            sides.push(theirs(&[])?);
            if self.compile {
                sides.push(theirs(&["--compile"])?);
            }
        }
        let mut times = vec![Vec::with_capacity(self.repeats); sides.len()];
        for turn in 0..WARM_UP + self.repeats {
            for (side, times) in sides.iter_mut().zip(&mut times) {
                let time = side.ask("go")?;
                if turn >= WARM_UP {
                    times.push(time);
                }
            }
        }
        sides
            .iter_mut()
            .zip(times)
            .map(|(side, times)| {
                Ok(Measured {
                    milliseconds: median(times),
                    mebibytes: side.ask("memory")? / f64::from(1 << 20),
                })
            })
            .collect()
    }
}

/// What a workload took on one side.
struct Measured {
    milliseconds: f64,
    mebibytes: f64,
}

fn median(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    let middle = times.len() / 2;
    match times.len() % 2 {
        0 => (times[middle - 1] + times[middle]) / 2.0,
        _ => times[middle],
    }
}

/// A process that does one unit of work a line. Killed when dropped.
struct Side {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Side {
    fn start(command: &mut Command) -> Result<Self> {
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

    fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        let read = self.output.read_line(&mut line)?;
        ensure!(
            read > 0,
            "a side of the comparison ended; its error stands above"
        );
        Ok(line.trim().to_owned())
    }

    fn ask(&mut self, what: &str) -> Result<f64> {
        writeln!(self.input, "{what}")?;
        let line = self.line()?;
        line.parse()
            .with_context(|| format!("`{line}` is no number"))
    }
}

impl Drop for Side {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The table, in Markdown, printed as it grows.
struct Table(String);

impl Table {
    fn new(args: &Args, python: Option<&Path>) -> Result<Self> {
        let threads = available_parallelism()?;
        let mut table = Self(String::new());
        let (processor, device, repeats) = (processor(), &args.device, args.repeats);
        let Some(python) = python else {
            table.push(&format!(
                "{processor}, {threads} threads; ours on {device}; medians of {repeats}\n\n\
                 | workload | ours ms | ours MiB |\n|---|---:|---:|"
            ));
            return Ok(table);
        };
        let version = Command::new(python)
            .args(["-c", "import torch; print(torch.__version__)"])
            .output()
            .with_context(|| format!("cannot start {}", python.display()))?;
        let version = String::from_utf8_lossy(&version.stdout);
        table.push(&format!(
            "{processor}, {threads} threads; ours on {device}, PyTorch {} on the CPU; medians of \
             {repeats}\n",
            version.trim(),
        ));
        let compiled = if args.compile {
            " compiled ms | ratio |"
        } else {
            ""
        };
        let rule = if args.compile { "---:|---:|" } else { "" };
        table.push(&format!(
            "| workload | ours ms | PyTorch ms | ratio |{compiled} ours MiB | PyTorch MiB |\n\
             |---|---:|---:|---:|{rule}---:|---:|"
        ));
        Ok(table)
    }

    fn push(&mut self, line: &str) {
        println!("{line}");
        self.0.push_str(line);
        self.0.push('\n');
    }

    fn add(&mut self, workload: &str, sides: &[Measured]) {
        let ours = &sides[0];
        let mut line = format!("| {workload} | {:.2} |", ours.milliseconds);
        for theirs in &sides[1..] {
            let ratio = ours.milliseconds / theirs.milliseconds;
            let _ = write!(line, " {:.2} | {ratio:.2} |", theirs.milliseconds);
        }
        for side in sides.iter().take(2) {
            let _ = write!(line, " {:.0} |", side.mebibytes);
        }
        self.push(&line);
    }
}

/// The processor's name, where the system tells it.
fn processor() -> String {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name = info
        .lines()
        .find_map(|line| line.strip_prefix("model name"));
    let name = name.map(|rest| rest.trim_start_matches([' ', '\t', ':']));
    let wide = if info.contains(" avx512f") {
        " (AVX-512)"
    } else {
        ""
    };
    name.unwrap_or("an unnamed processor").to_owned() + wide
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_are_in_the_middle() {
        assert_eq!(median(vec![3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(vec![4.0, 1.0, 2.0, 3.0]), 2.5);
    }

    #[test]
    fn every_workload_belongs_to_a_group() {
        for workload in [
            "image-lm-step",
            "image-lm-step-base",
            "head-step",
            "sample-16",
            "speech-codec-step",
            "speech-decode",
        ] {
            let groups = ["train", "sample", "codec"];
            assert!(groups.iter().any(|group| belongs(workload, group)));
            assert!(belongs(workload, "all"));
        }
        assert!(!belongs("sample-16", "train"));
    }
}
