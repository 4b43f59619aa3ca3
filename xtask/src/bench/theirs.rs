//! PyTorch's side.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;
use latentlm_args::tell;

use super::side::Side;
use super::ways::{Way, other_ways};
use super::{Args, Cache, has_precisions, reported};
use crate::cargo::project_root;
use crate::forward::keep_freed_memory;

/// Units of a way in its trial.
const TRIAL_UNITS: usize = 5;

/// PyTorch's side of a workload.
pub(super) struct Theirs<'a> {
    pub(super) args: &'a Args,
    pub(super) python: &'a Path,
    pub(super) workload: &'a str,
    pub(super) description: &'a str,
}

impl Theirs<'_> {
    /// Eager, compiled and the fastest of a trial, as far as they are asked for.
    pub(super) fn ways(&self, cache: Cache) -> Vec<Way> {
        let mut ways = vec![Way::eager()];
        if self.args.peers != "eager" || self.args.compile {
            ways.push(Way::compiled());
        }
        if self.args.peers == "best" {
            let on_gpu = !self.args.their_device().is_empty();
            let mut tried = ways.clone();
            tried.extend(other_ways(self.workload, on_gpu));
            if let Some((way, milliseconds)) = self.fastest(tried, cache) {
                let variants = self.fastest(way.in_other_memory(self.python), cache);
                let faster = variants.filter(|(_, other)| *other < milliseconds);
                let best = faster.map_or(way, |(way, _)| way);
                if !ways.contains(&best) {
                    ways.push(best);
                }
            }
        }
        ways
    }

    /// Tries ways one after the other. Returns the fastest with its milliseconds.
    fn fastest(&self, ways: Vec<Way>, cache: Cache) -> Option<(Way, f64)> {
        let mut best: Option<(Way, f64)> = None;
        for way in ways {
            let name = format!("{}, {}", self.workload, way.name);
            let time = self.start(&way);
            let time = time.and_then(|mut side| side.median_alone(TRIAL_UNITS, cache));
            let Some(milliseconds) = reported(&name, time) else {
                continue;
            };
            tell!("{name}: {milliseconds:.2} ms alone");
            if best.as_ref().is_none_or(|(_, least)| milliseconds < *least) {
                best = Some((way, milliseconds));
            }
        }
        best
    }

    /// Starts a process.
    pub(super) fn start(&self, way: &Way) -> Result<Side> {
        let mut command = Command::new(self.python);
        command.arg(script()).arg(self.description);
        command.args(&way.flags).args(self.args.their_device());
        if self.args.precision == "bf16" && has_precisions(self.workload) {
            command.arg("--bf16");
        }
        if way.keeps_freed_memory {
            keep_freed_memory(&mut command);
        }
        if let Some(library) = &way.preload {
            command.env("LD_PRELOAD", library);
        }
        Side::start(&mut command)
    }
}

/// The script of PyTorch's side.
pub(super) fn script() -> PathBuf {
    project_root().join("xtask/pytorch/bench.py")
}
