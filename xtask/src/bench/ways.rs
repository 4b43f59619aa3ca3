//! The ways to write a workload in PyTorch that are tried.

use std::path::Path;
use std::process::Command;
use std::thread::available_parallelism;

use super::is_stream;

/// Allocators, and a library of threads, that are tried if the system or Python's environment has them, by
/// the names of their files.
const LIBRARIES: [(&str, &str); 5] = [
    ("tcmalloc", "libtcmalloc_minimal.so.4"),
    ("tcmalloc", "libtcmalloc.so.4"),
    ("jemalloc", "libjemalloc.so.2"),
    ("mimalloc", "libmimalloc.so.2"),
    ("Intel's OpenMP", "libiomp5.so"),
];

/// A way to write a workload in PyTorch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Way {
    /// Its name in the table.
    pub(super) name: String,
    /// Flags of `bench.py`.
    pub(super) flags: Vec<String>,
    /// A library that is loaded first.
    pub(super) preload: Option<String>,
    /// Whether glibc gets the settings of memory that ours gets.
    pub(super) keeps_freed_memory: bool,
}

impl Way {
    /// As PyTorch runs without a compiler.
    pub(super) fn eager() -> Self {
        Self::new("eager", "")
    }

    /// torch.compile with inductor.
    pub(super) fn compiled() -> Self {
        Self::new("compiled", "--compile")
    }

    /// `flags` are separated by spaces.
    fn new(name: &str, flags: &str) -> Self {
        Self {
            name: name.to_owned(),
            flags: flags.split_whitespace().map(str::to_owned).collect(),
            preload: None,
            keeps_freed_memory: true,
        }
    }

    /// With parts of the batch in processes of their own.
    fn in_processes(name: &str, flags: &str, count: usize) -> Self {
        let name = format!("{name}, {count} processes");
        Self::new(&name, &format!("{flags} --processes {count}"))
    }

    /// This way with glibc's own settings of memory, and with each library that is there.
    pub(super) fn in_other_memory(&self, python: &Path) -> Vec<Self> {
        let mut ways = vec![Self {
            name: format!("{}, malloc as it is", self.name),
            keeps_freed_memory: false,
            ..self.clone()
        }];
        for (name, library) in found_libraries(python) {
            let name = format!("{}, {name}", self.name);
            if ways.iter().all(|way| way.name != name) {
                ways.push(Self {
                    name,
                    preload: Some(library),
                    ..self.clone()
                });
            }
        }
        ways
    }
}

/// Names of the libraries that are there, with what the loader is told: the name of a file that it finds itself, or a
/// path in the environment of `python`.
fn found_libraries(python: &Path) -> Vec<(&'static str, String)> {
    // Nothing if the loader does not say what it finds.
    let known = match Command::new("ldconfig").arg("-p").output() {
        Ok(output) => String::from_utf8_lossy(&output.stdout).into_owned(),
        Err(_) => String::new(),
    };
    let environment = python.parent().and_then(Path::parent);
    let mut found = Vec::new();
    for (name, library) in LIBRARIES {
        let own = environment.map(|folder| folder.join("lib").join(library));
        if known.contains(library) {
            found.push((name, library.to_owned()));
        } else if let Some(own) = own.filter(|path| path.is_file()) {
            found.push((name, own.to_string_lossy().into_owned()));
        }
    }
    found
}

/// The libraries that are not there.
pub(super) fn missing_libraries(python: &Path) -> Vec<&'static str> {
    let found = found_libraries(python);
    let mut missing: Vec<&str> = LIBRARIES.map(|(name, _)| name).to_vec();
    missing.retain(|name| found.iter().all(|(own, _)| own != name));
    missing.dedup();
    missing
}

/// The ways that are tried beside [`Way::eager`] and [`Way::compiled`].
pub(super) fn other_ways(workload: &str, on_gpu: bool) -> Vec<Way> {
    if on_gpu {
        return vec![Way::new("compiled, fused", "--compile --optimizer fused")];
    }
    let cores = available_parallelism().map_or(1, usize::from);
    let has_batch = !is_stream(workload)
        && !workload.starts_with("backbone")
        && !workload.starts_with("attention");
    let mut ways = Vec::new();
    for &(name, flags) in named_ways(workload) {
        ways.push(Way::new(name, flags));
        // Where the whole batch pays in one process, parts of it may pay in several.
        if has_batch && cores > 1 {
            ways.push(Way::in_processes(name, flags, cores));
        }
    }
    if has_batch && cores > 1 {
        ways.push(Way::in_processes("eager", "", cores));
    }
    ways
}

