//! Runs of clips with text: the codec of clips, then the language model of texts and the codec's latents of their
//! clips.

use std::path::Path;

use burn::tensor::{Device, Tensor};
use latentlm::codec_video::{Codec, CodecLossConfig};
use latentlm::core::CodecObjectiveConfig;
use latentlm::sequence::Document;
use latentlm::{LatentCodec, RandomStream};
use latentlm_data::{
    BatchOrder, ClipSpec, Described, Mix, MllmCorpus, MllmSizes, PackOrder, TextTokenizer,
    normal_text,
};
use latentlm_eval::{TRAINING_CLIPS, save_clips, write_video_report};
use latentlm_pipelines::{
    Clips, HostBatch, PipelineError, StageConfig, TOKENIZER, VideoData, VideoPipeline, VideoRecipe,
    as_clips, evenly, image_grid, load_codec, save_png,
};

use crate::adversarial::CodecSetup;
use crate::ahead::{Ahead, rounds};
use crate::codec_stage::{self, CodecTask, codec_setup};
use crate::context::{self, RunEnd};
use crate::error::Result;
use crate::image::psnr_db;
use crate::latent_cache::LatentCache;
use crate::latents::{self, Encoded};
use crate::lm_recipe::{LmPlan, LmRecipe, STAGE};
use crate::lm_stage::{self, Corpus, LmSetup, PipelineTask};
use crate::memory::{Demand, Demanding};
use crate::options::RunOptions;
use crate::progress::Encoding;
use crate::run::{Modality, check_tokenizer};
use crate::teacher;

/// A run of clips.
type Context = context::Context<VideoRecipe, VideoData>;

/// Held-out clips whose reconstruction is measured, at most.
const RECONSTRUCTED: usize = 64;
/// Held-out clips that are captioned as training goes, at most.
const CAPTIONED: usize = 200;
/// Held-out clips that are shown: beside their reconstructions, or beside clips that are drawn for their texts.
const SHOWN: usize = 8;
/// Clips that are encoded at once, at most.
const BATCH: usize = 100;
/// Most numbers of the clips that are read at once.
const NUMBERS: usize = 1 << 24;
/// Most numbers of the latents that the whitening is measured on.
const MEASURED: usize = 1 << 23;
/// Frames smaller than this are shown at twice their size.
const SMALL: usize = 64;

/// Training of a codec of clips.
struct ClipTask(Ahead<HostBatch>);

impl CodecTask<5> for ClipTask {
    type Recipe = VideoRecipe;
    type Data = VideoData;
    type Objective = <CodecLossConfig as CodecObjectiveConfig<5>>::Objective;
    /// A clip is long enough to be worth a thread alone.
    const ROWS_A_SHARD: usize = 1;

    fn config(recipe: &VideoRecipe) -> &StageConfig {
        &recipe.codec_train
    }

    fn setup(recipe: &VideoRecipe, device: &Device) -> Result<CodecSetup<Self::Objective, 5>> {
        let setup = codec_setup(&recipe.codec, &recipe.codec_loss, device);
        Ok(setup.map_err(PipelineError::from)?)
    }

    fn open(context: &mut Context, first_step: u64) -> Result<Self> {
        let (recipe, clips) = (&context.recipe, context.data.train.clone());
        let (stage, seed) = (&recipe.codec_train, recipe.seed);
        let mut order = BatchOrder::new(clips.len(), stage.batch_size, seed);
        Ok(Self(Ahead::start(
            rounds(stage, first_step),
            move |round| {
                let mut random = RandomStream::for_step(seed, "stand-in", round);
                clips.read_or_draw(&order.batch(round), &mut random)
            },
        )))
    }

    fn batch(&mut self, context: &Context, _round: u64, device: &Device) -> Result<Tensor<5>> {
        let frames = self.0.next_batch(&context.run)?;
        Ok(as_clips(frames.tensor(device), context.recipe.data.frames))
    }

    /// Held-out clips, the reconstruction of each below it, and the PSNR. Clips that turn out to be broken are left
    /// out.
    fn show(&mut self, context: &mut Context, codec: &Codec, step: u64) -> Result<()> {
        let test = &context.data.test;
        let indices = evenly(at_once(test.spec(), RECONSTRUCTED), test.len());
        let (clips, read) = test.read_readable(&indices, &context.device);
        if read.is_empty() {
            return Ok(());
        }
        let decoded = codec.decode(codec.encode(clips.clone()).mode());
        let psnr = psnr_db(pictures(decoded.clone()), pictures(clips.clone()));
        context.log(Self::NAME, step, &[("held_out_psnr_db", psnr)])?;
        save_pairs(
            clips,
            decoded,
            &context.sample_file(Self::NAME, step, "png"),
        )
    }
}

