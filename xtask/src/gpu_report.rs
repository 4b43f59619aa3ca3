//! `cargo xtask gpu-report`: makes tables of the measurements of `xtask/gpu/check`.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result, ensure};
use latentlm_args::say;
use serde_json::Value;

/// Supported version of the file format.
const FORMAT: u64 = 1;
/// Sides of a comparison, in the order of their columns; other sides come after them.
const SIDES: [&str; 16] = [
    "ours",
    "ours bf16",
    "eager",
    "fused",
    "compiled",
    "compiled tf32",
    "bf16",
    "compiled bf16",
    "backbone",
    "head",
    "cold",
    "warm",
    "first sound",
    "frame",
    "first token",
    "token",
];
/// Columns with ratios of two sides, for parts that have both.
const RATIOS: [(&str, &str); 3] = [
    ("ours", "compiled"),
    ("ours", "eager"),
    ("ours bf16", "compiled bf16"),
];

/// Columns with the memory of the first of these sides that has it.
const MEMORY: [(&str, &[&str]); 2] = [
    ("ours MiB", &["ours", "first sound", "first token"]),
    ("PyTorch MiB", &["eager"]),
];

/// Make tables, in Markdown, of what xtask/gpu/check measured on a card.
#[derive(clap::Args)]
#[command(after_help = "\
Example:
  xtask/gpu/check --out gpu.json           on the machine with the card
  cargo xtask gpu-report gpu.json          for docs/performance.md")]
pub struct Args {
    /// Output file of xtask/gpu/check
    file: PathBuf,
}

impl Args {
    /// Prints the tables.
    pub fn run(self) -> Result<ExitCode> {
        let text = std::fs::read_to_string(&self.file)
            .with_context(|| format!("cannot read {}", self.file.display()))?;
        let json: Value = serde_json::from_str(&text)
            .with_context(|| format!("{} is no JSON", self.file.display()))?;
        let report = report(&json)
            .with_context(|| format!("{} is not of xtask/gpu/check", self.file.display()))?;
        say!("{}", report.trim_end());
        Ok(ExitCode::SUCCESS)
    }
}

/// The whole page: the GPU, the outcome of every part, a table per part, and what failed or was left out.
fn report(json: &Value) -> Result<String> {
    ensure!(
        json["format"].as_u64() == Some(FORMAT),
        "its format is {}, and {FORMAT} is read here",
        json["format"]
    );
    let parts = json["parts"].as_array().context("it has no list `parts`")?;
    let mut page = heading(json);
    page.push_str(&summary(parts));
    for part in parts {
        let rows = rows(part);
        if rows.is_empty() || part["name"] == "card" {
            continue;
        }
        let _ = write!(page, "\n**{}**\n\n", text(&part["name"]));
        // Rows of comparisons, also failed ones; then rows that only report an outcome.
        let (timed, done): (Vec<&Value>, Vec<&Value>) = rows
            .into_iter()
            .partition(|row| SIDES.contains(&text(&row["side"])));
        if !timed.is_empty() {
            page.push_str(&comparison(&timed, peak(json)));
        }
        if !timed.is_empty() && !done.is_empty() {
            page.push('\n');
        }
        if !done.is_empty() {
            page.push_str(&list(&done));
        }
    }
    page.push_str(&missing(parts));
    Ok(page)
}

