//! Motion in the decoder: each patch of a frame as a shifted part of the clip's first frame.
//!
//! Latents that say where a patch comes from need not say again what it shows. So what a language model draws once, in
//! the first frame, stays what it is, and what it draws a little wrong does not add up from group to group. The shift
//! is a distribution over rows times one over columns, as in transformation by dynamic kernels (Finn et al. 2016,
//! arXiv 1605.07157), so that all shifts get a gradient and fractions of a pixel are mixtures.

use burn::module::Module;
use burn::nn::{Linear, LinearConfig};
use burn::tensor::activation::{sigmoid, softmax};
use burn::tensor::ops::PadMode;
use burn::tensor::{Device, Tensor};
use latentlm_kernels::linear_layer;

use crate::config::VideoSigmaVaeConfig;

/// Shifts of the patches of all groups but the first, out of the decoder's features.
#[derive(Module, Debug)]
pub(crate) struct Motion {
    /// Scores of shifts down and across of the first frame, for each frame of a patch. The name keeps out checkpoints in
    /// which `shift` was of the frame before the group.
    first_shift: Linear,
    /// How much is kept of what is shifted, for each pixel of the frames of a patch.
    keep: Linear,
    range: usize,
    frames: usize,
    patch_size: usize,
}

impl Motion {
    /// None if nothing is shifted. No shift is as long as a frame.
    pub(crate) fn new(config: &VideoSigmaVaeConfig, device: &Device) -> Option<Self> {
        let (width, frames) = (config.decoder_width, config.frames_per_group);
        let range = config.motion_range.0.min(config.image_size - 1);
        let linear = |output| LinearConfig::new(width, output).init(device);
        (range > 0).then(|| Self {
            first_shift: linear(frames * 2 * (2 * range + 1)),
            keep: linear(frames * config.patch_size * config.patch_size),
            range,
            frames,
            patch_size: config.patch_size,
        })
    }

    /// What is kept of the first frame after its patches are shifted, for each group.
    ///
    /// # Shapes
    /// - `features`: `[B, G, P, D]`; `first`: `[B, C, H, W]`
    /// - returns: `[B, G, P, frames * C * side * side]`
    pub(crate) fn shifted(&self, features: Tensor<4>, first: Tensor<4>) -> Tensor<4> {
        let [batch, groups, patches, _] = features.dims();
        let (side, kernel, channels) = (self.patch_size, 2 * self.range + 1, first.dims()[1]);
        let (frames, count) = (groups * self.frames, batch * patches);
        // All frames of a patch read from one window.
        let features = features.swap_dims(1, 2); // [B, P, G, D]
        let scores = linear_layer(&self.first_shift, features.clone());
        let scores = scores.reshape([count * frames, 2, kernel]);
        let matrices = self.matrices(softmax(scores, 2)); // [B * P * G * frames, 2, side, window]
        let window = side + kernel - 1;
        let along = |axis| matrices.clone().narrow(1, axis, 1);
        let down = along(0).reshape([count, frames * side, window]);
        let across = along(1).reshape([count * frames, side, window]);
        let windows = windows(first, side, window).reshape([count, window, channels * window]);
        let moved = down.matmul(windows); // [B * P, G * frames * side, C * window]
        let moved = moved
            .reshape([count, frames, side, channels, window])
            .permute([0, 1, 3, 2, 4])
            .reshape([count * frames, channels * side, window])
            .matmul(across.transpose()); // [B * P * G * frames, C * side, side]
        let pixels = side * side;
        let keep = sigmoid(linear_layer(&self.keep, features)).reshape([count * frames, 1, pixels]);
        let kept = moved.reshape([count * frames, channels, pixels]) * keep;
        kept.reshape([batch, patches, groups, self.frames * channels * pixels])
            .swap_dims(1, 2)
    }

    /// Kernels as matrices that read the pixels of a patch from its window: row `i` has the kernel from column `i` on.
    ///
    /// # Shapes
    /// - `kernels`: `[N, 2, K]`
    /// - returns: `[N, 2, side, window]`, where `window = side + K - 1`
    fn matrices(&self, kernels: Tensor<3>) -> Tensor<4> {
        let [count, axes, kernel] = kernels.dims();
        let (side, window) = (self.patch_size, self.patch_size + kernel - 1);
        // A row that is longer by one than the window, repeated and cut at the window's length, moves on by one.
        let zeros = Tensor::zeros([count, axes, side], &kernels.device());
        let row = Tensor::cat(vec![kernels, zeros], 2); // [N, 2, window + 1]
        let rows = row.repeat_dim(2, side);
        rows.narrow(2, 0, side * window)
            .reshape([count, axes, side, window])
    }
}

/// The window around each patch of a square frame. Beyond its border a frame goes on as at the border.
///
/// # Shapes
/// - `frame`: `[B, C, H, W]`
/// - returns: `[B * P, window, C, window]`
fn windows(frame: Tensor<4>, side: usize, window: usize) -> Tensor<4> {
    let [batch, channels, height, _] = frame.dims();
    let (grid, range) = (height / side, (window - side) / 2);
    let frame = frame.pad((range, range, range, range), PadMode::Edge);
    let rows = (0..grid).map(|row| frame.clone().narrow(2, row * side, window));
    let rows: Tensor<5> = Tensor::stack(rows.collect(), 1); // [B, rows, C, window, W]
    let columns = (0..grid).map(|column| rows.clone().narrow(4, column * side, window));
    let columns: Tensor<6> = Tensor::stack(columns.collect(), 2); // [B, rows, columns, C, window, window]
    columns
        .permute([0, 1, 2, 4, 3, 5])
        .reshape([batch * grid * grid, window, channels, window])
}

