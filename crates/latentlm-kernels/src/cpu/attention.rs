//! Attention on packed queries, keys and values, and its gradient. Scores exist for one tile of queries of
//! one head at a time, and only over the keys that these queries see. The backward pass computes them again.

use latentlm_products::{Matrix, Output, product_into};
use multiversion::multiversion;
use rayon::prelude::*;

use super::math;
use crate::mask::Mask;

/// Queries of a [`Tile`]. Larger tiles make larger products. Smaller ones save more of the scores between
/// hidden pairs, which are half of all scores in a long causal document.
const TILE: usize = 64;

/// Sizes of one call. Widths and lengths are in numbers and positions.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shape {
    pub(super) batch: usize,
    pub(super) length: usize,
    pub(super) heads: usize,
    pub(super) kv_heads: usize,
    pub(super) head_dim: usize,
}

impl Shape {
    /// Numbers of a packed position: queries, keys and values of all heads.
    pub(super) fn packed(&self) -> usize {
        (self.heads + 2 * self.kv_heads) * self.head_dim
    }

    /// Factor of the scores.
    pub(super) fn scale(&self) -> f32 {
        1.0 / (self.head_dim as f32).sqrt()
    }
}

/// Rotary position embedding: at each position, pair `i` of a head is turned by an angle of its own.
#[derive(Clone, Copy)]
pub(super) struct Rotation<'a> {
    /// Cosines of the angles, `[length, head_dim / 2]`.
    pub(super) cos: &'a [f32],
    /// Sines of the angles, `[length, head_dim / 2]`.
    pub(super) sin: &'a [f32],
    /// Whether pair `i` is `(2i, 2i + 1)` or else `(i, i + head_dim / 2)`.
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

/// Turns the pairs of one head at one position; in the other direction if `direction` is -1.
#[inline(always)]
fn turn_row(row: &mut [f32], cos: &[f32], sin: &[f32], interleaved: bool, direction: f32) {
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

/// Turns one head at all positions, `[length, head_dim]`; in the other direction if `direction` is -1.
#[multiversion(targets = "simd")]
fn turn(rotation: Rotation<'_>, rows: &mut [f32], head_dim: usize, direction: f32) {
    let half = head_dim / 2;
    for (position, row) in rows.chunks_exact_mut(head_dim).enumerate() {
        let cos = &rotation.cos[position * half..][..half];
        let sin = &rotation.sin[position * half..][..half];
        turn_row(row, cos, sin, rotation.interleaved, direction);
    }
}

/// Turns all heads of one position by the first angles of the rotation.
#[multiversion(targets = "simd")]
pub(super) fn turn_heads(rotation: Rotation<'_>, heads: &mut [f32], head_dim: usize) {
    let cos = &rotation.cos[..head_dim / 2];
    let sin = &rotation.sin[..head_dim / 2];
    for row in heads.chunks_exact_mut(head_dim) {
        turn_row(row, cos, sin, rotation.interleaved, 1.0);
    }
}

/// Memory for the work on one head, reused from head to head.
// Nothing of it is cleared between heads: products and copies overwrite what a head reads.
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
    /// Resizes the memory for documents of a shape.
    fn fit(&mut self, shape: Shape, backward: bool) {
        let rows = shape.length * shape.head_dim;
        let tile = TILE.min(shape.length) * shape.length;
        for (memory, size) in [
            (&mut self.q, rows),
            (&mut self.k, rows),
            (&mut self.scores, tile),
        ] {
            memory.resize(size, 0.0);
        }
        for (memory, size) in [
            (&mut self.dscores, tile),
            (&mut self.dq, rows),
            (&mut self.dk, rows),
            (&mut self.dv, rows),
        ] {
            memory.resize(if backward { size } else { 0 }, 0.0);
        }
    }
}

/// Inputs of attention.
#[derive(Clone, Copy)]
pub(super) struct Attention<'a> {
    /// `[batch, length, (heads + 2 kv_heads) * head_dim]`
    pub(super) packed: &'a [f32],
    pub(super) rotation: Option<Rotation<'a>>,
    pub(super) shape: Shape,
    /// Masks of the documents in each sequence. Positions of one document do not see those of another. The
    /// lengths add up to that of the sequence.
    pub(super) documents: &'a [Mask],
}

