//! The parts of a comparison: a subject, the models that learn it, and how pictures are encoded for them.

use burn::module::Module;
use burn::tensor::{Device, Int, Tensor, TensorData};
use latentlm::adapters::Whitening;
use latentlm::codec_image::Codec;
use latentlm::core::bundle::{BundleWriter, save_module};
use latentlm::sequence::Document;
use latentlm::{LatentCodec, RandomStream};
use latentlm_baselines::VqCodec;
use latentlm_eval::{Gallery, Judge};
use latentlm_pipelines::{ImageData, TrainingData, weights_file};
use latentlm_train::{
    Coding, Context, Demand, EncodedPictures, LatentCache, Learner, LmRecipe, LmSetup, Result,
    RunOptions,
};

use super::recipe::CompareRecipe;
use super::result::Comparison;

/// The run of a comparison.
pub(crate) type Run<S> = Context<<S as Subject>::Recipe, S>;

/// The subject of a comparison, with its data: classes and their pictures, or documents of text and pictures.
pub(crate) trait Subject: TrainingData + Sized {
    /// The comparison's recipe.
    type Recipe: LmRecipe;
    /// The request for a picture: a class or the tokens of a text.
    type Asked;
    /// The table of the recipe that describes LatentLM, with its dot.
    const WITHIN: &'static str;
    /// Name of the random stream that decides which conditions are dropped, the same for all models.
    const DROPPED: &'static str;
    /// Pictures drawn at once.
    const BATCH: usize;
    /// Key of the pictures, or packs of documents, in a batch.
    const BATCH_KEY: &'static str;

    /// All models in the order of their training, LatentLM first. At most one of them reads codes, because each model
    /// of codes trains its own codec and encodes all pictures.
    fn models() -> Vec<Entry<Self>>;

    /// The comparison on classes that trains the same codecs.
    fn images(recipe: &Self::Recipe) -> CompareRecipe;

    /// Opens the data of a recipe.
    ///
    /// # Errors
    /// If data can't be read or a text can't be encoded.
    fn open(recipe: &Self::Recipe, device: &Device) -> Result<Self>;

    /// Its pictures.
    fn pictures(&self) -> &ImageData;

    /// Number of classes, or of tokens of text, that models are built for.
    fn size(&self) -> usize;

    /// The pictures that models draw for measurements.
    fn question(&self, recipe: &Self::Recipe) -> Question<Self::Asked>;

    /// Documents and latents that models are trained on.
    fn setup(&self, recipe: &Self::Recipe, encoded: &EncodedPictures) -> LmSetup;

    /// Trains the vector-quantized codec and encodes the pictures. `options` are for a separate run within
    /// the comparison's folder. `None` if it was stopped.
    ///
    /// # Errors
    /// If data can't be read, the loss is not finite, or a checkpoint can't be read or written.
    fn codes(context: &mut Run<Self>, options: RunOptions) -> Result<Option<Codes>>;

    /// All pictures as latents of the image codec, if drawn pictures are compared with their neighbours.
    ///
    /// # Errors
    /// If a picture can't be read.
    fn gallery(&self, _codec: &Codec, _device: &Device) -> Result<Option<Gallery>> {
        Ok(None)
    }

    /// Measures more of a model than its pictures.
    ///
    /// # Errors
    /// If data can't be read.
    fn measure<M: Rival<Self>>(
        &self,
        _reader: &Reader<'_, M>,
        _drawn: &Tensor<4>,
    ) -> Result<Vec<(&'static str, Option<f64>)>> {
        Ok(Vec::new())
    }

    /// Whether models learn pictures, and not texts alone.
    fn has_pictures(_recipe: &Self::Recipe) -> bool {
        true
    }

    /// Pictures of each measurement.
    fn samples(&self, recipe: &Self::Recipe) -> usize {
        Self::images(recipe).evaluate.samples
    }

    /// Adds the baselines of the measurements of texts.
    fn complete(&self, _comparison: &mut Comparison) {}
}

/// Pictures that models are asked for.
pub(crate) struct Question<A> {
    pub(crate) asked: Vec<A>,
    /// Classes of the pictures.
    pub(crate) labels: Vec<u32>,
    /// Pictures that are saved, as indices into `asked`.
    pub(crate) shown: Vec<usize>,
    /// Saved pictures in a row.
    pub(crate) columns: usize,
}

