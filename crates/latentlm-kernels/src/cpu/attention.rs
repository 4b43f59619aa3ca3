//! Attention on packed queries, keys and values, and its gradient.
//! Scores exist for one head of one sequence at a time; the backward pass makes them again.

use rayon::prelude::*;

use super::math::exp;
use super::matrix::{Matrix, product_into};
use super::rows::vectorized;

/// Sizes of one call.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shape {
    pub(super) batch: usize,
    pub(super) length: usize,
    pub(super) heads: usize,
    pub(super) kv_heads: usize,
    pub(super) head_dim: usize,
    /// Whether a position sees itself and those before it alone.
    pub(super) causal: bool,
}

impl Shape {
    /// Numbers of a position: queries, keys and values of all heads.
    fn packed(&self) -> usize {
        (self.heads + 2 * self.kv_heads) * self.head_dim
    }

    fn scale(&self) -> f32 {
        1.0 / (self.head_dim as f32).sqrt()
    }
}

/// The rotation of every position: pairs `(first(i), second(i))` turn by the angle whose cosine and
/// sine stand at `[position, i]`.
#[derive(Clone, Copy)]
pub(super) struct Rotation<'a> {
    /// `[length, head_dim / 2]` each.
    pub(super) cos: &'a [f32],
    pub(super) sin: &'a [f32],
    /// Pairs `(2i, 2i + 1)`, or `(i, i + half)`.
    pub(super) interleaved: bool,
}

impl Rotation<'_> {
    /// Turns the rows of one head (`[length, head_dim]`), or back if `direction` is -1.
    #[inline(always)]
    fn turn(&self, rows: &mut [f32], head_dim: usize, direction: f32) {
        let half = head_dim / 2;
        for (position, row) in rows.chunks_exact_mut(head_dim).enumerate() {
            let cos = &self.cos[position * half..][..half];
            let sin = &self.sin[position * half..][..half];
            if self.interleaved {
                for (pair, (cos, sin)) in row.chunks_exact_mut(2).zip(cos.iter().zip(sin)) {
                    let (a, b, sin) = (pair[0], pair[1], sin * direction);
                    pair[0] = a * cos - b * sin;
                    pair[1] = b * cos + a * sin;
                }
            } else {
                let (first, second) = row.split_at_mut(half);
                let pairs = first.iter_mut().zip(second);
                for ((a, b), (cos, sin)) in pairs.zip(cos.iter().zip(sin)) {
                    let (x, y, sin) = (*a, *b, sin * direction);
                    *a = x * cos - y * sin;
                    *b = y * cos + x * sin;
                }
            }
        }
    }
}

/// Memory of one head's work, reused from head to head.
struct Scratch {
    q: Vec<f32>,
    k: Vec<f32>,
    scores: Vec<f32>,
    dscores: Vec<f32>,
    dq: Vec<f32>,
    dk: Vec<f32>,
    dv: Vec<f32>,
}

impl Scratch {
    fn new(shape: Shape, backward: bool) -> Self {
        let rows = shape.length * shape.head_dim;
        let square = shape.length * shape.length;
        let only = |size| vec![0.0; if backward { size } else { 0 }];
        Self {
            q: vec![0.0; rows],
            k: vec![0.0; rows],
            scores: vec![0.0; square],
            dscores: only(square),
            dq: only(rows),
            dk: only(rows),
            dv: only(rows),
        }
    }
}

/// Copies one head's rows out of the packed sequence.
fn gather(out: &mut [f32], packed: &[f32], shape: Shape, head: usize) {
    let (width, at) = (shape.packed(), head * shape.head_dim);
    for (out, row) in out
        .chunks_exact_mut(shape.head_dim)
        .zip(packed.chunks_exact(width))
    {
        out.copy_from_slice(&row[at..at + shape.head_dim]);
    }
}

/// Adds one head's rows to the packed sequence.
fn scatter(packed: &mut [f32], rows: &[f32], shape: Shape, head: usize) {
    let (width, at) = (shape.packed(), head * shape.head_dim);
    for (row, part) in packed
        .chunks_exact_mut(width)
        .zip(rows.chunks_exact(shape.head_dim))
    {
        for (sum, part) in row[at..at + shape.head_dim].iter_mut().zip(part) {
            *sum += part;
        }
    }
}

/// One head's values, a matrix within the packed sequence.
fn values(packed: &[f32], shape: Shape, group: usize) -> Matrix<'_> {
    let at = (shape.heads + shape.kv_heads + group) * shape.head_dim;
    Matrix::strided(&packed[at..], shape.length, shape.head_dim, shape.packed())
}

/// Softmax of each row over the positions that it sees; the others become 0.
#[inline(always)]
fn softmax(scores: &mut [f32], shape: Shape) {
    let length = shape.length;
    for (position, row) in scores.chunks_exact_mut(length).enumerate() {
        let seen = if shape.causal { position + 1 } else { length };
        let (seen, hidden) = row.split_at_mut(seen);
        let most = seen.iter().fold(f32::NEG_INFINITY, |most, s| most.max(*s));
        let mut sum = 0.0;
        for score in seen.iter_mut() {
            *score = exp(*score - most);
        }
        for score in seen.iter() {
            sum += score;
        }
        let share = 1.0 / sum;
        for score in seen {
            *score *= share;
        }
        hidden.fill(0.0);
    }
}