/// One document of one sequence.
#[derive(Clone, Copy)]
struct Document<'a> {
    /// `[length, (heads + 2 kv_heads) * head_dim]`
    packed: &'a [f32],
    rotation: Option<Rotation<'a>>,
    /// The shape of the call, with the length of the document.
    shape: Shape,
    mask: Mask,
}

/// The documents of all sequences.
fn split_documents(attention: Attention<'_>) -> Vec<Document<'_>> {
    let Attention {
        packed,
        rotation,
        shape,
        documents,
    } = attention;
    let (mut rest, mut found) = (packed, Vec::with_capacity(shape.batch * documents.len()));
    for _ in 0..shape.batch {
        let mut start = 0;
        for &mask in documents {
            let length = mask.length;
            let (packed, others) = rest.split_at(length * shape.packed());
            rest = others;
            found.push(Document {
                packed,
                rotation: rotation.map(|rotation| rotation.from(start, shape.head_dim)),
                shape: Shape { length, ..shape },
                mask,
            });
            start += length;
        }
    }
    found
}

/// Splits an array with `width` numbers per position at the borders of the documents.
fn split_mut<'a>(
    array: &'a mut [f32],
    width: usize,
    documents: &[Document<'_>],
) -> Vec<&'a mut [f32]> {
    let mut rest = array;
    let mut arrays = Vec::with_capacity(documents.len());
    for document in documents {
        let (first, others) = rest.split_at_mut(document.shape.length * width);
        arrays.push(first);
        rest = others;
    }
    arrays
}

/// Copies the rows of one head out of the packed positions, one behind the other.
fn gather(out: &mut [f32], packed: &[f32], shape: Shape, head: usize) {
    let (width, at) = (shape.packed(), head * shape.head_dim);
    for (out, row) in out
        .chunks_exact_mut(shape.head_dim)
        .zip(packed.chunks_exact(width))
    {
        out.copy_from_slice(&row[at..at + shape.head_dim]);
    }
}

/// Adds the rows of one head to the packed positions.
fn scatter(packed: &mut [f32], rows: &[f32], shape: Shape, head: usize) {
    let (width, at) = (shape.packed(), head * shape.head_dim);
    for (sums, row) in packed
        .chunks_exact_mut(width)
        .zip(rows.chunks_exact(shape.head_dim))
    {
        for (sum, x) in sums[at..at + shape.head_dim].iter_mut().zip(row) {
            *sum += x;
        }
    }
}

/// The values of one key/value head, as a matrix within the packed positions.
fn values(packed: &[f32], shape: Shape, group: usize) -> Matrix<'_> {
    let at = (shape.heads + shape.kv_heads + group) * shape.head_dim;
    Matrix::strided(&packed[at..], shape.length, shape.head_dim, shape.packed())
}

/// Consecutive queries of a head, with the keys that they see.
#[derive(Debug, Clone, Copy)]
pub(super) struct Tile {
    /// First query.
    pub(super) start: usize,
    /// One behind the last query.
    pub(super) end: usize,
    /// Number of keys that at least one of the queries sees. They are the first ones of the document.
    pub(super) width: usize,
}

impl Tile {
    /// Number of queries.
    pub(super) fn rows(&self) -> usize {
        self.end - self.start
    }

    /// Number of scores.
    fn numbers(&self) -> usize {
        self.rows() * self.width
    }
}

/// The tiles of all queries. A later query sees at least the keys of the earlier ones, so the last query of a
/// tile sees all keys of the tile, and the last tile has all keys of the document.
pub(super) fn tiles(mask: Mask) -> impl DoubleEndedIterator<Item = Tile> {
    (0..mask.length).step_by(TILE).map(move |start| {
        let end = (start + TILE).min(mask.length);
        let width = mask.seen(end - 1);
        Tile { start, end, width }
    })
}

/// The mask of a tile's scores.
#[derive(Debug, Clone, Copy)]
pub(super) struct TileMask {
    /// Position of the first query of the tile.
    pub(super) first: usize,
    /// Mask of the document.
    pub(super) document: Mask,
    /// Number of padding positions in front. They are hidden from all positions behind them.
    pub(super) padding: usize,
}

