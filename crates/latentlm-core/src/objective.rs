//! What training needs of a codec: a loss, and perhaps a discriminator.

use burn::module::Module;
use burn::tensor::{Device, Tensor};

use crate::codec::{LatentCodecConfig, LatentNoise};
use crate::part::PartConfig;

/// A network that learns to tell signals from what a codec makes of them.
pub trait CodecDiscriminator<const D: usize>: Module {
    /// The discriminator's own loss, `[1]`. Its gradient must not reach the codec: it detaches
    /// `fake`.
    ///
    /// # Shapes
    /// - `real`, `fake`: `[B, ...]`, signals and what the codec decoded
    fn loss(&self, real: Tensor<D>, fake: Tensor<D>) -> Tensor<1>;
}

/// The discriminator of codecs that are trained without one.
#[derive(Module, Debug)]
pub struct NoDiscriminator;

impl<const D: usize> CodecDiscriminator<D> for NoDiscriminator {
    /// Nothing to learn: 0.
    fn loss(&self, real: Tensor<D>, _fake: Tensor<D>) -> Tensor<1> {
        Tensor::zeros([1], &real.device())
    }
}

/// The loss of a codec on a part of a batch.
#[derive(Debug, Clone)]
pub struct ObjectiveOutput<const D: usize> {
    /// The weighted sum, to be differentiated, `[1]`.
    pub total: Tensor<1>,
    /// Parts of the loss for the log, `[1]` each, under their names there. The total is logged as
    /// `loss` without being listed here.
    pub values: Vec<(&'static str, Tensor<1>)>,
    /// What the codec made of the signal, `[B, ...]`.
    pub decoded: Tensor<D>,
}

impl<const D: usize> ObjectiveOutput<D> {
    /// An output with the values that there are, in their order.
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

/// What a codec is trained with. Each thread or device works on its part of a batch with a copy.
pub trait CodecObjective<const D: usize>: Clone + Send {
    /// The codec.
    type Codec: Module;
    /// Its discriminator, [`NoDiscriminator`] where there is none.
    type Discriminator: CodecDiscriminator<D>;

    /// The same objective on another device.
    fn to_device(self, device: &Device) -> Self;

    /// The codec's loss, a mean over the batch. Each call gives the same names in
    /// [`values`](ObjectiveOutput::values) for the same kind of arguments.
    ///
    /// # Shapes
    /// - `signal`: `[B, ...]`
    /// - `noise`: for latents `[B, T, Z]`; a codec without noise ignores it
    /// - `discriminator`: given from the step on at which it sets in; its weights are fixed here
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

    /// Builds the objective.
    ///
    /// # Errors
    /// If the configuration is wrong, or weights that it names can't be loaded.
    fn init(
        &self,
        codec: &Self::CodecConfig,
        device: &Device,
    ) -> Result<Self::Objective, Self::Error>;

    /// Builds the discriminator, if one is switched on. Its parameters are drawn from the device's
    /// generator.
    fn init_discriminator(
        &self,
        codec: &Self::CodecConfig,
        device: &Device,
    ) -> Option<<Self::Objective as CodecObjective<D>>::Discriminator> {
        let _ = (codec, device);
        None
    }

    /// Step at which the discriminator sets in.
    fn discriminator_start(&self) -> u64 {
        0
    }
}
