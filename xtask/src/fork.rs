//! `cargo xtask fork`: checks that swapping a part takes one changed line.
//!
//! It copies the project and changes one line of the copy's `Cargo.toml`, so that a part from
//! `examples/fork` replaces ours. Then it builds the copy, trains for some steps, and draws or speaks.
//! `docs/fork.md` describes the same swap by hand.
//!
//! The copy uses our target folder and keeps the modification times of files, and cargo identifies files by
//! paths relative to the workspace's root. So crates that a swap does not touch, such as Burn, are not built
//! again. It lies outside of the target folder: cargo remembers sources inside of it by their place there, and
//! would go on looking at the copy's instead of ours, so that later edits would not be built.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result, ensure};
use clap::ValueEnum;
use latentlm_args::say;

use crate::cargo::{cargo, line, project_root, succeed, target_folder};

/// Swap each part for one of examples/fork by one line of Cargo.toml, train 20 steps, draw or speak.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  cargo xtask fork             all four parts
  cargo xtask fork backbone    one of them

Works on a temporary copy; nothing else is changed. docs/fork.md walks through a swap by hand.")]
pub struct Args {
    /// The part to swap; all four if absent
    #[arg(value_enum)]
    part: Option<Part>,
}

/// A part that can be swapped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    /// The image codec
    CodecImage,
    /// The speech codec
    CodecAudio,
    /// The causal backbone
    Backbone,
    /// The head that draws latents
    Head,
}

/// Longest time of all swaps together, without the copy. Somebody who replaces a part should have it trained
/// within minutes. A swap that takes longer has begun to build crates again that it does not touch, such as Burn.
/// Two cores take five minutes; the rest is for slower machines.
const LIMIT: Duration = Duration::from_secs(10 * 60);

/// Cargo features of the build: the backend, and those features of Burn that our parts turn on. A fork's part may
/// not turn them on; Burn would then be built again with fewer features.
const FEATURES: &str = "cpu,burn/autodiff,burn/signal";

/// Overrides for training in seconds. They only use keys that every part has.
const SMALL: [&str; 12] = [
    "codec_train.steps=20",
    "codec_train.batch_size=8",
    "codec_train.warmup_steps=2",
    "lm.width=32",
    "lm.depth=1",
    "lm.heads=2",
    "lm.kv_heads=1",
    "lm.head_depth=1",
    "lm_train.steps=20",
    "lm_train.warmup_steps=2",
    "sample.steps=2",
    "sample.guidance_scale=1.5",
];
const SMALL_PICTURES: [&str; 2] = ["lm_train.batch_size=8", "sample.per_class=1"];
const SMALL_SPEECH: [&str; 4] = [
    "data.composed=8",
    "data.codec_seconds=0.2",
    "data.pack_positions=200",
    "sample.max_seconds=0.4",
];

impl Part {
    const ALL: [Self; 4] = [
        Self::CodecImage,
        Self::CodecAudio,
        Self::Backbone,
        Self::Head,
    ];

    /// The folder in `examples/fork`.
    fn folder(self) -> &'static str {
        match self {
            Self::CodecImage => "codec-image",
            Self::CodecAudio => "codec-audio",
            Self::Backbone => "backbone",
            Self::Head => "head",
        }
    }

    /// Our crate for this role.
    fn ours(self) -> &'static str {
        match self {
            Self::CodecImage => "latentlm-codec-image",
            Self::CodecAudio => "latentlm-codec-audio",
            Self::Backbone => "latentlm-backbone",
            Self::Head => "latentlm-diffusion",
        }
    }

    /// The changed line of the manifest.
    fn line(self) -> String {
        let (ours, folder) = (self.ours(), self.folder());
        let place = format!("path = \"examples/fork/{folder}\", package = \"fork-{folder}\"");
        format!("{ours} = {{ {place}, version = \"0.1.0\" }}")
    }

    /// Arguments of the training command.
    fn training(self) -> Vec<String> {
        let (command, small) = match self {
            Self::CodecAudio => ("train-tts", &SMALL_SPEECH[..]),
            _ => ("train-image", &SMALL_PICTURES[..]),
        };
        let words = [command, "--run", self.folder(), "--progress", "silent"];
        let words = words.iter().chain(&SMALL).chain(small);
        words.map(ToString::to_string).collect()
    }

    /// Arguments of the command that draws or speaks, and the file that it writes.
    fn drawing(self) -> (Vec<String>, String) {
        let (command, what, ending) = match self {
            Self::CodecAudio => ("speak", &["--text", "three five nine"][..], "wav"),
            _ => ("sample-image", &["--grid", "--count", "1"][..], "png"),
        };
        let file = format!("{}.{ending}", self.folder());
        let words = [command, "--run", self.folder(), "--out", &file];
        let words = words.iter().chain(what);
        (words.map(ToString::to_string).collect(), file)
    }
}

