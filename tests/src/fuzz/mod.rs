//! Every reader of files as a function of bytes, with whole files that it takes: what is fuzzed.
//!
//! Two programs call them. The test `inputs` reads damaged copies of the whole files in child processes
//! (`cargo xtask fuzz`), on stable Rust. Programs of libFuzzer make inputs of their own (`fuzz/README.md`).

mod data;
mod model;
mod mutate;
mod seeds;

use std::cell::RefCell;
use std::fmt::Display;
use std::fs;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::repository;
use mutate::{Dice, damaged};

/// What became of an input: read, or refused with a message.
pub type Verdict = Result<(), String>;
/// Reads an input. May keep files in the scratch folder that it was made with.
pub type Reader = Box<dyn FnMut(&[u8]) -> Verdict>;

/// Damaged files that lie elsewhere than in the folder of the target: the target, the folder, and how the files'
/// names begin.
const ELSEWHERE: [(&str, &str, &str); 4] = [
    (
        "sound",
        "crates/latentlm-media/tests/fixtures/crashes",
        "aud-",
    ),
    (
        "tokenizer",
        "crates/latentlm-data/tests/fixtures/crashes",
        "tok-",
    ),
    ("manifest", "fuzz/corpus/checkpoint", ""),
    ("published-config", "fuzz/corpus/published", ""),
];

/// A reader with what it takes.
pub struct Target {
    /// Its name: also that of libFuzzer's program and of the folder in `fuzz/corpus`.
    pub name: &'static str,
    /// Builds the reader, which may use a scratch folder.
    pub reader: fn(&Path) -> Reader,
    /// Makes whole files. The reader must take each of them.
    pub whole: fn() -> Vec<Vec<u8>>,
    /// Damaged inputs, in percent of the usual number.
    pub share_percent: usize,
}

impl Target {
    fn new(name: &'static str, reader: fn(&Path) -> Reader, whole: fn() -> Vec<Vec<u8>>) -> Self {
        Self {
            name,
            reader,
            whole,
            share_percent: 100,
        }
    }

    /// The same with another number of inputs: more for readers of many formats, fewer for slow ones.
    fn share(self, share_percent: usize) -> Self {
        Self {
            share_percent,
            ..self
        }
    }
}

/// All targets.
pub fn targets() -> Vec<Target> {
    let mut targets = data_targets();
    targets.extend(model_targets());
    targets
}

/// The target of a name.
pub fn target(name: &str) -> Option<Target> {
    targets().into_iter().find(|target| target.name == name)
}

