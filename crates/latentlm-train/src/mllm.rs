//! Runs of text and pictures. The codec is that of an image run in a folder of this run.

use std::path::Path;

use burn::tensor::{Device, Tensor};
use latentlm::sequence::Document;
use latentlm_data::{Mix, MllmCorpus, PackOrder};
use latentlm_eval::{
    Sample, categories_named, exact_captions, mean, text_surprise, write_mllm_report,
};
use latentlm_pipelines::{
    ImageRecipe, MllmData, MllmPipeline, MllmRecipe, RunFolder, TOKENIZER, Wanted, image_grid,
    save_png,
};

use crate::context::{self, RunEnd, WholeReport};
use crate::error::Result;
use crate::image;
use crate::lm_recipe::{LmPlan, LmRecipe, STAGE};
use crate::lm_stage::{self, Corpus, LmSetup, PipelineTask};
use crate::memory::{Demand, Demanding};
use crate::options::RunOptions;
use crate::run::{Modality, check_tokenizer};
use crate::teacher;

/// A run of text and pictures.
type Context = context::Context<MllmRecipe, MllmData>;
/// Training on text and pictures.
type MllmTask = PipelineTask<MllmRecipe, MllmData, MllmCorpus, 4>;

/// The folder of the image run that the codec is trained in.
const CODEC: &str = "codec";
/// Held-out captions that are drawn as training goes.
const SHOWN: usize = 24;
/// Held-out pictures that are captioned as training goes.
const HELD_OUT: usize = 199;
/// Training pictures that are captioned as training goes.
const KNOWN: usize = 64;

impl Demanding for MllmRecipe {
    fn demands(&self, device: &Device) -> [Demand; 2] {
        let [codec, _] = self.image().demands(device);
        // Without documents of pictures a pack may be of text alone.
        let has_pictures = self.mix.kinds.draw + self.mix.kinds.caption > 0;
        let positions = if has_pictures { self.tokens() } else { 1 };
        [codec, Demand::of_lm(self, positions, device)]
    }
}

impl LmRecipe for MllmRecipe {
    fn lm(&self) -> LmPlan<'_> {
        LmPlan::new(&self.lm, &self.lm_train, Some(self.text.weights))
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

/// Setup of an mllm that learns a corpus.
pub fn mllm_setup(corpus: MllmCorpus, recipe: &MllmRecipe) -> LmSetup {
    let mut order = PackOrder::new(corpus.lengths(), recipe.mix.pack_positions, recipe.seed);
    LmSetup::new(corpus, move |round| order.pack(round))
}

/// Trains a recipe, or continues a run.
///
/// # Errors
/// If the folder, recipe or data are wrong, the loss is not finite, or a file can't be written.
pub fn train_mllm(recipe: MllmRecipe, options: RunOptions) -> Result<RunEnd> {
    train_mllm_with(recipe, None, options)
}

/// [`train_mllm`], with the codec of the finished run in the folder `codec`, if one is named, instead of its own.
///
/// # Errors
/// As [`train_mllm`]; if the folder is no such run, or was trained on other data.
pub fn train_mllm_with(
    recipe: MllmRecipe,
    codec: Option<&Path>,
    options: RunOptions,
) -> Result<RunEnd> {
    check_tokenizer(&recipe.text.tokenizer, &options)?;
    let modality = Modality::<MllmRecipe, MllmData> {
        open: MllmData::open,
        has_codec,
        adopt: adopt_codec,
        train,
        report: write_mllm_report,
        samples: "png",
        train_samples: |data| data.pictures.train.len(),
    };
    modality.run_with(recipe, codec, options)
}

/// Whether the run within the folder has a codec already.
fn has_codec(context: &Context) -> Result<bool> {
    let own = context.options.part(CODEC);
    if !own.resume {
        return Ok(false);
    }
    let (run, _) = RunFolder::<ImageRecipe>::open(&own.path)?;
    Ok(run.latest(teacher::CODEC, Wanted::Weights)?.is_some())
}

/// Takes over the codec of another run. It lies in a run within the folder, here and there.
fn adopt_codec(context: &mut Context, from: &RunFolder<MllmRecipe>) -> Result<()> {
    if has_codec(context)? {
        return Ok(());
    }
    let same = teacher::same_data(context, from)?;
    let own = context.options.part(CODEC);
    let run = if own.resume {
        RunFolder::<ImageRecipe>::resume(&own.path)?.0
    } else {
        RunFolder::create(&own.path, &context.recipe.image())?
    };
    let (codec, _) = RunFolder::<ImageRecipe>::open(&from.file(CODEC))?;
    teacher::copy_codec(&run, &codec, same)
}

fn train(context: &mut Context) -> Result<bool> {
    let codec = context.options.part(CODEC);
    let (run, recipe) = (context.run.clone(), context.recipe.clone());
    let report: WholeReport = Box::new(move || write_mllm_report(&run, &recipe));
    let Some(encoded) = image::encode(context.recipe.image(), codec, Some(report))? else {
        return Ok(false);
    };
    lm_stage::train::<MllmTask>(context, |context, latest| {
        let (data, recipe) = (&context.data, &context.recipe);
        let tokenizer = teacher::tokenizer(recipe, latest, || data.tokenizer(recipe))?;
        let corpus = data.train.documents(recipe, &tokenizer, recipe.mix.kinds)?;
        let setup = LmSetup {
            files: vec![(TOKENIZER, tokenizer.to_json()?)],
            ..mllm_setup(corpus, recipe)
        };
        let task = MllmTask {
            held_out: data.test.documents(recipe, &tokenizer, Mix::ONCE)?,
            encoded,
            vocabulary: tokenizer.into(),
            show,
        };
        Ok((task, setup))
    })
}

/// Held-out captions drawn, a row of originals below; held-out and training pictures captioned;
/// held-out text's perplexity. Pictures that turn out to be broken are left out.
fn show(
    context: &mut Context,
    pipeline: &MllmPipeline,
    documents: &MllmCorpus,
    step: u64,
) -> Result<()> {
    let (recipe, data, device) = (&context.recipe, &context.data, &context.device);
    let shown = Sample::of_readable(&data.test, SHOWN, device);
    if !shown.captions.is_empty() {
        let drawn = pipeline.draw(&shown.texts(), &recipe.sample_options(), recipe.seed)?;
        let grid = Tensor::cat(vec![drawn, shown.pictures], 0);
        let grid = image_grid(grid, shown.captions.len(), 2);
        save_png(&grid, &context.sample_file(STAGE, step, "png"))?;
    }
    let caption = |sample: &Sample| -> Result<Vec<String>> {
        if sample.captions.is_empty() {
            return Ok(Vec::new());
        }
        Ok(pipeline.caption(sample.pictures.clone())?)
    };
    let known = Sample::of_readable(&data.train, KNOWN, device);
    let held_out = Sample::of_readable(&data.test, HELD_OUT, device);
    let nats = text_surprise(&pipeline.model, documents, device);
    let category = categories_named(&caption(&held_out)?, &held_out.captions);
    let exact = exact_captions(&caption(&known)?, &known.captions);
    let values = [
        ("held_out_category", category),
        ("exact_captions", exact),
        ("held_out_text_perplexity", mean(nats).map(f64::exp)),
    ];
    let values = values.into_iter();
    let known = values.filter_map(|(name, value)| Some((name, value?)));
    context.log(STAGE, step, &known.collect::<Vec<_>>())
}