fn rows(part: &Value) -> Vec<&Value> {
    part["rows"].as_array().into_iter().flatten().collect()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// A text without characters that would break a table.
fn cell(value: &str) -> String {
    value.replace('|', "/").replace('\n', " ")
}

fn number(value: &Value, digits: usize) -> Option<String> {
    value.as_f64().map(|number| format!("{number:.digits$}"))
}

/// The GPU, its measured rates, and date and build of the run.
fn heading(json: &Value) -> String {
    let card = &json["card"];
    let mut facts = Vec::new();
    facts.push(match text(&card["name"]) {
        "" => format!("device {}", text(&json["device"])),
        name => name.to_owned(),
    });
    let mut fact = |value: Option<String>, before: &str, behind: &str| {
        facts.extend(value.map(|value| format!("{before}{value}{behind}")));
    };
    let said = |value: &Value| value.as_str().map(str::to_owned);
    fact(number(&card["memory_mib"], 0), "", " MiB");
    fact(said(&card["driver"]), "driver ", "");
    fact(said(&card["torch"]), "PyTorch ", "");
    let rates = &card["rates"];
    fact(
        number(&rates["bf16"], 0),
        "products of bf16 at ",
        " TFLOP/s",
    );
    fact(number(&rates["tf32"], 0), "of tf32 at ", "");
    fact(number(&rates["f32"], 1), "of float32 at ", "");
    fact(number(&card["copy"], 0), "copies at ", " GB/s");
    fact(said(&json["started"]), "", "");
    fact(said(&json["build"]), "", "");
    if json["small"] == true {
        facts.push("small sizes: these times say nothing".into());
    }
    cell(&facts.join("; ")) + "\n\n"
}

/// Measured TFLOP/s of the GPU's matrix products in bfloat16.
fn peak(json: &Value) -> Option<f64> {
    json["card"]["rates"]["bf16"].as_f64()
}

/// A table with a row per part.
fn summary(parts: &[Value]) -> String {
    let mut table = "| part | came to | seconds | rows | failed | left out |\n\
                     |---|---|---:|---:|---:|---:|\n"
        .to_owned();
    for part in parts {
        let rows = rows(part);
        let count = |status: &str| rows.iter().filter(|row| row["status"] == status).count();
        let _ = writeln!(
            table,
            "| {} | {} | {} | {} | {} | {} |",
            text(&part["name"]),
            cell(text(&part["status"])),
            number(&part["seconds"], 0).unwrap_or_default(),
            count("ok"),
            count("failed") + count("timed out"),
            count("left out"),
        );
    }
    table
}

/// A table of milliseconds with a row per workload and a column per side, then ratios, memory, and the
/// fraction of the GPU's bfloat16 rate that our bfloat16 step reaches.
fn comparison(rows: &[&Value], peak: Option<f64>) -> String {
    let rows: Vec<&Value> = rows
        .iter()
        .copied()
        .filter(|row| row["status"] != "left out")
        .collect();
    let names = distinct(rows.iter().map(|row| text(&row["name"])));
    let mut sides = distinct(rows.iter().map(|row| text(&row["side"])));
    sides.sort_by_key(|side| SIDES.iter().position(|known| known == side).unwrap_or(99));
    let has = |side: &str| sides.contains(&side);
    let ratios: Vec<(&str, &str)> = RATIOS
        .into_iter()
        .filter(|(ours, theirs)| has(ours) && has(theirs))
        .collect();
    let of = |name: &str, side: &str| {
        rows.iter()
            .copied()
            .find(|row| row["name"] == name && row["side"] == side)
    };
    let memory: Vec<(&str, &[&str])> = MEMORY
        .into_iter()
        .filter(|(_, of_sides)| {
            rows.iter()
                .any(|row| of_sides.contains(&text(&row["side"])) && row["mib"].is_number())
        })
        .collect();
    let share = peak.filter(|_| rows.iter().any(|row| row["tflops"].is_number()));
    let mut columns: Vec<String> = sides.iter().map(|side| format!("{side} ms")).collect();
    columns.extend(
        ratios
            .iter()
            .map(|(ours, theirs)| format!("{ours} / {theirs}")),
    );
    columns.extend(memory.iter().map(|(title, _)| (*title).to_owned()));
    columns.extend(share.map(|_| "share of bf16 rate".to_owned()));
    let rule = "---:|".repeat(columns.len());
    let mut table = format!("| workload | {} |\n|---|{rule}\n", columns.join(" | "));
    for name in names {
        let ms = |side: &str| of(name, side).and_then(|row| row["ms"].as_f64());
        let mut cells: Vec<String> = sides.iter().map(|side| shown(ms(side), 2)).collect();
        for (ours, theirs) in &ratios {
            let quotient = ms(ours).zip(ms(theirs)).map(|(ours, theirs)| ours / theirs);
            cells.push(shown(quotient, 2));
        }
        for (_, of_sides) in &memory {
            let mib = of_sides
                .iter()
                .find_map(|&side| of(name, side).and_then(|row| row["mib"].as_f64()));
            cells.push(shown(mib, 0));
        }
        if let Some(peak) = share {
            let reached = of(name, "ours bf16").and_then(|row| row["tflops"].as_f64());
            cells.push(shown(reached.map(|reached| reached / peak), 2));
        }
        let _ = writeln!(table, "| {} | {} |", cell(name), cells.join(" | "));
    }
    table
}

/// A table of rows that only report an outcome, in order.
fn list(rows: &[&Value]) -> String {
    let mut table =
        "| what | side | came to | seconds | note |\n|---|---|---|---:|---|\n".to_owned();
    for row in rows {
        let _ = writeln!(
            table,
            "| {} | {} | {} | {} | {} |",
            cell(text(&row["name"])),
            cell(text(&row["side"])),
            text(&row["status"]),
            number(&row["seconds"], 1).unwrap_or_default(),
            cell(text(&row["note"])),
        );
    }
    table
}

/// A list of the rows without a number, with reasons.
fn missing(parts: &[Value]) -> String {
    let mut lines = String::new();
    for part in parts {
        for row in rows(part) {
            if row["status"] != "ok" {
                let words = [&part["name"], &row["name"], &row["side"]].map(text);
                let named: Vec<&str> = words.into_iter().filter(|word| !word.is_empty()).collect();
                let (status, note) = (text(&row["status"]), cell(text(&row["note"])));
                let _ = writeln!(lines, "- {}: {status}, {note}", cell(&named.join(", ")));
            }
        }
    }
    if lines.is_empty() {
        lines
    } else {
        format!("\nWithout a number:\n\n{lines}")
    }
}

/// The different words, in order of first occurrence.
fn distinct<'a>(words: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    let mut found = Vec::new();
    for word in words {
        if !found.contains(&word) {
            found.push(word);
        }
    }
    found
}

