//! Convolution with 3 x 3 taps and stride 1 by minimal filtering (Lavin and Gray, "Fast Algorithms for
//! Convolutional Neural Networks", arXiv 1509.09308, F(2 x 2, 3 x 3)). A tile of 4 x 4 inputs gives 2 x 2
//! outputs with 16 multiplications for each pair of channels instead of 36, and the matrix products read
//! four numbers for each pixel instead of the nine of an unfolded picture.
//!
//! An output tile is `A' (G w G' * B' x B) A`, summed over input channels, where `*` multiplies number by
//! number and `'` transposes. The sums are 16 matrix products over a block of tiles, one for each place in a
//! tile. Gradients go through the same steps backwards.
//!
//! The step of the convolutional codec took 292 ms with it instead of 346 (docs/log.md, 2026-11-25). Larger
//! tiles would save more products and round worse; they were not tried.

use std::ops::Range;

use rayon::prelude::*;

use super::pictures::{Conv2d, ConvGradients, Wanted, Window, add_in_order, add_to_planes};
use crate::filtering::{
    PLACES, Stack, add_to_pictures, from_outputs, from_pictures, into_outputs, transform_weights,
    weight_gradient,
};
use latentlm_products::tasks::cut;
use latentlm_products::{Matrix, Output, product_into, product_over};

/// Approximate number of tiles in a block. The transforms of a block stay in the second-level cache; blocks of
/// 32 and of 128 tiles were slower (docs/log.md, 2026-11-25).
const TILES: usize = 64;
/// Fewest channels for which the matrix products are wide enough to make up for the transforms.
const LEAST_CHANNELS: usize = 16;
/// Most shards of a batch that sum up the gradient of the weight on their own. Their number does not depend
/// on the threads, and so neither does the sum.
const SHARDS: usize = 8;
/// Fewest tiles of a shard. Each shard has a sum as large as the transformed weight, a megabyte for 128
/// channels; with fewer tiles the sum would be as large as the numbers that are added to it.
const TILES_A_SHARD: usize = 8 * TILES;

/// A convolution that minimal filtering is used for.
#[derive(Debug, Clone, Copy)]
pub struct Winograd<'a>(Conv2d<'a>);

impl<'a> Winograd<'a> {
    /// The convolution, if it has 3 x 3 taps with stride 1 and the transforms pay: the layer must be wide,
    /// and have enough tiles that the transform of the weight is small beside theirs.
    pub fn of(convolution: Conv2d<'a>) -> Option<Self> {
        let Window {
            stride, dilation, ..
        } = convolution.window;
        // The transforms are those of 3 x 3 taps whose tiles lie side by side. Strided or dilated taps see other
        // pixels, and other kernels have other transforms; all of these stay with unfolded bands.
        let taps = (convolution.kernel, stride, dilation) == ([3, 3], [1, 1], [1, 1]);
        // A channel is transformed once, and its numbers then enter a product for each channel of the other
        // side. With few of these the transforms weigh more than the products save.
        let wide = convolution.input.min(convolution.output) >= LEAST_CHANNELS;
        let pixels = convolution.batch * convolution.size.iter().product::<usize>();
        (taps && wide && pixels >= 4 * TILES).then_some(Self(convolution))
    }

    /// Rows and columns of tiles.
    fn tiles(&self) -> [usize; 2] {
        self.0.out_size().map(|size| size.div_ceil(2))
    }

    /// Numbers in an output picture.
    fn out_picture(&self) -> usize {
        let [height, width] = self.0.out_size();
        self.0.output * height * width
    }

    /// Blocks of the given number of pictures: ranges of rows of tiles, counted over all pictures.
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

    /// The input side of the convolution.
    fn x_stack(&self) -> Stack {
        self.stack(self.0.input, self.0.size, self.0.window.padding)
    }

    /// The output side of the convolution.
    fn y_stack(&self) -> Stack {
        self.stack(self.0.output, self.0.out_size(), [0, 0])
    }

