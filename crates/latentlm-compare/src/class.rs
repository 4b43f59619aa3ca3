//! Classes and their pictures, and the models that are compared on them.

use std::slice;

use burn::module::ModuleDisplay;
use burn::tensor::{Device, Tensor};
use latentlm::adapters::LatentAdapter;
use latentlm::core::DiffusionDraws;
use latentlm::sequence::Segment;
use latentlm::{Batch, LatentLm, Loss, RandomStream};
use latentlm_baselines::{
    ClassConditional, Dit, DitNetwork, ImageDenoiser, Transfusion, TransfusionNetwork, VqLm,
};
use latentlm_eval::even_labels;
use latentlm_pipelines::{ImageData, TrainingData, label_tensor};
use latentlm_train::{
    EncodedPictures, Learner, LmPlan, LmRecipe, LmSetup, Result, RunOptions, class_setup,
};

use super::recipe::{CompareRecipe, DenoiserRecipe};
use super::rival::{Codes, Entry, Question, Request, Rival, Run, Subject, numbers};
use super::stage_vq;

/// Pictures of each class that are saved.
const SHOWN: usize = 10;

impl LmRecipe for CompareRecipe {
    fn lm(&self) -> LmPlan<'_> {
        self.image.lm()
    }
}

impl Subject for ImageData {
    type Recipe = CompareRecipe;
    type Asked = u32;
    const WITHIN: &'static str = "image.";
    const DROPPED: &'static str = "labels";
    const BATCH: usize = 100;
    const BATCH_KEY: &'static str = "image.lm_train.batch_size";

    fn models() -> Vec<Entry<Self>> {
        vec![
            Entry::of::<LatentLm>(),
            Entry::of::<Dit>(),
            Entry::of::<Transfusion>(),
            Entry::of::<VqLm>(),
        ]
    }

    fn images(recipe: &CompareRecipe) -> CompareRecipe {
        recipe.clone()
    }

    fn open(recipe: &CompareRecipe, _: &Device) -> Result<Self> {
        Ok(Self::open(&recipe.image)?)
    }

    fn pictures(&self) -> &ImageData {
        self
    }

    fn size(&self) -> usize {
        self.classes().len()
    }

    /// Asks for equally many pictures of each class. Some of each are saved, one row per class.
    fn question(&self, recipe: &CompareRecipe) -> Question<u32> {
        let asked = even_labels(recipe.evaluate.samples, self.size());
        let per_class = asked.len() / self.size();
        let columns = SHOWN.min(per_class);
        let shown = (0..asked.len()).filter(|index| index % per_class < columns);
        Question {
            shown: shown.collect(),
            labels: asked.clone(),
            asked,
            columns,
        }
    }

    fn setup(&self, recipe: &CompareRecipe, encoded: &EncodedPictures) -> LmSetup {
        class_setup(encoded, self.size(), &recipe.image)
    }

    fn codes(context: &mut Run<Self>, _: RunOptions) -> Result<Option<Codes>> {
        stage_vq::encode(context)
    }
}

impl Rival<ImageData> for LatentLm {
    const NAME: &'static str = "latentlm";
    const SAMPLE_KEYS: &'static [&'static str] = &["image.codec.*", "image.lm.batch_mul"];

    fn noises(recipe: &CompareRecipe) -> usize {
        recipe.image.lm.batch_mul
    }

    fn init(recipe: &CompareRecipe, classes: usize, device: &Device) -> Self {
        recipe.image.model(classes).init(device)
    }

    fn draw(&self, request: Request<'_, ImageData>) -> Tensor<3> {
        let options = request.recipe.image.sample_options();
        self.draw_images(request.asked, &options, request.random)
    }
}

/// A network that denoises whole pictures.
pub(crate) trait Network: ImageDenoiser + ModuleDisplay {
    /// Name of the model.
    const NAME: &'static str;
    /// Keys that the memory of a picture in a batch follows from.
    const SAMPLE_KEYS: &'static [&'static str];

    /// Its table of the recipe.
    fn recipe(recipe: &CompareRecipe) -> &DenoiserRecipe;
}

