//! The gradient of attention. Threads take key/value heads of documents, and share those of long documents: first each
//! takes tiles of queries, then keys.

use latentlm_products::math;
use latentlm_products::{Matrix, Output, product_into, rotary, short};
use multiversion::multiversion;
use rayon::prelude::*;

use super::{
    Attention, Document, Shape, TILE, Tile, are_few, split_documents, split_mut, tiles, values,
};

/// Positions of a document whose heads are each worth several threads in the backward pass.
const LONG: usize = 1024;

/// Tiles whose scores a long document keeps at the same time: 8 MB for each of 4,096 positions.
const WAVE: usize = 4;

/// Keys of a long document whose gradients one thread sums: those of a width of 64 stay in its second-level cache.
const KEYS: usize = 512;

/// Memory for the gradients of one head, reused from head to head.
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
    short: short::Scratch,
}

impl Scratch {
    /// Resizes the memory for documents of a shape.
    fn fit(&mut self, shape: Shape) {
        let rows = shape.length * shape.head_dim;
        for memory in [
            &mut self.q,
            &mut self.k,
            &mut self.dq,
            &mut self.dk,
            &mut self.dv,
        ] {
            memory.resize(rows, 0.0);
        }
        let Cuts { wave, tile, .. } = Cuts::of(shape.length);
        self.scores.resize(wave * tile, 0.0);
        self.dscores.resize(wave * tile, 0.0);
    }
}

/// How the gradients of a document are cut into pieces that threads can share. That depends on its length alone, so that
/// sums do not depend on threads.
struct Cuts {
    /// Tiles of queries whose scores are kept at the same time.
    wave: usize,
    /// Most scores of a tile.
    tile: usize,
    /// Keys whose gradients one thread sums.
    keys: usize,
}

impl Cuts {
    fn of(length: usize) -> Self {
        let (wave, keys) = if length < LONG {
            (1, length)
        } else {
            (WAVE, KEYS)
        };
        Self {
            wave,
            tile: TILE.min(length) * length,
            keys,
        }
    }
}

/// The gradient of the packed queries, keys and values from the gradient `dout` of the result.
pub(in crate::cpu) fn backward(attention: Attention<'_>, dout: &[f32]) -> Vec<f32> {
    let shape = attention.shape;
    let width = shape.heads * shape.head_dim;
    let mut gradient = vec![0.0; attention.packed.len()];
    let documents = split_documents(attention);
    let gradients = split_mut(&mut gradient, shape.packed(), &documents);
    let (mut rest, mut groups) = (dout, Vec::with_capacity(documents.len() * shape.kv_heads));
    for (document, gradient) in documents.into_iter().zip(gradients) {
        let (dout, others) = rest.split_at(document.shape.length * width);
        rest = others;
        for (index, rows) in split_groups(gradient, shape).into_iter().enumerate() {
            groups.push(Group {
                document,
                index,
                dout,
                rows,
            });
        }
    }
    let few = are_few(groups.len());
    groups
        .into_par_iter()
        .for_each_init(Scratch::default, |work, group| group.gradients(work, few));
    gradient
}

/// The numbers of one key/value head and its query heads at one position: of the queries, the key and the value.
type GroupRow<'a> = [&'a mut [f32]; 3];

/// Splits the positions of a document among the key/value heads, so that threads can write them at the same time.
fn split_groups(gradient: &mut [f32], shape: Shape) -> Vec<Vec<GroupRow<'_>>> {
    let head_dim = shape.head_dim;
    let length = gradient.len() / shape.packed();
    let mut groups: Vec<Vec<GroupRow<'_>>> = Vec::with_capacity(shape.kv_heads);
    groups.resize_with(shape.kv_heads, || Vec::with_capacity(length));
    for row in gradient.chunks_exact_mut(shape.packed()) {
        let (queries, rest) = row.split_at_mut(shape.heads * head_dim);
        let (keys, values) = rest.split_at_mut(shape.kv_heads * head_dim);
        let queries = queries.chunks_exact_mut(shape.heads / shape.kv_heads * head_dim);
        let keys = keys.chunks_exact_mut(head_dim);
        let values = values.chunks_exact_mut(head_dim);
        for (group, ((q, k), v)) in groups.iter_mut().zip(queries.zip(keys).zip(values)) {
            group.push([q, k, v]);
        }
    }
    groups
}

