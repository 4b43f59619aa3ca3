//! The log of a run: one line of JSON a record, appended.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};

use latentlm::core::bundle::{io_error, write_atomically};
use latentlm::core::disk;
use serde::{Deserialize, Serialize};

use crate::error::Result;

/// Largest size of a record in bytes. In memory it takes many times as much; records have some hundred.
const MOST_LINE_BYTES: usize = 1 << 20;

/// One record.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MetricLine {
    /// The stage.
    pub stage: String,
    /// Optimizer steps taken.
    pub step: u64,
    /// Values by name; values that are not finite are null.
    #[serde(flatten)]
    pub values: BTreeMap<String, Option<f64>>,
}

/// `metrics.jsonl` of a run folder.
#[derive(Debug)]
pub struct MetricsLog {
    path: PathBuf,
    file: File,
}

impl MetricsLog {
    /// Opens a log, new or to be continued.
    ///
    /// # Errors
    /// If the file can't be opened.
    pub fn open(path: &Path) -> Result<Self> {
        let opened = File::options().create(true).append(true).open(path);
        let file = opened.map_err(io_error("open", path))?;
        let path = path.to_owned();
        Ok(Self { path, file })
    }

    /// Removes the records of a stage after a step: a resumed run logs them again. An incomplete last line is
    /// removed too.
    ///
    /// # Errors
    /// If the file can't be read or written.
    pub fn truncate_after(&mut self, stage: &str, step: u64) -> Result<()> {
        let old = lines_of(&self.path)?;
        let mut text = String::new();
        for line in old.lines() {
            let record = record(line.as_bytes());
            if record.is_some_and(|record| record.stage != stage || record.step <= step) {
                // The text of the line: a number that is parsed and written again could change in its last
                // digit.
                text.extend([line, "\n"]);
            }
        }
        write_atomically(&self.path, text.as_bytes())?;
        *self = Self::open(&self.path)?;
        Ok(())
    }

    /// Adds a record.
    ///
    /// # Errors
    /// If it can't be written.
    pub fn append(&mut self, stage: &str, step: u64, values: &[(&str, f64)]) -> Result<()> {
        // JSON has no number that is not finite: such a value becomes null.
        let values = values.iter().map(|&(name, x)| (name.to_owned(), Some(x)));
        let line = MetricLine {
            stage: stage.into(),
            step,
            values: values.collect(),
        };
        let mut json = serde_json::to_string(&line).unwrap_or_default();
        json.push('\n');
        let added = disk::append(&mut self.file, &self.path, json.as_bytes());
        added.map_err(io_error("write", &self.path))?;
        Ok(())
    }

    /// Syncs the records, so that no later file reaches the disk before them.
    ///
    /// # Errors
    /// If they can't be written.
    pub fn sync(&self) -> Result<()> {
        disk::sync_open(&self.file, &self.path).map_err(io_error("sync", &self.path))?;
        Ok(())
    }

    /// Records of a log. Unparsable lines are skipped.
    ///
    /// # Errors
    /// If the file can't be read.
    pub fn read(path: &Path) -> Result<Vec<MetricLine>> {
        let text = lines_of(path)?;
        let records = text.lines().filter_map(|line| record(line.as_bytes()));
        Ok(records.collect())
    }
}

/// The record of a line, if it is one.
pub(crate) fn record(line: &[u8]) -> Option<MetricLine> {
    if line.len() > MOST_LINE_BYTES {
        return None;
    }
    serde_json::from_slice(line).ok()
}

/// The text of a log. A damaged byte spoils its line, not the log.
fn lines_of(path: &Path) -> Result<String> {
    let bytes = disk::read_regular(path).map_err(io_error("read", path))?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// The points of one value of one stage.
pub fn series(lines: &[MetricLine], stage: &str, name: &str) -> Vec<(f64, f64)> {
    lines
        .iter()
        .filter(|line| line.stage == stage)
        .filter_map(|line| Some((line.step as f64, (*line.values.get(name)?)?)))
        .collect()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_resumed_log_has_no_torn_and_no_double_lines() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("metrics.jsonl");
        let mut log = MetricsLog::open(&path).unwrap();
        for step in 1..=4 {
            log.append("lm", step, &[("loss", 1.0 / step as f64)])
                .unwrap();
            log.append("codec", step, &[("loss", f64::NAN)]).unwrap();
        }
        fs::write(
            &path,
            fs::read_to_string(&path).unwrap() + "{\"stage\": \"lm\", \"st",
        )
        .unwrap();
        log.truncate_after("lm", 2).unwrap();
        log.append("lm", 3, &[("loss", 0.25)]).unwrap();
        let lines = MetricsLog::read(&path).unwrap();
        assert_eq!(
            series(&lines, "lm", "loss"),
            [(1.0, 1.0), (2.0, 0.5), (3.0, 0.25)]
        );
        assert_eq!(lines.len(), 7);
        assert_eq!(series(&lines, "codec", "loss"), [], "no number is null");
    }

    /// Parsed, it would take many times its size.
    #[test]
    fn a_line_that_is_longer_than_any_record_is_none() {
        let line = |count: usize| {
            let values = "\"a\":0,".repeat(count);
            format!("{{\"stage\":\"lm\",\"step\":1,{values}\"loss\":0.5}}")
        };
        let read = record(line(100_000).as_bytes()).unwrap();
        assert_eq!(read.values["loss"], Some(0.5));
        assert_eq!(record(line(200_000).as_bytes()), None);
    }

    #[test]
    fn a_damaged_byte_costs_its_line() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("metrics.jsonl");
        let mut log = MetricsLog::open(&path).unwrap();
        for step in 1..=3 {
            log.append("lm", step, &[("loss", 0.5)]).unwrap();
        }
        let mut bytes = fs::read(&path).unwrap();
        let second = bytes.iter().position(|&byte| byte == b'\n').unwrap() + 1;
        bytes[second] = 0xff;
        fs::write(&path, &bytes).unwrap();
        let steps = |path: &Path| -> Vec<u64> {
            let lines = MetricsLog::read(path).unwrap();
            lines.iter().map(|line| line.step).collect()
        };
        assert_eq!(steps(&path), [1, 3]);
        log.truncate_after("lm", 3).unwrap();
        assert_eq!(steps(&path), [1, 3]);
    }
}
