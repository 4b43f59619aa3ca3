//! Tests of what `docs/promises.md` promises about runs: no weights that are no numbers, one training in a folder, no
//! folders of failed starts, files for those whom the umask allows, equal files of equal weights.

use std::fs;
use std::path::Path;
#[cfg(unix)]
use std::{
    path::PathBuf,
    process::{Child, Stdio},
};

use crate::kills::{below, results};
use crate::{expect, newest, pictures, train};

/// Whether all weights of all checkpoints of the run `mnist` are finite, and there are some.
fn is_finite(folder: &Path) -> bool {
    let mut files = below(&folder.join("runs/mnist/checkpoints"));
    files.retain(|path| path.extension().is_some_and(|end| end == "safetensors"));
    assert!(!files.is_empty());
    files.iter().all(|file| {
        let bytes = fs::read(file).unwrap();
        let header = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
        // Weights are kept in float32.
        let mut numbers = bytes[header..].chunks_exact(4);
        numbers.all(|word| f32::from_le_bytes(word.try_into().unwrap()).is_finite())
    })
}

/// The first steps destroy the weights: gradients are infinite from then on, and every step is left out.
#[test]
fn a_run_that_learns_nothing_ends_with_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let wild = [
        "codec_train.steps=2",
        "lm_train.steps=400",
        "lm_train.learning_rate=1000",
        "lm_train.warmup_steps=0",
        "--progress",
        "silent",
    ];
    let mut training = train(dir.path(), &wild);
    let (code, line) = crate::failure(&training.output().unwrap());
    assert_eq!(code, 1, "{line}");
    assert!(line.contains("changed nothing"), "{line}");
    assert!(line.contains("lm_train.learning_rate"), "{line}");
    assert!(newest(dir.path(), "lm").is_dir());
    assert!(is_finite(dir.path()));
}

/// Losses are looked at when they are logged, which is never here, and when a checkpoint is saved.
#[test]
fn nothing_is_saved_that_is_no_number() {
    let dir = tempfile::tempdir().unwrap();
    let wild = [
        "codec_train.steps=30",
        "codec_train.learning_rate=1000",
        "codec_train.weight_decay=1000",
        "codec_train.warmup_steps=0",
        "codec_train.log_every=1000",
        "--progress",
        "silent",
    ];
    expect(&mut train(dir.path(), &wild), 1, "not finite");
    assert!(is_finite(dir.path()));
}

/// A training ends before its first step, in a folder that was not there, and in one that was empty.
fn fails_to_start(folder: &Path, change: &str, part: &str) {
    for existed in [false, true] {
        let run = folder.join("runs/mnist");
        if existed {
            fs::create_dir_all(&run).unwrap();
        }
        let words = ["--progress", "silent", change];
        let output = pictures::train(folder, &words).output().unwrap();
        let (code, line) = crate::failure(&output);
        assert!(code == 1 || code == 2, "{code}: {line}");
        assert!(line.contains(part), "{line}");
        assert_eq!(run.exists(), existed, "{change}");
        assert!(!existed || below(&run).is_empty(), "{:?}", below(&run));
        let _ = fs::remove_dir_all(folder.join("runs"));
    }
}

#[test]
fn a_failed_start_leaves_no_folder() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let set = dir.join("pictures");
    pictures::write(&set);
    fails_to_start(dir, "--device=cuda:99", "");
    fails_to_start(dir, "data.path=nowhere", "nowhere");
    fs::create_dir(dir.join("empty")).unwrap();
    fails_to_start(dir, "data.path=empty", "empty");
    for index in 0..5 {
        fs::write(set.join(format!("cat/{index}.png")), "no picture").unwrap();
    }
    fails_to_start(dir, "data.max_broken=0.05", "5 of 24 samples");
    leaves_no_parents(dir);
}

/// Folders above the run's go too, if this start made them.
fn leaves_no_parents(dir: &Path) {
    fs::create_dir(dir.join("there")).unwrap();
    let start = |run: &str, change: &str| {
        let words = ["--run", run, "--progress", "silent", change];
        let output = pictures::train(dir, &words).output().unwrap();
        let (code, line) = crate::failure(&output);
        assert_eq!(code, 1, "{line}");
    };
    start("there/a/b/c", "data.path=nowhere");
    assert_eq!(fs::read_dir(dir.join("there")).unwrap().count(), 0);
    // No file system has names of so many bytes.
    let long = format!("there/d/{}", "x".repeat(2000));
    start(&long, "data.max_broken=0.05");
    assert_eq!(fs::read_dir(dir.join("there")).unwrap().count(), 0);
    fs::create_dir(dir.join("there/e")).unwrap();
    fs::write(dir.join("there/letter.txt"), "x").unwrap();
    start("there/e/f", "data.path=empty");
    assert_eq!(fs::read_dir(dir.join("there/e")).unwrap().count(), 0);
    assert!(dir.join("there/letter.txt").is_file());
}

