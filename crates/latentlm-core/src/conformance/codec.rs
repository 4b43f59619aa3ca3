//! What a codec promises: geometry that holds, and rows that do not see each other.

use burn::tensor::Tensor;

use super::assert_close;
use crate::LatentCodec;

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
