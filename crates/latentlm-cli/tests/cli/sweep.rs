//! Every key of the recipes at values that nobody means: the binary refuses it in one line, or trains two steps of
//! both stages and logs finite numbers. Each case is a process of its own, so that aborts and hangs are seen. Of comparisons
//! the keys are tried that the trainings of their tables lack; they train two steps of every model.
//!
//! The tests try a sample of the cases, `cargo xtask sweep` all of them.

use std::env;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use latentlm_pipelines::{ImageRecipe, MllmRecipe, Recipe, SpeechRecipe, VideoRecipe};

use self::numbers::check_numbers;
use crate::pictures::SMALL;
use crate::{BINARY, mllm, pictures, speech, video};

/// In TOML: whole numbers and fractions.
const ABSURD: [&str; 14] = [
    "0",
    "-1",
    "0.0",
    "-1.0",
    "1000000000",
    "1e9",
    "9223372036854775807",
    "-9223372036854775808",
    "1e-300",
    "1e300",
    "-1e300",
    "inf",
    "-inf",
    "nan",
];
/// The tests try one of so many cases that a recipe refuses, and one of so many that it takes. Both have no factor in
/// common with the number of values.
const REFUSED_SAMPLE: usize = 41;
const TAKEN_SAMPLE: usize = 9;
/// The same of comparisons, which train several models.
const REFUSED_COMPARED: usize = 97;
const TAKEN_COMPARED: usize = 29;
/// Longest time of a case, if nothing but the sweep runs.
const LONGEST: Duration = Duration::from_secs(60);
/// Longest time of a case beside other tests.
const LONGEST_BESIDE: Duration = Duration::from_secs(600);
/// Longest time of a refusal, if nothing but the sweep runs.
const LONGEST_REFUSAL: Duration = Duration::from_secs(1);
/// Address space of a process in KiB: 16 GiB. What takes more aborts.
const ADDRESS_SPACE_KIB: u64 = 16 << 20;
/// Most memory of a refusal in KiB.
const MOST_KIB: u64 = 1 << 20;
/// How often a process is looked at.
const LOOK: Duration = Duration::from_millis(5);

/// A kind of training.
struct Kind {
    command: &'static str,
    /// Writes the data into a folder.
    data: fn(&Path),
    /// The folder's name in the recipe.
    folder: &'static str,
    /// Overrides that make it small, the last of a key counts.
    recipe: &'static [&'static [&'static str]],
    /// Overrides that switch the discriminators on.
    adversarial: &'static [&'static str],
    /// For a comparison the table, with its dot, that these overrides are for: its keys are not tried. Empty for others.
    table: &'static str,
    /// Further overrides of a comparison.
    compared: &'static [&'static str],
}

/// Two steps of each stage, all of them logged.
const TWO_STEPS: [&str; 4] = [
    "codec_train.steps=2",
    "codec_train.log_every=1",
    "lm_train.steps=2",
    "lm_train.log_every=1",
];
const PICTURE_DISCRIMINATOR: [&str; 4] = [
    "codec_loss.adversarial_weight=0.5",
    "codec_loss.adversarial_start=0",
    "codec_loss.discriminator_width=4",
    "codec_loss.discriminator_layers=2",
];
/// A small codec of convolutions: its keys mean nothing to the other architecture.
const CONV: [&str; 3] = [
    "codec.architecture=Conv",
    "codec.conv.base_width=4",
    "codec.conv.multipliers=[2]",
];

const LOG_NORMAL_TIMES: [&str; 3] = [
    "lm.process=flow",
    "lm.times=log-normal",
    "sample.sampler=euler",
];
const SHORTCUT: [&str; 3] = [
    "lm.process=flow",
    "lm.few_step=shortcut",
    "sample.sampler=euler",
];
const CODEBOOKS: [&str; 2] = ["codec.quantizer.codebooks=2", "codec.quantizer.entries=4"];
/// Keys that mean nothing unless other keys switch them on: the beginning of their names, and these other keys.
const SWITCHED: [(&str, &[&str]); 6] = [
    ("codec.conv.", &CONV),
    ("codec.latents.noise_share", &["codec.noise=Interpolated"]),
    ("codec.quantizer.", &CODEBOOKS),
    ("lm.time_", &LOG_NORMAL_TIMES),
    ("lm.shortcut_", &SHORTCUT),
    ("sample.steps_over", &["sample.steps_last=1"]),
];

