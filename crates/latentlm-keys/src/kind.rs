//! The kind of a run, told from its `config.toml` alone: no part of the model is needed for it.

use std::fmt;
use std::path::Path;

use toml::Table;

use crate::keys::lookup;
use crate::recipe::text_of;

/// A kind of run.
#[derive(Debug, PartialEq, Eq)]
pub struct RunKind {
    /// The command that trains such runs.
    pub trained_by: &'static str,
    /// The commands that use them.
    used_by: &'static str,
    /// A key or table that only recipes of this kind have.
    mark: &'static str,
}

/// All kinds. Comparisons come first: they hold the recipes of other kinds in tables.
static KINDS: [RunKind; 12] = [
    RunKind {
        trained_by: "compare sigma",
        used_by: "",
        mark: "noise_stds",
    },
    RunKind {
        trained_by: "compare heads",
        used_by: "",
        mark: "heads",
    },
    RunKind {
        trained_by: "compare latents",
        used_by: "",
        mark: "latents",
    },
    RunKind {
        trained_by: "compare fast-tts",
        used_by: "",
        mark: "fast_tts",
    },
    RunKind {
        trained_by: "compare fast-mllm",
        used_by: "",
        mark: "fast_mllm",
    },
    RunKind {
        trained_by: "compare image",
        used_by: "",
        mark: "image",
    },
    RunKind {
        trained_by: "compare mllm",
        used_by: "",
        mark: "mllm",
    },
    RunKind {
        trained_by: "compare tts",
        used_by: "`speak` and `eval-tts`, those of the rivals in it",
        mark: "speech",
    },
    // Before runs of text and pictures: both have a mix.
    RunKind {
        trained_by: "train-video",
        used_by: "`sample-video`, `caption` and `eval-video`",
        mark: "codec.frames_per_group",
    },
    RunKind {
        trained_by: "train-mllm",
        used_by: "`generate`, `caption` and `eval-mllm`",
        mark: "mix",
    },
    RunKind {
        trained_by: "train-tts",
        used_by: "`speak`, `eval-tts` and `codec`",
        mark: "data.loudness_dbfs",
    },
    RunKind {
        trained_by: "train-image",
        used_by: "`sample-image`, `eval-image` and `compare sampling`",
        mark: "sample.per_class",
    },
];

impl RunKind {
    /// The kind of a run with this `config.toml`; `None` if it can't be read or is of no kind known here.
    pub fn of(config: &Path) -> Option<&'static Self> {
        let text = text_of(config).ok()?;
        let table: Table = text.parse().ok()?;
        KINDS
            .iter()
            .find(|kind| lookup(&table, kind.mark).is_some())
    }

    /// Whether a command trains runs of a kind known here; a fork may have others.
    pub fn is_trained_by(command: &str) -> bool {
        KINDS.iter().any(|kind| kind.trained_by == command)
    }
}

impl fmt::Display for RunKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "it is one of {}", self.trained_by)?;
        if self.used_by.is_empty() {
            return write!(f, ", whose results are in its folder");
        }
        write!(f, ", for {}", self.used_by)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_run_is_of_the_kind_that_its_recipe_has() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.toml");
        let kind = |text: &str| {
            fs::write(&path, text).unwrap();
            RunKind::of(&path).map(|kind| kind.trained_by)
        };
        for (text, expected) in [
            ("[sample]\nper_class = 3", "train-image"),
            ("[data]\nloudness_dbfs = -23.0", "train-tts"),
            ("[mix]\ndraw = 3", "train-mllm"),
            (
                "[mix]\ndraw = 3\n[codec]\nframes_per_group = 4",
                "train-video",
            ),
            ("[image.sample]\nper_class = 3", "compare image"),
            ("[mllm.mix]\ndraw = 3", "compare mllm"),
            ("[speech.data]\nloudness_dbfs = -23.0", "compare tts"),
            (
                "noise_stds = [0.5]\n[image.sample]\nper_class = 3",
                "compare sigma",
            ),
            (
                "[heads]\nseeds = 3\n[image.sample]\nper_class = 3",
                "compare heads",
            ),
            (
                "[latents]\nseeds = 3\n[image.sample]\nper_class = 3",
                "compare latents",
            ),
            (
                "[fast_tts]\nseeds = 3\n[speech.data]\nloudness_dbfs = -23.0",
                "compare fast-tts",
            ),
            (
                "[fast_mllm]\nseeds = 3\n[mllm.mix]\ndraw = 3",
                "compare fast-mllm",
            ),
        ] {
            assert_eq!(kind(text), Some(expected), "{text}");
        }
        for text in ["", "[lm]\nwidth = 3", "no TOML ="] {
            assert_eq!(kind(text), None, "{text}");
        }
        assert_eq!(RunKind::of(&dir.path().join("none")), None);
        let told: Vec<String> = KINDS.iter().map(ToString::to_string).collect();
        assert_eq!(
            told[0],
            "it is one of compare sigma, whose results are in its folder"
        );
        assert_eq!(
            told[10],
            "it is one of train-tts, for `speak`, `eval-tts` and `codec`"
        );
    }
}
