//! What a run of text and pictures is trained on and measured with.

use std::path::Path;

use latentlm_data::{Caption, Mix, MllmCorpus, PlainText, Split, TextTokenizer};

use super::recipe::MllmRecipe;
use crate::data::TrainingData;
use crate::error::PipelineError;
use crate::image::ImageData;

/// Captioned pictures and text, training and held-out.
pub struct MllmData {
    /// The pictures of both splits.
    pub pictures: ImageData,
    /// Words that are trained on.
    pub train: Texts,
    /// Words that are only measured with.
    pub test: Texts,
}

/// The words of a split.
pub struct Texts {
    /// Of every picture.
    pub captions: Vec<Caption>,
    /// Pieces of text.
    pub paragraphs: Vec<String>,
    fingerprint: String,
}

impl Texts {
    fn open(
        pictures: &ImageData,
        recipe: &MllmRecipe,
        split: Split,
    ) -> Result<Self, PipelineError> {
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
    pub fn bytes(&self) -> usize {
        self.paragraphs.iter().map(String::len).sum()
    }

    /// Documents of these words.
    pub fn corpus(
        &self,
        recipe: &MllmRecipe,
        tokenizer: &TextTokenizer,
    ) -> Result<MllmCorpus, PipelineError> {
        self.corpus_of(recipe, tokenizer, recipe.mix())
    }

    /// Every caption, behind its picture, and every piece of text once: what is measured.
    pub fn once(
        &self,
        recipe: &MllmRecipe,
        tokenizer: &TextTokenizer,
    ) -> Result<MllmCorpus, PipelineError> {
        let mix = Mix {
            draw: 0,
            caption: 1,
            text: 1,
        };
        self.corpus_of(recipe, tokenizer, mix)
    }

    fn corpus_of(
        &self,
        recipe: &MllmRecipe,
        tokenizer: &TextTokenizer,
        mix: Mix,
    ) -> Result<MllmCorpus, PipelineError> {
        let sizes = latentlm_data::MllmSizes {
            frames: recipe.tokens(),
            piece_tokens: recipe.text.piece_tokens,
        };
        let (captions, paragraphs) = (&self.captions, &self.paragraphs);
        Ok(MllmCorpus::new(
            captions, paragraphs, tokenizer, sizes, mix,
        )?)
    }
}

impl MllmData {
    /// Opens the pictures and texts that a recipe names.
    ///
    /// # Errors
    /// If there is no dataset, or one of another layout.
    pub fn open(recipe: &MllmRecipe) -> Result<Self, PipelineError> {
        let pictures = ImageData::open(&recipe.image())?;
        Ok(Self {
            train: Texts::open(&pictures, recipe, Split::Train)?,
            test: Texts::open(&pictures, recipe, Split::Test)?,
            pictures,
        })
    }

    /// The vocabulary that a recipe asks for, made of captions and text.
    pub fn tokenizer(&self, recipe: &MllmRecipe) -> Result<TextTokenizer, PipelineError> {
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

impl TrainingData for MllmData {
    fn fingerprint(&self) -> String {
        format!("{}-{}", self.pictures.fingerprint(), self.train.fingerprint)
    }
}