const IMAGES: Kind = Kind {
    command: "train-image",
    data: pictures::write,
    folder: "pictures",
    recipe: &[&crate::TINY, &SMALL, &TWO_STEPS],
    adversarial: &PICTURE_DISCRIMINATOR,
    table: "",
    compared: &[],
};
const SPEECH: Kind = Kind {
    command: "train-tts",
    data: whole_corpus,
    folder: "corpus",
    recipe: &[&speech::TINY, &TWO_STEPS],
    adversarial: &[
        "codec_loss.adversarial_weight=1.0",
        "codec_loss.adversarial_start=0",
        "codec_loss.discriminator_windows=[64]",
        "codec_loss.discriminator_width=2",
    ],
    table: "",
    compared: &[],
};
const MLLM: Kind = Kind {
    command: "train-mllm",
    data: mllm::pictures,
    folder: "pictures",
    recipe: &[&mllm::TINY, &TWO_STEPS],
    adversarial: &PICTURE_DISCRIMINATOR,
    table: "",
    compared: &[],
};
const VIDEO: Kind = Kind {
    command: "train-video",
    data: video::write_digits,
    folder: "digits",
    recipe: &[&video::TINY, &["data.path=digits"], &TWO_STEPS],
    adversarial: &PICTURE_DISCRIMINATOR,
    table: "",
    compared: &[],
};

#[cfg(feature = "compare")]
#[test]
fn absurd_comparisons_are_refused_or_trained() {
    comparisons::sweep();
}

#[cfg(feature = "compare")]
mod comparisons;
mod numbers;

/// The corpus without its broken recording, which `data.max_broken=0` rightly refuses.
fn whole_corpus(folder: &Path) {
    speech::corpus(folder);
    fs::copy(folder.join("1.wav"), folder.join("2.wav")).unwrap();
}

#[test]
fn absurd_image_recipes_are_refused_or_trained() {
    Sweep::of::<ImageRecipe>(&IMAGES).run();
}

#[test]
fn absurd_speech_recipes_are_refused_or_trained() {
    Sweep::of::<SpeechRecipe>(&SPEECH).run();
}

#[test]
fn absurd_recipes_of_text_and_pictures_are_refused_or_trained() {
    Sweep::of::<MllmRecipe>(&MLLM).run();
}

#[test]
fn absurd_recipes_of_clips_are_refused_or_trained() {
    Sweep::of::<VideoRecipe>(&VIDEO).run();
}

/// The overrides of a training; the last one is absurd.
struct Case {
    overrides: Vec<String>,
    /// Whether the recipe takes them.
    taken: bool,
}

/// What became of a case.
enum End {
    /// An error in one line, before anything was trained.
    Refused,
    /// Two steps of both stages, and finite numbers.
    Ran,
    /// An error in one line: there is nothing to learn from what this recipe makes.
    Stopped,
}

impl Kind {
    fn is_comparison(&self) -> bool {
        !self.table.is_empty()
    }

    /// Overrides for a training in which a key has a meaning.
    fn beside(&self, key: &str) -> Vec<String> {
        let mut overrides = self.recipe.concat();
        for (begin, switches) in SWITCHED {
            if key.starts_with(begin) {
                overrides.extend(switches);
            }
        }
        let adversarial = ["adversarial_", "discriminator_", "feature_"];
        let of_loss = key.strip_prefix("codec_loss.");
        if of_loss.is_some_and(|key| adversarial.iter().any(|begin| key.starts_with(begin))) {
            overrides.extend(self.adversarial);
        }
        let within = overrides.iter().map(|own| format!("{}{own}", self.table));
        let compared = self.compared.iter().map(ToString::to_string);
        within.chain(compared).collect()
    }