fn data_targets() -> Vec<Target> {
    vec![
        Target::new("picture", data::picture, seeds::pictures).share(400),
        Target::new("clip", data::clip, seeds::clips).share(400),
        Target::new("clip-frames", data::clip_frames, || vec![seeds::png(8, 6)]),
        Target::new("clips-jsonl", data::clip_table, || {
            seeds::texts(&seeds::CLIPS_JSONL)
        }),
        Target::new("scene", data::scene, || seeds::texts(&seeds::SCENES)),
        Target::new(
            "idx-images",
            |scratch| data::idx(scratch, "train-images-idx3-ubyte"),
            || vec![seeds::idx_images()],
        ),
        Target::new(
            "idx-labels",
            |scratch| data::idx(scratch, "train-labels-idx1-ubyte"),
            || vec![seeds::idx_labels()],
        ),
        Target::new(
            "idx-gzip",
            |scratch| data::idx(scratch, "train-images-idx3-ubyte.gz"),
            || vec![seeds::gzip(&seeds::idx_images())],
        ),
        Target::new(
            "pictures-csv",
            |scratch| data::picture_table(scratch, "metadata.csv"),
            || seeds::texts(&seeds::PICTURES_CSV),
        ),
        Target::new(
            "pictures-jsonl",
            |scratch| data::picture_table(scratch, "metadata.jsonl"),
            || seeds::texts(&seeds::PICTURES_JSONL),
        ),
        Target::new("sound", data::sound, seeds::sounds).share(400),
        Target::new(
            "speech-csv",
            |scratch| data::speech_table(scratch, "metadata.csv"),
            || seeds::texts(&seeds::SPEECH_CSV),
        ),
        Target::new(
            "speech-jsonl",
            |scratch| data::speech_table(scratch, "metadata.jsonl"),
            || seeds::texts(&seeds::SPEECH_JSONL),
        ),
        Target::new(
            "speech-transcript",
            |scratch| data::speech_table(scratch, "1/2/1-2.trans.txt"),
            || seeds::texts(&seeds::LIBRISPEECH),
        ),
        Target::new(
            "speech-mls",
            |scratch| data::speech_table(scratch, "transcripts.txt"),
            || seeds::texts(&seeds::MLS),
        ),
        Target::new(
            "speech-libritts",
            |scratch| data::speech_table(scratch, data::LIBRITTS),
            || seeds::texts(&seeds::TRANSCRIPT),
        ),
        Target::new(
            "speech-vctk",
            |scratch| data::speech_table(scratch, data::VCTK),
            || seeds::texts(&seeds::TRANSCRIPT),
        ),
        Target::new("text", data::text, || seeds::texts(&seeds::PARAGRAPHS)),
        Target::new("sentences", data::sentences, || {
            seeds::texts(&seeds::SENTENCES)
        }),
        Target::new("tokenizer", data::tokenizer, seeds::tokenizers).share(200),
        Target::new("known-text", data::known_text, seeds::known_texts),
        Target::new("latents", data::latents, seeds::latents),
        Target::new("data-list", data::data_list, || {
            seeds::texts(&seeds::DATA_LISTS)
        }),
    ]
}

fn model_targets() -> Vec<Target> {
    vec![
        Target::new("recipe", model::recipe, seeds::recipes),
        Target::new("override", model::recipe_override, || {
            seeds::texts(&seeds::OVERRIDES)
        }),
        Target::new("manifest", model::manifest, seeds::manifests),
        Target::new("checkpoint", model::checkpoint, seeds::image_manifest).share(50),
        Target::new("weights", model::weights, model::whole_weights),
        Target::new("lm-weights", model::lm_weights, seeds::lm_weights).share(50),
        Target::new("optimizer", model::optimizer, model::whole_optimizer),
        Target::new(
            "published-config",
            model::published_config,
            seeds::published_configs,
        ),
        Target::new("published", model::published, seeds::vibevoice_config).share(25),
        Target::new(
            "published-weights",
            model::published_weights,
            seeds::published_weights,
        )
        .share(25),
        Target::new("quantized", model::quantized, model::whole_quantized).share(25),
        Target::new("published-index", model::published_index, || {
            seeds::texts(&seeds::PUBLISHED_INDEX)
        })
        .share(50),
        Target::new("voice", model::voice, seeds::voices).share(400),
        Target::new("gguf", model::gguf, seeds::ggufs).share(50),
        Target::new("codes", model::codes, model::whole_codes),
        Target::new("metrics", model::metrics, seeds::metrics),
        Target::new("transcript", model::transcript, || {
            seeds::texts(&seeds::TRANSCRIPTS)
        }),
        Target::new("script", model::script, || seeds::texts(&seeds::SCRIPTS)),
        Target::new("skipped", model::skipped, || seeds::texts(&seeds::SKIPPED)),
    ]
}

/// The inputs of a target by number: whole files, files of `fuzz/corpus`, then damaged copies of both.
pub struct Inputs {
    target: &'static str,
    files: Vec<Vec<u8>>,
    whole: usize,
    damaged: usize,
}

