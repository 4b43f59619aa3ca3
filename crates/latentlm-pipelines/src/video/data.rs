//! The clips that a recipe names, read from files or composed of digits, and batches of them.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use burn::tensor::{Device, Tensor};
use latentlm::RandomStream;
use latentlm_compose::Composer;
use latentlm_data::{
    Clip, ClipDataset, ClipSpec, DataError, ImageDataset, LeftOut, Mix, MllmCorpus, Sample, Split,
    TextTokenizer, check_texts, normal_text,
};

use super::recipe::VideoRecipe;
use crate::data::{TrainingData, both};
use crate::error::{PipelineError, Result};
use crate::image::{HostBatch, byte};
use crate::tensors::host_values;

/// Held-out clips where clips are composed.
const HELD_OUT: usize = 1000;
/// Seed of held-out clips: all runs are measured on the same.
const HELD_OUT_SEED: u64 = 0;

/// Training and held-out clips.
#[derive(Debug)]
pub struct VideoData {
    /// Training clips.
    pub train: Clips,
    /// Held-out clips.
    pub test: Clips,
    /// The folder of the clips or digits.
    path: PathBuf,
}

/// The clips of a split, each with a text. Cloning is cheap.
#[derive(Debug, Clone)]
pub struct Clips {
    source: Source,
    texts: Arc<Vec<String>>,
}

/// Where the clips of a split come from.
#[derive(Debug, Clone)]
enum Source {
    /// From files.
    Files(ClipDataset),
    /// Composed as they are asked for.
    Composed(Composed),
}

/// Clips that are a function of a seed and their index.
#[derive(Debug, Clone)]
struct Composed {
    composer: Composer,
    /// The pictures of the digits.
    digits: ImageDataset,
    seed: u64,
}

impl Clips {
    fn read(dataset: ClipDataset) -> Self {
        let classes = dataset.classes();
        let mut texts = Vec::with_capacity(dataset.len());
        for index in 0..dataset.len() {
            // As a model learns and writes them: what it says is compared with them.
            let text = dataset.caption(index).map(normal_text).unwrap_or_default();
            // A class without a text is its name.
            texts.push(if text.is_empty() {
                normal_text(&classes[dataset.label(index) as usize].to_lowercase())
            } else {
                text
            });
        }
        Self {
            source: Source::Files(dataset),
            texts: Arc::new(texts),
        }
    }

    fn compose(composed: Composed, count: usize) -> Self {
        let scenes = (0..count as u64).map(|index| composed.composer.scene(composed.seed, index));
        Self {
            texts: Arc::new(scenes.map(|scene| scene.caption()).collect()),
            source: Source::Composed(composed),
        }
    }

    /// Number of clips.
    pub fn len(&self) -> usize {
        self.texts.len()
    }

    /// Whether there are no clips; always false.
    pub fn is_empty(&self) -> bool {
        self.texts.is_empty()
    }

    /// The text of each clip.
    pub fn texts(&self) -> &[String] {
        &self.texts
    }

    /// The text of a clip.
    ///
    /// # Panics
    /// If `index` is out of range.
    pub fn text(&self, index: usize) -> &str {
        &self.texts[index]
    }

    /// What a single frame of a clip shows: its caption without motions. `None` if only the caption is known.
    ///
    /// # Panics
    /// If `index` is out of range.
    pub fn still(&self, index: usize) -> Option<String> {
        match &self.source {
            Source::Files(dataset) => {
                let text = normal_text(dataset.still(index)?);
                (!text.is_empty()).then_some(text)
            }
            Source::Composed(composed) => {
                let scene = composed.composer.scene(composed.seed, index as u64);
                Some(scene.still())
            }
        }
    }

    /// Length, frame rate, size and channels.
    pub fn spec(&self) -> ClipSpec {
        match &self.source {
            Source::Files(dataset) => dataset.spec(),
            Source::Composed(composed) => composed.composer.spec(),
        }
    }

    /// What composes the clips; `None` if they are read from files.
    pub fn composer(&self) -> Option<&Composer> {
        match &self.source {
            Source::Files(_) => None,
            Source::Composed(composed) => Some(&composed.composer),
        }
    }

    /// Reads or composes a clip.
    ///
    /// # Errors
    /// If its file can't be decoded.
    ///
    /// # Panics
    /// If `index` is out of range.
    pub fn get(&self, index: usize) -> Result<Clip, DataError> {
        match &self.source {
            Source::Files(dataset) => dataset.get(index),
            Source::Composed(composed) => {
                let Composed { composer, seed, .. } = composed;
                Ok(composer.clip(*seed, index as u64).clip)
            }
        }
    }

