//! Memory of causal convolutions in a stream: the last inputs of each, as a value of the caller.
//!
//! A network that mixes positions only through [`Pass::before`] and [`Pass::extend`] processes whole signals and chunks of
//! a stream with the same code.

use burn::tensor::Tensor;

/// The last inputs of each convolution of a network, in the order in which convolutions are applied. A new one stands
/// for zeros before the stream.
#[derive(Debug, Clone, Default)]
pub struct Past {
    inputs: Vec<Tensor<3>>,
}

impl Past {
    /// Streams, each a batch of one, as one batch. Before those that are new there are zeros.
    pub fn join(streams: impl Iterator<Item = Self>) -> Self {
        let streams: Vec<Self> = streams.collect();
        let Some(longest) = streams.iter().max_by_key(|past| past.inputs.len()) else {
            return Self::default();
        };
        let mut inputs = Vec::with_capacity(longest.inputs.len());
        for (index, known) in longest.inputs.iter().enumerate() {
            let rows = streams.iter().map(|past| match past.inputs.get(index) {
                Some(own) => own.clone(),
                None => known.zeros_like(),
            });
            inputs.push(Tensor::cat(rows.collect(), 0));
        }
        Self { inputs }
    }

    /// The `count` streams of a batch. Undoes [`join`](Self::join).
    ///
    /// # Panics
    /// If the batch has fewer streams.
    pub fn split(self, count: usize) -> impl Iterator<Item = Self> {
        (0..count).map(move |stream| {
            let rows = self.inputs.iter();
            let own = rows.map(|batch| batch.clone().narrow(0, stream, 1));
            Self {
                inputs: own.collect(),
            }
        })
    }
}

/// One pass through a network.
#[derive(Debug)]
pub enum Pass<'a> {
    /// Over a whole signal, with zeros before it.
    Whole,
    /// Over a chunk of a stream.
    Chunk {
        /// The last frames before the chunk.
        past: &'a mut Past,
        /// Index of the next convolution in `past`.
        next: usize,
    },
}

impl<'a> Pass<'a> {
    /// A pass over the chunk that follows `past`.
    pub fn chunk(past: &'a mut Past) -> Self {
        Self::Chunk { past, next: 0 }
    }

    /// The `count` positions before `x`; `None` if these are none, or the zeros before a whole signal. Keeps the last `count`
    /// positions up to the end of `x` for the next chunk. Convolutions call it, or [`extend`](Self::extend), in the same
    /// order in each pass.
    ///
    /// # Shapes
    /// - `x`: `[B, T, C]`
    /// - returns: `[B, count, C]`
    pub fn before(&mut self, x: &Tensor<3>, count: usize) -> Option<Tensor<3>> {
        let Self::Chunk { past, next } = self else {
            return None;
        };
        if count == 0 {
            return None;
        }
        if past.inputs.len() == *next {
            past.inputs.push(zeros(x, count));
        }
        let slot = &mut past.inputs[*next];
        *next += 1;
        let kept = last(slot, x);
        Some(std::mem::replace(slot, kept))
    }

    /// [`before`](Self::before) with `x` behind it; before a whole signal are zeros.
    ///
    /// # Shapes
    /// - `x`: `[B, T, C]`
    /// - returns: `[B, count + T, C]`
    pub fn extend(&mut self, x: Tensor<3>, count: usize) -> Tensor<3> {
        if count == 0 {
            return x;
        }
        let before = self.before(&x, count);
        let before = before.unwrap_or_else(|| zeros(&x, count));
        Tensor::cat(vec![before, x], 1)
    }
}

/// Zeros in the place of `count` positions before `x`.
fn zeros(x: &Tensor<3>, count: usize) -> Tensor<3> {
    let [batch, _, channels] = x.dims();
    Tensor::zeros([batch, count, channels], (&x.device(), x.dtype()))
}

/// A copy of as many last positions of `before` and then `x` as `before` has: a part of `x` would keep all of it in memory,
/// a minute of sound for each convolution.
fn last(before: &Tensor<3>, x: &Tensor<3>) -> Tensor<3> {
    let [batch, count, channels] = before.dims();
    let length = x.dims()[1];
    if length < count {
        let kept = before.clone().narrow(1, length, count - length);
        return Tensor::cat(vec![kept, x.clone()], 1);
    }
    let kept = x.clone().narrow(1, length - count, count);
    zeros(x, count).slice_assign([0..batch, 0..count, 0..channels], kept)
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::Device;

    fn numbers(values: &[f32], device: &Device) -> Tensor<3> {
        let count = values.len();
        Tensor::<1>::from_floats(values, device).reshape([1, count, 1])
    }

    fn values(x: Tensor<3>) -> Vec<f32> {
        x.into_data().try_to_vec().unwrap()
    }

    /// Two convolutions, which remember two positions and one.
    #[test]
    fn chunks_see_what_the_whole_sees() {
        let device = Device::default();
        let whole = Pass::Whole.extend(numbers(&[1.0, 2.0, 3.0], &device), 2);
        assert_eq!(values(whole), [0.0, 0.0, 1.0, 2.0, 3.0]);
        let mut past = Past::default();
        let chunks: [(&[f32], &[f32], &[f32]); 3] = [
            (&[1.0], &[0.0, 0.0, 1.0], &[0.0, 1.0]),
            (&[2.0, 3.0], &[0.0, 1.0, 2.0, 3.0], &[1.0, 2.0, 3.0]),
            (&[4.0], &[2.0, 3.0, 4.0], &[3.0, 4.0]),
        ];
        for (chunk, first, second) in chunks {
            let mut pass = Pass::chunk(&mut past);
            let x = numbers(chunk, &device);
            assert_eq!(values(pass.extend(x.clone(), 2)), first);
            assert_eq!(values(pass.extend(x.clone(), 0)), chunk);
            assert_eq!(values(pass.extend(x, 1)), second);
        }
    }

    /// What is kept is of a chunk, of the chunk and what was before it, or of several chunks.
    #[test]
    fn what_was_before_a_chunk_is_kept() {
        let device = Device::default();
        let x = numbers(&[1.0, 2.0], &device);
        assert!(Pass::Whole.before(&x, 2).is_none());
        let mut past = Past::default();
        assert!(Pass::chunk(&mut past).before(&x, 0).is_none());
        let chunks: [(&[f32], &[f32]); 4] = [
            (&[1.0, 2.0], &[0.0, 0.0, 0.0]),
            (&[3.0], &[0.0, 1.0, 2.0]),
            (&[4.0, 5.0, 6.0, 7.0], &[1.0, 2.0, 3.0]),
            (&[8.0], &[5.0, 6.0, 7.0]),
        ];
        for (chunk, expected) in chunks {
            let before = Pass::chunk(&mut past).before(&numbers(chunk, &device), 3);
            assert_eq!(values(before.expect("a stream has a past")), expected);
        }
    }
}
