//! A feed-forward block and its gradient: norm, modulation, SwiGLU, gate and residual connection.

use burn::backend::TensorMetadata;
use burn::backend::flex::FlexTensor;
use burn::tensor::{DType, Tensor};
use latentlm_products::math::sigmoid;
use latentlm_products::tasks::{Rows, each_row, each_row_of_two};
use latentlm_products::{Matrix, Precision};
use multiversion::multiversion;

use super::norm::{self, Affine, Norm, NormGradients};
use super::plain::{flat, flat_option, wrapped};
use super::storage::{numbers, sizes, tensor};
use super::weight::Weight;
use crate::types::SwiGluBlock;

/// The block without its projections: what happens to rows before and after them.
#[derive(Clone, Copy)]
pub(super) struct Frame<'a> {
    /// `[N, width]`
    pub(super) x: &'a [f32],
    pub(super) width: usize,
    /// Epsilon of the norm.
    pub(super) epsilon: f32,
    /// `[width]`
    pub(super) norm_weight: Option<&'a [f32]>,
    /// Shift, scale and gate of each row, `[N, 3 width]`.
    pub(super) modulation: Option<&'a [f32]>,
}

/// The inputs of a [`Frame`] that is not trained, in contiguous memory.
pub(super) struct Inputs {
    /// `[N, width]`
    pub(super) x: FlexTensor,
    /// `[width]`
    pub(super) norm_weight: Option<FlexTensor>,
    /// `[N, 3 width]`
    pub(super) modulation: Option<FlexTensor>,
    pub(super) epsilon: f64,
}

impl Inputs {
    pub(super) fn frame(&self) -> Frame<'_> {
        let [_, width] = sizes(&self.x);
        Frame {
            x: numbers(&self.x),
            width,
            epsilon: self.epsilon as f32,
            norm_weight: self.norm_weight.as_ref().map(numbers),
            modulation: self.modulation.as_ref().map(numbers),
        }
    }
}

/// Projections of a block that is not trained, in any precision.
pub(super) struct Projections {
    /// `[width, inner]`
    pub(super) gate: Weight,
    /// `[width, inner]`
    pub(super) up: Weight,
    /// `[inner, width]`
    pub(super) down: Weight,
}

/// A feed-forward block whose projections may each be of any type, if kernels may be used.
///
/// # Shapes
/// - `x`: `[N, D]`; `modulation`: `[N, 3 D]`
/// - returns: `[N, D]`
pub(crate) fn plain_swiglu_block(
    x: &Tensor<2>,
    block: &SwiGluBlock,
    modulation: &Option<Tensor<2>>,
) -> Option<Tensor<2>> {
    let norm_weight = block.norm_weight.clone();
    let norm_weight = norm_weight.map(|weight| weight.cast(DType::F32));
    let inputs = Inputs {
        x: flat(x)?,
        norm_weight: flat_option(&norm_weight)?,
        modulation: flat_option(modulation)?,
        epsilon: block.epsilon,
    };
    let projections = Projections {
        gate: Weight::of(&block.gate)?,
        up: Weight::of(&block.up)?,
        down: Weight::of(&block.down)?,
    };
    let out = inputs.frame().infer(&projections);
    Some(wrapped(tensor(out, inputs.x.shape())))
}

/// Inputs of the block.
#[derive(Clone, Copy)]
pub(super) struct Block<'a> {
    pub(super) frame: Frame<'a>,
    /// Width between the projections.
    pub(super) inner: usize,
    /// `[width, inner]`
    pub(super) gate: &'a [f32],
    /// `[width, inner]`
    pub(super) up: &'a [f32],
    /// `[inner, width]`
    pub(super) down: &'a [f32],
    /// Precision of the factors in products.
    pub(super) precision: Precision,
}

/// Results of the forward pass. The backward pass needs all but `out`, and computes the norm and the
/// product of activation and `b` again, which is cheaper than keeping them.
pub(super) struct Found {
    /// Result of the block, `[N, width]`.
    pub(super) out: Vec<f32>,
    /// Product with the weight `gate`, before the activation, `[N, inner]`.
    pub(super) a: Vec<f32>,
    /// Product with the weight `up`, `[N, inner]`.
    pub(super) b: Vec<f32>,
    /// Product with the weight `down`, before the gate of the modulation, `[N, width]`; empty without
    /// modulation.
    pub(super) y: Vec<f32>,
}

/// The numbers of [`Found`] that the backward pass needs.
#[derive(Clone, Copy)]
pub(super) struct Kept<'a> {
    pub(super) a: &'a [f32],
    pub(super) b: &'a [f32],
    pub(super) y: &'a [f32],
}

impl<'a> Frame<'a> {
    fn rows(&self) -> usize {
        self.x.len() / self.width
    }

    fn norm(&self) -> Norm<'a> {
        Norm {
            x: self.x,
            width: self.width,
            epsilon: self.epsilon,
            affine: Affine {
                weight: self.norm_weight,
                modulation: self.modulation,
                parts: 3,
            },
        }
    }

    fn normalized(&self) -> Vec<f32> {
        norm::forward(self.norm())
    }

    /// The gate of a row in the modulation.
    fn gate_row(&self, index: usize) -> Option<&'a [f32]> {
        let row = &self.modulation?[index * 3 * self.width..];
        Some(&row[2 * self.width..3 * self.width])
    }

    /// The result, without what a gradient would need: products are overwritten instead of copied.
    pub(super) fn infer(&self, projections: &Projections) -> Vec<f32> {
        let Projections { gate, up, down } = projections;
        let (u, rows) = (self.normalized(), self.rows());
        let mut h = gate.product(&u, rows);
        let b = up.product(&u, rows);
        activate(&mut h, &b, gate.sizes()[1]);
        let mut out = down.product(&h, rows);
        add_residual(*self, &mut out);
        out
    }
}