impl Inputs {
    /// Inputs with so many damaged ones for a usual target.
    ///
    /// # Panics
    /// If a file can't be read.
    pub fn of(target: &Target, damaged: usize) -> Self {
        let mut files = (target.whole)();
        let whole = files.len();
        for (name, folder, prefix) in ELSEWHERE {
            if name == target.name {
                files.extend(files_of(&repository(folder), prefix));
            }
        }
        files.extend(files_of(&repository("fuzz/corpus").join(target.name), ""));
        Self {
            target: target.name,
            files,
            whole,
            damaged: (damaged * target.share_percent).div_ceil(100),
        }
    }

    /// Number of inputs.
    pub fn count(&self) -> usize {
        self.files.len() + self.damaged
    }

    /// An input of a run with this seed.
    pub fn get(&self, seed: u64, index: usize) -> Vec<u8> {
        match self.files.get(index) {
            Some(file) => file.clone(),
            None => damaged(&self.files, &mut Dice::of(self.target, seed, index)),
        }
    }

    /// Whether an input is a whole file, which must be read.
    pub fn is_whole(&self, index: usize) -> bool {
        index < self.whole
    }
}

/// The contents of the files of a folder whose names begin with `prefix`, in the order of their names; nothing
/// if there is no such folder.
fn files_of(folder: &Path, prefix: &str) -> Vec<Vec<u8>> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
    paths.sort();
    paths.retain(|path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        path.is_file() && name.starts_with(prefix)
    });
    paths.iter().map(|path| bytes_of(path)).collect()
}

fn bytes_of(path: &Path) -> Vec<u8> {
    fs::read(path).unwrap_or_else(|error| panic!("cannot read {}: {error}", path.display()))
}

/// Writes a file below a scratch folder.
fn put(path: &Path, bytes: &[u8]) {
    let folder = path.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(folder)
        .and_then(|()| fs::write(path, bytes))
        .unwrap_or_else(|error| panic!("cannot write {}: {error}", path.display()));
}

/// A result with its error as a person reads it.
fn told<T, E: Display>(result: Result<T, E>) -> Result<T, String> {
    result.map_err(|error| error.to_string())
}

/// Reads an input as a target does. For programs that make inputs themselves: a process reads with one target
/// alone.
///
/// # Panics
/// If there is no such target, or the reader panics.
pub fn read(name: &str, bytes: &[u8]) {
    thread_local! {
        static READER: RefCell<Option<(TempDir, Reader)>> = const { RefCell::new(None) };
    }
    READER.with_borrow_mut(|slot| {
        let (_, reader) = slot.get_or_insert_with(|| {
            let target = target(name).unwrap_or_else(|| panic!("there is no target `{name}`"));
            let scratch = tempfile::tempdir().expect("a folder for scratch files");
            let reader = (target.reader)(scratch.path());
            (scratch, reader)
        });
        // A refused input is as good as one that is read.
        let _ = reader(bytes);
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    /// libFuzzer has a program for each target, of its name.
    #[test]
    fn every_target_has_a_program() {
        let manifest = fs::read_to_string(repository("fuzz/Cargo.toml")).unwrap();
        let targets = targets();
        for target in &targets {
            let name = target.name;
            let program = format!("name = \"{name}\"\npath = \"fuzz_targets/{name}.rs\"");
            assert!(manifest.contains(&program), "fuzz/Cargo.toml: {name}");
            let path = repository("fuzz/fuzz_targets").join(format!("{name}.rs"));
            let text = fs::read_to_string(path).unwrap();
            assert!(text.contains(&format!("read(\"{name}\", ")), "{text}");
        }
        assert_eq!(manifest.matches("[[bin]]").count(), targets.len());
    }

    /// Every folder of the corpus belongs to a target.
    #[test]
    fn the_corpus_is_read() {
        let mut count = 0;
        for entry in fs::read_dir(repository("fuzz/corpus")).unwrap() {
            let name = entry.unwrap().file_name();
            let name = name.to_string_lossy();
            assert!(target(&name).is_some(), "fuzz/corpus/{name}");
            count += 1;
        }
        assert!(count > 2, "{count}");
    }
}