/// A name, and the flags of `bench.py`, separated by spaces.
type Named = (&'static str, &'static str);

/// Ways to sample.
const SAMPLE_WAYS: [Named; 3] = [
    ("compiled, C++ calls", "--compile --cpp"),
    ("ahead", "--ahead"),
    ("compiled, C++ calls, ahead", "--compile --cpp --ahead"),
];

/// The same with the head in bfloat16.
const ROUNDED_SAMPLE_WAYS: [Named; 4] = [
    SAMPLE_WAYS[0],
    ("compiled, C++ calls, autocast", "--compile --cpp --bf16"),
    SAMPLE_WAYS[1],
    SAMPLE_WAYS[2],
];

/// Ways of the published codec in a stream.
const CODEC_WAYS: [Named; 3] = [
    ("channels last", "--layout last"),
    ("compiled, C++ calls", "--compile --cpp"),
    (
        "compiled, C++ calls, channels last",
        "--compile --cpp --layout last",
    ),
];

/// The same with weights in bfloat16.
const ROUNDED_CODEC_WAYS: [Named; 5] = [
    CODEC_WAYS[0],
    CODEC_WAYS[1],
    CODEC_WAYS[2],
    ("compiled, C++ calls, autocast", "--compile --cpp --bf16"),
    (
        "compiled, C++ calls, channels last, autocast",
        "--compile --cpp --layout last --bf16",
    ),
];

/// Ways of our speech codec in a stream, which is so small that threads may cost more than they save.
const SPEECH_DECODE_WAYS: [Named; 4] = [
    ("compiled, C++ calls", "--compile --cpp"),
    ("one thread", "--threads 1"),
    (
        "compiled, C++ calls, one thread",
        "--compile --cpp --threads 1",
    ),
    (
        "compiled, C++ calls, one thread, channels last",
        "--compile --cpp --threads 1 --layout last",
    ),
];

/// Ways of a backbone with weights that are not in integers.
const BACKBONE_WAYS: [Named; 2] = [
    ("compiled, C++ calls", "--compile --cpp"),
    ("autotuned, C++ calls", "--compile --max-autotune --cpp"),
];

/// The same with int4 weights.
const INT4_WAYS: [Named; 4] = [
    BACKBONE_WAYS[0],
    ("compiled, torchao", "--compile --linear torchao"),
    BACKBONE_WAYS[1],
    (
        "autotuned, torchao",
        "--compile --max-autotune --linear torchao",
    ),
];

/// The same with int8 weights, for which PyTorch has more products.
const INT8_WAYS: [Named; 8] = [
    BACKBONE_WAYS[0],
    ("compiled, plain", "--compile --cpp --linear plain"),
    ("dynamic", "--linear dynamic"),
    ("rounded rows", "--linear rounded"),
    ("compiled, rounded rows", "--compile --cpp --linear rounded"),
    INT4_WAYS[1],
    BACKBONE_WAYS[1],
    INT4_WAYS[3],
];

/// Ways of attention over a long sequence, which has no optimizer.
const ATTENTION_WAYS: [Named; 1] = [("autotuned", "--compile --max-autotune")];

/// Ways of a training step.
const STEP_WAYS: [Named; 5] = [
    ("fused", "--optimizer fused"),
    ("flat", "--optimizer flat"),
    ("compiled, fused", "--compile --optimizer fused"),
    ("compiled, flat", "--compile --optimizer flat"),
    (
        "autotuned, flat",
        "--compile --max-autotune --optimizer flat",
    ),
];

/// The same of the convolutional codec of pictures, whose channels are last.
const CONV_STEP_WAYS: [Named; 4] = [
    STEP_WAYS[1],
    STEP_WAYS[3],
    STEP_WAYS[4],
    (
        "compiled, flat, channels first",
        "--compile --optimizer flat --layout first",
    ),
];

/// The same of the speech codec, whose channels are first.
const SPEECH_STEP_WAYS: [Named; 4] = [
    STEP_WAYS[1],
    STEP_WAYS[3],
    (
        "compiled, flat, channels last",
        "--compile --optimizer flat --layout last",
    ),
    (
        "autotuned, flat, channels last",
        "--compile --max-autotune --optimizer flat --layout last",
    ),
];

