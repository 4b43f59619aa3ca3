//! Tests of where output goes: closed pipes, full disks, and formats by the endings of files.

use std::fs;
use std::path::Path;
#[cfg(unix)]
use std::process::Command;
use std::process::{Output, Stdio};

use latentlm_args::PICTURE_ENDINGS;

use crate::pictures::{self, succeed};
use crate::{expect, latentlm, speech, train};

/// `data check` of the digits, whose output takes several lines.
fn check_digits() -> Vec<String> {
    let digits = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../datasets/mnist");
    let words = ["data", "check", digits.to_str().unwrap()];
    words.map(str::to_owned).to_vec()
}

fn said(output: &Output) -> (Option<i32>, String) {
    let text = String::from_utf8_lossy(&output.stderr);
    // A slow machine is told how far reading is.
    let lines = text.split_inclusive('\n');
    let lines = lines.filter(|line| !line.starts_with("reading data, "));
    (output.status.code(), lines.collect())
}

#[test]
fn a_closed_pipe_ends_a_command_quietly() {
    let dir = tempfile::tempdir().unwrap();
    let words = check_digits();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let mut child = latentlm(dir.path(), &words)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!(said(&output), (Some(0), String::new()));
}

/// A hundred files of a reason, or all. One recording of the corpus is broken.
#[test]
fn all_that_is_left_out_is_named_if_asked() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    pictures::write(&dir.join("pictures"));
    speech::corpus(&dir.join("corpus"));
    for folder in ["pictures", "corpus"] {
        for index in 0..101 {
            fs::write(dir.join(folder).join(format!("{index:03}.txt")), "x").unwrap();
        }
        let check = |more: &[&str]| {
            let words = [&["data", "check", folder][..], more].concat();
            let output = latentlm(dir, &words).output().unwrap();
            String::from_utf8(output.stdout).unwrap()
        };
        let few = check(&[]);
        let cut = "/099.txt\n  and 1 more\n`data check --all` names all that is left out\n";
        assert!(
            few.contains("left out, 101: no ") && few.contains(cut),
            "{few}"
        );
        let all = check(&["--all"]);
        assert!(
            all.contains("/100.txt\n") && !all.contains("--all"),
            "{all}"
        );
    }
}

/// Nobody reads the error, and it has its exit code.
#[test]
fn a_closed_terminal_changes_no_exit_code() {
    let dir = tempfile::tempdir().unwrap();
    let sample = ["sample-image", "--grid", "--out", "a.png"];
    let mut child = latentlm(dir.path(), &sample)
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stderr.take());
    assert_eq!(child.wait().unwrap().code(), Some(1));
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_standard_output_is_one_line() {
    let dir = tempfile::tempdir().unwrap();
    let words = check_digits();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let full = fs::File::options().write(true).open("/dev/full").unwrap();
    let mut command = latentlm(dir.path(), &words);
    command.stdout(full).stderr(Stdio::piped());
    let output = command.spawn().unwrap().wait_with_output().unwrap();
    let (code, text) = said(&output);
    assert_eq!(code, Some(1));
    let start = "error: cannot write to standard output: No space left on device";
    assert!(
        text.starts_with(start) && text.lines().count() == 1,
        "{text}"
    );
}

/// Standard output, piped and redirected, through links: a link is all that a mistake could replace.
#[cfg(unix)]
fn a_stream_takes_the_picture_alone(dir: &Path, sample: &dyn Fn(&str) -> Command) {
    use std::os::unix::fs::symlink;

    symlink("/dev/stdout", dir.join("out")).unwrap();
    symlink("/dev/stdout", dir.join("out.png")).unwrap();
    let piped = sample("out").output().unwrap();
    let (code, told) = said(&piped);
    assert_eq!(code, Some(0), "{told}");
    assert!(told.lines().any(|line| line == "out"), "{told}");
    let redirected = dir.join("redirected");
    let mut command = sample("out.png");
    command.stdout(fs::File::create(&redirected).unwrap());
    assert!(command.status().unwrap().success());
    let picture = fs::read(dir.join("seven.png")).unwrap();
    assert!(piped.stdout == picture && fs::read(&redirected).unwrap() == picture);
    for link in ["out", "out.png"] {
        assert!(dir.join(link).is_symlink(), "{link}");
    }
    expect(&mut sample("runs"), 1, "cannot write runs: ");
}