/// Rotated queries and keys of a head and the softmax of their scores.
fn attend(
    packed: &[f32],
    rotation: Option<Rotation<'_>>,
    shape: Shape,
    head: usize,
    work: &mut Scratch,
) {
    let Shape {
        length, head_dim, ..
    } = shape;
    let group = head * shape.kv_heads / shape.heads;
    gather(&mut work.q, packed, shape, head);
    gather(&mut work.k, packed, shape, shape.heads + group);
    if let Some(rotation) = rotation {
        vectorized(|| {
            rotation.turn(&mut work.q, head_dim, 1.0);
            rotation.turn(&mut work.k, head_dim, 1.0);
        });
    }
    let q = Matrix::new(&work.q, length, head_dim);
    let k = Matrix::new(&work.k, length, head_dim);
    let pair = [q, k.transposed()];
    product_into(&mut work.scores, length, false, shape.scale(), pair);
    vectorized(|| softmax(&mut work.scores, shape));
}

/// Mixed values of all heads, `[batch, length, heads * head_dim]`.
pub(super) fn forward(packed: &[f32], rotation: Option<Rotation<'_>>, shape: Shape) -> Vec<f32> {
    let width = shape.heads * shape.head_dim;
    let mut out = vec![0.0; shape.batch * shape.length * width];
    let sequence = shape.length * shape.packed();
    out.par_chunks_mut(shape.length * width)
        .zip(packed.par_chunks(sequence))
        .for_each_init(
            || Scratch::new(shape, false),
            |work, (out, packed)| {
                for head in 0..shape.heads {
                    attend(packed, rotation, shape, head, work);
                    let p = Matrix::new(&work.scores, shape.length, shape.length);
                    let v = values(packed, shape, head * shape.kv_heads / shape.heads);
                    let out = &mut out[head * shape.head_dim..];
                    product_into(out, width, false, 1.0, [p, v]);
                }
            },
        );
    out
}

/// Gradient of the packed queries, keys and values for the mixed values' gradient `dout`.
pub(super) fn backward(
    packed: &[f32],
    rotation: Option<Rotation<'_>>,
    shape: Shape,
    dout: &[f32],
) -> Vec<f32> {
    let width = shape.heads * shape.head_dim;
    let sequence = shape.length * shape.packed();
    let mut gradient = vec![0.0; packed.len()];
    gradient
        .par_chunks_mut(sequence)
        .zip(packed.par_chunks(sequence))
        .zip(dout.par_chunks(shape.length * width))
        .for_each_init(
            || Scratch::new(shape, true),
            |work, ((gradient, packed), dout)| {
                for head in 0..shape.heads {
                    attend(packed, rotation, shape, head, work);
                    let dout = &dout[head * shape.head_dim..];
                    let dout = Matrix::strided(dout, shape.length, shape.head_dim, width);
                    head_gradients(packed, rotation, shape, (head, dout), work);
                    let group = head * shape.kv_heads / shape.heads;
                    let key = shape.heads + group;
                    scatter(gradient, &work.dq, shape, head);
                    scatter(gradient, &work.dk, shape, key);
                    scatter(gradient, &work.dv, shape, key + shape.kv_heads);
                }
            },
        );
    gradient
}

/// Gradients of one head's queries, keys and values, from the scores that `attend` has made.
fn head_gradients(
    packed: &[f32],
    rotation: Option<Rotation<'_>>,
    shape: Shape,
    (head, dout): (usize, Matrix<'_>),
    work: &mut Scratch,
) {
    let Shape {
        length, head_dim, ..
    } = shape;
    let v = values(packed, shape, head * shape.kv_heads / shape.heads);
    let p = Matrix::new(&work.scores, length, length);
    product_into(&mut work.dv, head_dim, false, 1.0, [p.transposed(), dout]);
    product_into(
        &mut work.dscores,
        length,
        false,
        1.0,
        [dout, v.transposed()],
    );
    vectorized(|| softmax_gradient(&work.scores, &mut work.dscores, length));
    let ds = Matrix::new(&work.dscores, length, length);
    let q = Matrix::new(&work.q, length, head_dim);
    let k = Matrix::new(&work.k, length, head_dim);
    let scale = shape.scale();
    product_into(&mut work.dq, head_dim, false, scale, [ds, k]);
    product_into(&mut work.dk, head_dim, false, scale, [ds.transposed(), q]);
    if let Some(rotation) = rotation {
        vectorized(|| {
            rotation.turn(&mut work.dq, head_dim, -1.0);
            rotation.turn(&mut work.dk, head_dim, -1.0);
        });
    }
}

/// From the gradient of probabilities to that of scores: `p * (dp - sum(p * dp))`.
#[inline(always)]
fn softmax_gradient(p: &[f32], dp: &mut [f32], length: usize) {
    for (p, dp) in p.chunks_exact(length).zip(dp.chunks_exact_mut(length)) {
        let along = super::math::sum_pairs(p, dp, |p, dp| p * dp);
        for (dp, p) in dp.iter_mut().zip(p) {
            *dp = p * (*dp - along);
        }
    }
}
