//! Attention on packed queries, keys and values, and its gradient.
//! Scores exist for a few queries of one head at a time, and only over the keys that these see; the
//! backward pass makes them again.

use multiversion::multiversion;
use rayon::prelude::*;

use super::math;
use super::matrix::{Matrix, product_into};
use crate::attention::Sight;

/// Queries of a [`Tile`]. More make larger products, fewer leave out more of what is not seen: half
/// of all scores in a long causal document.
const TILE: usize = 64;

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
    pub(super) fn packed(&self) -> usize {
        (self.heads + 2 * self.kv_heads) * self.head_dim
    }

    pub(super) fn scale(&self) -> f32 {
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
    pub(super) fn from(self, start: usize, head_dim: usize) -> Self {
        let at = start * head_dim / 2;
        Self {
            cos: &self.cos[at..],
            sin: &self.sin[at..],
            ..self
        }
    }
}

/// Turns the pairs of a row by as many angles.
#[inline(always)]
fn turn_row(row: &mut [f32], [cos, sin]: [&[f32]; 2], interleaved: bool, direction: f32) {
    if interleaved {
        for (pair, (cos, sin)) in row.chunks_exact_mut(2).zip(cos.iter().zip(sin)) {
            let (a, b, sin) = (pair[0], pair[1], sin * direction);
            pair[0] = a * cos - b * sin;
            pair[1] = b * cos + a * sin;
        }
    } else {
        let (first, second) = row.split_at_mut(cos.len());
        let pairs = first.iter_mut().zip(second);
        for ((a, b), (cos, sin)) in pairs.zip(cos.iter().zip(sin)) {
            let (x, y, sin) = (*a, *b, sin * direction);
            *a = x * cos - y * sin;
            *b = y * cos + x * sin;
        }
    }
}

/// Turns the rows of one head (`[length, head_dim]`), or back if `direction` is -1.
#[multiversion(targets = "simd")]
fn turn(rotation: Rotation<'_>, rows: &mut [f32], head_dim: usize, direction: f32) {
    let half = head_dim / 2;
    for (position, row) in rows.chunks_exact_mut(head_dim).enumerate() {
        let tables = [rotation.cos, rotation.sin].map(|table| &table[position * half..][..half]);
        turn_row(row, tables, rotation.interleaved, direction);
    }
}

/// Turns the heads of one position, the rotation's first.
#[multiversion(targets = "simd")]
pub(super) fn turn_heads(rotation: Rotation<'_>, heads: &mut [f32], head_dim: usize) {
    let tables = [rotation.cos, rotation.sin].map(|table| &table[..head_dim / 2]);
    for row in heads.chunks_exact_mut(head_dim) {
        turn_row(row, tables, rotation.interleaved, 1.0);
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
        let tile = TILE.min(shape.length) * shape.length;
        let only = |size| if backward { size } else { 0 };
        for (memory, size) in [
            (&mut self.q, rows),
            (&mut self.k, rows),
            (&mut self.scores, tile),
            (&mut self.dscores, only(tile)),
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

/// Some queries of a head, one after the other, with the keys that they see.
#[derive(Debug, Clone, Copy)]
pub(super) struct Tile {
    pub(super) start: usize,
    pub(super) end: usize,
    /// Keys that any of them sees.
    pub(super) width: usize,
}

impl Tile {
    pub(super) fn rows(&self) -> usize {
        self.end - self.start
    }

    fn numbers(&self) -> usize {
        self.rows() * self.width
    }
}

/// The tiles of all queries. Who stands further back sees as much or more, so the last of a tile sees
/// what any of it does, and the last of all sees everything.
pub(super) fn tiles(sight: Sight) -> impl DoubleEndedIterator<Item = Tile> {
    let starts = (0..sight.length).step_by(TILE);
    starts.map(move |start| {
        let end = (start + TILE).min(sight.length);
        let width = sight.seen(end - 1);
        Tile { start, end, width }
    })
}

/// The keys that the rows of a tile see.
#[derive(Debug, Clone, Copy)]
pub(super) struct Window {
    /// Position of the tile's first row.
    pub(super) first: usize,
    pub(super) sight: Sight,
    /// So many of the first positions are seen by each other only.
    pub(super) padding: usize,
}

/// Softmax of each row of scores over the keys that it sees; the others become 0.
#[multiversion(targets = "simd")]
pub(super) fn softmax(scores: &mut [f32], width: usize, window: Window) {
    for (row, scores) in scores.chunks_exact_mut(width).enumerate() {
        let position = window.first + row;
        let begin = match position < window.padding {
            true => 0,
            false => window.padding,
        };
        let (seen, behind) = scores.split_at_mut(window.sight.seen(position));
        let (before, seen) = seen.split_at_mut(begin);
        math::softmax(seen);
        before.fill(0.0);
        behind.fill(0.0);
    }
}

/// Rotated queries and keys of a head.
fn enter(piece: Piece<'_>, head: usize, work: &mut Scratch) {
    let Piece {
        packed,
        rotation,
        shape,
        ..
    } = piece;
    let group = head * shape.kv_heads / shape.heads;
    gather(&mut work.q, packed, shape, head);
    gather(&mut work.k, packed, shape, shape.heads + group);
    if let Some(rotation) = rotation {
        turn(rotation, &mut work.q, shape.head_dim, 1.0);
        turn(rotation, &mut work.k, shape.head_dim, 1.0);
    }
}

/// The softmax of a tile's scores, from what `enter` has made.
fn attend(piece: Piece<'_>, tile: Tile, work: &mut Scratch) {
    let Shape {
        length, head_dim, ..
    } = piece.shape;
    let q = Matrix::new(&work.q, length, head_dim).part(tile.start..tile.end);
    let k = Matrix::new(&work.k, length, head_dim).part(0..tile.width);
    let scores = &mut work.scores[..tile.numbers()];
    let scale = piece.shape.scale();
    product_into(scores, tile.width, false, scale, [q, k.transposed()]);
    let window = Window {
        first: tile.start,
        sight: piece.sight,
        padding: 0,
    };
    softmax(scores, tile.width, window);
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
                enter(piece, head, work);
                let v = values(packed, shape, head * shape.kv_heads / shape.heads);
                for tile in tiles(piece.sight) {
                    attend(piece, tile, work);
                    let p = &work.scores[..tile.numbers()];
                    let p = Matrix::new(p, tile.rows(), tile.width);
                    let out = &mut out[tile.start * width + head * shape.head_dim..];
                    product_into(out, width, false, 1.0, [p, v.part(0..tile.width)]);
                }
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
                enter(piece, head, work);
                let dout = &dout[head * shape.head_dim..];
                let dout = Matrix::strided(dout, shape.length, shape.head_dim, width);
                head_gradients(piece, head, dout, work);
                let group = head * shape.kv_heads / shape.heads;
                let key = shape.heads + group;
                scatter(gradient, &work.dq, shape, head);
                scatter(gradient, &work.dk, shape, key);
                scatter(gradient, &work.dv, shape, key + shape.kv_heads);
            }
        });
    gradient
}

