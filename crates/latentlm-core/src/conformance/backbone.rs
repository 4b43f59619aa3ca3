//! What a backbone promises: causality, and one function however its input is cut.

use burn::tensor::{Device, Tensor};

use super::assert_close;
use crate::{CausalBackbone, RandomStream};

const BATCH: usize = 2;
const POSITIONS: usize = 7;
/// Largest error between the cached and the uncached path, float32.
const BOUND: f64 = 1e-4;

/// Runs the whole suite. `device` must not be an autodiff device.
pub fn check<B: CausalBackbone>(backbone: &B, device: &Device) {
    is_causal(backbone, device);
    steps_equal_forward(backbone, device);
    batch_rows_are_independent(backbone, device);
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

/// Steps of 1, of 3, and a prompt followed by single steps give what `forward` gives.
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
