//! The latents of all training samples: encoded once, drawn anew with noise in every round.

use std::iter::repeat_n;

use burn::tensor::{Device, Tensor, TensorData};
use latentlm::adapters::Whitening;
use latentlm::core::bundle::{BundleWriter, save_module};
use latentlm::{LatentCodec, RandomStream};
use latentlm_data::DataError;
use latentlm_pipelines::{Recipe, TrainingData, Wanted, host_values, weights_file};

use crate::context::{CACHE, Context};
use crate::error::{Result, TrainError};
use crate::latent_cache::LatentCache;

/// How a language model's samples are encoded.
pub trait Coding {
    /// The whitening of the latents, if they are whitened.
    fn whitening(&self) -> Option<Whitening>;

    /// Number of latents of a training sample.
    fn length(&self, sample: usize) -> usize;

    /// Some training samples, one after the other, with the noise that models are trained with, a
    /// modality's `[N, Z]` each.
    fn draw(&self, samples: &[usize], random: &mut RandomStream, device: &Device)
    -> Vec<Tensor<2>>;

    /// Adds the codec to a checkpoint: with it, the folder alone is enough to make samples from.
    ///
    /// # Errors
    /// If the file can't be written.
    fn save(&self, bundle: &BundleWriter) -> Result<()>;
}

/// A trained codec with its latents of all training samples, and their whitening.
#[derive(Clone)]
pub struct Encoded<C, const D: usize> {
    /// The codec with averaged weights.
    pub codec: C,
    /// The encoder's output for each training sample.
    pub cache: LatentCache,
    /// Bias and scale that whiten the codec's latents for the language model.
    pub whitening: Whitening,
}

impl<C: LatentCodec<D>, const D: usize> Encoded<C, D> {
    /// Measures the whitening on the samples that `pick` chooses by the numbers of their latents. It is
    /// measured on latents with noise: the model is trained on `z`, not on the mean.
    ///
    /// # Errors
    /// If the codec's latents are constant or not finite.
    pub fn measure(
        codec: C,
        cache: LatentCache,
        pick: impl FnOnce(&[u32], &mut RandomStream) -> Vec<usize>,
        seed: u64,
        device: &Device,
    ) -> Result<Self> {
        let mut random = RandomStream::for_step(seed, "whitening", 0);
        let picked = pick(&cache.lengths, &mut random);
        let mut encoded = Self {
            codec,
            cache,
            whitening: Whitening::IDENTITY,
        };
        let latents = host_values(encoded.draw(&picked, &mut random, device).remove(0));
        let reason = "the codec's latents are constant or not finite; train it again";
        let whitening = Whitening::measure(&latents);
        encoded.whitening = whitening.ok_or_else(|| TrainError::config(reason))?;
        Ok(encoded)
    }
}

/// Noise has one scale a sample.
impl<C: LatentCodec<D>, const D: usize> Coding for Encoded<C, D> {
    fn whitening(&self) -> Option<Whitening> {
        Some(self.whitening)
    }

    fn length(&self, sample: usize) -> usize {
        self.cache.lengths[sample] as usize
    }

    fn draw(
        &self,
        samples: &[usize],
        random: &mut RandomStream,
        device: &Device,
    ) -> Vec<Tensor<2>> {
        let dim = self.codec.spec().dim;
        if samples.is_empty() {
            return vec![Tensor::zeros([0, dim], device)];
        }
        // Lengths may differ, so every latent is a batch row of its own.
        let values = self.cache.gather(samples);
        let count = values.len() / self.cache.dim;
        let parameters = TensorData::new(values, [count, 1, self.cache.dim]);
        let posterior = self.codec.posterior(Tensor::from_data(parameters, device));
        let mut owner = Vec::with_capacity(count);
        for (place, &own) in samples.iter().enumerate() {
            owner.extend(repeat_n(place as i64, self.cache.lengths[own] as usize));
        }
        let scale: Tensor<1> = random.normal([samples.len()], device);
        let owner = TensorData::new(owner, [count]);
        let scale = scale.select(0, Tensor::from_data(owner, device));
        let eps = random.normal([count, 1, dim], device);
        vec![posterior.to_learn(scale, eps).reshape([count, dim])]
    }

    fn save(&self, bundle: &BundleWriter) -> Result<()> {
        let path = bundle.path(&weights_file("codec"));
        Ok(save_module(&self.codec, &path)?)
    }
}

