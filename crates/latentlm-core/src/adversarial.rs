//! What the adversarial losses of all codecs share: the contract of a discriminator, the hinge loss, and a weight
//! that balances gradients.

use burn::module::Module;
use burn::tensor::Tensor;
use burn::tensor::activation::relu;
use serde::{Deserialize, Serialize};

/// Largest weight that the ratio of gradients may give the adversarial loss.
const LARGEST_ADAPTIVE_WEIGHT: f32 = 1e4;

/// A network that learns to distinguish signals from decoded ones.
pub trait CodecDiscriminator<const D: usize>: Module {
    /// Judges signals.
    ///
    /// # Shapes
    /// - `signal`: `[B, ...]`
    /// - returns: see [`Verdict`]
    fn judge(&self, signal: Tensor<D>) -> Verdict;

    /// The discriminator's own loss, by default the [hinge loss](hinge_loss). Its gradient must not reach the codec:
    /// it detaches `fake`.
    ///
    /// # Shapes
    /// - `real`, `fake`: `[B, ...]`, signals and decoded signals
    /// - returns: `[1]`
    fn loss(&self, real: Tensor<D>, fake: Tensor<D>) -> Tensor<1> {
        let real = self.judge(real);
        let fake = self.judge(fake.detach());
        hinge_loss(real, fake)
    }
}

/// Stands for the discriminator of codecs that are trained without one.
#[derive(Module, Debug)]
pub struct NoDiscriminator;

impl<const D: usize> CodecDiscriminator<D> for NoDiscriminator {
    /// No logits, because there is no network.
    fn judge(&self, _signal: Tensor<D>) -> Verdict {
        Verdict {
            logits: Vec::new(),
            features: Vec::new(),
        }
    }

    /// 0, because there is nothing to learn.
    fn loss(&self, real: Tensor<D>, _fake: Tensor<D>) -> Tensor<1> {
        Tensor::zeros([1], &real.device())
    }
}

/// Outputs of a discriminator, which may be made of several networks.
#[derive(Debug, Clone)]
pub struct Verdict {
    /// Logits of each network, positive where a signal looks real, `[B, 1, ...]` each.
    pub logits: Vec<Tensor<4>>,
    /// Outputs of the networks' layers for feature matching, `[B, C, ...]` each. Empty without feature matching.
    pub features: Vec<Tensor<4>>,
}

impl Verdict {
    /// The output of a single network without feature matching.
    ///
    /// # Shapes
    /// - `logits`: `[B, 1, ...]`
    pub fn of_one(logits: Tensor<4>) -> Self {
        Self {
            logits: vec![logits],
            features: Vec::new(),
        }
    }

    /// The adversarial loss of a codec that decoded these signals: `-mean D(fake)`, averaged over networks.
    ///
    /// # Shapes
    /// - returns: `[1]`
    ///
    /// # Panics
    /// If there are no logits.
    pub fn codec_loss(self) -> Tensor<1> {
        mean_loss(self.logits.into_iter().map(|logits| logits.mean().neg()))
    }
}

/// The hinge loss of a discriminator, `(mean relu(1 - D(real)) + mean relu(1 + D(fake))) / 2`, averaged over its
/// networks.
///
/// # Shapes
/// - returns: `[1]`
///
/// # Panics
/// If there are no logits.
pub fn hinge_loss(real: Verdict, fake: Verdict) -> Tensor<1> {
    let pairs = real.logits.into_iter().zip(fake.logits);
    mean_loss(pairs.map(|(real, fake)| {
        let real = relu(real.neg() + 1.0).mean();
        let fake = relu(fake + 1.0).mean();
        (real + fake).mul_scalar(0.5)
    }))
}

/// The mean of losses.
///
/// # Shapes
/// - `parts`, returns: `[1]`
///
/// # Panics
/// If there are none.
pub fn mean_loss(parts: impl ExactSizeIterator<Item = Tensor<1>>) -> Tensor<1> {
    let count = parts.len() as f64;
    match parts.reduce(|sum, part| sum + part) {
        Some(sum) => sum.div_scalar(count),
        None => panic!("there are no losses to average"),
    }
}

/// A decoder whose last layers can run alone. The gradients that [`adaptive_weight`] compares are those of the
/// weights of these layers.
pub trait OutputLayers<const D: usize> {
    /// The input of the last layers.
    type Features: Clone;

