//! Attention on packed queries, keys and values, and its gradient.
//! Scores exist for one head of one sequence at a time; the backward pass makes them again.

use multiversion::multiversion;
use rayon::prelude::*;

use super::math::exp;
use super::matrix::{Matrix, product_into};
use crate::attention::Sight;

/// Sizes of one call.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shape {
    pub(super) batch: usize,
    pub(super) length: usize,
    pub(super) heads: usize,
    pub(super) kv_heads: usize,
    pub(super) head_dim: usize,
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
    /// The rotation of the positions from `start` on.
    fn from(self, start: usize, head_dim: usize) -> Self {
        let at = start * head_dim / 2;
        Self {
            cos: &self.cos[at..],
            sin: &self.sin[at..],
            ..self
        }
    }
}

/// Turns the rows of one head (`[length, head_dim]`), or back if `direction` is -1.
#[multiversion(targets = "simd")]
fn turn(rotation: Rotation<'_>, rows: &mut [f32], head_dim: usize, direction: f32) {
    let half = head_dim / 2;
    for (position, row) in rows.chunks_exact_mut(head_dim).enumerate() {
        let cos = &rotation.cos[position * half..][..half];
        let sin = &rotation.sin[position * half..][..half];
        if rotation.interleaved {
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

/// Memory of one head's work, reused from head to head.
#[derive(Default)]
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
    /// Brings everything to a sequence's size.
    fn fit(&mut self, shape: Shape, backward: bool) {
        let rows = shape.length * shape.head_dim;
        let square = shape.length * shape.length;
        let only = |size| if backward { size } else { 0 };
        for (memory, size) in [
            (&mut self.q, rows),
            (&mut self.k, rows),
            (&mut self.scores, square),
            (&mut self.dscores, only(square)),
            (&mut self.dq, only(rows)),
            (&mut self.dk, only(rows)),
            (&mut self.dv, only(rows)),
        ] {
            memory.resize(size, 0.0);
        }
    }
}

/// One sequence, or one document of a packed one.
#[derive(Clone, Copy)]
struct Piece<'a> {
    packed: &'a [f32],
    rotation: Option<Rotation<'a>>,
    /// Its own length in the place of the sequence's.
    shape: Shape,
    sight: Sight,
}

/// What each piece is made of: every sequence of the batch is cut into the same documents.
fn pieces<'a>(
    packed: &'a [f32],
    rotation: Option<Rotation<'a>>,
    shape: Shape,
    documents: &[Sight],
) -> Vec<Piece<'a>> {
    let (mut rest, mut pieces) = (packed, Vec::with_capacity(shape.batch * documents.len()));
    for _ in 0..shape.batch {
        let mut start = 0;
        for &sight in documents {
            let length = sight.length;
            let (packed, others) = rest.split_at(length * shape.packed());
            rest = others;
            pieces.push(Piece {
                packed,
                rotation: rotation.map(|rotation| rotation.from(start, shape.head_dim)),
                shape: Shape { length, ..shape },
                sight,
            });
            start += length;
        }
    }
    pieces
}

