//! Draws, continues and captions clips with a trained model.

use std::path::Path;

use burn::tensor::{Device, Tensor};
use latentlm::codec_video::Codec;
use latentlm::{
    GenerateOptions, LatentCodec, Piece, Prompt, SampleOptions, StreamingCodec, TextOptions,
};
use latentlm_data::{ClipSpec, PICTURES, TextTokenizer, read_clip};

use super::data::{as_clips, host_frames};
use super::recipe::VideoRecipe;
use crate::error::PipelineError;
use crate::pipeline::Pipeline;
use crate::tensors::finite;

/// Clips that are drawn at once: more would not be faster, and take more memory.
const BATCH: usize = 64;
/// Most numbers of the clips that the codec takes at once.
const CODEC_NUMBERS: usize = 1 << 24;
/// Longest caption, in tokens.
const CAPTION_TOKENS: usize = 48;

/// Frames that clips begin with.
#[derive(Debug, Clone)]
pub struct Given {
    /// The frames, `[1, F', C, H, W]`, in `[-1, 1]`.
    pub frames: Tensor<5>,
    /// How many frames of the file these are, in one line, if they are not all of it.
    pub note: Option<String>,
}

/// Codec, language model and vocabulary of clips with text.
pub type VideoPipeline = Pipeline<VideoRecipe>;

impl VideoPipeline {
    /// The vocabulary.
    pub fn tokenizer(&self) -> &TextTokenizer {
        &self.vocabulary.tokenizer
    }

    /// Number of frames of a clip.
    pub fn frames(&self) -> usize {
        self.recipe().data.frames
    }

    /// Frames a second.
    pub fn rate_hz(&self) -> f64 {
        self.recipe().data.rate_hz
    }

    /// Length, frame rate, size and channels of clips.
    pub fn clip_spec(&self) -> ClipSpec {
        self.recipe().clip_spec()
    }

    /// Draws a clip for each text. An empty text asks for any clip.
    ///
    /// # Shapes
    /// - returns: `[B, F, C, H, W]`, around `[-1, 1]`
    ///
    /// # Errors
    /// If a text can't be encoded or is too long, the model does not support the options, or drawn latents
    /// are not finite.
    pub fn draw(
        &self,
        texts: &[String],
        options: &SampleOptions,
        seed: u64,
    ) -> Result<Tensor<5>, PipelineError> {
        let prompts = self.prompts(texts, None, seed)?;
        Ok(self.decode(self.draw_latents(&prompts, options)?))
    }

    /// Draws the rest of clips whose first frames are given, a text for each.
    ///
    /// # Shapes
    /// - `given`: `[B, F', C, H, W]`, in `[-1, 1]`; one frame, or one and whole groups
    /// - returns: `[B, F, C, H, W]`, around `[-1, 1]`; the given frames as they are, then those that are drawn
    ///
    /// # Errors
    /// As [`draw`](Self::draw), and if the given frames don't fill their groups or leave nothing to draw.
    ///
    /// # Panics
    /// If there are not as many clips as texts.
    pub fn continued(
        &self,
        texts: &[String],
        given: Tensor<5>,
        options: &SampleOptions,
        seed: u64,
    ) -> Result<Tensor<5>, PipelineError> {
        let [count, begun, ..] = given.dims();
        assert_eq!(count, texts.len(), "a text for each of the clips");
        let known = self.encode_given(given.clone())?;
        let prompts = self.prompts(texts, Some(&known), seed)?;
        let drawn = self.draw_latents(&prompts, options)?;
        let clips = self.decode(Tensor::cat(vec![known, drawn], 1));
        let rest = clips.narrow(1, begun, self.frames() - begun);
        Ok(Tensor::cat(vec![given, rest], 1))
    }

