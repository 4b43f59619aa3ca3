//! The image codec: an encoder that gives means, noise around them, and a decoder that is trained with it.

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use latentlm_core::{
    LatentCodec, LatentCodecConfig, LatentSpec, NoiseScale, OutputLayers, PartConfig, PictureSpec,
    Posterior, SignalLayout, on_sphere,
};

use crate::config::{Architecture, ImageSigmaVaeConfig, NoiseKind};
use crate::conv::{ConvDecoder, ConvEncoder};
use crate::mask::PatchMask;
use crate::vit::{VitDecoder, VitEncoder};

#[derive(Module, Debug)]
#[allow(clippy::large_enum_variant)]
enum Encoder {
    Conv(ConvEncoder),
    Vit(VitEncoder),
}

#[derive(Module, Debug)]
#[allow(clippy::large_enum_variant)]
enum Decoder {
    Conv(ConvDecoder),
    Vit(VitDecoder),
}

/// A sigma-VAE for pictures (paper §2.3).
#[derive(Module, Debug)]
pub struct ImageSigmaVae {
    encoder: Encoder,
    decoder: Decoder,
    #[module(skip)]
    noise: NoiseKind,
    noise_std: f64,
    latent_dim: usize,
    grid: usize,
    /// Largest share of interpolated noise.
    noise_share: f64,
    /// Whether latents lie on a sphere.
    sphere: bool,
    /// Learned stand-in for masked patches; `None` in a codec that is trained without masks.
    mask: Option<PatchMask>,
}

/// The input of the decoder's last layer.
#[derive(Debug, Clone)]
pub enum DecoderFeatures {
    /// Input of the last layer of the convolutional decoder, `[B, base_width, H, W]`.
    Conv(Tensor<4>),
    /// Input of the last layer of the Vision Transformer, `[B, T, D]`.
    Vit(Tensor<3>),
}

impl DecoderFeatures {
    /// Detaches the features from the autodiff graph.
    pub fn detach(self) -> Self {
        match self {
            Self::Conv(x) => Self::Conv(x.detach()),
            Self::Vit(x) => Self::Vit(x.detach()),
        }
    }
}

impl ImageSigmaVae {
    /// A codec with new weights. The configuration must be valid.
    fn new(config: &ImageSigmaVaeConfig, device: &Device) -> Self {
        let (encoder, decoder) = match config.architecture {
            Architecture::Conv => (
                Encoder::Conv(ConvEncoder::new(config, device)),
                Decoder::Conv(ConvDecoder::new(config, device)),
            ),
            Architecture::Vit => (
                Encoder::Vit(VitEncoder::new(config, device)),
                Decoder::Vit(VitDecoder::new(config, device)),
            ),
        };
        Self {
            encoder,
            decoder,
            noise: config.noise,
            noise_std: config.noise_std,
            latent_dim: config.latent_dim,
            grid: config.grid(),
            noise_share: config.latents.noise_share,
            sphere: config.latents.sphere,
            mask: (config.latents.masked_share > 0.0)
                .then(|| PatchMask::new(config.channels, config.patch(), device)),
        }
    }

    /// Pictures with some patches masked, as the encoder sees them in training.
    ///
    /// # Shapes
    /// - `pictures` and result: `[B, C, H, W]`
    /// - `masked`: `[B, T]`, 1 for masked patches, 0 for the others
    ///
    /// # Panics
    /// If the codec learns without a mask.
    pub(crate) fn mask(&self, pictures: Tensor<4>, masked: Tensor<2>) -> Tensor<4> {
        let mask = self.mask.as_ref();
        let mask = mask.expect("a codec with `latents.masked_share` above 0");
        mask.forward(pictures, masked)
    }

    /// The decoder without its last layer.
    ///
    /// # Shapes
    /// - `latents`: `[B, T, Z]`
    /// - returns: see [`DecoderFeatures`]
    pub fn decoder_features(&self, latents: Tensor<3>) -> DecoderFeatures {
        match &self.decoder {
            Decoder::Conv(decoder) => DecoderFeatures::Conv(decoder.features(latents)),
            Decoder::Vit(decoder) => DecoderFeatures::Vit(decoder.features(latents)),
        }
    }
}

