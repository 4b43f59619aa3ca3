//! What a model of text and pictures makes of held-out documents.

use burn::tensor::{Device, Tensor};
use latentlm::RandomStream;
use latentlm_data::sequence::Document;
use latentlm_data::{Caption, ImageDataset, PICTURES, TextTokenizer};
use latentlm_eval::Sample;
use latentlm_pipelines::{host_values, read_all};
use latentlm_train::TrainError;

use super::mllm::Documents;
use super::rival::{Pictures, Rival};

/// Documents measured at once.
const BATCH: usize = 64;

/// A category, and the tokens that what is said of its pictures begins with.
pub(crate) struct Beginning {
    category: String,
    tokens: Vec<u32>,
}

impl Beginning {
    /// Of all categories that captions name.
    ///
    /// # Errors
    /// If a category can't be encoded.
    pub(crate) fn all(
        captions: &[Caption],
        tokenizer: &TextTokenizer,
    ) -> Result<Vec<Self>, TrainError> {
        let named = captions
            .iter()
            .filter_map(|caption| caption.category.as_ref());
        let mut categories: Vec<&String> = named.collect();
        categories.sort_unstable();
        categories.dedup();
        let beginning = |category: &String| -> Result<Self, TrainError> {
            Ok(Self {
                tokens: tokenizer.encode(&Caption::beginning(category))?,
                category: category.clone(),
            })
        };
        categories.into_iter().map(beginning).collect()
    }
}

/// A model and the held-out documents it reads, every caption and every piece of text once.
pub(crate) struct Reader<'a, M> {
    pub(crate) model: &'a M,
    pub(crate) coding: &'a dyn Pictures,
    pub(crate) documents: &'a Documents,
    pub(crate) device: &'a Device,
}

/// Perplexities of a token.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Perplexities {
    /// Of text alone.
    pub(crate) text: Option<f64>,
    /// Of what is said of a picture, given the picture.
    pub(crate) caption: Option<f64>,
}

impl<M: Rival<Documents>> Reader<'_, M> {
    /// Perplexities of all documents, whose pictures are those of a split.
    ///
    /// # Errors
    /// If a picture can't be read.
    pub(crate) fn perplexities(&self, pictures: &ImageDataset) -> Result<Perplexities, TrainError> {
        let pictures = read_all(pictures, pictures.len(), self.device)?;
        let corpus = &self.documents.held_out;
        let shown = |index: &usize| corpus.picture(*index).is_some();
        let (captions, texts) = (0..corpus.len()).partition::<Vec<usize>, _>(shown);
        let perplexity = |indices: &[usize]| {
            let batches = indices.chunks(BATCH);
            let nats = batches.flat_map(|batch| {
                let documents = batch.iter().map(|&index| corpus.document(index, false));
                let documents: Vec<Document> = documents.collect();
                // Documents come in the order of their pictures.
                let mut seen = batch.iter().filter_map(|&index| corpus.picture(index));
                let own = match seen.next() {
                    Some(first) => self.read(pictures.clone().narrow(0, first, batch.len())),
                    None => {
                        let random = &mut RandomStream::new(0);
                        self.coding.draw(&[], random, self.device).remove(PICTURES)
                    }
                };
                self.surprise(&documents, own)
            });
            let nats: Vec<f32> = nats.collect();
            let sum: f64 = nats.iter().map(|x| f64::from(*x)).sum();
            (!nats.is_empty()).then(|| (sum / nats.len() as f64).exp())
        };
        Ok(Perplexities {
            text: perplexity(&texts),
            caption: perplexity(&captions),
        })
    }

    /// Share of pictures of which their own category is likelier to be said than any other. `None` where
    /// there are no categories.
    pub(crate) fn category_named(&self, sample: &Sample) -> Option<f64> {
        let (corpus, beginnings) = (&self.documents.held_out, &self.documents.beginnings);
        let mut nats: Vec<Vec<f32>> = vec![Vec::new(); beginnings.len()];
        let count = sample.captions.len();
        for start in (0..count).step_by(BATCH) {
            let length = BATCH.min(count - start);
            let pictures = self.read(sample.pictures.clone().narrow(0, start, length));
            for (beginning, nats) in beginnings.iter().zip(&mut nats) {
                let documents = vec![corpus.saying(beginning.tokens.clone()); length];
                let surprise = self.surprise(&documents, pictures.clone());
                let each = surprise.chunks_exact(beginning.tokens.len());
                nats.extend(each.map(|own| own.iter().sum::<f32>()));
            }
        }
        share_named(beginnings, &nats, &sample.captions)
    }

    /// Pictures, encoded without noise, `[N, Z]`.
    fn read(&self, pictures: Tensor<4>) -> Tensor<2> {
        self.coding.encode(pictures).flatten(0, 1)
    }

    fn surprise(&self, documents: &[Document], encoded: Tensor<2>) -> Vec<f32> {
        let pictures = self.model.whiten(PICTURES, encoded);
        let surprise = self.model.surprise(documents, pictures);
        surprise.map(host_values).unwrap_or_default()
    }
}

/// Share of captions with a category whose beginning is the likeliest of all: `nats` has a row of
/// `-log p` for each beginning.
fn share_named(beginnings: &[Beginning], nats: &[Vec<f32>], captions: &[Caption]) -> Option<f64> {
    let named = captions.iter().enumerate().filter_map(|(index, caption)| {
        let category = caption.category.as_ref()?;
        let likelihood = |&a: &usize, &b: &usize| nats[a][index].total_cmp(&nats[b][index]);
        let likeliest = (0..beginnings.len()).min_by(likelihood)?;
        Some(beginnings[likeliest].category == *category)
    });
    let named: Vec<bool> = named.collect();
    let right = named.iter().filter(|right| **right).count();
    (!named.is_empty()).then(|| right as f64 / named.len() as f64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use latentlm_data::TokenizerKind;

    fn caption(category: Option<&str>) -> Caption {
        Caption {
            text: "thing".into(),
            category: category.map(str::to_owned),
        }
    }

    #[test]
    fn the_likeliest_beginning_is_what_a_model_names() {
        let captions = ["food", "animals", "food"].map(|category| caption(Some(category)));
        let texts: Vec<String> = captions.iter().map(Caption::said).collect();
        let tokenizer = TextTokenizer::train(TokenizerKind::Characters, &texts, 64).unwrap();
        let beginnings = Beginning::all(&captions, &tokenizer).unwrap();
        let lengths: Vec<(&str, usize)> = beginnings
            .iter()
            .map(|own| (own.category.as_str(), own.tokens.len()))
            .collect();
        assert_eq!(lengths, [("animals", 8), ("food", 5)]);
        let asked = [
            caption(Some("animals")),
            caption(Some("food")),
            caption(None),
            caption(Some("food")),
        ];
        let nats = [vec![1.0, 2.0, 0.0, 0.5], vec![3.0, 1.5, 0.0, 0.75]];
        let share = share_named(&beginnings, &nats, &asked);
        assert_eq!(share, Some(2.0 / 3.0), "the last is taken for an animal");
        assert_eq!(share_named(&beginnings, &nats, &asked[2..3]), None);
        assert_eq!(share_named(&[], &[], &asked), None);
    }
}