/// Number of clips that are read at once: `most`, or fewer if they are large.
fn at_once(spec: ClipSpec, most: usize) -> usize {
    (NUMBERS / spec.bytes().max(1)).clamp(1, most)
}

/// The frames of clips, `[B, F, C, H, W]` to `[B * F, C, H, W]`.
fn pictures(clips: Tensor<5>) -> Tensor<4> {
    let [count, frames, channels, height, width] = clips.dims();
    clips.reshape([count * frames, channels, height, width])
}

/// Writes some clips as rows of frames, each of `above` over the same of `below`.
///
/// # Shapes
/// - `above`, `below`: `[B, F, C, H, W]`
fn save_pairs(above: Tensor<5>, below: Tensor<5>, path: &Path) -> Result<()> {
    let [count, frames, _, height, _] = above.dims();
    let mut rows = Vec::with_capacity(2 * SHOWN);
    for index in 0..count.min(SHOWN) {
        rows.push(above.clone().narrow(0, index, 1));
        rows.push(below.clone().narrow(0, index, 1));
    }
    let scale = if height < SMALL { 2 } else { 1 };
    let grid = image_grid(pictures(Tensor::cat(rows, 0)), frames, scale);
    Ok(save_png(&grid, path)?)
}

impl Demanding for VideoRecipe {
    fn demands(&self, device: &Device) -> [Demand; 2] {
        let spec = self.clip_spec();
        let clip = [spec.frames, spec.picture.bytes(), 1];
        let keys = &["codec.*", "data.frames"];
        let mut codec = Demand::of_codec(&self.codec, &self.codec_loss, clip, keys, device);
        codec.batch_size = self.codec_train.batch_size as u64;
        [codec, Demand::of_lm(self, self.tokens(), device)]
    }
}

impl LmRecipe for VideoRecipe {
    fn lm(&self) -> LmPlan<'_> {
        LmPlan::new(&self.lm, &self.lm_train, Some(self.text.weights()))
    }
}

/// The texts of the documents of a clip's first frame, one for each.
#[derive(Debug, PartialEq)]
struct FirstFrame(Vec<String>);

impl FirstFrame {
    /// Documents of first frames of all clips. Their texts are captions, or for a share of them, which the seed
    /// chooses, what a still shows.
    fn all(clips: &Clips, recipe: &VideoRecipe) -> Vec<Self> {
        let mix = &recipe.mix;
        let mut random = RandomStream::for_step(recipe.seed, "still-texts", 0);
        let mut all = Vec::with_capacity(clips.len());
        for index in 0..clips.len() {
            let still = clips.still(index);
            let mut texts = Vec::with_capacity(mix.first_frame);
            for _ in 0..mix.first_frame {
                let is_still = random.chance(mix.still_share);
                texts.push(match &still {
                    Some(still) if is_still => still.clone(),
                    _ => clips.text(index).to_owned(),
                });
            }
            all.push(Self(texts));
        }
        all
    }
}

impl Described for FirstFrame {
    fn asked(&self) -> Vec<String> {
        self.0.clone()
    }

    /// No document says it.
    fn said(&self) -> String {
        self.0[0].clone()
    }
}

/// Documents of whole clips, then documents of first frames alone. A first frame has the whole shape of a digit, whose
/// way the groups after it tell.
struct ClipCorpus {
    whole: MllmCorpus,
    first_frames: Option<MllmCorpus>,
}

impl ClipCorpus {
    fn new(clips: &Clips, recipe: &VideoRecipe, tokenizer: &TextTokenizer) -> Result<Self> {
        let mut first_frames = None;
        if recipe.mix.first_frame > 0 {
            let sizes = MllmSizes {
                frames: recipe.first_frame_tokens(),
                ..recipe.sizes()
            };
            let mix = Mix {
                draw: recipe.mix.first_frame,
                caption: 0,
                text: 0,
            };
            let texts = FirstFrame::all(clips, recipe);
            let corpus = MllmCorpus::new(&texts, &[], tokenizer, sizes, mix)?;
            first_frames = Some(corpus);
        }
        Ok(Self {
            whole: clips.documents(recipe, tokenizer, recipe.mix())?,
            first_frames,
        })
    }

