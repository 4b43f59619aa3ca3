//! State of a stream between chunks: the last input frames of each convolution.

use latentlm_core::stream::Past;

pub(crate) use latentlm_core::stream::Pass;

/// State of an encoder between chunks, for one batch of streams. A new one stands for silence before.
#[derive(Debug, Clone, Default)]
pub struct EncoderState(pub(crate) Past);

/// State of a decoder between chunks, for one batch of streams. A new one stands for silence before.
#[derive(Debug, Clone, Default)]
pub struct DecoderState(pub(crate) Past);

impl EncoderState {
    /// The states of streams, each a batch of one, as the state of one batch.
    pub fn join(streams: Vec<Self>) -> Self {
        Self(Past::join(streams.into_iter().map(|state| state.0)))
    }

    /// The states of the `count` streams of a batch. Undoes [`join`](Self::join).
    ///
    /// # Panics
    /// If the batch has fewer streams.
    pub fn split(self, count: usize) -> Vec<Self> {
        self.0.split(count).map(Self).collect()
    }
}

impl DecoderState {
    /// The states of streams, each a batch of one, as the state of one batch.
    pub fn join(streams: Vec<Self>) -> Self {
        Self(Past::join(streams.into_iter().map(|state| state.0)))
    }

    /// The states of the `count` streams of a batch. Undoes [`join`](Self::join).
    ///
    /// # Panics
    /// If the batch has fewer streams.
    pub fn split(self, count: usize) -> Vec<Self> {
        self.0.split(count).map(Self).collect()
    }
}
