//! The second stage: the language model of text and the codec's latents of pictures.

use burn::tensor::{Device, Tensor};
use latentlm::adapters::Whitening;
use latentlm::codec_image::Codec;
use latentlm::core::bundle::BundleWriter;
use latentlm::sequence::Document;
use latentlm::{LatentLm, RandomStream};
use latentlm_data::{MixedCorpus, PackOrder, TextTokenizer};
use latentlm_eval::{CaptionScore, Perplexity, Sample};
use latentlm_pipelines::{
    Artist, LmConfig, MixedData, MixedRecipe, StageConfig, TOKENIZER, TokenWeights, image_grid,
    save_png,
};

use super::run::Context;
use crate::error::TrainError;
use crate::latents::Encoded;
use crate::lm_stage::{self, LmRecipe, LmTask, Order};

/// Held-out captions that are drawn as training goes.
const SHOWN: usize = 24;
/// Held-out pictures that are captioned as training goes, and training pictures.
const HELD_OUT: usize = 199;
const KNOWN: usize = 64;

impl LmRecipe for MixedRecipe {
    fn lm(&self) -> &LmConfig {
        &self.lm
    }

    fn lm_train(&self) -> &StageConfig {
        &self.lm_train
    }

    fn token_weights(&self) -> TokenWeights {
        self.text.weights()
    }
}

/// Training on text and pictures.
struct MllmTask {
    encoded: Encoded<Codec>,
    tokenizer: TextTokenizer,
    corpus: MixedCorpus,
    held_out: MixedCorpus,
}

/// Trains the language model or takes up where it was left. Returns whether it is finished.
///
/// # Errors
/// If data can't be read, the loss is not finite, or a checkpoint can't be written.
pub fn train(context: &mut Context, encoded: Encoded<Codec>) -> Result<bool, TrainError> {
    lm_stage::train::<MllmTask>(context, |context, _| {
        let (data, recipe) = (&context.data, &context.recipe);
        let tokenizer = data.tokenizer(recipe)?;
        Ok(MllmTask {
            corpus: data.train.corpus(recipe, &tokenizer)?,
            held_out: data.test.once(recipe, &tokenizer)?,
            encoded,
            tokenizer,
        })
    })
}

impl LmTask for MllmTask {
    type Recipe = MixedRecipe;
    type Data = MixedData;
    type Model = LatentLm;

    fn init(&self, recipe: &MixedRecipe, device: &Device) -> LatentLm {
        recipe.model(self.tokenizer.vocabulary()).init(device)
    }

    fn whitening(&self) -> Option<Whitening> {
        Some(self.encoded.whitening)
    }

    fn order(&self, recipe: &MixedRecipe) -> Order {
        let lengths = self.corpus.lengths();
        let order = PackOrder::new(lengths, recipe.mix.pack_positions, recipe.seed);
        Order::Packs(order)
    }

    fn inputs(
        &self,
        samples: &[usize],
        random: &mut RandomStream,
        device: &Device,
    ) -> Vec<Tensor<2>> {
        let pictures = samples.iter().filter_map(|&own| self.corpus.picture(own));
        let pictures: Vec<usize> = pictures.collect();
        vec![self.encoded.draw(&pictures, random, device)]
    }

    fn document(&self, sample: usize, dropped: bool) -> Document {
        self.corpus.document(sample, dropped)
    }

    /// Held-out captions drawn, a row of originals below; held-out and training pictures captioned;
    /// held-out text's perplexity.
    fn show(
        &mut self,
        context: &mut Context,
        model: &LatentLm,
        step: u64,
    ) -> Result<(), TrainError> {
        let (recipe, device) = (&context.recipe, &context.device);
        let MixedData {
            pictures,
            train,
            test,
        } = &context.data;
        let artist = Artist::new(
            recipe.clone(),
            (self.encoded.codec.clone(), model.clone()),
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

    fn save(&self, bundle: &BundleWriter) -> Result<(), TrainError> {
        bundle.write(TOKENIZER, self.tokenizer.to_json()?.as_bytes())?;
        self.encoded.save(bundle)
    }
}
