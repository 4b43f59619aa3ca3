//! The video codec: an encoder that gives means, noise around them, and a decoder that is trained with it.

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use latentlm_core::{
    LatentCodec, LatentCodecConfig, LatentSpec, NoiseScale, OutputLayers, PartConfig, Posterior,
    SignalLayout, StreamingCodec, VideoSpec,
};

use crate::config::VideoSigmaVaeConfig;
use crate::stream::{Chunk, DecoderState, EncoderState, Shown};
use crate::tower::{Decoder, Encoder};

/// A sigma-VAE for clips (paper §2.3), causal in time. A picture is a clip of one frame.
#[derive(Module, Debug)]
pub struct VideoSigmaVae {
    encoder: Encoder,
    decoder: Decoder,
    noise_std: f64,
    #[module(skip)]
    spec: LatentSpec,
}

impl VideoSigmaVae {
    /// A codec with new weights. The configuration must be valid.
    fn new(config: &VideoSigmaVaeConfig, device: &Device) -> Self {
        Self {
            encoder: Encoder::new(config, device),
            decoder: Decoder::new(config, device),
            noise_std: config.noise_std,
            spec: config.spec(),
        }
    }

    /// The decoder of whole clips without its last layers.
    ///
    /// # Shapes
    /// - `latents`: `[B, T, Z]`
    /// - returns: `[B, G, P, D]`
    ///
    /// # Panics
    /// If the latents are no whole groups.
    pub fn decoder_features(&self, latents: Tensor<3>) -> Tensor<4> {
        self.decoder.features(latents, &mut Chunk::whole())
    }
}

impl OutputLayers<5> for VideoSigmaVae {
    type Features = Tensor<4>;

    /// One layer for the first frame, one for the groups after it.
    ///
    /// # Shapes
    /// - `features`: `[B, G, P, D]`, of whole clips
    /// - returns: `[B, F, C, H, W]`
    fn output_layers(&self, features: Tensor<4>) -> Tensor<5> {
        self.decoder.finish(features, &mut Shown::default())
    }

    fn output_gradient_norm(&self, loss: Tensor<1>) -> f32 {
        let gradients = loss.backward();
        let mut square = 0.0;
        for layer in [&self.decoder.first, &self.decoder.later] {
            if let Some(gradient) = layer.weight.val().grad(&gradients) {
                square += gradient.square().sum().into_scalar::<f32>();
            }
        }
        square.sqrt()
    }
}

impl LatentCodec<5> for VideoSigmaVae {
    fn spec(&self) -> LatentSpec {
        self.spec
    }

    /// # Shapes
    /// - `clips`: `[B, F, C, H, W]`, in `[-1, 1]`; `F` is 1 plus a multiple of `frames_per_group`
    /// - returns: means `[B, T, Z]`, group by group
    ///
    /// # Panics
    /// If the frames have another size, or don't fill their groups.
    fn encode_parameters(&self, clips: Tensor<5>) -> Tensor<3> {
        self.encoder.forward(clips, Chunk::whole())
    }

    fn posterior(&self, means: Tensor<3>) -> Posterior {
        Posterior {
            mean: means,
            // QUIRK(modeling_sigma_vae.py:49): the configured scale is divided by 0.8.
            noise: NoiseScale::PerSample {
                std: self.noise_std / 0.8,
            },
        }
    }

    /// # Shapes
    /// - `latents`: `[B, T, Z]`
    /// - returns: `[B, F, C, H, W]`, around `[-1, 1]`, not clamped
    ///
    /// # Panics
    /// If the latents are no whole groups.
    fn decode(&self, latents: Tensor<3>) -> Tensor<5> {
        self.output_layers(self.decoder_features(latents))
    }
}

impl StreamingCodec<5> for VideoSigmaVae {
    type EncoderState = EncoderState;
    type DecoderState = DecoderState;

    fn encode_step(&self, frames: Tensor<5>, state: &mut EncoderState) -> Posterior {
        self.posterior(self.encoder.forward(frames, state.0.next_chunk()))
    }

    fn decode_step(&self, latents: Tensor<3>, state: &mut DecoderState) -> Tensor<5> {
        let mut chunk = state.progress.next_chunk();
        let features = self.decoder.features(latents, &mut chunk);
        self.decoder.finish(features, &mut state.shown)
    }
}

impl LatentCodecConfig<5> for VideoSigmaVaeConfig {
    type Codec = VideoSigmaVae;
    type Signal = VideoSpec;

    fn init(&self, device: &Device) -> VideoSigmaVae {
        if let Err(error) = self.validate() {
            panic!("{error}");
        }
        VideoSigmaVae::new(self, device)
    }

    fn spec(&self) -> LatentSpec {
        let first = self.first();
        LatentSpec {
            dim: self.latent_dim,
            layout: SignalLayout::Video {
                height: first.grid,
                width: first.grid,
                frames_per_group: self.frames_per_group,
                group_latents: self.group_latents(),
            },
        }
    }

    fn signal(&self) -> VideoSpec {
        VideoSpec {
            channels: self.channels,
            height: self.image_size,
            width: self.image_size,
            frames_per_group: self.frames_per_group,
        }
    }
}