    /// A sample's corpus, and its number in it, if it is a first frame.
    fn first_frame(&self, sample: usize) -> Option<(&MllmCorpus, usize)> {
        let index = sample.checked_sub(self.whole.len())?;
        Some((self.first_frames.as_ref()?, index))
    }

    /// Number of positions of each document.
    fn lengths(&self) -> Vec<usize> {
        let count = self.whole.len() + self.first_frames.as_ref().map_or(0, MllmCorpus::len);
        let length = |sample| self.document(sample, false).positions();
        (0..count).map(length).collect()
    }
}

impl Corpus for ClipCorpus {
    fn document(&self, sample: usize, dropped: bool) -> Document {
        let Some((corpus, index)) = self.first_frame(sample) else {
            return self.whole.document(sample, dropped);
        };
        let mut document = corpus.document(index, dropped);
        // The clip goes on behind its first frame: nothing must say that its latents end there.
        document.segments.pop();
        document
    }

    fn encoded(&self, sample: usize) -> Option<usize> {
        match self.first_frame(sample) {
            Some((corpus, index)) => corpus.picture(index),
            None => self.whole.picture(sample),
        }
    }
}

/// Training on texts and their clips.
type VideoTask = PipelineTask<VideoRecipe, VideoData, (), 5>;

/// Trains a recipe, or continues a run.
///
/// # Errors
/// If the folder, recipe or data are wrong, the loss is not finite, or a file can't be written.
pub fn train_video(recipe: VideoRecipe, options: RunOptions) -> Result<RunEnd> {
    check_tokenizer(&recipe.text.tokenizer, &options)?;
    let modality = Modality::<VideoRecipe, VideoData> {
        open: VideoData::open,
        has_codec: teacher::has_codec,
        adopt: teacher::adopt_codec,
        train: |context| {
            let coded = codec_stage::train::<ClipTask, 5>(context)?;
            Ok(coded && lm_stage::train::<VideoTask>(context, open)?)
        },
        report: write_video_report,
        samples: "png",
        train_samples: |data| data.train.len(),
    };
    modality.run(recipe, options)
}

fn open(context: &mut Context, latest: Option<&Path>) -> Result<(VideoTask, LmSetup)> {
    let codec = load_codec(&context.run, &context.device)?;
    let cache = latents::cached(context, |context, cache| encode(context, &codec, cache))?;
    let (recipe, data) = (&context.recipe, &context.data);
    let measured = (MEASURED / (recipe.tokens() * cache.dim).max(1)).clamp(1, cache.len());
    let first: Vec<usize> = (0..measured).collect();
    let (seed, device) = (recipe.seed, &context.device);
    let encoded = Encoded::measure(codec, cache, |_, _| first, seed, device)?;
    let tokenizer = teacher::tokenizer(recipe, latest, || data.tokenizer(recipe))?;
    let corpus = ClipCorpus::new(&data.train, recipe, &tokenizer)?;
    let mut order = PackOrder::new(corpus.lengths(), recipe.mix.pack_positions, seed);
    let setup = LmSetup {
        files: vec![(TOKENIZER, tokenizer.to_json()?)],
        ..LmSetup::new(corpus, move |round| order.pack(round))
    };
    let task = VideoTask {
        encoded,
        vocabulary: tokenizer.into(),
        held_out: (),
        show,
    };
    Ok((task, setup))
}

/// Encodes all training clips. Others stand in for those that can't be decoded. The work ends with a stop.
fn encode(context: &mut Context, codec: &Codec, cache: &mut LatentCache) -> Result<()> {
    let (clips, seed) = (context.data.train.clone(), context.recipe.seed);
    let (count, spec) = (clips.len(), clips.spec());
    let size = at_once(spec, BATCH);
    let parts = count.div_ceil(size) as u64;
    let ahead = Ahead::start(0..parts, move |part| {
        let start = part as usize * size;
        let indices: Vec<usize> = (start..count.min(start + size)).collect();
        let mut random = RandomStream::for_step(seed, "stand-in-latents", part);
        clips.read_or_draw(&indices, &mut random)
    });
    let mut encoding = Encoding::begin(count, &context.options);
    for _ in 0..parts {
        let frames = ahead.next_batch(&context.run)?;
        let batch = as_clips(frames.tensor(&context.device), spec.frames);
        let labels = vec![0_u32; batch.dims()[0]];
        cache.add(codec.encode_parameters(batch), &labels);
        encoding.count(labels.len())?;
    }
    Ok(())
}

