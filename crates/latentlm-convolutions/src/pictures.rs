//! Convolution of pictures as matrix products (im2col), one band of output rows at a time. The unfolded
//! input of a band is small enough to stay in the cache and is never stored for a whole picture.

use std::ops::Range;

use multiversion::multiversion;
use rayon::prelude::*;

use latentlm_products::tasks::{cut, each_row};
use latentlm_products::{Matrix, Output, product_into, product_over};

/// Most numbers of a band's unfolded input: half a megabyte of the second-level cache.
// An unfolded picture has as many numbers for each pixel as the kernel has taps; a whole one would go out to
// memory and come back. Even in bands, unfolding and folding took a fifth of the convolutional codec's step before
// minimal filtering (docs/log.md, 2026-11-25).
const BAND: usize = 1 << 17;
/// Most shards of a batch that sum up the gradient of the weight on their own. The number is fixed, so that
/// the order of the sum, and with it the result, does not depend on the threads.
const SHARDS: usize = 8;

/// Positions of a convolution's taps in the picture. Each pair is for rows and columns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// Pixels from one output to the next.
    pub stride: [usize; 2],
    /// Pixels of zeros on each side of the picture.
    pub padding: [usize; 2],
    /// Pixels from one tap to the next.
    pub dilation: [usize; 2],
}

/// A convolution of pictures and its input.
#[derive(Debug, Clone, Copy)]
pub struct Conv2d<'a> {
    /// `[batch, input, height, width]`
    pub x: &'a [f32],
    /// `[output, input, kernel rows, kernel columns]`
    pub weight: &'a [f32],
    /// Pictures.
    pub batch: usize,
    /// Input channels.
    pub input: usize,
    /// Output channels.
    pub output: usize,
    /// Rows and columns of a picture.
    pub size: [usize; 2],
    /// Rows and columns of the kernel.
    pub kernel: [usize; 2],
    /// Positions of the taps.
    pub window: Window,
}

/// Which gradients of a convolution are needed.
#[derive(Debug, Clone, Copy)]
pub struct Wanted {
    /// That of the input.
    pub x: bool,
    /// That of the weight.
    pub weight: bool,
}

/// The gradients of a convolution that were needed.
#[derive(Debug)]
pub struct ConvGradients {
    /// `[batch, input, height, width]`
    pub x: Option<Vec<f32>>,
    /// `[output, input, kernel rows, kernel columns]`
    pub weight: Option<Vec<f32>>,
}

