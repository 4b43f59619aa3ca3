//! Attention on packed queries, keys and values, and its gradient. Scores exist for one tile of queries of
//! one head at a time, and only over the keys that these queries see. The backward pass computes them again, in long
//! documents for a few tiles. The heads of short documents are computed by `latentlm_products::short`.

mod gradient;

pub(super) use gradient::backward;

use latentlm_products::math;
use latentlm_products::rotary::{self, Rotation};
use latentlm_products::{Matrix, Output, product_into, short};
use multiversion::multiversion;
use rayon::prelude::*;

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

/// Whether there are so few tasks that threads would wait for the last ones: then each task is shared, too.
fn are_few(tasks: usize) -> bool {
    let threads = rayon::current_num_threads();
    threads > 1 && tasks < 4 * threads
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

impl Document<'_> {
    /// The positions of one head from `start` on, rotated, one behind the other: as many as `out` has rows.
    // The rotation needs a copy, and rows without gaps suit the products. Values are not rotated and are read
    // in place, see `values`.
    fn load(self, out: &mut [f32], head: usize, start: usize) {
        if out.is_empty() {
            return;
        }
        let Shape { head_dim, .. } = self.shape;
        let packed = &self.packed[start * self.shape.packed() + head * head_dim..];
        let rows = out.len() / head_dim;
        let rows = Matrix::strided(packed, rows, head_dim, self.shape.packed());
        let rotation = self.rotation.map(|rotation| rotation.from(start, head_dim));
        rotary::load(out, rows, rotation);
    }

    /// Keys of all key/value heads, rotated, `[kv_heads, length, head_dim]`.
    fn load_keys(self, keys: &mut Vec<f32>) {
        let shape = self.shape;
        let size = shape.length * shape.head_dim;
        keys.resize(shape.kv_heads * size, 0.0);
        for (group, keys) in keys.chunks_exact_mut(size.max(1)).enumerate() {
            self.load(keys, shape.heads + group, 0);
        }
    }

    /// The probabilities of a tile, `scores`, from the tile's queries and the keys that they see, both rotated.
    fn attend(self, tile: Tile, q: &[f32], k: &[f32], scores: &mut [f32]) {
        let head_dim = self.shape.head_dim;
        let q = Matrix::new(q, tile.rows(), head_dim);
        let k = Matrix::new(k, tile.width, head_dim);
        // The product applies the factor as it writes, which saves a pass over the scores.
        let output = Output::replace(tile.width).scaled(self.shape.scale());
        product_into(scores, output, q, k.transposed());
        let mask = TileMask {
            first: tile.start,
            document: self.mask,
            padding: 0,
        };
        softmax(scores, tile.width, mask);
    }

    /// The result for the queries of a tile, `[rows, heads * head_dim]`, with the keys of [`Self::load_keys`].
    fn attend_tile(self, tile: Tile, keys: &[f32], work: &mut TileWork, out: &mut [f32]) {
        let shape = self.shape;
        let (width, head_dim) = (shape.heads * shape.head_dim, shape.head_dim);
        let TileWork { q, scores, short } = work;
        q.resize(tile.rows() * head_dim, 0.0);
        scores.resize(tile.numbers(), 0.0);
        for head in 0..shape.heads {
            let group = head * shape.kv_heads / shape.heads;
            self.load(q, head, tile.start);
            let k = &keys[group * shape.length * head_dim..][..tile.width * head_dim];
            let v = values(self.packed, shape, group).row_range(0..tile.width);
            let out = &mut out[head * head_dim..];
            // Such a document has one tile.
            if short::pays(shape.length, head_dim) {
                let head = short::Head::new(q, k, v);
                short::attend(out, width, head, |query| self.mask.seen(query), short);
                continue;
            }
            self.attend(tile, q, k, scores);
            let p = Matrix::new(scores, tile.rows(), tile.width);
            product_into(out, Output::replace(width), p, v);
        }
    }
}

/// Memory for the work on a tile, reused from tile to tile.
#[derive(Default)]
struct TileWork {
    /// Rotated queries of a head.
    q: Vec<f32>,
    scores: Vec<f32>,
    short: short::Scratch,
}

/// The result of attention, `[batch, length, heads * head_dim]`.
pub(super) fn forward(attention: Attention<'_>) -> Vec<f32> {
    let shape = attention.shape;
    let width = shape.heads * shape.head_dim;
    let mut out = vec![0.0; shape.batch * shape.length * width];
    let documents = split_documents(attention);
    let few = are_few(documents.len());
    split_mut(&mut out, width, &documents)
        .into_par_iter()
        .zip(documents)
        .for_each_init(
            || (Vec::new(), TileWork::default()),
            |(keys, work), (out, document)| {
                document.load_keys(keys);
                let keys = keys.as_slice();
                let tiles = tiles(document.mask).zip(out.chunks_mut(TILE * width));
                if few && document.shape.length > TILE {
                    let tiles: Vec<(Tile, &mut [f32])> = tiles.collect();
                    tiles
                        .into_par_iter()
                        .for_each_init(TileWork::default, |work, (tile, out)| {
                            document.attend_tile(tile, keys, work, out);
                        });
                } else {
                    for (tile, out) in tiles {
                        document.attend_tile(tile, keys, work, out);
                    }
                }
            },
        );
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use rayon::ThreadPoolBuilder;

    /// One long document, several, and one beside short ones.
    #[test]
    fn results_do_not_depend_on_threads() {
        for lengths in [vec![1100], vec![130; 3], vec![1030, 5, 70]] {
            let shape = Shape {
                batch: 1,
                length: lengths.iter().sum(),
                heads: 4,
                kv_heads: 2,
                head_dim: 6,
            };
            let numbers = |count: usize, seed: f32| -> Vec<f32> {
                (0..count).map(|i| (i as f32 * seed).sin()).collect()
            };
            let packed = numbers(shape.length * shape.packed(), 0.7);
            let dout = numbers(shape.length * shape.heads * shape.head_dim, 1.3);
            let documents: Vec<Mask> = lengths.into_iter().map(Mask::causal).collect();
            let attention = Attention {
                packed: &packed,
                rotation: None,
                shape,
                documents: &documents,
            };
            let run = |threads| {
                let pool = ThreadPoolBuilder::new().num_threads(threads).build();
                let pool = pool.expect("a few threads");
                pool.install(|| (forward(attention), backward(attention, &dout)))
            };
            let expected = run(1);
            for threads in [2, 5] {
                assert_eq!(run(threads), expected, "{documents:?}");
            }
        }
    }
}
