//! Convolution of pictures as matrix products, a band of rows at a time: what the taps see is laid
//! out beside them, small enough to stay in the cache, and never stored for the whole picture.

use std::ops::Range;

use multiversion::multiversion;
use rayon::prelude::*;

use super::matrix::{Matrix, product_into, product_over};
use super::rows::each_row;
use super::winograd::Winograd;
use crate::conv2d::Window;
use crate::workers::cut;

/// Numbers that a band's taps see: half a megabyte of the second cache.
const BAND: usize = 1 << 17;
/// Parts of a batch whose gradients of the weight are summed by themselves; fixed, so that the sum
/// does not depend on the threads.
const PARTS: usize = 8;

/// A convolution and its input.
#[derive(Clone, Copy)]
pub(super) struct Conv2d<'a> {
    /// `[batch, input, height, width]`
    pub(super) x: &'a [f32],
    /// `[output, input, kernel rows, kernel columns]`
    pub(super) weight: &'a [f32],
    pub(super) batch: usize,
    pub(super) input: usize,
    pub(super) output: usize,
    /// Rows and columns of a picture.
    pub(super) size: [usize; 2],
    /// Rows and columns of the kernel.
    pub(super) kernel: [usize; 2],
    pub(super) window: Window,
}

impl Conv2d<'_> {
    /// Rows and columns of the output.
    pub(super) fn out_size(&self) -> [usize; 2] {
        [0, 1].map(|axis| {
            let reach = self.window.dilation[axis] * (self.kernel[axis] - 1) + 1;
            let padded = self.size[axis] + 2 * self.window.padding[axis];
            assert!(reach <= padded, "a kernel larger than its picture");
            (padded - reach) / self.window.stride[axis] + 1
        })
    }

    /// Numbers of a channel of the output.
    fn plane(&self) -> usize {
        self.out_size().iter().product()
    }

    /// Numbers that one output depends on.
    fn taps(&self) -> usize {
        self.input * self.kernel.iter().product::<usize>()
    }

    /// Numbers of a picture.
    pub(super) fn picture(&self) -> usize {
        self.input * self.size.iter().product::<usize>()
    }

    fn weights(&self) -> Matrix<'_> {
        Matrix::new(self.weight, self.output, self.taps())
    }

    /// Rows of the output that are worked on at once.
    fn bands(&self) -> impl Iterator<Item = Range<usize>> {
        let [height, width] = self.out_size();
        let rows = (BAND / (self.taps() * width)).clamp(1, height);
        (0..height.div_ceil(rows)).map(move |band| band * rows..((band + 1) * rows).min(height))
    }

    /// Outputs along an axis whose `tap` lies within the picture, and where that of output 0 would
    /// lie, the padding counted.
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

    /// Calls `run` with every run of numbers that a tap sees in a band: where it begins in the
    /// columns, its columns, and where the first of them lies in the picture. What is not called for
    /// lies outside the picture.
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

    /// What the taps see of a band: a row a tap, a column an output.
    fn unfold(&self, picture: &[f32], rows: &Range<usize>, columns: &mut Vec<f32>) {
        columns.clear();
        columns.resize(self.taps() * rows.len() * self.out_size()[1], 0.0);
        let across = self.window.stride[1];
        self.runs(rows, |at, seen, from| {
            let to = &mut columns[at + seen.start..at + seen.end];
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

    /// The way back: adds to the picture what stands in the columns.
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

    /// `[batch, output, rows, columns]`
    pub(super) fn forward(&self, bias: Option<&[f32]>) -> Vec<f32> {
        if let Some(winograd) = Winograd::of(*self) {
            return winograd.forward(bias);
        }
        let (plane, width) = (self.plane(), self.out_size()[1]);
        let mut out = vec![0.0; self.batch * self.output * plane];
        each_row(&mut out, self.output * plane, |index, out| {
            let picture = &self.x[index * self.picture()..][..self.picture()];
            let mut columns = Vec::new();
            for rows in self.bands() {
                self.unfold(picture, &rows, &mut columns);
                let seen = Matrix::new(&columns, self.taps(), rows.len() * width);
                let out = &mut out[rows.start * width..];
                product_into(out, plane, false, 1.0, [self.weights(), seen]);
            }
            for (channel, bias) in out.chunks_exact_mut(plane).zip(bias.unwrap_or_default()) {
                channel.iter_mut().for_each(|out| *out += bias);
            }
        });
        out
    }

    /// A band of a picture's gradient: a row a channel of the output.
    fn band<'a>(&self, dout: &'a [f32], rows: &Range<usize>) -> Matrix<'a> {
        let width = self.out_size()[1];
        let band = &dout[rows.start * width..];
        Matrix::strided(band, self.output, rows.len() * width, self.plane())
    }

    /// The gradients of the input and of the weight, those of the two that are wanted.
    pub(super) fn gradients(&self, dout: &[f32], wanted: [bool; 2]) -> [Option<Vec<f32>>; 2] {
        if let Some(winograd) = Winograd::of(*self) {
            return winograd.gradients(dout, wanted);
        }
        let [x, weight] = wanted;
        [
            x.then(|| self.of_x(dout)),
            weight.then(|| self.of_weight(dout)),
        ]
    }

    /// The gradient of the input.
    fn of_x(&self, dout: &[f32]) -> Vec<f32> {
        let (plane, width) = (self.plane(), self.out_size()[1]);
        let mut dx = vec![0.0; self.x.len()];
        each_row(&mut dx, self.picture(), |index, dx| {
            let dout = &dout[index * self.output * plane..][..self.output * plane];
            let mut columns = Vec::new();
            for rows in self.bands() {
                columns.resize(self.taps() * rows.len() * width, 0.0);
                let weights = self.weights().transposed();
                product_over(&mut columns, weights, self.band(dout, &rows), true);
                self.fold(&columns, &rows, dx);
            }
        });
        dx
    }

    /// The gradient of the weight.
    fn of_weight(&self, dout: &[f32]) -> Vec<f32> {
        let (plane, width) = (self.plane(), self.out_size()[1]);
        let parts = cut(self.batch, self.batch.clamp(1, PARTS)).into_par_iter();
        let sums: Vec<Vec<f32>> = parts
            .map(|pictures| {
                let mut sum = vec![0.0; self.weight.len()];
                let mut columns = Vec::new();
                for index in pictures {
                    let picture = &self.x[index * self.picture()..][..self.picture()];
                    let dout = &dout[index * self.output * plane..][..self.output * plane];
                    for rows in self.bands() {
                        self.unfold(picture, &rows, &mut columns);
                        let seen = Matrix::new(&columns, self.taps(), rows.len() * width);
                        let factors = [self.band(dout, &rows), seen.transposed()];
                        product_into(&mut sum, self.taps(), true, 1.0, factors);
                    }
                }
                sum
            })
            .collect();
        let mut sums = sums.into_iter();
        let mut total = sums.next().unwrap_or_default();
        for part in sums {
            total.iter_mut().zip(part).for_each(|(sum, x)| *sum += x);
        }
        total
    }

    /// The gradient of the bias.
    pub(super) fn of_bias(&self, dout: &[f32]) -> Vec<f32> {
        sum_planes(dout, self.plane(), self.output)
    }
}

/// Sums over every `channels`-th plane, in as many lanes as the widest vectors have.
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
