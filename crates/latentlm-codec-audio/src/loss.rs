//! The loss of the codec: spectra at several resolutions, waveform, KL divergence, and an adversarial loss.

use burn::config::Config;
use burn::module::Module;
use burn::tensor::{Device, Tensor};
use latentlm_core::{
    CodecDiscriminator, CodecObjective, CodecObjectiveConfig, LatentCodec, LatentNoise, NoiseScale,
    ObjectiveOutput, PartConfig, Posterior, Verdict, check_weights, mean_loss,
};
use latentlm_kernels::{SpectralFloors, SpectralLosses, SpectralWindow, spectral_losses};

use crate::codec::AudioSigmaVae;
use crate::config::{AudioCodecError, AudioSigmaVaeConfig};
use crate::discriminator::StftDiscriminator;
use crate::keys::KEYS;
use crate::spectrum::{MAGNITUDE_EPSILON, Stft, mel_bands};

/// Floor of levels before the logarithm; white noise with standard deviation 1 has level 1. Quieter sound is
/// inaudible beside speech, but without a floor its logarithm would dominate the loss.
const QUIETEST: f64 = 3e-3;
/// Added to divisors that may be 0.
const TINY: f64 = 1e-6;
/// Least sum of squared differences of levels. A root has no derivative at 0, and equal spectra would make the gradient NaN.
const LEAST_SQUARES: f64 = 1e-30;
/// Most numbers of the tables that turn spectra into mel bands: 256 MiB.
const MOST_MEL_NUMBERS: usize = 1 << 26;

/// Configuration of a [`CodecLoss`].
#[derive(Config, Debug, PartialEq)]
pub struct CodecLossConfig {
    /// Weight of the mean absolute error of samples.
    #[config(default = "KEYS.default(\"codec_loss.waveform_weight\")")]
    pub waveform_weight: f64,
    /// Weight of the mean absolute error of log10 mel bands.
    #[config(default = "KEYS.default(\"codec_loss.mel_weight\")")]
    pub mel_weight: f64,
    /// Weight of spectral convergence plus mean absolute error of log magnitudes.
    #[config(default = "KEYS.default(\"codec_loss.stft_weight\")")]
    pub stft_weight: f64,
    /// Window lengths of the spectra in samples: powers of two.
    #[config(default = "KEYS.default(\"codec_loss.windows\")")]
    pub windows: Vec<usize>,
    /// Number of mel bands, for each window length.
    #[config(default = "KEYS.default(\"codec_loss.mel_bands\")")]
    pub mel_bands: Vec<usize>,
    /// Weight of the KL divergence from N(0, I).
    #[config(default = "KEYS.default(\"codec_loss.kl_weight\")")]
    pub kl_weight: f64,
    /// Weight of the adversarial loss; 0 switches it off.
    #[config(default = "KEYS.default(\"codec_loss.adversarial_weight\")")]
    pub adversarial_weight: f64,
    /// Weight of feature matching, which belongs to the adversarial loss.
    #[config(default = "KEYS.default(\"codec_loss.feature_weight\")")]
    pub feature_weight: f64,
    /// Step from which on there is an adversarial loss.
    #[config(default = "KEYS.default(\"codec_loss.adversarial_start\")")]
    pub adversarial_start: u64,
    /// Window lengths of the discriminators in samples.
    #[config(default = "KEYS.default(\"codec_loss.discriminator_windows\")")]
    pub discriminator_windows: Vec<usize>,
    /// Channels of the discriminators' layers.
    #[config(default = "KEYS.default(\"codec_loss.discriminator_width\")")]
    pub discriminator_width: usize,
    /// Number of layers of each discriminator.
    #[config(default = "KEYS.default(\"codec_loss.discriminator_layers\")")]
    pub discriminator_layers: usize,
}

impl Default for CodecLossConfig {
    fn default() -> Self {
        Self::new()
    }
}

impl PartConfig for CodecLossConfig {
    type Error = AudioCodecError;

