//! Attention for training on devices without a kernel for it, composed of tensor operations. It works on one
//! block of queries after the other, so that memory grows with the length of a sequence and not with its
//! square.
//!
//! For the gradient it keeps queries, keys, values, the result, and the log-sum-exp of the scores of each
//! query. From these the backward pass computes the probabilities of a block again (Dao et al.,
//! [FlashAttention](https://arxiv.org/abs/2205.14135), algorithm 4). Burn's own graph would keep the
//! probabilities, `T x T` numbers for each head and document.
//!
//! Keys are not cut into blocks. With a running softmax over blocks of keys memory would be linear whatever
//! the length, at the price of many more launches; here it is linear as long as blocks have fewer queries for
//! more keys (docs/decisions/0006-own-gradients.md).

use std::ops::Range;

use burn::tensor::{DType, Device, Tensor, TensorData};

use crate::gradient::record;
use crate::mask::Mask;
use crate::workers::cut;

/// How queries are cut into blocks.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// Most scores of a block, summed over all sequences and heads, as far as `least_queries` allows.
    pub(crate) scores: usize,
    /// Fewest queries that a block is meant to have. Short documents have fewer.
    pub(crate) least_queries: usize,
    /// Most queries of a block.
    pub(crate) most_queries: usize,
    /// Most positions of consecutive short documents that are worked on as one piece.
    pub(crate) together: usize,
}

impl Limits {
    /// At most 64 MiB of float32 scores. Blocks are large enough to keep a device busy. Not too many
    /// documents share a piece, because the scores between them are computed and then masked.
    pub(crate) const USUAL: Self = Self {
        scores: 1 << 24,
        least_queries: 16,
        most_queries: 1024,
        together: 256,
    };
}

/// Added to the score of a hidden key, so that its exponential is 0. It is finite because a difference of
/// two infinities would be NaN.
const UNSEEN: f32 = -1e30;

/// Scaled dot-product attention in packed documents, with a hand-written gradient.
///
/// # Shapes
/// - `inputs`: queries `[B, T, H, E]`, keys and values `[B, T, G, E]`, all part of the graph
/// - returns: `[B, T, H E]`
pub(crate) fn attention(inputs: [Tensor<4>; 3], documents: &[Mask], limits: Limits) -> Tensor<3> {
    let tracked = inputs.clone().map(Tensor::into_dispatch);
    let work = Work::new(inputs.map(Tensor::inner), documents, limits);
    let (out, logs) = work.forward();
    let output = work.by_position(out.clone());
    let [batch, length, heads, width] = output.dims();
    let output = output.reshape([batch, length, heads * width]);
    let gradient = move |gradient| {
        let gradient = Tensor::<3>::from_dispatch(gradient);
        let gradient = gradient.reshape([batch, length, heads, width]);
        let found = work.backward(out, logs, gradient);
        Vec::from(found.map(|x| Some(x.into_dispatch())))
    };
    let output = record(&tracked, output.into_dispatch(), Box::new(gradient));
    Tensor::from_dispatch(output)
}

/// One long document, or several short ones.
#[derive(Debug, PartialEq, Eq)]
struct Piece {
    /// Positions of the piece in the sequence.
    span: Range<usize>,
    /// Whether the piece is one document. Each query then sees the keys from the first one on.
    alone: bool,
    blocks: Vec<Block>,
}

/// Consecutive queries, and all keys that at least one of them sees.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Block {
    queries: Range<usize>,
    keys: Range<usize>,
    /// Whether a key of the block is hidden from a query of the block.
    masked: bool,
}

/// The range of positions that each position sees.
struct Seen {
    /// First position of each range.
    first: Vec<usize>,
    /// End of each range, one behind its last position.
    end: Vec<usize>,
}

impl Seen {
    fn new(documents: &[Mask]) -> Self {
        let (mut first, mut end, mut start) = (Vec::new(), Vec::new(), 0);
        for document in documents {
            let positions = 0..document.length;
            first.extend(positions.clone().map(|_| start));
            end.extend(positions.map(|position| start + document.seen(position)));
            start += document.length;
        }
        Self { first, end }
    }

    fn block(&self, queries: Range<usize>, span: &Range<usize>) -> Block {
        let ends = &self.end[queries.clone()];
        let end = ends.iter().copied().max().unwrap_or(span.end);
        let firsts = &self.first[queries.clone()];
        Block {
            masked: ends.iter().any(|x| *x != end) || firsts.iter().any(|x| *x != span.start),
            queries,
            keys: span.start..end,
        }
    }
}