impl Args {
    /// Swaps the parts one after the other, and prints the time of each.
    pub fn run(self) -> Result<ExitCode> {
        let copy = ProjectCopy::new(project_root(), "fork");
        copy.make()?;
        let start = Instant::now();
        let manifest = fs::read_to_string(copy.folder.join("Cargo.toml"))?;
        let parts = match self.part {
            Some(part) => vec![part],
            None => Part::ALL.to_vec(),
        };
        let mut times = vec![("tests", timed(|| copy.test_parts(&manifest, &parts))?)];
        let kept = KeptBinary::new(&target_folder())?;
        for part in parts {
            let swap = Swap::new(&manifest, part)?;
            say!("\n{}", swap.diff());
            copy.write("Cargo.toml", &swap.manifest)?;
            times.push((part.folder(), timed(|| copy.try_part(part, &kept.path))?));
        }
        say!("");
        for (name, time) in times {
            say!("{name:<12} passed {:8.1} s", time.as_secs_f64());
        }
        let all = start.elapsed();
        say!("in all {:.1} s", all.as_secs_f64());
        check_limit(all)?;
        Ok(ExitCode::SUCCESS)
    }
}

/// Refuses swaps that took longer than [`LIMIT`].
fn check_limit(time: Duration) -> Result<()> {
    ensure!(
        time <= LIMIT,
        "the swaps took {:.1} s, more than {} s: they may have built crates again that they do not touch",
        time.as_secs_f64(),
        LIMIT.as_secs()
    );
    Ok(())
}

fn timed(work: impl FnOnce() -> Result<()>) -> Result<Duration> {
    let start = Instant::now();
    work()?;
    Ok(start.elapsed())
}

/// One changed line of a manifest.
#[derive(Debug)]
struct Swap {
    before: String,
    after: String,
    /// The manifest with the line changed.
    manifest: String,
}

impl Swap {
    /// Replaces the line of our part in `[workspace.dependencies]` by the line of the fork's part.
    fn new(manifest: &str, part: Part) -> Result<Self> {
        let (head, after) = (format!("{} = ", part.ours()), part.line());
        let mut section = "";
        let mut before = None;
        let mut lines = Vec::new();
        for line in manifest.lines() {
            if line.starts_with('[') {
                section = line;
            }
            if section == "[workspace.dependencies]" && line.starts_with(&head) {
                ensure!(before.is_none(), "{} stands in two lines", part.ours());
                before = Some(line.to_owned());
                lines.push(after.as_str());
            } else {
                lines.push(line);
            }
        }
        let manifest = lines.join("\n") + "\n";
        let before = before.with_context(|| {
            format!(
                "no line of [workspace.dependencies] begins with `{head}`: Cargo.toml has changed, and \
                 xtask/src/fork.rs must follow"
            )
        })?;
        Ok(Self {
            before,
            after,
            manifest,
        })
    }

    fn diff(&self) -> String {
        format!("Cargo.toml\n- {}\n+ {}", self.before, self.after)
    }
}

/// The manifest with the parts of `examples/fork` as members of the workspace.
fn with_fork_as_members(manifest: &str) -> Result<String> {
    let mut text = manifest.to_owned();
    for (from, to) in [
        ("\nexclude = [\"examples/fork\"]\n", "\n"),
        ("\"xtask\"]\n", "\"xtask\", \"examples/fork/*\"]\n"),
    ] {
        ensure!(
            text.matches(from).count() == 1,
            "Cargo.toml has changed: `{}` is not in it once; xtask/src/fork.rs must follow",
            from.trim()
        );
        text = text.replace(from, to);
    }
    Ok(text)
}

