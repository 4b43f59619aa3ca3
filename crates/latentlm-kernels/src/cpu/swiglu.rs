//! A feed-forward block and its gradient: norm, modulation, SwiGLU, gate and residual connection.

use burn::backend::TensorMetadata;
use burn::backend::flex::FlexTensor;
use burn::tensor::{DType, Tensor};
use latentlm_products::swiglu::{
    activate, activated, activation_gradients, gate_gradients, gated_sums,
};
use latentlm_products::tasks::{Rows, each_row};
use latentlm_products::{Matrix, Precision};
use multiversion::multiversion;

use super::norm::{self, Affine, Gradients, Norm};
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

/// The numbers of [`Found`] that the backward pass needs. It writes over them: their memory is that of gradients.
pub(super) struct Kept<'a> {
    pub(super) a: &'a mut [f32],
    pub(super) b: &'a mut [f32],
    /// If there is a modulation.
    pub(super) gated: Option<Gated<'a>>,
}

/// What the gate of a modulation takes part in.
pub(super) struct Gated<'a> {
    /// The modulation, which becomes its gradient.
    pub(super) modulation: &'a mut [f32],
    /// `y` of [`Found`].
    pub(super) y: &'a mut [f32],
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
        let weights = [self.gate, self.up].map(|weight| self.entering(weight));
        let [a, b] = precision.products(self.narrow(&u), weights);
        let h = activated(&a, &b, self.inner);
        let mut y = precision.product(self.wide(&h), self.leaving());
        drop(h);
        let out = match self.frame.modulation {
            Some(modulation) => gated_sums(self.frame.x, &y, modulation, self.frame.width),
            None => {
                add_residual(self.frame, &mut y);
                std::mem::take(&mut y)
            }
        };
        Found { out, a, b, y }
    }
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

/// Gradients of a block's inputs, beside that of the modulation.
pub(super) struct BlockGradients {
    pub(super) x: Vec<f32>,
    pub(super) norm_weight: Option<Vec<f32>>,
    pub(super) gate: Vec<f32>,
    pub(super) up: Vec<f32>,
    pub(super) down: Vec<f32>,
}

impl Block<'_> {
    /// Gradients of the inputs from the gradient `dout` of the result. The modulation is that of `kept`, not of the frame.
    pub(super) fn backward(&self, dout: &[f32], kept: Kept<'_>) -> BlockGradients {
        let Kept { a, b, mut gated } = kept;
        let (frame, precision) = (self.frame, self.precision);
        if let Some(gated) = &mut gated {
            gate_gradients(gated.modulation, gated.y, dout, frame.width);
        }
        let dy = gated.as_ref().map_or(dout, |gated| &*gated.y);
        // From the last operation to the first. `h` and `u` are large and are freed before more is allocated.
        let mut h = precision.product(self.narrow(dy), self.leaving().transposed());
        activation_gradients(a, b, &mut h);
        let (da, db) = (&*a, &*b);
        let down = precision.product(self.wide(&h).transposed(), self.narrow(dy));
        drop(h);
        let modulated = Frame {
            modulation: gated.as_ref().map(|gated| &*gated.modulation),
            ..frame
        };
        let u = modulated.normalized();
        let [da_rows, db_rows] = [da, db].map(|gradient| self.wide(gradient));
        let [gate, up] = precision.products(self.narrow(&u).transposed(), [da_rows, db_rows]);
        drop(u);
        // The second product is added to the first as it is written: no second array, and no pass that adds the two.
        let mut x = precision.product(self.wide(da), self.entering(self.gate).transposed());
        precision.add_product(&mut x, self.wide(db), self.entering(self.up).transposed());
        let gradients = Gradients {
            x: &mut x,
            modulation: gated.map(|gated| Rows {
                numbers: gated.modulation,
                width: 3 * frame.width,
            }),
        };
        // `x` also goes around the block: `dout` is a part of its gradient as it is.
        let norm_weight = norm::backward(frame.norm(), gradients, Some(dout));
        BlockGradients {
            x,
            norm_weight,
            gate,
            up,
            down,
        }
    }
}
