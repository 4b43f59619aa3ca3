//! The recipe of the comparison on speech. Every key stands in `configs/compare/tts.toml`, with its meaning beside it.

use std::collections::BTreeMap;

use latentlm::backbone::BackboneConfig;
use latentlm::codec_audio::{CodecConfig, CodecLossConfig};
use latentlm::core::ops::swiglu_width;
use latentlm_baselines::{CodeLmConfig, CodeOptions, DenoiserSizes};
use latentlm_pipelines::{
    CodecTables, PipelineError, Recipe, SpeechRecipe, TokenWeights, checked_within, declare_recipe,
};
use latentlm_train::{LmPlan, LmRecipe};
use serde::{Deserialize, Serialize};

use super::recipe::{check_precision, key_table, wrong};

/// Feed-forward widths are multiples of this.
const MLP_STEP: usize = 64;

/// A comparison on speech: LatentLM at several rates of latents, and a codec language model with groups of several
/// sizes. The folder of a rival's run has such a recipe too, with the size of its groups in `rival.group`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CompareTtsRecipe {
    /// Frames of the codec's tower that LatentLM reads as one latent, for each of its models.
    pub frames_per_latent: Vec<usize>,
    /// Numbers of a latent for each of its frames: all models have as many numbers a second.
    pub numbers_per_frame: usize,
    /// Codes of a group, for each of the rivals.
    pub groups: Vec<usize>,
    /// Minutes of each language model's training, at [`multiply_adds_a_second`](Self::multiply_adds_a_second); 0 for
    /// `speech.lm_train.steps` steps of each, as in runs of older versions.
    #[serde(default)]
    pub minutes: f64,
    /// Multiply-adds that a machine trains with in a second.
    #[serde(default = "two_cores")]
    pub multiply_adds_a_second: f64,
    /// How quality is measured.
    pub evaluate: EvaluateTtsConfig,
    /// The codec language model.
    pub rival: CodeSpeechConfig,
    /// Seed, data, the codec's tower, LatentLM, and how all models are trained. What is given in steps of the language model
    /// is given in those of the first LatentLM.
    pub speech: SpeechRecipe,
}

fn two_cores() -> f64 {
    1e11
}

/// How the models of speech are measured. Runs of older versions lack the later keys.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EvaluateTtsConfig {
    /// Utterances of each kind.
    pub samples: usize,
    /// Largest difference between a model's and the first LatentLM's number of parameters, as a fraction of the latter.
    pub parameter_tolerance: f64,
    /// Texts on which models stumble; 0 for none.
    #[serde(default)]
    pub hard_texts: usize,
    /// Corpus of voices that training never heard; empty for none.
    #[serde(default)]
    pub held_out_voices: String,
}

/// The rival of LatentLM on speech.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CodeSpeechConfig {
    /// Codebooks of its codec.
    pub codebooks: usize,
    /// Entries of each codebook.
    pub entries: usize,
    /// Numbers of a frame that is quantized.
    pub latent_dim: usize,
    /// Codes of the first codebook in a position; the comparison sets it from its list.
    pub group: usize,
    /// Whether it learns which token of text each code says, if LatentLM learns that of its latents. Runs of older
    /// versions lack it.
    #[serde(default)]
    pub aligned: bool,
    /// Width of the network of the first codebook.
    pub width: usize,
    /// Its blocks.
    pub depth: usize,
    /// Its query heads.
    pub heads: usize,
    /// Its key/value heads; 0 stands for as many as query heads.
    pub kv_heads: usize,
    /// Its feed-forward ratio.
    pub mlp_ratio: f64,
    /// Whether its feed-forward width gives up what the layers of groups take. Runs of older versions lack it.
    #[serde(default)]
    pub same_size: bool,
    /// Width of the network of the other codebooks.
    pub parallel_width: usize,
    /// Its blocks.
    pub parallel_depth: usize,
    /// Its query heads.
    pub parallel_heads: usize,
    /// Its key/value heads; 0 stands for as many as query heads.
    pub parallel_kv_heads: usize,
    /// Its feed-forward ratio.
    pub parallel_mlp_ratio: f64,
    /// How codes are drawn.
    #[serde(flatten)]
    pub drawing: CodeOptions,
}

declare_recipe! {
    /// The file `configs/compare/tts.toml`.
    CompareTtsRecipe {
        command: "compare tts",
        keys: "latentlm-compare/tts" in key_table,
        parts: BTreeMap::from([(
            "speech",
            CodecTables::<CodecConfig, CodecLossConfig>::preset("compare/tts"),
        )]),
        seed: speech.seed,
        check: CompareTtsRecipe::check,
        growing: &["frames_per_latent", "groups", "minutes"],
    }
}