    /// # Errors
    /// If a weight is negative or lengths of lists do not match.
    fn validate(&self) -> Result<(), AudioCodecError> {
        let fail = |reason: String| Err(AudioCodecError::Config { reason });
        let weights = [
            ("waveform_weight", self.waveform_weight),
            ("mel_weight", self.mel_weight),
            ("stft_weight", self.stft_weight),
            ("kl_weight", self.kl_weight),
            ("adversarial_weight", self.adversarial_weight),
            ("feature_weight", self.feature_weight),
        ];
        if let Err(reason) = check_weights(&weights) {
            return fail(reason);
        }
        if self.waveform_weight + self.mel_weight + self.stft_weight == 0.0 {
            return fail("all weights of the reconstruction are 0: nothing to learn from".into());
        }
        if self.mel_bands.len() != self.windows.len() || self.mel_bands.contains(&0) {
            return fail("mel_bands must be positive, one entry for each of windows".into());
        }
        let spectra = self.windows.iter().zip(&self.mel_bands);
        let numbers = spectra.fold(0_usize, |sum, (window, bands)| {
            sum.saturating_add((window / 2 + 1).saturating_mul(*bands))
        });
        if numbers > MOST_MEL_NUMBERS {
            return fail(format!(
                "windows and mel_bands make tables of {numbers} numbers; at most {MOST_MEL_NUMBERS} may be"
            ));
        }
        let windows = self.windows.iter().chain(&self.discriminator_windows);
        for window in windows {
            if !window.is_power_of_two() || *window < 8 {
                return fail(format!(
                    "a window of {window} is no power of two of 8 or more"
                ));
            }
        }
        let empty = self.discriminator_windows.is_empty()
            || self.discriminator_width == 0
            || self.discriminator_layers == 0;
        if self.adversarial_weight > 0.0 && empty {
            return fail("the discriminators have no windows, width or layers".into());
        }
        Ok(())
    }

    fn preset(recipe: &str) -> Self {
        KEYS.preset("codec_loss", recipe)
    }

    fn keys() -> &'static str {
        KEYS.text()
    }
}

impl CodecObjectiveConfig<3> for CodecLossConfig {
    type CodecConfig = AudioSigmaVaeConfig;
    type Objective = CodecLoss;

    /// Builds the loss for signals of the codec's sample rate.
    fn init(
        &self,
        codec: &AudioSigmaVaeConfig,
        device: &Device,
    ) -> Result<CodecLoss, AudioCodecError> {
        self.validate()?;
        let spectra = self.windows.iter().zip(&self.mel_bands);
        let spectra: Vec<Spectrum> = spectra
            .map(|(window, bands)| Spectrum {
                stft: Stft::new(*window, device),
                mel: mel_bands(*window, *bands, codec.sample_rate_hz, device),
            })
            .collect();
        let floors = SpectralFloors {
            power: MAGNITUDE_EPSILON,
            level: QUIETEST,
            difference: LEAST_SQUARES,
            divisor: TINY,
        };
        let windows = spectra.iter().map(Spectrum::of_kernel).collect();
        Ok(CodecLoss {
            kernel: SpectralLosses::new(windows, floors),
            spectra,
            config: self.clone(),
        })
    }

    fn init_discriminator(
        &self,
        _codec: &AudioSigmaVaeConfig,
        device: &Device,
    ) -> Option<StftDiscriminator> {
        (self.adversarial_weight > 0.0).then(|| {
            let (width, layers) = (self.discriminator_width, self.discriminator_layers);
            StftDiscriminator::new(&self.discriminator_windows, width, layers, device)
        })
    }

    fn discriminator_start(&self) -> u64 {
        self.adversarial_start
    }
}

/// A spectrogram of one resolution.
#[derive(Debug, Clone)]
struct Spectrum {
    stft: Stft,
    /// `[bins, bands]`
    mel: Tensor<2>,
}

impl Spectrum {
    /// Magnitudes, scaled so that white noise with standard deviation 1 has level 1 for each window length.
    fn level(&self, signal: Tensor<2>) -> Tensor<3> {
        self.stft.magnitude(signal).mul_scalar(self.scale())
    }

    /// Factor from magnitudes to levels.
    fn scale(&self) -> f64 {
        self.stft.noise_gain().recip()
    }

    /// The same spectrogram as the kernel takes it.
    fn of_kernel(&self) -> SpectralWindow {
        SpectralWindow {
            window: self.stft.window(),
            scale: self.scale(),
            bands: self.mel.clone(),
        }
    }
}