/// A comparison makes its folder before those of its parts.
#[cfg(feature = "compare")]
#[test]
fn a_failed_comparison_leaves_no_folder() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    for (kind, table) in [
        ("sigma", "image"),
        ("heads", "image"),
        ("latents", "image"),
        ("image", "image"),
        ("mllm", "mllm"),
        ("tts", "speech"),
        ("fast-tts", "speech"),
        ("fast-mllm", "mllm"),
    ] {
        let data = format!("{table}.data.path=nowhere");
        let words = ["compare", kind, "--progress", "silent", &data];
        expect(&mut crate::latentlm(dir, &words), 1, "nowhere");
        assert!(
            !dir.join("runs").exists(),
            "{kind}: {:?}",
            below(&dir.join("runs"))
        );
    }
    // Keys that do not fit each other are those of the comparison.
    let words = ["compare", "image", "image.sample.steps=1000"];
    let told = "image.sample.steps must be positive and below image.lm.num_train_timesteps";
    expect(&mut crate::latentlm(dir, &words), 2, told);
}

/// Where the machine's memory is known.
#[cfg(target_os = "linux")]
#[test]
fn a_model_beyond_the_memory_leaves_no_folder() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    pictures::write(&dir.join("pictures"));
    let absurd = [
        "lm.width=131072",
        "lm.depth=2048",
        "lm.heads=4",
        "--progress",
        "silent",
    ];
    expect(&mut pictures::train(dir, &absurd), 2, "lower lm.width");
    assert!(!dir.join("runs").exists());
}

#[test]
fn a_run_has_a_folder_of_its_own() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    pictures::write(&dir.join("pictures"));
    let refuse = |run: &str, part: &str| {
        let words = ["--run", run, "--progress", "silent"];
        expect(&mut pictures::train(dir, &words), 1, part);
    };
    for run in ["", ".", "./runs", "./runs/"] {
        refuse(run, "is where runs lie");
    }
    let absolute = dir.join("runs");
    refuse(absolute.to_str().unwrap(), "is where runs lie");
    refuse("runs/../runs", "is where runs lie");
    refuse("./", "is the current folder");
    assert!(!dir.join("runs").exists());
    fs::create_dir_all(dir.join("runs/mine")).unwrap();
    fs::write(dir.join("runs/mine/letter.txt"), "x").unwrap();
    refuse("mine", "has other files in it (`letter.txt`)");
    let left = fs::read_dir(dir.join("runs/mine")).unwrap().count();
    assert_eq!(left, 1);
}

#[test]
fn equal_weights_are_equal_files_in_two_processes() {
    let dir = pictures::trained("3");
    let dir = dir.path();
    let again = ["--run", "again", "--progress", "silent", "lm_train.steps=3"];
    pictures::succeed(&mut pictures::train(dir, &again));
    let [one, two] = ["mnist", "again"].map(|run| results(&dir.join("runs").join(run)));
    assert!(one.len() >= 7 && one.keys().eq(two.keys()));
    for (name, bytes) in &one {
        assert!(two[name] == *bytes, "{} differs", name.display());
    }
}

#[cfg(unix)]
mod of_unix {
    use std::os::unix::fs::PermissionsExt;
    use std::process::{Child, Command, Stdio};

    use super::*;
    use crate::kills::unfinished;
    use crate::{BINARY, latentlm, wait_for};

    /// A command of ours in a shell that does something else before.
    fn in_shell(before: &str, command: &Command, folder: &Path) -> Command {
        let mut shell = Command::new("sh");
        let script = format!("{before}; exec {BINARY} \"$@\"");
        shell
            .args(["-c", &script, "sh"])
            .args(command.get_args())
            .current_dir(folder)
            .stdin(Stdio::null());
        shell
    }

    /// Whoever may read what a user writes may read what a training writes.
    #[test]
    fn files_have_the_mode_of_the_umask() {
        for (mask, of_files, of_folders) in [("022", 0o644, 0o755), ("077", 0o600, 0o700)] {
            let dir = tempfile::tempdir().unwrap();
            let dir = dir.path();
            pictures::write(&dir.join("pictures"));
            let training = pictures::train(dir, &["--progress", "silent"]);
            pictures::succeed(&mut in_shell(&format!("umask {mask}"), &training, dir));
            let made = below(&dir.join("runs"));
            assert!(made.len() > 20, "{made:?}");
            for path in made {
                let mode = fs::metadata(&path).unwrap().permissions().mode() & 0o777;
                let wanted = if path.is_dir() { of_folders } else { of_files };
                assert_eq!(mode, wanted, "{mask}: {} is {mode:o}", path.display());
            }
        }
    }