/// Gradients of one head's queries, keys and values, from what `enter` has made.
fn head_gradients(piece: Piece<'_>, head: usize, dout: Matrix<'_>, work: &mut Scratch) {
    let shape = piece.shape;
    let v = values(piece.packed, shape, head * shape.kv_heads / shape.heads);
    // The last tile, which sees all keys, writes their gradients; the others add to them.
    for (index, tile) in tiles(piece.sight).rev().enumerate() {
        attend(piece, tile, work);
        tile_gradients((tile, index > 0), shape, [v, dout], work);
    }
    if let Some(rotation) = piece.rotation {
        turn(rotation, &mut work.dq, shape.head_dim, -1.0);
        turn(rotation, &mut work.dk, shape.head_dim, -1.0);
    }
}

/// A tile's share of its head's gradients, from the scores that `attend` has made.
fn tile_gradients(
    (tile, add): (Tile, bool),
    shape: Shape,
    [v, dout]: [Matrix<'_>; 2],
    work: &mut Scratch,
) {
    let (rows, width, head_dim) = (tile.rows(), tile.width, shape.head_dim);
    let queries = tile.start * head_dim..tile.end * head_dim;
    let keys = 0..width * head_dim;
    let (v, dout) = (v.part(0..width), dout.part(tile.start..tile.end));
    let p = &work.scores[..tile.numbers()];
    let ds = &mut work.dscores[..tile.numbers()];
    product_into(ds, width, false, 1.0, [dout, v.transposed()]);
    softmax_gradient(p, ds, width);
    let p = Matrix::new(p, rows, width);
    let dv = &mut work.dv[keys.clone()];
    product_into(dv, head_dim, add, 1.0, [p.transposed(), dout]);
    let ds = Matrix::new(ds, rows, width);
    let q = Matrix::new(&work.q[queries.clone()], rows, head_dim);
    let k = Matrix::new(&work.k[keys.clone()], width, head_dim);
    let scale = shape.scale();
    product_into(&mut work.dq[queries], head_dim, false, scale, [ds, k]);
    let dk = &mut work.dk[keys];
    product_into(dk, head_dim, add, scale, [ds.transposed(), q]);
}

/// From the gradient of probabilities to that of scores: `p * (dp - sum(p * dp))`.
#[multiversion(targets = "simd")]
fn softmax_gradient(p: &[f32], dp: &mut [f32], length: usize) {
    for (p, dp) in p.chunks_exact(length).zip(dp.chunks_exact_mut(length)) {
        let along = math::sum_pairs(p, dp, |p, dp| p * dp);
        for (dp, p) in dp.iter_mut().zip(p) {
            *dp = p * (*dp - along);
        }
    }
}