    /// The decoder's last layers.
    ///
    /// # Shapes
    /// - returns: `[B, ...]`, decoded signals
    fn output_layers(&self, features: Self::Features) -> Tensor<D>;

    /// Norm of the gradient of a loss with respect to the weights of the last layers.
    ///
    /// # Shapes
    /// - `loss`: `[1]`
    fn output_gradient_norm(&self, loss: Tensor<1>) -> f32;
}

/// Factor of the adversarial loss (VQGAN, Esser et al. 2021, equation 7): the norm of the gradient of the
/// reconstruction's loss at the decoder's last layers, divided by that of the adversarial loss. So both pull equally
/// hard, whatever their scales.
///
/// Both gradients stop at the last layers, so it is enough to run these again on detached features: two small
/// backward passes.
///
/// # Shapes
/// - `detached`: features without a graph; `reconstruction`: from decoded signals `[B, ...]` to `[1]`
pub fn adaptive_weight<C: OutputLayers<D>, const D: usize>(
    codec: &C,
    detached: C::Features,
    discriminator: &impl CodecDiscriminator<D>,
    reconstruction: impl FnOnce(Tensor<D>) -> Tensor<1>,
) -> f32 {
    let wanted = reconstruction(codec.output_layers(detached.clone()));
    let judged = discriminator.judge(codec.output_layers(detached));
    let wanted = codec.output_gradient_norm(wanted);
    let ratio = wanted / (codec.output_gradient_norm(judged.codec_loss()) + 1e-4);
    ratio.clamp(0.0, LARGEST_ADAPTIVE_WEIGHT)
}

/// Weighted sum of the errors of pixels: `l1_weight mean |e| + l2_weight mean e^2`.
///
/// # Shapes
/// - `error`: decoded pixels minus those of the signal, `[B, ...]`
/// - returns: `[1]`
pub fn pixel_loss<const D: usize>(error: Tensor<D>, l1_weight: f64, l2_weight: f64) -> Tensor<1> {
    let mut loss = error.clone().square().mean().mul_scalar(l2_weight);
    if l1_weight > 0.0 {
        loss = loss + error.abs().mean().mul_scalar(l1_weight);
    }
    loss
}

/// Checks the weights of a loss, which are given with their names.
///
/// # Errors
/// If one is negative or not finite: a line that begins with its name.
pub fn check_weights(weights: &[(&str, f64)]) -> Result<(), String> {
    for (name, weight) in weights {
        if !(*weight >= 0.0 && weight.is_finite()) {
            return Err(format!("{name} must not be negative: {weight}"));
        }
    }
    Ok(())
}

/// Keys of an adversarial loss with a patch discriminator: a part of the table `[codec_loss]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PatchLossConfig {
    /// Weight of the adversarial loss, before the ratio of gradients; 0 switches it off.
    #[serde(rename = "adversarial_weight")]
    pub weight: f64,
    /// Step from which on there is an adversarial loss.
    #[serde(rename = "adversarial_start")]
    pub start: u64,
    /// Channels of the discriminator's first layer.
    #[serde(rename = "discriminator_width")]
    pub width: usize,
    /// Number of the discriminator's halvings.
    #[serde(rename = "discriminator_layers")]
    pub layers: usize,
}

impl PatchLossConfig {
    /// Sizes of the discriminator; `None` if it is switched off.
    pub fn sizes(&self) -> Option<PatchSizes> {
        (self.weight > 0.0).then_some(PatchSizes {
            width: self.width,
            layers: self.layers,
        })
    }

    /// Checks the sizes of the discriminator if it is switched on.
    ///
    /// # Errors
    /// See [`PatchSizes::validate`].
    pub fn validate(&self) -> Result<(), String> {
        self.sizes().map_or(Ok(()), PatchSizes::validate)
    }

    /// Checks the discriminator, if it is switched on, for signals of `pixels` pixels in height and width.
    ///
    /// # Errors
    /// See [`PatchSizes::validate_for`].
    pub fn validate_for(&self, signals: &str, pixels: usize) -> Result<(), String> {
        match self.sizes() {
            Some(sizes) => sizes.validate_for(signals, pixels),
            None => Ok(()),
        }
    }
}