/// Cuts a sequence into pieces and blocks. `lanes` is the number of heads, summed over the batch.
fn plan(documents: &[Mask], lanes: usize, limits: Limits) -> Vec<Piece> {
    let seen = Seen::new(documents);
    // A pack of many short documents would be as many calls of small products, which leave a device idle.
    let mut pieces: Vec<Piece> = Vec::new();
    let mut start = 0;
    for document in documents.iter().filter(|document| document.length > 0) {
        let end = start + document.length;
        match pieces.last_mut() {
            Some(piece) if end - piece.span.start <= limits.together => {
                piece.span.end = end;
                piece.alone = false;
            }
            _ => pieces.push(Piece {
                span: start..end,
                alone: true,
                blocks: Vec::new(),
            }),
        }
        start = end;
    }
    for piece in &mut pieces {
        let span = piece.span.clone();
        let queries = limits.scores / (lanes * span.len());
        let queries = queries.clamp(limits.least_queries, limits.most_queries);
        for range in cut(span.len(), span.len().div_ceil(queries)) {
            let queries = span.start + range.start..span.start + range.end;
            piece.blocks.push(seen.block(queries, &span));
        }
    }
    pieces
}

/// The inputs of attention and its plan. They are kept for the gradient, beside the result.
struct Work {
    /// Scaled queries, grouped by the key head that they share, `[B, G, H / G, T, E]`.
    q: Tensor<5>,
    /// Keys, `[B, G, T, E]`.
    k: Tensor<4>,
    /// Values, `[B, G, T, E]`.
    v: Tensor<4>,
    /// Factor of the scores, `1 / sqrt(E)`.
    scale: f64,
    pieces: Vec<Piece>,
    edges: Edges,
}

/// [`Seen`] as tensors of float32, which holds positions exactly up to 2^24.
struct Edges {
    /// First position that each position sees, `[T, 1]`.
    first: Tensor<2>,
    /// One behind the last position that each position sees, `[T, 1]`.
    end: Tensor<2>,
    /// All positions, `[1, T]`.
    position: Tensor<2>,
}

impl Work {
    /// # Shapes
    /// - `q`: `[B, T, H, E]`; `k`, `v`: `[B, T, G, E]`
    fn new([q, k, v]: [Tensor<4>; 3], documents: &[Mask], limits: Limits) -> Self {
        let [batch, length, heads, width] = q.dims();
        let kv_heads = k.dims()[2];
        let scale = 1.0 / (width as f64).sqrt();
        Self {
            q: by_head(q.mul_scalar(scale), kv_heads),
            pieces: plan(documents, batch * heads, limits),
            edges: Edges::new(&Seen::new(documents), length, &k.device()),
            k: k.swap_dims(1, 2),
            v: v.swap_dims(1, 2),
            scale,
        }
    }

    /// The result, `[B, G, H / G, T, E]`, and for each block the log-sum-exp of its queries,
    /// `[B, G, (H / G) Q, 1]`.
    fn forward(&self) -> (Tensor<5>, Vec<Tensor<4>>) {
        let kind = self.q.dtype();
        let (mut outs, mut logs) = (Vec::new(), Vec::new());
        for (piece, block) in self.blocks() {
            // Softmax by hand, in float32 whatever the precision of the inputs, because the gradient needs its
            // log-sum-exp. The division waits until after the product, which has fewer numbers than the scores
            // of all but short documents.
            let scores = self.scores(piece, block);
            let largest = scores.clone().max_dim(3);
            let weights = (scores - largest.clone()).exp();
            let sum = weights.clone().sum_dim(3);
            let mixed = weights.cast(kind).matmul(rows(&self.v, &block.keys));
            let mixed = (mixed.cast(DType::F32) / sum.clone()).cast(kind);
            outs.push(self.unfold(mixed));
            logs.push(largest + sum.log());
        }
        (Tensor::cat(outs, 3), logs)
    }

    /// Gradients of queries `[B, T, H, E]`, keys and values `[B, T, G, E]` from the gradient of the result,
    /// `[B, T, H, E]`.
    fn backward(
        &self,
        out: Tensor<5>,
        logs: Vec<Tensor<4>>,
        gradient: Tensor<4>,
    ) -> [Tensor<4>; 3] {
        let kind = self.q.dtype();
        let gradient = by_head(gradient, self.k.dims()[1]);
        let mut logs = logs.into_iter();
        let (mut dq, mut dk, mut dv) = (Vec::new(), Vec::new(), Vec::new());
        for piece in &self.pieces {
            let mut sums: Option<[Tensor<4>; 2]> = None;
            let logs: Vec<_> = logs.by_ref().take(piece.blocks.len()).collect();
            let mut reversed = Vec::new();
            // The last block has all keys of the piece, so its gradients make room for those of the others,
            // which are added to their front.
            for (block, log) in piece.blocks.iter().zip(logs).rev() {
                let rows = BlockRows {
                    out: folded(&out, &block.queries),
                    gradient: folded(&gradient, &block.queries),
                    log,
                };
                let found = self.block_backward(piece, block, rows);
                reversed.push(self.unfold(found.q));
                sums = Some(match sums {
                    None => [found.k, found.v],
                    Some([k, v]) => [add_to_front(k, found.k), add_to_front(v, found.v)],
                });
            }
            dq.extend(reversed.into_iter().rev());
            let Some([k, v]) = sums else { continue };
            dk.push(k);
            dv.push(v);
        }
        let dq = Tensor::cat(dq, 3).mul_scalar(self.scale);
        let [dk, dv] = [dk, dv].map(|x: Vec<Tensor<4>>| {
            let x = Tensor::cat(x, 2).cast(kind);
            x.swap_dims(1, 2)
        });
        [self.by_position(dq), dk, dv]
    }