impl CodeSpeechConfig {
    /// Feed-forward width of the network of the first codebook. The layers into a group of `G` codes and out of it have
    /// `2 G D^2` weights, and a unit of width has `3 D` in each block: as many units fewer, in whole steps of 64, keep all
    /// groups at about one size.
    fn mlp_width(&self) -> usize {
        let whole = swiglu_width(self.width, self.mlp_ratio);
        if self.group == 1 || !self.same_size {
            return whole;
        }
        let taken = 2.0 * self.group as f64 * self.width as f64 / (3.0 * self.depth as f64);
        let steps = (taken / MLP_STEP as f64).round() as usize;
        let left = whole.saturating_sub(steps.saturating_mul(MLP_STEP));
        left.max(MLP_STEP.min(whole))
    }
}

impl LmRecipe for CompareTtsRecipe {
    fn lm(&self) -> LmPlan<'_> {
        let tokens = TokenWeights::from(self.speech.text.loss_weight);
        let tokens = self.is_aligned().then_some(tokens);
        LmPlan::new(&self.speech.lm, &self.speech.lm_train, tokens)
    }
}

impl CompareTtsRecipe {
    fn check(&self) -> Result<(), PipelineError> {
        if self.frames_per_latent.is_empty() || self.groups.is_empty() {
            let reason = "frames_per_latent and groups must name one model each at least";
            return Err(PipelineError::config(reason));
        }
        let steps = Self::default().speech.lm_train.steps;
        if self.minutes > 0.0 && self.speech.lm_train.steps != steps {
            let reason = "speech.lm_train.steps is not read if minutes say how long models are trained: set minutes=0";
            return Err(PipelineError::config(reason));
        }
        if self.speech.sample.falling.last > 0 {
            let reason = "speech.sample.steps_last must be 0: what a second costs is counted with equal steps";
            return Err(PipelineError::config(reason));
        }
        let within = |speech: SpeechRecipe| {
            checked_within::<SpeechRecipe, _>("speech.", speech.check_together())
        };
        for frames in &self.frames_per_latent {
            within(self.latentlm(*frames))?;
        }
        within(self.codes())?;
        self.rival.drawing.validate().map_err(wrong)?;
        for group in self.groups.iter().chain([&self.rival.group]) {
            let config = self.of_group(*group).code_lm(1);
            config.validate().map_err(wrong)?;
        }
        check_precision("speech", &self.speech.lm)
    }

    /// LatentLM with `frames` frames per latent. With `speech.data.pack_frames` a pack holds as much speech at every rate;
    /// else its positions are divided by the frames, and since texts do not shrink, it holds less at low rates.
    pub fn latentlm(&self, frames: usize) -> SpeechRecipe {
        let mut recipe = self.speech.clone();
        recipe.codec.frames_per_latent = frames;
        recipe.codec.latent_dim = frames.saturating_mul(self.numbers_per_frame);
        recipe.codec.quantizer.codebooks = 0;
        if !recipe.data.pack_frames {
            recipe.data.pack_positions = recipe.data.pack_positions.div_ceil(frames.max(1));
        }
        recipe
    }

    /// The codec with codebooks, of the same tower.
    pub fn codes(&self) -> SpeechRecipe {
        let mut recipe = self.speech.clone();
        recipe.codec.frames_per_latent = 1;
        recipe.codec.latent_dim = self.rival.latent_dim;
        recipe.codec.quantizer.codebooks = self.rival.codebooks;
        recipe.codec.quantizer.entries = self.rival.entries;
        recipe
    }

    /// The same recipe for a rival's run with groups of this size. Its steps are those of `speech.lm_train`.
    pub fn of_group(&self, group: usize) -> Self {
        let mut recipe = self.clone();
        recipe.rival.group = group;
        recipe.minutes = 0.0;
        recipe
    }

    /// The codec language model for a vocabulary of that many tokens of text.
    pub fn code_lm(&self, text_vocabulary: usize) -> CodeLmConfig {
        let rival = &self.rival;
        let grouped = BackboneConfig::new(rival.width, rival.depth, rival.heads)
            .with_kv_heads(rival.kv_heads)
            .with_mlp_ratio(rival.mlp_ratio)
            .with_mlp_width(rival.mlp_width())
            .with_condition_layer(false);
        let parallel = DenoiserSizes::new()
            .with_width(rival.parallel_width)
            .with_depth(rival.parallel_depth)
            .with_heads(rival.parallel_heads)
            .with_kv_heads(rival.parallel_kv_heads)
            .with_mlp_ratio(rival.parallel_mlp_ratio);
        let (books, entries) = (rival.codebooks, rival.entries);
        CodeLmConfig::new(text_vocabulary, books, entries, grouped, parallel)
            .with_group(rival.group)
            .with_aligned(self.is_aligned())
    }

    /// Whether the rival learns which token of text each code says.
    pub fn is_aligned(&self) -> bool {
        self.rival.aligned && self.speech.text.aligned
    }

