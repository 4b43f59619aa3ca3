//! Tests of the contract of backbones: causality, and the same outputs however the input is cut.

use burn::tensor::{Device, Tensor};

use super::assert_close;
use crate::{BackboneSizes, CausalBackbone, CausalBackboneConfig, RandomStream};

const BATCH: usize = 2;
const POSITIONS: usize = 7;
/// Largest error between outputs that are computed in different ways, in float32.
const BOUND: f64 = 1e-4;

/// Runs the whole suite. `device` must not be an autodiff device.
pub fn check<B: CausalBackbone>(backbone: &B, device: &Device) {
    is_causal(backbone, device);
    steps_equal_forward(backbone, device);
    batch_rows_are_independent(backbone, device);
    documents_are_independent(backbone, device);
    padding_is_not_seen(backbone, device);
}

fn input<B: CausalBackbone>(backbone: &B, seed: u64, device: &Device) -> Tensor<3> {
    RandomStream::new(seed).normal([BATCH, POSITIONS, backbone.width()], device)
}

/// New positions do not change the outputs of earlier ones.
pub fn is_causal<B: CausalBackbone>(backbone: &B, device: &Device) {
    let x = input(backbone, 1, device);
    let whole = backbone.forward(x.clone());
    for end in 1..POSITIONS {
        let changed = Tensor::cat(
            vec![
                x.clone().narrow(1, 0, end),
                input(backbone, 2, device).narrow(1, end, POSITIONS - end),
            ],
            1,
        );
        assert_close(
            &format!("outputs before position {end} when later inputs change"),
            backbone.forward(changed).narrow(1, 0, end),
            whole.clone().narrow(1, 0, end),
            1e-6,
        );
    }
}

/// Single steps, steps of 3, and a prompt followed by single steps give the same outputs as `forward`.
pub fn steps_equal_forward<B: CausalBackbone>(backbone: &B, device: &Device) {
    let x = input(backbone, 3, device);
    let whole = backbone.forward(x.clone());
    for cuts in [vec![1; POSITIONS], vec![3, 3, 1], vec![4, 1, 1, 1]] {
        let mut state = backbone.init_state(BATCH, POSITIONS, device);
        let mut start = 0;
        let mut outputs = Vec::new();
        for length in &cuts {
            let part = x.clone().narrow(1, start, *length);
            outputs.push(backbone.step(part, &mut state));
            start += length;
        }
        let what = format!("cached outputs in steps of {cuts:?}");
        assert_close(&what, Tensor::cat(outputs, 1), whole.clone(), BOUND);
    }
}

/// A sequence's outputs do not depend on its neighbours in the batch.
pub fn batch_rows_are_independent<B: CausalBackbone>(backbone: &B, device: &Device) {
    let x = input(backbone, 4, device);
    let alone = backbone.forward(x.clone().narrow(0, 1, 1));
    let together = backbone.forward(x).narrow(0, 1, 1);
    assert_close("a row alone and in a batch", alone, together, BOUND);
}

/// The outputs of packed documents are those of each document alone.
pub fn documents_are_independent<B: CausalBackbone>(backbone: &B, device: &Device) {
    let x = input(backbone, 5, device);
    for documents in [vec![POSITIONS], vec![3, 4], vec![1, 5, 1]] {
        let packed = backbone.forward_documents(x.clone(), &documents);
        let mut start = 0;
        for length in &documents {
            let alone = backbone.forward(x.clone().narrow(1, start, *length));
            let within = packed.clone().narrow(1, start, *length);
            assert_close(
                &format!("a document of {documents:?}"),
                within,
                alone,
                BOUND,
            );
            start += length;
        }
    }
}

/// Padding at the front of a prompt changes no outputs, whatever the padding holds.
pub fn padding_is_not_seen<B: CausalBackbone>(backbone: &B, device: &Device) {
    let (x, padding) = (input(backbone, 6, device), [0, 2]);
    let mut state = backbone.init_padded_state(&padding, POSITIONS, device);
    let prompt = backbone.step(x.clone().narrow(1, 0, 4), &mut state);
    let rest = (4..POSITIONS).map(|at| backbone.step(x.clone().narrow(1, at, 1), &mut state));
    let whole = Tensor::cat([prompt].into_iter().chain(rest).collect(), 1);
    for (row, start) in padding.into_iter().enumerate() {
        let seen = POSITIONS - start;
        let alone = backbone.forward(x.clone().narrow(0, row, 1).narrow(1, start, seen));
        let within = whole.clone().narrow(0, row, 1).narrow(1, start, seen);
        assert_close(
            &format!("outputs behind a padding of {start}"),
            within,
            alone,
            BOUND,
        );
    }
}

/// Checks a configuration: the sizes of a recipe give a valid configuration and a backbone of their width, and
/// impossible sizes are an error.
pub fn check_config<C: CausalBackboneConfig>(sizes: &BackboneSizes, device: &Device) {
    let config = C::of(sizes);
    if let Err(error) = config.validate() {
        panic!("{config:?}: {error}");
    }
    let backbone = config.init(device);
    assert_eq!(backbone.width(), sizes.width, "{config:?}");
    let none = C::of(&BackboneSizes {
        width: 0,
        ..sizes.clone()
    });
    assert!(none.validate().is_err(), "a width of 0: {none:?}");
}