/// A key/value head of a document with its query heads.
struct Group<'a> {
    document: Document<'a>,
    /// Number of the key/value head.
    index: usize,
    /// Gradient of the document's result, `[length, heads * head_dim]`.
    dout: &'a [f32],
    /// Where the gradient is added, for each position.
    rows: Vec<GroupRow<'a>>,
}

impl Group<'_> {
    /// Adds the gradients of queries, keys and values. Threads share a long document if there are `few` groups.
    fn gradients(mut self, work: &mut Scratch, few: bool) {
        let (document, shape) = (self.document, self.document.shape);
        let head_dim = shape.head_dim;
        let own_heads = shape.heads / shape.kv_heads;
        work.fit(shape);
        document.load(&mut work.k, shape.heads + self.index, 0);
        for own in 0..own_heads {
            let head = self.index * own_heads + own;
            document.load(&mut work.q, head, 0);
            let dout = &self.dout[head * head_dim..];
            let width = shape.heads * head_dim;
            let matrices = HeadMatrices {
                values: values(document.packed, shape, self.index),
                dout: Matrix::strided(dout, shape.length, head_dim, width),
            };
            if short::pays(shape.length, head_dim) {
                short_gradients(document, matrices, work);
            } else {
                head_gradients(document, matrices, work, few);
            }
            // Added, not copied: the query heads of a group share keys and values, whose gradient is the sum over
            // the group.
            let (rows, rotation) = (&mut self.rows, document.rotation);
            let at = own * head_dim;
            rotary::add_back(rows, (0, at), &work.dq, rotation, head_dim);
            rotary::add_back(rows, (1, 0), &work.dk, rotation, head_dim);
            rotary::add_back(rows, (2, 0), &work.dv, None, head_dim);
        }
    }
}

/// Calls `run` with each item: on all threads if `shared`, or else on this one.
fn each<T: Send>(shared: bool, items: impl Iterator<Item = T>, run: impl Fn(T) + Send + Sync) {
    if shared {
        let items: Vec<T> = items.collect();
        items.into_par_iter().for_each(run);
    } else {
        items.for_each(run);
    }
}

/// Inputs of the gradients of one head, beside its queries and keys.
#[derive(Clone, Copy)]
struct HeadMatrices<'a> {
    /// Values of the head, `[length, head_dim]`.
    values: Matrix<'a>,
    /// Gradient of the head's result, `[length, head_dim]`.
    dout: Matrix<'a>,
}

/// Gradients of the rotated queries and keys, and of the values, of one head of a short document, in the work memory.
fn short_gradients(document: Document<'_>, matrices: HeadMatrices<'_>, work: &mut Scratch) {
    let head = short::Head::new(&work.q, &work.k, matrices.values);
    let gradients = [&mut work.dq, &mut work.dk, &mut work.dv].map(Vec::as_mut_slice);
    let seen = |query| document.mask.seen(query);
    short::gradients(gradients, matrices.dout, head, seen, &mut work.short);
}

