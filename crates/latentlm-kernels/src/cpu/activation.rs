//! Activations and their derivatives.

use super::math::{erf, exp, sigmoid};
use super::rows::each_row;
use crate::activation::Activation;
use multiversion::multiversion;

/// Numbers of a row when there are no rows.
const ROW: usize = 4096;

const FRAC_1_SQRT_2PI: f32 = 0.398_942_3;

#[inline(always)]
fn value(kind: Activation, x: f32) -> f32 {
    match kind {
        Activation::Silu => x * sigmoid(x),
        Activation::Gelu => 0.5 * x * (1.0 + erf(x * std::f32::consts::FRAC_1_SQRT_2)),
        Activation::Tanh => tanh(x),
    }
}

#[inline(always)]
fn slope(kind: Activation, x: f32) -> f32 {
    match kind {
        Activation::Silu => {
            let s = sigmoid(x);
            s * (1.0 + x * (1.0 - s))
        }
        Activation::Gelu => {
            let phi = 0.5 * (1.0 + erf(x * std::f32::consts::FRAC_1_SQRT_2));
            phi + x * FRAC_1_SQRT_2PI * exp(-0.5 * x * x)
        }
        Activation::Tanh => 1.0 - tanh(x) * tanh(x),
    }
}

#[inline(always)]
fn tanh(x: f32) -> f32 {
    2.0 * sigmoid(2.0 * x) - 1.0
}

/// Applies `f(index, slot)` over flat memory, in tasks.
fn each(out: &mut [f32], f: impl Fn(usize, &mut f32) + Sync) {
    let whole = out.len() / ROW * ROW;
    let (rows, rest) = out.split_at_mut(whole);
    each_row(rows, ROW, |row, out| {
        for (index, slot) in out.iter_mut().enumerate() {
            f(row * ROW + index, slot);
        }
    });
    for (index, slot) in rest.iter_mut().enumerate() {
        f(whole + index, slot);
    }
}

// The kinds are matched outside the loops: within, a constant lets each be compiled by itself.

#[multiversion(targets = "simd")]
pub(super) fn forward(kind: Activation, x: &[f32]) -> Vec<f32> {
    let mut out = x.to_vec();
    match kind {
        Activation::Silu => each(&mut out, |_, x| *x = value(Activation::Silu, *x)),
        Activation::Gelu => each(&mut out, |_, x| *x = value(Activation::Gelu, *x)),
        Activation::Tanh => each(&mut out, |_, x| *x = value(Activation::Tanh, *x)),
    }
    out
}

#[multiversion(targets = "simd")]
pub(super) fn backward(kind: Activation, x: &[f32], dout: &[f32]) -> Vec<f32> {
    let mut dx = x.to_vec();
    match kind {
        Activation::Silu => each(&mut dx, |i, x| *x = slope(Activation::Silu, *x) * dout[i]),
        Activation::Gelu => each(&mut dx, |i, x| *x = slope(Activation::Gelu, *x) * dout[i]),
        Activation::Tanh => each(&mut dx, |i, x| *x = slope(Activation::Tanh, *x) * dout[i]),
    }
    dx
}
