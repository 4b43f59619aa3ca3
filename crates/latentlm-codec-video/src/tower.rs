//! Encoder and decoder: patches of the first frame and of groups of frames, blocks, and a layer to the other side.

use burn::module::Module;
use burn::nn::{Linear, LinearConfig};
use burn::tensor::{Device, Tensor};
use latentlm_kernels::{linear_layer, tanh};

use crate::block::Trunk;
use crate::config::{Joint, VideoSigmaVaeConfig};
use crate::motion::Motion;
use crate::patches::{join, patchify, split, unpatchify};
use crate::stream::{Chunk, Shown};

/// Frames to latents.
#[derive(Module, Debug)]
pub(crate) struct Encoder {
    /// Embeds the patches of the first frame.
    first: Linear,
    /// Embeds the patches of the groups after it.
    later: Linear,
    trunk: Trunk,
    output: Linear,
    /// For the groups after the first frame, if their latents join other numbers of patches.
    output_later: Option<Linear>,
    channels: usize,
    image_size: usize,
    patch_size: usize,
    frames_per_group: usize,
    #[module(skip)]
    joints: [Joint; 2],
}

impl Encoder {
    pub(crate) fn new(config: &VideoSigmaVaeConfig, device: &Device) -> Self {
        let (width, joints) = (config.encoder_width, [config.first(), config.later()]);
        let linear = |input, output| LinearConfig::new(input, output).init(device);
        Self {
            first: linear(config.patch_pixels(1), width),
            later: linear(config.patch_pixels(config.frames_per_group), width),
            trunk: Trunk::new(config, width, config.encoder_depth, device),
            output: linear(width, joints[0].numbers),
            output_later: (joints[0] != joints[1]).then(|| linear(width, joints[1].numbers)),
            channels: config.channels,
            image_size: config.image_size,
            patch_size: config.patch_size,
            frames_per_group: config.frames_per_group,
            joints,
        }
    }

