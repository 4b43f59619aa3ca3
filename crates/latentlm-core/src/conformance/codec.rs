//! What a codec promises: geometry that holds, and rows that do not see each other.

use burn::tensor::Tensor;

use super::assert_close;
use crate::{LatentCodec, SignalLayout, StreamingCodec};

/// Encodes and decodes a batch of at least two signals and checks the contract.
pub fn check<const D: usize, C: LatentCodec<D>>(codec: &C, signals: Tensor<D>) {
    let spec = codec.spec();
    let batch = signals.dims()[0];
    assert!(batch >= 2, "the suite wants two signals or more");
    let mean = codec.encode(signals.clone()).mode();
    let [rows, tokens, dim] = mean.dims();
    assert_eq!((rows, dim), (batch, spec.dim), "latents of spec {spec:?}");
    if let Some(expected) = spec.tokens() {
        assert_eq!(tokens, expected, "tokens of spec {spec:?}");
    }
    let decoded = codec.decode(mean.clone());
    assert_eq!(decoded.dims()[0], batch, "decoded batch");

    let alone = codec.encode(signals.narrow(0, 1, 1)).mode();
    assert_close(
        "a signal encoded alone",
        alone.clone(),
        mean.narrow(0, 1, 1),
        1e-5,
    );
    let decoded_alone = codec.decode(alone);
    assert_close(
        "a latent decoded alone",
        decoded_alone,
        decoded.narrow(0, 1, 1),
        1e-5,
    );
}

/// Encodes and decodes a batch of signals in chunks and checks that streaming gives what the whole
/// gives, for chunks of every size from one latent to all.
pub fn check_streaming<C: StreamingCodec>(codec: &C, signals: Tensor<3>) {
    let SignalLayout::Frames { hop_samples, .. } = codec.spec().layout else {
        panic!("a stream's latents are frames");
    };
    let latents = codec.encode(signals.clone()).mode();
    let decoded = codec.decode(latents.clone());
    let frames = latents.dims()[1];
    for chunk in 1..=frames {
        let mut encoder = C::EncoderState::default();
        let mut decoder = C::DecoderState::default();
        for start in (0..frames).step_by(chunk) {
            let count = chunk.min(frames - start);
            let (from, samples) = (start * hop_samples, count * hop_samples);
            let signal = signals.clone().narrow(2, from, samples);
            let expected = latents.clone().narrow(1, start, count);
            let got = codec.encode_step(signal, &mut encoder).mode();
            assert_close("latents of a chunk", got, expected.clone(), 1e-5);
            let got = codec.decode_step(expected, &mut decoder);
            let expected = decoded.clone().narrow(2, from, samples);
            assert_close("sound of a chunk", got, expected, 1e-5);
        }
    }
}
