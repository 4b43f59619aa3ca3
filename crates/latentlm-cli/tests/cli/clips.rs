//! Composed clips: `data clips`, and `data check` of them.

use std::fs;
use std::path::Path;

use crate::{expect, latentlm};

#[test]
fn clips_are_composed_the_same_twice_and_checked() {
    let digits = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../datasets/mnist");
    let digits = digits.to_str().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let compose = |out: &str, more: &[&str]| {
        let args = ["data", "clips", "--out", out, "--count", "20"];
        let mut command = latentlm(dir, &args);
        command.args(["--digits", digits, "--split", "test"]);
        command.args(more);
        command
    };
    for out in ["one", "two"] {
        let output = compose(out, &[]).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert_eq!(said, format!("{out}: 20 clips\n"));
    }
    for name in ["metadata.jsonl", "clips/000000.gif", "clips/000019.gif"] {
        let read = |folder: &str| fs::read(dir.join(folder).join(name)).unwrap();
        assert_eq!(read("one"), read("two"), "{name}");
    }
    expect(&mut compose("one", &[]), 1, "exists already");
    assert!(compose("three", &["--frames"]).status().unwrap().success());
    assert!(dir.join("three/clips/000019/0017.png").is_file());
    for folder in ["one", "three"] {
        let check = ["data", "check", folder, "--clips"];
        let output = latentlm(dir, &check).output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{said}");
        for part in [
            "20 clips, cut",
            "clips of 32x32 pixels",
            "no problems found",
        ] {
            assert!(said.contains(part), "{part}: {said}");
        }
    }
    let long = ["data", "check", "one", "--clips", "--clip-frames", "18"];
    expect(&mut latentlm(dir, &long), 1, "one has 1 problems");
    let alone = ["data", "check", "one", "--clip-frames", "18"];
    let output = latentlm(dir, &alone).output().unwrap();
    assert_eq!(
        output.status.code(),
        Some(2),
        "--clip-frames without --clips"
    );
}
