//! Encoder and decoder: patches of the first frame and of groups of frames, blocks, and a layer to the other side.

use burn::module::Module;
use burn::nn::{Linear, LinearConfig};
use burn::tensor::{Device, Tensor};
use latentlm_kernels::{linear_layer, tanh};

use crate::block::Trunk;
use crate::config::VideoSigmaVaeConfig;
use crate::patches::{join, patchify, split, unpatchify};
use crate::stream::Chunk;

/// Frames to latents.
#[derive(Module, Debug)]
pub(crate) struct Encoder {
    /// Embeds the patches of the first frame.
    first: Linear,
    /// Embeds the patches of the groups after it.
    later: Linear,
    trunk: Trunk,
    output: Linear,
    channels: usize,
    image_size: usize,
    patch_size: usize,
    frames_per_group: usize,
    latent_patches: usize,
}

impl Encoder {
    pub(crate) fn new(config: &VideoSigmaVaeConfig, device: &Device) -> Self {
        let width = config.encoder_width;
        let linear = |input, output| LinearConfig::new(input, output).init(device);
        Self {
            first: linear(config.patch_pixels(1), width),
            later: linear(config.patch_pixels(config.frames_per_group), width),
            trunk: Trunk::new(config, width, config.encoder_depth, device),
            output: linear(width, config.patch_dim()),
            channels: config.channels,
            image_size: config.image_size,
            patch_size: config.patch_size,
            frames_per_group: config.frames_per_group,
            latent_patches: config.latent_patches,
        }
    }

    /// # Shapes
    /// - `frames`: `[B, F, C, H, W]`
    /// - returns: `[B, G * L, Z]`
    ///
    /// # Panics
    /// If the frames have another size, or don't fill their groups.
    pub(crate) fn forward(&self, frames: Tensor<5>, mut chunk: Chunk<'_>) -> Tensor<3> {
        let x = self.embed(frames, chunk.begins); // [B, G, P, D]
        let x = self.trunk.forward(x, &mut chunk.pass);
        join(linear_layer(&self.output, x), self.latent_patches)
    }

    /// Embedded patches of all groups, `[B, G, P, D]`. The frames of a group are the channels of one picture.
    fn embed(&self, frames: Tensor<5>, begins: bool) -> Tensor<4> {
        let [batch, count, channels, height, width] = frames.dims();
        let side = self.image_size;
        assert!(
            [channels, height, width] == [self.channels, side, side],
            "frames of {channels} x {height} x {width} for a codec of {} x {side} x {side}",
            self.channels
        );
        let (size, alone) = (self.frames_per_group, usize::from(begins));
        assert!(
            count >= alone && count > 0 && (count - alone).is_multiple_of(size),
            "{count} frames are not {alone} and groups of {size}"
        );
        let later = (count - alone) / size;
        let mut embedded = Vec::with_capacity(2);
        if begins {
            let pictures = frames.clone().narrow(1, 0, 1);
            let pictures = pictures.reshape([batch, channels, height, width]);
            let x = linear_layer(&self.first, patchify(pictures, self.patch_size));
            embedded.push(x.unsqueeze_dim::<4>(1));
        }
        if later > 0 {
            let pictures = frames.narrow(1, alone, later * size);
            let pictures = pictures.reshape([batch * later, size * channels, height, width]);
            let x = linear_layer(&self.later, patchify(pictures, self.patch_size));
            let [_, patches, model] = x.dims();
            embedded.push(x.reshape([batch, later, patches, model]));
        }
        Tensor::cat(embedded, 1)
    }
}

/// Latents to frames: blocks, then Linear, Tanh and Linear to the pixels of each patch.
#[derive(Module, Debug)]
pub(crate) struct Decoder {
    input: Linear,
    trunk: Trunk,
    hidden: Linear,
    /// Projection to the pixels of the first frame.
    pub(crate) first: Linear,
    /// Projection to the pixels of the groups after it.
    pub(crate) later: Linear,
    channels: usize,
    patch_size: usize,
    frames_per_group: usize,
    latent_grid: usize,
    latent_patches: usize,
}

impl Decoder {
    pub(crate) fn new(config: &VideoSigmaVaeConfig, device: &Device) -> Self {
        let width = config.decoder_width;
        let linear = |input, output| LinearConfig::new(input, output).init(device);
        Self {
            input: linear(config.patch_dim(), width),
            trunk: Trunk::new(config, width, config.decoder_depth, device),
            hidden: linear(width, width),
            first: linear(width, config.patch_pixels(1)),
            later: linear(width, config.patch_pixels(config.frames_per_group)),
            channels: config.channels,
            patch_size: config.patch_size,
            frames_per_group: config.frames_per_group,
            latent_grid: config.latent_grid(),
            latent_patches: config.latent_patches,
        }
    }

    /// The decoder without its last layers.
    ///
    /// # Shapes
    /// - `latents`: `[B, G * L, Z]`
    /// - returns: `[B, G, P, D]`
    ///
    /// # Panics
    /// If the latents are no whole groups.
    pub(crate) fn features(&self, latents: Tensor<3>, chunk: &mut Chunk<'_>) -> Tensor<4> {
        let (count, group) = (latents.dims()[1], self.latent_grid * self.latent_grid);
        assert!(
            count > 0 && count.is_multiple_of(group),
            "{count} latents are no groups of {group}"
        );
        let patches = split(latents, self.latent_grid, self.latent_patches);
        let x = linear_layer(&self.input, patches);
        let x = self.trunk.forward(x, &mut chunk.pass);
        tanh(linear_layer(&self.hidden, x))
    }

    /// The last layers.
    ///
    /// # Shapes
    /// - `features`: `[B, G, P, D]`
    /// - returns: `[B, F, C, H, W]`
    pub(crate) fn finish(&self, features: Tensor<4>, begins: bool) -> Tensor<5> {
        let [batch, count, patches, width] = features.dims();
        let later = count - usize::from(begins);
        let mut frames = Vec::with_capacity(2);
        if begins {
            let x = features.clone().narrow(1, 0, 1);
            let x = linear_layer(&self.first, x.reshape([batch, patches, width]));
            let pictures = unpatchify(x, self.patch_size); // [B, C, H, W]
            frames.push(pictures.unsqueeze_dim::<5>(1));
        }
        if later > 0 {
            let x = features.narrow(1, count - later, later);
            let x = linear_layer(&self.later, x.reshape([batch * later, patches, width]));
            let pictures = unpatchify(x, self.patch_size); // [B * later, frames * C, H, W]
            let [_, _, height, width] = pictures.dims();
            let shown = later * self.frames_per_group;
            frames.push(pictures.reshape([batch, shown, self.channels, height, width]));
        }
        Tensor::cat(frames, 1)
    }
}
