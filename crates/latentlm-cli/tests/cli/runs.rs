//! Tests of `run check`, and of signals that stop a training.

use std::fs;
use std::path::Path;

use crate::earlier::{copy, run};
use crate::pictures::{succeed, trained};
use crate::{expect, latentlm, newest, train};

/// Lines of `run check`.
fn checked(folder: &Path) -> Vec<String> {
    let output = latentlm(folder, &["run", "check", "mnist"])
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    text.lines().map(str::to_owned).collect()
}

#[test]
fn damage_is_found_in_a_run_and_in_runs_within() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    expect(
        &mut latentlm(dir, &["run", "check", "mnist"]),
        1,
        "there are no runs yet",
    );
    let trained = train(dir, &["--progress", "silent"]).output().unwrap();
    assert!(trained.status.success(), "{trained:?}");
    // A run of an older version, without checksums.
    let within = dir.join("runs/mnist/within");
    copy(&run("image"), &within);

    let lines = checked(dir);
    let of = |place: &str, lines: &[String]| -> Vec<String> {
        let own = lines.iter().filter(|line| line.contains(place));
        own.cloned().collect()
    };
    let own = |lines: &[String]| -> Vec<String> {
        let own = lines.iter().filter(|line| !line.contains("within"));
        own.cloned().collect()
    };
    assert_eq!(
        (own(&lines).len(), of("within", &lines).len()),
        (9, 5),
        "{lines:?}"
    );
    for (place, verdict) in [
        ("codec/step-2", ": whole, "),
        ("codec/step-3", ": whole, "),
        ("lm/step-2", ": whole, "),
        ("lm/step-3", ": whole, "),
        ("latents.safetensors", ": whole, "),
        (
            "config.toml",
            ": whole, compared with step 3 of the stage `lm`",
        ),
        ("metrics.jsonl", ": whole, "),
        ("data.txt", ": readable"),
        ("report.html", ": whole"),
    ] {
        let found = of(place, &own(&lines));
        assert_eq!(found.len(), 1, "{place}: {lines:?}");
        assert!(found[0].contains(verdict), "{found:?}");
    }
    for line in of("within", &lines) {
        let unchecked = line.ends_with(": no checksums: whether it is whole can't be checked");
        let is_file =
            line.contains("config.toml: whole, ") || line.contains("metrics.jsonl: whole, ");
        assert!(unchecked || is_file, "{line}");
    }
    let whole = latentlm(dir, &["run", "check", "mnist"]).status().unwrap();
    assert!(whole.success());

    // One bit of the weights, and one of the latents.
    for path in [
        newest(dir, "lm").join("model.safetensors"),
        dir.join("runs/mnist/latents.safetensors"),
    ] {
        let mut bytes = fs::read(&path).unwrap();
        let last = bytes.len() - 1;
        bytes[last] ^= 1;
        fs::write(&path, bytes).unwrap();
    }
    let lines = checked(dir);
    let damaged = of("lm/step-3", &own(&lines));
    assert!(
        damaged[0].ends_with("damaged: model.safetensors is damaged: its checksum differs"),
        "{damaged:?}"
    );
    let cache = of("latents.safetensors", &own(&lines));
    assert!(cache[0].contains("is damaged"), "{cache:?}");
    let summary = "2 of 14 checkpoints and files are damaged";
    expect(&mut latentlm(dir, &["run", "check", "mnist"]), 1, summary);
}

#[test]
fn a_line_break_in_a_name_begins_no_line() {
    let dir = trained("2");
    let dir = dir.path();
    let before = checked(dir).len();
    copy(&run("image"), &dir.join("runs/mnist/within\nx: whole"));
    let lines = checked(dir);
    assert!(lines.len() > before, "{lines:?}");
    for line in lines {
        assert!(line.starts_with("runs/mnist/"), "{line}");
    }
}

/// Files that not every run has, and those that are listed only if they are damaged.
fn others_are_found(dir: &Path) {
    for (name, damaged, part) in [
        (
            "checkpoints/lm/latest",
            "step-99",
            "it names `step-99`, which is not there",
        ),
        ("samples/lm-step-2.png", "PNG", "its end is missing"),
        ("evaluation.json", "{", "it is no JSON"),
        ("skipped.txt", "1.png", "line 1 is no entry"),
    ] {
        let path = dir.join("runs/mnist").join(name);
        let whole = fs::read(&path).ok();
        fs::write(&path, damaged).unwrap();
        let mut check = latentlm(dir, &["run", "check", "mnist"]);
        expect(&mut check, 1, "1 of 10 checkpoints and files are damaged");
        let lines = checked(dir);
        let own = lines.iter().find(|line| line.contains(name)).unwrap();
        assert!(own.contains("damaged: ") && own.contains(part), "{own}");
        match whole {
            Some(bytes) => fs::write(&path, bytes).unwrap(),
            None => fs::remove_file(&path).unwrap(),
        }
    }
}