fn shown(number: Option<f64>, digits: usize) -> String {
    match number {
        Some(number) => format!("{number:.digits$}"),
        None => "n/a".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;
    use std::process::Command;

    use crate::cargo::project_root;

    fn measured() -> Value {
        let step = |side: &str, ms: f64, mib: u64| {
            serde_json::json!({
                "name": "image-lm-step", "side": side, "status": "ok", "ms": ms, "mib": mib,
                "tflops": 500.0 / ms,
            })
        };
        serde_json::json!({
            "format": 1, "device": "cuda", "small": false, "started": "2026-11-29", "build": "abc",
            "card": {
                "name": "A Card", "memory_mib": 81559, "driver": "1.2", "torch": "3.4",
                "rates": {"bf16": 500.0, "tf32": 250.0, "f32": 50.0}, "copy": 4000.0,
            },
            "parts": [
                {"name": "reference", "status": "done", "seconds": 12.4, "rows": [
                    {"name": "schedule", "side": "float32", "status": "ok", "seconds": 1.0, "note": "4 a|b"},
                    {"name": "transformer", "side": "bfloat16", "status": "failed", "note": "over"},
                ]},
                {"name": "train", "status": "timed out", "seconds": 270.0, "rows": [
                    step("compiled bf16", 4.0, 900), step("ours bf16", 2.0, 700),
                    step("eager", 8.0, 800), step("ours", 6.0, 600),
                    {"name": "head-step", "side": "ours", "status": "failed", "note": "no memory"},
                    {"name": "xl", "side": "ours", "status": "left out", "note": "needs 99 GiB"},
                    {"name": "adapter", "side": "cuda", "status": "ok", "seconds": 0.5, "note": "A Card"},
                ]},
                {"name": "published", "status": "done", "seconds": 90.0, "rows": [
                    {"name": "1.5B", "side": "make-model", "status": "ok", "seconds": 46.2},
                    {"name": "1.5B, float32", "side": "first sound", "status": "ok", "ms": 9000.0, "mib": 11e3},
                    {"name": "1.5B, float32", "side": "frame", "status": "ok", "ms": 40.0},
                    {"name": "1.5B, bfloat16", "side": "first sound", "status": "left out", "note": "float32"},
                ]},
            ],
        })
    }

    #[test]
    fn a_report_has_the_card_the_ratios_and_what_is_missing() {
        let page = report(&measured()).unwrap();
        let line = |text: &str| assert!(page.lines().any(|line| line == text), "{text}\n{page}");
        line(
            "A Card; 81559 MiB; driver 1.2; PyTorch 3.4; products of bf16 at 500 TFLOP/s; of tf32 at 250; \
             of float32 at 50.0; copies at 4000 GB/s; 2026-11-29; abc",
        );
        line("| reference | done | 12 | 1 | 1 | 0 |");
        line("| train | timed out | 270 | 5 | 1 | 1 |");
        line("| adapter | cuda | ok | 0.5 | A Card |");
        line("| schedule | float32 | ok | 1.0 | 4 a/b |");
        line(
            "| workload | ours ms | ours bf16 ms | eager ms | compiled bf16 ms | ours / eager | \
             ours bf16 / compiled bf16 | ours MiB | PyTorch MiB | share of bf16 rate |",
        );
        // 500 / 2 TFLOP/s are half of the card's 500.
        line("| image-lm-step | 6.00 | 2.00 | 8.00 | 4.00 | 0.75 | 0.50 | 600 | 800 | 0.50 |");
        line("| head-step | n/a | n/a | n/a | n/a | n/a | n/a | n/a | n/a | n/a |");
        line("- reference, transformer, bfloat16: failed, over");
        line("- train, xl, ours: left out, needs 99 GiB");
        assert!(!page.contains("| xl |"), "{page}");
        line("| workload | first sound ms | frame ms | ours MiB |");
        line("| 1.5B, float32 | 9000.00 | 40.00 | 11000 |");
        line("| 1.5B | make-model | ok | 46.2 |  |");
        line("- published, 1.5B, bfloat16, first sound: left out, float32");
    }

    #[test]
    fn other_files_are_refused() {
        assert!(report(&serde_json::json!({"format": 2, "parts": []})).is_err());
        assert!(report(&serde_json::json!({"format": 1})).is_err());
    }

    /// Runs the script's own Python tests: parts that fail, hang, or do not fit into memory.
    #[test]
    fn the_check_itself_holds() {
        let script = project_root().join("xtask/gpu/test_check.py");
        let python = ["python3", "python"].into_iter().find(|name| {
            let version = Command::new(name).arg("--version").output();
            version.is_ok_and(|output| output.status.success())
        });
        let Some(python) = python else {
            latentlm_args::tell!("skipped: this machine has no python3");
            return;
        };
        let output = run_script(python, &script);
        assert!(output.0, "{}", output.1);
    }

    fn run_script(python: &str, script: &Path) -> (bool, String) {
        let output = Command::new(python).arg(script).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        (output.status.success(), said)
    }
}
