//! The least time that a unit of work takes on this machine.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::Cache;
use crate::forward::keep_freed_memory;

/// What the machine can do, as `bench-probe` measures it. 0 stands for what is not known.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(super) struct Limits {
    operations_per_s: f64,
    bf16_operations_per_s: f64,
    int8_operations_per_s: f64,
    bytes_per_s: f64,
    one_core_bytes_per_s: f64,
    /// Bytes of the largest cache.
    cache_bytes: f64,
    /// Bytes that the rates of bytes were measured with.
    read_bytes: f64,
}

/// Lower bounds of what a unit of work computes, reads and writes, as `bench-worker` counts it.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(super) struct Cost {
    operations: f64,
    bf16_operations: f64,
    int8_operations: f64,
    /// Bytes, those that are read again counted again.
    bytes: f64,
    /// Bytes, each counted once.
    distinct_bytes: f64,
}

/// The least time of a unit of work.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Limit {
    pub(super) milliseconds: f64,
    /// What takes that time: `operations` or `bytes`.
    pub(super) of: &'static str,
}

/// A number of a JSON object; 0 if it is not there.
fn number(object: &Value, name: &str) -> f64 {
    object[name].as_f64().unwrap_or(0.0)
}

impl Limits {
    /// Measures this machine; takes about half a minute.
    pub(super) fn probe(binary: &Path) -> Result<Self> {
        let mut command = Command::new(binary);
        command.args(["bench-probe", "--json"]);
        keep_freed_memory(&mut command);
        let output = command
            .output()
            .with_context(|| format!("cannot start {}", binary.display()))?;
        ensure!(
            output.status.success(),
            "bench-probe failed: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        );
        Self::read(&String::from_utf8(output.stdout)?)
    }

    fn read(line: &str) -> Result<Self> {
        let found: Value = serde_json::from_str(line.trim())
            .with_context(|| format!("`{}` are no limits", line.trim()))?;
        Ok(Self {
            operations_per_s: number(&found, "operations_per_s"),
            bf16_operations_per_s: number(&found, "bf16_operations_per_s"),
            int8_operations_per_s: number(&found, "int8_operations_per_s"),
            bytes_per_s: number(&found, "bytes_per_s"),
            one_core_bytes_per_s: number(&found, "one_core_bytes_per_s"),
            cache_bytes: number(&found, "cache_bytes"),
            read_bytes: number(&found, "read_bytes"),
        })
    }

    /// The limits in words.
    pub(super) fn line(&self) -> String {
        if *self == Self::default() {
            return "limits were not measured: they are those of a CPU".to_owned();
        }
        format!(
            "limits: {:.0} GFLOP/s in float32, {:.0} in bfloat16, {:.0} in int8; {:.1} GB/s on one core, {:.1} GB/s on all. \
             Those of bfloat16 and int8 are our own products': a processor may do more. Float32 and bytes are the best of \
             our products, a loop of fused multiply-adds, and a loop of sums{}",
            self.operations_per_s / 1e9,
            self.bf16_operations_per_s / 1e9,
            self.int8_operations_per_s / 1e9,
            self.one_core_bytes_per_s / 1e9,
            self.bytes_per_s / 1e9,
            self.of_a_cache()
        )
    }

    /// What is added if a large cache may hold some of the bytes that were read.
    fn of_a_cache(&self) -> String {
        if self.read_bytes >= 4.0 * self.cache_bytes {
            return String::new();
        }
        let mebibytes = |bytes: f64| bytes / f64::from(1 << 20);
        format!(
            ". {:.0} MiB were read, and the system reports a cache of {:.0} MiB: memory may be slower",
            mebibytes(self.read_bytes),
            mebibytes(self.cache_bytes)
        )
    }

    /// The least time of a unit of work: that of its operations or that of its bytes, whichever is longer. Bytes that
    /// fit in the largest cache are read from memory once, and not at all if it is hot. `None` if what it needs was not
    /// measured.
    pub(super) fn of(&self, cost: Cost, cache: Cache) -> Option<Limit> {
        let mut operations = 0.0;
        for (count, rate) in [
            (cost.operations, self.operations_per_s),
            (cost.bf16_operations, self.bf16_operations_per_s),
            (cost.int8_operations, self.int8_operations_per_s),
        ] {
            if count > 0.0 {
                operations += 1e3 * count / measured(rate)?;
            }
        }
        let fits = cost.distinct_bytes <= self.cache_bytes;
        let bytes = if fits && cache == Cache::Hot {
            0.0
        } else {
            let read = if fits {
                cost.distinct_bytes
            } else {
                cost.bytes
            };
            1e3 * read / measured(self.bytes_per_s)?
        };
        let (milliseconds, of) = if bytes > operations {
            (bytes, "bytes")
        } else {
            (operations, "operations")
        };
        (milliseconds > 0.0).then_some(Limit { milliseconds, of })
    }
}

fn measured(rate: f64) -> Option<f64> {
    (rate > 0.0).then_some(rate)
}

impl Cost {
    /// Reads what `bench-worker` answers.
    pub(super) fn read(line: &str) -> Result<Self> {
        let found: Value =
            serde_json::from_str(line).with_context(|| format!("`{line}` is no cost"))?;
        Ok(Self {
            operations: number(&found, "operations"),
            bf16_operations: number(&found, "bf16_operations"),
            int8_operations: number(&found, "int8_operations"),
            bytes: number(&found, "bytes"),
            distinct_bytes: number(&found, "distinct_bytes"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits {
        operations_per_s: 2e9,
        bf16_operations_per_s: 4e9,
        int8_operations_per_s: 0.0,
        bytes_per_s: 1e9,
        one_core_bytes_per_s: 5e8,
        cache_bytes: 3e7,
        read_bytes: 1.2e8,
    };

    #[test]
    fn the_longer_of_operations_and_bytes_is_the_limit() {
        let cost = |operations, bf16_operations, bytes| Cost {
            operations,
            bf16_operations,
            bytes,
            distinct_bytes: bytes,
            ..Cost::default()
        };
        for (cost, milliseconds, of) in [
            (cost(4e9, 0.0, 5e8), 2000.0, "operations"),
            (cost(4e9, 8e9, 5e8), 4000.0, "operations"),
            (cost(4e8, 0.0, 5e8), 500.0, "bytes"),
        ] {
            let limit = Limit { milliseconds, of };
            assert_eq!(LIMITS.of(cost, Cache::AsLeft), Some(limit));
        }
        assert_eq!(LIMITS.of(Cost::default(), Cache::AsLeft), None);
    }

    #[test]
    fn a_hot_cache_gives_what_fits_in_it() {
        // Each byte is read twice.
        let cost = |distinct_bytes| Cost {
            operations: 2e6,
            bytes: 2.0 * distinct_bytes,
            distinct_bytes,
            ..Cost::default()
        };
        let milliseconds = |bytes, cache| LIMITS.of(cost(bytes), cache).unwrap().milliseconds;
        assert_eq!(milliseconds(2e7, Cache::Hot), 1.0);
        assert_eq!(milliseconds(2e7, Cache::Cold), 20.0);
        assert_eq!(milliseconds(2e7, Cache::AsLeft), 20.0);
        assert_eq!(milliseconds(4e7, Cache::Hot), 80.0);
    }

    #[test]
    fn what_was_not_measured_is_no_limit() {
        let cost = Cost {
            int8_operations: 1e9,
            bytes: 1e9,
            ..Cost::default()
        };
        assert_eq!(LIMITS.of(cost, Cache::AsLeft), None);
    }

    #[test]
    fn a_cache_that_may_have_been_measured_is_named() {
        assert!(!LIMITS.line().contains("MiB"), "{}", LIMITS.line());
        let large = Limits {
            cache_bytes: f64::from(480 << 20),
            read_bytes: f64::from(1 << 30),
            ..LIMITS
        };
        let told =
            ". 1024 MiB were read, and the system reports a cache of 480 MiB: memory may be slower";
        assert!(large.line().ends_with(told), "{}", large.line());
    }

    #[test]
    fn numbers_are_read_by_their_names() {
        let limits = r#"{"operations_per_s":2e9,"bf16_operations_per_s":4e9,"int8_operations_per_s":0.0,
            "bytes_per_s":1e9,"one_core_bytes_per_s":5e8,"cache_bytes":3e7,"read_bytes":1.2e8}"#;
        assert_eq!(Limits::read(limits).unwrap(), LIMITS);
        let cost = Cost::read(
            r#"{"operations":1.0,"bf16_operations":2.0,"int8_operations":3.0,"bytes":4.0,"distinct_bytes":5.0}"#,
        );
        let expected = Cost {
            operations: 1.0,
            bf16_operations: 2.0,
            int8_operations: 3.0,
            bytes: 4.0,
            distinct_bytes: 5.0,
        };
        assert_eq!(cost.unwrap(), expected);
        assert!(Cost::read("no cost").is_err());
    }
}