impl Network for DitNetwork {
    const NAME: &'static str = "dit";
    const SAMPLE_KEYS: &'static [&'static str] = &["image.codec.*", "dit.batch_mul"];

    fn recipe(recipe: &CompareRecipe) -> &DenoiserRecipe {
        &recipe.dit
    }
}

impl Network for TransfusionNetwork {
    const NAME: &'static str = "transfusion";
    const SAMPLE_KEYS: &'static [&'static str] = &["image.codec.*", "transfusion.batch_mul"];

    fn recipe(recipe: &CompareRecipe) -> &DenoiserRecipe {
        &recipe.transfusion
    }
}

/// The classes that documents begin with, and their pictures, `[B, T, Z]`.
fn pictures(batch: &Batch) -> (Vec<u32>, Tensor<3>) {
    let segments = batch.documents.iter().flat_map(|own| &own.segments);
    let classes = segments.filter_map(|segment| match segment {
        Segment::Label { class } => Some(*class),
        _ => None,
    });
    let [count, dim] = batch.latents[0].dims();
    let shape = [batch.documents.len(), count / batch.documents.len(), dim];
    (classes.collect(), batch.latents[0].clone().reshape(shape))
}

/// The loss of a model of pictures alone.
fn of_pictures(loss: Tensor<1>) -> Loss {
    Loss {
        token: Tensor::zeros([1], &loss.device()),
        diffusion: vec![loss],
    }
}

impl<N: Network> Learner<CompareRecipe> for ClassConditional<N> {
    fn adapters(&self) -> &[LatentAdapter] {
        slice::from_ref(&self.image.latent)
    }

    fn adapters_mut(&mut self) -> &mut [LatentAdapter] {
        slice::from_mut(&mut self.image.latent)
    }

    fn draws(
        &self,
        recipe: &CompareRecipe,
        learned: &[usize],
        random: &mut RandomStream,
        device: &Device,
    ) -> Vec<DiffusionDraws> {
        let pictures = learned[0] / self.image.tokens;
        let rows = N::recipe(recipe).batch_mul * pictures;
        vec![self.image.draw(rows, random, device)]
    }

    fn loss(&self, mut batch: Batch) -> Loss {
        let (classes, latents) = pictures(&batch);
        let labels = label_tensor(&classes, &latents.device());
        let draws = batch.draws.remove(0);
        of_pictures(ClassConditional::loss(self, labels, latents, draws))
    }
}

impl<N: Network> Rival<ImageData> for ClassConditional<N> {
    const NAME: &'static str = N::NAME;
    const SAMPLE_KEYS: &'static [&'static str] = N::SAMPLE_KEYS;

    fn noises(recipe: &CompareRecipe) -> usize {
        N::recipe(recipe).batch_mul
    }

    fn init(recipe: &CompareRecipe, classes: usize, device: &Device) -> Self {
        let config = N::recipe(recipe).config(&recipe.image, classes);
        config.init(device)
    }

    fn draw(&self, request: Request<'_, ImageData>) -> Tensor<3> {
        let options = N::recipe(request.recipe).sample_options(&request.recipe.image);
        let labels = label_tensor(request.asked, request.device);
        self.generate(labels, &options, request.random)
    }
}

impl Learner<CompareRecipe> for VqLm {
    fn loss(&self, batch: Batch) -> Loss {
        let (classes, codes) = pictures(&batch);
        let labels = label_tensor(&classes, &codes.device());
        let codes = codes.squeeze_dim::<2>(2).int();
        of_pictures(VqLm::loss(self, labels, codes))
    }
}

impl Rival<ImageData> for VqLm {
    const NAME: &'static str = "vq";
    const READS_CODES: bool = true;
    const SAMPLE_KEYS: &'static [&'static str] = &["image.codec.*"];

    fn init(recipe: &CompareRecipe, classes: usize, device: &Device) -> Self {
        recipe.vq_lm(classes).init(device)
    }

    fn draw(&self, request: Request<'_, ImageData>) -> Tensor<3> {
        let labels = label_tensor(request.asked, request.device);
        let options = &request.recipe.vq.drawing;
        numbers(self.generate(labels, options, request.random))
    }
}
