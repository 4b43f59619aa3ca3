//! A trained model, ready for use: all it needs is a checkpoint.

use std::path::Path;

use burn::module::Module;
use burn::tensor::Device;
use latentlm::LatentLm;

use crate::checkpoint::Checkpoint;
use crate::error::PipelineError;
use crate::recipe::Recipe;
use crate::run::{Manifest, RunFolder, ema_file, weights_file};

/// A recipe of a codec and a language model: what a [`Pipeline`] is loaded by.
pub trait ModelRecipe: Recipe {
    /// The codec.
    type Codec: Module;
    /// What the language model reads beside latents.
    type Vocabulary: Vocabulary;

    /// Builds the codec. Its parameters are drawn from the device's generator: seed that first.
    fn init_codec(&self, device: &Device) -> Self::Codec;

    /// Builds the language model for a vocabulary of a size. Its parameters are drawn from the
    /// device's generator: seed that first.
    fn init_model(&self, vocabulary: usize, device: &Device) -> LatentLm;
}

/// `declare_recipe!` and [`ModelRecipe`] for a recipe of this crate, with the fields `seed`, `codec`,
/// `codec_loss`, `lm` and `sample`. `check` is for keys that this recipe alone has.
macro_rules! declare_model_recipe {
    (
        $(#[$about:meta])*
        $recipe:ty {
            command: $command:literal,
            keys: $table:literal,
            preset: $preset:literal,
            codec: $codec:ident,
            vocabulary: $vocabulary:ty,
            $(check: $check:path,)?
        }
    ) => {
        $crate::declare_recipe! {
            $(#[$about])*
            $recipe {
                command: $command,
                keys: $table in $crate::recipe::key_table,
                parts: $crate::recipe::CodecTables::<
                    ::latentlm::$codec::CodecConfig,
                    ::latentlm::$codec::CodecLossConfig,
                >::preset($preset),
                seed: seed,
                check: |recipe: &Self| {
                    ::latentlm::core::PartConfig::validate(&recipe.codec)?;
                    ::latentlm::core::PartConfig::validate(&recipe.codec_loss)?;
                    recipe.model(1).validate()?;
                    recipe.lm.check_together(recipe.sample.steps)?;
                    $($check(recipe)?;)?
                    Ok(())
                },
            }
        }

        impl $crate::pipeline::ModelRecipe for $recipe {
            type Codec = ::latentlm::$codec::Codec;
            type Vocabulary = $vocabulary;

            fn init_codec(&self, device: &::burn::tensor::Device) -> Self::Codec {
                ::latentlm::core::LatentCodecConfig::init(&self.codec, device)
            }

            fn init_model(
                &self,
                vocabulary: usize,
                device: &::burn::tensor::Device,
            ) -> ::latentlm::LatentLm {
                self.model(vocabulary).init(device)
            }
        }
    };
}
pub(crate) use declare_model_recipe;

/// What a language model reads beside latents: names of classes, or tokens of text.
pub trait Vocabulary: Sized {
    /// Takes it out of a checkpoint. `classes` are those of its manifest.
    ///
    /// # Errors
    /// If a file is missing or damaged.
    fn read(checkpoint: &Checkpoint, classes: &[String]) -> Result<Self, PipelineError>;

    /// Number of classes or tokens.
    fn size(&self) -> usize;
}

/// Names of classes.
impl Vocabulary for Vec<String> {
    fn read(_: &Checkpoint, classes: &[String]) -> Result<Self, PipelineError> {
        Ok(classes.to_vec())
    }

    fn size(&self) -> usize {
        self.len()
    }
}

/// Codec, language model and vocabulary of a checkpoint, with the averaged weights.
///
/// What it does is in `pipeline.rs` of each recipe's folder: [`ImagePipeline`](crate::ImagePipeline)
/// draws pictures of a class, `SpeechPipeline` says texts, `MllmPipeline` draws, captions and writes.
#[derive(Debug)]
pub struct Pipeline<R: ModelRecipe> {
    manifest: Manifest<R>,
    pub(crate) codec: R::Codec,
    pub(crate) model: LatentLm,
    pub(crate) vocabulary: R::Vocabulary,
    pub(crate) device: Device,
}

impl<R: ModelRecipe> Pipeline<R> {
    /// A pipeline of parts that were trained together.
    pub fn new(
        manifest: Manifest<R>,
        codec: R::Codec,
        model: LatentLm,
        vocabulary: impl Into<R::Vocabulary>,
        device: Device,
    ) -> Self {
        Self {
            manifest,
            codec,
            model,
            vocabulary: vocabulary.into(),
            device,
        }
    }

    /// Loads a run's newest checkpoint.
    ///
    /// # Errors
    /// If the folder is no run, has no finished checkpoint, or one that is damaged.
    pub fn from_run(path: &Path, device: &Device) -> Result<Self, PipelineError> {
        Self::from_checkpoint(&Checkpoint::newest::<R>(path, "lm")?, device)
    }

    /// Loads a checkpoint of the language model's stage.
    ///
    /// # Errors
    /// If a file is missing, damaged or of another shape.
    pub fn from_checkpoint(
        checkpoint: &Checkpoint,
        device: &Device,
    ) -> Result<Self, PipelineError> {
        let manifest: Manifest<R> = checkpoint.manifest()?;
        let recipe = &manifest.recipe;
        let vocabulary = R::Vocabulary::read(checkpoint, &manifest.classes)?;
        let codec = checkpoint.load(recipe.init_codec(device), &weights_file("codec"))?;
        let model = recipe.init_model(vocabulary.size(), device);
        let model = checkpoint.load_lm(model, &ema_file("model"))?;
        let device = device.clone();
        Ok(Self::new(manifest, codec, model, vocabulary, device))
    }

    /// What the checkpoint says of itself.
    pub fn manifest(&self) -> &Manifest<R> {
        &self.manifest
    }

    /// The recipe that it was trained with.
    pub fn recipe(&self) -> &R {
        &self.manifest.recipe
    }

    /// The codec.
    pub fn codec(&self) -> &R::Codec {
        &self.codec
    }

    /// The language model.
    pub fn model(&self) -> &LatentLm {
        &self.model
    }

    /// Where it computes.
    pub fn device(&self) -> &Device {
        &self.device
    }
}

/// The finished codec of a run: its averaged weights.
///
/// # Errors
/// If there is no checkpoint or it does not fit the recipe.
pub fn load_codec<R: ModelRecipe>(
    run: &RunFolder<R>,
    device: &Device,
) -> Result<R::Codec, PipelineError> {
    let (folder, _) = run.require("codec")?;
    codec_of::<R>(&Checkpoint::open(&folder), device)
}

/// The codec of a checkpoint of the codec's stage: its averaged weights.
///
/// # Errors
/// If a file is missing, damaged or of another shape.
pub(crate) fn codec_of<R: ModelRecipe>(
    checkpoint: &Checkpoint,
    device: &Device,
) -> Result<R::Codec, PipelineError> {
    let codec = checkpoint.manifest::<R>()?.recipe.init_codec(device);
    checkpoint.load(codec, &ema_file("model"))
}
