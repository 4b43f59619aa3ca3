//! Where a report comes from: when it was written, on which machine, by which version.

use std::fs;
use std::sync::OnceLock;
use std::thread::available_parallelism;

use time::OffsetDateTime;

static COMMIT: OnceLock<String> = OnceLock::new();

/// Names the commit that this program was built from, for reports. A program that knows it calls this once, at
/// its start; later calls change nothing.
pub fn name_commit(commit: impl Into<String>) {
    let _ = COMMIT.set(commit.into());
}

/// Time, machine and version of now, with their names.
pub(crate) fn origin() -> Vec<[String; 2]> {
    let mut version = format!("latentlm {}", env!("CARGO_PKG_VERSION"));
    if let Some(commit) = COMMIT.get() {
        version += &format!(", commit {commit}");
    }
    [
        ("written", utc(OffsetDateTime::now_utc())),
        ("on", machine()),
        ("by", version),
    ]
    .map(|(name, value)| [name.to_owned(), value])
    .to_vec()
}

/// Processor, threads and memory, as far as the system tells them.
fn machine() -> String {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let processor = value(&read("/proc/cpuinfo"), "model name");
    let processor = processor.unwrap_or_else(|| std::env::consts::ARCH.to_owned());
    let mut machine = format!("{processor}, {}", std::env::consts::OS);
    if let Ok(threads) = available_parallelism() {
        machine += &format!(", {threads} threads");
    }
    if let Some(bytes) = memory_bytes(&read("/proc/meminfo")) {
        machine += &format!(", {:.1} GiB of memory", bytes / f64::from(1 << 30));
    }
    machine
}

/// The first value of a name in lines of the form `name : value`.
fn value(lines: &str, name: &str) -> Option<String> {
    let mut pairs = lines.lines().filter_map(|line| line.split_once(':'));
    let (_, value) = pairs.find(|(found, _)| found.trim() == name)?;
    Some(value.trim().to_owned())
}

/// All memory, from the lines of `/proc/meminfo`, which count in KiB.
pub fn memory_bytes(lines: &str) -> Option<f64> {
    let total = value(lines, "MemTotal")?;
    let kib: f64 = total.split(' ').next()?.parse().ok()?;
    Some(kib * 1024.0)
}

/// Date and time, to the second.
fn utc(time: OffsetDateTime) -> String {
    let (hour, minute, second) = time.to_hms();
    let date = time.date();
    format!("{date} {hour:02}:{minute:02}:{second:02} UTC")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Dates of `date -u -d @SECONDS`.
    #[test]
    fn seconds_become_dates() {
        for (seconds, date) in [
            (0, "1970-01-01 00:00:00 UTC"),
            (951_782_400, "2000-02-29 00:00:00 UTC"),
            (1_709_251_199, "2024-02-29 23:59:59 UTC"),
            (1_709_251_200, "2024-03-01 00:00:00 UTC"),
            (4_102_444_799, "2099-12-31 23:59:59 UTC"),
        ] {
            let time = OffsetDateTime::from_unix_timestamp(seconds).unwrap();
            assert_eq!(utc(time), date);
        }
    }

    #[test]
    fn what_the_system_tells_is_read() {
        let processor = "processor\t: 0\nmodel name\t: A CPU: fast\nmodel name\t: B\n";
        assert_eq!(value(processor, "model name").unwrap(), "A CPU: fast");
        assert_eq!(value(processor, "model"), None);
        let memory = "MemTotal:       24684084 kB\nMemFree:  1 kB\n";
        assert_eq!(memory_bytes(memory), Some(24_684_084.0 * 1024.0));
        assert_eq!(memory_bytes(""), None);
    }

    #[test]
    fn an_origin_has_time_machine_and_version() {
        let rows = origin();
        let names: Vec<&str> = rows.iter().map(|row| row[0].as_str()).collect();
        assert_eq!(names, ["written", "on", "by"]);
        assert!(rows[0][1].ends_with(" UTC") && rows[0][1].as_str() > "2025");
        assert!(rows[1][1].contains(" threads"), "{}", rows[1][1]);
        let version = format!("latentlm {}", env!("CARGO_PKG_VERSION"));
        assert!(rows[2][1].starts_with(&version), "{}", rows[2][1]);
    }
}