    /// Some clips, those that can't be decoded left out, with the indices of the others.
    ///
    /// # Shapes
    /// - returns: `[B, F, C, H, W]`, in `[-1, 1]`
    pub fn read_readable(&self, indices: &[usize], device: &Device) -> (Tensor<5>, Vec<usize>) {
        let (mut clips, mut read) = (Vec::new(), Vec::new());
        for &index in indices {
            if let Ok(clip) = self.get(index) {
                clips.push(clip);
                read.push(index);
            }
        }
        (clip_tensor(&clips, self.spec(), device), read)
    }

    /// The frames of some clips, one clip after the other. A clip that can't be decoded any more is replaced by
    /// another one, chosen by `random` alone.
    ///
    /// # Errors
    /// If none of many can be decoded.
    pub fn read_or_draw(
        &self,
        indices: &[usize],
        random: &mut RandomStream,
    ) -> Result<HostBatch, DataError> {
        let mut clips = Vec::with_capacity(indices.len());
        for &index in indices {
            clips.push(match &self.source {
                Source::Files(dataset) => {
                    dataset.get_or_draw(index, |bound| random.below(bound))?
                }
                Source::Composed(_) => self.get(index)?,
            });
        }
        Ok(host_batch(&clips, self.spec()))
    }

    fn fingerprint(&self) -> String {
        match &self.source {
            Source::Files(dataset) => dataset.fingerprint(),
            Source::Composed(composed) => format!(
                // Before digits began on a lattice, the same seed gave other clips.
                "{}-composed-{}-on-lattice-seed-{}-{:?}",
                composed.digits.fingerprint(),
                self.len(),
                composed.seed,
                self.spec()
            ),
        }
    }

    fn samples(&self) -> Vec<Sample> {
        match &self.source {
            Source::Files(dataset) => dataset.samples(),
            Source::Composed(composed) => composed.digits.samples(),
        }
    }

    fn left_out(&self) -> Vec<LeftOut> {
        match &self.source {
            Source::Files(dataset) => dataset.left_out(),
            Source::Composed(composed) => composed.digits.left_out(),
        }
    }

    /// Documents in a mix: [`VideoRecipe::mix`] to train with, [`Mix::ONCE`] to measure with.
    ///
    /// # Errors
    /// If a text can't be encoded, or there are no documents.
    pub fn documents(
        &self,
        recipe: &VideoRecipe,
        tokenizer: &TextTokenizer,
        mix: Mix,
    ) -> Result<MllmCorpus, PipelineError> {
        let corpus = MllmCorpus::new(&self.texts[..], &[], tokenizer, recipe.sizes(), mix);
        Ok(corpus?)
    }
}

impl VideoData {
    /// Opens the clips that a recipe names, or the digits that it composes them of.
    ///
    /// # Errors
    /// If there is no dataset, one of another layout, or too much of it is broken.
    pub fn open(recipe: &VideoRecipe) -> Result<Self, PipelineError> {
        let (path, spec) = (Path::new(&recipe.data.path), recipe.clip_spec());
        let options = recipe.data.options();
        if recipe.data.composed == 0 {
            let [train, test] = ClipDataset::open_both(path, spec, options)?;
            return Ok(Self {
                train: Clips::read(train.filled(path, Split::Train)?),
                test: Clips::read(test.filled(path, Split::Test)?),
                path: path.to_owned(),
            });
        }
        let [train, test] = ImageDataset::open_both(path, spec.picture, options)?;
        let composed = |digits, split, seed| -> Result<Composed, DataError> {
            let composer = Composer::open_with(path, spec, split, options)?;
            Ok(Composed {
                composer,
                digits,
                seed,
            })
        };
        let train = composed(train, Split::Train, recipe.seed)?;
        let test = composed(test, Split::Test, HELD_OUT_SEED)?;
        Ok(Self {
            train: Clips::compose(train, recipe.data.composed),
            test: Clips::compose(test, HELD_OUT),
            path: path.to_owned(),
        })
    }

    /// The vocabulary that a recipe asks for, made of all texts that training reads.
    ///
    /// # Errors
    /// If its file can't be read, or there are no texts.
    pub fn tokenizer(&self, recipe: &VideoRecipe) -> Result<TextTokenizer, PipelineError> {
        let texts = || {
            let mut texts = self.train.texts.to_vec();
            if recipe.mix.reads_stills() {
                let stills = (0..self.train.len()).filter_map(|index| self.train.still(index));
                texts.extend(stills);
            }
            texts
        };
        recipe.text.tokenizer.read_or_train(texts)
    }
}

