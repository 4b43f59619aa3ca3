//! Data for the training and the measurements of a run of text and pictures.

use std::path::{Path, PathBuf};

use latentlm_data::{
    Caption, Content, ImageDataset, LeftOut, Mix, MllmCorpus, MllmSizes, PlainText, Sample, Split,
    TextTokenizer, check_texts,
};

use super::recipe::{MllmRecipe, MllmTextConfig};
use crate::data::TrainingData;
use crate::error::Result;
use crate::image::ImageData;

/// Captioned pictures and text, training and held-out.
pub struct MllmData {
    /// The pictures of both splits.
    pub pictures: ImageData,
    /// The training split.
    pub train: MllmSplit,
    /// The held-out split.
    pub test: MllmSplit,
    /// The folder of the pictures.
    path: PathBuf,
}

/// A split: its pictures and its words.
pub struct MllmSplit {
    /// The pictures.
    pub pictures: ImageDataset,
    /// The caption of each picture.
    pub captions: Vec<Caption>,
    /// Plain text.
    pub paragraphs: Vec<String>,
    fingerprint: String,
}

impl MllmSplit {
    fn open(pictures: &ImageDataset, text: &MllmTextConfig, split: Split) -> Result<Self> {
        let mut texts = Self {
            pictures: pictures.clone(),
            captions: Caption::all(pictures),
            paragraphs: Vec::new(),
            fingerprint: String::new(),
        };
        if !text.data.is_empty() {
            let text = PlainText::open_within(Path::new(&text.data), split, text.limits)?;
            texts.paragraphs = text.paragraphs().to_vec();
            texts.fingerprint = text.fingerprint();
        }
        Ok(texts)
    }

    /// A hash of the pictures, their captions and the text.
    pub fn fingerprint(&self) -> String {
        format!("{}-{}", self.pictures.fingerprint(), self.fingerprint)
    }

    /// Bytes of the paragraphs.
    pub fn bytes(&self) -> usize {
        self.paragraphs.iter().map(String::len).sum()
    }

    /// Documents in a mix: that of the recipe to train with, [`Mix::ONCE`] to measure with.
    ///
    /// # Errors
    /// If a text can't be encoded, or there are no documents.
    pub fn documents(
        &self,
        recipe: &MllmRecipe,
        tokenizer: &TextTokenizer,
        mix: Mix,
    ) -> Result<MllmCorpus> {
        let sizes = MllmSizes {
            frames: recipe.tokens(),
            piece_tokens: recipe.text.piece_tokens,
        };
        let corpus = MllmCorpus::new(&self.captions, &self.paragraphs, tokenizer, sizes, mix);
        Ok(corpus?)
    }
}

impl MllmData {
    /// Opens the pictures and texts that a recipe names.
    ///
    /// # Errors
    /// If there is no dataset, or one of another layout.
    pub fn open(recipe: &MllmRecipe) -> Result<Self> {
        let pictures = ImageData::open(&recipe.image())?;
        Ok(Self {
            train: MllmSplit::open(&pictures.train, &recipe.text, Split::Train)?,
            test: MllmSplit::open(&pictures.test, &recipe.text, Split::Test)?,
            pictures,
            path: PathBuf::from(&recipe.data.path),
        })
    }

    /// The vocabulary that a recipe asks for, made of captions and text.
    ///
    /// # Errors
    /// If its file can't be read, or there are no texts.
    pub fn tokenizer(&self, recipe: &MllmRecipe) -> Result<TextTokenizer> {
        recipe.text.tokenizer.read_or_train(|| {
            let captions = self.train.captions.iter().flat_map(Caption::asked);
            let paragraphs = self.train.paragraphs.iter().cloned();
            captions.chain(paragraphs).collect()
        })
    }
}

impl TrainingData for MllmData {
    fn fingerprint(&self) -> String {
        self.train.fingerprint()
    }

    fn samples(&self) -> Vec<Sample> {
        let mut samples = self.pictures.samples();
        for (name, texts) in [("train: text", &self.train), ("test: text", &self.test)] {
            samples.push(Sample {
                name: name.into(),
                about: String::new(),
                content: Content::Hash(texts.fingerprint.clone()),
            });
        }
        samples
    }

    /// Refuses pictures that would all have the same caption.
    fn check(&self) -> Result<Option<String>> {
        let mut sets = [&self.pictures.train, &self.pictures.test].into_iter();
        let has_text = sets.any(|set| (0..set.len()).any(|index| set.caption(index).is_some()));
        let classes = self.pictures.train.classes();
        check_texts(&self.path, classes, has_text)?;
        Ok(None)
    }

    fn left_out(&self) -> Vec<LeftOut> {
        self.pictures.left_out()
    }
}
