//! What training minimizes: the joint loss of a language model, and the contract of a codec's training: a loss,
//! and a discriminator if there is one.

use std::ops::Range;

use burn::module::Module;
use burn::tensor::{Device, Tensor};

use crate::adversarial::CodecDiscriminator;
use crate::codec::{LatentCodecConfig, LatentNoise};
use crate::part::PartConfig;
use crate::random::RandomStream;

/// The parts of the joint loss `L_LM + lambda L_diff`, `[1]` each; 0 if there is nothing to learn.
#[derive(Debug, Clone)]
pub struct Loss {
    /// Mean cross entropy of the learned tokens, each with the weight of its document.
    pub token: Tensor<1>,
    /// The denoising error of each modality's latents, or the cross entropy of its codes.
    pub diffusion: Vec<Tensor<1>>,
}

/// The loss of a codec on a shard of a batch.
#[derive(Debug, Clone)]
pub struct ObjectiveOutput<const D: usize> {
    /// Weighted sum of all terms, to be minimized, `[1]`.
    pub total: Tensor<1>,
    /// Terms of the loss for the log, `[1]` each, with their names. The total is logged as `loss` too, but is
    /// not listed here.
    pub values: Vec<(&'static str, Tensor<1>)>,
    /// Decoded signals, `[B, ...]`.
    pub decoded: Tensor<D>,
}

impl<const D: usize> ObjectiveOutput<D> {
    /// An output with all values that are not `None`, in the given order.
    pub fn new(
        total: Tensor<1>,
        decoded: Tensor<D>,
        values: impl IntoIterator<Item = (&'static str, Option<Tensor<1>>)>,
    ) -> Self {
        let values = values.into_iter();
        Self {
            total,
            values: values
                .filter_map(|(name, value)| Some((name, value?)))
                .collect(),
            decoded,
        }
    }
}

/// The loss that a codec is trained with. Each thread or device has a copy for its shard of a batch.
pub trait CodecObjective<const D: usize>: Clone + Send {
    /// The codec.
    type Codec: Module;
    /// The discriminator, or [`NoDiscriminator`](crate::NoDiscriminator).
    type Discriminator: CodecDiscriminator<D>;

    /// Moves the objective to another device.
    fn to_device(self, device: &Device) -> Self;

    /// The objective of the next batch, with the random numbers that it needs besides the noise of latents.
    ///
    /// # Shapes
    /// - `latents`: the shape of the batch's latents, `[B, T, Z]`
    fn for_batch(self, latents: [usize; 3], random: &mut RandomStream, device: &Device) -> Self {
        let _ = (latents, random, device);
        self
    }

    /// The objective of a range of the batch's signals.
    fn for_rows(self, rows: Range<usize>) -> Self {
        let _ = rows;
        self
    }

    /// The codec's loss, averaged over the batch. The names in [`values`](ObjectiveOutput::values) depend only on
    /// whether a discriminator is given.
    ///
    /// # Shapes
    /// - `signal`: `[B, ...]`
    /// - `noise`: for latents `[B, T, Z]`; a codec without noise ignores it
    /// - `discriminator`: given from [`discriminator_start`](CodecObjectiveConfig::discriminator_start) on, without
    ///   gradients for its weights
    fn loss(
        &self,
        codec: &Self::Codec,
        signal: Tensor<D>,
        noise: LatentNoise,
        discriminator: Option<&Self::Discriminator>,
    ) -> ObjectiveOutput<D>;
}

/// The configuration of an objective: the table `[codec_loss]` of a recipe.
pub trait CodecObjectiveConfig<const D: usize>: PartConfig {
    /// Configuration of the codec that the objective is for.
    type CodecConfig: LatentCodecConfig<D>;
    /// The objective.
    type Objective: CodecObjective<D, Codec = <Self::CodecConfig as LatentCodecConfig<D>>::Codec>;

    /// Checks what concerns codec and objective together; each by itself is checked already.
    ///
    /// # Errors
    /// If a key is wrong; the message is one line that names it.
    fn validate_for(&self, codec: &Self::CodecConfig) -> Result<(), Self::Error> {
        let _ = codec;
        Ok(())
    }

    /// Builds the objective.
    ///
    /// # Errors
    /// If the configuration is invalid, or a file of weights that it names can't be loaded.
    fn init(
        &self,
        codec: &Self::CodecConfig,
        device: &Device,
    ) -> Result<Self::Objective, Self::Error>;

    /// Builds the discriminator if one is switched on. Its weights come from the device's random generator.
    fn init_discriminator(
        &self,
        codec: &Self::CodecConfig,
        device: &Device,
    ) -> Option<<Self::Objective as CodecObjective<D>>::Discriminator> {
        let _ = (codec, device);
        None
    }

    /// Step from which on the discriminator is trained and used.
    fn discriminator_start(&self) -> u64 {
        0
    }
}
