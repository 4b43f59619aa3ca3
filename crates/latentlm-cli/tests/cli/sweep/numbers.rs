//! Whether the numbers of a run's log are finite.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::kills::below;

/// Whether two steps of both stages, of a comparison of every model, are in the logs of a run, and all numbers are finite.
/// JSON has `null` for others. A comparison may have measured too little for a number.
pub(super) fn check_numbers(run: &Path, is_comparison: bool) -> Result<(), String> {
    let logs = below(run).into_iter();
    let logs = logs.filter(|path| path.ends_with("metrics.jsonl"));
    let (mut stages, mut steps) = (BTreeSet::new(), BTreeSet::new());
    for log in logs {
        let text = fs::read_to_string(&log).map_err(|error| error.to_string())?;
        for line in text.lines() {
            let numbers: Value = serde_json::from_str(line).map_err(|error| error.to_string())?;
            let Some(numbers) = numbers.as_object() else {
                return Err(format!("no object: {line}"));
            };
            let is_step = numbers.contains_key("gradient_norm");
            if (is_step || !is_comparison) && numbers.values().any(Value::is_null) {
                return Err(format!("a number that is not finite: {line}"));
            }
            if is_step {
                stages.insert(numbers["stage"].to_string());
                steps.insert(format!("{} {}", numbers["stage"], numbers["step"]));
            }
        }
    }
    if !is_comparison {
        stages = [r#""codec""#, r#""lm""#].map(String::from).into();
    }
    let two = |stage: &String| [1, 2].map(|step| format!("{stage} {step}"));
    let expected: BTreeSet<String> = stages.iter().flat_map(two).collect();
    if stages.len() > 1 && steps == expected {
        Ok(())
    } else {
        Err(format!("steps in the logs: {steps:?}"))
    }
}

#[test]
fn numbers_of_a_log_are_checked() {
    let dir = tempfile::tempdir().unwrap();
    let line = |stage: &str, step: u64, norm: &str| {
        format!("{{\"stage\": \"{stage}\", \"step\": {step}, \"gradient_norm\": {norm}}}\n")
    };
    let whole = line("codec", 1, "0.5") + &line("codec", 2, "0.5") + &line("lm", 1, "0.5");
    let log = dir.path().join("metrics.jsonl");
    fs::write(&log, &whole).unwrap();
    let check = |is_comparison| check_numbers(dir.path(), is_comparison);
    assert!(check(false).unwrap_err().contains("steps in"));
    fs::write(&log, whole.clone() + &line("lm", 2, "null")).unwrap();
    let told = check(false).unwrap_err();
    assert!(told.contains("not finite"), "{told}");
    let whole = whole + &line("lm", 2, "0.5");
    fs::write(&log, &whole).unwrap();
    check(false).unwrap();
    // Of a comparison each stage that there is, and measurements that are no steps.
    let measured = "{\"stage\": \"lm\", \"step\": 2, \"frechet_distance\": null}\n";
    let rival = line("vq", 1, "0.5");
    fs::write(&log, whole.clone() + measured + &rival).unwrap();
    assert!(check(true).unwrap_err().contains("steps in"));
    fs::write(&log, whole + measured + &rival + &line("vq", 2, "0.5")).unwrap();
    check(true).unwrap();
    assert!(check(false).unwrap_err().contains("not finite"));
}