/// Clips drawn for held-out texts, the original of each below it, and the same as a GIF for the report; the share of
/// held-out clips that are captioned exactly. Clips that turn out to be broken are left out.
fn show(context: &mut Context, pipeline: &VideoPipeline, (): &(), step: u64) -> Result<()> {
    let (recipe, test, device) = (&context.recipe, &context.data.test, &context.device);
    let indices = evenly(at_once(test.spec(), CAPTIONED), test.len());
    let (clips, read) = test.read_readable(&indices, device);
    if read.is_empty() {
        return Ok(());
    }
    let texts: Vec<String> = read.iter().map(|&own| test.text(own).to_owned()).collect();
    let shown = read.len().min(SHOWN);
    let drawn = pipeline.draw(&texts[..shown], &recipe.sample_options(), recipe.seed)?;
    let originals = clips.clone().narrow(0, 0, shown);
    let played = Tensor::cat(vec![originals.clone(), drawn.clone()], 0);
    let gif = context.run.file(TRAINING_CLIPS);
    save_clips(&played, shown, recipe.data.rate_hz, &gif)?;
    save_pairs(drawn, originals, &context.sample_file(STAGE, step, "png"))?;
    let said = pipeline.caption(clips)?;
    let pairs = said.iter().zip(&texts);
    let exact = pairs.filter(|(said, text)| **said == normal_text(text));
    let share = exact.count() as f64 / texts.len() as f64;
    context.log(STAGE, step, &[("held_out_captions", share)])
}

#[cfg(test)]
mod tests {
    use super::*;
    use latentlm::sequence::{Layout, Segment, SpecialTokens};
    use latentlm_pipelines::Recipe;

    /// Documents of first frames come last, have the latents of one group, and no token behind these.
    #[test]
    fn first_frames_are_documents_without_an_end() {
        let digits = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../datasets/mnist");
        let path = format!("data.path={}", digits.display());
        let read = |first_frame: usize| {
            let first_frame = format!("mix.first_frame={first_frame}");
            let changes = ["data.composed=4", "mix.draw=1", "mix.caption=1"].map(String::from);
            let captions_alone = "mix.still_share=0.0".to_owned();
            let changes = [&changes[..], &[path.clone(), first_frame, captions_alone]].concat();
            let recipe = VideoRecipe::resolve(None, &changes).unwrap();
            let data = VideoData::open(&recipe).unwrap();
            let tokenizer = data.tokenizer(&recipe).unwrap();
            let corpus = ClipCorpus::new(&data.train, &recipe, &tokenizer).unwrap();
            (corpus, tokenizer)
        };
        let (without, _) = read(0);
        let (corpus, tokenizer) = read(2);
        let lengths = corpus.lengths();
        assert_eq!(
            (without.lengths().len(), lengths.len()),
            (4 * 2, 4 * (2 + 2))
        );
        assert_eq!(without.lengths(), lengths[..8]);
        let special = SpecialTokens::after(tokenizer.vocabulary(), 1);
        for clip in 0..4 {
            let (whole, first) = (2 * clip, 8 + 2 * clip);
            assert_eq!(corpus.encoded(whole), Some(clip));
            assert_eq!(corpus.encoded(first), Some(clip));
            let drawn = corpus.document(whole, false);
            let frame = corpus.document(first, false);
            assert_eq!((drawn.frames(0), frame.frames(0)), (20, 16));
            assert_eq!(drawn.segments[0], frame.segments[0], "the same caption");
            // The latents between have no token behind them.
            assert_eq!(lengths[first], lengths[whole] - 4 - 2);
            let layout = Layout::new(&[frame], &special.modalities);
            assert_eq!(layout.learned[0].latents, Vec::from_iter(0..16));
            let begin = i64::from(special.modalities[0].begin);
            assert_eq!(
                layout.answers.last(),
                Some(&begin),
                "nothing behind it is asked"
            );
            let dropped = corpus.document(first, true);
            assert_eq!(
                dropped.positions(),
                1 + 1 + 16,
                "a start, the token before latents"
            );
        }
    }

