//! `cargo xtask bench`: times our workloads against the same in PyTorch, taking turns within one run, or for
//! several sizes.

use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitCode, Stdio};
use std::thread::available_parallelism;

use anyhow::{Context, Result, ensure};
use latentlm_args::{DeviceName, say, tell};

use crate::cargo::{project_root, succeed};
use crate::drivers::System;
use crate::forward::{build, keep_freed_memory};
use crate::python;

/// Number of untimed units at the start.
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
  cargo xtask bench train --against burn       ours without its kernels
  cargo xtask bench scaling --repeats 5        ours alone, against batch, length and width
  cargo xtask bench kernels                    each kernel against Burn's operations, on the CPU

The table is also written to target/bench.md. A ratio below 1 means that ours is faster or smaller; n/a
marks a side that failed, or that torch.compile does not support. `scaling` compares the times with those
of the arithmetic alone, and writes a table and charts to target/scaling; `kernels` also times a
checkpoint with and without checksums, and writes target/kernels.md.")]
pub struct Args {
    /// Workloads: train, sample, codec or all; or scaling, or kernels
    #[arg(default_value = "all", value_parser = ["train", "sample", "codec", "all", "scaling", "kernels"])]
    group: String,
    /// The other side: pytorch; burn, ours on Burn's operations alone; or none
    #[arg(long, default_value = "pytorch", value_parser = ["pytorch", "burn", "none"])]
    against: String,
    /// Number of units that each median is taken over
    #[arg(long, default_value_t = 7)]
    repeats: usize,
    /// A Python that has torch; otherwise a virtual environment below target gets it
    #[arg(long)]
    python: Option<PathBuf>,
    /// Time torch.compile too
    #[arg(long)]
    compile: bool,
    /// Device of our side: cpu, wgpu, vulkan or cuda; wgpu:N is the N-th. PyTorch runs on the CPU, or
    /// on the card where this is cuda
    #[arg(long, default_value = "cpu")]
    device: String,
}

/// Whether a workload belongs to a group.
fn belongs(workload: &str, group: &str) -> bool {
    match group {
        "train" => workload.ends_with("-step") || workload.ends_with("-base"),
        "sample" => workload.starts_with("sample") || workload.ends_with("decode"),
        "codec" => workload.contains("codec") || workload.ends_with("decode"),
        _ => true,
    }
}

impl Args {
    /// Builds both sides and runs the workloads.
    pub fn run(self) -> Result<ExitCode> {
        ensure!(self.repeats > 0, "--repeats must be 1 or more");
        System::here().check(&[DeviceName::parse(&self.device)?])?;
        let binary = build(&self.device)?;
        if self.group == "scaling" {
            return self.run_binary(&binary, &["bench-scaling", "--device", &self.device]);
        }
        if self.group == "kernels" {
            ensure!(
                self.device == "cpu",
                "the kernels are for the CPU: leave --device out"
            );
            return self.run_binary(&binary, &["bench-kernels"]);
        }
        let python = self.python()?;
        let list = Command::new(&binary)
            .args(["bench-worker", "list"])
            .output()
            .with_context(|| format!("cannot start {}", binary.display()))?;
        let list = String::from_utf8(list.stdout)?;
        let mut table = Table::new(&self, python.as_deref())?;
        let path = project_root().join("target/bench.md");
        for workload in list.lines().filter(|name| belongs(name, &self.group)) {
            table.add(
                workload,
                &self.measure(workload, &binary, python.as_deref()),
            );
            // Written after each row, so that an interrupted run leaves its results.
            std::fs::write(&path, &table.0)
                .with_context(|| format!("cannot write {}", path.display()))?;
        }
        say!("written to {}", path.display());
        Ok(ExitCode::SUCCESS)
    }

    /// The Python with PyTorch; `None` if PyTorch is not compared with.
    fn python(&self) -> Result<Option<PathBuf>> {
        Ok(match (self.against.as_str(), &self.python) {
            ("none" | "burn", _) => None,
            (_, Some(python)) => Some(python.clone()),
            (_, None) => {
                let folder = project_root().join("target/bench-venv");
                Some(python::environment(&folder, &PACKAGES)?)
            }
        })
    }

    /// Runs a benchmark command of the binary.
    fn run_binary(&self, binary: &Path, command_line: &[&str]) -> Result<ExitCode> {
        let mut command = Command::new(binary);
        command.current_dir(project_root());
        command.args(command_line);
        command.args(["--repeats", &self.repeats.to_string()]);
        keep_freed_memory(&mut command);
        succeed(&mut command)?;
        Ok(ExitCode::SUCCESS)
    }

    /// Measures a workload on each side: ours, then the others. `None` for a side that fails.
    fn measure(
        &self,
        workload: &str,
        binary: &Path,
        python: Option<&Path>,
    ) -> Vec<Option<Measured>> {
        let mut sides = self.sides(workload, binary, python);
        let mut times = vec![Vec::with_capacity(self.repeats); sides.len()];
        for turn in 0..WARM_UP + self.repeats {
            for (slot, times) in sides.iter_mut().zip(&mut times) {
                let Some(side) = slot else { continue };
                match reported(workload, side.ask("go")) {
                    Some(time) if turn >= WARM_UP => times.push(time),
                    Some(_) => {}
                    None => *slot = None,
                }
            }
        }
        let measured = sides.into_iter().zip(times).map(|(side, times)| {
            let bytes = reported(workload, side?.ask("memory"))?;
            Some(Measured {
                milliseconds: median(times),
                mebibytes: bytes / f64::from(1 << 20),
            })
        });
        measured.collect()
    }

