//! A trained model, ready for use: all it needs is a checkpoint.

use std::path::Path;

use burn::module::Module;
use burn::tensor::Device;
use latentlm::{LatentLm, LatentLmConfig, SmallWeights};

use crate::checkpoint::Checkpoint;
use crate::error::Result;
use crate::integrity::{MANIFEST, Wanted};
use crate::manifest::Manifest;
use crate::recipe::Recipe;
use crate::run::{RunFolder, ema_file, weights_file};

/// A recipe of a codec and a language model: what a [`Pipeline`] is loaded by.
pub trait ModelRecipe: Recipe {
    /// The codec.
    type Codec: Module;
    /// What the language model reads beside latents.
    type Vocabulary: Vocabulary;

    /// Builds the codec. Its parameters are drawn from the device's generator: seed that first.
    fn init_codec(&self, device: &Device) -> Self::Codec;

    /// Number of the codec's parameters, before memory is taken for them.
    fn codec_parameter_count(&self, device: &Device) -> usize;

    /// The language model's configuration for a vocabulary of a size.
    fn model_config(&self, vocabulary: usize) -> LatentLmConfig;

    /// Builds the language model for a vocabulary of a size. Its parameters are drawn from the
    /// device's generator: seed that first.
    ///
    /// # Panics
    /// If there can be no such model.
    fn init_model(&self, vocabulary: usize, device: &Device) -> LatentLm {
        self.model_config(vocabulary).init(device)
    }
}

