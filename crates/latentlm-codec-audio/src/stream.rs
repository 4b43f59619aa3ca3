//! State of a stream between chunks: the last input frames of each convolution.

use burn::tensor::Tensor;

/// State of an encoder between chunks, for one batch of streams. A new one stands for silence before.
#[derive(Debug, Clone, Default)]
pub struct EncoderState(pub(crate) Past);

/// State of a decoder between chunks, for one batch of streams. A new one stands for silence before.
#[derive(Debug, Clone, Default)]
pub struct DecoderState(pub(crate) Past);

/// The last input frames of each convolution, in the order in which convolutions are applied.
#[derive(Debug, Clone, Default)]
pub(crate) struct Past {
    frames: Vec<Tensor<3>>,
}

/// One pass through a network.
pub(crate) enum Pass<'a> {
    /// Over a whole signal, with silence before it.
    Whole,
    /// Over a chunk of a stream.
    Chunk {
        past: &'a mut Past,
        /// Index of the next convolution in `past`.
        next: usize,
    },
}

impl<'a> Pass<'a> {
    /// A pass over the chunk that follows `past`.
    pub(crate) fn chunk(past: &'a mut Past) -> Self {
        Self::Chunk { past, next: 0 }
    }

    /// Puts the `count` frames before `x` in front of it, and keeps the last `count` frames for the next
    /// chunk. Convolutions call it in the same order in each pass.
    ///
    /// # Shapes
    /// - `x`: `[B, T, C]`
    /// - returns: `[B, count + T, C]`
    pub(crate) fn extend(&mut self, x: Tensor<3>, count: usize) -> Tensor<3> {
        if count == 0 {
            return x;
        }
        let [batch, _, channels] = x.dims();
        let silence = |x: &Tensor<3>| Tensor::zeros([batch, count, channels], &x.device());
        match self {
            Self::Whole => Tensor::cat(vec![silence(&x), x], 1),
            Self::Chunk { past, next } => {
                if past.frames.len() == *next {
                    past.frames.push(silence(&x));
                }
                let slot = &mut past.frames[*next];
                *next += 1;
                let extended = Tensor::cat(vec![slot.clone(), x], 1);
                let length = extended.dims()[1];
                *slot = extended.clone().narrow(1, length - count, count);
                extended
            }
        }
    }
}
