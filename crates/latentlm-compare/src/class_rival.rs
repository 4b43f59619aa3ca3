//! Classes and their pictures, and the models that are compared on them.

use burn::module::ModuleDisplay;
use burn::tensor::{Device, Tensor};
use latentlm::adapters::Whitening;
use latentlm::core::DiffusionDraws;
use latentlm::sequence::Segment;
use latentlm::{Batch, LatentLm, Loss, RandomStream};
use latentlm_baselines::{ClassConditional, DitNetwork, ImageDenoiser, TransfusionNetwork, VqLm};
use latentlm_eval::even_labels;
use latentlm_pipelines::{ImageData, label_tensor};
use latentlm_train::{Classes, Context, Learner, LmParts, LmPlan, LmRecipe, TrainError};

use super::recipe::{CompareRecipe, DenoiserRecipe};
use super::rival::{Question, Rival, Subject, numbers};

/// Pictures of each class in a grid.
const SHOWN: usize = 10;

impl LmRecipe for CompareRecipe {
    fn lm(&self) -> LmPlan<'_> {
        self.image.lm()
    }
}

impl Subject for Classes {
    type Recipe = CompareRecipe;
    type Data = ImageData;
    type Asked = u32;
    const DROPPED: &'static str = "labels";
    const BATCH: usize = 100;

    fn size(&self) -> usize {
        self.classes
    }

    fn parts(&self, recipe: &CompareRecipe) -> LmParts {
        let image = &recipe.image;
        Classes::parts(self.clone(), &image.lm_train, image.seed)
    }

    /// As many of each class; some of each are shown, a row a class.
    fn question(
        &self,
        context: &Context<CompareRecipe, ImageData>,
    ) -> Result<Question<u32>, TrainError> {
        let asked = even_labels(context.recipe.evaluate.samples, self.classes);
        let per_class = asked.len() / self.classes;
        let columns = SHOWN.min(per_class);
        let shown = (0..asked.len()).filter(|index| index % per_class < columns);
        Ok(Question {
            shown: shown.map(|index| index as i64).collect(),
            labels: asked.clone(),
            asked,
            columns,
        })
    }
}

impl Rival<Classes> for LatentLm {
    const NAME: &'static str = "latentlm";

    fn init(recipe: &CompareRecipe, classes: usize, device: &Device) -> Self {
        recipe.image.model(classes).init(device)
    }

    fn draw(
        &self,
        labels: &[u32],
        recipe: &CompareRecipe,
        random: &mut RandomStream,
        _: &Device,
    ) -> Tensor<3> {
        self.draw_images(labels, &recipe.image.sample_options(), random)
    }
}

/// A network that denoises whole pictures.
pub(crate) trait Network: ImageDenoiser + ModuleDisplay {
    /// Name of the model.
    const NAME: &'static str;

    /// Its table of the recipe.
    fn recipe(recipe: &CompareRecipe) -> &DenoiserRecipe;

    /// The model with first weights.
    fn init(recipe: &CompareRecipe, classes: usize, device: &Device) -> ClassConditional<Self>;
}

impl Network for DitNetwork {
    const NAME: &'static str = "dit";

    fn recipe(recipe: &CompareRecipe) -> &DenoiserRecipe {
        &recipe.dit
    }

    fn init(recipe: &CompareRecipe, classes: usize, device: &Device) -> ClassConditional<Self> {
        recipe.dit(classes).init(device)
    }
}

impl Network for TransfusionNetwork {
    const NAME: &'static str = "transfusion";

    fn recipe(recipe: &CompareRecipe) -> &DenoiserRecipe {
        &recipe.transfusion
    }

    fn init(recipe: &CompareRecipe, classes: usize, device: &Device) -> ClassConditional<Self> {
        recipe.transfusion(classes).init(device)
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
    fn whitened(mut self, whitening: Whitening) -> Self {
        self.image.latent = self.image.latent.with_whitening(whitening);
        self
    }

    fn whiten(&self, _: usize, latents: Tensor<2>) -> Tensor<2> {
        self.image.latent.whiten(latents)
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

impl<N: Network> Rival<Classes> for ClassConditional<N> {
    const NAME: &'static str = N::NAME;

    fn init(recipe: &CompareRecipe, classes: usize, device: &Device) -> Self {
        N::init(recipe, classes, device)
    }

    fn draw(
        &self,
        labels: &[u32],
        recipe: &CompareRecipe,
        random: &mut RandomStream,
        device: &Device,
    ) -> Tensor<3> {
        let options = recipe.sample_options(N::recipe(recipe));
        self.generate(label_tensor(labels, device), &options, random)
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

impl Rival<Classes> for VqLm {
    const NAME: &'static str = "vq";

    fn init(recipe: &CompareRecipe, classes: usize, device: &Device) -> Self {
        recipe.vq_lm(classes).init(device)
    }

    fn draw(
        &self,
        labels: &[u32],
        recipe: &CompareRecipe,
        random: &mut RandomStream,
        device: &Device,
    ) -> Tensor<3> {
        let labels = label_tensor(labels, device);
        numbers(self.generate(labels, &recipe.token_options(), random))
    }
}