/// The loss of a codec.
#[derive(Debug, Clone)]
pub struct CodecLoss {
    spectra: Vec<Spectrum>,
    /// The same spectra for the kernel.
    kernel: SpectralLosses,
    config: CodecLossConfig,
}

/// The terms of a loss, `[1]` each. Only the sum has weights in it.
#[derive(Debug, Clone)]
pub struct CodecLossOutput {
    /// Weighted sum of all terms, to be minimized.
    pub total: Tensor<1>,
    /// Mean absolute error of samples.
    pub waveform: Tensor<1>,
    /// Mean absolute error of log10 mel bands.
    pub mel: Tensor<1>,
    /// Spectral convergence plus mean absolute error of log magnitudes.
    pub stft: Tensor<1>,
    /// KL divergence from N(0, I).
    pub kl: Tensor<1>,
    /// Adversarial loss, without feature matching.
    pub adversarial: Option<Tensor<1>>,
}

impl CodecObjective<3> for CodecLoss {
    type Codec = AudioSigmaVae;
    type Discriminator = StftDiscriminator;

    fn to_device(self, device: &Device) -> Self {
        let spectra = self.spectra.into_iter().map(|spectrum| Spectrum {
            stft: spectrum.stft.fork(device),
            mel: spectrum.mel.to_device(device),
        });
        Self {
            spectra: spectra.collect(),
            kernel: self.kernel,
            config: self.config,
        }
    }

    fn loss(
        &self,
        codec: &AudioSigmaVae,
        signal: Tensor<3>,
        noise: LatentNoise,
        discriminator: Option<&StftDiscriminator>,
    ) -> ObjectiveOutput<3> {
        let (posterior, latents, quantized) = match codec.residual_quantizer() {
            Some(quantizer) => {
                let means = codec.encode_parameters(signal.clone());
                // Codes have no distribution: their KL divergence is left out.
                let none = Posterior {
                    mean: means.clone().detach().zeros_like(),
                    noise: NoiseScale::Fixed { std: 0.0 },
                };
                let quantized = quantizer.forward(means, noise.scale);
                let weight = quantizer.commitment_weight();
                let commitment = (quantized.commitment, weight);
                (none, quantized.latents, Some(commitment))
            }
            None => {
                let posterior = codec.encode(signal.clone());
                let latents = posterior.sample(noise.scale, noise.eps);
                (posterior, latents, None)
            }
        };
        let decoded = codec.decode(latents);
        let output = self.forward(decoded.clone(), signal, &posterior, discriminator);
        let (mut total, mut kl, mut commitment) = (output.total, Some(output.kl), None);
        if let Some((distance, weight)) = quantized {
            total = total + distance.clone().mul_scalar(weight);
            (kl, commitment) = (None, Some(distance));
        }
        let values = [
            ("mel", Some(output.mel)),
            ("stft", Some(output.stft)),
            ("waveform", Some(output.waveform)),
            ("kl", kl),
            ("commitment", commitment),
            ("adversarial", output.adversarial),
        ];
        ObjectiveOutput::new(total, decoded, values)
    }
}

impl CodecLoss {
    /// The codec's loss on a batch.
    ///
    /// # Shapes
    /// - `decoded`, `signal`: `[B, C, N]`
    pub fn forward(
        &self,
        decoded: Tensor<3>,
        signal: Tensor<3>,
        posterior: &Posterior,
        discriminator: Option<&StftDiscriminator>,
    ) -> CodecLossOutput {
        let config = &self.config;
        let waveform = (decoded.clone() - signal.clone()).abs().mean();
        let (mel, stft) = self.spectral(rows(decoded.clone()), rows(signal.clone()));
        let kl = posterior.kl();
        let mut total = waveform.clone().mul_scalar(config.waveform_weight)
            + mel.clone().mul_scalar(config.mel_weight)
            + stft.clone().mul_scalar(config.stft_weight)
            + kl.clone().mul_scalar(config.kl_weight);
        let mut adversarial = None;
        if let Some(discriminator) = discriminator {
            let real = discriminator.valid().judge(signal.inner());
            let fake = discriminator.judge(decoded);
            let features = feature_distance(&real, &fake);
            let fooled = fake.codec_loss();
            let weighted = features.mul_scalar(config.feature_weight)
                + fooled.clone().mul_scalar(config.adversarial_weight);
            total = total + weighted;
            adversarial = Some(fooled);
        }
        CodecLossOutput {
            total,
            waveform,
            mel,
            stft,
            kl,
            adversarial,
        }
    }