/// The latent cache of a run, made anew by `encode` if data or codec changed.
///
/// # Errors
/// If the codec is not trained yet, `encode` fails or finds no sample, or the file can't be read or
/// written.
pub fn cached<R: Recipe, D: TrainingData>(
    context: &mut Context<R, D>,
    encode: impl FnOnce(&mut Context<R, D>, &mut LatentCache) -> Result<()>,
) -> Result<LatentCache> {
    let path = context.run.file(CACHE);
    let codec = context.run.require("codec", Wanted::Weights)?;
    let fingerprint = format!("{}-codec-step-{}", context.fingerprint, codec.manifest.step);
    match LatentCache::read_matching(&path, &fingerprint) {
        Ok(Some((cache, note))) => {
            if let Some(note) = note {
                context.note(&note);
            }
            return Ok(cache);
        }
        Ok(None) => {}
        // It can be made again, so that damage costs time alone.
        Err(error @ DataError::Malformed { .. }) => context.note(&error.to_string()),
        Err(error) => return Err(error.into()),
    }
    let mut cache = LatentCache {
        fingerprint,
        ..LatentCache::default()
    };
    encode(context, &mut cache)?;
    if cache.is_empty() {
        return Err(TrainError::config("there is no sample to train on"));
    }
    cache.write(&path)?;
    Ok(cache)
}

#[cfg(test)]
mod tests {
    use super::*;
    use latentlm::codec_audio::CodecConfig;
    use latentlm::codec_image::{self, ConvConfig, LatentsConfig, NoiseKind, VitConfig};
    use latentlm::core::LatentCodecConfig;
    use latentlm::core::conformance::{assert_close, seeded};

    /// Samples of one length and of two: a pair of one length is drawn as a batch too.
    #[test]
    fn a_sample_has_one_scale_of_noise_whatever_the_lengths() {
        let device = Device::default();
        let config = CodecConfig::new()
            .with_ratios(vec![4])
            .with_depths(vec![1, 1])
            .with_width(4)
            .with_latent_dim(3);
        let codec = seeded(1, &device, |device| config.init(device));
        let mut cache = LatentCache {
            dim: 0,
            lengths: Vec::new(),
            labels: Vec::new(),
            parameters: Vec::new(),
            fingerprint: "f".into(),
        };
        let mut random = RandomStream::new(2);
        for (label, samples) in [(7, 12), (8, 12), (9, 4)] {
            let sound: Tensor<3> = random.normal([1, 1, samples], &device);
            cache.add(codec.encode_parameters(sound), &[label]);
        }
        assert_eq!((cache.dim, &cache.lengths[..]), (3, &[3, 3, 1][..]));
        assert_eq!(cache.labels, [7, 8, 9]);
        let encoded: Encoded<_, 3> = Encoded {
            codec,
            cache,
            whitening: Whitening::IDENTITY,
        };
        let (codec, cache) = (&encoded.codec, &encoded.cache);
        let drawn = |samples: &[usize]| encoded.draw(samples, &mut stream(), &device).remove(0);
        // Numbers of the stream: a scale each, then noise row by row.
        let mut numbers = stream();
        let scales: Tensor<1> = numbers.normal([2], &device);
        let noise: Tensor<3> = numbers.normal([2, 3, 3], &device);
        let means: Tensor<1> = Tensor::from_floats(&cache.parameters[..18], &device);
        let posterior = codec.posterior(means.reshape([2, 3, 3]));
        let expected = posterior.sample(scales, noise).reshape([6, 3]);
        assert_close("one length", drawn(&[0, 1]), expected, 1e-6);

        let mut numbers = stream();
        let scales: Vec<f32> = host_values(numbers.normal([2], &device));
        let noise: Tensor<2> = numbers.normal([4, 3], &device);
        let means: Tensor<1> = Tensor::from_floats(&cache.parameters[9..], &device);
        let scales = [scales[0], scales[0], scales[0], scales[1]];
        let scales = Tensor::<1>::from_floats(scales, &device);
        let posterior = codec.posterior(means.reshape([4, 1, 3]));
        let expected = posterior.sample(scales, noise.reshape([4, 1, 3]));
        assert_close("two", drawn(&[1, 2]), expected.reshape([4, 3]), 1e-6);
        assert_eq!(drawn(&[]).dims(), [0, 3]);
    }

    /// The codec learns with interpolated noise, the language model without, on the sphere too.
    #[test]
    fn interpolated_noise_is_not_learned_by_the_language_model() {
        let device = Device::default();
        for sphere in [false, true] {
            let latents = LatentsConfig {
                sphere,
                ..LatentsConfig::default()
            };
            let conv = ConvConfig::new()
                .with_base_width(4)
                .with_multipliers(vec![2, 2]);
            let config = codec_image::CodecConfig::new(conv, VitConfig::new())
                .with_channels(1)
                .with_image_size(8)
                .with_latent_dim(5)
                .with_noise(NoiseKind::Interpolated)
                .with_latents(latents);
            let codec = seeded(1, &device, |device| config.init(device));
            let pictures: Tensor<4> = RandomStream::new(2).normal([2, 1, 8, 8], &device);
            let mut cache = LatentCache::default();
            cache.add(codec.encode_parameters(pictures.clone()), &[0, 1]);
            let expected = codec.encode(pictures).mode().reshape([2, 5]);
            let encoded: Encoded<_, 4> = Encoded {
                codec,
                cache,
                whitening: Whitening::IDENTITY,
            };
            let drawn = encoded.draw(&[0, 1], &mut stream(), &device).remove(0);
            assert_close("means", drawn, expected, 1e-6);
        }
    }

    fn stream() -> RandomStream {
        RandomStream::new(5)
    }
}
