//! Attention for training where there is no kernel for it, of tensor operations: block by block of
//! queries, so that memory grows with a sequence's length and not with its square.
//!
//! Kept for the gradient are queries, keys, values, the result and of each query the logarithm of the
//! sum over its exponentials; from these the backward pass computes the probabilities of a block anew
//! (Dao et al., [FlashAttention](https://arxiv.org/abs/2205.14135), algorithm 4). Burn's own graph keeps
//! the probabilities, `T x T` numbers a head and document.

use std::ops::Range;

use burn::tensor::{DType, Device, Tensor, TensorData};

use crate::attention::Sight;
use crate::gradient::record;
use crate::workers::cut;

/// How queries are cut into blocks.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// Scores of a block, in numbers, over all sequences and heads.
    pub(crate) scores: usize,
    /// Queries of a block: fewer than this only where a document is shorter, and more than the
    /// second number never.
    pub(crate) queries: [usize; 2],
    /// Positions up to which short documents, one after the other, are one block.
    pub(crate) together: usize,
}

impl Limits {
    /// 64 MiB of scores; blocks that are no work for a device are avoided, and so are many documents
    /// in one, whose scores of each other are computed for nothing.
    pub(crate) const USUAL: Self = Self {
        scores: 1 << 24,
        queries: [16, 1024],
        together: 256,
    };
}

/// Added to the score of what is not seen: its exponential is 0. Finite, so that no infinity is
/// subtracted from another.
const UNSEEN: f32 = -1e30;

/// Scaled dot-product attention in documents, with a gradient of its own.
///
/// # Shapes
/// - queries `[B, T, H, E]`, keys and values `[B, T, G, E]`, all within the graph
/// - returns: `[B, T, H E]`
pub(crate) fn attention(inputs: [Tensor<4>; 3], documents: &[Sight], limits: Limits) -> Tensor<3> {
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

/// One document that is long, or several short ones.
#[derive(Debug, PartialEq, Eq)]
struct Piece {
    span: Range<usize>,
    /// Whether it is one document: then all of its keys before the last that a query sees are seen.
    alone: bool,
    blocks: Vec<Block>,
}

/// Some queries, and the keys that one of them sees or another.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Block {
    queries: Range<usize>,
    keys: Range<usize>,
    /// Whether some of the queries do not see some of the keys.
    masked: bool,
}

/// First and behind the last position that each position sees.
struct Seen {
    first: Vec<usize>,
    end: Vec<usize>,
}

impl Seen {
    fn new(documents: &[Sight]) -> Self {
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
        let all = |list: &[usize], value| list.iter().all(|x| *x == value);
        Block {
            masked: !all(ends, end) || !all(&self.first[queries.clone()], span.start),
            queries,
            keys: span.start..end,
        }
    }
}

/// Cuts a sequence for so many `lanes`, heads of all sequences.
fn plan(documents: &[Sight], lanes: usize, limits: Limits) -> Vec<Piece> {
    let seen = Seen::new(documents);
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
        let [least, most] = limits.queries;
        let queries = (limits.scores / (lanes * span.len())).clamp(least, most);
        let ranges = cut(span.len(), span.len().div_ceil(queries)).into_iter();
        let blocks = ranges.map(|range| {
            let queries = span.start + range.start..span.start + range.end;
            seen.block(queries, &span)
        });
        piece.blocks = blocks.collect();
    }
    pieces
}

/// What is kept for the gradient, beside the result.
struct Work {
    /// Queries, scaled, `[B, G, H / G, T, E]`: those that share keys together.
    q: Tensor<5>,
    /// Keys, `[B, G, T, E]`.
    k: Tensor<4>,
    /// Values, `[B, G, T, E]`.
    v: Tensor<4>,
    scale: f64,
    pieces: Vec<Piece>,
    /// First and behind the last position that each one sees, `[T, 1]`, and its own, `[1, T]`.
    edges: [Tensor<2>; 3],
}

