//! `cargo xtask bench`: times our workloads against the same in PyTorch, taking turns within one run, or for
//! several sizes.

mod groups;
mod limits;
mod side;
mod table;
mod theirs;
mod ways;

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::thread::available_parallelism;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use latentlm_args::{DeviceName, say, tell};

use crate::cargo::{project_root, succeed};
use crate::drivers::System;
use crate::forward::{build, keep_freed_memory};
use crate::python;
use groups::{belongs, has_precisions, is_stream};
use limits::{Cost, Limit, Limits};
use side::{Measured, Side, median};
use table::{Column, Row, Table};
use theirs::{Theirs, script};
use ways::missing_libraries;

/// Pinned, so that times of one machine can be compared. torchao has no version for each of torch: this one wants 2.11 or
/// later for what it has compiled.
const PACKAGES: [&str; 3] = ["torch==2.15.0", "torchao==0.18.0", "numpy"];
/// Largest number of repetitions, as that of the commands that are started.
const MOST_REPEATS: usize = 100_000;
/// Pause before each timed unit: threads of the side before spin on for a while when their work is done, those of Intel's
/// OpenMP 200 ms.
const PAUSE: Duration = Duration::from_millis(300);

/// Time our workloads against the same in PyTorch, in turn, and print a table of ratios.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  cargo xtask bench                            everything, PyTorch in an environment below target
  cargo xtask bench sample --repeats 15        sampling alone, medians of fifteen
  cargo xtask bench train --only speech-codec  one workload
  cargo xtask bench train --python python3     PyTorch of a Python that has it
  cargo xtask bench train --peers eager        PyTorch without its compiler: minutes less
  cargo xtask bench train --precision bf16     bfloat16 on both sides, and ours beside our own float32
  cargo xtask bench codec --against none       ours alone
  cargo xtask bench attention                  a block over 16,384 positions, forward and backward
  cargo xtask bench train --against burn       ours without its kernels
  cargo xtask bench probe                      what this machine can do
  cargo xtask bench scaling --repeats 5        ours alone, against batch, length and width
  cargo xtask bench kernels                    each kernel against Burn's operations, on the CPU

The table is also written to target/bench.md. PyTorch is eager, compiled, and the best of several ways that
are tried first: optimizers, layouts, processes, threads, allocators. The ratio is that of our time to the
best; below 1 ours is faster. The limit is the least time of the work's operations or bytes on this machine,
as `probe` measures it, for bfloat16 and int8 by our own products; it is met by what takes 1.2 of it or less.
n/a marks a side that failed; ways that are not there are named. `scaling` compares the times with those of
the arithmetic alone, and writes a table and charts to target/scaling; `kernels` also times single products
against the limits, and a checkpoint with and without checksums, and writes target/kernels.md.")]
pub struct Args {
    /// Workloads: train, sample, codec, decode, attention or all; or probe, scaling, or kernels
    #[arg(
        default_value = "all",
        value_parser = [
            "train", "sample", "codec", "decode", "attention", "all", "probe", "scaling", "kernels"
        ]
    )]
    group: String,
    /// Of these, the workloads whose names contain this, such as speech-codec
    #[arg(
        long,
        value_name = "NAME",
        default_value = "",
        hide_default_value = true
    )]
    only: String,
    /// The other side: pytorch; burn, ours on Burn's operations alone; or none
    #[arg(long, default_value = "pytorch", value_parser = ["pytorch", "burn", "none"])]
    against: String,
    /// How PyTorch is written: eager; compiled, which is eager and compiled; or best, which tries more ways
    #[arg(long, default_value = "best", value_parser = ["eager", "compiled", "best"])]
    peers: String,
    /// Number of units that each median is taken over
    #[arg(long, default_value_t = 7)]
    repeats: usize,
    /// A Python that has torch; otherwise a virtual environment below target gets it
    #[arg(long)]
    python: Option<PathBuf>,
    /// Time torch.compile too: what `--peers` does unless it is eager
    #[arg(long)]
    compile: bool,
    /// Precision of the matrix products in training, of both sides: f32 or bf16
    #[arg(long, default_value = "f32", value_parser = ["f32", "bf16"])]
    precision: String,
    /// Device of our side: cpu, wgpu, vulkan or cuda; wgpu:N is the N-th. PyTorch runs on the CPU, or
    /// on the card where this is cuda
    #[arg(long, default_value = "cpu")]
    device: String,
}

/// The name of our own side in float32, in a run in bfloat16.
const FLOAT32: &str = "float32";
/// What both sides round in the rows of quantized weights.
const ROUNDED_ROWS: &str = "backbone-int8, backbone-int4: ours rounds activations to int8 too; PyTorch's ways round \
    weights only, except dynamic and rounded rows";