    /// Frames of the codec a second: codes of each codebook.
    pub fn frame_rate_hz(&self) -> f64 {
        self.codes().frame_rate_hz()
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;
    use latentlm_pipelines::RunFolder;
    use latentlm_train::{Interrupter, ProgressMode, RunOptions, open_run};

    use super::*;

    /// 2 * 2 * 256 / (3 * 5) = 68 and 137 units are one step of 64 and two. A run that was begun before there was the
    /// key has the width that it had.
    #[test]
    fn groups_give_up_width_for_their_layers() {
        let recipe = CompareTtsRecipe::default();
        let widths = |recipe: &CompareTtsRecipe| {
            [1, 2, 4].map(|group| recipe.of_group(group).code_lm(9).grouped.mlp_width)
        };
        assert_eq!(widths(&recipe), [640, 576, 512]);
        let older = without(&recipe.to_toml().unwrap(), &["same_size"]);
        assert!(!older.rival.same_size);
        assert_eq!(widths(&older), [640; 3]);
        let mut narrow = recipe;
        (narrow.rival.width, narrow.rival.depth) = (32, 1);
        assert_eq!(widths(&narrow), [64; 3], "never none");
    }

    /// A comparison that was begun before models had the same minutes, packs of as much speech, a limit of texts and
    /// whole prompts.
    #[test]
    fn older_comparisons_go_on_as_they_were() {
        let toml = CompareTtsRecipe::default().to_toml().unwrap();
        let keys = [
            "minutes",
            "multiply_adds_a_second",
            "same_size",
            "pack_frames",
            "prompt_tokens",
            "whole_prompts",
            "continuations",
            "prompts_without_words",
        ];
        let older = without(&toml, &keys);
        assert_eq!((older.minutes, older.multiply_adds_a_second), (0.0, 1e11));
        let text = &older.speech.text;
        assert_eq!(text.prompt_tokens, 0);
        let prompts = [
            text.whole_prompts,
            text.continuations,
            text.prompts_without_words,
        ];
        assert_eq!(prompts, [0.0; 3]);
        assert_eq!(older.latentlm(10).data.pack_positions, 103);
        let now = CompareTtsRecipe::default();
        assert_eq!((now.minutes, now.speech.text.prompt_tokens), (15.0, 1024));
        assert_eq!(now.latentlm(10).data.pack_positions, 1024);
        // Manifests of checkpoints are JSON, and no table of keys completes them.
        let mut manifest = serde_json::to_value(&older).unwrap();
        for (table, key) in [
            ("", "minutes"),
            ("", "multiply_adds_a_second"),
            ("/rival", "same_size"),
            ("/speech/data", "pack_frames"),
            ("/speech/text", "prompt_tokens"),
            ("/speech/text", "whole_prompts"),
            ("/speech/text", "continuations"),
            ("/speech/text", "prompts_without_words"),
        ] {
            let table = manifest.pointer_mut(table).unwrap();
            assert!(
                table.as_object_mut().unwrap().remove(key).is_some(),
                "{key}"
            );
        }
        let read: CompareTtsRecipe = serde_json::from_value(manifest).unwrap();
        assert_eq!(read, older);
    }

    /// Models join a comparison that goes on, and its minutes grow; nothing else changes.
    #[test]
    fn lists_and_minutes_grow_when_a_comparison_goes_on() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("r");
        let begun = CompareTtsRecipe::default();
        drop(RunFolder::create(&path, &begun).unwrap());
        let resumed = |changes: &[&str]| {
            let changes: Vec<String> = changes.iter().map(ToString::to_string).collect();
            let recipe = CompareTtsRecipe::resolve(None, &changes).unwrap();
            let options = RunOptions {
                path: path.clone(),
                resume: true,
                accept_changed_data: false,
                device: Device::default(),
                more_devices: Vec::new(),
                progress: ProgressMode::Silent,
                interrupter: Interrupter::new(),
                within: "speech.".into(),
            };
            let opened = open_run(&recipe, &options);
            opened.err().map(|error| error.to_string())
        };
        for changes in [
            &["groups=[2]"][..],
            &["frames_per_latent=[3]"],
            &["frames_per_latent=[10, 3]"],
            &["minutes=14"],
            &["minutes=0"],
            &["numbers_per_frame=33"],
        ] {
            let told = resumed(changes).unwrap();
            assert!(told.contains("another recipe"), "{changes:?}: {told}");
        }
        let more = [
            "frames_per_latent=[3, 6, 10]",
            "groups=[1, 4]",
            "minutes=20",
        ];
        assert_eq!(resumed(&more), None);
        assert!(resumed(&[]).unwrap().contains("another recipe"));
    }

    /// The recipe of a file that lacks the lines of some keys.
    fn without(toml: &str, keys: &[&str]) -> CompareTtsRecipe {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("config.toml");
        let lacks = |line: &str| {
            let key = line.split(" =").next().unwrap_or_default();
            keys.contains(&key)
        };
        let lines = toml.lines().filter(|line| !lacks(line));
        let text: Vec<&str> = lines.collect();
        std::fs::write(&file, text.join("\n")).unwrap();
        CompareTtsRecipe::resolve(Some(&file), &[]).unwrap()
    }
}