/// Softmax of each row of scores over the keys that its query sees; probabilities of the other keys are 0.
#[multiversion(targets = "simd")]
pub(super) fn softmax(scores: &mut [f32], width: usize, mask: TileMask) {
    for (row, scores) in scores.chunks_exact_mut(width).enumerate() {
        let position = mask.first + row;
        let begin = if position < mask.padding {
            0
        } else {
            mask.padding
        };
        let (seen, behind) = scores.split_at_mut(mask.document.seen(position));
        let (before, seen) = seen.split_at_mut(begin);
        // Only what is seen goes through the exponential. The zeros around it let the next product take the
        // tile as one matrix.
        math::softmax(seen);
        before.fill(0.0);
        behind.fill(0.0);
    }
}

/// Copies queries and keys of a head into the work memory and rotates them there.
fn load_head(document: Document<'_>, head: usize, work: &mut Scratch) {
    let Document {
        packed,
        rotation,
        shape,
        ..
    } = document;
    let group = head * shape.kv_heads / shape.heads;
    // The rotation needs a copy, and rows without gaps suit the products. Values are not rotated and are read
    // in place, see `values`.
    gather(&mut work.q, packed, shape, head);
    gather(&mut work.k, packed, shape, shape.heads + group);
    if let Some(rotation) = rotation {
        turn(rotation, &mut work.q, shape.head_dim, 1.0);
        turn(rotation, &mut work.k, shape.head_dim, 1.0);
    }
}

/// The probabilities of a tile, in `work.scores`, from the queries and keys of [`load_head`].
fn attend(document: Document<'_>, tile: Tile, work: &mut Scratch) {
    let Shape {
        length, head_dim, ..
    } = document.shape;
    let q = Matrix::new(&work.q, length, head_dim).row_range(tile.start..tile.end);
    let k = Matrix::new(&work.k, length, head_dim).row_range(0..tile.width);
    // The product applies the factor as it writes, which saves a pass over the scores.
    let scores = &mut work.scores[..tile.numbers()];
    let output = Output::replace(tile.width).scaled(document.shape.scale());
    product_into(scores, output, q, k.transposed());
    let mask = TileMask {
        first: tile.start,
        document: document.mask,
        padding: 0,
    };
    softmax(scores, tile.width, mask);
}

/// The result of attention, `[batch, length, heads * head_dim]`.
pub(super) fn forward(attention: Attention<'_>) -> Vec<f32> {
    let shape = attention.shape;
    let width = shape.heads * shape.head_dim;
    let mut out = vec![0.0; shape.batch * shape.length * width];
    // Threads take documents and not heads: the numbers of a document are one slice that a thread can borrow,
    // those of a head are spread over all positions. So one document alone has one thread.
    let documents = split_documents(attention);
    split_mut(&mut out, width, &documents)
        .into_par_iter()
        .zip(documents)
        .for_each_init(Scratch::default, |work, (out, document)| {
            let Document { packed, shape, .. } = document;
            work.fit(shape, false);
            for head in 0..shape.heads {
                load_head(document, head, work);
                let v = values(packed, shape, head * shape.kv_heads / shape.heads);
                for tile in tiles(document.mask) {
                    attend(document, tile, work);
                    let p = &work.scores[..tile.numbers()];
                    let p = Matrix::new(p, tile.rows(), tile.width);
                    let out = &mut out[tile.start * width + head * shape.head_dim..];
                    product_into(out, Output::replace(width), p, v.row_range(0..tile.width));
                }
            }
        });
    out
}

