//! The gradient of [`ConvLayer`].
//!
//! The scales of the two residual branches have gradients that are sums over all rows of what a branch adds before it is
//! scaled, which nobody keeps. They follow from the gradients of the weights before them, without the scale: with
//! `d = h W + b` and `G = h^T dout`, the sum over rows of `dout * d` is the sum over inputs of `W * G`, plus
//! `b * sum(dout)`, and the gradient of `W` itself is `G * scale`.

use multiversion::multiversion;
use rayon::prelude::*;

use super::layer::{
    ConvLayer, LEAST_ROWS, LayerVectors, MOST_ROWS, NUMBERS_A_BLOCK, Shared, normalize, room,
};
use super::pictures::add_in_order;
use latentlm_products::math::{gelu_and_slope, inverse_rms, sum_pairs};
use latentlm_products::tasks::{add, each_row_and_sum, rows_a_task};
use latentlm_products::{Matrix, Output, product_into};

/// Most shards that sum up gradients of the projections on their own. The number follows from sizes alone, so that the
/// order of sums, and with it the result, does not depend on the threads.
const SHARDS: usize = 8;
/// Fewest blocks of a shard: beside them, adding its sums to those of the others costs little.
const BLOCKS_A_SHARD: usize = 4;

/// What the forward pass kept of [`LayerFound`](super::LayerFound).
#[derive(Debug, Clone, Copy)]
pub struct LayerKept<'a> {
    /// `[batch, frames, width]`
    pub mixed: &'a [f32],
    /// `[batch, frames, inner]`
    pub wide: &'a [f32],
}

/// The gradients of a layer's input and parameters, each in the shape of what it belongs to.
#[derive(Debug)]
pub struct LayerGradients {
    /// `[batch, frames, width]`
    pub x: Vec<f32>,
    /// `[batch, reach, width]`, if there is a past.
    pub past: Option<Vec<f32>>,
    /// `[width]`
    pub norm: Vec<f32>,
    /// `[width, taps]`
    pub filter: Vec<f32>,
    /// `[width]`
    pub filter_bias: Vec<f32>,
    /// `[width]`
    pub gamma: Vec<f32>,
    /// `[width]`
    pub ffn_norm: Vec<f32>,
    /// `[width, inner]`
    pub up: Vec<f32>,
    /// `[inner]`
    pub up_bias: Vec<f32>,
    /// `[inner, width]`
    pub down: Vec<f32>,
    /// `[width]`
    pub down_bias: Vec<f32>,
    /// `[width]`
    pub ffn_gamma: Vec<f32>,
}

impl ConvLayer<'_> {
    /// The gradients from that of the result, `[batch, frames, width]`.
    ///
    /// # Panics
    /// If the projections are not float32.
    pub fn backward(&self, dout: &[f32], kept: LayerKept<'_>) -> LayerGradients {
        let whole = "a gradient takes float32 projections";
        let fed = Fed {
            vectors: self.vectors,
            up: self.up.whole().expect(whole),
            down: self.down.whole().expect(whole),
            sizes: [self.signals.width, self.inner()],
            kept,
            dout,
        };
        let (dmixed, mut sums) = fed.backward(self.is_large());
        let vectors = self.vectors;
        let mut ffn_gamma = scale_rows(&mut sums.down, fed.down, vectors.ffn_gamma);
        add_products(&mut ffn_gamma, vectors.down_bias, &sums.dout);
        let mixing = Mixing {
            layer: *self,
            shared: &self.shared(),
            filter: &self.filters_by_tap(vectors.gamma),
            dmixed: &dmixed,
        };
        let mut x = vec![0.0; dmixed.len()];
        let of_rows = x_gradient(mixing, &mut x);
        let (of_filter, rest) = of_rows.split_at(vectors.filter.len());
        let (of_mixed, of_norm) = rest.split_at(self.signals.width);
        let mut norm = of_norm.to_vec();
        let past = self.signals.past.map(|past| {
            let mut gradient = vec![0.0; past.len()];
            add(&mut norm, &past_gradient(mixing, &mut gradient));
            gradient
        });
        let (filter, mut gamma) = self.filter_gradient(of_filter);
        add_products(&mut gamma, vectors.filter_bias, of_mixed);
        LayerGradients {
            x,
            past,
            norm,
            filter,
            filter_bias: products(of_mixed, vectors.gamma),
            gamma,
            ffn_norm: sums.norm,
            up: sums.up,
            up_bias: sums.up_bias,
            down: sums.down,
            down_bias: products(&sums.dout, vectors.ffn_gamma),
            ffn_gamma,
        }
    }

    /// The gradient of the filters, and that of their scale but for the part of their bias. `sums` has those of the filters
    /// by tap, before the weight of the norm and the scale.
    fn filter_gradient(&self, sums: &[f32]) -> (Vec<f32>, Vec<f32>) {
        let (width, taps, vectors) = (self.signals.width, self.taps(), self.vectors);
        let mut filter = vec![0.0; vectors.filter.len()];
        let mut gamma = vec![0.0; width];
        for (channel, of_gamma) in gamma.iter_mut().enumerate() {
            for tap in 0..taps {
                let unscaled = sums[tap * width + channel] * vectors.norm[channel];
                let at = channel * taps + tap;
                filter[at] = unscaled * vectors.gamma[channel];
                *of_gamma += unscaled * vectors.filter[at];
            }
        }
        (filter, gamma)
    }
}