    /// Starts a process of ours. Returns it with its description of the workload.
    fn own_side(&self, workload: &str, binary: &Path, flags: &[&str]) -> Result<(Side, String)> {
        let mut command = Command::new(binary);
        command.args(["bench-worker", workload, "--device", &self.device]);
        command.args(flags);
        keep_freed_memory(&mut command);
        let mut side = Side::start(&mut command)?;
        let description = side.line()?;
        Ok((side, description))
    }

    /// Starts the processes of a workload. Ours describes the workload to PyTorch's; if ours fails, PyTorch's
    /// are not started.
    fn sides(&self, workload: &str, binary: &Path, python: Option<&Path>) -> Vec<Option<Side>> {
        let ours = reported(workload, self.own_side(workload, binary, &[]));
        let script = project_root().join("xtask/pytorch/bench.py");
        let theirs = |flags: &[&str]| {
            let (python, (_, description)) = (python?, ours.as_ref()?);
            let mut command = Command::new(python);
            command.arg(&script).arg(description).args(flags);
            let side = Side::start(command.args(their_device(&self.device)));
            reported(workload, side)
        };
        let mut sides = Vec::new();
        if self.against == "burn" {
            let side = self.own_side(workload, binary, &["--without-kernels"]);
            sides.push(reported(workload, side).map(|(side, _)| side));
        }
        if python.is_some() {
            sides.push(theirs(&[]));
            if self.compile {
                sides.push(theirs(&["--compile"]));
            }
        }
        sides.insert(0, ours.map(|(ours, _)| ours));
        sides
    }
}

/// Arguments for PyTorch's device: the GPU if ours is CUDA, otherwise the CPU.
fn their_device(device: &str) -> &'static [&'static str] {
    match device.split(':').next() {
        Some("cuda") => &["--device", "cuda"],
        _ => &[],
    }
}

/// The value of a result; prints an error and returns `None`, so that the other sides go on.
fn reported<T>(workload: &str, result: Result<T>) -> Option<T> {
    result
        .inspect_err(|error| tell!("{workload}: {error:#}"))
        .ok()
}

/// Median time and peak memory of a workload on one side.
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

/// A process that does one unit of work per line of input. Killed when dropped.
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

/// The table in Markdown. Each row is printed when it is added.
struct Table(String);

impl Table {
    fn new(args: &Args, python: Option<&Path>) -> Result<Self> {
        let threads = available_parallelism()?;
        let mut table = Self(String::new());
        let (processor, device, repeats) = (processor(), &args.device, args.repeats);
        if args.against == "burn" {
            table.push(&format!(
                "{processor}, {threads} threads; ours on {device}, and on Burn's operations alone; \
                 medians of {repeats}\n\n\
                 | workload | ours ms | Burn's ms | ratio | ours MiB | Burn's MiB |\n\
                 |---|---:|---:|---:|---:|---:|"
            ));
            return Ok(table);
        }
        let Some(python) = python else {
            table.push(&format!(
                "{processor}, {threads} threads; ours on {device}; medians of {repeats}\n\n\
                 | workload | ours ms | ours MiB |\n|---|---:|---:|"
            ));
            return Ok(table);
        };
        let theirs = Command::new(python)
            .arg(project_root().join("xtask/pytorch/bench.py"))
            .arg("--describe")
            .args(their_device(&args.device))
            .output()
            .with_context(|| format!("cannot start {}", python.display()))?;
        let theirs = String::from_utf8_lossy(&theirs.stdout);
        table.push(&format!(
            "{processor}; ours on {device}, {threads} threads; {}; medians of {repeats}\n",
            theirs.trim(),
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
        say!("{line}");
        self.0.push_str(line);
        self.0.push('\n');
    }

    fn add(&mut self, workload: &str, sides: &[Option<Measured>]) {
        let milliseconds = |side: &Option<Measured>| side.as_ref().map(|side| side.milliseconds);
        let ours = milliseconds(&sides[0]);
        let mut line = format!("| {workload} | {} |", shown(ours, 2));
        for theirs in sides[1..].iter().map(milliseconds) {
            let ratio = ours.zip(theirs).map(|(ours, theirs)| ours / theirs);
            let _ = write!(line, " {} | {} |", shown(theirs, 2), shown(ratio, 2));
        }
        for side in sides.iter().take(2) {
            let mebibytes = side.as_ref().map(|side| side.mebibytes);
            let _ = write!(line, " {} |", shown(mebibytes, 0));
        }
        self.push(&line);
    }
}

/// A number of a table, or `n/a`.
fn shown(number: Option<f64>, digits: usize) -> String {
    match number {
        Some(number) => format!("{number:.digits$}"),
        None => "n/a".into(),
    }
}

/// The processor's name, if the system provides it.
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
    fn a_side_that_failed_leaves_the_others_numbers() {
        let side = |milliseconds| {
            Some(Measured {
                milliseconds,
                mebibytes: 8.0,
            })
        };
        let mut table = Table(String::new());
        table.add("work", &[side(3.0), side(2.0), None]);
        table.add("work", &[None, side(2.0), None]);
        assert_eq!(
            table.0,
            "| work | 3.00 | 2.00 | 1.50 | n/a | n/a | 8 | 8 |\n\
             | work | n/a | 2.00 | n/a | n/a | n/a | n/a | 8 |\n"
        );
    }

    #[test]
    fn every_workload_belongs_to_a_group() {
        for workload in [
            "image-lm-step",
            "image-lm-step-base",
            "head-step",
            "sample-16",
            "conv-codec-step",
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
