//! What a stream remembers between chunks: the last frames that each convolution saw.

use burn::tensor::Tensor;

/// State of an encoder between chunks of one batch of streams. Starts as silence.
#[derive(Debug, Clone, Default)]
pub struct EncoderState(pub(crate) Past);

/// State of a decoder between chunks of one batch of streams. Starts as silence.
#[derive(Debug, Clone, Default)]
pub struct DecoderState(pub(crate) Past);

/// The last input frames of every convolution, in the order in which they are applied.
#[derive(Debug, Clone, Default)]
pub(crate) struct Past {
    frames: Vec<Tensor<3>>,
}

/// One pass over a signal: whole, which begins with silence, or a chunk of a stream.
pub(crate) enum Pass<'a> {
    Whole,
    Chunk { past: &'a mut Past, next: usize },
}

impl<'a> Pass<'a> {
    pub(crate) fn chunk(past: &'a mut Past) -> Self {
        Self::Chunk { past, next: 0 }
    }

    /// Puts the `count` frames that came before in front of `x`, and keeps the last `count` for the
    /// next chunk.
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
