//! Runs of text and pictures. The codec is that of an image run in a folder of this run.

use burn::tensor::{Device, Tensor};
use latentlm::LatentLm;
use latentlm::sequence::Document;
use latentlm_data::{Mix, MllmCorpus, PackOrder, TextTokenizer};
use latentlm_eval::{CaptionScore, Perplexity, Sample, write_report};
use latentlm_pipelines::{MllmData, MllmPipeline, MllmRecipe, TOKENIZER, image_grid, save_png};

use crate::context::{self, RunEnd, RunOptions};
use crate::error::Result;
use crate::image::{self, EncodedPictures};
use crate::latents::Coding;
use crate::lm_stage::{self, Corpus, LmParts, LmPlan, LmRecipe, LmTask};
use crate::run::Modality;

/// A run of text and pictures.
type Context = context::Context<MllmRecipe, MllmData>;

/// The folder of the image run that the codec is trained in.
const CODEC: &str = "codec";
/// Held-out captions that are drawn as training goes.
const SHOWN: usize = 24;
/// Held-out pictures that are captioned as training goes.
const HELD_OUT: usize = 199;
/// Training pictures that are captioned as training goes.
const KNOWN: usize = 64;

impl LmRecipe for MllmRecipe {
    fn lm(&self) -> LmPlan<'_> {
        LmPlan::new(&self.lm, &self.lm_train, Some(self.text.weights()))
    }
}

impl Corpus for MllmCorpus {
    fn document(&self, sample: usize, dropped: bool) -> Document {
        MllmCorpus::document(self, sample, dropped)
    }

    fn encoded(&self, sample: usize) -> Option<usize> {
        self.picture(sample)
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

/// Trains a recipe, or continues a run.
///
/// # Errors
/// If the folder, recipe or data are wrong, the loss is not finite, or a file can't be written.
pub fn train_mllm(recipe: MllmRecipe, options: RunOptions) -> Result<RunEnd> {
    let modality = Modality::<MllmRecipe, MllmData> {
        open: MllmData::open,
        train,
        skipped: |context| context.data.pictures.list_left_out(&context.run),
        report: write_report,
        samples: "png",
    };
    modality.run(recipe, options)
}

fn train(context: &mut Context) -> Result<bool> {
    context.data.pictures.list_left_out(&context.run)?;
    let codec = context.options.part(CODEC);
    let Some(encoded) = image::encode(context.recipe.image(), codec)? else {
        return Ok(false);
    };
    lm_stage::train::<MllmTask>(context, |context, _| {
        let (data, recipe) = (&context.data, &context.recipe);
        let tokenizer = data.tokenizer(recipe)?;
        let corpus = data.train.documents(recipe, &tokenizer, recipe.mix())?;
        let parts = LmParts {
            files: vec![(TOKENIZER, tokenizer.to_json()?)],
            ..mllm_parts(corpus, recipe)
        };
        let task = MllmTask {
            held_out: data.test.documents(recipe, &tokenizer, Mix::ONCE)?,
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
    fn show(&self, context: &mut Context, model: &LatentLm, step: u64) -> Result<()> {
        let (recipe, data, device) = (&context.recipe, &context.data, &context.device);
        let pipeline = MllmPipeline::new(
            context.manifest(Self::NAME, step),
            self.encoded.codec.clone(),
            model.clone(),
            self.tokenizer.clone(),
            device.clone(),
        );
        let (pictures, captions) = (&data.pictures.test, &data.test.captions);
        let shown = Sample::of(pictures, captions, SHOWN, device)?;
        let drawn = pipeline.draw(&shown.texts(), &recipe.sample_options(), recipe.seed)?;
        let grid = Tensor::cat(vec![drawn, shown.pictures], 0);
        let grid = image_grid(grid, shown.captions.len(), 2);
        save_png(&grid, &context.sample_file(Self::NAME, step, "png"))?;
        let score = |sample: Sample| -> Result<CaptionScore> {
            let said = pipeline.caption(sample.pictures)?;
            Ok(CaptionScore::of(&said, &sample.captions))
        };
        let known = Sample::of(&data.pictures.train, &data.train.captions, KNOWN, device)?;
        let held_out = Sample::of(pictures, captions, HELD_OUT, device)?;
        let perplexity = Perplexity::measure(model, &self.held_out, data.test.bytes(), device);
        let values = [
            ("held_out_category", score(held_out)?.category),
            ("exact_captions", Some(score(known)?.exact)),
            ("held_out_text_perplexity", perplexity.text),
        ];
        let values = values.into_iter();
        let known = values.filter_map(|(name, value)| Some((name, value?)));
        context.log(Self::NAME, step, &known.collect::<Vec<_>>())
    }
}
