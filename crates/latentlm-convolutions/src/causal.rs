//! Causal convolution with channels last, and its gradient, as matrix products.
//!
//! What an output frame sees lies in one piece, its window, and the window of the next output begins one frame later. So
//! the windows of a signal are a matrix whose rows overlap, and only those that reach into the past are copied.

use std::ops::Range;

use multiversion::multiversion;
use rayon::prelude::*;

use super::pictures::add_in_order;
use super::signals::Signals;
use latentlm_products::few_rows;
use latentlm_products::tasks::{add_bias, add_to_rows, cut, each_row};
use latentlm_products::{Matrix, Output, product, product_into};

/// Most numbers of a task, those that it reads and those that it writes: a quarter of a megabyte of the second-level cache.
const NUMBERS_A_TASK: usize = 1 << 16;
/// Fewest frames of a task: for each the product lays out the weight, which takes as long as a few rows of it. Shorter
/// signals are one product of all their windows.
const LEAST_FRAMES: usize = 64;
/// Numbers of the largest weight that every task lays out for itself, and has a gradient of its own for: 4 MB.
const LARGEST_WEIGHT: usize = 1 << 20;
/// Most shards that sum up the gradient of the weight on their own. The number is fixed, so that the order of the sum,
/// and with it the result, does not depend on the threads.
const SHARDS: usize = 8;

/// Order of the taps in the weight of a causal convolution.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TapOrder {
    /// That of the frames that they see.
    OldestFirst,
    /// The other way round.
    NewestFirst,
}

/// A causal convolution and its input.
#[derive(Debug, Clone, Copy)]
pub struct CausalConv<'a> {
    /// The input. All taps but the newest reach back.
    pub signals: Signals<'a>,
    /// `[taps, width, output]`
    pub weight: &'a [f32],
    /// Numbers of an output frame.
    pub output: usize,
    /// Order of the taps in the weight.
    pub order: TapOrder,
}

/// Which gradients of a causal convolution are needed.
#[derive(Debug, Clone, Copy)]
pub struct CausalWanted {
    /// That of the input.
    pub x: bool,
    /// That of the frames before the input.
    pub past: bool,
    /// That of the weight.
    pub weight: bool,
}

/// The gradients of a causal convolution that were needed.
#[derive(Debug, Default)]
pub struct CausalGradients {
    /// `[batch, frames, width]`
    pub x: Option<Vec<f32>>,
    /// `[batch, taps - 1, width]`
    pub past: Option<Vec<f32>>,
    /// `[taps, width, output]`
    pub weight: Option<Vec<f32>>,
}

