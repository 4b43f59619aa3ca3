//! Activation functions and their derivatives.

use crate::types::Activation;
use latentlm_products::math::{gelu, gelu_and_slope, sigmoid};
use latentlm_products::tasks::rows_a_task;
use multiversion::multiversion;
use rayon::prelude::*;

#[inline(always)]
fn value(kind: Activation, x: f32) -> f32 {
    match kind {
        Activation::Silu => x * sigmoid(x),
        Activation::Gelu => gelu(x),
        Activation::Tanh => tanh(x),
    }
}

/// The derivative.
#[inline(always)]
fn derivative(kind: Activation, x: f32) -> f32 {
    match kind {
        Activation::Silu => {
            let s = sigmoid(x);
            s * (1.0 + x * (1.0 - s))
        }
        Activation::Gelu => gelu_and_slope(x).1,
        Activation::Tanh => 1.0 - tanh(x) * tanh(x),
    }
}

// With our vectorized exponential, because the library's `tanh` is a call for each number. Near 0 the subtraction
// cancels, so that the error is that of numbers around 1 (6e-8) and not in proportion to the result.
#[inline(always)]
fn tanh(x: f32) -> f32 {
    2.0 * sigmoid(2.0 * x) - 1.0
}

/// Calls `f(start, piece)` for pieces of an array, on all threads. The loop over a piece must stand in the
/// closure, and the closure in a function marked `#[multiversion]`: `latentlm_products::tasks` says why.
fn pieces(out: &mut [f32], f: impl Fn(usize, &mut [f32]) + Sync) {
    let task = rows_a_task(1);
    out.par_chunks_mut(task)
        .enumerate()
        .for_each(|(index, piece)| f(index * task, piece));
}

/// `out = f(x)` over a piece.
macro_rules! each {
    ($out:expr, $x:expr, $f:expr) => {
        pieces($out, |start, piece| {
            for (out, x) in piece.iter_mut().zip(&$x[start..]) {
                *out = $f(*x);
            }
        })
    };
}

/// `dx = f(x) * dout` over a piece.
macro_rules! each_times {
    ($dx:expr, $x:expr, $dout:expr, $f:expr) => {
        pieces($dx, |start, piece| {
            let inputs = $x[start..].iter().zip(&$dout[start..]);
            for (dx, (x, dout)) in piece.iter_mut().zip(inputs) {
                *dx = $f(*x) * dout;
            }
        })
    };
}

// `match` stands outside of the loops. Within a loop the kind is a constant, so that each loop is compiled
// for one function and has no branches. Macros and not functions: the speech codec's step took 677 ms instead
// of 342 when each number's work was a closure that a helper's loop called (docs/log.md, 2026-11-25).

#[multiversion(targets = "simd")]
pub(super) fn forward(kind: Activation, x: &[f32]) -> Vec<f32> {
    // Zeros and not a copy of `x`: copying is one thread's work, and the loops write every number anyway.
    let mut out = vec![0.0; x.len()];
    match kind {
        Activation::Silu => each!(&mut out, x, |x| value(Activation::Silu, x)),
        Activation::Gelu => each!(&mut out, x, |x| value(Activation::Gelu, x)),
        Activation::Tanh => each!(&mut out, x, |x| value(Activation::Tanh, x)),
    }
    out
}

#[multiversion(targets = "simd")]
pub(super) fn backward(kind: Activation, x: &[f32], dout: &[f32]) -> Vec<f32> {
    let mut dx = vec![0.0; x.len()];
    match kind {
        Activation::Silu => each_times!(&mut dx, x, dout, |x| derivative(Activation::Silu, x)),
        Activation::Gelu => each_times!(&mut dx, x, dout, |x| derivative(Activation::Gelu, x)),
        Activation::Tanh => each_times!(&mut dx, x, dout, |x| derivative(Activation::Tanh, x)),
    }
    dx
}