    /// The gradients that come from one block of queries.
    fn block_backward(&self, piece: &Piece, block: &Block, output: BlockRows) -> BlockGradients {
        let BlockRows { out, gradient, log } = output;
        let kind = gradient.dtype();
        let [k, v] = [&self.k, &self.v].map(|x| rows(x, &block.keys));
        // With the log-sum-exp at hand, the probabilities are one exponential away from the scores.
        let weights = (self.scores(piece, block) - log).exp();
        let along = (gradient.clone().cast(DType::F32) * out.cast(DType::F32)).sum_dim(3);
        let dweights = gradient.clone().matmul(v.swap_dims(2, 3)).cast(DType::F32);
        let dscores = (weights.clone() * (dweights - along)).cast(kind);
        let dv = weights.cast(kind).swap_dims(2, 3).matmul(gradient);
        let q = folded(&self.q, &block.queries);
        let dk = dscores.clone().swap_dims(2, 3).matmul(q);
        BlockGradients {
            q: dscores.matmul(k),
            k: dk.cast(DType::F32),
            v: dv.cast(DType::F32),
        }
    }

    fn blocks(&self) -> impl Iterator<Item = (&Piece, &Block)> {
        let pieces = self.pieces.iter();
        pieces.flat_map(|piece| std::iter::repeat(piece).zip(&piece.blocks))
    }

    /// Scores of a block in float32, `[B, G, (H / G) Q, K]`.
    fn scores(&self, piece: &Piece, block: &Block) -> Tensor<4> {
        let q = folded(&self.q, &block.queries);
        let k = rows(&self.k, &block.keys);
        let scores = q.matmul(k.swap_dims(2, 3)).cast(DType::F32);
        if !block.masked {
            return scores;
        }
        let shape = scores.dims();
        let [batch, kv_heads, group, _, _] = self.q.dims();
        let (queries, keys) = (block.queries.len(), block.keys.len());
        let scores = scores.reshape([batch, kv_heads, group, queries, keys]);
        (scores + self.mask(piece, block)).reshape(shape)
    }

    /// An additive mask for the scores of a block, `[1, 1, 1, Q, K]`: 0 for a key that the query sees, or
    /// else [`UNSEEN`] times the distance from the range that it sees.
    fn mask(&self, piece: &Piece, block: &Block) -> Tensor<5> {
        let of_queries = |x: &Tensor<2>| {
            x.clone()
                .narrow(0, block.queries.start, block.queries.len())
        };
        let keys = &block.keys;
        let position = self.edges.position.clone();
        let position = position.narrow(1, keys.start, keys.len());
        let behind = (position.clone() - of_queries(&self.edges.end) + 1.0).clamp_min(0.0);
        let distance = if piece.alone {
            behind
        } else {
            behind + (of_queries(&self.edges.first) - position).clamp_min(0.0)
        };
        distance.mul_scalar(UNSEEN).unsqueeze()
    }

    /// The way back from [`folded`]: `[B, G, (H / G) Q, E]` to `[B, G, H / G, Q, E]`.
    fn unfold(&self, x: Tensor<4>) -> Tensor<5> {
        let [batch, kv_heads, group, _, width] = self.q.dims();
        let queries = x.dims()[2] / group;
        x.reshape([batch, kv_heads, group, queries, width])
    }

    /// `[B, G, H / G, T, E]` to `[B, T, H, E]`.
    fn by_position(&self, x: Tensor<5>) -> Tensor<4> {
        let [batch, kv_heads, group, length, width] = x.dims();
        let x = x.permute([0, 3, 1, 2, 4]);
        x.reshape([batch, length, kv_heads * group, width])
    }
}