impl Conv2d<'_> {
    /// Rows and columns of the output.
    ///
    /// # Panics
    /// If the kernel is larger than a picture with its padding.
    pub fn out_size(&self) -> [usize; 2] {
        [0, 1].map(|axis| {
            let reach = self.window.dilation[axis] * (self.kernel[axis] - 1) + 1;
            let padded = self.size[axis] + 2 * self.window.padding[axis];
            assert!(reach <= padded, "a kernel larger than its picture");
            (padded - reach) / self.window.stride[axis] + 1
        })
    }

    /// Numbers in one channel of an output picture.
    fn plane(&self) -> usize {
        self.out_size().iter().product()
    }

    /// Input numbers that one output depends on, padding included.
    fn taps(&self) -> usize {
        self.input * self.kernel.iter().product::<usize>()
    }

    /// Numbers in an input picture.
    pub(super) fn picture(&self) -> usize {
        self.input * self.size.iter().product::<usize>()
    }

    /// The weight as a matrix, `[output, taps]`.
    fn weights(&self) -> Matrix<'_> {
        Matrix::new(self.weight, self.output, self.taps())
    }

    /// The bands: ranges of output rows.
    fn bands(&self) -> impl Iterator<Item = Range<usize>> {
        let [height, width] = self.out_size();
        let rows = (BAND / (self.taps() * width)).clamp(1, height);
        (0..height.div_ceil(rows)).map(move |band| band * rows..((band + 1) * rows).min(height))
    }

    /// Outputs along an axis for which `tap` lies within the picture, and the position of the tap for output
    /// 0, counted from the start of the padding.
    fn seen(&self, axis: usize, tap: usize) -> (Range<usize>, usize) {
        let (stride, padding) = (self.window.stride[axis], self.window.padding[axis]);
        let offset = tap * self.window.dilation[axis];
        let first = padding.saturating_sub(offset).div_ceil(stride);
        let end = (self.size[axis] + padding)
            .saturating_sub(offset)
            .div_ceil(stride)
            .min(self.out_size()[axis]);
        (first.min(end)..end, offset)
    }

    /// Calls `run` for each row of numbers that a tap sees in a band, without those in the padding. Its
    /// arguments are the start of the output row in the unfolded band, the output columns that have numbers,
    /// and the index of the first number in the picture.
    fn runs(&self, rows: &Range<usize>, mut run: impl FnMut(usize, Range<usize>, usize)) {
        let [height, width] = self.size;
        let out_width = self.out_size()[1];
        let [down, across] = self.window.stride;
        let [top, left] = self.window.padding;
        let mut at = 0;
        for channel in 0..self.input {
            for tap_row in 0..self.kernel[0] {
                let (seen_rows, below) = self.seen(0, tap_row);
                for tap_column in 0..self.kernel[1] {
                    let (columns, beside) = self.seen(1, tap_column);
                    for row in rows.clone() {
                        if seen_rows.contains(&row) && !columns.is_empty() {
                            let from_row = row * down + below - top;
                            let from = columns.start * across + beside - left;
                            let from = (channel * height + from_row) * width + from;
                            run(at, columns.clone(), from);
                        }
                        at += out_width;
                    }
                }
            }
        }
    }

    /// Unfolds a band: one row for each tap, one column for each output.
    // Taps outside, columns inside: a row of outputs reads neighboring pixels for the same tap, so that with a
    // stride of 1 it is a copy.
    fn unfold(&self, picture: &[f32], rows: &Range<usize>, columns: &mut Vec<f32>) {
        // Cleared, because nothing is written where a tap lies in the padding.
        columns.clear();
        columns.resize(self.taps() * rows.len() * self.out_size()[1], 0.0);
        let across = self.window.stride[1];
        self.runs(rows, |at, seen, from| {
            let to = &mut columns[at + seen.start..at + seen.end];
            // Strides of 1 and 2 have faster loops of their own: `step_by` takes number by number, pairs are read
            // as vectors. The last number has no partner where the picture ends.
            match across {
                1 => to.copy_from_slice(&picture[from..from + seen.len()]),
                2 => {
                    let (last, to) = to.split_last_mut().expect("a run has a number");
                    let pairs = picture[from..].as_chunks::<2>().0;
                    to.iter_mut().zip(pairs).for_each(|(to, [x, _])| *to = *x);
                    *last = picture[from + 2 * to.len()];
                }
                _ => {
                    let values = picture[from..].iter().step_by(across);
                    to.iter_mut().zip(values).for_each(|(to, x)| *to = *x);
                }
            }
        });
    }

    /// The way back from [`Self::unfold`]: adds each column's numbers to the pixels that they come from.
    fn fold(&self, columns: &[f32], rows: &Range<usize>, picture: &mut [f32]) {
        let across = self.window.stride[1];
        self.runs(rows, |at, seen, from| {
            let values = &columns[at + seen.start..at + seen.end];
            match across {
                1 => {
                    let to = &mut picture[from..from + seen.len()];
                    to.iter_mut().zip(values).for_each(|(to, x)| *to += x);
                }
                2 => {
                    let (last, values) = values.split_last().expect("a run has a number");
                    let pairs = picture[from..].as_chunks_mut::<2>().0;
                    pairs
                        .iter_mut()
                        .zip(values)
                        .for_each(|([to, _], x)| *to += x);
                    picture[from + 2 * values.len()] += last;
                }
                _ => {
                    let to = picture[from..].iter_mut().step_by(across);
                    to.zip(values).for_each(|(to, x)| *to += x);
                }
            }
        });
    }

    /// The outputs, `[batch, output, rows, columns]`; `bias` is `[output]`.
    pub fn forward(&self, bias: Option<&[f32]>) -> Vec<f32> {
        let (plane, width) = (self.plane(), self.out_size()[1]);
        let mut out = vec![0.0; self.batch * self.output * plane];
        each_row(&mut out, self.output * plane, |index, out| {
            let picture = &self.x[index * self.picture()..][..self.picture()];
            let mut columns = Vec::new();
            for rows in self.bands() {
                self.unfold(picture, &rows, &mut columns);
                let seen = Matrix::new(&columns, self.taps(), rows.len() * width);
                let out = &mut out[rows.start * width..];
                product_into(out, Output::replace(plane), self.weights(), seen);
            }
            if let Some(bias) = bias {
                add_to_planes(out, plane, bias);
            }
        });
        out
    }

    /// A band of the gradient of an output picture: one row for each channel.
    fn band<'a>(&self, dout: &'a [f32], rows: &Range<usize>) -> Matrix<'a> {
        let width = self.out_size()[1];
        let band = &dout[rows.start * width..];
        Matrix::strided(band, self.output, rows.len() * width, self.plane())
    }

    /// The gradients of the input and of the weight, as far as they are wanted, from that of the outputs.
    pub fn gradients(&self, dout: &[f32], wanted: Wanted) -> ConvGradients {
        ConvGradients {
            x: wanted.x.then(|| self.x_gradient(dout)),
            weight: wanted.weight.then(|| self.weight_gradient(dout)),
        }
    }

    /// The gradient of the input.
    fn x_gradient(&self, dout: &[f32]) -> Vec<f32> {
        let (plane, width) = (self.plane(), self.out_size()[1]);
        let mut dx = vec![0.0; self.x.len()];
        each_row(&mut dx, self.picture(), |index, dx| {
            let dout = &dout[index * self.output * plane..][..self.output * plane];
            let mut columns = Vec::new();
            for rows in self.bands() {
                // Not cleared: the product writes every number, also those of taps in the padding, which
                // `fold` leaves out.
                columns.resize(self.taps() * rows.len() * width, 0.0);
                let weights = self.weights().transposed();
                product_over(&mut columns, weights, self.band(dout, &rows), true);
                self.fold(&columns, &rows, dx);
            }
        });
        dx
    }

    /// The gradient of the weight.
    fn weight_gradient(&self, dout: &[f32]) -> Vec<f32> {
        let (plane, width) = (self.plane(), self.out_size()[1]);
        let sums: Vec<Vec<f32>> = cut(self.batch, self.batch.clamp(1, SHARDS))
            .into_par_iter()
            .map(|pictures| {
                let mut sum = vec![0.0; self.weight.len()];
                let mut columns = Vec::new();
                for index in pictures {
                    let picture = &self.x[index * self.picture()..][..self.picture()];
                    let dout = &dout[index * self.output * plane..][..self.output * plane];
                    for rows in self.bands() {
                        // Unfolded again: the forward pass would have to keep every band.
                        self.unfold(picture, &rows, &mut columns);
                        let seen = Matrix::new(&columns, self.taps(), rows.len() * width);
                        let output = Output::add(self.taps());
                        product_into(&mut sum, output, self.band(dout, &rows), seen.transposed());
                    }
                }
                sum
            })
            .collect();
        add_in_order(sums)
    }

    /// The gradient of the bias, `[output]`, from that of the outputs.
    pub fn bias_gradient(&self, dout: &[f32]) -> Vec<f32> {
        sum_planes(dout, self.plane(), self.output)
    }
}