    /// Losses of mel bands and of spectra, averaged over the resolutions.
    ///
    /// # Shapes
    /// - `decoded`, `signal`: `[B, N]`
    fn spectral(&self, decoded: Tensor<2>, signal: Tensor<2>) -> (Tensor<1>, Tensor<1>) {
        match spectral_losses(&decoded, &signal, &self.kernel) {
            Some([mel, stft]) => (mel, stft),
            None => self.composed(decoded, signal),
        }
    }

    /// [`Self::spectral`] as a composition of tensor operations.
    fn composed(&self, decoded: Tensor<2>, signal: Tensor<2>) -> (Tensor<1>, Tensor<1>) {
        let parts = self.spectra.iter().map(|spectrum| {
            let [real, fake] = [&signal, &decoded].map(|x| spectrum.level(x.clone()));
            let mel = (log10_mel(fake.clone(), &spectrum.mel)
                - log10_mel(real.clone(), &spectrum.mel))
            .abs()
            .mean();
            let log = |x: Tensor<3>| x.clamp_min(QUIETEST).log();
            let level = (log(fake.clone()) - log(real.clone())).abs().mean();
            let energy = |x: Tensor<3>| x.square().sum();
            let difference = energy(fake - real.clone()).clamp_min(LEAST_SQUARES);
            let convergence = difference.sqrt() / (energy(real).sqrt() + TINY);
            (mel, level + convergence)
        });
        let (mel, stft): (Vec<_>, Vec<_>) = parts.unzip();
        (mean_loss(mel.into_iter()), mean_loss(stft.into_iter()))
    }
}

/// Decimal logarithms of mel bands.
///
/// # Shapes
/// - `magnitude`: `[B, F, bins]`; `bands`: `[bins, bands]`
/// - returns: `[B, F, bands]`
fn log10_mel(magnitude: Tensor<3>, bands: &Tensor<2>) -> Tensor<3> {
    let [batch, frames, bins] = magnitude.dims();
    let rows = magnitude.reshape([batch * frames, bins]);
    let mel = rows.matmul(bands.clone()).clamp_min(QUIETEST).log();
    let count = mel.dims()[1];
    mel.mul_scalar(std::f64::consts::LOG10_E)
        .reshape([batch, frames, count])
}

/// Each channel as a signal of its own: `[B, C, N]` to `[B * C, N]`.
fn rows(signal: Tensor<3>) -> Tensor<2> {
    let [batch, channels, samples] = signal.dims();
    signal.reshape([batch * channels, samples])
}