#[cfg(test)]
mod tests {
    use burn::module::Param;
    use latentlm_core::RandomStream;
    use latentlm_core::conformance::{assert_close, largest_error, seeded};

    use super::*;
    use crate::config::Added;
    use crate::patches::{patchify, unpatchify};

    /// Shifts of up to two pixels in pictures of 8 x 8, of two by two patches.
    fn motion(seed: u64, frames: usize, device: &Device) -> Motion {
        let config = VideoSigmaVaeConfig::new()
            .with_image_size(8)
            .with_patch_size(4)
            .with_frames_per_group(frames)
            .with_decoder_width(3)
            .with_motion_range(Added(2));
        seeded(seed, device, |device| Motion::new(&config, device)).unwrap()
    }

    /// A motion of two frames whose kernels have all their weight on one shift each, and which keeps everything.
    fn shifted_by(shifts: [[usize; 2]; 2], device: &Device) -> Motion {
        let mut motion = motion(1, 2, device);
        let mut scores = vec![0.0_f32; 2 * 2 * 5];
        for (frame, axes) in shifts.into_iter().enumerate() {
            for (axis, at) in axes.into_iter().enumerate() {
                scores[(frame * 2 + axis) * 5 + at] = 100.0;
            }
        }
        let bias = |values: &[f32]| Some(Param::from_tensor(Tensor::from_floats(values, device)));
        motion.first_shift.weight = motion.first_shift.weight.map(|weight| weight.zeros_like());
        motion.first_shift.bias = bias(&scores);
        motion.keep.weight = motion.keep.weight.map(|weight| weight.zeros_like());
        motion.keep.bias = bias(&[100.0; 32]);
        motion
    }

    /// Two pictures that a motion of one group makes of this frame, whatever the features.
    fn shown(motion: &Motion, frame: Tensor<4>) -> Tensor<4> {
        let features = Tensor::zeros([2, 1, 4, 3], &frame.device());
        unpatchify(motion.shifted(features, frame).squeeze_dim::<3>(1), 4)
    }

    /// Shifts are offsets into the window: 2 of a range of 2 is in place, 0 reads two pixels above or to the left.
    #[test]
    fn patches_are_read_where_the_kernel_points() {
        let device = Device::default();
        let frame: Tensor<4> = RandomStream::new(2).normal([2, 3, 8, 8], &device);
        let motion = shifted_by([[2, 2], [0, 3]], &device);
        let moved = shown(&motion, frame.clone()); // [B, frames * C, H, W]
        assert_close(
            "in place",
            moved.clone().narrow(1, 0, 3),
            frame.clone(),
            1e-6,
        );
        // Two rows from above, one column from the right; inside of the border.
        let second = moved.narrow(1, 3, 3).narrow(2, 2, 6).narrow(3, 0, 7);
        let expected = frame.clone().narrow(2, 0, 6).narrow(3, 1, 7);
        assert_close("shifted", second, expected, 1e-6);
        let motion = shifted_by([[2, 2], [0, 0]], &device);
        let moved = shown(&motion, frame.clone()).narrow(1, 3, 3);
        let corner = moved.narrow(2, 0, 3).narrow(3, 0, 3);
        let expected = frame
            .narrow(2, 0, 1)
            .narrow(3, 0, 1)
            .repeat_dim(2, 3)
            .repeat_dim(3, 3);
        assert_close("beyond the border", corner, expected, 1e-6);
    }

    /// Against a sum over all shifts, pixel by pixel, of two groups.
    #[test]
    fn a_distribution_of_shifts_is_a_mixture() {
        let device = Device::default();
        let motion = motion(3, 1, &device);
        let features: Tensor<4> = RandomStream::new(4).normal([1, 2, 4, 3], &device);
        let frame: Tensor<4> = RandomStream::new(5).normal([1, 1, 8, 8], &device);
        let got = motion.shifted(features.clone(), frame.clone());
        let padded = frame.pad((2, 2, 2, 2), PadMode::Edge);
        for group in 0..2 {
            let features = features.clone().narrow(1, group, 1).squeeze_dim::<3>(1);
            let scores = linear_layer(&motion.first_shift, features.clone()).reshape([4, 2, 5]);
            let kernels = softmax(scores, 2);
            let keep = sigmoid(linear_layer(&motion.keep, features));
            let mut expected = Tensor::<3>::zeros([1, 4, 16], &device);
            for down in 0..5 {
                for across in 0..5 {
                    let moved = padded.clone().narrow(2, down, 8).narrow(3, across, 8);
                    let axis = |axis, at| kernels.clone().narrow(1, axis, 1).narrow(2, at, 1);
                    let weight = (axis(0, down) * axis(1, across)).reshape([1, 4, 1]);
                    expected = expected + patchify(moved, 4) * weight;
                }
            }
            let got = got.clone().narrow(1, group, 1).squeeze_dim::<3>(1);
            assert_close("a mixture", got.clone(), expected.clone() * keep, 1e-6);
            assert!(largest_error(got, expected) > 1e-3, "not all is kept");
        }
    }
}