/// The gradient of the packed queries, keys and values from the gradient `dout` of the result.
pub(super) fn backward(attention: Attention<'_>, dout: &[f32]) -> Vec<f32> {
    let shape = attention.shape;
    let width = shape.heads * shape.head_dim;
    let mut gradient = vec![0.0; attention.packed.len()];
    let documents = split_documents(attention);
    let (mut rest, mut douts) = (dout, Vec::with_capacity(documents.len()));
    for document in &documents {
        let (first, others) = rest.split_at(document.shape.length * width);
        douts.push(first);
        rest = others;
    }
    split_mut(&mut gradient, shape.packed(), &documents)
        .into_par_iter()
        .zip(documents)
        .zip(douts)
        .for_each_init(Scratch::default, |work, ((gradient, document), dout)| {
            let shape = document.shape;
            work.fit(shape, true);
            for head in 0..shape.heads {
                load_head(document, head, work);
                let group = head * shape.kv_heads / shape.heads;
                let dout = &dout[head * shape.head_dim..];
                let matrices = HeadMatrices {
                    values: values(document.packed, shape, group),
                    dout: Matrix::strided(dout, shape.length, shape.head_dim, width),
                };
                head_gradients(document, matrices, work);
                // Added, not copied: the query heads of a group share keys and values, whose gradient is
                // the sum over the group.
                let key = shape.heads + group;
                scatter(gradient, &work.dq, shape, head);
                scatter(gradient, &work.dk, shape, key);
                scatter(gradient, &work.dv, shape, key + shape.kv_heads);
            }
        });
    gradient
}

/// Inputs of the gradients of one head, beside the queries and keys of [`load_head`].
#[derive(Clone, Copy)]
struct HeadMatrices<'a> {
    /// Values of the head, `[length, head_dim]`.
    values: Matrix<'a>,
    /// Gradient of the head's result, `[length, head_dim]`.
    dout: Matrix<'a>,
}

/// Gradients of the queries, keys and values of one head, in the work memory.
// Each tile's probabilities are computed again. To keep them from the forward pass would take length x length
// numbers for each head of each document; as it is, memory grows with the length and not with its square.
fn head_gradients(document: Document<'_>, matrices: HeadMatrices<'_>, work: &mut Scratch) {
    // The last tile has all keys: it writes their gradients, and the other tiles add to them. So the memory
    // need not be cleared first.
    for (index, tile) in tiles(document.mask).rev().enumerate() {
        attend(document, tile, work);
        tile_gradients(tile, index > 0, document.shape, matrices, work);
    }
    if let Some(rotation) = document.rotation {
        // The gradient of a rotation is the rotation back.
        let head_dim = document.shape.head_dim;
        turn(rotation, &mut work.dq, head_dim, -1.0);
        turn(rotation, &mut work.dk, head_dim, -1.0);
    }
}

/// The gradients from one tile, whose probabilities [`attend`] has computed. Those of keys and values are
/// added to the numbers that are there if `add`.
fn tile_gradients(
    tile: Tile,
    add: bool,
    shape: Shape,
    matrices: HeadMatrices<'_>,
    work: &mut Scratch,
) {
    let (rows, width, head_dim) = (tile.rows(), tile.width, shape.head_dim);
    let queries = tile.start * head_dim..tile.end * head_dim;
    let keys = 0..width * head_dim;
    let v = matrices.values.row_range(0..width);
    let dout = matrices.dout.row_range(tile.start..tile.end);
    let p = &work.scores[..tile.numbers()];
    let ds = &mut work.dscores[..tile.numbers()];
    product_into(ds, Output::replace(width), dout, v.transposed());
    softmax_gradient(p, ds, width);
    let key_output = if add {
        Output::add(head_dim)
    } else {
        Output::replace(head_dim)
    };
    let p = Matrix::new(p, rows, width);
    let dv = &mut work.dv[keys.clone()];
    product_into(dv, key_output, p.transposed(), dout);
    let ds = Matrix::new(ds, rows, width);
    let q = Matrix::new(&work.q[queries.clone()], rows, head_dim);
    let k = Matrix::new(&work.k[keys.clone()], width, head_dim);
    let scale = shape.scale();
    let dq = &mut work.dq[queries];
    product_into(dq, Output::replace(head_dim).scaled(scale), ds, k);
    let dk = &mut work.dk[keys];
    product_into(dk, key_output.scaled(scale), ds.transposed(), q);
}

/// Turns the gradient of probabilities into that of scores: `p * (dp - sum(p * dp))`.
#[multiversion(targets = "simd")]
fn softmax_gradient(p: &[f32], dp: &mut [f32], length: usize) {
    // Keys that are not seen have p = 0, so their gradient is 0 without a mask.
    for (p, dp) in p.chunks_exact(length).zip(dp.chunks_exact_mut(length)) {
        let along = math::sum_pairs(p, dp, |p, dp| p * dp);
        for (dp, p) in dp.iter_mut().zip(p) {
            *dp = p * (*dp - along);
        }
    }
}