/// What the processor's caches hold when a unit is timed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cache {
    /// What the other sides left: they take turns.
    AsLeft,
    /// What this side's units before left.
    Hot,
    /// Nothing of the workload.
    Cold,
}

impl Cache {
    /// The word that both sides know.
    fn word(self) -> &'static str {
        match self {
            Self::AsLeft => "go",
            Self::Hot => "hot",
            Self::Cold => "cold",
        }
    }

    /// The states in which a workload is timed. Of a stream, whose units are short or come between others, both
    /// ends are.
    fn states(workload: &str) -> &'static [Self] {
        if is_stream(workload) {
            &[Self::Hot, Self::Cold]
        } else {
            &[Self::AsLeft]
        }
    }

    /// The name of a row.
    fn row(self, workload: &str) -> String {
        match self {
            Self::AsLeft => workload.to_owned(),
            Self::Hot | Self::Cold => format!("{workload}, {}", self.word()),
        }
    }
}

impl Args {
    /// Builds both sides and runs the workloads.
    pub fn run(self) -> Result<ExitCode> {
        ensure!(
            (1..=MOST_REPEATS).contains(&self.repeats),
            "--repeats must be 1 to {MOST_REPEATS}"
        );
        System::here().check(&[DeviceName::parse(&self.device)?])?;
        for (group, subject) in [("probe", "the probe is"), ("kernels", "the kernels are")] {
            ensure!(
                self.group != group || self.device == "cpu",
                "{subject} for the CPU: leave --device out"
            );
        }
        let binary = build(&self.device)?;
        let repeats = self.repeats.to_string();
        match self.group.as_str() {
            "probe" => run_binary(&binary, &["bench-probe"]),
            "scaling" => {
                let words = ["bench-scaling", "--device", self.device.as_str()];
                run_binary(&binary, &[&words[..], &["--repeats", &repeats]].concat())
            }
            "kernels" => run_binary(&binary, &["bench-kernels", "--repeats", &repeats]),
            _ => self.compare(&binary),
        }
    }

    /// Runs the workloads of a group on each side.
    fn compare(&self, binary: &Path) -> Result<ExitCode> {
        let list = Command::new(binary)
            .args(["bench-worker", "list"])
            .output()
            .with_context(|| format!("cannot start {}", binary.display()))?;
        let list = String::from_utf8(list.stdout)?;
        let chosen = self.chosen(&list)?;
        // Last of what can fail: it may install for minutes.
        let python = self.python()?;
        // Other devices have other limits.
        let limits = if self.device == "cpu" {
            Limits::probe(binary)?
        } else {
            Limits::default()
        };
        let comparison = Comparison {
            args: self,
            binary,
            python: python.as_deref(),
            limits,
        };
        let mut table = comparison.head()?;
        let path = project_root().join("target/bench.md");
        for workload in chosen {
            for &cache in Cache::states(workload) {
                let row = comparison.measure(workload, cache);
                table.push(&if python.is_some() {
                    row.against_pytorch()
                } else {
                    row.of_ours()
                });
                // Written after each row, so that an interrupted run leaves its results.
                std::fs::write(&path, &table.0)
                    .with_context(|| format!("cannot write {}", path.display()))?;
            }
        }
        say!("written to {}", path.display());
        Ok(ExitCode::SUCCESS)
    }

    /// The workloads that are asked for, of a list with a name on each line.
    fn chosen<'a>(&self, list: &'a str) -> Result<Vec<&'a str>> {
        let is_chosen = |name: &&str| belongs(name, &self.group) && name.contains(&self.only);
        let chosen: Vec<_> = list.lines().filter(is_chosen).collect();
        ensure!(
            !chosen.is_empty(),
            "no workload of {} has {:?} in its name; there are {}",
            self.group,
            self.only,
            list.lines().collect::<Vec<_>>().join(", ")
        );
        Ok(chosen)
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

    /// Arguments for PyTorch's device: the GPU if ours is CUDA, otherwise the CPU.
    fn their_device(&self) -> &'static [&'static str] {
        match self.device.split(':').next() {
            Some("cuda") => &["--device", "cuda"],
            _ => &[],
        }
    }
}

/// Runs a benchmark command of the binary.
fn run_binary(binary: &Path, command_line: &[&str]) -> Result<ExitCode> {
    let mut command = Command::new(binary);
    command.current_dir(project_root());
    command.args(command_line);
    keep_freed_memory(&mut command);
    succeed(&mut command)?;
    Ok(ExitCode::SUCCESS)
}

/// A run against another side.
struct Comparison<'a> {
    args: &'a Args,
    binary: &'a Path,
    python: Option<&'a Path>,
    limits: Limits,
}

/// A workload under way: our process, and what describes the work to others.
struct Ours {
    side: Side,
    description: String,
    limit: Option<Limit>,
}

