//! Documents of text and pictures that models are compared on.

use burn::tensor::Tensor;
use latentlm_data::{MllmCorpus, TextTokenizer};
use latentlm_eval::{Gallery, Sample};
use latentlm_pipelines::{MllmData, evenly};
use latentlm_train::{Context, LmParts, LmPlan, LmRecipe, TrainError, mllm_parts};

use super::mllm_measure::{Beginning, Reader};
use super::mllm_recipe::CompareMllmRecipe;
use super::rival::{Pictures, Question, Rival, Subject};

/// Pictures that are shown, and in a row.
const SHOWN: usize = 24;
const COLUMNS: usize = 8;

impl LmRecipe for CompareMllmRecipe {
    fn lm(&self) -> LmPlan<'_> {
        self.mllm.lm()
    }
}

/// What all models read, and what they are judged by beside their pictures.
pub(crate) struct Documents {
    tokenizer: TextTokenizer,
    /// All pictures, in the latents of the sigma-VAE whatever the model draws.
    gallery: Gallery,
    corpus: MllmCorpus,
    /// Every caption and every piece of held-out text once.
    pub(crate) held_out: MllmCorpus,
    pub(crate) beginnings: Vec<Beginning>,
}

impl Documents {
    /// The documents of a recipe's data.
    ///
    /// # Errors
    /// If a text can't be encoded.
    pub(crate) fn new(
        context: &Context<CompareMllmRecipe, MllmData>,
        tokenizer: TextTokenizer,
        gallery: Gallery,
    ) -> Result<Self, TrainError> {
        let (recipe, data) = (&context.recipe.mllm, &context.data);
        Ok(Self {
            corpus: data.train.corpus(recipe, &tokenizer)?,
            held_out: data.test.once(recipe, &tokenizer)?,
            beginnings: Beginning::all(&data.train.captions, &tokenizer)?,
            tokenizer,
            gallery,
        })
    }
}

/// Held-out pictures and what is said of them.
fn sample(context: &Context<CompareMllmRecipe, MllmData>) -> Result<Sample, TrainError> {
    let MllmData { pictures, test, .. } = &context.data;
    let count = context.recipe.evaluate.samples;
    Ok(Sample::of(
        &pictures.test,
        &test.captions,
        count,
        &context.device,
    )?)
}

impl Subject for Documents {
    type Recipe = CompareMllmRecipe;
    type Data = MllmData;
    type Asked = Vec<u32>;
    const DROPPED: &'static str = "dropped";
    const BATCH: usize = 64;

    fn size(&self) -> usize {
        self.tokenizer.vocabulary()
    }

    fn parts(&self, recipe: &CompareMllmRecipe) -> LmParts {
        mllm_parts(self.corpus.clone(), &recipe.mllm)
    }

    /// Pictures of held-out captions.
    fn question(
        &self,
        context: &Context<CompareMllmRecipe, MllmData>,
    ) -> Result<Question<Vec<u32>>, TrainError> {
        let sample = sample(context)?;
        let texts = sample.texts().into_iter();
        let asked = texts.map(|text| self.tokenizer.encode(&text));
        let asked: Vec<Vec<u32>> = asked.collect::<Result<_, _>>()?;
        let shown = evenly(SHOWN, asked.len()).into_iter();
        let shown: Vec<i64> = shown.map(|index| index as i64).collect();
        Ok(Question {
            columns: shown.len().min(COLUMNS),
            labels: sample.labels,
            asked,
            shown,
        })
    }

    fn measure(
        &self,
        context: &Context<CompareMllmRecipe, MllmData>,
        (model, coding): (&impl Rival<Self>, &dyn Pictures),
        drawn: &Tensor<4>,
    ) -> Result<Vec<(&'static str, Option<f64>)>, TrainError> {
        let asked = sample(context)?;
        let nearest = self.gallery.nearest(drawn.clone());
        let reader = Reader {
            model,
            coding,
            documents: self,
            device: &context.device,
        };
        let perplexities = reader.perplexities(&context.data.pictures.test)?;
        let near = self.gallery.of_category(&nearest, &asked.captions);
        Ok(vec![
            ("text_perplexity", perplexities.text),
            ("caption_perplexity", perplexities.caption),
            ("category_named", reader.category_named(&asked)),
            ("neighbours_of_category", near),
        ])
    }
}