/// A recipe of this crate, with `declare_recipe!` and [`ModelRecipe`]. `tables` are the tables that only this recipe
/// has, `sample` has its own sampling keys, and `check` is for keys that only this recipe has. The order of the
/// fields is that of the tables in `config.toml`.
macro_rules! declare_model_recipe {
    (
        $(#[$about:meta])*
        $recipe:ident {
            command: $command:literal,
            keys: $table:literal,
            preset: $preset:literal,
            tables: { $($(#[$own_about:meta])* $own:ident: $own_type:ident,)+ },
            codec: $codec:ident,
            sample: $sample:ident,
            vocabulary: $vocabulary:ty,
            $(check: $check:path,)?
        }
    ) => {
        $(#[$about])*
        #[derive(::burn::config::Config, Debug, PartialEq)]
        pub struct $recipe {
            /// The one seed of all randomness.
            pub seed: u64,
            $($(#[$own_about])* pub $own: $own_type,)+
            /// The codec.
            pub codec: ::latentlm::$codec::CodecConfig,
            /// The codec's loss.
            pub codec_loss: ::latentlm::$codec::CodecLossConfig,
            /// How the codec is trained.
            pub codec_train: $crate::recipe::StageConfig,
            /// The language model.
            pub lm: $crate::recipe::LmConfig,
            /// How the language model is trained.
            pub lm_train: $crate::recipe::StageConfig,
            /// How samples are drawn.
            pub sample: $crate::recipe::SampleConfig<$sample>,
        }

        $crate::declare_recipe! {
            #[doc = concat!("The file `configs/", $preset, ".toml`.")]
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
                    ::latentlm::core::CodecObjectiveConfig::validate_for(
                        &recipe.codec_loss,
                        &recipe.codec,
                    )?;
                    recipe.model(1).validate()?;
                    recipe.lm.check_temperature(<Self as $crate::Recipe>::keys())?;
                    recipe.lm.check_together(&recipe.sample_options())?;
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

            fn codec_parameter_count(&self, device: &::burn::tensor::Device) -> usize {
                ::latentlm::core::LatentCodecConfig::parameter_count(&self.codec, device)
            }

            fn model_config(&self, vocabulary: usize) -> ::latentlm::LatentLmConfig {
                self.model(vocabulary)
            }
        }
    };
}
pub(crate) use declare_model_recipe;

/// What a language model reads beside latents: names of classes, or tokens of text.
pub trait Vocabulary: Clone {
    /// Takes it out of a checkpoint. `classes` are those of its manifest.
    ///
    /// # Errors
    /// If a file is missing or damaged.
    fn read(checkpoint: &Checkpoint, classes: &[String]) -> Result<Self>;

    /// Number of classes or tokens.
    fn size(&self) -> usize;
}

/// Names of classes.
impl Vocabulary for Vec<String> {
    fn read(checkpoint: &Checkpoint, classes: &[String]) -> Result<Self> {
        if classes.is_empty() {
            return Err(checkpoint.mismatch(MANIFEST, "it names no classes"));
        }
        Ok(classes.to_vec())
    }

    fn size(&self) -> usize {
        self.len()
    }
}

/// Codec, language model and vocabulary of a checkpoint, with the averaged weights.
///
/// What it does is in `pipeline.rs` of each recipe's folder: [`ImagePipeline`](crate::ImagePipeline)
/// draws pictures of a class, `SpeechPipeline` says texts, `MllmPipeline` draws, captions and writes, `VideoPipeline`
/// draws, continues and captions clips.
#[derive(Debug)]
pub struct Pipeline<R: ModelRecipe> {
    /// The checkpoint's manifest.
    pub manifest: Manifest<R>,
    /// The codec.
    pub codec: R::Codec,
    /// The language model.
    pub model: LatentLm,
    /// Classes or tokens.
    pub vocabulary: R::Vocabulary,
    /// The device of its weights.
    pub device: Device,
    /// What a user should know about the checkpoint, one line each: see [`Checkpoint::notes`].
    pub notes: Vec<String>,
}

impl<R: ModelRecipe> Pipeline<R> {
    /// Loads a run's newest checkpoint.
    ///
    /// # Errors
    /// If the folder is no run, has no finished checkpoint, or one that is damaged.
    pub fn from_run(path: &Path, device: &Device) -> Result<Self> {
        Self::from_checkpoint(&Checkpoint::newest::<R>(path, "lm")?, device)
    }

    /// Loads a checkpoint of the language model's stage.
    ///
    /// # Errors
    /// If a file is missing, damaged or of another shape.
    pub fn from_checkpoint(checkpoint: &Checkpoint, device: &Device) -> Result<Self> {
        let manifest: Manifest<R> = checkpoint.manifest()?;
        let recipe = &manifest.recipe;
        let vocabulary = R::Vocabulary::read(checkpoint, &manifest.classes)?;
        recipe.model_config(vocabulary.size()).validate()?;
        let codec = load_codec_from(checkpoint, recipe, &weights_file("codec"), device)?;
        let model = recipe.init_model(vocabulary.size(), device);
        let model = checkpoint.load_lm(model, &ema_file("model"))?;
        Ok(Self {
            codec,
            model: model.prepared_for_sampling(),
            vocabulary,
            device: device.clone(),
            notes: checkpoint.notes().to_vec(),
            manifest,
        })
    }

    /// Rounds the matrices of the language model's backbone and heads, on the CPU; `None` leaves them in float32.
    /// The codec stays as it is. See [`LatentLm::with_small_weights`].
    pub fn with_small_weights(mut self, weights: Option<SmallWeights>) -> Self {
        if let Some(weights) = weights {
            self.model = self.model.with_small_weights(weights);
        }
        self
    }

    /// The recipe that it was trained with.
    pub fn recipe(&self) -> &R {
        &self.manifest.recipe
    }
}

/// The finished codec of a run: its averaged weights.
///
/// # Errors
/// If there is no checkpoint or it does not fit the recipe.
pub fn load_codec<R: ModelRecipe>(run: &RunFolder<R>, device: &Device) -> Result<R::Codec> {
    let found = run.require("codec", Wanted::Weights)?;
    codec_of::<R>(&Checkpoint::found(found), device)
}

/// The codec of a checkpoint of the codec's stage: its averaged weights.
///
/// # Errors
/// If a file is missing, damaged or of another shape.
pub(crate) fn codec_of<R: ModelRecipe>(
    checkpoint: &Checkpoint,
    device: &Device,
) -> Result<R::Codec> {
    let recipe = checkpoint.manifest::<R>()?.recipe;
    load_codec_from(checkpoint, &recipe, &ema_file("model"), device)
}

/// The codec of a recipe with the weights of a file, which must be large enough for it.
fn load_codec_from<R: ModelRecipe>(
    checkpoint: &Checkpoint,
    recipe: &R,
    file: &str,
    device: &Device,
) -> Result<R::Codec> {
    // Before the codec is built: some take memory then.
    checkpoint.check_size(file, recipe.codec_parameter_count(device))?;
    checkpoint.load(recipe.init_codec(device), file)
}