impl TrainingData for VideoData {
    fn fingerprint(&self) -> String {
        self.train.fingerprint()
    }

    fn samples(&self) -> Vec<Sample> {
        both(self.train.samples(), self.test.samples())
    }

    /// Refuses clips that would all have the same caption.
    fn check(&self) -> Result<Option<String>> {
        let (Source::Files(train), Source::Files(test)) = (&self.train.source, &self.test.source)
        else {
            return Ok(None);
        };
        let mut sets = [train, test].into_iter();
        let has_text = sets.any(|set| (0..set.len()).any(|index| set.caption(index).is_some()));
        check_texts(&self.path, train.classes(), has_text)?;
        Ok(None)
    }

    fn left_out(&self) -> Vec<LeftOut> {
        self.train.left_out()
    }
}

/// Frames of clips on the host, one clip after the other.
fn host_batch(clips: &[Clip], spec: ClipSpec) -> HostBatch {
    let frames = clips
        .iter()
        .flat_map(|clip| clip.frames.chunks_exact(spec.picture.bytes()));
    host_frames(frames, spec)
}

/// Frames on the host, each `[C, H, W]`.
pub(super) fn host_frames<'a>(frames: impl Iterator<Item = &'a [u8]>, spec: ClipSpec) -> HostBatch {
    let mut batch = HostBatch::new(spec.picture, spec.frames);
    for frame in frames {
        batch.push(frame, false);
    }
    batch
}

/// Clips on a device, `[B, F, C, H, W]`, in `[-1, 1]`.
///
/// # Shapes
/// - `clips`: each `[F, C, H, W]`, as `spec` says
pub fn clip_tensor(clips: &[Clip], spec: ClipSpec, device: &Device) -> Tensor<5> {
    as_clips(host_batch(clips, spec).tensor(device), spec.frames)
}

/// Pictures that follow each other as clips of `frames` frames.
///
/// # Shapes
/// - `pictures`: `[B * F, C, H, W]`
/// - returns: `[B, F, C, H, W]`
pub fn as_clips(pictures: Tensor<4>, frames: usize) -> Tensor<5> {
    let [count, channels, height, width] = pictures.dims();
    pictures.reshape([count / frames, frames, channels, height, width])
}