/// Files beside the checkpoints: damaged one by one, and put back.
#[test]
fn damaged_recipes_logs_and_reports_are_found() {
    let dir = trained("2");
    let dir = dir.path();
    let file = |name: &str| dir.join("runs/mnist").join(name);
    let check = || latentlm(dir, &["run", "check", "mnist"]);
    succeed(&mut check());
    others_are_found(dir);
    succeed(&mut check());

    // As a kill leaves it.
    let log = fs::read_to_string(file("metrics.jsonl")).unwrap();
    fs::write(file("metrics.jsonl"), &log[..log.len() - 9]).unwrap();
    succeed(&mut check());
    let lines = checked(dir);
    let told = lines.iter().find(|line| line.contains("metrics.jsonl"));
    let told = told.unwrap();
    assert!(told.ends_with("one that was cut by a kill"), "{told}");

    let report = fs::read_to_string(file("report.html")).unwrap();
    let recipe = fs::read_to_string(file("config.toml")).unwrap();
    let (before, _) = recipe.split_once("[lm_train]").unwrap();
    for (name, damaged, part) in [
        (
            "metrics.jsonl",
            log.replacen('{', "", 1),
            "line 1 is no record",
        ),
        (
            "report.html",
            report[..report.len() / 2].to_owned(),
            "its end is missing",
        ),
        ("config.toml", before.to_owned(), "it lacks `lm_train."),
        ("config.toml", "no TOML".to_owned(), "damaged"),
        ("data.txt", "latentlm".to_owned(), "damaged"),
    ] {
        let whole = fs::read(file(name)).unwrap();
        fs::write(file(name), damaged).unwrap();
        expect(&mut check(), 1, "1 of 9 checkpoints and files are damaged");
        let lines = checked(dir);
        let own = lines.iter().find(|line| line.contains(name)).unwrap();
        assert!(own.contains("damaged: ") && own.contains(part), "{own}");
        fs::write(file(name), whole).unwrap();
    }
    fs::remove_file(file("config.toml")).unwrap();
    expect(&mut check(), 1, "1 of 9 checkpoints and files are damaged");
    let lines = checked(dir);
    let own = lines.iter().find(|line| line.contains("config.toml"));
    assert!(
        own.unwrap().contains("damaged: it cannot be read"),
        "{own:?}"
    );
}

#[cfg(unix)]
mod signals {
    use std::process::{Child, Command, Stdio};

    use super::*;
    use crate::{BINARY, wait_for};

    /// So many steps take minutes: no signal comes too late.
    const LONG: [&str; 2] = [
        "codec_train.steps=100000",
        "codec_train.checkpoint_every=100000",
    ];

    /// Waits until a training has logged its first step, and sends it a signal.
    fn send(folder: &Path, child: &Child, signal: &str) {
        let log = folder.join("runs/mnist/metrics.jsonl");
        wait_for("a step", || {
            fs::metadata(&log).is_ok_and(|log| log.len() > 0)
        });
        let id = child.id().to_string();
        let mut kill = Command::new("kill");
        assert!(kill.args([signal, &id]).status().unwrap().success());
    }

    /// Goes on for two steps of the codec, and to the end.
    fn resumes(folder: &Path) {
        let saved = newest(folder, "codec");
        let step = saved.file_name().unwrap().to_string_lossy().into_owned();
        let step: u64 = step.strip_prefix("step-").unwrap().parse().unwrap();
        let last = step + 2;
        let steps = format!("codec_train.steps={last}");
        let resume = [
            "train-image",
            "--resume",
            "--progress",
            "silent",
            steps.as_str(),
        ];
        let output = latentlm(folder, &resume).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        assert!(newest(folder, "codec").ends_with(format!("step-{last}")));
        assert!(newest(folder, "lm").ends_with("step-3"));
    }

    /// As of a scheduler, which may send it twice.
    #[test]
    fn a_termination_saves_and_goes_on() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path();
        let child = train(dir, &LONG)
            .args(["--progress", "plain"])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        send(dir, &child, "-TERM");
        // Fails where the first has ended the process already.
        let mut again = Command::new("kill");
        let _ = again.args(["-TERM", &child.id().to_string()]).output();
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{output:?}");
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(text.contains("stopped; continue with"), "{text}");
        assert!(newest(dir, "codec").join("model.safetensors").is_file());
        resumes(dir);
    }

    /// Whether this process ignores SIGHUP, and with it those that it starts: under `nohup`.
    fn ignores_hangups() -> bool {
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
        let mask = ignored.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
        mask.is_some_and(|mask| mask & 1 == 1)
    }

    /// The terminal is closed: the signal comes, and nothing can be printed any more.
    #[test]
    fn a_closed_terminal_saves_and_goes_on() {
        if ignores_hangups() {
            latentlm_args::tell!(
                "skipped: the tests were started with `nohup`, which a training heeds"
            );
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path();
        let mut child = train(dir, &LONG)
            .args(["--progress", "plain"])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        drop((child.stdout.take(), child.stderr.take()));
        send(dir, &child, "-HUP");
        assert_eq!(child.wait().unwrap().code(), Some(0));
        assert!(newest(dir, "codec").join("model.safetensors").is_file());
        resumes(dir);
    }

    /// As by `nohup`: a training that was started to outlive its terminal does.
    #[cfg(target_os = "linux")]
    #[test]
    fn an_ignored_hangup_stops_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path();
        let training = train(dir, &["--progress", "silent", "codec_train.steps=20"]);
        let script = format!("trap '' HUP; exec {BINARY} \"$@\"");
        let mut shell = Command::new("sh");
        shell
            .args(["-c", &script, "sh"])
            .args(training.get_args())
            .current_dir(dir)
            .stdin(Stdio::null())
            .stdout(Stdio::piped());
        let child = shell.spawn().unwrap();
        send(dir, &child, "-HUP");
        let output = child.wait_with_output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(
            output.status.success() && text.contains("trained in"),
            "{text}"
        );
        assert!(newest(dir, "lm").ends_with("step-3"));
    }
}