impl OutputLayers<4> for ImageSigmaVae {
    type Features = DecoderFeatures;

    /// # Shapes
    /// - returns: `[B, C, H, W]`
    ///
    /// # Panics
    /// If the features are those of another architecture.
    fn output_layers(&self, features: DecoderFeatures) -> Tensor<4> {
        match (&self.decoder, features) {
            (Decoder::Conv(decoder), DecoderFeatures::Conv(x)) => decoder.finish(x),
            (Decoder::Vit(decoder), DecoderFeatures::Vit(x)) => decoder.finish(x),
            _ => panic!("features of another decoder architecture"),
        }
    }

    fn output_gradient_norm(&self, loss: Tensor<1>) -> f32 {
        let gradients = loss.backward();
        let square = match &self.decoder {
            Decoder::Conv(decoder) => decoder
                .output
                .weight
                .val()
                .grad(&gradients)
                .map(|g| g.square().sum()),
            Decoder::Vit(decoder) => decoder
                .output
                .weight
                .val()
                .grad(&gradients)
                .map(|g| g.square().sum()),
        };
        square.map_or(0.0, |s| s.sqrt().into_scalar::<f32>())
    }
}

impl LatentCodec<4> for ImageSigmaVae {
    fn spec(&self) -> LatentSpec {
        spec(self.latent_dim, self.grid)
    }

    /// # Shapes
    /// - `pictures`: `[B, C, H, W]`, in `[-1, 1]`
    /// - returns: `[B, T, Z]`, or `[B, T, 2Z]` if the variance is learned
    fn encode_parameters(&self, pictures: Tensor<4>) -> Tensor<3> {
        match &self.encoder {
            Encoder::Conv(encoder) => encoder.forward(pictures),
            Encoder::Vit(encoder) => encoder.forward(pictures),
        }
    }

    fn posterior(&self, parameters: Tensor<3>) -> Posterior {
        let noise = match self.noise {
            // QUIRK(modeling_sigma_vae.py:49): the configured scale is divided by 0.8.
            NoiseKind::SigmaVae => NoiseScale::PerSample {
                std: self.noise_std / 0.8,
            },
            NoiseKind::Fixed => NoiseScale::Fixed {
                std: self.noise_std,
            },
            NoiseKind::Learned => NoiseScale::Learned {
                // The customary bounds keep exp() finite.
                log_variance: parameters
                    .clone()
                    .narrow(2, self.latent_dim, self.latent_dim)
                    .clamp(-30.0, 20.0),
            },
            NoiseKind::Interpolated => NoiseScale::Interpolated {
                std: self.noise_std,
                most: self.noise_share,
            },
        };
        let mean = parameters.narrow(2, 0, self.latent_dim);
        if self.sphere {
            return Posterior {
                mean: on_sphere(mean),
                noise: NoiseScale::OnSphere(Box::new(noise)),
            };
        }
        Posterior { mean, noise }
    }

    /// # Shapes
    /// - returns: `[B, C, H, W]`, around `[-1, 1]`, not clamped
    fn decode(&self, latents: Tensor<3>) -> Tensor<4> {
        self.output_layers(self.decoder_features(latents))
    }
}

impl LatentCodecConfig<4> for ImageSigmaVaeConfig {
    type Codec = ImageSigmaVae;
    type Signal = PictureSpec;

    fn init(&self, device: &Device) -> ImageSigmaVae {
        if let Err(error) = self.validate() {
            panic!("{error}");
        }
        ImageSigmaVae::new(self, device)
    }

    fn spec(&self) -> LatentSpec {
        spec(self.latent_dim, self.grid())
    }

    fn signal(&self) -> PictureSpec {
        PictureSpec {
            channels: self.channels,
            height: self.image_size,
            width: self.image_size,
        }
    }

    fn on_sphere(&self) -> bool {
        self.latents.sphere
    }
}

/// The geometry of latents on a square grid.
fn spec(dim: usize, grid: usize) -> LatentSpec {
    LatentSpec {
        dim,
        layout: SignalLayout::Grid {
            height: grid,
            width: grid,
        },
    }
}
