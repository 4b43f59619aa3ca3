//! The second stage: the language model of text and the codec's latents of pictures.

use burn::tensor::{Device, Tensor};
use latentlm::LatentLm;
use latentlm_data::{MllmCorpus, PackOrder, TextTokenizer};
use latentlm_eval::{CaptionScore, Perplexity, Sample};
use latentlm_pipelines::{MllmData, MllmPipeline, MllmRecipe, TOKENIZER, image_grid, save_png};

use super::run::Context;
use crate::error::TrainError;
use crate::image::EncodedPictures;
use crate::latents::Coding;
use crate::lm_stage::{self, LmParts, LmPlan, LmRecipe, LmTask};

/// Held-out captions that are drawn as training goes.
const SHOWN: usize = 24;
/// Held-out pictures that are captioned as training goes, and training pictures.
const HELD_OUT: usize = 199;
const KNOWN: usize = 64;

impl LmRecipe for MllmRecipe {
    fn lm(&self) -> LmPlan<'_> {
        LmPlan::new(&self.lm, &self.lm_train, Some(self.text.weights()))
    }
}

/// What a model of text and pictures is trained with.
pub fn mllm_parts(corpus: MllmCorpus, recipe: &MllmRecipe) -> LmParts {
    let mut order = PackOrder::new(corpus.lengths(), recipe.mix.pack_positions, recipe.seed);
    LmParts::new(corpus, move |round| order.pack(round))
}

/// Training on text and pictures.
struct MllmTask {
    encoded: EncodedPictures,
    tokenizer: TextTokenizer,
    held_out: MllmCorpus,
}

/// Trains the language model or takes up where it was left. Returns whether it is finished.
///
/// # Errors
/// If data can't be read, the loss is not finite, or a checkpoint can't be written.
pub fn train(context: &mut Context, encoded: EncodedPictures) -> Result<bool, TrainError> {
    lm_stage::train::<MllmTask>(context, |context, _| {
        let (data, recipe) = (&context.data, &context.recipe);
        let tokenizer = data.tokenizer(recipe)?;
        let corpus = data.train.corpus(recipe, &tokenizer)?;
        let parts = LmParts {
            files: vec![(TOKENIZER, tokenizer.to_json()?)],
            ..mllm_parts(corpus, recipe)
        };
        let task = MllmTask {
            held_out: data.test.once(recipe, &tokenizer)?,
            encoded,
            tokenizer,
        };
        Ok((task, parts))
    })
}

impl LmTask for MllmTask {
    type Recipe = MllmRecipe;
    type Data = MllmData;
    type Model = LatentLm;

    fn init(&self, recipe: &MllmRecipe, device: &Device) -> LatentLm {
        recipe.model(self.tokenizer.vocabulary()).init(device)
    }

    fn coding(&self) -> &dyn Coding {
        &self.encoded
    }

    /// Held-out captions drawn, a row of originals below; held-out and training pictures captioned;
    /// held-out text's perplexity.
    fn show(&self, context: &mut Context, model: &LatentLm, step: u64) -> Result<(), TrainError> {
        let (recipe, device) = (&context.recipe, &context.device);
        let MllmData {
            pictures,
            train,
            test,
        } = &context.data;
        let artist = MllmPipeline::new(
            context.manifest(Self::NAME, step),
            self.encoded.codec.clone(),
            model.clone(),
            self.tokenizer.clone(),
            device.clone(),
        );
        let shown = Sample::of(&pictures.test, &test.captions, SHOWN, device)?;
        let drawn = artist.draw(&shown.texts(), &recipe.sample_options(), recipe.seed)?;
        let columns = shown.captions.len();
        let grid = Tensor::cat(vec![drawn, shown.pictures], 0);
        let file = format!("samples/lm-step-{step}.png");
        save_png(&image_grid(grid, columns, 2), &context.run.file(&file))?;
        let score = |sample: Sample| -> Result<CaptionScore, TrainError> {
            let said = artist.caption(sample.pictures)?;
            Ok(CaptionScore::of(&said, &sample.captions))
        };
        let known = Sample::of(&pictures.train, &train.captions, KNOWN, device)?;
        let held_out = Sample::of(&pictures.test, &test.captions, HELD_OUT, device)?;
        let perplexity = Perplexity::measure(model, &self.held_out, test.bytes(), device);
        let values = [
            ("held_out_category", score(held_out)?.category),
            ("exact_captions", Some(score(known)?.exact)),
            ("held_out_text_perplexity", perplexity.text),
        ];
        let known = values.into_iter();
        let known = known.filter_map(|(name, value)| Some((name, value?)));
        let known: Vec<(&str, f64)> = known.collect();
        context.log(Self::NAME, step, &known)
    }
}
