//! Settings of a training run of clips with text. Every key stands in the recipe files under `configs/video`, with
//! its meaning beside it.

use latentlm::core::{LatentCodecConfig, SampleOptions, SignalLayout};
use latentlm::{LatentLmConfig, Modality};
use latentlm_data::{ClipSpec, ImageSpec, Mix, MllmSizes, ReadOptions};
use serde::{Deserialize, Serialize};

use crate::error::PipelineError;
use crate::mllm::TokenWeights;
use crate::pipeline::declare_model_recipe;
use crate::recipe::refuse_if;
use crate::text::{TextVocabulary, TokenizerConfig};

/// Where clips come from. Checkpoints of older versions lack the limits of tables and frames.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct VideoDataConfig {
    /// The folder: of clips, or of the digits that clips are composed of.
    pub path: String,
    /// Training clips that are composed of digits; 0 if the folder has clips.
    pub composed: usize,
    /// Frames of a clip.
    pub frames: usize,
    /// Frames a second.
    pub rate_hz: f64,
    /// Share of the clips that may be left out because they can't be used.
    pub max_broken: f64,
    /// Whether metadata may name files outside of the folder.
    pub outside: bool,
    /// Most megabytes that a frame takes once it is decoded.
    pub max_picture_mb: u64,
    /// Largest size in megabytes of all digits in IDX files.
    #[serde(default = "max_idx_mb")]
    pub max_idx_mb: u64,
    /// Largest size in megabytes of a table.
    #[serde(default = "max_table_mb")]
    pub max_table_mb: u64,
    /// Largest number of records of the tables.
    #[serde(default = "max_records")]
    pub max_records: usize,
    /// Largest number of frames of a clip, in its file and at the wanted rate.
    #[serde(default = "max_clip_frames")]
    pub max_clip_frames: usize,
    /// Largest number of frames of all clips, at the wanted rate.
    #[serde(default = "max_total_frames")]
    pub max_total_frames: usize,
}

fn max_idx_mb() -> u64 {
    ReadOptions::default().max_idx_mb
}

fn max_table_mb() -> u64 {
    ReadOptions::default().max_table_mb
}

fn max_records() -> usize {
    ReadOptions::default().max_records
}

fn max_clip_frames() -> usize {
    ReadOptions::default().max_clip_frames
}

fn max_total_frames() -> usize {
    ReadOptions::default().max_total_frames
}

/// How text becomes tokens.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct VideoTextConfig {
    /// The vocabulary.
    #[serde(flatten)]
    pub tokenizer: TokenizerConfig,
    /// Whether the softmax head uses the embedding's table.
    pub tied: bool,
    /// Weight of the cross entropy beside the diffusion loss.
    pub loss_weight: f64,
    /// Weight of caption tokens in the cross entropy; 1: as all tokens.
    pub caption_weight: f64,
}

/// How often each kind of document comes in an epoch. Checkpoints of older versions lack `first_frame` or `still_share`:
/// they had no such documents.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct VideoMixConfig {
    /// Every clip after its caption.
    pub draw: usize,
    /// Every clip before its caption.
    pub caption: usize,
    /// The first frame of every clip after its caption. It has the shape of what moves: such documents learn shapes
    /// alone, and are shorter than a clip's.
    #[serde(default)]
    pub first_frame: usize,
    /// Fraction of the documents of first frames that read what a still shows, which does not move, instead of the
    /// caption. A digit's shape is then learned from its name alone.
    #[serde(default)]
    pub still_share: f64,
    /// Positions of the packed sequences that are trained on.
    pub pack_positions: usize,
}

/// How clips are drawn, beside what all modalities have.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct VideoSampleConfig {
    /// Factor of the initial noise of latents.
    pub noise_temperature: f64,
}

/// Sizes of the groups of frames that a codec encodes together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Grouping {
    /// Frames of each group after the first frame, which is a group alone.
    pub(super) frames: usize,
    /// Latents of the first frame.
    pub(super) first_latents: usize,
    /// Latents of each group after it.
    pub(super) latents: usize,
}

declare_model_recipe! {
    /// A complete recipe of clips with text.
    VideoRecipe {
        command: "train-video",
        keys: "latentlm-pipelines/video",
        preset: "video/digits",
        tables: {
            /// Where clips come from.
            data: VideoDataConfig,
            /// How text becomes tokens.
            text: VideoTextConfig,
            /// What documents there are.
            mix: VideoMixConfig,
        },
        codec: codec_video,
        sample: VideoSampleConfig,
        vocabulary: TextVocabulary,
        check: VideoRecipe::check_clips,
    }
}

impl VideoDataConfig {
    /// How the folder is read.
    pub fn options(&self) -> ReadOptions {
        ReadOptions {
            max_broken: self.max_broken,
            outside: self.outside,
            max_picture_mb: self.max_picture_mb,
            max_idx_mb: self.max_idx_mb,
            max_table_mb: self.max_table_mb,
            max_records: self.max_records,
            max_clip_frames: self.max_clip_frames,
            max_total_frames: self.max_total_frames,
        }
    }
}