/// The second half of a layer: norm, projections, residual.
#[derive(Clone, Copy)]
struct Fed<'a> {
    vectors: LayerVectors<'a>,
    up: Matrix<'a>,
    down: Matrix<'a>,
    /// Width and inner width.
    sizes: [usize; 2],
    kept: LayerKept<'a>,
    dout: &'a [f32],
}

/// Gradients that are sums over rows.
struct Sums {
    /// `[width, inner]`
    up: Vec<f32>,
    /// `[inner, width]`, without the scale of the branch.
    down: Vec<f32>,
    /// `[inner]`
    up_bias: Vec<f32>,
    /// Of the gradient of the result, `[width]`.
    dout: Vec<f32>,
    /// `[width]`
    norm: Vec<f32>,
}

impl Sums {
    fn new([width, inner]: [usize; 2]) -> Self {
        let zeros = |count| vec![0.0; count];
        Self {
            up: zeros(width * inner),
            down: zeros(inner * width),
            up_bias: zeros(inner),
            dout: zeros(width),
            norm: zeros(width),
        }
    }

    fn add(&mut self, other: &Self) {
        add(&mut self.up, &other.up);
        add(&mut self.down, &other.down);
        add(&mut self.up_bias, &other.up_bias);
        add(&mut self.dout, &other.dout);
        add(&mut self.norm, &other.norm);
    }
}

/// Memory that the blocks of a shard share.
#[derive(Default)]
struct Memory {
    scaled: Vec<f32>,
    normed: Vec<f32>,
    activated: Vec<f32>,
    wide: Vec<f32>,
}

impl Fed<'_> {
    /// The gradient of `mixed`, that through the residual connection included, and sums over all rows.
    fn backward(&self, is_large: bool) -> (Vec<f32>, Sums) {
        let [width, inner] = self.sizes;
        let rows = self.dout.len() / width;
        // A block adds to as many numbers of gradients of the projections as it reads for that, or to fewer.
        let block = (NUMBERS_A_BLOCK / inner).max(width).max(LEAST_ROWS);
        let block = block.min(MOST_ROWS);
        let count = if is_large {
            1
        } else {
            (rows / (BLOCKS_A_SHARD * block)).clamp(1, SHARDS)
        };
        let mut dmixed = vec![0.0; rows * width];
        let step = rows.div_ceil(count).max(1);
        let shards = dmixed.par_chunks_mut(step * width).enumerate();
        let sums: Vec<Sums> = shards
            .map(|(shard, dmixed)| {
                let (mut sums, mut memory) = (Sums::new(self.sizes), Memory::default());
                let blocks = dmixed.chunks_mut(block * width);
                for (index, dmixed) in blocks.enumerate() {
                    let part = Part {
                        first: shard * step + index * block,
                        dmixed,
                        // One shard alone shares its products among all threads.
                        shared: count == 1,
                    };
                    self.block(part, &mut sums, &mut memory);
                }
                sums
            })
            .collect();
        let mut sums = sums.into_iter();
        let mut total = sums.next().unwrap_or_else(|| Sums::new(self.sizes));
        for shard in sums {
            total.add(&shard);
        }
        (dmixed, total)
    }

    fn block(&self, part: Part<'_>, sums: &mut Sums, memory: &mut Memory) {
        let ([width, inner], vectors) = (self.sizes, self.vectors);
        let Part {
            first,
            dmixed,
            shared,
        } = part;
        let rows = dmixed.len() / width;
        let narrow = first * width..(first + rows) * width;
        let (dout, mixed) = (&self.dout[narrow.clone()], &self.kept.mixed[narrow]);
        let kept = &self.kept.wide[first * inner..(first + rows) * inner];
        let scaled = room(&mut memory.scaled, rows * width);
        let normed = room(&mut memory.normed, rows * width);
        let activated = room(&mut memory.activated, rows * inner);
        let wide = room(&mut memory.wide, rows * inner);
        let replace = |row: usize| Output::replace(row).shared(shared);
        let add = |row: usize| Output::add(row).shared(shared);

        scale_and_sum(scaled, dout, vectors.ffn_gamma, &mut sums.dout);
        let dscaled = Matrix::new(scaled, rows, width);
        product_into(wide, replace(inner), dscaled, self.down.transposed());
        activation_gradient(wide, activated, kept, &mut sums.up_bias);
        let entering = Matrix::new(activated, rows, inner).transposed();
        let dresult = Matrix::new(dout, rows, width);
        product_into(&mut sums.down, add(width), entering, dresult);

        normalized(normed, mixed, vectors);
        let dwide = Matrix::new(wide, rows, inner);
        let entering = Matrix::new(normed, rows, width).transposed();
        product_into(&mut sums.up, add(inner), entering, dwide);
        // The scaled gradient is not needed any more: its memory takes that of the normalized rows.
        product_into(scaled, replace(width), dwide, self.up.transposed());
        norm_gradient(scaled, mixed, vectors, &mut sums.norm);
        add_rows(dmixed, dout, scaled);
    }
}