impl Comparison<'_> {
    /// Measures a workload on each side. If ours fails, PyTorch's are not started: ours describes the workload.
    fn measure(&self, workload: &str, cache: Cache) -> Row {
        let ours = reported(workload, self.ours(workload, cache));
        let limit = ours.as_ref().and_then(|ours| ours.limit);
        let mut sides = vec![(String::new(), None)];
        if let Some(ours) = ours {
            if self.rounds() && has_precisions(workload) {
                let exact = reported(workload, self.own_side(workload, "f32", &[]));
                sides.push((FLOAT32.to_owned(), exact.map(|(side, _)| side)));
            }
            sides.extend(self.other_sides(workload, cache, &ours.description));
            sides[0].1 = Some(ours.side);
        }
        let names: Vec<String> = sides.iter().map(|(name, _)| name.clone()).collect();
        let sides = sides.into_iter().map(|(_, side)| side).collect();
        let mut measured = self.take_turns(workload, cache, sides).into_iter();
        let ours = measured.next().flatten();
        let others = names.into_iter().skip(1).zip(measured);
        let others = others.map(|(name, measured)| Column { name, measured });
        let (mut exact, others): (Vec<_>, Vec<_>) =
            others.partition(|column| column.name == FLOAT32);
        let missing = Column {
            name: FLOAT32.to_owned(),
            measured: None,
        };
        Row {
            workload: cache.row(workload),
            ours,
            exact: self.rounds().then(|| exact.pop().unwrap_or(missing)),
            others,
            limit,
        }
    }

    /// Whether training has products in bfloat16.
    fn rounds(&self) -> bool {
        self.args.precision == "bf16"
    }

    /// Times all sides unit by unit in turn. `None` for a side that fails.
    fn take_turns(
        &self,
        workload: &str,
        cache: Cache,
        mut sides: Vec<Option<Side>>,
    ) -> Vec<Option<Measured>> {
        let mut memory = vec![None; sides.len()];
        for (slot, memory) in sides.iter_mut().zip(&mut memory) {
            let Some(side) = slot else { continue };
            // Asked before the first cold unit, whose emptying of caches takes memory too.
            let warm = side.warm_up().and_then(|()| side.mebibytes());
            *memory = reported(workload, warm);
            if memory.is_none() {
                *slot = None;
            }
        }
        let mut times = vec![Vec::with_capacity(self.args.repeats); sides.len()];
        for _ in 0..self.args.repeats {
            for (slot, times) in sides.iter_mut().zip(&mut times) {
                let Some(side) = slot else { continue };
                std::thread::sleep(PAUSE);
                match reported(workload, side.ask(cache.word())) {
                    Some(time) => times.push(time),
                    None => *slot = None,
                }
            }
        }
        let measured = sides.into_iter().zip(times).zip(memory);
        measured
            .map(|((side, times), mebibytes)| {
                // Without a side there are too few times.
                side?;
                Some(Measured {
                    milliseconds: median(times),
                    mebibytes: mebibytes?,
                })
            })
            .collect()
    }

    /// Starts our process.
    fn ours(&self, workload: &str, cache: Cache) -> Result<Ours> {
        let (mut side, description) = self.own_side(workload, &self.args.precision, &[])?;
        let cost = Cost::read(&side.ask_line("cost")?)?;
        Ok(Ours {
            side,
            description,
            limit: self.limits.of(cost, cache),
        })
    }

    /// Starts a process of ours, which trains in `precision`. Returns it with its description of the workload.
    fn own_side(&self, workload: &str, precision: &str, flags: &[&str]) -> Result<(Side, String)> {
        let mut command = Command::new(self.binary);
        command.args(["bench-worker", workload, "--device", &self.args.device]);
        if has_precisions(workload) {
            command.args(["--precision", precision]);
        }
        command.args(flags);
        keep_freed_memory(&mut command);
        let mut side = Side::start(&mut command)?;
        let description = side.line()?;
        Ok((side, description))
    }

    /// Starts the other processes of a workload.
    fn other_sides(
        &self,
        workload: &str,
        cache: Cache,
        description: &str,
    ) -> Vec<(String, Option<Side>)> {
        if self.args.against == "burn" {
            let side = self.own_side(workload, &self.args.precision, &["--without-kernels"]);
            let side = reported(workload, side).map(|(side, _)| side);
            return vec![("Burn".to_owned(), side)];
        }
        let Some(python) = self.python else {
            return Vec::new();
        };
        let theirs = Theirs {
            args: self.args,
            python,
            workload,
            description,
        };
        let started = theirs.ways(cache).into_iter().map(|way| {
            let side = reported(&format!("{workload}, {}", way.name), theirs.start(&way));
            (way.name, side)
        });
        started.collect()
    }

    /// The table with its head.
    fn head(&self) -> Result<Table> {
        let args = self.args;
        let threads = available_parallelism()?;
        let mut table = Table::default();
        let (processor, device, repeats) = (processor(), &args.device, args.repeats);
        let limits = self.limits.line();
        let (own, align) = if self.rounds() {
            ("ours ms | ours f32 ms | to f32", "---:|---:|---:")
        } else {
            ("ours ms", "---:")
        };
        if args.against == "burn" {
            table.push(&format!(
                "{processor}, {threads} threads; ours on {device}, and on Burn's operations alone; \
                 medians of {repeats}\n\n{limits}\n\n\
                 | workload | {own} | Burn's ms | ratio | limit ms | of | over it | met by limit | ours MiB | Burn's MiB |\n\
                 |---|{align}|---:|---:|---:|---|---:|---|---:|---:|"
            ));
            return Ok(table);
        }
        let Some(python) = self.python else {
            table.push(&format!(
                "{processor}, {threads} threads; ours on {device}; medians of {repeats}\n\n{limits}\n\n\
                 | workload | {own} | limit ms | of | over it | met by limit | ours MiB |\n\
                 |---|{align}|---:|---|---:|---|---:|"
            ));
            return Ok(table);
        };
        let theirs = Command::new(python)
            .arg(script())
            .arg("--describe")
            .args(args.their_device())
            .output()
            .with_context(|| format!("cannot start {}", python.display()))?;
        let theirs = String::from_utf8_lossy(&theirs.stdout);
        let missing = missing_libraries(python).join(", ");
        let left_out = if missing.is_empty() || args.peers != "best" {
            String::new()
        } else {
            format!("; libraries left out, since they are not installed: {missing}")
        };
        table.push(&format!(
            "{processor}; ours on {device}, {threads} threads; {}; medians of {repeats}{left_out}\n\n\
             {limits}\n\n{ROUNDED_ROWS}\n\n\
             | workload | {own} | eager ms | compiled ms | best ms | best is | ratio | limit ms | of | over it \
             | met by limit | ours MiB | eager MiB | best MiB |\n\
             |---|{align}|---:|---:|---:|---|---:|---:|---|---:|---|---:|---:|---:|",
            theirs.trim(),
        ));
        Ok(table)
    }
}