#[test]
fn a_picture_gets_the_format_of_its_ending() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let output = train(dir, &["--progress", "silent"]).output().unwrap();
    assert!(output.status.success(), "{}", said(&output).1);
    let sample = |file: &str| {
        let words = [
            "sample-image",
            "--class",
            "7",
            "--count",
            "1",
            "--out",
            file,
        ];
        latentlm(dir, &words)
    };
    for ending in PICTURE_ENDINGS {
        let file = format!("seven.{ending}");
        let output = sample(&file).output().unwrap();
        assert!(output.status.success(), "{}", said(&output).1);
        let bytes = fs::read(dir.join(&file)).unwrap();
        let format = image::guess_format(&bytes).unwrap();
        assert!(
            format.extensions_str().contains(&ending),
            "{file}: {format:?}"
        );
        let picture = image::load_from_memory(&bytes).unwrap();
        assert_eq!((picture.width(), picture.height()), (64, 64));
    }
    for file in ["seven.gif", "seven"] {
        expect(
            &mut sample(file),
            2,
            "must be one of .png, .jpg, .jpeg, .webp",
        );
        assert!(!dir.join(file).exists());
    }
    #[cfg(unix)]
    a_stream_takes_the_picture_alone(dir, &sample);
    let speak = ["speak", "--run", "mnist", "--text", "a", "--out", "a.wav"];
    let told = "is no run of train-tts: it is one of train-image, for `sample-image`";
    expect(&mut latentlm(dir, &speak), 1, told);
}

/// Standard error is no terminal here: phases are told as they begin, beside the results and not among them.
#[test]
fn pictures_are_measured_in_a_table_and_in_json() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    pictures::write(&dir.join("pictures"));
    // Structural similarity needs pictures of 11 pixels a side.
    let silent = ["--progress", "silent", "codec.image_size=16"];
    succeed(&mut pictures::train(dir, &silent));
    trained_elsewhere(dir);
    let measure = |more: &[&str]| {
        let words = [&["eval-image", "--samples", "4"][..], more].concat();
        let mut command = latentlm(dir, &words);
        // As if it was not started by `cargo xtask`.
        let output = command.env_remove("LATENTLM_COMMIT").output().unwrap();
        let (code, told) = said(&output);
        assert_eq!(code, Some(0), "{told}");
        for phase in [
            "reading the run and its data ...",
            "drawing 4 pictures ...",
            "training the judge on real pictures ...",
        ] {
            assert!(told.lines().any(|line| line == phase), "{told}");
        }
        let warning = told.lines().last().unwrap();
        assert!(
            warning.starts_with("the Frechet distance is rough: "),
            "{told}"
        );
        String::from_utf8(output.stdout).unwrap()
    };
    let table = measure(&[]);
    let lines: Vec<&str> = table.lines().collect();
    assert!(
        lines[0].starts_with("measure ") && lines[0].ends_with(" unit"),
        "{table}"
    );
    assert!(lines[1].starts_with("step "), "{table}");
    assert_eq!(lines[lines.len() - 1], "report runs/mnist/report.html");
    let json = measure(&["--json"]);
    let measured: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(measured["step"], 3);
    assert_eq!(measured["samples"], 4);
    for name in ["reconstruction_psnr_db", "frechet_distance", "diversity"] {
        assert!(measured[name].is_number(), "{name}: {json}");
        let row = name.replace('_', " ");
        assert!(
            lines.iter().any(|line| line.starts_with(&row)),
            "{row}: {table}"
        );
    }
    the_report_tells_of_both_machines(dir);
}

/// As if the run had been trained on another machine.
fn trained_elsewhere(dir: &Path) {
    let file = dir.join("runs/mnist/origins.jsonl");
    let line = fs::read_to_string(&file).unwrap();
    let mut origin: serde_json::Value = serde_json::from_str(&line).unwrap();
    origin["machine"] = "a machine elsewhere".into();
    fs::write(&file, format!("{origin}\n")).unwrap();
}

/// That of the training stays; of two evaluations the last is told.
fn the_report_tells_of_both_machines(dir: &Path) {
    let html = fs::read_to_string(dir.join("runs/mnist/report.html")).unwrap();
    for part in [
        "<td>training since ",
        " UTC</td><td>a machine elsewhere</td><td>the processor</td><td>latentlm ",
    ] {
        assert!(html.contains(part), "{part}: {html}");
    }
    assert_eq!(html.matches("<td>evaluation of ").count(), 1);
    assert_eq!(html.matches("a machine elsewhere").count(), 1);
    if let Some(commit) = option_env!("LATENTLM_BUILT_FROM") {
        assert!(
            html.contains(&format!(", commit {commit}</td>")),
            "{commit}"
        );
    }
}
