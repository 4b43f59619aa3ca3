//! A whole feed-forward block: norm, modulation, SwiGLU, gate, residual; and its gradient.

use super::math::sigmoid;
use super::matrix::{Matrix, add_product, product};
use super::norm::{self, Affine, NormGradients};
use super::rows::{each_row, each_row_of_two};
use multiversion::multiversion;

/// Inputs of the block, rows of `x` being `width` wide.
#[derive(Clone, Copy)]
pub(super) struct Block<'a> {
    pub(super) x: &'a [f32],
    pub(super) width: usize,
    pub(super) inner: usize,
    pub(super) epsilon: f32,
    pub(super) norm_weight: Option<&'a [f32]>,
    /// Shift, scale and gate of every row.
    pub(super) modulation: Option<&'a [f32]>,
    /// `[width, inner]`
    pub(super) gate: &'a [f32],
    /// `[width, inner]`
    pub(super) up: &'a [f32],
    /// `[inner, width]`
    pub(super) down: &'a [f32],
}

/// What the forward pass found and the backward pass needs again.
pub(super) struct Found {
    pub(super) out: Vec<f32>,
    /// Before the activation, `[N, inner]`.
    pub(super) a: Vec<f32>,
    /// `[N, inner]`
    pub(super) b: Vec<f32>,
    /// Before the gate, `[N, width]`; empty without modulation.
    pub(super) y: Vec<f32>,
}

impl<'a> Block<'a> {
    fn rows(&self) -> usize {
        self.x.len() / self.width
    }

    fn affine(&self) -> Affine<'a> {
        Affine {
            weight: self.norm_weight,
            modulation: self.modulation,
            parts: 3,
        }
    }

    fn normalized(&self) -> Vec<f32> {
        norm::forward(self.x, self.width, self.epsilon, self.affine())
    }

    fn wide<'b>(&self, data: &'b [f32]) -> Matrix<'b> {
        Matrix::new(data, self.rows(), self.inner)
    }

    fn narrow<'b>(&self, data: &'b [f32]) -> Matrix<'b> {
        Matrix::new(data, self.rows(), self.width)
    }

    fn entering<'b>(&self, weight: &'b [f32]) -> Matrix<'b> {
        Matrix::new(weight, self.width, self.inner)
    }

    fn leaving(&self) -> Matrix<'a> {
        Matrix::new(self.down, self.inner, self.width)
    }

    /// The gate of a row.
    fn gate_row(&self, index: usize) -> Option<&'a [f32]> {
        let row = &self.modulation?[index * 3 * self.width..];
        Some(&row[2 * self.width..3 * self.width])
    }

    /// The result alone, of which no gradient is asked.
    pub(super) fn infer(&self) -> Vec<f32> {
        let u = self.normalized();
        let mut h = product(self.narrow(&u), self.entering(self.gate));
        let b = product(self.narrow(&u), self.entering(self.up));
        activate(&mut h, &b, self.inner);
        let mut out = product(self.wide(&h), self.leaving());
        add_residual(*self, &mut out);
        out
    }

    pub(super) fn forward(&self) -> Found {
        let u = self.normalized();
        let a = product(self.narrow(&u), self.entering(self.gate));
        let b = product(self.narrow(&u), self.entering(self.up));
        let mut h = a.clone();
        activate(&mut h, &b, self.inner);
        let mut out = product(self.wide(&h), self.leaving());
        let y = match self.modulation {
            Some(_) => out.clone(),
            None => Vec::new(),
        };
        add_residual(*self, &mut out);
        Found { out, a, b, y }
    }
}

/// `silu(h) * b`, in the place of `h`.
#[multiversion(targets = "simd")]
fn activate(h: &mut [f32], b: &[f32], width: usize) {
    each_row(h, width, |index, h| {
        for (h, b) in h.iter_mut().zip(&b[index * width..]) {
            *h *= sigmoid(*h) * b;
        }
    });
}

/// `x + out`, gated where there is a modulation, in the place of `out`.
#[multiversion(targets = "simd")]
fn add_residual(block: Block<'_>, out: &mut [f32]) {
    let width = block.width;
    each_row(out, width, |index, out| {
        let x = &block.x[index * width..][..width];
        match block.gate_row(index) {
            Some(gate) => {
                for (out, (x, gate)) in out.iter_mut().zip(x.iter().zip(gate)) {
                    *out = x + *out * gate;
                }
            }
            None => {
                for (out, x) in out.iter_mut().zip(x) {
                    *out += x;
                }
            }
        }
    });
}