impl<'a> Block<'a> {
    /// Numbers `[N, inner]` as a matrix.
    fn wide<'b>(&self, data: &'b [f32]) -> Matrix<'b> {
        Matrix::new(data, self.frame.rows(), self.inner)
    }

    /// Numbers `[N, width]` as a matrix.
    fn narrow<'b>(&self, data: &'b [f32]) -> Matrix<'b> {
        Matrix::new(data, self.frame.rows(), self.frame.width)
    }

    /// The weight `gate` or `up` as a matrix.
    fn entering<'b>(&self, weight: &'b [f32]) -> Matrix<'b> {
        Matrix::new(weight, self.frame.width, self.inner)
    }

    /// The weight `down` as a matrix.
    fn leaving(&self) -> Matrix<'a> {
        Matrix::new(self.down, self.inner, self.frame.width)
    }

    /// The result, with what the backward pass needs.
    pub(super) fn forward(&self) -> Found {
        // `u` and `h` are not kept for the gradient: they are loops over `x`, `a` and `b`, while `a`, `b` and `y`
        // come from products.
        let (u, precision) = (self.frame.normalized(), self.precision);
        let a = precision.product(self.narrow(&u), self.entering(self.gate));
        let b = precision.product(self.narrow(&u), self.entering(self.up));
        let mut h = a.clone();
        activate(&mut h, &b, self.inner);
        let mut out = precision.product(self.wide(&h), self.leaving());
        let y = match self.frame.modulation {
            Some(_) => out.clone(),
            None => Vec::new(),
        };
        add_residual(self.frame, &mut out);
        Found { out, a, b, y }
    }
}

/// Replaces `h` by `silu(h) * b`.
#[multiversion(targets = "simd")]
fn activate(h: &mut [f32], b: &[f32], width: usize) {
    each_row(h, width, |index, h| {
        for (h, b) in h.iter_mut().zip(&b[index * width..]) {
            *h *= sigmoid(*h) * b;
        }
    });
}

/// Replaces `out` by `x + out`, or by `x + out * gate` if there is a modulation.
#[multiversion(targets = "simd")]
fn add_residual(frame: Frame<'_>, out: &mut [f32]) {
    let width = frame.width;
    each_row(out, width, |index, out| {
        let x = &frame.x[index * width..][..width];
        match frame.gate_row(index) {
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

/// Multiplies each row by its gate.
#[multiversion(targets = "simd")]
fn gate(frame: Frame<'_>, rows: &mut [f32]) {
    each_row(rows, frame.width, |index, row| {
        let gate = frame.gate_row(index).unwrap_or_default();
        for (number, gate) in row.iter_mut().zip(gate) {
            *number *= gate;
        }
    });
}

/// Writes the gradient of the gates into the last third of each row of `modulation`.
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
    /// Gradients of the inputs from the gradient `dout` of the result.
    pub(super) fn backward(&self, dout: &[f32], kept: Kept<'_>) -> BlockGradients {
        let (frame, precision) = (self.frame, self.precision);
        let gated = frame.modulation.map(|_| {
            let mut dy = dout.to_vec();
            gate(frame, &mut dy);
            dy
        });
        let dy = gated.as_deref().unwrap_or(dout);
        // From the last operation to the first. `h` and `u` are large and are freed before more is allocated.
        let dh = precision.product(self.narrow(dy), self.leaving().transposed());
        let (da, db, h) = activation_gradients(kept.a, kept.b, self.inner, dh);
        let down = precision.product(self.wide(&h).transposed(), self.narrow(dy));
        drop(h);
        let u = frame.normalized();
        let gate = precision.product(self.narrow(&u).transposed(), self.wide(&da));
        let up = precision.product(self.narrow(&u).transposed(), self.wide(&db));
        drop(u);
        // The second product is added to the first as it is written: no second array, and no pass that adds the two.
        let mut du = precision.product(self.wide(&da), self.entering(self.gate).transposed());
        precision.add_product(&mut du, self.wide(&db), self.entering(self.up).transposed());
        // `x` also goes around the block: `dout` is a part of its gradient as it is.
        let NormGradients {
            x,
            weight,
            mut modulation,
        } = norm::backward(frame.norm(), &du, Some(dout));
        if let Some(modulation) = &mut modulation {
            gate_gradient(modulation, frame.width, dout, kept.y);
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

/// For `h = silu(a) * b` and its gradient `dh`: the gradients of `a` and `b`, and `h`.
#[multiversion(targets = "simd")]
fn activation_gradients(
    a: &[f32],
    b: &[f32],
    width: usize,
    dh: Vec<f32>,
) -> (Vec<f32>, Vec<f32>, Vec<f32>) {
    // `dh` is needed until the end, so a separate loop writes `da` into its memory.
    let mut da = dh;
    let mut db = vec![0.0; a.len()];
    let mut h = vec![0.0; a.len()];
    let db_rows = Rows {
        numbers: &mut db,
        width,
    };
    let h_rows = Rows {
        numbers: &mut h,
        width,
    };
    each_row_of_two(db_rows, h_rows, |index, db, h| {
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