/// The value of a result; prints an error and returns `None`, so that the other sides go on.
fn reported<T>(workload: &str, result: Result<T>) -> Option<T> {
    result
        .inspect_err(|error| tell!("{workload}: {error:#}"))
        .ok()
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
    fn every_workload_belongs_to_a_group() {
        for workload in [
            "image-lm-step",
            "image-lm-step-base",
            "head-step",
            "sample-16",
            "conv-codec-step",
            "speech-codec-step",
            "speech-decode",
            "backbone-int8",
            "codec-encode-f32",
            "attention-16k",
        ] {
            let groups = ["train", "sample", "codec", "decode", "attention"];
            assert!(groups.iter().any(|group| belongs(workload, group)));
            assert!(belongs(workload, "all"));
        }
        assert!(!belongs("sample-16", "train"));
        assert!(belongs("codec-both-bf16", "codec") && belongs("codec-both-bf16", "decode"));
    }

    #[test]
    fn one_workload_of_a_group_can_be_chosen() {
        use clap::Parser;
        #[derive(Parser)]
        struct Typed {
            #[command(flatten)]
            args: Args,
        }
        let list = "image-lm-step\nspeech-codec-step\nsample-64";
        let chosen = |words: &[&str]| {
            let words = ["bench"].iter().chain(words);
            let names = Typed::parse_from(words).args.chosen(list);
            names.map_err(|error| error.to_string())
        };
        assert_eq!(chosen(&[]).unwrap().len(), 3);
        assert_eq!(chosen(&["train"]).unwrap().len(), 2);
        let speech = chosen(&["train", "--only", "speech"]).unwrap();
        assert_eq!(speech, ["speech-codec-step"]);
        let told = chosen(&["sample", "--only", "speech"]).unwrap_err();
        assert!(
            told.contains("no workload of sample has \"speech\""),
            "{told}"
        );
    }

    #[test]
    fn streams_are_timed_hot_and_cold() {
        let rows = |workload| {
            let states = Cache::states(workload).iter();
            states.map(|cache| cache.row(workload)).collect::<Vec<_>>()
        };
        assert_eq!(
            rows("speech-decode"),
            ["speech-decode, hot", "speech-decode, cold"]
        );
        assert_eq!(rows("sample-16"), ["sample-16"]);
        assert_eq!(rows("conv-codec-step"), ["conv-codec-step"]);
        assert_eq!(
            rows("codec-both-bf16"),
            ["codec-both-bf16, hot", "codec-both-bf16, cold"]
        );
    }
}
