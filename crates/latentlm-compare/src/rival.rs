//! What a comparison asks of each model, of what models are compared on, and of how pictures are encoded.

use burn::tensor::{Device, Int, Tensor, TensorData};
use latentlm::adapters::Whitening;
use latentlm::core::bundle::{BundleWriter, save_module};
use latentlm::sequence::Document;
use latentlm::{LatentCodec, RandomStream};
use latentlm_baselines::VqCodec;
use latentlm_pipelines::{TrainingData, weights_file};
use latentlm_train::{Coding, Context, EncodedPictures, Learner, LmParts, LmRecipe, TrainError};

/// What models are compared on: classes and their pictures, or documents of text and pictures.
pub(crate) trait Subject: Sized {
    /// The comparison's recipe.
    type Recipe: LmRecipe;
    /// What models are trained on.
    type Data: TrainingData;
    /// What a picture is asked for by: a class or a text.
    type Asked;
    /// The stream that says which conditions are dropped: the same whatever the model.
    const DROPPED: &'static str;
    /// Pictures drawn at once.
    const BATCH: usize;

    /// Classes, or tokens of text.
    fn size(&self) -> usize;

    /// What models are trained with.
    fn parts(&self, recipe: &Self::Recipe) -> LmParts;

    /// What models are asked for when they are measured.
    ///
    /// # Errors
    /// If data can't be read.
    fn question(
        &self,
        context: &Context<Self::Recipe, Self::Data>,
    ) -> Result<Question<Self::Asked>, TrainError>;

    /// Measures more than a model's pictures, which are `drawn`.
    ///
    /// # Errors
    /// If data can't be read.
    fn measure(
        &self,
        context: &Context<Self::Recipe, Self::Data>,
        (model, coding): (&impl Rival<Self>, &dyn Pictures),
        drawn: &Tensor<4>,
    ) -> Result<Vec<(&'static str, Option<f64>)>, TrainError> {
        let _ = (context, model, coding, drawn);
        Ok(Vec::new())
    }
}

/// Pictures that are asked for.
pub(crate) struct Question<A> {
    pub(crate) asked: Vec<A>,
    /// Their classes.
    pub(crate) labels: Vec<u32>,
    /// Those that are shown, and how many in a row.
    pub(crate) shown: Vec<i64>,
    pub(crate) columns: usize,
}

/// A model of a subject's documents and of encoded pictures.
pub(crate) trait Rival<S: Subject>: Learner<S::Recipe> {
    /// Name of its stage, curve and row.
    const NAME: &'static str;

    /// The model with first weights for so many classes or tokens of text.
    fn init(recipe: &S::Recipe, size: usize, device: &Device) -> Self;

    /// Draws an encoded picture for each that is asked, as the recipe says, `[B, T, Z]`.
    fn draw(
        &self,
        asked: &[S::Asked],
        recipe: &S::Recipe,
        random: &mut RandomStream,
        device: &Device,
    ) -> Tensor<3>;

    /// `-log p` of every learned token of documents whose pictures are not learned, `[M]`; `None` of a
    /// model that says nothing.
    ///
    /// # Shapes
    /// - `pictures`: `[N, Z]`, as models see them
    fn surprise(&self, documents: &[Document], pictures: Tensor<2>) -> Option<Tensor<1>> {
        let _ = (documents, pictures);
        None
    }
}

/// The way to encoded pictures and back.
pub(crate) trait Pictures: Coding {
    /// Pictures `[B, C, H, W]` as they are read, without noise, `[B, T, Z]`.
    fn encode(&self, pictures: Tensor<4>) -> Tensor<3>;

    /// Pictures, `[B, C, H, W]`.
    fn decode(&self, drawn: Tensor<3>) -> Tensor<4>;
}

/// Continuous latents of the image codec.
impl Pictures for EncodedPictures {
    fn encode(&self, pictures: Tensor<4>) -> Tensor<3> {
        self.codec.encode(pictures).mode()
    }

    fn decode(&self, latents: Tensor<3>) -> Tensor<4> {
        self.codec.decode(latents)
    }
}

/// Codes of the vector-quantized codec: latents of one number.
pub(crate) struct Codes {
    pub(crate) codec: VqCodec,
    /// All codes, picture after picture.
    pub(crate) codes: Vec<f32>,
    /// Codes a picture.
    pub(crate) tokens: usize,
}

impl Coding for Codes {
    fn whitening(&self) -> Option<Whitening> {
        None
    }

    fn draw(&self, pictures: &[usize], _: &mut RandomStream, device: &Device) -> Vec<Tensor<2>> {
        let own = pictures.iter();
        let own = own.flat_map(|&own| &self.codes[own * self.tokens..(own + 1) * self.tokens]);
        let own: Vec<f32> = own.copied().collect();
        let count = own.len();
        vec![Tensor::from_data(TensorData::new(own, [count, 1]), device)]
    }

    fn save(&self, bundle: &BundleWriter) -> Result<(), TrainError> {
        let path = bundle.path(&weights_file("codec"));
        Ok(save_module(&self.codec, &path)?)
    }
}

impl Pictures for Codes {
    fn encode(&self, pictures: Tensor<4>) -> Tensor<3> {
        numbers(self.codec.encode(pictures))
    }

    fn decode(&self, codes: Tensor<3>) -> Tensor<4> {
        self.codec.decode(codes.squeeze_dim::<2>(2).int())
    }
}

/// Codes as latents of one number.
///
/// # Shapes
/// - `codes`: `[B, T]`
/// - returns: `[B, T, 1]`
pub(crate) fn numbers(codes: Tensor<2, Int>) -> Tensor<3> {
    codes.float().unsqueeze_dim(2)
}