/// Adds the bias of each channel to its plane of a picture.
#[multiversion(targets = "simd")]
pub(super) fn add_to_planes(picture: &mut [f32], plane: usize, bias: &[f32]) {
    for (channel, bias) in picture.chunks_exact_mut(plane).zip(bias) {
        for x in channel {
            *x += bias;
        }
    }
}

/// The sum of vectors of one length, added one after the other.
pub(super) fn add_in_order(sums: Vec<Vec<f32>>) -> Vec<f32> {
    let mut sums = sums.into_iter();
    let mut total = sums.next().unwrap_or_default();
    for sum in sums {
        for (total, x) in total.iter_mut().zip(sum) {
            *total += x;
        }
    }
    total
}

/// The sum of all planes of each channel. It has as many lanes as the widest vector registers.
#[multiversion(targets = "simd")]
fn sum_planes(dout: &[f32], plane: usize, channels: usize) -> Vec<f32> {
    let mut sums = vec![0.0; channels];
    for (index, plane) in dout.chunks_exact(plane).enumerate() {
        let (whole, rest) = plane.as_chunks::<16>();
        let mut lanes = [0.0; 16];
        for values in whole {
            lanes.iter_mut().zip(values).for_each(|(sum, x)| *sum += x);
        }
        sums[index % channels] += lanes.iter().chain(rest).sum::<f32>();
    }
    sums
}
