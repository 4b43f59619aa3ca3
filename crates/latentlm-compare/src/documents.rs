//! Documents of text and pictures that models are compared on.

use std::collections::BTreeSet;

use latentlm_data::{Caption, MllmCorpus, TextTokenizer};
use latentlm_eval::Sample;
use latentlm_pipelines::{MllmData, TrainingData};
use latentlm_train::Result;

/// Training documents for all models, and the held-out data that they are measured with besides pictures.
pub(crate) struct Documents {
    pub(crate) data: MllmData,
    /// Tokens of text.
    pub(crate) vocabulary: usize,
    pub(crate) corpus: MllmCorpus,
    /// Every caption and every piece of held-out text once.
    pub(crate) held_out: MllmCorpus,
    /// Held-out pictures with their captions.
    pub(crate) sample: Sample,
    /// Tokens of these captions without their categories.
    pub(crate) asked: Vec<Vec<u32>>,
    pub(crate) beginnings: Vec<Beginning>,
}

impl TrainingData for Documents {
    fn fingerprint(&self) -> String {
        self.data.fingerprint()
    }

    fn samples(&self) -> Vec<latentlm_data::Sample> {
        self.data.samples()
    }
}

/// A category, and the tokens that captions of its pictures begin with.
pub(crate) struct Beginning {
    pub(crate) category: String,
    pub(crate) tokens: Vec<u32>,
}

impl Beginning {
    /// The beginnings for all categories of captions, in the order of the alphabet.
    ///
    /// # Errors
    /// If a category can't be encoded.
    pub(crate) fn all(captions: &[Caption], tokenizer: &TextTokenizer) -> Result<Vec<Self>> {
        let named = captions.iter().filter_map(|own| own.category.as_ref());
        let mut beginnings = Vec::new();
        for category in named.collect::<BTreeSet<&String>>() {
            beginnings.push(Self {
                tokens: tokenizer.encode(&Caption::beginning(category))?,
                category: category.clone(),
            });
        }
        Ok(beginnings)
    }
}
