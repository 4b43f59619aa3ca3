//! Convolution by 3 x 3 taps, every pixel an output, by minimal filtering (Lavin and Gray, "Fast Algorithms for
//! Convolutional Neural Networks", arXiv 1509.09308, F(2 x 2, 3 x 3)): of a tile of 4 x 4 inputs come 2 x 2
//! outputs with 16 multiplications a channel where 36 would be needed, and what is laid out for the matrix
//! products is four numbers a pixel instead of nine.
//!
//! An output tile is `A' (G w G' * B' x B) A`, with `*` number by number, summed over channels. The sums are 16
//! matrix products over a block of tiles, one for each place in a tile. Gradients are the same steps backwards.

use std::ops::Range;

use rayon::prelude::*;

use super::conv2d::Conv2d;
use super::matrix::{Matrix, product_into, product_over};
use super::tiles::{
    PLACES, Stack, add_to_pictures, from_outputs, from_pictures, into_outputs, transform_weights,
    weight_gradient,
};
use crate::conv2d::Window;
use crate::workers::cut;

/// Tiles of a block, about: their transforms stay in the second cache.
const TILES: usize = 64;
/// Channels below which the products are too narrow to make up for the transforms.
const LEAST_CHANNELS: usize = 16;
/// Parts of a batch, at most, whose gradients of the weight are summed by themselves; their number does
/// not depend on the threads, so that the sum does not.
const PARTS: usize = 8;
/// Tiles that a part has at least: for fewer its sum, of which a layer of 128 channels has a
/// megabyte, would be no smaller than what is added to it.
const TILES_A_PART: usize = 8 * TILES;

/// A convolution by such taps.
#[derive(Clone, Copy)]
pub(super) struct Winograd<'a>(Conv2d<'a>);

impl<'a> Winograd<'a> {
    /// A convolution, if its taps are such and the transforms are worth it: for wide layers, and for so
    /// many tiles that the weights' transform is small beside them.
    pub(super) fn of(convolution: Conv2d<'a>) -> Option<Self> {
        let Window {
            stride, dilation, ..
        } = convolution.window;
        let taps = (convolution.kernel, stride, dilation) == ([3, 3], [1, 1], [1, 1]);
        let wide = convolution.input.min(convolution.output) >= LEAST_CHANNELS;
        let pixels = convolution.batch * convolution.size.iter().product::<usize>();
        (taps && wide && pixels >= 4 * TILES).then_some(Self(convolution))
    }

    /// Rows and columns of tiles.
    fn tiles(&self) -> [usize; 2] {
        self.0.out_size().map(|size| size.div_ceil(2))
    }

    fn out_picture(&self) -> usize {
        let [height, width] = self.0.out_size();
        self.0.output * height * width
    }

    /// Rows of tiles of so many pictures, in blocks.
    fn blocks(&self, pictures: usize) -> impl Iterator<Item = Range<usize>> {
        let [down, across] = self.tiles();
        let rows = pictures * down;
        let step = (TILES / across).clamp(1, rows.max(1));
        (0..rows.div_ceil(step)).map(move |block| block * step..((block + 1) * step).min(rows))
    }

    fn stack(&self, channels: usize, size: [usize; 2], offset: [usize; 2]) -> Stack {
        Stack {
            channels,
            size,
            offset,
            tiles: self.tiles(),
        }
    }

    fn x_stack(&self) -> Stack {
        self.stack(self.0.input, self.0.size, self.0.window.padding)
    }

    fn y_stack(&self) -> Stack {
        self.stack(self.0.output, self.0.out_size(), [0, 0])
    }

    /// `[batch, output, rows, columns]`
    pub(super) fn forward(&self, bias: Option<&[f32]>) -> Vec<f32> {
        let weights = transform_weights(self.0.weight);
        let [down, across] = self.tiles();
        let pictures = TILES.div_ceil(down * across);
        let mut out = vec![0.0; self.0.batch * self.out_picture()];
        let x = self.0.x.par_chunks(pictures * self.0.picture());
        out.par_chunks_mut(pictures * self.out_picture())
            .zip(x)
            .for_each(|(out, x)| {
                let mut block = Block::new(self);
                for rows in self.blocks(x.len() / self.0.picture()) {
                    block.take_x(self.x_stack(), x, &rows);
                    block.multiply(&weights);
                    into_outputs(&block.y, self.y_stack(), &rows, out);
                }
                let [height, width] = self.0.out_size();
                let planes = out.chunks_exact_mut(height * width);
                for (index, plane) in planes.enumerate() {
                    let bias = bias.map_or(0.0, |bias| bias[index % self.0.output]);
                    plane.iter_mut().for_each(|y| *y += bias);
                }
            });
        out
    }