/// Rows that are a block of a shard.
struct Part<'a> {
    first: usize,
    /// Memory for the gradient of `mixed`.
    dmixed: &'a mut [f32],
    /// Whether all threads share its products.
    shared: bool,
}

/// `out = dout * scale`, and `sum += dout`, over rows.
#[multiversion(targets = "simd")]
fn scale_and_sum(out: &mut [f32], dout: &[f32], scale: &[f32], sum: &mut [f32]) {
    let width = scale.len();
    let rows = dout.chunks_exact(width);
    for (out, dout) in out.chunks_exact_mut(width).zip(rows) {
        let sums = sum.iter_mut().zip(scale);
        for ((out, dout), (sum, scale)) in out.iter_mut().zip(dout).zip(sums) {
            *out = dout * scale;
            *sum += dout;
        }
    }
}

/// For inputs `x` of GELU and the gradient `d` of its results: the results, the gradient of the inputs in the place of `d`,
/// and that added to `sum` row by row.
#[multiversion(targets = "simd")]
fn activation_gradient(d: &mut [f32], activated: &mut [f32], x: &[f32], sum: &mut [f32]) {
    let width = sum.len();
    let rows = activated.chunks_exact_mut(width).zip(x.chunks_exact(width));
    for (d, (activated, x)) in d.chunks_exact_mut(width).zip(rows) {
        let results = activated.iter_mut().zip(sum.iter_mut());
        for ((d, x), (activated, sum)) in d.iter_mut().zip(x).zip(results) {
            let (value, slope) = gelu_and_slope(*x);
            let dx = *d * slope;
            *d = dx;
            *activated = value;
            *sum += dx;
        }
    }
}

/// Rows behind the second norm.
#[multiversion(targets = "simd")]
fn normalized(out: &mut [f32], x: &[f32], vectors: LayerVectors<'_>) {
    let width = vectors.ffn_norm.len();
    let rows = x.chunks_exact(width);
    for (out, x) in out.chunks_exact_mut(width).zip(rows) {
        normalize(out, x, vectors.ffn_norm, vectors.ffn_epsilon);
    }
}

/// The gradient through the second norm, in the place of that of normalized rows; that of the norm's weight is added to
/// `sum`.
#[multiversion(targets = "simd")]
fn norm_gradient(d: &mut [f32], x: &[f32], vectors: LayerVectors<'_>, sum: &mut [f32]) {
    let width = vectors.ffn_norm.len();
    let rows = x.chunks_exact(width);
    for (d, x) in d.chunks_exact_mut(width).zip(rows) {
        let inverse = inverse_rms(x, vectors.ffn_epsilon);
        through_norm(d, x, inverse, vectors.ffn_norm, sum);
    }
}

/// [`norm_gradient`] of a row. `inverse` is the factor of its norm.
#[inline(always)]
fn through_norm(d: &mut [f32], x: &[f32], inverse: f32, weight: &[f32], sum: &mut [f32]) {
    let sums = sum.iter_mut().zip(weight);
    for ((d, x), (sum, weight)) in d.iter_mut().zip(x).zip(sums) {
        *sum += x * inverse * *d;
        *d *= weight;
    }
    // A longer `x` gives the same result (but for epsilon), so the gradient has no part along `x`.
    let along = sum_pairs(d, x, |d, x| d * x) / x.len() as f32 * inverse * inverse;
    for (d, x) in d.iter_mut().zip(x) {
        *d = (*d - x * along) * inverse;
    }
}

