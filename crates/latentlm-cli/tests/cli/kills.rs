//! Trainings that are killed at random moments, checked and resumed until they are finished: nothing is lost, and
//! what comes of them is equal to the bit to what comes of a training that nobody kills.
//!
//! `cargo xtask kills` kills more often.

use std::collections::{BTreeMap, BTreeSet};
use std::env;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::pictures::SMALL;
use crate::{latentlm, mllm, pictures, speech, video};

/// Kills in the tests, of all kinds of training together.
const KILLS: u64 = 100;
/// How often a process that is to be killed is looked at.
const LOOK: Duration = Duration::from_micros(300);
/// Longest time from the beginning of a checkpoint to the kill. On a slow disk, checkpoints take so long.
const WRITING: Duration = Duration::from_millis(40);
/// How names of files and folders under construction begin.
const UNFINISHED: &str = ".writing-";

/// A kind of training that is killed.
struct Kind {
    command: &'static str,
    /// Percentage of all kills that are of this kind.
    percent: u64,
    /// Writes the data into a folder.
    data: fn(&Path),
    /// The folder's name in the recipe.
    folder: &'static str,
    /// Overrides, the last of a key counts.
    recipe: &'static [&'static [&'static str]],
}

const IMAGES: Kind = Kind {
    command: "train-image",
    percent: 40,
    data: pictures::write,
    folder: "pictures",
    recipe: &[
        &crate::TINY,
        &SMALL,
        &[
            "codec_train.steps=8",
            "codec_train.sample_every=3",
            "lm_train.steps=8",
            "lm_train.sample_every=3",
            "lm_train.checkpoint_every=2",
        ],
    ],
};

const SPEECH: Kind = Kind {
    command: "train-tts",
    percent: 20,
    data: speech::corpus,
    folder: "corpus",
    recipe: &[
        &speech::TINY,
        &[
            "codec_train.steps=6",
            "codec_train.log_every=1",
            "codec_train.checkpoint_every=2",
            "lm_train.steps=6",
            "lm_train.log_every=1",
            "lm_train.checkpoint_every=1",
        ],
    ],
};

const MLLM: Kind = Kind {
    command: "train-mllm",
    percent: 20,
    data: mllm::pictures,
    folder: "pictures",
    recipe: &[
        &mllm::TINY,
        &[
            "lm.precision=bf16",
            "codec_train.steps=6",
            "codec_train.log_every=1",
            "codec_train.checkpoint_every=1",
            "lm_train.steps=6",
            "lm_train.log_every=1",
            "lm_train.checkpoint_every=2",
        ],
    ],
};

const VIDEO: Kind = Kind {
    command: "train-video",
    percent: 20,
    data: video::write_digits,
    folder: "digits",
    recipe: &[
        &video::TINY,
        &[
            "data.path=digits",
            "codec_train.steps=6",
            "codec_train.log_every=1",
            "codec_train.checkpoint_every=2",
            "lm_train.steps=6",
            "lm_train.log_every=1",
            "lm_train.checkpoint_every=1",
        ],
    ],
};

#[test]
fn killed_trainings_of_images_lose_nothing() {
    Trial::of(&IMAGES).run();
}

#[test]
fn killed_trainings_of_speech_lose_nothing() {
    Trial::of(&SPEECH).run();
}

#[test]
fn killed_trainings_of_text_and_pictures_lose_nothing() {
    Trial::of(&MLLM).run();
}

#[test]
fn killed_trainings_of_clips_lose_nothing() {
    Trial::of(&VIDEO).run();
}

impl Kind {
    /// Begins a run, or continues it.
    fn start(&self, folder: &Path, run: &str) -> Child {
        let words = [self.command, "--run", run, "--progress", "silent"];
        let mut command = latentlm(folder, &words);
        if has_begun(&path_of(folder, run)) {
            command.arg("--resume");
        } else {
            let recipe: Vec<&str> = self.recipe.concat();
            command.args(recipe);
        }
        command.stdout(Stdio::null()).stderr(Stdio::piped());
        command.spawn().unwrap()
    }
}

fn path_of(folder: &Path, run: &str) -> PathBuf {
    folder.join("runs").join(run)
}

fn has_begun(run: &Path) -> bool {
    run.join("config.toml").exists()
}

/// Trainings of a kind, and how often they were killed.
struct Trial {
    kind: &'static Kind,
    folder: tempfile::TempDir,
    random: Random,
    /// How often they are to be killed.
    wanted: u64,
    kills: u64,
    /// Kills that left something half written.
    within_writing: u64,
    trainings: u64,
    /// Time of a training that nobody kills.
    whole: Duration,
    /// What must come of each.
    expected: BTreeMap<PathBuf, Vec<u8>>,
}

impl Trial {
    /// Trains once without a kill.
    fn of(kind: &'static Kind) -> Self {
        let folder = tempfile::tempdir().unwrap();
        (kind.data)(&folder.path().join(kind.folder));
        let run = path_of(folder.path(), "whole");
        let started = Instant::now();
        let finished = !kill(kind.start(folder.path(), "whole"), Moment::Never, &run);
        assert!(finished);
        let whole = started.elapsed();
        let expected = results(&run);
        // Codec and language model, live and averaged, the codec again, latents, curves.
        assert!(expected.len() >= 7, "{:?}", expected.keys());
        Self {
            kind,
            folder,
            random: Random(number("LATENTLM_KILLS_SEED").unwrap_or(1)),
            wanted: (number("LATENTLM_KILLS").unwrap_or(KILLS) * kind.percent).div_ceil(100),
            kills: 0,
            within_writing: 0,
            trainings: 0,
            whole,
            expected,
        }
    }