    /// The gradients of the input and of the weight, those of the two that are wanted.
    pub(super) fn gradients(&self, dout: &[f32], wanted: [bool; 2]) -> [Option<Vec<f32>>; 2] {
        let weights = transform_weights(self.0.weight);
        let mut dx = vec![0.0; if wanted[0] { self.0.x.len() } else { 0 }];
        let mut rest = dx.as_mut_slice();
        let tiles = self.0.batch * self.tiles().iter().product::<usize>();
        let count = (tiles / TILES_A_PART).min(PARTS).min(self.0.batch);
        let parts = cut(self.0.batch, count.max(1));
        let parts = parts.into_iter().map(|pictures| {
            let own = wanted[0] as usize * pictures.len() * self.0.picture();
            let dx;
            (dx, rest) = std::mem::take(&mut rest).split_at_mut(own);
            (pictures, dx)
        });
        let parts: Vec<_> = parts.collect();
        let sums = parts.into_par_iter().map(|(pictures, dx)| {
            let x = &self.0.x[pictures.start * self.0.picture()..pictures.end * self.0.picture()];
            let dout =
                &dout[pictures.start * self.out_picture()..pictures.end * self.out_picture()];
            self.part(x, dout, &weights, dx, wanted)
        });
        let sums: Vec<Vec<f32>> = sums.collect();
        let dw = wanted[1].then(|| {
            let mut sums = sums.into_iter();
            let mut total = sums.next().unwrap_or_default();
            for part in sums {
                total.iter_mut().zip(part).for_each(|(sum, x)| *sum += x);
            }
            weight_gradient(&total)
        });
        [wanted[0].then_some(dx), dw]
    }

    /// Some pictures' gradients: of the input into `dx`, of the transformed weight as a result.
    fn part(
        &self,
        x: &[f32],
        dout: &[f32],
        weights: &[f32],
        dx: &mut [f32],
        wanted: [bool; 2],
    ) -> Vec<f32> {
        let mut sum = vec![0.0; if wanted[1] { weights.len() } else { 0 }];
        let mut block = Block::new(self);
        for rows in self.blocks(x.len() / self.0.picture()) {
            block.take_dy(self.y_stack(), dout, &rows);
            if wanted[1] {
                block.take_x(self.x_stack(), x, &rows);
                block.add_weights(&mut sum);
            }
            if wanted[0] {
                block.multiply_back(weights);
                add_to_pictures(&block.x, self.x_stack(), &rows, dx);
            }
        }
        sum
    }
}

/// Numbers between two places: places that began a power of two apart would share lines of the first
/// cache, which has room for half of them.
const GAP: usize = 16;

/// Tiles of a block, transformed: `[place, channel, tile]` on both sides of the products.
struct Block {
    x: Vec<f32>,
    y: Vec<f32>,
    channels: [usize; 2],
    tiles: usize,
}

impl Block {
    fn new(of: &Winograd<'_>) -> Self {
        Self {
            x: Vec::new(),
            y: Vec::new(),
            channels: [of.0.input, of.0.output],
            tiles: 0,
        }
    }

    fn hold(&mut self, tiles: usize) {
        if self.tiles != tiles {
            let [input, output] = self.channels;
            self.x.resize(PLACES * (input * tiles + GAP), 0.0);
            self.y.resize(PLACES * (output * tiles + GAP), 0.0);
            self.tiles = tiles;
        }
    }

    fn take_x(&mut self, stack: Stack, x: &[f32], rows: &Range<usize>) {
        self.hold(rows.len() * stack.tiles[1]);
        from_pictures(x, stack, rows, &mut self.x);
    }

    fn take_dy(&mut self, stack: Stack, dy: &[f32], rows: &Range<usize>) {
        self.hold(rows.len() * stack.tiles[1]);
        from_outputs(dy, stack, rows, &mut self.y);
    }

    /// Where the tiles of a place stand on both sides.
    fn place(&self, place: usize) -> [Range<usize>; 2] {
        self.channels.map(|channels| {
            let numbers = channels * self.tiles;
            let start = place * (numbers + GAP);
            start..start + numbers
        })
    }

    /// The transformed weights of a place.
    fn filter<'a>(&self, place: usize, weights: &'a [f32]) -> Matrix<'a> {
        let [input, output] = self.channels;
        let pairs = input * output;
        Matrix::new(&weights[place * pairs..(place + 1) * pairs], output, input)
    }

    fn multiply(&mut self, weights: &[f32]) {
        for place in 0..PLACES {
            let [x, y] = self.place(place);
            let x = Matrix::new(&self.x[x], self.channels[0], self.tiles);
            let filter = self.filter(place, weights);
            product_over(&mut self.y[y], filter, x, true);
        }
    }

    fn multiply_back(&mut self, weights: &[f32]) {
        for place in 0..PLACES {
            let [x, y] = self.place(place);
            let dy = Matrix::new(&self.y[y], self.channels[1], self.tiles);
            let filter = self.filter(place, weights).transposed();
            product_over(&mut self.x[x], filter, dy, true);
        }
    }

    fn add_weights(&self, sum: &mut [f32]) {
        let [input, output] = self.channels;
        for (place, sum) in sum.chunks_exact_mut(input * output).enumerate() {
            let [x, y] = self.place(place);
            let x = Matrix::new(&self.x[x], input, self.tiles);
            let dy = Matrix::new(&self.y[y], output, self.tiles);
            product_into(sum, input, true, 1.0, [dy, x.transposed()]);
        }
    }
}