/// `out = a + b`.
#[multiversion(targets = "simd")]
fn add_rows(out: &mut [f32], a: &[f32], b: &[f32]) {
    for (out, (a, b)) in out.iter_mut().zip(a.iter().zip(b)) {
        *out = a + b;
    }
}

/// `sum += a * b`.
fn add_products(sum: &mut [f32], a: &[f32], b: &[f32]) {
    for (sum, (a, b)) in sum.iter_mut().zip(a.iter().zip(b)) {
        *sum += a * b;
    }
}

/// `a * b`, number by number.
fn products(a: &[f32], b: &[f32]) -> Vec<f32> {
    a.iter().zip(b).map(|(a, b)| a * b).collect()
}

/// Multiplies the rows of a gradient by a scale; returns the sum over rows of the gradient before, times the weight.
#[multiversion(targets = "simd")]
fn scale_rows(gradient: &mut [f32], weight: Matrix<'_>, scale: &[f32]) -> Vec<f32> {
    let width = scale.len();
    let step = rows_a_task(width) * width;
    let weights = weight.numbers().par_chunks(step);
    let sums: Vec<Vec<f32>> = gradient
        .par_chunks_mut(step)
        .zip(weights)
        .map(|(gradient, weight)| {
            let mut sum = vec![0.0; width];
            let rows = gradient.chunks_exact_mut(width);
            for (gradient, weight) in rows.zip(weight.chunks_exact(width)) {
                let sums = sum.iter_mut().zip(scale);
                for ((gradient, weight), (sum, scale)) in gradient.iter_mut().zip(weight).zip(sums)
                {
                    *sum += *gradient * weight;
                    *gradient *= scale;
                }
            }
            sum
        })
        .collect();
    add_in_order(sums)
}

/// The first half of a layer: norm, filters, residual.
#[derive(Clone, Copy)]
struct Mixing<'a> {
    layer: ConvLayer<'a>,
    shared: &'a Shared,
    /// The filters times the scale of the branch, `[taps, width]`.
    filter: &'a [f32],
    /// The gradient of `mixed`.
    dmixed: &'a [f32],
}

impl Mixing<'_> {
    /// Adds to `d` the gradient of a normalized frame of a signal, counted from the first of the past.
    // Each frame collects from the outputs that it goes into. If outputs added to frames instead, threads would write to
    // the same frames where their outputs meet.
    #[inline(always)]
    fn collect(&self, d: &mut [f32], signal: usize, at: usize) {
        let (frames, width) = (self.layer.signals.frames, self.layer.signals.width);
        // The output frames that this frame goes into, each by another tap.
        for tap in (at + 1).saturating_sub(frames)..self.layer.taps().min(at + 1) {
            let frame = signal * frames + at - tap;
            let dmixed = &self.dmixed[frame * width..][..width];
            let filter = &self.filter[tap * width..][..width];
            for (d, (dmixed, filter)) in d.iter_mut().zip(dmixed.iter().zip(filter)) {
                *d += dmixed * filter;
            }
        }
    }
}

/// The gradient of the input; `dx` is zeros before. Returns sums over rows: of the gradient of `mixed` times what each tap
/// sees, before the weight of the norm, `[taps, width]`; of that gradient, `[width]`; the gradient of the norm's weight,
/// `[width]`.
#[multiversion(targets = "simd")]
fn x_gradient(mixing: Mixing<'_>, dx: &mut [f32]) -> Vec<f32> {
    let (layer, shared) = (mixing.layer, mixing.shared);
    let (signals, norm) = (layer.signals, layer.vectors.norm);
    let (width, frames, of_filter) = (signals.width, signals.frames, layer.vectors.filter.len());
    each_row_and_sum(dx, width, of_filter + 2 * width, |row, dx, sums| {
        let (signal, frame) = (row / frames, row % frames);
        let dmixed = &mixing.dmixed[row * width..][..width];
        let (filters, rest) = sums.split_at_mut(of_filter);
        let (of_mixed, of_norm) = rest.split_at_mut(width);
        for (sum, d) in of_mixed.iter_mut().zip(dmixed) {
            *sum += d;
        }
        for (tap, sum) in filters.chunks_exact_mut(width).enumerate() {
            if let Some((x, inverse)) = shared.frame(signals, signal, frame + tap) {
                for (sum, (x, d)) in sum.iter_mut().zip(x.iter().zip(dmixed)) {
                    *sum += x * inverse * d;
                }
            }
        }
        let at = frame + signals.reach;
        mixing.collect(dx, signal, at);
        if let Some((x, inverse)) = shared.frame(signals, signal, at) {
            through_norm(dx, x, inverse, norm, of_norm);
        }
        // `x` also goes around the filters.
        for (dx, d) in dx.iter_mut().zip(dmixed) {
            *dx += d;
        }
    })
}