    /// # Shapes
    /// - `frames`: `[B, F, C, H, W]`
    /// - returns: `[B, T, Z]`
    ///
    /// # Panics
    /// If the frames have another size, or don't fill their groups.
    pub(crate) fn forward(&self, frames: Tensor<5>, mut chunk: Chunk<'_>) -> Tensor<3> {
        let x = self.embed(frames, chunk.begins); // [B, G, P, D]
        let x = self.trunk.forward(x, &mut chunk.pass);
        let layers = [
            &self.output,
            self.output_later.as_ref().unwrap_or(&self.output),
        ];
        let mut latents = Vec::with_capacity(2);
        for (index, x) in parted(x, chunk.begins).into_iter().enumerate() {
            if let Some(x) = x {
                latents.push(join(
                    linear_layer(layers[index], x),
                    self.joints[index].side,
                ));
            }
        }
        Tensor::cat(latents, 1)
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

/// The group of the first frame, if `x` begins with it, and the groups after it, if there are any.
///
/// # Shapes
/// - `x`: `[B, G, P, D]`
fn parted(x: Tensor<4>, begins: bool) -> [Option<Tensor<4>>; 2] {
    let (groups, first) = (x.dims()[1], usize::from(begins));
    let part = |from, count| (count > 0).then(|| x.clone().narrow(1, from, count));
    [part(0, first), part(first, groups - first)]
}

/// Latents to frames: blocks, then Linear, Tanh and Linear to the pixels of each patch. With motion, frames of groups
/// are shifted parts of the first frame plus these pixels.
#[derive(Module, Debug)]
pub(crate) struct Decoder {
    input: Linear,
    /// For the groups after the first frame, if their latents join other numbers of patches.
    input_later: Option<Linear>,
    trunk: Trunk,
    hidden: Linear,
    /// Projection to the pixels of the first frame.
    pub(crate) first: Linear,
    /// Projection to the pixels of the groups after it.
    pub(crate) later: Linear,
    motion: Option<Motion>,
    channels: usize,
    patch_size: usize,
    frames_per_group: usize,
    #[module(skip)]
    joints: [Joint; 2],
}

impl Decoder {
    pub(crate) fn new(config: &VideoSigmaVaeConfig, device: &Device) -> Self {
        let (width, joints) = (config.decoder_width, [config.first(), config.later()]);
        let linear = |input, output| LinearConfig::new(input, output).init(device);
        Self {
            input: linear(joints[0].numbers, width),
            input_later: (joints[0] != joints[1]).then(|| linear(joints[1].numbers, width)),
            trunk: Trunk::new(config, width, config.decoder_depth, device),
            hidden: linear(width, width),
            first: linear(width, config.patch_pixels(1)),
            later: linear(width, config.patch_pixels(config.frames_per_group)),
            motion: Motion::new(config, device),
            channels: config.channels,
            patch_size: config.patch_size,
            frames_per_group: config.frames_per_group,
            joints,
        }
    }

    /// The decoder without its last layers.
    ///
    /// # Shapes
    /// - `latents`: `[B, T, Z]`
    /// - returns: `[B, G, P, D]`
    ///
    /// # Panics
    /// If the latents are no whole groups.
    pub(crate) fn features(&self, latents: Tensor<3>, chunk: &mut Chunk<'_>) -> Tensor<4> {
        let [first, later] = self.joints;
        let count = latents.dims()[1];
        let begin = if chunk.begins { first.latents() } else { 0 };
        assert!(
            count > 0 && count >= begin && (count - begin).is_multiple_of(later.latents()),
            "{count} latents are no groups of {}",
            later.latents()
        );
        let mut embedded = Vec::with_capacity(2);
        if begin > 0 {
            let patches = split(latents.clone().narrow(1, 0, begin), first.grid, first.side);
            embedded.push(linear_layer(&self.input, patches));
        }
        if count > begin {
            let layer = self.input_later.as_ref().unwrap_or(&self.input);
            let patches = split(
                latents.narrow(1, begin, count - begin),
                later.grid,
                later.side,
            );
            embedded.push(linear_layer(layer, patches));
        }
        let x = Tensor::cat(embedded, 1);
        let x = self.trunk.forward(x, &mut chunk.pass);
        tanh(linear_layer(&self.hidden, x))
    }

    /// The last layers. `shown` is new at the start of a clip, and has the first frame afterwards, if there is motion.
    ///
    /// # Shapes
    /// - `features`: `[B, G, P, D]`
    /// - returns: `[B, F, C, H, W]`
    pub(crate) fn finish(&self, features: Tensor<4>, shown: &mut Shown) -> Tensor<5> {
        let [first, later] = parted(features, !shown.begun);
        shown.begun = true;
        let mut frames = Vec::with_capacity(2);
        if let Some(features) = first {
            let x = linear_layer(&self.first, features.squeeze_dim::<3>(1));
            let picture = unpatchify(x, self.patch_size); // [B, C, H, W]
            shown.first = self.motion.as_ref().map(|_| picture.clone());
            frames.push(picture.unsqueeze_dim::<5>(1));
        }
        if let Some(features) = later {
            frames.push(self.groups(features, shown.first.clone()));
        }
        Tensor::cat(frames, 1)
    }

    /// Frames of groups, `[B, G, P, D]` to `[B, F, C, H, W]`, with shifted parts of the first frame if there is motion.
    fn groups(&self, features: Tensor<4>, first: Option<Tensor<4>>) -> Tensor<5> {
        let batch = features.dims()[0];
        let mut pixels = linear_layer(&self.later, features.clone());
        if let (Some(motion), Some(first)) = (&self.motion, first) {
            pixels = pixels + motion.shifted(features, first);
        }
        let [_, groups, patches, count] = pixels.dims();
        self.as_frames(pixels.reshape([batch * groups, patches, count]), batch)
    }

    /// Pixels of patches as frames, `[B * G, P, frames * C * side * side]` to `[B, F, C, H, W]`.
    fn as_frames(&self, pixels: Tensor<3>, batch: usize) -> Tensor<5> {
        let groups = pixels.dims()[0] / batch;
        let pictures = unpatchify(pixels, self.patch_size); // [B * G, frames * C, H, W]
        let [_, _, height, width] = pictures.dims();
        let count = groups * self.frames_per_group;
        pictures.reshape([batch, count, self.channels, height, width])
    }
}