    /// Each key at each value. `part` is in the names of the keys.
    fn cases<R: Recipe>(&self, part: &str) -> Vec<Case> {
        let small = R::resolve(None, &self.beside("")).map(|_| ());
        assert_eq!(small.map_err(|error| error.to_string()), Ok(()));
        let mut cases = Vec::new();
        for (name, key) in R::keys().iter() {
            let is_other = self.is_comparison() && name.starts_with(self.table);
            if is_other || !name.contains(part) {
                continue;
            }
            for value in ABSURD {
                let mut overrides = self.beside(name);
                overrides.push(if key.default.is_array() {
                    format!("{name}=[{value}]")
                } else {
                    format!("{name}={value}")
                });
                let taken = R::resolve(None, &overrides).is_ok();
                cases.push(Case { overrides, taken });
            }
        }
        cases
    }
}

/// Cases of a kind of training, and what became of them.
struct Sweep {
    kind: &'static Kind,
    folder: tempfile::TempDir,
    cases: Vec<Case>,
    /// Whether these are all cases, and nothing else runs.
    is_full: bool,
    refused: usize,
    ran: usize,
    stopped: usize,
    failures: Vec<String>,
    peak_kib: u64,
}

impl Sweep {
    fn of<R: Recipe>(kind: &'static Kind) -> Self {
        let part = env::var("LATENTLM_SWEEP").ok();
        let all = kind.cases::<R>(part.as_deref().unwrap_or_default());
        let cases = match part {
            Some(_) => all,
            None if kind.is_comparison() => sample(all, REFUSED_COMPARED, TAKEN_COMPARED),
            None => sample(all, REFUSED_SAMPLE, TAKEN_SAMPLE),
        };
        let folder = tempfile::tempdir().unwrap();
        (kind.data)(&folder.path().join(kind.folder));
        Self {
            kind,
            folder,
            cases,
            is_full: part.is_some(),
            refused: 0,
            ran: 0,
            stopped: 0,
            failures: Vec::new(),
            peak_kib: 0,
        }
    }

    fn run(mut self) {
        let started = Instant::now();
        for case in std::mem::take(&mut self.cases) {
            match self.try_case(&case) {
                Ok(End::Refused) => self.refused += 1,
                Ok(End::Ran) => self.ran += 1,
                Ok(End::Stopped) => self.stopped += 1,
                Err(reason) => {
                    let change = case.overrides.last().map_or("", String::as_str);
                    self.failures
                        .push(format!("{} {change}: {reason}", self.kind.command));
                }
            }
        }
        self.show(started.elapsed());
        assert!(self.failures.is_empty(), "{}", self.failures.join("\n"));
        // A part of the keys may be all refused, and comparisons have few.
        let is_part = self.is_full || self.kind.is_comparison();
        assert!(is_part || (self.refused > 0 && self.ran > 0));
    }

    /// A line of the table of `cargo xtask sweep`.
    fn show(&self, time: Duration) {
        if !self.is_full {
            return;
        }
        let line = format!(
            "{:<13} {:>8} {:>6} {:>8} {:>7} {:>6} MiB {:>8.0} s",
            self.kind.command,
            self.refused,
            self.ran,
            self.stopped,
            self.failures.len(),
            self.peak_kib >> 10,
            time.as_secs_f64()
        );
        // Past the test runner, which keeps what tests print.
        writeln!(io::stdout(), "{line}").expect("standard output is open");
    }