impl Work {
    /// # Shapes
    /// - queries `[B, T, H, E]`, keys and values `[B, T, G, E]`
    fn new([q, k, v]: [Tensor<4>; 3], documents: &[Sight], limits: Limits) -> Self {
        let [batch, length, heads, width] = q.dims();
        let kv_heads = k.dims()[2];
        let scale = 1.0 / (width as f64).sqrt();
        Self {
            q: by_head(q.mul_scalar(scale), kv_heads),
            pieces: plan(documents, batch * heads, limits),
            edges: edges(&Seen::new(documents), length, &k.device()),
            k: k.swap_dims(1, 2),
            v: v.swap_dims(1, 2),
            scale,
        }
    }

    /// Results, `[B, G, H / G, T, E]`, and each block's logarithms of sums, `[B, G, (H / G) Q, 1]`.
    fn forward(&self) -> (Tensor<5>, Vec<Tensor<4>>) {
        let kind = self.q.dtype();
        let (mut outs, mut logs) = (Vec::new(), Vec::new());
        for (piece, block) in self.blocks() {
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

    /// Gradients of queries `[B, T, H, E]`, keys and values `[B, T, G, E]` from the result's, `[B, T,
    /// H, E]`.
    fn backward(
        &self,
        out: Tensor<5>,
        logs: Vec<Tensor<4>>,
        gradient: Tensor<4>,
    ) -> [Tensor<4>; 3] {
        let kind = self.q.dtype();
        let gradient = by_head(gradient, self.k.dims()[1]);
        let mut logs = logs.into_iter();
        let (mut of_queries, mut of_keys, mut of_values) = (Vec::new(), Vec::new(), Vec::new());
        for piece in &self.pieces {
            let mut sums: Option<[Tensor<4>; 2]> = None;
            let logs: Vec<_> = logs.by_ref().take(piece.blocks.len()).collect();
            let mut own = Vec::new();
            // The last block's keys are all of the piece's: the others' are added to its front.
            for (block, log) in piece.blocks.iter().zip(logs).rev() {
                let fold = |x: &Tensor<5>| folded(x, &block.queries);
                let found = self.block_backward(piece, block, log, [fold(&out), fold(&gradient)]);
                own.push(self.unfold(found.q));
                sums = Some(match sums {
                    None => [found.k, found.v],
                    Some([k, v]) => [add_to_front(k, found.k), add_to_front(v, found.v)],
                });
            }
            of_queries.extend(own.into_iter().rev());
            let Some([k, v]) = sums else { continue };
            of_keys.push(k);
            of_values.push(v);
        }
        let of_queries = Tensor::cat(of_queries, 3).mul_scalar(self.scale);
        let [k, v] = [of_keys, of_values]
            .map(|x: Vec<Tensor<4>>| Tensor::cat(x, 2).cast(kind).swap_dims(1, 2));
        [self.by_position(of_queries), k, v]
    }

    /// # Shapes
    /// - `log`: `[B, G, (H / G) Q, 1]`; result and its gradient: `[B, G, (H / G) Q, E]`
    fn block_backward(
        &self,
        piece: &Piece,
        block: &Block,
        log: Tensor<4>,
        [out, gradient]: [Tensor<4>; 2],
    ) -> BlockGradients {
        let kind = gradient.dtype();
        let [k, v] = [&self.k, &self.v].map(|x| rows(x, &block.keys));
        let weights = (self.scores(piece, block) - log).exp();
        let along = (gradient.clone().cast(DType::F32) * out.cast(DType::F32)).sum_dim(3);
        let of_weights = gradient.clone().matmul(v.swap_dims(2, 3)).cast(DType::F32);
        let of_scores = (weights.clone() * (of_weights - along)).cast(kind);
        let of_v = weights.cast(kind).swap_dims(2, 3).matmul(gradient);
        let q = folded(&self.q, &block.queries);
        let of_k = of_scores.clone().swap_dims(2, 3).matmul(q);
        BlockGradients {
            q: of_scores.matmul(k),
            k: of_k.cast(DType::F32),
            v: of_v.cast(DType::F32),
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
        (scores + self.unseen(piece, block)).reshape(shape)
    }

    /// What is added to the scores of keys that a query does not see, `[1, 1, 1, Q, K]`: as much more
    /// as they are farther away, 0 where it sees them.
    fn unseen(&self, piece: &Piece, block: &Block) -> Tensor<5> {
        let of_queries = |x: &Tensor<2>| {
            x.clone()
                .narrow(0, block.queries.start, block.queries.len())
        };
        let [first, end, at] = &self.edges;
        let at = at.clone().narrow(1, block.keys.start, block.keys.len());
        let behind = (at.clone() - of_queries(end) + 1.0).clamp_min(0.0);
        let distance = match piece.alone {
            true => behind,
            false => behind + (of_queries(first) - at).clamp_min(0.0),
        };
        distance.mul_scalar(UNSEEN).unsqueeze()
    }

    /// The rows of a block as they were, `[B, G, H / G, Q, E]`.
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

/// Gradients that one block leaves: of its queries `[B, G, (H / G) Q, E]`, and what it adds to those of
/// its keys and values, `[B, G, K, E]`, in float32.
struct BlockGradients {
    q: Tensor<4>,
    k: Tensor<4>,
    v: Tensor<4>,
}

/// `[B, T, H, E]` to `[B, G, H / G, T, E]`.
fn by_head(x: Tensor<4>, kv_heads: usize) -> Tensor<5> {
    let [batch, length, heads, width] = x.dims();
    x.reshape([batch, length, kv_heads, heads / kv_heads, width])
        .permute([0, 2, 3, 1, 4])
}

/// Some positions of `[B, G, H / G, T, E]`, as the rows of one product for each head of keys, `[B, G,
/// (H / G) Q, E]`.
fn folded(x: &Tensor<5>, positions: &Range<usize>) -> Tensor<4> {
    let [batch, kv_heads, group, _, width] = x.dims();
    let x = x.clone().narrow(3, positions.start, positions.len());
    x.reshape([batch, kv_heads, group * positions.len(), width])
}

/// Some positions of `[B, G, T, E]`.
fn rows(x: &Tensor<4>, positions: &Range<usize>) -> Tensor<4> {
    x.clone().narrow(2, positions.start, positions.len())
}

/// Adds `[B, G, K, E]` to the first `K` positions of a sum.
fn add_to_front(sum: Tensor<4>, part: Tensor<4>) -> Tensor<4> {
    let [batch, heads, keys, width] = part.dims();
    if sum.dims()[2] == keys {
        return sum + part;
    }
    let front = [0..batch, 0..heads, 0..keys, 0..width];
    let added = sum.clone().slice(front.clone()) + part;
    sum.slice_assign(front, added)
}

/// Numbers of positions, which float32 holds exactly up to 2^24.
fn edges(seen: &Seen, length: usize, device: &Device) -> [Tensor<2>; 3] {
    let column = |values: &[usize]| {
        let values: Vec<f32> = values.iter().map(|value| *value as f32).collect();
        let values = TensorData::new(values, [length, 1]);
        Tensor::<2>::from_data(values, device).cast(DType::F32)
    };
    let positions: Vec<usize> = (0..length).collect();
    [
        column(&seen.first),
        column(&seen.end),
        column(&positions).swap_dims(0, 1),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every query is in one block, whose keys are all that it sees; every key that it does not see is
    /// hidden.
    #[test]
    fn blocks_cover_what_is_seen() {
        let limits = Limits {
            scores: 200,
            queries: [3, 8],
            together: 12,
        };
        let documents = [
            Sight::causal(30),
            Sight::causal(4),
            Sight::full(5),
            Sight::causal(3),
            Sight::mutual(25, 6..19),
            Sight::causal(0),
            Sight::full(20),
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
        // Full documents need no mask, causal ones do where they are cut and where not.
        assert!(pieces[3].blocks.iter().all(|block| !block.masked));
        assert!(pieces[0].blocks.iter().all(|block| block.masked));
    }
}