/// A model that reads encoded pictures, to be measured.
pub(crate) struct Reader<'a, M> {
    pub(crate) model: &'a M,
    pub(crate) coding: &'a dyn Pictures,
    pub(crate) gallery: Option<&'a Gallery>,
    pub(crate) device: &'a Device,
}

/// A batch of pictures to be drawn.
pub(crate) struct Request<'a, S: Subject> {
    pub(crate) asked: &'a [S::Asked],
    pub(crate) recipe: &'a S::Recipe,
    pub(crate) random: &'a mut RandomStream,
    pub(crate) device: &'a Device,
}

/// A model of a subject's documents and of encoded pictures: LatentLM or a rival.
pub(crate) trait Rival<S: Subject>: Learner<S::Recipe> {
    /// Name of its stage, curve and row.
    const NAME: &'static str;
    /// Whether it reads codes instead of continuous latents.
    const READS_CODES: bool = false;
    /// Keys that the memory of a picture in a batch follows from.
    const SAMPLE_KEYS: &'static [&'static str];

    /// Samples of noise that it learns for each picture of a batch; none for a model that denoises nothing.
    fn noises(_recipe: &S::Recipe) -> usize {
        0
    }

    /// The model with initial weights, for `size` classes or tokens of text.
    fn init(recipe: &S::Recipe, size: usize, device: &Device) -> Self;

    /// Draws an encoded picture for each that is asked for, as the recipe says.
    ///
    /// # Shapes
    /// - returns: `[B, T, Z]`
    fn draw(&self, request: Request<'_, S>) -> Tensor<3>;

    /// Cross entropy in nats of each learned token, given the pictures, `[M]`. `None` for a model that
    /// writes no text.
    ///
    /// # Shapes
    /// - `pictures`: `[N, Z]`, as models see them
    fn surprise(&self, _documents: &[Document], _pictures: Tensor<2>) -> Option<Tensor<1>> {
        None
    }
}

/// Everything that the models of a comparison share.
pub(crate) struct Common<'a> {
    /// Pictures as continuous latents.
    pub(crate) encoded: &'a EncodedPictures,
    pub(crate) judge: &'a Judge,
    pub(crate) gallery: Option<Gallery>,
    /// Number of classes, or of tokens of text.
    pub(crate) size: usize,
    /// Options of the vector-quantized codec's run, if that has a separate run.
    pub(crate) vq_codec: RunOptions,
}

/// A model in the list of a comparison, whatever its type.
pub(crate) struct Entry<S: Subject> {
    pub(crate) name: &'static str,
    /// Counts its parameters, given the number of classes or tokens of text.
    pub(crate) parameters: fn(&S::Recipe, usize, &Device) -> usize,
    /// The least memory that its training takes, given the number of its parameters.
    pub(crate) demand: fn(&S::Recipe, usize) -> Demand,
    /// Trains it, or continues its training. Returns whether it is finished.
    pub(crate) train: fn(&mut Run<S>, &Common<'_>) -> Result<bool>,
}

/// A way to encode pictures and decode them.
pub(crate) trait Pictures: Coding {
    /// Encodes pictures that models only read, without noise.
    ///
    /// # Shapes
    /// - `pictures`: `[B, C, H, W]`
    /// - returns: `[B, T, Z]`
    fn encode(&self, pictures: Tensor<4>) -> Tensor<3>;

    /// Decodes drawn pictures.
    ///
    /// # Shapes
    /// - `drawn`: `[B, T, Z]`
    /// - returns: `[B, C, H, W]`
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

/// A codec with codebooks and its codes of all training samples. Models read codes as latents, a number for each
/// codebook.
pub(crate) struct Codes<C = VqCodec> {
    pub(crate) codec: C,
    /// All codes, where other codecs have parameters.
    pub(crate) cache: LatentCache,
}

impl<C: Module> Coding for Codes<C> {
    fn whitening(&self) -> Option<Whitening> {
        None
    }

    fn length(&self, sample: usize) -> usize {
        self.cache.lengths[sample] as usize
    }

    fn draw(&self, samples: &[usize], _: &mut RandomStream, device: &Device) -> Vec<Tensor<2>> {
        let codes = self.cache.gather(samples);
        let shape = [codes.len() / self.cache.dim, self.cache.dim];
        vec![Tensor::from_data(TensorData::new(codes, shape), device)]
    }

    fn save(&self, bundle: &BundleWriter) -> Result<()> {
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
