//! What the commands `eval-*` print.

use std::path::PathBuf;

use latentlm_args::say;
use latentlm_eval::{Measure, measures};

/// Prints an evaluation, which is given as JSON: a table and where files lie, or the JSON alone.
pub fn show(evaluation: &str, as_json: bool, files: &[(&str, PathBuf)]) {
    if as_json {
        say!("{evaluation}");
        return;
    }
    for line in table(&measures(evaluation)) {
        say!("{line}");
    }
    for (name, path) in files {
        say!("{name} {}", path.display());
    }
}

/// Lines of a table: name, value and unit of each measure.
fn table(measures: &[Measure]) -> Vec<String> {
    let head = Measure {
        name: "measure".into(),
        value: "value".into(),
        unit: "unit".into(),
        meaning: "",
    };
    let rows: Vec<&Measure> = std::iter::once(&head).chain(measures).collect();
    let names = rows.iter().map(|row| row.name.len()).max().unwrap_or(0);
    let values = rows.iter().map(|row| row.value.len()).max().unwrap_or(0);
    let line = |row: &&Measure| {
        let Measure {
            name, value, unit, ..
        } = row;
        let line = format!("{name:names$}  {value:>values$}  {unit}");
        line.trim_end().to_owned()
    };
    rows.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_stand_below_each_other() {
        let json = r#"{"samples": 500, "frechet_distance": 36.75, "diversity": 0.78}"#;
        let expected = [
            "measure           value  unit",
            "samples             500",
            "frechet distance  36.75  of 500 samples",
            "diversity          0.78",
        ];
        assert_eq!(table(&measures(json)), expected);
    }
}