    /// The outputs, `[batch, output, rows, columns]`; `bias` is `[output]`.
    pub fn forward(&self, bias: Option<&[f32]>) -> Vec<f32> {
        // Once for the whole batch: the optimizer changes weights with every step, so that a transform that is
        // kept would soon be wrong.
        let weights = transform_weights(self.0.weight);
        let [down, across] = self.tiles();
        // Small pictures share a task, so that its blocks are full.
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
                if let Some(bias) = bias {
                    let [height, width] = self.0.out_size();
                    for picture in out.chunks_exact_mut(self.out_picture()) {
                        add_to_planes(picture, height * width, bias);
                    }
                }
            });
        out
    }

    /// The gradients of the input and of the weight, as far as they are wanted, from that of the outputs.
    pub fn gradients(&self, dout: &[f32], wanted: Wanted) -> ConvGradients {
        let weights = transform_weights(self.0.weight);
        let mut dx = vec![0.0; if wanted.x { self.0.x.len() } else { 0 }];
        // Gradients of the input belong to one picture, those of the weight are sums over all. So a shard has
        // whole pictures and a sum of its own, and there are few of them: with one for each picture, sums of
        // small pictures cost more than they save.
        let tiles = self.0.batch * self.tiles().iter().product::<usize>();
        let count = (tiles / TILES_A_SHARD).min(SHARDS).min(self.0.batch);
        let (mut rest, mut shards) = (dx.as_mut_slice(), Vec::new());
        for pictures in cut(self.0.batch, count.max(1)) {
            let numbers = pictures.start * self.0.picture()..pictures.end * self.0.picture();
            let (first, others) = rest.split_at_mut(if wanted.x { numbers.len() } else { 0 });
            rest = others;
            shards.push(Shard {
                x: &self.0.x[numbers],
                dout: &dout[pictures.start * self.out_picture()..pictures.end * self.out_picture()],
                dx: first,
            });
        }
        let sums: Vec<Vec<f32>> = shards
            .into_par_iter()
            .map(|shard| self.shard_gradients(shard, &weights, wanted))
            .collect();
        ConvGradients {
            weight: wanted.weight.then(|| weight_gradient(&add_in_order(sums))),
            x: wanted.x.then_some(dx),
        }
    }

    /// Writes the gradient of a shard's input into its `dx`, and returns the gradient of the transformed
    /// weight. It is empty if it is not wanted.
    fn shard_gradients(&self, shard: Shard<'_>, weights: &[f32], wanted: Wanted) -> Vec<f32> {
        let mut sum = vec![0.0; if wanted.weight { weights.len() } else { 0 }];
        let mut block = Block::new(self);
        for rows in self.blocks(shard.x.len() / self.0.picture()) {
            // Both gradients need the transformed gradient of the outputs, so a block serves both while it is
            // in the cache. `multiply_back` writes over the input tiles: the weight comes first.
            block.take_dy(self.y_stack(), shard.dout, &rows);
            if wanted.weight {
                block.take_x(self.x_stack(), shard.x, &rows);
                block.add_weights(&mut sum);
            }
            if wanted.x {
                block.multiply_back(weights);
                add_to_pictures(&block.x, self.x_stack(), &rows, shard.dx);
            }
        }
        sum
    }
}

/// Pictures of a batch that one thread computes the gradients for.
struct Shard<'a> {
    x: &'a [f32],
    dout: &'a [f32],
    /// Gradient of `x`, to be written; empty if it is not wanted.
    dx: &'a mut [f32],
}

/// Unused numbers between two places. Without them places would start a power of two apart and share sets of
/// the first-level cache, which has room for half of the 16 places.
const GAP: usize = 16;

/// The transformed tiles of a block.
struct Block {
    /// Input side of the products, `[place, input channel, tile]`, with gaps between places.
    x: Vec<f32>,
    /// Output side of the products, `[place, output channel, tile]`, with gaps between places.
    y: Vec<f32>,
    /// Input and output channels.
    channels: [usize; 2],
    tiles: usize,
}

impl Block {
    fn new(winograd: &Winograd<'_>) -> Self {
        Self {
            x: Vec::new(),
            y: Vec::new(),
            channels: [winograd.0.input, winograd.0.output],
            tiles: 0,
        }
    }

    /// Makes room for a number of tiles.
    fn resize(&mut self, tiles: usize) {
        if self.tiles != tiles {
            let [input, output] = self.channels;
            self.x.resize(PLACES * (input * tiles + GAP), 0.0);
            self.y.resize(PLACES * (output * tiles + GAP), 0.0);
            self.tiles = tiles;
        }
    }

    /// Transforms the input tiles of a block.
    fn take_x(&mut self, stack: Stack, x: &[f32], rows: &Range<usize>) {
        self.resize(rows.len() * stack.tiles[1]);
        from_pictures(x, stack, rows, &mut self.x);
    }

    /// Transforms the gradient of the output tiles of a block.
    fn take_dy(&mut self, stack: Stack, dy: &[f32], rows: &Range<usize>) {
        self.resize(rows.len() * stack.tiles[1]);
        from_outputs(dy, stack, rows, &mut self.y);
    }

    /// The numbers of a place, in `x` and in `y`.
    fn place(&self, place: usize) -> [Range<usize>; 2] {
        self.channels.map(|channels| {
            let numbers = channels * self.tiles;
            let start = place * (numbers + GAP);
            start..start + numbers
        })
    }

    /// The transformed weight of a place, `[output, input]`.
    fn filter<'a>(&self, place: usize, weights: &'a [f32]) -> Matrix<'a> {
        let [input, output] = self.channels;
        let pairs = input * output;
        Matrix::new(&weights[place * pairs..(place + 1) * pairs], output, input)
    }

    /// `y = weight x` at each place.
    fn multiply(&mut self, weights: &[f32]) {
        for place in 0..PLACES {
            let [x, y] = self.place(place);
            let x = Matrix::new(&self.x[x], self.channels[0], self.tiles);
            let filter = self.filter(place, weights);
            // Alone: other threads have pictures of their own.
            product_over(&mut self.y[y], filter, x, true);
        }
    }

    /// `x = weight' y` at each place: the gradient of `x`.
    fn multiply_back(&mut self, weights: &[f32]) {
        for place in 0..PLACES {
            let [x, y] = self.place(place);
            let dy = Matrix::new(&self.y[y], self.channels[1], self.tiles);
            let filter = self.filter(place, weights).transposed();
            product_over(&mut self.x[x], filter, dy, true);
        }
    }

    /// `sum += y x'` at each place: the gradient of the transformed weight.
    fn add_weights(&self, sum: &mut [f32]) {
        let [input, output] = self.channels;
        for (place, sum) in sum.chunks_exact_mut(input * output).enumerate() {
            let [x, y] = self.place(place);
            let x = Matrix::new(&self.x[x], input, self.tiles);
            let dy = Matrix::new(&self.y[y], output, self.tiles);
            product_into(sum, Output::add(input), dy, x.transposed());
        }
    }
}