    /// Draws one clip and hands out its frames as they are made: the first frame is shown before the second latent
    /// group is drawn. Given frames come first, as they are. The clip is that of [`draw`](Self::draw) or
    /// `continued` with the same seed. `each` returns whether to go on.
    ///
    /// # Shapes
    /// - `given`: `[1, F', C, H, W]`, in `[-1, 1]`; one frame, or one and whole groups
    /// - argument of `each`: `[1, 1, C, H, W]` for the first frame, then `[1, G, C, H, W]` for each group
    ///
    /// # Errors
    /// As `continued`.
    pub fn stream(
        &self,
        text: &str,
        given: Option<Tensor<5>>,
        options: &SampleOptions,
        seed: u64,
        each: &mut dyn FnMut(Tensor<5>) -> bool,
    ) -> Result<(), PipelineError> {
        self.recipe().lm.check_options(options)?;
        let mut state = <Codec as StreamingCodec<5>>::DecoderState::default();
        let mut known = None;
        if let Some(given) = given {
            let latents = self.encode_given(given.clone())?;
            if !each(given) {
                return Ok(());
            }
            // The decoder remembers what stands before the frames that are drawn.
            self.codec.decode_step(latents.clone(), &mut state);
            known = Some(latents);
        }
        let prompts = self.prompts(&[text.to_owned()], known.as_ref(), seed)?;
        let (grouping, all) = (self.recipe().grouping(), self.recipe().tokens());
        let mut done = known.map_or(0, |known| known.dims()[1]);
        let mut latents = self.model.stream_prompt(&prompts[0], options);
        while done < all {
            let group = if done == 0 {
                grouping.first_latents
            } else {
                grouping.latents
            };
            done += group;
            let drawn: Vec<Tensor<2>> = latents.by_ref().take(group).collect();
            let drawn = finite(Tensor::cat(drawn, 0))?.unsqueeze_dim::<3>(0);
            if !each(self.codec.decode_step(drawn, &mut state)) {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Says what clips show, the likeliest token each time.
    ///
    /// # Shapes
    /// - `clips`: `[B, F, C, H, W]`, in `[-1, 1]`
    ///
    /// # Errors
    /// If the clips have another number of frames than those that the model was trained on.
    pub fn caption(&self, clips: Tensor<5>) -> Result<Vec<String>, PipelineError> {
        let [count, frames, ..] = clips.dims();
        if frames != self.frames() {
            return Err(PipelineError::Request(format!(
                "the clip has {frames} frames at {} a second, the model knows clips of {}",
                self.rate_hz(),
                self.frames()
            )));
        }
        let latents = self.encode(clips);
        let prompts = (0..count).map(|index| Prompt {
            pieces: vec![Piece::Latents {
                modality: PICTURES,
                latents: latents.clone().narrow(0, index, 1).squeeze_dim(0),
            }],
            ..Prompt::default()
        });
        let prompts: Vec<Prompt> = prompts.collect();
        let options = GenerateOptions {
            text: TextOptions::GREEDY,
            sample: self.recipe().sample_options(),
            max_positions: CAPTION_TOKENS,
        };
        let mut captions = Vec::with_capacity(count);
        for batch in prompts.chunks(BATCH) {
            for made in self.model.generate(batch, &options) {
                captions.push(match made.pieces.first() {
                    Some(Piece::Text(tokens)) => self.tokenizer().decode(tokens)?,
                    _ => String::new(),
                });
            }
        }
        Ok(captions)
    }

    /// Clips through the codec, without noise.
    ///
    /// # Shapes
    /// - `clips` and result: `[B, F, C, H, W]`
    ///
    /// # Panics
    /// If the frames have another size than the codec's, or don't fill their groups.
    pub fn reconstruct(&self, clips: Tensor<5>) -> Tensor<5> {
        self.decode(self.encode(clips))
    }

    /// The clip of a file or of a folder of numbered frames, converted to the rate and size that the model was
    /// trained with. Only the beginning of a longer clip is taken.
    ///
    /// # Shapes
    /// - returns: `[1, F, C, H, W]`, in `[-1, 1]`
    ///
    /// # Errors
    /// If it can't be read, or has too few frames.
    pub fn read_clip(&self, path: &Path) -> Result<Tensor<5>, PipelineError> {
        let frames = read_frames(path, self.clip_spec(), &self.device)?;
        let count = frames.dims()[1];
        if count < self.frames() {
            return Err(PipelineError::Request(format!(
                "{} has {count} frames at {} a second, the model knows clips of {}",
                path.display(),
                self.rate_hz(),
                self.frames()
            )));
        }
        Ok(frames)
    }

    /// The first frames of a file or folder, to be continued: as many whole groups as it has, but fewer than a clip.
    /// A picture is one frame.
    ///
    /// # Errors
    /// If it can't be read.
    pub fn read_given(&self, path: &Path) -> Result<Given, PipelineError> {
        let frames = read_frames(path, self.clip_spec(), &self.device)?;
        let (count, group) = (frames.dims()[1], self.recipe().grouping().frames);
        let most = self.frames().saturating_sub(group).max(1);
        let kept = 1 + (count.min(most) - 1) / group * group;
        let note = (kept < count).then(|| {
            let (file, rate_hz) = (path.display(), self.rate_hz());
            let first = match kept {
                1 => "the first frame".to_owned(),
                _ => format!("the first {kept} frames"),
            };
            if count < self.frames() {
                format!(
                    "the clip begins with {first} of {file}, which has {count} at {rate_hz} a second: these are one \
                     and whole groups of {group}"
                )
            } else {
                format!(
                    "the clip begins with {first} of {file} at {rate_hz} a second: a group of {group} is left to draw"
                )
            }
        });
        Ok(Given {
            frames: frames.narrow(1, 0, kept),
            note,
        })
    }

    /// Prompts for clips, a seed each. `known` are latents that they begin with, `[B, P, Z]`. Characters or words
    /// that the vocabulary lacks are an error that names them. A vocabulary of bytes, the default, lacks none: it has
    /// tokens for any word.
    fn prompts(
        &self,
        texts: &[String],
        known: Option<&Tensor<3>>,
        seed: u64,
    ) -> Result<Vec<Prompt>, PipelineError> {
        let limit = self.recipe().mix.pack_positions;
        let mut prompts = Vec::with_capacity(texts.len());
        for (index, text) in texts.iter().enumerate() {
            let mut pieces = Vec::new();
            if !text.trim().is_empty() {
                let tokens = self.tokenizer().encode(text)?;
                // With the tokens around text and clip.
                let positions = tokens.len() + self.recipe().tokens() + 3;
                if positions > limit {
                    return Err(PipelineError::Request(format!(
                        "text and clip take {positions} positions, more than the {limit} \
                             that the model was trained on (mix.pack_positions): shorten the text"
                    )));
                }
                pieces.push(Piece::Text(tokens));
            }
            prompts.push(Prompt {
                pieces,
                open: Some(PICTURES),
                begun: known.map(|known| known.clone().narrow(0, index, 1).squeeze_dim(0)),
                seed: seed.wrapping_add(index as u64),
                ..Prompt::default()
            });
        }
        Ok(prompts)
    }

    /// The latents that prompts ask for, `[B, T, Z]`.
    fn draw_latents(
        &self,
        prompts: &[Prompt],
        options: &SampleOptions,
    ) -> Result<Tensor<3>, PipelineError> {
        self.recipe().lm.check_options(options)?;
        let mut latents = Vec::new();
        for batch in prompts.chunks(BATCH) {
            latents.push(finite(self.model.draw_prompts(batch, options))?);
        }
        Ok(Tensor::cat(latents, 0))
    }

    /// Latents of given frames, `[B, P, Z]`.
    fn encode_given(&self, given: Tensor<5>) -> Result<Tensor<3>, PipelineError> {
        let frames = given.dims()[1];
        self.recipe().groups(frames)?;
        if frames >= self.frames() {
            return Err(PipelineError::Request(format!(
                "{frames} frames are given, and a clip has {}: nothing is left to draw",
                self.frames()
            )));
        }
        Ok(self.encode(given))
    }

    /// Clips to latents, `[B, F, C, H, W]` to `[B, T, Z]`.
    fn encode(&self, clips: Tensor<5>) -> Tensor<3> {
        let (count, at_once) = (clips.dims()[0], self.clips_at_once());
        let mut latents = Vec::with_capacity(count.div_ceil(at_once));
        for start in (0..count).step_by(at_once) {
            let part = clips.clone().narrow(0, start, at_once.min(count - start));
            latents.push(self.codec.encode(part).mode());
        }
        Tensor::cat(latents, 0)
    }

    /// Latents to clips, `[B, T, Z]` to `[B, F, C, H, W]`.
    fn decode(&self, latents: Tensor<3>) -> Tensor<5> {
        let (count, at_once) = (latents.dims()[0], self.clips_at_once());
        let mut clips = Vec::with_capacity(count.div_ceil(at_once));
        for start in (0..count).step_by(at_once) {
            let part = latents.clone().narrow(0, start, at_once.min(count - start));
            clips.push(self.codec.decode(part));
        }
        Tensor::cat(clips, 0)
    }

    /// How many clips the codec takes at once.
    fn clips_at_once(&self) -> usize {
        (CODEC_NUMBERS / self.clip_spec().bytes().max(1)).clamp(1, BATCH)
    }
}

/// The first frames of a file or folder, at most a clip, `[1, F', C, H, W]`.
fn read_frames(path: &Path, spec: ClipSpec, device: &Device) -> Result<Tensor<5>, PipelineError> {
    let bytes = read_clip(path, spec)?;
    let count = bytes.len() / spec.picture.bytes();
    let frames = host_frames(bytes.chunks_exact(spec.picture.bytes()), spec);
    Ok(as_clips(frames.tensor(device), count))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::Manifest;
    use crate::pipeline::ModelRecipe;
    use crate::recipe::Recipe;
    use crate::tensors::host_values;
    use latentlm::RandomStream;
    use latentlm::core::conformance::seeded;

    /// A small model with new weights.
    fn pipeline() -> VideoPipeline {
        let changes = [
            "text.tokenizer=characters",
            "data.frames=7",
            "codec.image_size=8",
            "codec.frames_per_group=2",
            "codec.patch_size=4",
            "codec.latent_patches=1",
            "codec.later_patches=2",
            "codec.motion_range=2",
            "codec.latent_dim=8",
            "codec.encoder_width=8",
            "codec.decoder_width=8",
            "codec.encoder_depth=1",
            "codec.decoder_depth=1",
            "codec.heads=2",
            "lm.width=32",
            "lm.depth=1",
            "lm.heads=2",
            "lm.kv_heads=1",
            "lm.head_depth=1",
            "mix.pack_positions=24",
            "sample.steps=2",
        ];
        let recipe = VideoRecipe::resolve(None, &changes.map(str::to_owned)).unwrap();
        let texts = ["a seven moves left".to_owned()];
        let tokenizer = TextTokenizer::train(recipe.text.tokenizer.kind, &texts, 64).unwrap();
        let device = Device::default();
        let size = tokenizer.vocabulary();
        let codec = seeded(1, &device, |device| recipe.init_codec(device));
        let model = seeded(2, &device, |device| recipe.init_model(size, device));
        let manifest = Manifest::new("lm", &recipe, &[], "f");
        VideoPipeline {
            manifest,
            codec,
            model,
            vocabulary: tokenizer.into(),
            device,
            notes: Vec::new(),
        }
    }

    fn close(what: &str, got: Tensor<5>, expected: Tensor<5>) {
        assert_eq!(got.dims(), expected.dims(), "{what}");
        for (got, expected) in host_values(got).iter().zip(host_values(expected)) {
            // Drawn and decoded one by one and all at once: rounding alone, handed on from latent to latent.
            assert!((got - expected).abs() < 1e-3, "{what}: {got}, {expected}");
        }
    }

    fn streamed(
        pipeline: &VideoPipeline,
        given: Option<Tensor<5>>,
        options: &SampleOptions,
    ) -> Vec<Tensor<5>> {
        let mut frames = Vec::new();
        let each = &mut |own: Tensor<5>| {
            frames.push(own);
            true
        };
        pipeline.stream("a seven", given, options, 3, each).unwrap();
        frames
    }

    /// Frames come group by group, and are those of the whole clip.
    #[test]
    fn a_stream_is_the_clip_that_is_drawn() {
        let pipeline = pipeline();
        let options = SampleOptions {
            guidance_scale: 2.0,
            ..pipeline.recipe().sample_options()
        };
        let texts = ["a seven".to_owned()];
        let whole = pipeline.draw(&texts, &options, 3).unwrap();
        assert_eq!(whole.dims(), [1, 7, 1, 8, 8]);
        let frames = streamed(&pipeline, None, &options);
        let lengths: Vec<usize> = frames.iter().map(|own| own.dims()[1]).collect();
        assert_eq!(lengths, [1, 2, 2, 2]);
        close("a stream", Tensor::cat(frames, 1), whole);
        let mut seen = 0;
        let each = &mut |_: Tensor<5>| {
            seen += 1;
            seen < 2
        };
        pipeline.stream("a seven", None, &options, 3, each).unwrap();
        assert_eq!(seen, 2, "a stream ends when it is told to");
    }

    /// Given frames stay as they are; what is drawn behind them depends on them.
    #[test]
    fn given_frames_are_kept_and_continued() {
        let pipeline = pipeline();
        let options = pipeline.recipe().sample_options();
        let given: Tensor<5> = RandomStream::new(4).normal([2, 3, 1, 8, 8], &Device::default());
        let texts = ["a seven", ""].map(str::to_owned);
        let clips = pipeline.continued(&texts, given.clone(), &options, 3);
        let clips = clips.unwrap();
        assert_eq!(clips.dims(), [2, 7, 1, 8, 8]);
        close("given", clips.clone().narrow(1, 0, 3), given.clone());
        let first = given.clone().narrow(0, 0, 1);
        let frames = streamed(&pipeline, Some(first), &options);
        assert_eq!(frames.len(), 3);
        close(
            "a continued stream",
            Tensor::cat(frames, 1),
            clips.clone().narrow(0, 0, 1),
        );
        let other = pipeline.continued(&texts, given.clone().neg(), &options, 3);
        let rest = |clips: Tensor<5>| host_values(clips.narrow(1, 3, 4));
        assert_ne!(rest(other.unwrap()), rest(clips));
        for (frames, part) in [(2, "does not fit"), (7, "nothing is left to draw")] {
            let given = Tensor::zeros([2, frames, 1, 8, 8], &Device::default());
            let error = pipeline.continued(&texts, given, &options, 3).unwrap_err();
            assert!(
                error.is_usage() && error.to_string().contains(part),
                "{error}"
            );
        }
    }

    /// Of a clip of two-frame groups, as it is in files: whole groups from its beginning, and a line about the rest.
    #[test]
    fn a_note_says_how_much_of_a_file_is_given() {
        let pipeline = pipeline();
        let folder = tempfile::tempdir().unwrap();
        let walk = folder.path().join("walk");
        std::fs::create_dir(&walk).unwrap();
        let frame = |number: u8| walk.join(format!("{number}.png"));
        // Too few for a group, one group, one and a half, and more than a clip of seven.
        for (count, kept, told) in [
            (1, 1, None),
            (2, 1, Some("the first frame of")),
            (3, 3, None),
            (4, 3, Some("the first 3 frames of")),
            (6, 5, Some("the first 5 frames of")),
            (9, 5, Some("the first 5 frames of")),
        ] {
            for number in 1..=count {
                let grey = image::GrayImage::from_pixel(8, 8, image::Luma([20 * number]));
                grey.save(frame(number)).unwrap();
            }
            let given = pipeline.read_given(&walk).unwrap();
            assert_eq!(given.frames.dims(), [1, kept, 1, 8, 8], "{count}");
            let first = host_values(given.frames)[..]
                .chunks(64)
                .map(|own| own[0])
                .collect::<Vec<_>>();
            for (value, number) in first.into_iter().zip(1..) {
                let level = f32::from(20_u8 * number) / 127.5 - 1.0;
                assert!((value - level).abs() < 1e-6, "{count}, {number}: {value}");
            }
            let why = if count < 7 {
                format!("which has {count} at 10 a second: these are one and whole groups of 2")
            } else {
                "at 10 a second: a group of 2 is left to draw".to_owned()
            };
            match (given.note, told) {
                (None, None) => (),
                (Some(note), Some(told)) => {
                    assert!(
                        note.starts_with(&format!("the clip begins with {told} ")),
                        "{note}"
                    );
                    assert!(note.contains("walk") && note.ends_with(&why), "{note}");
                }
                (note, _) => panic!("{count}: {note:?}"),
            }
        }
        // A picture is all of itself.
        let given = pipeline.read_given(&frame(1)).unwrap();
        assert_eq!((given.frames.dims()[1], given.note), (1, None));
    }

    #[test]
    fn what_is_too_long_or_too_short_is_refused() {
        let pipeline = pipeline();
        let options = pipeline.recipe().sample_options();
        let long = ["a seven moves left a seven moves left".to_owned()];
        let error = pipeline.draw(&long, &options, 0).unwrap_err();
        assert!(error.to_string().contains("mix.pack_positions"), "{error}");
        let short = Tensor::zeros([1, 3, 1, 8, 8], &Device::default());
        let error = pipeline.caption(short).unwrap_err();
        assert!(error.to_string().contains("clips of 7"), "{error}");
        let clips = Tensor::zeros([3, 7, 1, 8, 8], &Device::default());
        assert_eq!(pipeline.caption(clips.clone()).unwrap().len(), 3);
        assert_eq!(pipeline.reconstruct(clips).dims(), [3, 7, 1, 8, 8]);
    }
}