/// A copy of the project in a temporary folder, which is removed with it.
struct ProjectCopy {
    root: PathBuf,
    begun: SystemTime,
    folder: PathBuf,
}

impl ProjectCopy {
    fn new(root: &Path, name: &str) -> Self {
        let name = format!("latentlm-{name}-{}", std::process::id());
        Self {
            root: root.to_owned(),
            begun: SystemTime::now(),
            folder: std::env::temp_dir().join(name),
        }
    }

    /// Copies all files that git does not ignore. An earlier copy is removed first: a crate that was deleted
    /// from the project would otherwise stay a member of the copy's workspace.
    fn make(&self) -> Result<()> {
        let folder = &self.folder;
        if folder.exists() {
            fs::remove_dir_all(folder)
                .with_context(|| format!("cannot remove {}", folder.display()))?;
        }
        for name in self.names()? {
            self.take(&name)
                .with_context(|| format!("cannot copy {name} to {}", folder.display()))?;
        }
        Ok(())
    }

    /// Names of all files that git does not ignore.
    fn names(&self) -> Result<Vec<String>> {
        let mut git = Command::new("git");
        git.current_dir(&self.root);
        git.args([
            "ls-files",
            "-z",
            "--cached",
            "--others",
            "--exclude-standard",
        ]);
        let output = git.output().context("cannot start git")?;
        ensure!(
            output.status.success(),
            "`{}` failed: {}",
            line(&git),
            String::from_utf8_lossy(&output.stderr).trim()
        );
        let names = String::from_utf8(output.stdout).context("a file's name is no UTF-8")?;
        Ok(names.split_terminator('\0').map(String::from).collect())
    }

    /// Copies a file with its modification time. Skips missing files: git still tracks a deleted file.
    fn take(&self, name: &str) -> Result<()> {
        let (from, to) = (self.root.join(name), self.folder.join(name));
        if !from.is_file() {
            return Ok(());
        }
        if let Some(parent) = to.parent() {
            fs::create_dir_all(parent)?;
        }
        fs::copy(&from, &to)?;
        let modified = fs::metadata(&from)?.modified()?;
        File::options()
            .write(true)
            .open(&to)?
            .set_modified(modified)?;
        Ok(())
    }

    fn write(&self, name: &str, text: &str) -> Result<()> {
        let path = self.folder.join(name);
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))
    }

    /// Cargo in the copy, with our target folder, and offline: all packages have been downloaded already.
    fn cargo(&self, words: &[&str]) -> Command {
        let mut command = cargo();
        command
            .current_dir(&self.folder)
            .args(words)
            .arg("--offline");
        command.env("CARGO_TARGET_DIR", target_folder());
        command
    }

    /// Runs the conformance suites of the parts. For this the parts become members of the copy's workspace:
    /// in their own workspace they select other features, and Burn would be built again. The binary's package
    /// is listed only for its features; it has no test `conformance`.
    fn test_parts(&self, manifest: &str, parts: &[Part]) -> Result<()> {
        fs::remove_file(self.folder.join("examples/fork/Cargo.toml"))?;
        self.write("Cargo.toml", &with_fork_as_members(manifest)?)?;
        let mut test = self.cargo(&["test", "--package", "latentlm-cli"]);
        for part in parts {
            test.args(["--package", &format!("fork-{}", part.folder())]);
        }
        succeed(test.args(["--test", "conformance"]))?;
        self.make()
    }

    /// Builds the binary, then trains and draws with it.
    fn try_part(&self, part: Part, binary: &Path) -> Result<()> {
        let words = ["build", "--package", "latentlm-cli"];
        let mut build = self.cargo(&words);
        build.args(["--no-default-features", "--features", FEATURES]);
        succeed(&mut build)?;
        let latentlm = |words: Vec<String>| {
            let mut command = Command::new(binary);
            command.current_dir(&self.folder).args(words);
            say!("{}", line(&command));
            succeed(&mut command)
        };
        latentlm(part.training())?;
        let (words, file) = part.drawing();
        latentlm(words)?;
        let drawn = fs::metadata(self.folder.join(&file));
        let size = drawn.map_or(0, |drawn| drawn.len());
        ensure!(size > 0, "{file} is empty or was not written");
        Ok(())
    }
}

