//! What is to be read: from the environment, by which `cargo xtask fuzz` says it.

use std::env;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use latentlm_tests::fuzz::{Target, target, targets};

/// Damaged inputs of a usual target in the smoke test.
const SMOKE_INPUTS: usize = 120;

/// What is to be read.
pub struct Plan {
    /// Damaged inputs of a usual target.
    pub inputs: usize,
    /// Other seeds, other damage.
    pub seed: u64,
    /// One target alone.
    target: Option<String>,
    /// Whether this is `cargo xtask fuzz`: all targets, also those that are known to fail, and a table.
    full: bool,
}

impl Plan {
    pub fn of_environment() -> Self {
        let inputs = number("LATENTLM_FUZZ_INPUTS");
        Self {
            inputs: inputs.map_or(SMOKE_INPUTS, |count| count as usize),
            seed: number("LATENTLM_FUZZ_SEED").unwrap_or(1),
            target: env::var("LATENTLM_FUZZ_TARGET").ok(),
            full: env::var_os("LATENTLM_FUZZ_FULL").is_some(),
        }
    }

    pub fn targets(&self) -> Vec<Target> {
        if let Some(name) = &self.target {
            let names: Vec<&str> = targets().iter().map(|target| target.name).collect();
            let known = names.join(", ");
            let one =
                target(name).unwrap_or_else(|| panic!("no target `{name}`; there are {known}"));
            return vec![one];
        }
        targets()
    }

    /// Prints a line of the table, past the test runner, which keeps what tests print.
    pub fn show(&self, line: &str) {
        if self.full {
            writeln!(io::stdout(), "{line}").expect("standard output is open");
        }
    }
}

/// A number in the environment.
fn number(name: &str) -> Option<u64> {
    let text = env::var(name).ok()?;
    let number = text.parse();
    Some(number.unwrap_or_else(|_| panic!("{name} must be a whole number, not `{text}`")))
}

/// Where the inputs of a target that failed lie.
pub fn failures(target: &str) -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR"))
        .join("fuzz")
        .join(target)
}
