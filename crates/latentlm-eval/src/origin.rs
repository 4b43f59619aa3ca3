//! Where a run comes from, for its report: when it was trained and evaluated, on which machine and device, by which version.

use std::fs;
use std::path::Path;
use std::sync::OnceLock;
use std::thread::available_parallelism;

use burn::tensor::Device;
use latentlm::adapter_name;
use latentlm::core::bundle::write_atomically;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use crate::error::Result;

/// Name of the list of a run's origins in its folder: a line of JSON each.
const FILE: &str = "origins.jsonl";

static COMMIT: OnceLock<String> = OnceLock::new();

/// Names the commit that this program was built from, for reports. A program that knows it calls this once, at
/// its start; later calls change nothing.
pub fn name_commit(commit: impl Into<String>) {
    let _ = COMMIT.set(commit.into());
}

/// What is done to a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Work {
    /// It is trained.
    Training,
    /// It is evaluated.
    Evaluation,
}

/// Where and by which version something was done to a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Origin {
    work: Work,
    /// When a training began there, or an evaluation ended.
    time: String,
    machine: String,
    device: String,
    version: String,
}

impl Origin {
    /// The same work of the same version on the same machine and device.
    fn is_like(&self, other: &Self) -> bool {
        let same_time = Self {
            time: other.time.clone(),
            ..self.clone()
        };
        same_time == *other
    }
}

/// Keeps in a run's folder, for its report, where and by which version it is trained or was evaluated. Of its training, the
/// beginning and each change of machine, devices or version are kept; of evaluations the last, whose measurements are there.
///
/// # Errors
/// If the list can't be written.
pub fn keep_origin<'a>(
    run: &Path,
    work: Work,
    devices: impl IntoIterator<Item = &'a Device>,
) -> Result<()> {
    let now = Origin {
        work,
        time: utc(OffsetDateTime::now_utc()),
        machine: machine(),
        device: names(devices.into_iter().map(adapter_name)),
        version: version(),
    };
    keep(&run.join(FILE), now)
}

fn keep(path: &Path, now: Origin) -> Result<()> {
    let mut kept = read(path);
    match now.work {
        Work::Training => {
            let last = kept.iter().rfind(|own| own.work == now.work);
            if last.is_some_and(|last| last.is_like(&now)) {
                return Ok(());
            }
        }
        Work::Evaluation => kept.retain(|own| own.work != now.work),
    }
    kept.push(now);
    let lines = kept
        .iter()
        .filter_map(|own| serde_json::to_string(own).ok());
    let text: String = lines.map(|line| line + "\n").collect();
    Ok(write_atomically(path, text.as_bytes())?)
}

/// The origins in a list. Lines that can't be read are left out: they only describe the run.
fn read(path: &Path) -> Vec<Origin> {
    let is_regular = path.is_file();
    let bytes = is_regular.then(|| fs::read(path).unwrap_or_default());
    let text = String::from_utf8_lossy(&bytes.unwrap_or_default()).into_owned();
    let origins = text.lines().map(serde_json::from_str);
    origins.filter_map(std::result::Result::ok).collect()
}

/// What is kept of a run's origins, a row each: what was done and when, machine, device, version.
pub(crate) fn kept(run: &Path) -> Vec<[String; 4]> {
    let mut rows = Vec::new();
    for origin in read(&run.join(FILE)) {
        let time = &origin.time;
        let what = match origin.work {
            Work::Training => format!("training since {time}"),
            Work::Evaluation => format!("evaluation of {time}"),
        };
        rows.push([what, origin.machine, origin.device, origin.version]);
    }
    rows
}

/// Names in one line, each once with its number.
fn names(names: impl Iterator<Item = String>) -> String {
    let mut counted: Vec<(String, usize)> = Vec::new();
    for name in names {
        match counted.iter_mut().find(|(known, _)| *known == name) {
            Some((_, count)) => *count += 1,
            None => counted.push((name, 1)),
        }
    }
    let told = counted.into_iter().map(|(name, count)| {
        if count == 1 {
            name
        } else {
            format!("{count} x {name}")
        }
    });
    told.collect::<Vec<String>>().join(", ")
}

/// Time, machine and version of now, with their names.
pub(crate) fn origin() -> Vec<[String; 2]> {
    [
        ("written", utc(OffsetDateTime::now_utc())),
        ("on", machine()),
        ("by", version()),
    ]
    .map(|(name, value)| [name.to_owned(), value])
    .to_vec()
}

fn version() -> String {
    let mut version = format!("latentlm {}", env!("CARGO_PKG_VERSION"));
    if let Some(commit) = COMMIT.get() {
        version += &format!(", commit {commit}");
    }
    version
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

    fn origin_of(work: Work, time: &str, machine: &str) -> Origin {
        Origin {
            work,
            time: time.into(),
            machine: machine.into(),
            device: "a card".into(),
            version: "latentlm 1".into(),
        }
    }

    /// What was done elsewhere stays when the run is trained, evaluated and shown here.
    #[test]
    fn a_run_keeps_where_it_was_trained_and_evaluated_last() {
        use Work::{Evaluation, Training};

        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(FILE);
        assert!(kept(dir.path()).is_empty());
        for (work, time, machine) in [
            (Training, "1", "there"),
            (Training, "2", "there"),
            (Evaluation, "3", "here"),
            (Training, "4", "there"),
            (Evaluation, "5", "elsewhere"),
            (Training, "6", "here"),
            (Training, "7", "there"),
        ] {
            keep(&path, origin_of(work, time, machine)).unwrap();
        }
        let rows = kept(dir.path());
        let told: Vec<[&str; 2]> = rows.iter().map(|row| [&*row[0], &*row[1]]).collect();
        let expected = [
            ["training since 1", "there"],
            ["evaluation of 5", "elsewhere"],
            ["training since 6", "here"],
            ["training since 7", "there"],
        ];
        assert_eq!(told, expected);
        assert_eq!(rows[0][2..], ["a card", "latentlm 1"]);
        // A damaged line describes nothing, and the others stay.
        let text = fs::read_to_string(&path).unwrap();
        fs::write(&path, text.replacen('{', "", 1)).unwrap();
        assert_eq!(kept(dir.path()), rows[1..]);
        let device = Device::default();
        keep_origin(dir.path(), Training, [&device, &device]).unwrap();
        let rows = kept(dir.path());
        assert_eq!(rows.len(), 4);
        assert_eq!(rows[3][1..], [machine(), names_of_two(&device), version()]);
    }

    fn names_of_two(device: &Device) -> String {
        format!("2 x {}", adapter_name(device))
    }

    #[test]
    fn devices_of_a_name_are_counted() {
        let list = ["a", "b", "a", "c", "a"].map(str::to_owned);
        assert_eq!(names(list.into_iter()), "3 x a, b, c");
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