impl VideoMixConfig {
    /// Whether any document may read what a still shows.
    pub fn reads_stills(&self) -> bool {
        self.first_frame > 0 && self.still_share > 0.0
    }
}

impl VideoTextConfig {
    /// Weights of tokens in the loss.
    pub fn weights(&self) -> TokenWeights {
        TokenWeights {
            loss: self.loss_weight,
            caption: self.caption_weight,
        }
    }
}

impl VideoRecipe {
    fn check_clips(&self) -> Result<(), PipelineError> {
        self.groups(self.data.frames)?;
        refuse_if(
            self.mix.draw + self.mix.caption == 0,
            "mix must have documents of whole clips: draw or caption above 0",
        )?;
        refuse_if(
            self.mix.pack_positions < self.tokens() + 3,
            "mix.pack_positions must hold a clip and the tokens around it",
        )?;
        self.lm_train.check_packs("mix.pack_positions")
    }

    /// Length, frame rate, size and channels of clips.
    pub fn clip_spec(&self) -> ClipSpec {
        let clip = self.codec.signal();
        ClipSpec {
            frames: self.data.frames,
            rate_hz: self.data.rate_hz,
            picture: ImageSpec {
                channels: clip.channels,
                height: clip.height,
                width: clip.width,
            },
        }
    }

    /// Latents of a clip; 0 where its frames don't fill the codec's groups.
    pub fn tokens(&self) -> usize {
        let groups = self.groups(self.data.frames).unwrap_or_default();
        self.codec.spec().layout.latents_of(groups)
    }

    /// Latents of the first frame of a clip.
    pub fn first_frame_tokens(&self) -> usize {
        self.grouping().first_latents
    }

    /// Frames of each group after the first frame.
    pub fn frames_per_group(&self) -> usize {
        self.grouping().frames
    }

    /// Sizes of the codec's groups.
    pub(super) fn grouping(&self) -> Grouping {
        match self.codec.spec().layout {
            SignalLayout::Video {
                height,
                width,
                frames_per_group,
                group_latents,
            } => Grouping {
                frames: frames_per_group.max(1),
                first_latents: height * width,
                latents: group_latents,
            },
            // A codec of clips has groups. With another layout each frame would be a group of one latent.
            SignalLayout::Grid { .. } | SignalLayout::Frames { .. } => Grouping {
                frames: 1,
                first_latents: 1,
                latents: 1,
            },
        }
    }

    /// Number of groups of a clip: one for the first frame, and those of the frames after it.
    pub(super) fn groups(&self, frames: usize) -> Result<usize, PipelineError> {
        let group = self.grouping().frames;
        let later = frames.saturating_sub(1);
        if frames == 0 || !later.is_multiple_of(group) {
            return Err(PipelineError::config(format!(
                "a clip of {frames} frames does not fit the video codec: there must be one frame, or one and a \
                 multiple of {group}"
            )));
        }
        Ok(1 + later / group)
    }

    /// What documents of whole clips there are.
    pub fn mix(&self) -> Mix {
        Mix {
            draw: self.mix.draw,
            caption: self.mix.caption,
            text: 0,
        }
    }

    /// Sizes of the segments in documents.
    pub fn sizes(&self) -> MllmSizes {
        MllmSizes {
            frames: self.tokens(),
            piece_tokens: self.mix.pack_positions,
        }
    }

    /// The language model's configuration, for `text_vocabulary` tokens of text.
    pub fn model(&self, text_vocabulary: usize) -> LatentLmConfig {
        let clips = Modality::new(self.codec.spec().dim, self.tokens());
        LatentLmConfig::mllm(text_vocabulary, vec![clips])
            .with_tied(self.text.tied)
            .with_sizes(self.lm.sizes.clone())
            .with_method(self.lm.method)
    }