impl Drop for ProjectCopy {
    /// Gives files that were edited meanwhile a new time: cargo may have built their older text from the copy after the
    /// edit, and would take them for built.
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
        for name in self.names().unwrap_or_default() {
            let path = self.root.join(name);
            let modified = fs::metadata(&path).and_then(|file| file.modified());
            if modified.is_ok_and(|time| time >= self.begun) {
                let file = File::options().append(true).open(&path);
                let _ = file.and_then(|file| file.set_modified(SystemTime::now()));
            }
        }
    }
}

/// Our binary, moved aside because the builds of forks write to the same path. Moved back when dropped.
struct KeptBinary {
    path: PathBuf,
    aside: PathBuf,
}

impl KeptBinary {
    fn new(target: &Path) -> Result<Self> {
        let name = |stem: &str| format!("{stem}{}", std::env::consts::EXE_SUFFIX);
        let folder = target.join("debug");
        let kept = Self {
            path: folder.join(name("latentlm")),
            aside: folder.join(name("latentlm-kept")),
        };
        if kept.path.exists() {
            fs::rename(&kept.path, &kept.aside)
                .with_context(|| format!("cannot move {}", kept.path.display()))?;
        }
        Ok(kept)
    }
}

impl Drop for KeptBinary {
    fn drop(&mut self) {
        // The fork's binary must not stay where ours belongs, even if there was none before.
        let _ = fs::remove_file(&self.path);
        let _ = fs::rename(&self.aside, &self.path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MANIFEST: &str = "\
[workspace]
members = []

[workspace.dependencies]
# The part.
latentlm-backbone = { path = \"crates/latentlm-backbone\", version = \"0.1.0\" }
latentlm-backbones = { path = \"elsewhere\" }

[profile.dev]
latentlm-backbone = 1
";

    fn changed(manifest: &str, part: Part) -> Vec<(String, String)> {
        let swap = Swap::new(manifest, part).unwrap();
        let pairs = manifest.lines().zip(swap.manifest.lines());
        assert_eq!(manifest.lines().count(), swap.manifest.lines().count());
        let changed = pairs.filter(|(before, after)| before != after);
        changed
            .map(|(before, after)| (before.to_owned(), after.to_owned()))
            .collect()
    }

    /// Cargo would go on looking at the copy's sources. What was edited meanwhile is built again.
    #[test]
    fn edits_beside_and_after_a_swap_are_built() {
        let project = tempfile::tempdir().unwrap();
        let mut git = Command::new("git");
        let git = git.args(["init", "-q"]).arg(project.path()).status();
        assert!(git.unwrap().success());
        let file = |name: &str| project.path().join(name);
        let old = SystemTime::now() - Duration::from_secs(100);
        for name in ["kept.rs", "edited.rs"] {
            fs::write(file(name), "fn before() {}").unwrap();
            let open = File::options().append(true).open(file(name)).unwrap();
            open.set_modified(old).unwrap();
        }
        let copy = ProjectCopy::new(project.path(), "edited");
        copy.make().unwrap();
        let folder = copy.folder.clone();
        assert!(!folder.starts_with(target_folder()));
        assert_eq!(
            fs::metadata(folder.join("kept.rs"))
                .unwrap()
                .modified()
                .unwrap(),
            old
        );
        fs::write(file("edited.rs"), "fn after() {}").unwrap();
        // The clock that file systems take this from is up to ten milliseconds behind, and the copy may be faster.
        let edited = File::options().append(true).open(file("edited.rs"));
        edited.unwrap().set_modified(SystemTime::now()).unwrap();
        std::thread::sleep(Duration::from_millis(30));
        let built = SystemTime::now();
        drop(copy);
        assert!(!folder.exists());
        let modified = |name| fs::metadata(file(name)).unwrap().modified().unwrap();
        assert!(modified("edited.rs") >= built);
        assert_eq!(modified("kept.rs"), old);
    }

    #[test]
    fn one_line_changes() {
        let expected = (
            "latentlm-backbone = { path = \"crates/latentlm-backbone\", version = \"0.1.0\" }",
            "latentlm-backbone = { path = \"examples/fork/backbone\", package = \"fork-backbone\", \
             version = \"0.1.0\" }",
        );
        let changed = changed(MANIFEST, Part::Backbone);
        assert_eq!(changed, [(expected.0.to_owned(), expected.1.to_owned())]);
        let diff = Swap::new(MANIFEST, Part::Backbone).unwrap().diff();
        assert_eq!(
            diff,
            format!("Cargo.toml\n- {}\n+ {}", expected.0, expected.1)
        );
    }

    #[test]
    fn a_manifest_without_the_line_is_refused() {
        let message = Swap::new(MANIFEST, Part::Head).unwrap_err().to_string();
        assert!(message.contains("`latentlm-diffusion = `"), "{message}");
        let twice = MANIFEST.replace("backbones", "backbone");
        let message = Swap::new(&twice, Part::Backbone).unwrap_err().to_string();
        assert!(message.contains("two lines"), "{message}");
    }

    /// The project's manifest has a line for each of our parts, and the crates of the fork have the names in
    /// the changed lines.
    #[test]
    fn every_part_can_be_swapped() {
        let manifest = fs::read_to_string(project_root().join("Cargo.toml")).unwrap();
        for part in Part::ALL {
            assert_eq!(changed(&manifest, part).len(), 1, "{part:?}");
            let folder = project_root().join("examples/fork").join(part.folder());
            let own = fs::read_to_string(folder.join("Cargo.toml")).unwrap();
            let name = format!("name = \"fork-{}\"\n", part.folder());
            assert!(own.contains(&name), "{part:?}");
        }
        let members = with_fork_as_members(&manifest).unwrap();
        assert!(members.contains("\"examples/fork/*\"]\n") && !members.contains("\nexclude"));
        assert!(with_fork_as_members(MANIFEST).is_err());
    }

    #[test]
    fn slow_swaps_are_refused_with_their_time() {
        check_limit(LIMIT).unwrap();
        let slow = LIMIT + Duration::from_millis(1500);
        let message = check_limit(slow).unwrap_err().to_string();
        assert!(
            message.contains("took 601.5 s, more than 600 s"),
            "{message}"
        );
    }

    #[test]
    fn copies_are_as_old_as_their_originals() {
        let root = tempfile::tempdir().unwrap();
        let copy = ProjectCopy::new(root.path(), "aged");
        let (from, to) = (copy.root.join("a/b.rs"), copy.folder.join("a/b.rs"));
        fs::create_dir_all(from.parent().unwrap()).unwrap();
        fs::write(&from, "text").unwrap();
        let moment = std::time::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
        let file = File::options().write(true).open(&from).unwrap();
        file.set_modified(moment).unwrap();
        copy.take("a/b.rs").unwrap();
        copy.take("a/deleted.rs").unwrap();
        assert_eq!(fs::read_to_string(&to).unwrap(), "text");
        assert_eq!(fs::metadata(&to).unwrap().modified().unwrap(), moment);
    }

    #[test]
    fn our_binary_is_put_back() {
        let folder = tempfile::tempdir().unwrap();
        let debug = folder.path().join("debug");
        fs::create_dir_all(&debug).unwrap();
        let kept = KeptBinary::new(folder.path()).unwrap();
        let path = kept.path.clone();
        fs::write(&path, "a fork's").unwrap();
        drop(kept);
        assert!(!path.exists(), "there was none of ours");
        fs::write(&path, "ours").unwrap();
        let kept = KeptBinary::new(folder.path()).unwrap();
        fs::write(&path, "a fork's").unwrap();
        drop(kept);
        assert_eq!(fs::read_to_string(&path).unwrap(), "ours");
        assert_eq!(fs::read_dir(&debug).unwrap().count(), 1);
    }
}