    /// Kills trainings as often as is wanted, and prints a line if more is wanted than a test does.
    fn run(mut self) {
        let started = Instant::now();
        while self.kills < self.wanted {
            self.trainings += 1;
            self.train();
        }
        if env::var_os("LATENTLM_KILLS").is_some() {
            let line = format!(
                "{:<12} {:>6} {:>10} {:>15} {:>8.0} s",
                self.kind.command,
                self.kills,
                self.trainings,
                self.within_writing,
                started.elapsed().as_secs_f64()
            );
            // Past the test runner, which keeps what tests print.
            writeln!(io::stdout(), "{line}").expect("standard output is open");
        }
        // If there were few kills, all may have come between two checkpoints.
        assert!(self.within_writing > 0 || self.wanted < 50);
    }

    /// A training that is killed until it is finished.
    fn train(&mut self) {
        let name = format!("killed-{}", self.trainings);
        let run = path_of(self.folder.path(), &name);
        let mut newest: BTreeMap<PathBuf, u64> = BTreeMap::new();
        let mut kills: u32 = 0;
        loop {
            let moment = if self.kills < self.wanted {
                // Later and later, so that each training ends also on a machine that has become slow.
                let longest = self.whole.mul_f64(0.5 + f64::from(kills) / 12.0);
                Moment::draw(&mut self.random, longest)
            } else {
                Moment::Never
            };
            let process = self.kind.start(self.folder.path(), &name);
            if !kill(process, moment, &run) {
                break;
            }
            kills += 1;
            self.kills += 1;
            self.within_writing += u64::from(!unfinished(&run).is_empty());
            self.check(&name);
            let now = steps(&run);
            for (stage, step) in &newest {
                let lost = format!("{name}, {moment:?}: {} of {newest:?}", stage.display());
                assert!(now.get(stage) >= Some(step), "{lost} is lost: {now:?}");
            }
            newest = now;
        }
        let place = format!("{} {name}, killed {kills} times", self.kind.command);
        let left = unfinished(&run);
        assert!(left.is_empty(), "{place}: {left:?}");
        let found = results(&run);
        let names: Vec<&PathBuf> = found.keys().collect();
        assert!(self.expected.keys().eq(found.keys()), "{place}: {names:?}");
        for (name, bytes) in &self.expected {
            assert!(found[name] == *bytes, "{place}: {} differs", name.display());
        }
        fs::remove_dir_all(&run).unwrap();
    }

    /// Whatever was saved is whole.
    fn check(&self, run: &str) {
        let folder = self.folder.path();
        if !has_begun(&path_of(folder, run)) {
            return;
        }
        let output = latentlm(folder, &["run", "check", run]).output().unwrap();
        assert!(output.status.success(), "{run}: {output:?}");
    }
}

/// When a process is killed.
#[derive(Debug, Clone, Copy)]
enum Moment {
    /// So long after its start.
    After(Duration),
    /// So long after it began to write a checkpoint; before, it wrote so many others.
    Writing(usize, Duration),
    /// Not at all.
    Never,
}

impl Moment {
    /// One of three lies within the writing of a checkpoint, half of these at its beginning.
    fn draw(random: &mut Random, longest: Duration) -> Self {
        if random.below(3) > 0 {
            return Self::After(longest.mul_f64(random.share()));
        }
        let others = random.below(6) as usize;
        if random.below(2) == 0 {
            return Self::Writing(others, Duration::ZERO);
        }
        Self::Writing(others, WRITING.mul_f64(random.share().powi(2)))
    }