/// Rows times their gates.
#[multiversion(targets = "simd")]
fn gate(block: Block<'_>, rows: &mut [f32]) {
    each_row(rows, block.width, |index, row| {
        let gate = block.gate_row(index).unwrap_or_default();
        for (number, gate) in row.iter_mut().zip(gate) {
            *number *= gate;
        }
    });
}

/// The gates' gradient, the third part of each row of `modulation`.
#[multiversion(targets = "simd")]
fn gate_gradient(modulation: &mut [f32], width: usize, dout: &[f32], y: &[f32]) {
    each_row(modulation, 3 * width, |index, row| {
        let at = index * width;
        let dgate = row[2 * width..].iter_mut();
        for (dgate, (dout, y)) in dgate.zip(dout[at..].iter().zip(&y[at..])) {
            *dgate = dout * y;
        }
    });
}

/// Gradients of a block's inputs.
pub(super) struct BlockGradients {
    pub(super) x: Vec<f32>,
    pub(super) norm_weight: Option<Vec<f32>>,
    pub(super) modulation: Option<Vec<f32>>,
    pub(super) gate: Vec<f32>,
    pub(super) up: Vec<f32>,
    pub(super) down: Vec<f32>,
}

impl Block<'_> {
    /// Gradients for the output's gradient `dout`, from `a`, `b` and `y` of the forward pass.
    pub(super) fn backward(&self, dout: &[f32], [a, b, y]: [&[f32]; 3]) -> BlockGradients {
        let gated = self.modulation.map(|_| {
            let mut dy = dout.to_vec();
            gate(*self, &mut dy);
            dy
        });
        let dy = gated.as_deref().unwrap_or(dout);
        let dh = product(self.narrow(dy), self.leaving().transposed());
        let (da, db, h) = activation_gradients([a, b], self.inner, dh);
        let down = product(self.wide(&h).transposed(), self.narrow(dy));
        drop(h);
        let u = self.normalized();
        let gate = product(self.narrow(&u).transposed(), self.wide(&da));
        let up = product(self.narrow(&u).transposed(), self.wide(&db));
        drop(u);
        let mut du = product(self.wide(&da), self.entering(self.gate).transposed());
        add_product(&mut du, self.wide(&db), self.entering(self.up).transposed());
        let NormGradients {
            x,
            weight,
            mut modulation,
        } = norm::backward(
            self.x,
            self.width,
            self.epsilon,
            self.affine(),
            &du,
            Some(dout),
        );
        if let Some(modulation) = &mut modulation {
            gate_gradient(modulation, self.width, dout, y);
        }
        BlockGradients {
            x,
            norm_weight: weight,
            modulation,
            gate,
            up,
            down,
        }
    }
}

/// Gradients of `a` and `b` in `silu(a) * b`, and that product again, for its gradient `dh`.
#[multiversion(targets = "simd")]
fn activation_gradients(
    [a, b]: [&[f32]; 2],
    width: usize,
    dh: Vec<f32>,
) -> (Vec<f32>, Vec<f32>, Vec<f32>) {
    let mut da = dh;
    let mut db = vec![0.0; a.len()];
    let mut h = vec![0.0; a.len()];
    each_row_of_two((&mut db, width), (&mut h, width), |index, db, h| {
        let row = index * width..(index + 1) * width;
        let inputs = a[row.clone()].iter().zip(&b[row.clone()]).zip(&da[row]);
        for ((db, h), ((a, b), dh)) in db.iter_mut().zip(h).zip(inputs) {
            let activated = a * sigmoid(*a);
            *db = dh * activated;
            *h = activated * b;
        }
    });
    each_row(&mut da, width, |index, da| {
        let at = index * width;
        for (da, (a, b)) in da.iter_mut().zip(a[at..].iter().zip(&b[at..])) {
            let s = sigmoid(*a);
            *da *= b * s * (1.0 + a * (1.0 - s));
        }
    });
    (da, db, h)
}