/// Sizes of a patch discriminator (PatchGAN): convolutions that halve a picture, with group norm from the second on,
/// and one that gives a logit for each position.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PatchSizes {
    /// Channels of the first layer. Each further one has twice as many, up to eight times.
    pub width: usize,
    /// Number of halvings.
    pub layers: usize,
}

impl PatchSizes {
    /// Groups of the norms, which divide the width.
    pub const NORM_GROUPS: usize = 4;

    /// Channels of each layer.
    pub fn widths(self) -> Vec<usize> {
        (0..self.layers).map(|i| self.width << i.min(3)).collect()
    }

    /// Checks the sizes by themselves.
    ///
    /// # Errors
    /// If one is 0, or the norms can't divide the width: a line that begins with the key.
    pub fn validate(self) -> Result<(), String> {
        let divides = self.width.is_multiple_of(Self::NORM_GROUPS) && self.width > 0;
        if divides && self.layers > 0 {
            return Ok(());
        }
        Err(format!(
            "discriminator_width must be a multiple of {}, discriminator_layers positive",
            Self::NORM_GROUPS
        ))
    }

    /// Checks that each layer can halve signals, such as `pictures`, of `pixels` pixels in height and width.
    ///
    /// # Errors
    /// If they can't: a line that begins with the key.
    pub fn validate_for(self, signals: &str, pixels: usize) -> Result<(), String> {
        let halvings = pixels.checked_ilog2().unwrap_or(0) as usize;
        if self.layers <= halvings {
            return Ok(());
        }
        Err(format!(
            "discriminator_layers must be at most {halvings} for {signals} of {pixels} pixels, not {}: each layer \
             halves them",
            self.layers
        ))
    }
}

#[cfg(test)]
mod tests {
    use burn::module::{Param, ParamId};
    use burn::nn::Linear;
    use burn::tensor::Device;

    use super::*;

    fn verdict(networks: &[[f32; 2]], device: &Device) -> Verdict {
        let logits = |values: &[f32; 2]| Tensor::<4>::from_floats([[[*values]]], device);
        Verdict {
            logits: networks.iter().map(logits).collect(),
            features: Vec::new(),
        }
    }

    fn number(x: Tensor<1>) -> f32 {
        x.into_scalar::<f32>()
    }

    #[test]
    fn hinge_by_hand() {
        let device = Device::default();
        // relu(1 - 2) = 0, relu(1 - 0.5) = 0.5; relu(1 - 3) = 0, relu(1 + 1) = 2.
        let real = verdict(&[[2.0, 0.5]], &device);
        let fake = verdict(&[[-3.0, 1.0]], &device);
        let got = number(hinge_loss(real, fake));
        assert!((got - 0.5 * (0.25 + 1.0)).abs() < 1e-6, "{got}");
        // A second network that knows nothing: both terms are 1.
        let real = verdict(&[[2.0, 0.5], [0.0, 0.0]], &device);
        let fake = verdict(&[[-3.0, 1.0], [0.0, 0.0]], &device);
        let got = number(hinge_loss(real, fake));
        assert!((got - 0.5 * (0.625 + 1.0)).abs() < 1e-6, "{got}");
    }

    #[test]
    fn a_codec_wants_high_logits_of_every_network() {
        let device = Device::default();
        let loss = verdict(&[[-3.0, 1.0], [2.0, 4.0]], &device).codec_loss();
        // Means of -1 and 3.
        assert!((number(loss) + 1.0).abs() < 1e-6);
    }

    /// The last layer, `[D, Z]`.
    impl OutputLayers<4> for Linear {
        type Features = Tensor<4>;

        fn output_layers(&self, features: Tensor<4>) -> Tensor<4> {
            self.forward(features)
        }

        fn output_gradient_norm(&self, loss: Tensor<1>) -> f32 {
            let gradient = self.weight.val().grad(&loss.backward());
            let norm = |gradient: Tensor<2>| gradient.square().sum().sqrt();
            gradient.map_or(0.0, |gradient| norm(gradient).into_scalar::<f32>())
        }
    }

    /// Its logits are the signals times a factor.
    #[derive(Module, Debug)]
    struct Louder {
        factor: f64,
    }