/// The same cut of an array with `width` numbers a position.
fn cut<'a>(array: &'a mut [f32], width: usize, pieces: &[Piece<'_>]) -> Vec<&'a mut [f32]> {
    let mut rest = array;
    let mut parts = Vec::with_capacity(pieces.len());
    for piece in pieces {
        let (part, others) = rest.split_at_mut(piece.shape.length * width);
        parts.push(part);
        rest = others;
    }
    parts
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
#[multiversion(targets = "simd")]
fn softmax(scores: &mut [f32], sight: Sight) {
    for (position, row) in scores.chunks_exact_mut(sight.length).enumerate() {
        let (seen, hidden) = row.split_at_mut(sight.seen(position));
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
fn attend(piece: Piece<'_>, head: usize, work: &mut Scratch) {
    let Piece {
        packed,
        rotation,
        shape,
        sight,
    } = piece;
    let Shape {
        length, head_dim, ..
    } = shape;
    let group = head * shape.kv_heads / shape.heads;
    gather(&mut work.q, packed, shape, head);
    gather(&mut work.k, packed, shape, shape.heads + group);
    if let Some(rotation) = rotation {
        turn(rotation, &mut work.q, head_dim, 1.0);
        turn(rotation, &mut work.k, head_dim, 1.0);
    }
    let q = Matrix::new(&work.q, length, head_dim);
    let k = Matrix::new(&work.k, length, head_dim);
    let pair = [q, k.transposed()];
    product_into(&mut work.scores, length, false, shape.scale(), pair);
    softmax(&mut work.scores, sight);
}

/// Mixed values of all heads, `[batch, length, heads * head_dim]`. Positions of one document do not
/// see those of another; the documents' lengths add up to the sequence's.
pub(super) fn forward(
    packed: &[f32],
    rotation: Option<Rotation<'_>>,
    shape: Shape,
    documents: &[Sight],
) -> Vec<f32> {
    let width = shape.heads * shape.head_dim;
    let mut out = vec![0.0; shape.batch * shape.length * width];
    let pieces = pieces(packed, rotation, shape, documents);
    cut(&mut out, width, &pieces)
        .into_par_iter()
        .zip(pieces)
        .for_each_init(Scratch::default, |work, (out, piece)| {
            let Piece { packed, shape, .. } = piece;
            work.fit(shape, false);
            for head in 0..shape.heads {
                attend(piece, head, work);
                let p = Matrix::new(&work.scores, shape.length, shape.length);
                let v = values(packed, shape, head * shape.kv_heads / shape.heads);
                let out = &mut out[head * shape.head_dim..];
                product_into(out, width, false, 1.0, [p, v]);
            }
        });
    out
}

/// Gradient of the packed queries, keys and values for the mixed values' gradient `dout`.
pub(super) fn backward(
    packed: &[f32],
    rotation: Option<Rotation<'_>>,
    (shape, documents): (Shape, &[Sight]),
    dout: &[f32],
) -> Vec<f32> {
    let width = shape.heads * shape.head_dim;
    let mut gradient = vec![0.0; packed.len()];
    let pieces = pieces(packed, rotation, shape, documents);
    let mut rest = dout;
    let douts: Vec<&[f32]> = pieces
        .iter()
        .map(|piece| {
            let (part, others) = rest.split_at(piece.shape.length * width);
            rest = others;
            part
        })
        .collect();
    cut(&mut gradient, shape.packed(), &pieces)
        .into_par_iter()
        .zip(pieces)
        .zip(douts)
        .for_each_init(Scratch::default, |work, ((gradient, piece), dout)| {
            let shape = piece.shape;
            work.fit(shape, true);
            for head in 0..shape.heads {
                attend(piece, head, work);
                let dout = &dout[head * shape.head_dim..];
                let dout = Matrix::strided(dout, shape.length, shape.head_dim, width);
                head_gradients(piece, (head, dout), work);
                let group = head * shape.kv_heads / shape.heads;
                let key = shape.heads + group;
                scatter(gradient, &work.dq, shape, head);
                scatter(gradient, &work.dk, shape, key);
                scatter(gradient, &work.dv, shape, key + shape.kv_heads);
            }
        });
    gradient
}

/// Gradients of one head's queries, keys and values, from the scores that `attend` has made.
fn head_gradients(piece: Piece<'_>, (head, dout): (usize, Matrix<'_>), work: &mut Scratch) {
    let Piece {
        packed,
        rotation,
        shape,
        ..
    } = piece;
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
    softmax_gradient(&work.scores, &mut work.dscores, length);
    let ds = Matrix::new(&work.dscores, length, length);
    let q = Matrix::new(&work.q, length, head_dim);
    let k = Matrix::new(&work.k, length, head_dim);
    let scale = shape.scale();
    product_into(&mut work.dq, head_dim, false, scale, [ds, k]);
    product_into(&mut work.dk, head_dim, false, scale, [ds.transposed(), q]);
    if let Some(rotation) = rotation {
        turn(rotation, &mut work.dq, head_dim, -1.0);
        turn(rotation, &mut work.dk, head_dim, -1.0);
    }
}

/// From the gradient of probabilities to that of scores: `p * (dp - sum(p * dp))`.
#[multiversion(targets = "simd")]
fn softmax_gradient(p: &[f32], dp: &mut [f32], length: usize) {
    for (p, dp) in p.chunks_exact(length).zip(dp.chunks_exact_mut(length)) {
        let along = super::math::sum_pairs(p, dp, |p, dp| p * dp);
        for (dp, p) in dp.iter_mut().zip(p) {
            *dp = p * (*dp - along);
        }
    }
}
