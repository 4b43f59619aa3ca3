//! Documents of text and pictures that models are compared on.

use std::collections::{BTreeMap, BTreeSet};

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
    /// Tokens that captions of each category begin with.
    pub(crate) beginnings: BTreeMap<String, Vec<u32>>,
}

impl TrainingData for Documents {
    fn fingerprint(&self) -> String {
        self.data.fingerprint()
    }

    fn samples(&self) -> Vec<latentlm_data::Sample> {
        self.data.samples()
    }

    fn check(&self) -> latentlm_pipelines::Result<Option<String>> {
        self.data.check()
    }
}

/// The tokens that captions of each category begin with.
///
/// # Errors
/// If a category can't be encoded.
pub(crate) fn beginnings(
    captions: &[Caption],
    tokenizer: &TextTokenizer,
) -> Result<BTreeMap<String, Vec<u32>>> {
    let named = captions.iter().filter_map(|own| own.category.as_ref());
    let mut beginnings = BTreeMap::new();
    for category in named.collect::<BTreeSet<&String>>() {
        let tokens = tokenizer.encode(&Caption::beginning(category))?;
        beginnings.insert(category.clone(), tokens);
    }
    Ok(beginnings)
}