    impl CodecDiscriminator<4> for Louder {
        fn judge(&self, signal: Tensor<4>) -> Verdict {
            Verdict::of_one(signal.mul_scalar(self.factor))
        }
    }

    /// One weight: gradients of `a mean(w x)` and of `-b mean(w x)` are in the ratio of `a` and `b`.
    #[test]
    fn adaptive_weights_are_ratios_of_gradients() {
        let device = Device::default().autodiff();
        let weight = Tensor::<2>::ones([1, 1], &device).require_grad();
        let codec = Linear {
            weight: Param::initialized(ParamId::new(), weight),
            bias: None,
        };
        let features = Tensor::<4>::full([1, 1, 2, 1], 50.0, &device);
        let ratio = |wanted: f64, factor: f64| {
            let louder = Louder { factor };
            adaptive_weight::<_, 4>(&codec, features.clone(), &louder, |decoded| {
                decoded.mean().mul_scalar(wanted)
            })
        };
        let got = ratio(3.0, 2.0);
        assert!((got - 1.5).abs() < 1e-4, "{got}");
        assert_eq!(ratio(0.0, 2.0), 0.0);
        // Without a gradient of the adversarial loss the weight is bounded.
        assert_eq!(ratio(3.0, 0.0), LARGEST_ADAPTIVE_WEIGHT);
    }

    #[test]
    fn errors_of_pixels_by_hand() {
        let device = Device::default();
        let error = Tensor::<1>::from_floats([1.0, -3.0], &device);
        let both = number(pixel_loss(error.clone(), 0.5, 2.0));
        assert!((both - (0.5 * 2.0 + 2.0 * 5.0)).abs() < 1e-6, "{both}");
        let square = number(pixel_loss(error, 0.0, 2.0));
        assert!((square - 10.0).abs() < 1e-6, "{square}");
    }

    #[test]
    fn wrong_weights_and_sizes_are_named() {
        check_weights(&[("l1_weight", 0.0), ("kl_weight", 1e-6)]).unwrap();
        for wrong in [-1.0, f64::NAN, f64::INFINITY] {
            let refused = check_weights(&[("l1_weight", 1.0), ("kl_weight", wrong)]);
            let message = refused.unwrap_err();
            let expected = format!("kl_weight must not be negative: {wrong}");
            assert_eq!(message, expected);
        }
        let sizes = |width, layers| PatchSizes { width, layers };
        assert_eq!(sizes(8, 5).widths(), [8, 16, 32, 64, 64]);
        sizes(4, 1).validate().unwrap();
        for wrong in [sizes(6, 2), sizes(0, 2), sizes(8, 0)] {
            assert!(wrong.validate().is_err(), "{wrong:?}");
        }
        // 16 pixels are halved to 8, 4, 2 and 1, not once more.
        sizes(4, 4).validate_for("pictures", 16).unwrap();
        let message = sizes(4, 5).validate_for("pictures", 16).unwrap_err();
        let expected = "discriminator_layers must be at most 4 for pictures of 16 pixels, not 5: each layer halves \
                        them";
        assert_eq!(message, expected);
    }

    /// The keys have the names that recipes and checkpoints write. Without a discriminator its sizes do not matter.
    #[test]
    fn keys_of_a_patch_loss_are_a_part_of_their_table() {
        #[derive(Serialize, Deserialize)]
        struct Table {
            kl_weight: f64,
            #[serde(flatten)]
            patches: PatchLossConfig,
        }
        let text = "kl_weight = 0.5\nadversarial_weight = 0.25\nadversarial_start = 500\n\
                    discriminator_width = 6\ndiscriminator_layers = 5\n";
        let mut table: Table = toml::from_str(text).unwrap();
        assert_eq!(toml::to_string(&table).unwrap(), text);
        assert_eq!((table.kl_weight, table.patches.start), (0.5, 500));
        let sizes = PatchSizes {
            width: 6,
            layers: 5,
        };
        assert_eq!(table.patches.sizes(), Some(sizes));
        assert!(table.patches.validate().is_err());
        assert!(table.patches.validate_for("pictures", 16).is_err());
        table.patches.weight = 0.0;
        assert_eq!(table.patches.sizes(), None);
        table.patches.validate().unwrap();
        table.patches.validate_for("pictures", 16).unwrap();
    }
}
