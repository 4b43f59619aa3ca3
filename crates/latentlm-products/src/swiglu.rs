//! What a feed-forward block computes beside its products: SwiGLU, the gate of a modulation, and the gradients of both.
//! `N` rows, inner width `F`, width `D`.

use multiversion::multiversion;

use crate::math::sigmoid;
use crate::tasks::{Rows, each_piece_of_three, each_row, each_row_of_two};

/// Replaces `h` by `silu(h) * b`.
///
/// # Shapes
/// - `h`, `b`: `[N, F]`; `width`: `F`
#[multiversion(targets = "simd")]
pub fn activate(h: &mut [f32], b: &[f32], width: usize) {
    each_row(h, width, |index, h| {
        for (h, b) in h.iter_mut().zip(&b[index * width..]) {
            *h *= sigmoid(*h) * b;
        }
    });
}

/// `silu(a) * b`, the same numbers as those of [`activate`].
///
/// # Shapes
/// - `a`, `b`: `[N, F]`; `width`: `F`
/// - returns: `[N, F]`
#[multiversion(targets = "simd")]
pub fn activated(a: &[f32], b: &[f32], width: usize) -> Vec<f32> {
    // Zeros and not a copy of `a`, which would be read twice.
    let mut h = vec![0.0; a.len()];
    each_row(&mut h, width, |index, h| {
        let at = index * width;
        for (h, (a, b)) in h.iter_mut().zip(a[at..].iter().zip(&b[at..])) {
            *h = a * (sigmoid(*a) * b);
        }
    });
    h
}

/// For `h = silu(a) * b`: replaces the gradient of `h` by `h`, and `a` and `b` by their gradients.
///
/// # Shapes
/// - `a`, `b`, `h`: `[N, F]`
#[multiversion(targets = "simd")]
pub fn activation_gradients(a: &mut [f32], b: &mut [f32], h: &mut [f32]) {
    each_piece_of_three([a, b, h], |a, b, h| {
        for ((a, b), h) in a.iter_mut().zip(b).zip(h) {
            let (dh, s) = (*h, sigmoid(*a));
            let activated = *a * s;
            *h = activated * *b;
            *a = dh * (*b * s * (1.0 + *a * (1.0 - s)));
            *b = dh * activated;
        }
    });
}

/// `x + y * gate`, where the gates are the last third of each row of the modulation.
///
/// # Shapes
/// - `x`, `y`: `[N, D]`; `modulation`: `[N, 3 D]`; `width`: `D`
/// - returns: `[N, D]`
#[multiversion(targets = "simd")]
pub fn gated_sums(x: &[f32], y: &[f32], modulation: &[f32], width: usize) -> Vec<f32> {
    let mut out = vec![0.0; x.len()];
    each_row(&mut out, width, |index, out| {
        let at = index * width;
        let gates = &modulation[3 * at + 2 * width..];
        let inputs = x[at..].iter().zip(y[at..].iter().zip(gates));
        for (out, (x, (y, gate))) in out.iter_mut().zip(inputs) {
            *out = x + y * gate;
        }
    });
    out
}

/// For [`gated_sums`] with the gradient `dout` of its result: replaces `y` by its gradient, and the gates by theirs. The rest
/// of the modulation stays.
///
/// # Shapes
/// - `y`, `dout`: `[N, D]`; `modulation`: `[N, 3 D]`; `width`: `D`
#[multiversion(targets = "simd")]
pub fn gate_gradients(modulation: &mut [f32], y: &mut [f32], dout: &[f32], width: usize) {
    let modulation = Rows {
        numbers: modulation,
        width: 3 * width,
    };
    let y = Rows { numbers: y, width };
    each_row_of_two(modulation, y, |index, modulation, y| {
        let gates = modulation[2 * width..].iter_mut();
        for ((gate, y), dout) in gates.zip(y).zip(&dout[index * width..]) {
            (*gate, *y) = (dout * *y, dout * *gate);
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rows of several tasks.
    const ROWS: usize = 613;
    const WIDTH: usize = 37;

    fn numbers(count: usize, seed: f32) -> Vec<f32> {
        (0..count).map(|i| 3.0 * (i as f32 * seed).sin()).collect()
    }

    /// Both ways give the same bits, those of the formula; gradients are the formula's in float64.
    #[test]
    fn activations_and_their_gradients() {
        let [a, b, dh] = [0.7, 1.3, 1.9].map(|seed| numbers(ROWS * WIDTH, seed));
        let h = activated(&a, &b, WIDTH);
        let mut over = a.clone();
        activate(&mut over, &b, WIDTH);
        assert_eq!(h, over);
        let [mut da, mut db, mut again] = [&a, &b, &dh].map(Vec::clone);
        activation_gradients(&mut da, &mut db, &mut again);
        for index in 0..a.len() {
            let [a, b, dh] = [&a, &b, &dh].map(|numbers| f64::from(numbers[index]));
            let s = 1.0 / (1.0 + (-a).exp());
            let expected = [
                (h[index], a * s * b),
                (again[index], a * s * b),
                (da[index], dh * b * s * (1.0 + a * (1.0 - s))),
                (db[index], dh * a * s),
            ];
            for (got, expected) in expected {
                // Numbers below 30 after about ten roundings of 6e-8 each.
                let error = (f64::from(got) - expected).abs();
                assert!(error <= 2e-5, "{got} for {expected}");
            }
        }
    }

    /// Every number is the formula's to the last bit, and shifts and scales stay.
    #[test]
    fn gates_and_their_gradients() {
        let [x, y, dout] = [0.7, 1.3, 1.9].map(|seed| numbers(ROWS * WIDTH, seed));
        let given = numbers(3 * ROWS * WIDTH, 1.1);
        let out = gated_sums(&x, &y, &given, WIDTH);
        let (mut modulation, mut dy) = (given.clone(), y.clone());
        gate_gradients(&mut modulation, &mut dy, &dout, WIDTH);
        for index in 0..x.len() {
            let gate = index / WIDTH * 3 * WIDTH + 2 * WIDTH + index % WIDTH;
            assert_eq!(out[index], x[index] + y[index] * given[gate]);
            assert_eq!(dy[index], dout[index] * given[gate]);
            assert_eq!(modulation[gate], dout[index] * y[index]);
            for other in [gate - WIDTH, gate - 2 * WIDTH] {
                assert_eq!(modulation[other], given[other]);
            }
        }
    }
}