/// The pixels of a clip or a picture as bytes, in the order of the tensor.
///
/// # Shapes
/// - `clip`: `[F, C, H, W]`, in `[-1, 1]`; numbers outside are clamped, NaN is black
pub fn clip_bytes(clip: Tensor<4>) -> Vec<u8> {
    host_values(clip).into_iter().map(byte).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recipe::Recipe;
    use latentlm_compose::Scene;

    fn composed(changes: &[&str]) -> VideoData {
        let digits = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../datasets/mnist");
        let mut overrides = vec![format!("data.path={}", digits.display())];
        overrides.push("data.composed=12".into());
        overrides.extend(changes.iter().map(ToString::to_string));
        VideoData::open(&VideoRecipe::resolve(None, &overrides).unwrap()).unwrap()
    }

    #[test]
    fn composed_clips_follow_from_seed_and_index() {
        let (one, same) = (composed(&[]), composed(&[]));
        assert_eq!(one.train.len(), 12);
        for index in 0..12 {
            let clip = one.train.get(index).unwrap();
            assert_eq!(clip, same.train.get(index).unwrap());
            assert_eq!(clip.text.as_deref(), Some(one.train.text(index)));
        }
        assert_eq!(one.fingerprint(), same.fingerprint());
        let other = composed(&["seed=2"]);
        assert_ne!(one.train.texts(), other.train.texts());
        assert_eq!(one.test.texts(), other.test.texts());
        assert_ne!(one.fingerprint(), other.fingerprint());
        assert_ne!(
            one.fingerprint(),
            composed(&["data.composed=13"]).fingerprint()
        );
    }

    #[test]
    fn stills_of_composed_clips_are_known() {
        let train = composed(&[]).train;
        for index in 0..train.len() {
            let scene = Scene::parse(train.text(index)).unwrap();
            assert_eq!(train.still(index), Some(scene.still()));
        }
    }

    /// A table may say what a still shows. The vocabulary has its words where documents read them.
    #[test]
    fn stills_of_files_are_in_the_table() {
        let dir = tempfile::tempdir().unwrap();
        let mut lines = Vec::new();
        for (name, rest) in [
            ("a", r#""still": " Q ", "split": "train""#),
            ("b", r#""still": " ", "split": "train""#),
            ("c", r#""split": "train""#),
            ("d", r#""split": "test""#),
        ] {
            let clip = dir.path().join(name);
            std::fs::create_dir(&clip).unwrap();
            for frame in 1..=5 {
                let picture = image::GrayImage::new(32, 32);
                picture.save(clip.join(format!("{frame}.png"))).unwrap();
            }
            lines.push(format!(
                r#"{{"file_name": "{name}", "text": "x  y\u00a0z", {rest}}}"#
            ));
        }
        std::fs::write(dir.path().join("metadata.jsonl"), lines.join("\n")).unwrap();
        let read = |change: &str| {
            let overrides = [
                format!("data.path={}", dir.path().display()).as_str(),
                "data.composed=0",
                "data.frames=5",
                "text.tokenizer=characters",
                change,
            ]
            .map(str::to_owned);
            let recipe = VideoRecipe::resolve(None, &overrides).unwrap();
            let data = VideoData::open(&recipe).unwrap();
            let tokenizer = data.tokenizer(&recipe).unwrap();
            (data.train, tokenizer)
        };
        let (clips, tokenizer) = read("mix.still_share=0.1");
        let stills: Vec<Option<String>> = (0..3).map(|index| clips.still(index)).collect();
        assert_eq!(stills, [Some("Q".to_owned()), None, None]);
        assert_eq!(clips.texts(), ["x y z"; 3], "as a model says it");
        assert_eq!(tokenizer.encode("Q").unwrap().len(), 1);
        for change in ["mix.still_share=0.0", "mix.first_frame=0"] {
            let (_, without) = read(change);
            assert!(without.encode("Q").is_err(), "{change}");
        }
    }

    /// Bars in the place of digits, of which one in ten is no picture.
    #[test]
    fn broken_digits_are_left_out_and_listed() {
        let dir = tempfile::tempdir().unwrap();
        let bar = image::GrayImage::from_fn(28, 28, |x, y| {
            let inked = (12..16).contains(&x) && (4..24).contains(&y);
            image::Luma([if inked { 255 } else { 0 }])
        });
        let mut lines = String::new();
        for digit in 0..10 {
            for (copy, split) in ["train", "train", "test"].into_iter().enumerate() {
                let name = format!("{digit}-{copy}.png");
                bar.save(dir.path().join(&name)).unwrap();
                lines += &format!(
                    "{{\"file_name\": \"{name}\", \"label\": \"{digit}\", \"split\": \"{split}\"}}\n"
                );
            }
        }
        std::fs::write(dir.path().join("metadata.jsonl"), lines).unwrap();
        let broken = ["3-1.png", "5-0.png", "7-1.png"];
        for name in broken {
            std::fs::write(dir.path().join(name), "no picture").unwrap();
        }
        let open = |max_broken: &str| {
            let path = format!("data.path={}", dir.path().display());
            let overrides = [path, "data.composed=12".into(), max_broken.into()];
            VideoData::open(&VideoRecipe::resolve(None, &overrides).unwrap())
        };
        let refused = open("data.max_broken=0.05").unwrap_err().to_string();
        assert!(refused.contains("3 of 30 samples"), "{refused}");
        let data = open("data.max_broken=0.2").unwrap();
        assert_eq!(data.train.len(), 12);
        let left_out = data.train.left_out();
        let mut names: Vec<_> = left_out.iter().map(|own| own.path.file_name()).collect();
        names.sort();
        let expected = broken.map(|name| Some(std::ffi::OsStr::new(name)));
        assert_eq!(names, expected);
    }

    /// Bytes to numbers and back, and a picture in the place where it stands in its clip.
    #[test]
    fn clips_keep_their_order() {
        let data = composed(&[]);
        let clips = [3, 5].map(|index| data.train.get(index).unwrap());
        let device = Device::default();
        let tensor = clip_tensor(&clips, data.train.spec(), &device);
        assert_eq!(tensor.dims(), [2, 17, 1, 32, 32]);
        for (index, clip) in clips.iter().enumerate() {
            let own: Tensor<4> = tensor.clone().narrow(0, index, 1).squeeze_dim(0);
            assert_eq!(clip_bytes(own), clip.frames);
        }
        let mut random = RandomStream::new(1);
        let batch = data.train.read_or_draw(&[3, 5], &mut random).unwrap();
        let batch = as_clips(batch.tensor(&device), 17);
        assert_eq!(batch.into_data(), tensor.into_data());
    }
}