/// The gradient of the past; `dpast` is zeros before. Returns its part of the gradient of the norm's weight.
#[multiversion(targets = "simd")]
fn past_gradient(mixing: Mixing<'_>, dpast: &mut [f32]) -> Vec<f32> {
    let (layer, shared) = (mixing.layer, mixing.shared);
    let (signals, norm) = (layer.signals, layer.vectors.norm);
    let (width, reach) = (signals.width, signals.reach);
    each_row_and_sum(dpast, width, width, |row, dpast, sum| {
        let (signal, at) = (row / reach, row % reach);
        mixing.collect(dpast, signal, at);
        if let Some((x, inverse)) = shared.frame(signals, signal, at) {
            through_norm(dpast, x, inverse, norm, sum);
        }
    })
}

#[cfg(test)]
mod tests {
    use super::super::layer::LayerFound;
    use super::super::signals::Signals;
    use super::*;
    use latentlm_products::Factor;
    use rayon::ThreadPoolBuilder;

    fn numbers(count: usize, seed: f32) -> Vec<f32> {
        (0..count).map(|i| (i as f32 * seed).sin()).collect()
    }

    /// Calls `run` with a layer of `[batch, frames, width, taps]`.
    fn with_layer<R>(
        [batch, frames, width, taps]: [usize; 4],
        has_past: bool,
        run: impl FnOnce(ConvLayer<'_>) -> R,
    ) -> R {
        let (inner, reach) = (4 * width, taps - 1);
        let x = numbers(batch * frames * width, 0.7);
        let past = numbers(batch * reach * width, 1.1);
        let vector = |seed: f32| numbers(width, seed);
        let [norm, bias, gamma, ffn_norm] = [1.3, 0.3, 0.9, 1.7].map(vector);
        let [down_bias, ffn_gamma] = [0.4, 1.9].map(vector);
        let (filter, up_bias) = (numbers(width * taps, 2.3), numbers(inner, 0.6));
        let [up, down] = [0.37, 0.53].map(|seed| numbers(width * inner, seed));
        run(ConvLayer {
            signals: Signals {
                x: &x,
                past: has_past.then_some(past.as_slice()),
                batch,
                frames,
                width,
                reach,
            },
            vectors: LayerVectors {
                norm: &norm,
                epsilon: 1e-5,
                filter: &filter,
                filter_bias: &bias,
                gamma: &gamma,
                ffn_norm: &ffn_norm,
                ffn_epsilon: 1e-6,
                up_bias: &up_bias,
                down_bias: &down_bias,
                ffn_gamma: &ffn_gamma,
            },
            up: Factor::Whole {
                numbers: &up,
                inputs: width,
                outputs: inner,
            },
            down: Factor::Whole {
                numbers: &down,
                inputs: inner,
                outputs: width,
            },
        })
    }

    /// Blocks of rows, rows whose products all threads share, and large weights.
    #[test]
    fn without_a_gradient_the_result_is_the_same() {
        for sizes in [[2, 9, 5, 7], [3, 70, 8, 3], [1, 900, 16, 7], [1, 3, 520, 2]] {
            for has_past in [false, true] {
                with_layer(sizes, has_past, |layer| {
                    assert_eq!(layer.infer(), layer.forward().out, "{sizes:?}");
                });
            }
        }
    }

    /// Several blocks forward, and several shards backward.
    #[test]
    fn results_do_not_depend_on_threads() {
        let found = || {
            with_layer([2, 2200, 8, 7], true, |layer| {
                let LayerFound { out, mixed, wide } = layer.forward();
                let kept = LayerKept {
                    mixed: &mixed,
                    wide: &wide,
                };
                let of = layer.backward(&out, kept);
                let past = of.past.expect("there is a past");
                let small = [of.norm, of.filter_bias, of.gamma, of.ffn_norm, of.up_bias];
                let large = [of.x, past, of.filter, of.up, of.down, of.down_bias];
                [small.concat(), large.concat(), of.ffn_gamma, out]
            })
        };
        let on = |threads: usize| {
            let pool = ThreadPoolBuilder::new().num_threads(threads).build();
            pool.expect("a few threads").install(found)
        };
        let expected = on(1);
        assert!(expected.iter().flatten().all(|x| x.is_finite()));
        for threads in [2, 3, 5] {
            assert_eq!(on(threads), expected);
        }
    }
}