    /// A share of the documents of first frames reads what a still shows; the seed decides which. With a share of 0,
    /// all of them read captions, so lengths and with them the order are those of captions.
    #[test]
    fn first_frames_read_what_stills_show() {
        let digits = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../datasets/mnist");
        let resolve = |changes: &[&str]| {
            let path = format!("data.path={}", digits.display());
            let changes = changes.iter().map(ToString::to_string);
            let few = ["data.composed=250".to_owned(), path];
            let changes: Vec<String> = few.into_iter().chain(changes).collect();
            VideoRecipe::resolve(None, &changes).unwrap()
        };
        let recipe = resolve(&["mix.still_share=0.3"]);
        let data = VideoData::open(&recipe).unwrap();
        let clips = &data.train;
        let texts = FirstFrame::all(clips, &recipe);
        assert_eq!(texts, FirstFrame::all(clips, &recipe));
        let mut read_stills = 0;
        for (index, FirstFrame(own)) in texts.iter().enumerate() {
            assert_eq!(own.len(), 4);
            let still = clips.still(index).unwrap();
            for text in own {
                read_stills += usize::from(*text == still);
                assert!(*text == still || text == clips.text(index), "{text}");
            }
        }
        // The share of 1,000 documents deviates by 0.0145; the bound is four times that.
        let share = read_stills as f64 / 1000.0;
        assert!((share - 0.3).abs() < 0.06, "{share}");
        let of = |share: &str, seed: &str| FirstFrame::all(clips, &resolve(&[share, seed]));
        assert_ne!(of("mix.still_share=0.3", "seed=2"), texts);
        let captions = of("mix.still_share=0.0", "seed=1");
        let all_stills = of("mix.still_share=1.0", "seed=1");
        for (index, pair) in captions.iter().zip(&all_stills).enumerate() {
            let caption = clips.text(index).to_owned();
            assert_eq!(*pair.0, FirstFrame(vec![caption; 4]));
            assert_eq!(*pair.1, FirstFrame(vec![clips.still(index).unwrap(); 4]));
        }

        // Documents have these tokens, in this order.
        let tokenizer = data.tokenizer(&recipe).unwrap();
        let corpus = ClipCorpus::new(clips, &recipe, &tokenizer).unwrap();
        let special = SpecialTokens::after(tokenizer.vocabulary(), 1);
        let first = corpus.whole.len();
        for (number, text) in texts.iter().flat_map(|own| &own.0).enumerate() {
            let document = corpus.document(first + number, false);
            let tokens = [vec![special.start], tokenizer.encode(text).unwrap()].concat();
            let learned = true;
            assert_eq!(document.segments[0], Segment::Text { tokens, learned });
            assert_eq!(corpus.encoded(first + number), Some(number / 4));
        }
        // With captions alone, these documents are the corpus of captions that they were before.
        let recipe = resolve(&["mix.still_share=0.0"]);
        let corpus = ClipCorpus::new(clips, &recipe, &tokenizer).unwrap();
        let mix = Mix {
            draw: 4,
            caption: 0,
            text: 0,
        };
        let sizes = MllmSizes {
            frames: recipe.first_frame_tokens(),
            ..recipe.sizes()
        };
        let before = MllmCorpus::new(clips.texts(), &[], &tokenizer, sizes, mix).unwrap();
        let (_, now) = corpus.first_frame(first).unwrap();
        assert_eq!((now, corpus.lengths().len()), (0, first + before.len()));
        for number in 0..before.len() {
            for dropped in [false, true] {
                let mut expected = before.document(number, dropped);
                expected.segments.pop();
                assert_eq!(corpus.document(first + number, dropped), expected);
            }
        }
    }

    #[test]
    fn fewer_large_clips_are_read_at_once() {
        let spec = VideoRecipe::default().clip_spec();
        assert_eq!(at_once(spec, 100), 100);
        // 17 frames of 256 x 256 in colour are 3.3 million numbers.
        let mut large = spec;
        large.picture.channels = 3;
        (large.picture.height, large.picture.width) = (256, 256);
        assert_eq!(at_once(large, 100), 5);
        large.frames = 10_000;
        assert_eq!(at_once(large, 100), 1);
    }
}