impl CausalConv<'_> {
    fn taps(&self) -> usize {
        self.signals.reach + 1
    }

    /// Numbers of a window.
    fn window(&self) -> usize {
        self.taps() * self.signals.width
    }

    /// Windows of all signals.
    fn windows(&self) -> usize {
        self.signals.batch * self.signals.frames
    }

    /// Place of a tap in the weight. Taps are counted from the oldest, and this is its own inverse.
    fn place(&self, tap: usize) -> usize {
        match self.order {
            TapOrder::OldestFirst => tap,
            TapOrder::NewestFirst => self.signals.reach - tap,
        }
    }

    /// The numbers of a tap in the weight.
    fn tap_numbers(&self, tap: usize) -> Range<usize> {
        let (place, numbers) = (self.place(tap), self.signals.width * self.output);
        place * numbers..(place + 1) * numbers
    }

    /// The matrix of a tap, `[width, output]`.
    fn tap_weight(&self, tap: usize) -> Matrix<'_> {
        let numbers = &self.weight[self.tap_numbers(tap)];
        Matrix::new(numbers, self.signals.width, self.output)
    }

    /// The windows of what is seen, `[frames, taps * width]`: rows that overlap.
    fn windows_of<'b>(&self, seen: &'b [f32]) -> Matrix<'b> {
        let width = self.signals.width;
        let frames = seen.len() / width - self.signals.reach;
        Matrix::strided(seen, frames, self.window(), width)
    }

    /// What a tap sees of it, `[frames, width]`.
    fn tap_of<'b>(&self, seen: &'b [f32], tap: usize) -> Matrix<'b> {
        let width = self.signals.width;
        let frames = seen.len() / width - self.signals.reach;
        Matrix::new(&seen[tap * width..][..frames * width], frames, width)
    }

    /// The gradient of a range of output frames of a signal, `[frames, output]`.
    fn gradient_of<'b>(&self, dout: &'b [f32], signal: usize, frames: &Range<usize>) -> Matrix<'b> {
        let first = signal * self.signals.frames + frames.start;
        let numbers = &dout[first * self.output..][..frames.len() * self.output];
        Matrix::new(numbers, frames.len(), self.output)
    }

    /// Whether all windows are one product, which all threads share, and not tasks for ranges of frames. It follows from
    /// the sizes alone, so that results do not depend on the threads.
    fn is_one_product(&self) -> bool {
        self.signals.frames < LEAST_FRAMES || self.weight.len() > LARGEST_WEIGHT
    }

    /// Frames of a task. The last one of a signal has what is left.
    fn frames_a_task(&self) -> usize {
        let numbers = self.signals.width + self.output;
        let most = (NUMBERS_A_TASK / numbers).max(LEAST_FRAMES);
        let frames = self.signals.frames;
        frames.div_ceil(frames.div_ceil(most))
    }

    /// Calls `work(signal, frames, part)` for the parts of `numbers`, `[batch, frames, width]`, one for each task.
    fn each_task(
        &self,
        numbers: &mut [f32],
        width: usize,
        work: impl Fn(usize, Range<usize>, &mut [f32]) + Sync,
    ) {
        let step = self.frames_a_task();
        let signals = numbers.par_chunks_mut(self.signals.frames * width);
        signals.enumerate().for_each(|(signal, numbers)| {
            let parts = numbers.par_chunks_mut(step * width);
            parts.enumerate().for_each(|(task, part)| {
                let start = task * step;
                work(signal, start..start + part.len() / width, part);
            });
        });
    }

    /// The outputs, `[batch, frames, output]`. The bias is repeated over the numbers of an output frame.
    pub fn forward(&self, bias: &[f32]) -> Vec<f32> {
        if self.is_one_product() {
            let mut out = self.product_of_all();
            add_to_rows(&mut out, bias);
            return out;
        }
        let mut out = vec![0.0; self.windows() * self.output];
        self.each_task(&mut out, self.output, |signal, frames, out| {
            let mut buffer = Vec::new();
            let seen = self.signals.seen(signal, &frames, &mut buffer);
            self.multiply(out, seen);
            add_bias(out, bias);
        });
        out
    }

    /// The outputs of windows, without the bias, on this thread.
    fn multiply(&self, out: &mut [f32], seen: &[f32]) {
        if self.order == TapOrder::OldestFirst {
            let weight = Matrix::new(self.weight, self.window(), self.output);
            product_into(
                out,
                Output::replace(self.output),
                self.windows_of(seen),
                weight,
            );
            return;
        }
        // Windows lie in memory in the other order than the weight's taps, which are therefore added one by one.
        for tap in 0..self.taps() {
            let output = if tap == 0 {
                Output::replace(self.output)
            } else {
                Output::add(self.output)
            };
            product_into(out, output, self.tap_of(seen, tap), self.tap_weight(tap));
        }
    }

    /// Copies of all windows, taps in the order of the weight: `[batch * frames, taps * width]`.
    fn gathered(&self) -> Vec<f32> {
        let (taps, frames) = (self.taps(), self.signals.frames);
        let mut rows = vec![0.0; self.windows() * self.window()];
        each_row(&mut rows, self.signals.width, |row, out| {
            let (window, tap) = (row / taps, self.place(row % taps));
            let (signal, frame) = (window / frames, window % frames);
            if let Some(seen) = self.signals.frame(signal, frame + tap) {
                out.copy_from_slice(seen);
            }
        });
        rows
    }

    /// The outputs of all windows, without the bias, on all threads.
    fn product_of_all(&self) -> Vec<f32> {
        let (windows, inputs) = (self.windows(), self.window());
        let rows = self.gathered();
        if few_rows::pays(windows, inputs, self.output) {
            return few_rows::product(&rows, self.weight, inputs, self.output);
        }
        let weight = Matrix::new(self.weight, inputs, self.output);
        product(Matrix::new(&rows, windows, inputs), weight)
    }

    /// The gradients of input, past and weight, as far as they are wanted, from that of the outputs.
    pub fn gradients(&self, dout: &[f32], wanted: CausalWanted) -> CausalGradients {
        if self.is_one_product() {
            return self.gradients_of_all(dout, wanted);
        }
        CausalGradients {
            x: wanted.x.then(|| self.x_gradient(dout)),
            past: wanted.past.then(|| self.past_gradient(dout)),
            weight: wanted.weight.then(|| self.weight_gradient(dout)),
        }
    }

    /// The gradients by one product each, on all threads.
    fn gradients_of_all(&self, dout: &[f32], wanted: CausalWanted) -> CausalGradients {
        let (windows, inputs) = (self.windows(), self.window());
        let (reach, frames) = (self.signals.reach, self.signals.frames);
        let dout = Matrix::new(dout, windows, self.output);
        let mut found = CausalGradients::default();
        if wanted.weight {
            let rows = self.gathered();
            let rows = Matrix::new(&rows, windows, inputs);
            found.weight = Some(product(rows.transposed(), dout));
        }
        if wanted.x || wanted.past {
            let weight = Matrix::new(self.weight, inputs, self.output);
            let rows = product(dout, weight.transposed());
            found.x = wanted
                .x
                .then(|| sum_over_windows(*self, &rows, reach..reach + frames));
            found.past = wanted
                .past
                .then(|| sum_over_windows(*self, &rows, 0..reach));
        }
        found
    }

    fn x_gradient(&self, dout: &[f32]) -> Vec<f32> {
        let (width, last) = (self.signals.width, self.signals.frames);
        let mut dx = vec![0.0; self.windows() * width];
        self.each_task(&mut dx, width, |signal, frames, dx| {
            // The newest tap sees a frame for the output of the same place, the one before it for the next output, and so
            // on. Outputs after the end of the signal do not exist.
            for later in 0..self.taps() {
                let seen_by = frames.start + later..(frames.end + later).min(last);
                if seen_by.is_empty() {
                    break;
                }
                let output = if later == 0 {
                    Output::replace(width)
                } else {
                    Output::add(width)
                };
                let dout = self.gradient_of(dout, signal, &seen_by);
                let weight = self.tap_weight(self.signals.reach - later);
                product_into(dx, output, dout, weight.transposed());
            }
        });
        dx
    }

    fn past_gradient(&self, dout: &[f32]) -> Vec<f32> {
        let (width, reach) = (self.signals.width, self.signals.reach);
        let mut dpast = vec![0.0; self.signals.batch * reach * width];
        let signals = dpast.par_chunks_mut(reach * width).enumerate();
        signals.for_each(|(signal, dpast)| {
            // The first output sees all of the past, the next one all but the oldest frame, and so on.
            for tap in 0..reach {
                let seen_by = 0..(reach - tap).min(self.signals.frames);
                let dout = self.gradient_of(dout, signal, &seen_by);
                let weight = self.tap_weight(tap).transposed();
                product_into(&mut dpast[tap * width..], Output::add(width), dout, weight);
            }
        });
        dpast
    }

    fn weight_gradient(&self, dout: &[f32]) -> Vec<f32> {
        let (step, last) = (self.frames_a_task(), self.signals.frames);
        let of_signal = last.div_ceil(step);
        let tasks = self.signals.batch * of_signal;
        let sums: Vec<Vec<f32>> = cut(tasks, tasks.clamp(1, SHARDS))
            .into_par_iter()
            .map(|tasks| {
                let mut sum = vec![0.0; self.weight.len()];
                let mut buffer = Vec::new();
                for task in tasks {
                    let (signal, start) = (task / of_signal, task % of_signal * step);
                    let frames = start..(start + step).min(last);
                    let seen = self.signals.seen(signal, &frames, &mut buffer);
                    self.add_weights(&mut sum, seen, self.gradient_of(dout, signal, &frames));
                }
                sum
            })
            .collect();
        add_in_order(sums)
    }

    /// Adds the part of some windows to the gradient of the weight.
    fn add_weights(&self, sum: &mut [f32], seen: &[f32], dout: Matrix<'_>) {
        let output = Output::add(self.output);
        if self.order == TapOrder::OldestFirst {
            product_into(sum, output, self.windows_of(seen).transposed(), dout);
            return;
        }
        for tap in 0..self.taps() {
            let sum = &mut sum[self.tap_numbers(tap)];
            product_into(sum, output, self.tap_of(seen, tap).transposed(), dout);
        }
    }
}

/// The gradient of frames of each signal, counted from the first of the past: sums over the windows that they are in.
///
/// # Shapes
/// - `windows`: `[batch * frames, taps * width]`, taps in the order of the weight
/// - returns: `[batch, seen, width]`
#[multiversion(targets = "simd")]
fn sum_over_windows(convolution: CausalConv<'_>, windows: &[f32], seen: Range<usize>) -> Vec<f32> {
    let Signals {
        batch,
        frames,
        width,
        ..
    } = convolution.signals;
    let taps = convolution.taps();
    let mut out = vec![0.0; batch * seen.len() * width];
    each_row(&mut out, width, |row, out| {
        let (signal, at) = (row / seen.len(), seen.start + row % seen.len());
        for tap in (at + 1).saturating_sub(frames)..taps.min(at + 1) {
            let window = signal * frames + at - tap;
            let from = (window * taps + convolution.place(tap)) * width;
            for (out, x) in out.iter_mut().zip(&windows[from..from + width]) {
                *out += x;
            }
        }
    });
    out
}