    /// Waits for it, or for the end of the process. Returns whether it has come.
    fn wait(self, process: &mut Child, run: &Path) -> bool {
        let (started, left) = (Instant::now(), unfinished(run));
        let mut written = BTreeSet::new();
        while process.try_wait().unwrap().is_none() {
            match self {
                Self::After(time) if started.elapsed() >= time => return true,
                Self::Writing(others, time) => {
                    let now = unfinished(run).into_iter();
                    written.extend(now.filter(|path| path.is_dir() && !left.contains(path)));
                    if written.len() > others {
                        thread::sleep(time);
                        return true;
                    }
                }
                Self::After(_) | Self::Never => {}
            }
            thread::sleep(LOOK);
        }
        false
    }
}

/// Kills a process at a moment. Returns whether it was killed; else it was finished before, without an error.
fn kill(mut process: Child, moment: Moment, run: &Path) -> bool {
    let has_come = moment.wait(&mut process, run);
    if has_come {
        process.kill().unwrap();
    }
    let output = process.wait_with_output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    let fine = !errors.contains("error:") && !errors.contains("panicked");
    let finished = output.status.success();
    assert!(fine && (finished || has_come), "{moment:?}: {errors}");
    !finished
}

/// Everything below a folder. What goes meanwhile may be missing.
pub fn below(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let Ok(entries) = fs::read_dir(folder) else {
        return found;
    };
    for entry in entries.flatten() {
        let path = entry.path();
        if path.is_dir() {
            found.extend(below(&path));
        }
        found.push(path);
    }
    found.sort();
    found
}

/// Files and folders below a folder that are half written.
pub fn unfinished(folder: &Path) -> Vec<PathBuf> {
    let mut found = below(folder);
    found.retain(|path| name_of(path).starts_with(UNFINISHED));
    found
}

fn name_of(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default();
    name.to_string_lossy().into_owned()
}

/// What must be equal in two runs: curves, latents, and weights of each stage's newest checkpoint.
pub fn results(run: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut results = BTreeMap::new();
    for path in below(run) {
        let folder = path.parent().unwrap();
        let newest = fs::read_to_string(folder.with_file_name("latest"));
        let is_old = newest.is_ok_and(|newest| name_of(folder) != newest.trim());
        let name = name_of(&path);
        if name == "metrics.jsonl" || (name.ends_with(".safetensors") && !is_old) {
            let bytes = fs::read(&path).unwrap();
            results.insert(path.strip_prefix(run).unwrap().to_owned(), bytes);
        }
    }
    results
}

/// Steps of the newest checkpoints, by the folders of their stages.
fn steps(run: &Path) -> BTreeMap<PathBuf, u64> {
    let mut steps = BTreeMap::new();
    for path in below(run) {
        if name_of(&path) != "latest" {
            continue;
        }
        let name = fs::read_to_string(&path).unwrap();
        let folder = path.with_file_name(name.trim());
        assert!(folder.is_dir(), "{} is lost", folder.display());
        let step = name.trim().strip_prefix("step-").unwrap().parse().unwrap();
        steps.insert(path.parent().unwrap().to_owned(), step);
    }
    steps
}

/// A number in the environment.
fn number(name: &str) -> Option<u64> {
    let text = env::var(name).ok()?;
    let number = text.parse();
    Some(number.unwrap_or_else(|_| panic!("{name} must be a whole number, not `{text}`")))
}

/// Random numbers that follow from a seed (splitmix64).
struct Random(u64);

impl Random {
    fn word(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut x = self.0;
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ (x >> 31)
    }

    /// A whole number below an end.
    fn below(&mut self, end: u64) -> u64 {
        self.word() % end
    }

    /// A number from 0 to 1.
    fn share(&mut self) -> f64 {
        self.word() as f64 / u64::MAX as f64
    }
}

/// The first two numbers of splitmix64 from seed 0, as in its reference implementation.
#[test]
fn random_numbers_are_those_of_splitmix64() {
    let mut random = Random(0);
    assert_eq!(random.word(), 0xe220_a839_7b1d_cdaf);
    assert_eq!(random.word(), 0x6e78_9e6a_a1b9_65f4);
    assert!((0.0..=1.0).contains(&random.share()));
}
