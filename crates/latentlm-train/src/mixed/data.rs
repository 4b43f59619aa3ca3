//! What a run of text and pictures is trained on and measured with.

use std::path::Path;

use latentlm_data::{Caption, Mix, MixedCorpus, PlainText, Split, TextTokenizer};

use super::recipe::MixedRecipe;
use crate::context::TrainingData;
use crate::error::TrainError;
use crate::image::ImageData;

/// Captioned pictures and text, training and held-out.
pub(crate) struct MixedData {
    pub(crate) pictures: ImageData,
    pub(crate) train: Texts,
    pub(crate) test: Texts,
}

/// The words of a split.
pub(crate) struct Texts {
    /// Of every picture.
    pub(crate) captions: Vec<Caption>,
    pub(crate) paragraphs: Vec<String>,
    fingerprint: String,
}

impl Texts {
    fn open(pictures: &ImageData, recipe: &MixedRecipe, split: Split) -> Result<Self, TrainError> {
        let captions = Caption::all(match split {
            Split::Train => &pictures.train,
            Split::Test => &pictures.test,
        });
        if recipe.text.data.is_empty() {
            return Ok(Self {
                captions,
                paragraphs: Vec::new(),
                fingerprint: String::new(),
            });
        }
        let text = PlainText::open(Path::new(&recipe.text.data), split)?;
        Ok(Self {
            captions,
            paragraphs: text.paragraphs().to_vec(),
            fingerprint: text.fingerprint(),
        })
    }

    /// Bytes of the paragraphs.
    pub(crate) fn bytes(&self) -> usize {
        self.paragraphs.iter().map(String::len).sum()
    }

    /// Documents of these words.
    pub(crate) fn corpus(
        &self,
        recipe: &MixedRecipe,
        tokenizer: &TextTokenizer,
    ) -> Result<MixedCorpus, TrainError> {
        self.corpus_of(recipe, tokenizer, recipe.mix())
    }

    /// Every caption, behind its picture, and every piece of text once: what is measured.
    pub(crate) fn once(
        &self,
        recipe: &MixedRecipe,
        tokenizer: &TextTokenizer,
    ) -> Result<MixedCorpus, TrainError> {
        let mix = Mix {
            draw: 0,
            caption: 1,
            text: 1,
        };
        self.corpus_of(recipe, tokenizer, mix)
    }

    fn corpus_of(
        &self,
        recipe: &MixedRecipe,
        tokenizer: &TextTokenizer,
        mix: Mix,
    ) -> Result<MixedCorpus, TrainError> {
        let sizes = (recipe.codec.tokens(), recipe.text.piece_tokens);
        let (captions, paragraphs) = (&self.captions, &self.paragraphs);
        Ok(MixedCorpus::new(
            captions, paragraphs, tokenizer, sizes, mix,
        )?)
    }
}

impl MixedData {
    pub(crate) fn open(recipe: &MixedRecipe) -> Result<Self, TrainError> {
        let pictures = ImageData::open(&recipe.image())?;
        Ok(Self {
            train: Texts::open(&pictures, recipe, Split::Train)?,
            test: Texts::open(&pictures, recipe, Split::Test)?,
            pictures,
        })
    }

    /// The vocabulary that a recipe asks for, made of captions and text.
    pub(crate) fn tokenizer(&self, recipe: &MixedRecipe) -> Result<TextTokenizer, TrainError> {
        let text = &recipe.text;
        if !text.path.is_empty() {
            return Ok(TextTokenizer::read(Path::new(&text.path))?);
        }
        let captions = self.train.captions.iter().flat_map(Caption::asked);
        let texts: Vec<String> = captions
            .chain(self.train.paragraphs.iter().cloned())
            .collect();
        Ok(TextTokenizer::train(
            text.tokenizer,
            &texts,
            text.vocabulary,
        )?)
    }
}

impl TrainingData for MixedData {
    fn fingerprint(&self) -> String {
        format!("{}-{}", self.pictures.fingerprint(), self.train.fingerprint)
    }
}