    /// A training that takes minutes, after its first step.
    fn long_training(folder: &Path, resume: bool) -> Child {
        let mut command = if resume {
            pictures::resume(folder, &[])
        } else {
            let long = ["codec_train.steps=100000", "codec_train.checkpoint_every=5"];
            pictures::train(folder, &long)
        };
        let log = folder.join("runs/mnist/metrics.jsonl");
        let size = || fs::metadata(&log).map_or(0, |log| log.len());
        let before = size();
        let mut child = command
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        wait_for("a step", || {
            assert!(child.try_wait().unwrap().is_none(), "it has ended");
            size() > before
        });
        child
    }

    /// Asks a training to end, which saves.
    fn end(mut child: Child) {
        let mut kill = Command::new("kill");
        let id = child.id().to_string();
        assert!(kill.args(["-TERM", &id]).status().unwrap().success());
        assert_eq!(child.wait().unwrap().code(), Some(0));
    }

    #[test]
    fn a_second_training_in_a_folder_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path();
        pictures::write(&dir.join("pictures"));
        let first = long_training(dir, false);
        let told = format!("another process ({}) is training here", first.id());
        expect(&mut pictures::resume(dir, &[]), 1, &told);
        expect(&mut pictures::train(dir, &[]), 1, "--resume");
        end(first);
        pictures::succeed(&mut latentlm(dir, &["run", "check", "mnist"]));
        assert!(is_finite(dir));
    }

    #[test]
    fn a_killed_training_leaves_its_folder_free() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path();
        pictures::write(&dir.join("pictures"));
        let mut killed = long_training(dir, false);
        killed.kill().unwrap();
        killed.wait().unwrap();
        assert!(dir.join("runs/mnist/.lock").exists());
        end(long_training(dir, true));
    }

    /// Without a handler, the signal of a file that is too large ends the process in the middle of a checkpoint.
    #[test]
    fn a_file_above_the_limit_loses_no_checkpoint() {
        let dir = pictures::trained("1");
        let dir = dir.path();
        let before = newest(dir, "lm");
        let weights = fs::read(before.join("model.safetensors")).unwrap();
        let more = pictures::resume(dir, &["lm_train.steps=3"]);
        // The unit of the limit is 512 or 1,024 bytes, by the shell.
        let mut limited = in_shell("ulimit -c 0; ulimit -f 16", &more, dir);
        let output = limited.output().unwrap();
        assert!(!output.status.success(), "{output:?}");
        assert_eq!(newest(dir, "lm"), before);
        let kept = fs::read(before.join("model.safetensors")).unwrap();
        assert!(kept == weights, "the last checkpoint has changed");
        pictures::succeed(&mut latentlm(dir, &["run", "check", "mnist"]));
        pictures::succeed(&mut pictures::resume(dir, &[]));
        assert!(newest(dir, "lm").ends_with("step-3"));
        assert!(unfinished(&dir.join("runs")).is_empty());
    }
}

/// The unfinished folder in a folder, as soon as it has a file. `not` is one that does not count.
#[cfg(unix)]
fn unfinished(folder: &Path, not: Option<&Path>) -> PathBuf {
    let mut found = None;
    crate::wait_for("a folder", || {
        let paths = fs::read_dir(folder).unwrap();
        let mut paths = paths.map(|entry| entry.unwrap().path());
        let is_begun = |path: &PathBuf| Some(&**path) != not && path.join("config.json").is_file();
        found = paths.find(is_begun);
        found.is_some()
    });
    found.unwrap()
}

/// The weights take seconds; each process is killed when it has written its first file.
#[cfg(unix)]
#[test]
fn what_a_killed_make_model_left_is_swept_by_the_next() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let start = || {
        let words = ["make-model", "vibevoice-realtime", "--out", "random"];
        let mut command = crate::latentlm(dir, &words);
        command.stdout(Stdio::null()).stderr(Stdio::null());
        command.spawn().unwrap()
    };
    let kill = |mut process: Child| {
        process.kill().unwrap();
        process.wait().unwrap();
    };
    let killed = start();
    let first = unfinished(dir, None);
    kill(killed);
    assert!(first.exists(), "a kill leaves it");
    let second = start();
    let own = unfinished(dir, Some(&first));
    assert!(!first.exists());
    let third = start();
    // Both live, and neither removes what the other writes.
    crate::wait_for("another folder", || fs::read_dir(dir).unwrap().count() > 1);
    assert!(own.exists());
    kill(second);
    kill(third);
    assert!(!dir.join("random").exists());
}
