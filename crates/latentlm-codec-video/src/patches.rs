//! Frames to patches and back, and patches to latents and back.

use burn::tensor::Tensor;

/// Pictures to patches. The numbers of a patch are in the order channel, row, column.
///
/// # Shapes
/// - `pictures`: `[B, C, H, W]`
/// - returns: `[B, P, C * side * side]`
pub(crate) fn patchify(pictures: Tensor<4>, side: usize) -> Tensor<3> {
    let [batch, channels, height, width] = pictures.dims();
    let (rows, columns) = (height / side, width / side);
    pictures
        .reshape([batch, channels, rows, side, columns, side])
        .permute([0, 2, 4, 1, 3, 5])
        .reshape([batch, rows * columns, channels * side * side])
}

/// The inverse of [`patchify`] for a square grid.
///
/// # Shapes
/// - `patches`: `[B, P, C * side * side]`
/// - returns: `[B, C, H, W]`
pub(crate) fn unpatchify(patches: Tensor<3>, side: usize) -> Tensor<4> {
    let [batch, count, numbers] = patches.dims();
    let (grid, channels) = (count.isqrt(), numbers / (side * side));
    patches
        .reshape([batch, grid, grid, channels, side, side])
        .permute([0, 3, 1, 4, 2, 5])
        .reshape([batch, channels, grid * side, grid * side])
}

/// Joins each square of `side * side` patches into one latent, row by row.
///
/// # Shapes
/// - `patches`: `[B, G, P, E]`, a square grid in each group
/// - returns: `[B, G * L, side * side * E]`, where `L = P / side^2`
pub(crate) fn join(patches: Tensor<4>, side: usize) -> Tensor<3> {
    let [batch, groups, count, numbers] = patches.dims();
    let grid = count.isqrt() / side;
    patches
        .reshape([batch * groups, grid, side, grid, side, numbers])
        .permute([0, 1, 3, 2, 4, 5])
        .reshape([batch, groups * grid * grid, side * side * numbers])
}

/// The inverse of [`join`] for a square grid of `grid * grid` latents in each group.
///
/// # Shapes
/// - `latents`: `[B, G * L, side * side * E]`
/// - returns: `[B, G, P, E]`
pub(crate) fn split(latents: Tensor<3>, grid: usize, side: usize) -> Tensor<4> {
    let [batch, count, dim] = latents.dims();
    let (groups, numbers) = (count / (grid * grid), dim / (side * side));
    latents
        .reshape([batch * groups, grid, grid, side, side, numbers])
        .permute([0, 1, 3, 2, 4, 5])
        .reshape([batch, groups, grid * side * grid * side, numbers])
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::{Device, Int};

    fn counted<const D: usize>(shape: [usize; D], device: &Device) -> Tensor<D> {
        let count = shape.iter().product::<usize>() as i64;
        let values: Vec<i64> = (0..count).collect();
        Tensor::<1, Int>::from_ints(values.as_slice(), device)
            .float()
            .reshape(shape)
    }

    fn values<const D: usize>(x: Tensor<D>) -> Vec<f32> {
        x.into_data().try_to_vec().unwrap()
    }

    #[test]
    fn patches_are_in_the_order_channel_row_column() {
        let device = Device::default();
        let pictures = counted([1, 2, 4, 4], &device);
        let patches = patchify(pictures.clone(), 2);
        assert_eq!(patches.dims(), [1, 4, 8]);
        // The second patch: rows 0..2, columns 2..4; the second channel begins at 16.
        let second = values(patches.clone().narrow(1, 1, 1));
        assert_eq!(second, [2., 3., 6., 7., 18., 19., 22., 23.]);
        assert_eq!(unpatchify(patches, 2).into_data(), pictures.into_data());
    }

    /// Two groups of 4 x 4 patches, one number each, joined by 2 x 2.
    #[test]
    fn a_latent_is_a_square_of_patches() {
        let device = Device::default();
        let patches = counted([1, 2, 16, 1], &device);
        let latents = join(patches.clone(), 2);
        assert_eq!(latents.dims(), [1, 8, 4]);
        assert_eq!(
            values(latents.clone().narrow(1, 1, 1)),
            [2., 3., 6., 7.],
            "the latent right of the first"
        );
        assert_eq!(
            values(latents.clone().narrow(1, 4, 1)),
            [16., 17., 20., 21.],
            "the first latent of the second group"
        );
        assert_eq!(split(latents, 2, 2).into_data(), patches.into_data());
    }
}