/// The same for a document of any length.
// Each tile's probabilities are computed again. To keep them from the forward pass would take length x length
// numbers for each head of each document; as it is, memory grows with the length and not with its square.
fn head_gradients(
    document: Document<'_>,
    matrices: HeadMatrices<'_>,
    work: &mut Scratch,
    few: bool,
) {
    let Shape {
        length, head_dim, ..
    } = document.shape;
    let shared = few && length >= LONG;
    let cuts = Cuts::of(length);
    let head = HeadInputs {
        document,
        q: &work.q,
        k: &work.k,
        matrices,
    };
    let all: Vec<Tile> = tiles(document.mask).collect();
    for (index, wave) in all.rchunks(cuts.wave).enumerate() {
        let queries = &mut work.dq[wave[0].start * head_dim..];
        let scores = work.scores.chunks_mut(cuts.tile);
        let memory = scores.zip(work.dscores.chunks_mut(cuts.tile));
        let memory = memory.zip(queries.chunks_mut(TILE * head_dim));
        each(shared, wave.iter().zip(memory), |(tile, ((p, ds), dq))| {
            head.query_gradients(*tile, p, ds, dq);
        });
        let (p, ds) = (work.scores.as_slice(), work.dscores.as_slice());
        let size = cuts.keys * head_dim;
        let keys = work.dk.chunks_mut(size).zip(work.dv.chunks_mut(size));
        each(shared, keys.enumerate(), |(block, (dk, dv))| {
            let mut keys = KeyGradients {
                start: block * cuts.keys,
                dk,
                dv,
            };
            for (at, tile) in wave.iter().enumerate().rev() {
                let numbers = at * cuts.tile..at * cuts.tile + tile.numbers();
                let scores = TileScores {
                    tile: *tile,
                    p: &p[numbers.clone()],
                    ds: &ds[numbers],
                };
                // The last tile has all keys: it writes their gradients, and the other tiles add to them. So the
                // memory need not be cleared first.
                let is_last = index == 0 && at + 1 == wave.len();
                head.key_gradients(scores, &mut keys, !is_last);
            }
        });
    }
}

/// Inputs for the gradients of one head.
#[derive(Clone, Copy)]
struct HeadInputs<'a> {
    document: Document<'a>,
    /// Rotated queries, `[length, head_dim]`.
    q: &'a [f32],
    /// Rotated keys, `[length, head_dim]`.
    k: &'a [f32],
    matrices: HeadMatrices<'a>,
}

/// The scores of a tile.
#[derive(Clone, Copy)]
struct TileScores<'a> {
    tile: Tile,
    /// Probabilities, `[rows, width]`.
    p: &'a [f32],
    /// Gradients of the scores, `[rows, width]`.
    ds: &'a [f32],
}

/// The gradients of consecutive keys and their values.
struct KeyGradients<'a> {
    /// The first key.
    start: usize,
    /// `[keys, head_dim]`
    dk: &'a mut [f32],
    /// `[keys, head_dim]`
    dv: &'a mut [f32],
}

impl HeadInputs<'_> {
    /// Probabilities of a tile, the gradients of its scores and of its queries.
    fn query_gradients(self, tile: Tile, p: &mut [f32], ds: &mut [f32], dq: &mut [f32]) {
        let (width, head_dim) = (tile.width, self.document.shape.head_dim);
        let p = &mut p[..tile.numbers()];
        let ds = &mut ds[..tile.numbers()];
        let q = &self.q[tile.start * head_dim..tile.end * head_dim];
        let k = &self.k[..width * head_dim];
        self.document.attend(tile, q, k, p);
        let v = self.matrices.values.row_range(0..width);
        let dout = self.matrices.dout.row_range(tile.start..tile.end);
        product_into(ds, Output::replace(width), dout, v.transposed());
        softmax_gradient(p, ds, width);
        let ds = Matrix::new(ds, tile.rows(), width);
        let output = Output::replace(head_dim).scaled(self.document.shape.scale());
        product_into(dq, output, ds, Matrix::new(k, width, head_dim));
    }

    /// The gradients of some keys from one tile, added to the numbers that are there if `add`.
    fn key_gradients(self, scores: TileScores<'_>, keys: &mut KeyGradients<'_>, add: bool) {
        let shape = self.document.shape;
        let (head_dim, start) = (shape.head_dim, keys.start);
        let TileScores { tile, p, ds } = scores;
        let end = (start + keys.dk.len() / head_dim).min(tile.width);
        if end <= start {
            return;
        }
        let [p, ds] = [p, ds].map(|x| {
            let columns = Matrix::strided(&x[start..], tile.rows(), end - start, tile.width);
            columns.transposed()
        });
        let output = if add {
            Output::add(head_dim)
        } else {
            Output::replace(head_dim)
        };
        let dout = self.matrices.dout.row_range(tile.start..tile.end);
        product_into(keys.dv, output, p, dout);
        let q = &self.q[tile.start * head_dim..tile.end * head_dim];
        let q = Matrix::new(q, tile.rows(), head_dim);
        product_into(keys.dk, output.scaled(shape.scale()), ds, q);
    }
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