    /// The options that clips are drawn with.
    pub fn sample_options(&self) -> SampleOptions {
        self.sample.options_at(self.sample.own.noise_temperature)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recipe::{Recipe, read_without};
    use latentlm::codec_video::Added;

    /// Checkpoints of older versions lack keys, which then have the tables' defaults: those of the readers.
    #[test]
    fn keys_that_older_recipes_lack_have_the_tables_defaults() {
        let recipe = VideoRecipe::default();
        assert_eq!(recipe.data.options(), ReadOptions::default());
        let lacked = [
            ("data", "max_idx_mb"),
            ("data", "max_table_mb"),
            ("data", "max_records"),
            ("data", "max_clip_frames"),
            ("data", "max_total_frames"),
            ("text", "max_tokenizer_mb"),
        ];
        assert_eq!(read_without(&recipe, &lacked), recipe);
        let changes = [
            "data.max_idx_mb=5",
            "data.max_table_mb=7",
            "data.max_records=9",
            "data.max_clip_frames=11",
            "data.max_total_frames=13",
        ];
        let changes = changes.map(String::from);
        let changed = VideoRecipe::resolve(None, &changes).unwrap();
        let options = changed.data.options();
        assert_eq!((options.max_table_mb, options.max_records), (7, 9));
        assert_eq!(options.max_idx_mb, 5);
        let frames = (options.max_clip_frames, options.max_total_frames);
        assert_eq!(frames, (11, 13));
    }

    /// Runs that were begun before there were documents of first frames, texts of stills, or motion in the codec, go on
    /// without them.
    #[test]
    fn older_runs_have_what_there_was() {
        let recipe = VideoRecipe::default();
        assert_eq!(
            (recipe.mix.first_frame, recipe.first_frame_tokens()),
            (4, 16)
        );
        assert_eq!(recipe.mix.still_share, 0.5);
        let newer = [
            "first_frame",
            "still_share",
            "motion_range",
            "later_patches",
        ];
        let text = recipe.to_toml().unwrap();
        let older: Vec<&str> = text
            .lines()
            .filter(|line| !newer.iter().any(|key| line.starts_with(key)))
            .collect();
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("config.toml");
        std::fs::write(&file, older.join("\n")).unwrap();
        let mut expected = recipe.clone();
        (expected.mix.first_frame, expected.mix.still_share) = (0, 0.0);
        (expected.codec.motion_range, expected.codec.later_patches) = (Added(0), Added(0));
        assert_eq!(VideoRecipe::resolve(Some(&file), &[]).unwrap(), expected);
        let mut manifest = serde_json::to_value(&recipe).unwrap();
        for (table, key) in ["mix", "mix", "codec", "codec"].into_iter().zip(newer) {
            let keys = manifest[table].as_object_mut().unwrap();
            assert!(keys.remove(key).is_some());
        }
        let read: VideoRecipe = serde_json::from_value(manifest).unwrap();
        assert_eq!(read, expected);
        // A file that names some keys has the defaults of the others.
        std::fs::write(&file, "[mix]\ndraw = 3\n").unwrap();
        let part = VideoRecipe::resolve(Some(&file), &[]).unwrap();
        assert_eq!((part.mix.draw, part.mix.first_frame), (3, 4));
        assert_eq!(part.mix.still_share, 0.5);
        // A run with documents of first frames, but from before there were texts of stills.
        let lines = text.lines().filter(|line| !line.starts_with("still_share"));
        std::fs::write(&file, Vec::from_iter(lines).join("\n")).unwrap();
        let recent = VideoRecipe::resolve(Some(&file), &[]).unwrap();
        assert_eq!((recent.mix.first_frame, recent.mix.still_share), (4, 0.0));
        assert!(recipe.mix.reads_stills() && !recent.mix.reads_stills());
    }

    #[test]
    fn clips_that_the_codec_cannot_take_are_refused() {
        let refused = |change: &str| {
            let recipe = VideoRecipe::resolve(None, &[change.to_owned()]);
            recipe.map_or_else(|error| error.to_string(), |_| "nothing".into())
        };
        for (change, part) in [
            ("data.frames=18", "a clip of 18 frames does not fit"),
            ("data.frames=0", "`data.frames` must be"),
            ("data.rate_hz=0.0", "`data.rate_hz` must be"),
            ("mix.still_share=1.5", "`mix.still_share` must be"),
            ("mix.pack_positions=22", "mix.pack_positions must hold"),
            ("lm_train.batch_size=2", "lm_train.batch_size must be 1"),
            ("codec.patch_size=5", "not a multiple of patch_size 5"),
        ] {
            let message = refused(change);
            assert!(message.contains(part), "{change}: {message}");
        }
        assert_eq!(refused("data.frames=1"), "nothing");
    }

    #[test]
    fn clips_must_fill_their_groups() {
        let recipe = VideoRecipe::default();
        for (frames, groups) in [(1, 1), (5, 2), (17, 5)] {
            assert_eq!(recipe.groups(frames).unwrap(), groups);
        }
        for frames in [0, 2, 4, 16, 18] {
            let error = recipe.groups(frames).unwrap_err();
            assert!(error.is_usage());
            let message = error.to_string();
            let start = format!("recipe: a clip of {frames} frames does not fit the video codec");
            assert!(message.starts_with(&start), "{message}");
            assert!(message.ends_with("one and a multiple of 4"), "{message}");
        }
    }

    #[test]
    fn a_clip_has_the_latents_of_its_groups() {
        let recipe = VideoRecipe::default();
        assert_eq!((recipe.data.frames, recipe.codec.frames_per_group), (17, 4));
        assert_eq!(recipe.tokens(), 16 + 4);
        let picture = VideoRecipe::resolve(None, &["data.frames=1".into()]).unwrap();
        assert_eq!(picture.tokens(), 16);
    }
}