/// Feature matching: distance of two signals in the discriminators' layers, relative to the size of the real
/// signal's features in each layer.
fn feature_distance(real: &Verdict, fake: &Verdict) -> Tensor<1> {
    let pairs = real.features.iter().zip(&fake.features);
    mean_loss(pairs.map(|(real, fake)| {
        let real = Tensor::from_inner(real.clone());
        let size = real.clone().abs().mean() + TINY;
        (fake.clone() - real).abs().mean() / size
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use latentlm_core::RandomStream;
    use latentlm_core::conformance::module::gradient_agrees_with_finite_differences;
    use latentlm_core::conformance::seeded;

    fn posterior(device: &Device) -> Posterior {
        Posterior {
            mean: Tensor::full([1, 2, 3], 2.0, device),
            noise: NoiseScale::Fixed { std: 0.5 },
        }
    }

    fn codec_config() -> AudioSigmaVaeConfig {
        AudioSigmaVaeConfig::new().with_sample_rate_hz(16_000)
    }

    fn number(x: Tensor<1>) -> f64 {
        f64::from(x.into_scalar::<f32>())
    }

    /// A signal that is ten times louder is off by 1 in the log10 of each band, by `ln 10` in log magnitude, and
    /// by nine times its own energy.
    #[test]
    fn louder_by_a_factor_has_a_closed_form() {
        let device = Device::default();
        let loss = CodecLossConfig::new()
            .init(&codec_config(), &device)
            .unwrap();
        let signal = RandomStream::new(1).normal([2, 1, 8000], &device);
        let louder = signal.clone().mul_scalar(10.0);
        let out = loss.forward(louder, signal.clone(), &posterior(&device), None);
        assert!((number(out.mel) - 1.0).abs() < 1e-3);
        assert!((number(out.stft) - 9.0 - std::f64::consts::LN_10).abs() < 1e-2);
        assert!((number(out.waveform.clone()) - 9.0 * number(signal.abs().mean())).abs() < 1e-3);
        assert!((number(out.kl) - 4.0).abs() < 1e-6);
        let sum = number(out.waveform) + 15.0 + 9.0 + std::f64::consts::LN_10 + 0.04;
        assert!((number(out.total) - sum).abs() < 0.05);
    }

    #[test]
    fn the_loss_has_its_gradient() {
        let device = Device::default().autodiff();
        let config = CodecLossConfig::new()
            .with_windows(vec![32, 64])
            .with_mel_bands(vec![4, 8])
            .with_discriminator_windows(vec![32])
            .with_discriminator_width(4)
            .with_adversarial_weight(1.0);
        let loss = config.init(&codec_config(), &device).unwrap();
        let discriminator = seeded(3, &device, |device| {
            config.init_discriminator(&codec_config(), device)
        });
        let signal = RandomStream::new(1).normal([1, 1, 256], &device);
        let decoded = RandomStream::new(2).normal([1, 1, 256], &device);
        let total = |x| {
            let posterior = posterior(&device);
            loss.forward(x, signal.clone(), &posterior, discriminator.as_ref())
                .total
        };
        gradient_agrees_with_finite_differences("codec loss", decoded, total);
    }

    fn noise(seed: u64, shape: [usize; 2], device: &Device) -> Tensor<2> {
        // Quiet, so that bins next to 0 lie below the floor of levels: their logarithms are as uncertain as float32
        // transforms are.
        RandomStream::new(seed)
            .normal(shape, device)
            .mul_scalar(0.02)
    }

    /// The losses of spectra, and the gradient of their weighted sum.
    fn with_gradient(
        losses: impl Fn(Tensor<2>) -> (Tensor<1>, Tensor<1>),
        decoded: &Tensor<2>,
    ) -> ([f64; 2], Vec<f32>) {
        let decoded = decoded.clone().detach().require_grad();
        let (mel, stft) = losses(decoded.clone());
        let sum = mel.clone().mul_scalar(15.0) + stft.clone();
        let gradient = decoded.grad(&sum.backward()).expect("a gradient");
        let gradient: Vec<f32> = gradient.into_data().try_to_vec().unwrap();
        ([number(mel), number(stft)], gradient)
    }

    fn assert_kernel_is_composition(
        what: &str,
        loss: &CodecLoss,
        decoded: &Tensor<2>,
        signal: &Tensor<2>,
    ) {
        let kernel = spectral_losses(decoded, signal, &loss.kernel);
        assert!(kernel.is_some(), "{what}: there is a kernel");
        let (got, gradient) = with_gradient(|x| loss.spectral(x, signal.clone()), decoded);
        let (expected, reference) = with_gradient(|x| loss.composed(x, signal.clone()), decoded);
        for (got, expected) in got.iter().zip(expected) {
            let error = (got - expected).abs();
            assert!(error <= 1e-5 * expected, "{what}: {got} for {expected}");
        }
        let largest = reference.iter().fold(0.0_f32, |most, x| most.max(x.abs()));
        assert!(largest.is_finite(), "{what}");
        for (got, expected) in gradient.iter().zip(&reference) {
            let error = (got - expected).abs();
            assert!(
                error <= 1e-5 * largest,
                "{what}: {got} for {expected} of {largest}"
            );
        }
    }

    /// Each resolution of a recipe alone and all together; one signal and three, of lengths that no hop divides, one of
    /// them shorter than the longest window.
    #[test]
    fn the_kernel_has_the_losses_and_gradients_of_the_composition() {
        let device = Device::default().autodiff();
        let base = CodecLossConfig::new();
        let alone = base.windows.iter().zip(&base.mel_bands);
        let mut configs: Vec<CodecLossConfig> = alone
            .map(|(window, bands)| {
                let config = base.clone().with_windows(vec![*window]);
                config.with_mel_bands(vec![*bands])
            })
            .collect();
        configs.push(base);
        for config in configs {
            let loss = config.init(&codec_config(), &device).unwrap();
            for shape in [[1, 5001], [3, 1003]] {
                let what = format!("windows {:?}, signals {shape:?}", config.windows);
                let (decoded, signal) = (noise(1, shape, &device), noise(2, shape, &device));
                assert_kernel_is_composition(&what, &loss, &decoded, &signal);
            }
        }
    }

    /// Silence in one signal, in a part of it, and in both: epsilon and floors are those of the composition, and all
    /// gradients are finite.
    #[test]
    fn the_kernel_has_the_gradients_of_silence() {
        let device = Device::default().autodiff();
        let config = CodecLossConfig::new();
        let loss = config.init(&codec_config(), &device).unwrap();
        let shape = [2, 4001];
        let silence = || Tensor::<2>::zeros(shape, &device);
        let sound = |seed| noise(seed, shape, &device);
        let half = |seed| {
            let sound = sound(seed).narrow(1, 0, 2000);
            Tensor::cat(vec![sound, silence().narrow(1, 0, 2001)], 1)
        };
        for (what, decoded, signal) in [
            ("silent codec", silence(), sound(1)),
            ("silent signal", sound(2), silence()),
            ("half silent codec", half(3), sound(4)),
            ("half silent signal", sound(5), half(6)),
            ("silence", silence(), silence()),
            ("equal signals", sound(7), sound(7)),
        ] {
            assert_kernel_is_composition(what, &loss, &decoded, &signal);
        }
    }

    /// Two networks, one gradient each: the discriminators' loss leaves the codec alone, and they
    /// learn to tell noise from a tone, whatever weights they begin with.
    #[test]
    fn the_discriminators_learn_from_detached_fakes() {
        use burn::optim::{AdamConfig, GradientsParams};
        const SEEDS: u64 = 4;
        let device = Device::default().autodiff();
        let config = CodecLossConfig::new()
            .with_discriminator_windows(vec![64])
            .with_discriminator_width(8)
            .with_adversarial_weight(1.0);
        let tone: Vec<f32> = (0..1024).map(|i| (i as f32 * 0.3).sin()).collect();
        let real = Tensor::<1>::from_floats(tone.as_slice(), &device).reshape([1, 1, 1024]);
        let fake = RandomStream::new(1)
            .normal([1, 1, 1024], &device)
            .require_grad();
        let mut untrained = Vec::new();
        for seed in 0..SEEDS {
            let discriminator = seeded(seed, &device, |device| {
                config.init_discriminator(&codec_config(), device)
            });
            let mut discriminator = discriminator.unwrap();
            let mut optimizer = AdamConfig::new().init();
            let mut losses = Vec::new();
            for _ in 0..80 {
                let loss = discriminator.loss(real.clone(), fake.clone());
                losses.push(number(loss.clone()));
                let gradients = loss.backward();
                assert!(fake.grad(&gradients).is_none(), "the fakes are cut off");
                let gradients = GradientsParams::from_grads(gradients, &discriminator);
                discriminator = optimizer.step(3e-3, discriminator, gradients);
            }
            untrained.push(losses[0]);
            assert!(losses[79] < 0.2, "seed {seed}: {losses:?}");
        }
        // Logits near 0 give 1. Those of one seed are a few tenths off, to either side.
        let mean = untrained.iter().sum::<f64>() / untrained.len() as f64;
        assert!((mean - 1.0).abs() < 0.3, "untrained: {untrained:?}");
    }

    #[test]
    fn wrong_configurations_are_refused() {
        let base = CodecLossConfig::new();
        for (config, part) in [
            (base.clone().with_kl_weight(-1.0), "kl_weight"),
            (base.clone().with_mel_bands(vec![20]), "one entry for each"),
            (
                base.clone().with_windows(vec![256, 512, 1000, 2048]),
                "power of two",
            ),
            (
                base.clone()
                    .with_windows(vec![1 << 20])
                    .with_mel_bands(vec![4096]),
                "tables of 2147487744 numbers",
            ),
            (
                base.with_adversarial_weight(1.0)
                    .with_discriminator_width(0),
                "no windows, width",
            ),
        ] {
            let message = config.validate().unwrap_err().to_string();
            assert!(message.contains(part), "{message}");
        }
    }
}