/// The rows of a block's queries, from which its gradients are computed.
struct BlockRows {
    /// Result of attention, `[B, G, (H / G) Q, E]`.
    out: Tensor<4>,
    /// Gradient of the result, `[B, G, (H / G) Q, E]`.
    gradient: Tensor<4>,
    /// Log-sum-exp of the scores, `[B, G, (H / G) Q, 1]`.
    log: Tensor<4>,
}

/// Gradients from one block of queries.
struct BlockGradients {
    /// Gradient of the block's queries, `[B, G, (H / G) Q, E]`.
    q: Tensor<4>,
    /// Term of the gradient of the keys, `[B, G, K, E]`, in float32.
    k: Tensor<4>,
    /// Term of the gradient of the values, `[B, G, K, E]`, in float32.
    v: Tensor<4>,
}

/// `[B, T, H, E]` to `[B, G, H / G, T, E]`.
fn by_head(x: Tensor<4>, kv_heads: usize) -> Tensor<5> {
    let [batch, length, heads, width] = x.dims();
    x.reshape([batch, length, kv_heads, heads / kv_heads, width])
        .permute([0, 2, 3, 1, 4])
}

/// `Q` of the positions in `[B, G, H / G, T, E]`, as `[B, G, (H / G) Q, E]`: the query heads that share a
/// key head become the rows of one matrix product.
fn folded(x: &Tensor<5>, positions: &Range<usize>) -> Tensor<4> {
    let [batch, kv_heads, group, _, width] = x.dims();
    let x = x.clone().narrow(3, positions.start, positions.len());
    x.reshape([batch, kv_heads, group * positions.len(), width])
}

/// A range of the positions in `[B, G, T, E]`.
fn rows(x: &Tensor<4>, positions: &Range<usize>) -> Tensor<4> {
    x.clone().narrow(2, positions.start, positions.len())
}

/// Adds `[B, G, K, E]` to the first `K` positions of a sum.
fn add_to_front(sum: Tensor<4>, term: Tensor<4>) -> Tensor<4> {
    let [batch, heads, keys, width] = term.dims();
    if sum.dims()[2] == keys {
        return sum + term;
    }
    let front = [0..batch, 0..heads, 0..keys, 0..width];
    let added = sum.clone().slice(front.clone()) + term;
    sum.slice_assign(front, added)
}

impl Edges {
    fn new(seen: &Seen, length: usize, device: &Device) -> Self {
        let column = |values: &[usize]| {
            let values: Vec<f32> = values.iter().map(|value| *value as f32).collect();
            let values = TensorData::new(values, [length, 1]);
            Tensor::<2>::from_data(values, device).cast(DType::F32)
        };
        let positions: Vec<usize> = (0..length).collect();
        Self {
            first: column(&seen.first),
            end: column(&seen.end),
            position: column(&positions).swap_dims(0, 1),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each query is in one block. The keys of the block include all that the query sees, and the block is
    /// masked if they include others.
    #[test]
    fn blocks_cover_what_is_seen() {
        let limits = Limits {
            scores: 200,
            least_queries: 3,
            most_queries: 8,
            together: 12,
        };
        let documents = [
            Mask::causal(30),
            Mask::causal(4),
            Mask::full(5),
            Mask::causal(3),
            Mask::mutual(25, 6..19),
            Mask::causal(0),
            Mask::full(20),
        ];
        let seen = Seen::new(&documents);
        let pieces = plan(&documents, 2, limits);
        let spans: Vec<_> = pieces.iter().map(|piece| piece.span.clone()).collect();
        assert_eq!(spans, [0..30, 30..42, 42..67, 67..87]);
        let alone: Vec<_> = pieces.iter().map(|piece| piece.alone).collect();
        assert_eq!(alone, [true, false, true, true]);
        let mut next = 0;
        for piece in &pieces {
            for block in &piece.blocks {
                assert_eq!(block.queries.start, next);
                next = block.queries.end;
                assert!((1..=8).contains(&block.queries.len()), "{block:?}");
                let seen_by = |query: usize| seen.first[query]..seen.end[query];
                let mut queries = block.queries.clone();
                let hidden = queries.any(|query| seen_by(query) != block.keys);
                assert_eq!(block.masked, hidden, "{block:?}");
                for query in block.queries.clone() {
                    let seen = seen_by(query);
                    assert!(block.keys.start <= seen.start && seen.end <= block.keys.end);
                }
            }
            let last = piece.blocks.last().map(|block| block.keys.clone());
            assert_eq!(last, Some(piece.span.clone()), "the last block sees all");
        }
        assert_eq!(next, 87);
        // Full documents need no mask; causal ones need one whether they are cut or not.
        assert!(pieces[3].blocks.iter().all(|block| !block.masked));
        assert!(pieces[0].blocks.iter().all(|block| block.masked));
    }
}