/// Names and flags of the ways within one process.
fn named_ways(workload: &str) -> &'static [Named] {
    let is_rounded = workload.ends_with("bf16");
    match workload {
        _ if workload.starts_with("sample") && is_rounded => &ROUNDED_SAMPLE_WAYS,
        _ if workload.starts_with("sample") => &SAMPLE_WAYS,
        _ if workload.starts_with("codec-") && is_rounded => &ROUNDED_CODEC_WAYS,
        _ if workload.starts_with("codec-") => &CODEC_WAYS,
        "speech-decode" => &SPEECH_DECODE_WAYS,
        "backbone-int8" => &INT8_WAYS,
        "backbone-int4" => &INT4_WAYS,
        "backbone-f32" | "backbone-bf16" => &BACKBONE_WAYS,
        "attention-16k" => &ATTENTION_WAYS,
        "conv-codec-step" => &CONV_STEP_WAYS,
        "speech-codec-step" => &SPEECH_STEP_WAYS,
        _ => &STEP_WAYS,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One of each kind at least.
    const WORKLOADS: [&str; 13] = [
        "image-lm-step",
        "image-lm-step-base",
        "sample-16",
        "sample-16-bf16",
        "conv-codec-step",
        "speech-codec-step",
        "speech-decode",
        "backbone-f32",
        "backbone-int8",
        "backbone-int4",
        "codec-decode-f32",
        "codec-both-bf16",
        "attention-16k",
    ];

    /// Each flag is one that the script's text explains.
    #[test]
    fn the_script_knows_all_flags() {
        let script = crate::cargo::project_root().join("xtask/pytorch/bench.py");
        let script = std::fs::read_to_string(script).unwrap();
        for workload in WORKLOADS {
            let mut ways = other_ways(workload, false);
            ways.extend([Way::eager(), Way::compiled()]);
            let mut names: Vec<&str> = ways.iter().map(|way| way.name.as_str()).collect();
            names.sort_unstable();
            names.dedup();
            assert_eq!(names.len(), ways.len(), "{workload}: two ways of one name");
            for flag in ways.iter().flat_map(|way| &way.flags) {
                let explained =
                    script.contains(&format!("`{flag}`")) || script.contains(&format!("`{flag} N"));
                assert!(!flag.starts_with("--") || explained, "{flag}");
            }
        }
    }

    #[test]
    fn an_environments_own_libraries_are_found() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("lib")).unwrap();
        std::fs::write(folder.path().join("lib/libiomp5.so"), "").unwrap();
        let python = folder.path().join("bin/python");
        let names: Vec<&str> = found_libraries(&python)
            .iter()
            .map(|found| found.0)
            .collect();
        assert!(names.contains(&"Intel's OpenMP"));
        assert!(!missing_libraries(&python).contains(&"Intel's OpenMP"));
        let ways = Way::eager().in_other_memory(&python);
        assert!(!ways[0].keeps_freed_memory && ways[0].preload.is_none());
        let way = ways.iter().find(|way| way.name == "eager, Intel's OpenMP");
        let preload = way.and_then(|way| way.preload.as_deref()).unwrap();
        assert!(way.unwrap().keeps_freed_memory && preload.ends_with("libiomp5.so"));
    }

    /// The words of a way's name, and the flag that each stands for.
    #[test]
    fn names_say_what_the_flags_do() {
        for workload in WORKLOADS {
            for way in other_ways(workload, false) {
                let flags = way.flags.join(" ");
                let says = |word: &str| way.name.split(", ").any(|own| own == word);
                let is_compiled = says("compiled") || says("autotuned");
                assert_eq!(is_compiled, flags.contains("--compile"), "{way:?}");
                for (word, flag) in [
                    ("autotuned", "--max-autotune"),
                    ("ahead", "--ahead"),
                    ("autocast", "--bf16"),
                    ("one thread", "--threads 1"),
                    ("channels first", "--layout first"),
                    ("channels last", "--layout last"),
                    ("flat", "--optimizer flat"),
                    ("fused", "--optimizer fused"),
                    ("torchao", "--linear torchao"),
                    ("rounded rows", "--linear rounded"),
                ] {
                    assert_eq!(says(word), flags.contains(flag), "{workload}: {way:?}");
                }
            }
        }
    }

    /// A stream of one signal has no batch to share out, and one sequence has none.
    #[test]
    fn only_batches_are_shared_out() {
        for (workload, shared) in [
            ("image-lm-step", true),
            ("speech-decode", false),
            ("codec-encode-bf16", false),
            ("backbone-f32", false),
            ("attention-16k", false),
        ] {
            let ways = other_ways(workload, false);
            let several = available_parallelism().is_ok_and(|count| count.get() > 1);
            let is_shared = |way: &Way| way.flags.iter().any(|flag| flag == "--processes");
            assert_eq!(ways.iter().any(is_shared), shared && several, "{workload}");
        }
    }
}