    fn try_case(&mut self, case: &Case) -> Result<End, String> {
        let (started, run) = (Instant::now(), self.folder.path().join("runs/swept"));
        let _ = fs::remove_dir_all(&run);
        let errors = self.folder.path().join("errors.txt");
        let longest = if self.is_full {
            LONGEST
        } else {
            LONGEST_BESIDE
        };
        let (status, peak_kib) = wait(self.start(case, &errors), started, longest)?;
        let text = fs::read_to_string(&errors).map_err(|error| error.to_string())?;
        if status.success() {
            if !case.taken {
                return Err("trained, though the recipe is wrong".into());
            }
            check_numbers(&run, self.kind.is_comparison())?;
            return Ok(End::Ran);
        }
        let error = one_error(status, &text)?;
        if status.code() == Some(2) {
            self.peak_kib = self.peak_kib.max(peak_kib);
            if peak_kib > MOST_KIB {
                return Err(format!("took {} MiB to be refused", peak_kib >> 10));
            }
            if self.is_full && started.elapsed() > LONGEST_REFUSAL {
                return Err(format!("took {:?} to be refused", started.elapsed()));
            }
            return Ok(End::Refused);
        }
        // Some accepted values leave nothing to train on, or make the loss infinite or NaN.
        let told = [
            "changed nothing",
            "not finite",
            "no recording",
            "no sample",
            "no clips",
        ];
        if case.taken && told.iter().any(|part| error.contains(part)) {
            return Ok(End::Stopped);
        }
        Err(error)
    }

    /// Begins a training whose errors go to a file.
    fn start(&self, case: &Case, errors: &Path) -> Child {
        let script = format!("ulimit -c 0; ulimit -v {ADDRESS_SPACE_KIB}; exec \"$@\"");
        let mut command = Command::new("sh");
        command
            .args(["-c", &script, "sh", BINARY])
            .args(self.kind.command.split(' '))
            .args(["--run", "swept", "--progress", "silent"])
            .args(&case.overrides)
            .current_dir(self.folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(errors).unwrap());
        command.spawn().unwrap()
    }
}

/// A few cases of both kinds: one of so many that are refused, and of so many that are taken.
fn sample(cases: Vec<Case>, one_of_refused: usize, one_of_taken: usize) -> Vec<Case> {
    let (mut refused, mut taken) = (0_usize, 0_usize);
    let mut picked = Vec::new();
    for case in cases {
        let (count, one_of) = if case.taken {
            (&mut taken, one_of_taken)
        } else {
            (&mut refused, one_of_refused)
        };
        *count += 1;
        if count.is_multiple_of(one_of) {
            picked.push(case);
        }
    }
    picked
}

/// Waits for the end of a process, and ends it if it takes too long. Returns also its largest memory in KiB, as far as
/// it was seen.
fn wait(
    mut process: Child,
    started: Instant,
    longest: Duration,
) -> Result<(ExitStatus, u64), String> {
    let mut peak_kib = 0;
    loop {
        if let Some(status) = process.try_wait().map_err(|error| error.to_string())? {
            return Ok((status, peak_kib));
        }
        if started.elapsed() > longest {
            process.kill().map_err(|error| error.to_string())?;
            process.wait().map_err(|error| error.to_string())?;
            return Err(format!("did not end within {longest:?}"));
        }
        peak_kib = peak_kib.max(peak_of(process.id()).unwrap_or(0));
        thread::sleep(LOOK);
    }
}

/// The largest memory of a process in KiB; `None` on systems that do not say so as Linux does.
fn peak_of(process: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix("kB")?.trim().parse().ok()
}

/// The one line that says why a command failed.
fn one_error(status: ExitStatus, text: &str) -> Result<String, String> {
    let errors: Vec<&str> = text.lines().filter(|l| l.starts_with("error")).collect();
    match errors[..] {
        [error] if status.code().is_some() && !text.contains("panicked") => Ok(error.into()),
        _ => Err(format!("{status}: {text}")),
    }
}

#[test]
fn the_memory_of_a_process_is_seen() {
    // Not of a process that has just begun: some kernels say of one that it has none.
    let peak = peak_of(std::process::id());
    if Path::new("/proc/self/status").exists() {
        assert!(peak.is_some_and(|kib| kib > 0), "{peak:?}");
    }
}
